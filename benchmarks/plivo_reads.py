"""What reading through the Plivo API costs, beside the same SQL alone and beside a static answer of the same bytes.

    .venv/bin/python benchmarks/plivo_reads.py [--calls 10000000] [--data DIR] [--json FILE]

It measures and does not judge: the exit status is 0 whether the aims are met or not. benchmarks/README.md says more.
"""

from datetime import UTC, datetime
from urllib.parse import urlencode

from reads import Benchmark, Case, main
from stand import Stand

from callhouse.clock import now
from callhouse.model.instant import DAY, SECOND
from callhouse.store import by_end
from callhouse.store.calls import _columns
from callhouse.store.conditions import conditions
from callhouse.wire.plivo.parameters import completed
from callhouse.wire.plivo.schema import FIELDS

ROUNDS = 1_000
SLOW_ROUNDS = 40
# The logs, which this API does not show, are kept as long as they are by default, so that loading takes less time.
KEEP = ("retention.sessions=forever", "retention.plivo=forever")


def cases(on: Stand) -> list[Case]:
    reader = on.read_only()
    account_id = on.login.id
    newest = "SELECT max(ended) FROM calls WHERE account_id = :id AND started IS NOT NULL AND ended IS NOT NULL"
    until = (reader.rows(newest, {"id": account_id})[0][0] // SECOND + 1) * SECOND
    path = f"/v1/Account/{on.login.auth_id}/Call/"

    def page(parameters: dict[str, str]):
        query = completed(parameters, {account_id: 0}, now(), 20)
        reader.rows("BEGIN", {})
        found = by_end.page(reader, query, _columns(FIELDS), *conditions(query))
        reader.rows("COMMIT", {})
        return found

    def listed(name: str, rounds: int = ROUNDS, **parameters: str) -> Case:
        url = f"{path}?{urlencode(parameters)}" if parameters else path
        return Case(name, url, lambda: page(parameters), rounds)

    def window(start: int, end: int) -> dict[str, str]:
        return {"end_time__gte": _utc(start), "end_time__lt": _utc(end)}

    month = window(until - 30 * DAY, until)
    [row] = page({**month, "limit": "1", "offset": "1000"}).rows
    call_uuid = row[FIELDS.index("call_uuid")]
    one = "SELECT " + _columns(FIELDS) + " FROM calls WHERE account_id = :id AND call_uuid = :uuid"
    return [
        listed("20 of seven days"),
        listed("20 of 30 days", **month),
        listed("20 of a day long ago", **window(until - 201 * DAY, until - 200 * DAY)),
        Case(
            "one call", f"{path}{call_uuid}/", lambda: reader.rows(one, {"id": account_id, "uuid": call_uuid}), ROUNDS
        ),
        listed("20 at the end of 30 days", SLOW_ROUNDS, **month, offset=str(page(month).total - 20)),
        listed("20 of 30 days, filtered", SLOW_ROUNDS, **month, call_direction="outbound"),
    ]


def _utc(instant: int) -> str:
    return datetime.fromtimestamp(instant / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")


def aims(p50: dict[str, dict[str, float]], rate: dict[str, float]) -> list[tuple[str, float, float]]:
    week, month, past = (p50[name] for name in ("20 of seven days", "20 of 30 days", "20 of a day long ago"))
    return [
        ("page of 20: p50 within 2 times the static answer's", week["server"] / week["static"], 2.0),
        ("page of 20: static requests/s within 2 times the server's", rate["static"] / rate["server"], 2.0),
        ("page of 20: 30 days as fast as seven (within a tenth)", month["server"] / week["server"], 1.1),
        ("page of 20: a day long ago as fast (within a quarter)", past["server"] / week["server"], 1.25),
    ]


if __name__ == "__main__":
    main(Benchmark("plivo", 10_000_000, cases, aims, KEEP))
