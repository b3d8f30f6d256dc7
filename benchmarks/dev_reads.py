"""What reading through the DEV API costs, beside the same SQL alone and beside a static answer of the same bytes.

    .venv/bin/python benchmarks/dev_reads.py [--calls 1000000] [--data DIR] [--json FILE]

It measures and does not judge: the exit status is 0 whether the aims are met or not. benchmarks/README.md says more.
"""

from reads import Benchmark, Case, main
from stand import DAYS, Stand

from callhouse.model.instant import DAY, SECOND
from callhouse.model.query import CallQuery
from callhouse.store.calls import _large_page
from callhouse.wire.dev.lines import SESSION

SMALL_ROUNDS, LARGE_ROUNDS = 1_000, 40


def cases(on: Stand) -> list[Case]:
    reader, account_id = on.read_only(), on.login.id
    newest = "SELECT max(started) FROM calls WHERE account_id = :id AND started IS NOT NULL AND ended IS NOT NULL"
    until = (reader.rows(newest, {"id": account_id})[0][0] // SECOND + 1) * SECOND
    # The API shows no more than its year and a day of grace.
    since = until - (DAYS - 1) * DAY

    def page(limit: int, offset: int):
        query = CallQuery(
            account_ids=(account_id,), since=since, until=until, limit=limit, offset=offset, oldest_first=True
        )
        reader.rows("BEGIN", {})
        found = _large_page(reader, query, SESSION)
        reader.rows("COMMIT", {})
        return found

    def sessions(name: str, limit: int, rounds: int, offset: int = 0, accept: str = "application/json") -> Case:
        path = f"/ws/calls/sessions/{since // SECOND}/{until // SECOND}?limit={limit}&offset={offset}"
        return Case(name, path, lambda: page(limit, offset), rounds, accept)

    return [
        sessions("20 sessions", 20, SMALL_ROUNDS),
        sessions("20 at offset", 20, SMALL_ROUNDS, on.calls // 2),
        sessions("10,000 sessions, JSON", 10_000, LARGE_ROUNDS),
        sessions("10,000 sessions, XML", 10_000, LARGE_ROUNDS, accept="application/xml"),
    ]


def aims(p50: dict[str, dict[str, float]], rate: dict[str, float]) -> list[tuple[str, float, float]]:
    few, json, xml = (p50[name] for name in ("20 sessions", "10,000 sessions, JSON", "10,000 sessions, XML"))
    return [
        ("20 sessions: p50 within 2 times the static answer's", few["server"] / few["static"], 2.0),
        ("20 sessions: static requests/s within 2 times the server's", rate["static"] / rate["server"], 2.0),
        ("deep page within 1.5 times the first", p50["20 at offset"]["server"] / few["server"], 1.5),
        ("10,000 sessions, JSON: p50 within 4 times the SQL alone", json["server"] / json["sql"], 4.0),
        ("10,000 sessions, XML: p50 within 2 times JSON's", xml["server"] / json["server"], 2.0),
    ]


if __name__ == "__main__":
    main(Benchmark("dev", 1_000_000, cases, aims))
