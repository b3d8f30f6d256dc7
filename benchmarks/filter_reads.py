"""What filtered lists with their exact totals cost, and the figures of a dashboard, beside the unfiltered list.

    .venv/bin/python benchmarks/filter_reads.py [--calls 1000000] [--data DIR] [--json FILE]

It measures and does not judge: the exit status is 0 whether the aims are met or not. benchmarks/README.md says more.
"""

from datetime import UTC, datetime
from urllib.parse import urlencode

from reads import Benchmark, Case, main
from stand import Stand

from callhouse.clock import now
from callhouse.model.account import Account, Retention, RetentionOverride
from callhouse.model.instant import DAY, SECOND
from callhouse.model.query import CallQuery
from callhouse.store import by_end, filtered
from callhouse.store.calls import _columns
from callhouse.store.conditions import conditions
from callhouse.store.figures import figures
from callhouse.wire.fuse.schema import FIELDS as FUSE_FIELDS
from callhouse.wire.plivo.parameters import completed
from callhouse.wire.plivo.schema import FIELDS

DAYS = 30
ROUNDS = 300
SLOW_ROUNDS = 15
# The logs, which are neither listed nor counted here, are kept as long as they are by default: loading takes less time.
KEEP = ("retention.sessions=forever", "retention.plivo=forever")

QUICK = {
    "direction": {"call_direction": "outbound"},
    "cause": {"hangup_cause_code": "4000"},
    "rare cause": {"hangup_cause_code": "3010"},
    "source": {"hangup_source": "Callee"},
    "direction, source": {"call_direction": "outbound", "hangup_source": "Callee"},
}
"""Filters that the totals answer."""

COUNTED = {
    "from": {"from_number": "212"},
    "to": {"to_number": "800"},
    "one caller": {"from_number": "2125550034"},
    "longer": {"bill_duration__gte": "60"},
    "from, to": {"from_number": "212", "to_number": "800"},
    "from, longer": {"from_number": "212", "bill_duration__gte": "60"},
    "cause, longer": {"hangup_cause_code": "4010", "bill_duration__gte": "60"},
    "direction, from": {"call_direction": "inbound", "from_number": "212"},
}
"""Filters whose calls are counted."""

_BUSIEST = """
SELECT {side}_key FROM calls WHERE account_id = :id AND {side}_key IS NOT NULL
GROUP BY 1 ORDER BY count(*) {order} LIMIT 1
"""
matching: dict[str, int] = {}
"""The calls in the window."""


def cases(on: Stand) -> list[Case]:
    reader, account_id = on.read_only(), on.login.id
    account = {"id": account_id}
    newest = "SELECT max(ended) FROM calls WHERE account_id = :id AND started IS NOT NULL AND ended IS NOT NULL"
    until = (reader.rows(newest, account)[0][0] // SECOND + 1) * SECOND
    since = until - DAYS * DAY
    window = {"end_time__gte": _utc(since), "end_time__lt": _utc(until)}
    matching["all"] = reader.rows("SELECT count(*) FROM calls WHERE account_id = :id", account)[0][0]

    def snapshot(work):
        reader.rows("BEGIN", {})
        found = work()
        reader.rows("COMMIT", {})
        return found

    def listed(name: str, rounds: int, **parameters: str) -> Case:
        query = completed({**window, **parameters}, {account_id: 0}, now(), 20)
        path = f"/v1/Account/{on.login.auth_id}/Call/?{urlencode({**window, **parameters})}"
        return Case(
            name,
            path,
            lambda: snapshot(lambda: by_end.page(reader, query, _columns(FIELDS), *conditions(query))),
            rounds,
        )

    def of_number(name: str, number: str, rounds: int = ROUNDS, **more) -> Case:
        either = "either" in name
        query = CallQuery(
            account_ids=(account_id,), since=since, until=until, limit=20,
            number=None if either else number, either=number if either else None, **more,
        )  # fmt: skip
        places = f"/api/calls/{since // SECOND}/{until // SECOND}?limit=20&number={number}"
        return Case(
            name,
            None if either else places,
            lambda: snapshot(lambda: filtered.page(reader, query, _columns(FUSE_FIELDS))),
            rounds,
            api="fuse",
        )

    def busiest(side: str, order: str = "DESC") -> str:
        return reader.rows(_BUSIEST.format(side=side, order=order), account)[0][0]

    keep_all = Retention(details=None, sessions=None, plivo=None)
    owner = Account(
        id=account_id, email="", login=None, auth_id="", plan="standard", active=True, timezone="UTC", parent_id=None,
        created=0, retention=keep_all, override=RetentionOverride(),
    )  # fmt: skip
    month = (since + 1, until - 1)
    return [
        listed("unfiltered", ROUNDS),
        *(listed(name, ROUNDS, **filters) for name, filters in QUICK.items()),
        of_number("number, busiest", busiest("dest")),
        of_number("either side, busiest", busiest("src")),
        of_number("either side, seldom", busiest("src", "ASC")),
        *(listed(name, SLOW_ROUNDS, **filters) for name, filters in COUNTED.items()),
        Case(
            "figures, 30 days",
            None,
            lambda: snapshot(lambda: figures(reader, [owner], *month, UTC, until)),
            SLOW_ROUNDS,
        ),
    ]


def _utc(instant: int) -> str:
    return datetime.fromtimestamp(instant / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")


def aims(p50: dict[str, dict[str, float]], rate: dict[str, float]) -> list[tuple[str, float, float]]:
    plain = p50["unfiltered"]
    found = [("unfiltered: static requests/s within 2 times the server's", rate["static"] / rate["server"], 2.0)]
    for name in (*QUICK, "number, busiest", "either side, busiest", "either side, seldom"):
        how = "server" if "server" in p50[name] else "sql"
        found.append((f"{name}: {how} p50 within 4 times the unfiltered list's", p50[name][how] / plain[how], 4.0))
    calls = matching["all"]
    found += [(f"{name}: ns for each call in the window", p50[name]["sql"] * 1e6 / calls, 50.0) for name in COUNTED]
    found.append(("figures of 30 days: seconds", p50["figures, 30 days"]["sql"] / 1_000, 1.0))
    return found


if __name__ == "__main__":
    main(Benchmark("plivo", 1_000_000, cases, aims, KEEP, DAYS))
