"""Every statement finds its calls through the index that was made for it, as the database itself says.

A planner without statistics takes an index for many reasons, and a wrong one shows only with many calls.
"""

import json

import apsw
import msgspec
import pytest

from callhouse.model.instant import DAY, YEAR
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call

NOW = 1_700_000_000_000
PLANNED = {"SELECT", "UPDATE", "DELETE"}


@pytest.fixture
def statements():
    """All statements that this process runs meanwhile, with their values."""
    seen = {}

    def hook(connection):
        def trace(_cursor, sql, bindings):
            seen.setdefault(sql, bindings)
            return True

        connection.set_exec_trace(trace)

    apsw.connection_hooks.append(hook)
    yield seen
    apsw.connection_hooks.remove(hook)


def call(n, **fields):
    event = {"timestamp": NOW / 1000, "class": "info", "line": "Hello"}
    return {"session_id": f"s{n}", "start": NOW / 1000, "end": NOW / 1000 + 1, "events": [event], **fields}


async def all_that_is_asked(store, clock):
    """Something of everything that the store can be asked to do."""
    accounts = []
    for email in ("a@x", "b@x"):
        made, _ = await store.accounts.create(email=email, login=None, plan="standard", timezone="UTC", parent_id=None)
        accounts.append(made)
        records = [call(1), call(1, src="1"), call(2), call(3, end=None), call(4, start=None, end=None)]
        records += [call(5, direction="outbound"), call(6, direction="transfer")]
        for n, record in enumerate(records):
            raw = json.dumps(record).encode()
            part = read_call(raw, 32)
            await store.ingest([Record(account=made, source=f"{n}", raw=raw, read=part)])
    one = CallQuery(account_ids=(accounts[0].id,), shown_since=(5,), since=NOW - DAY, until=NOW + DAY, limit=20)
    everything = {"number": "1", "src_prefix": "1", "dest_prefix": "1", "directions": ("inbound",), "talk_from": 1}
    for change in (
        {},
        {"limit": 10_000},
        {"offset": 700},
        {"number": "1"},
        {"logged_since": 0},
        {"logged_since": 0, "number": "1"},
        everything,
        {"either": "1"},
        {"either": "1", "talk_from": 1},
        {"directions": ("outbound", "transfer")},
        {"hangup_source": "Caller", "hangup_cause_code": 4000, "limit": 10_000},
        {"directions": ("inbound",), "talk_from": 1},
        {"src_prefix": "212", "dest_prefix": "800"},
        {"parent_call_uuid": "p"},
        {"account_ids": tuple(a.id for a in accounts), "shown_since": (5, 5)},
        {"account_ids": tuple(a.id for a in accounts), "shown_since": (5, 5), "hangup_cause_code": 3},
        {"shown_since": (NOW - DAY,)},
        {"shown_since": (0,)},
    ):
        asked = msgspec.structs.replace(one, **change)
        await store.calls.page_by_end(asked, ("session_id", "src"))
        if len(asked.account_ids) == 1:
            for turned in (False, True):
                turned_round = msgspec.structs.replace(asked, oldest_first=turned)
                await store.calls.page(turned_round, ("src", "start", "session_id"))
        for state in ("live", "queued"):
            await store.calls.in_progress(asked, ("session_id",), state)
    for state in ("completed", "live", "queued"):
        await store.calls.by_uuid({accounts[0].id: 5}, "u", ("session_id", "src"), state)
    await store.calls.log(accounts[0].id, "s1", since=5, details_since=5)
    await store.calls.logs(accounts[0].id, [1, 2], 5)
    await store.calls.search(one, ["hello"], 5)
    await store.statistics()
    clock.now += DAY
    for account in accounts:
        await store.settle(account)
    await store.figures.compared(accounts, NOW - 40 * DAY + 1, NOW + DAY, "Europe/Berlin")
    clock.now += 2 * YEAR
    for account in accounts:
        await store.expire(account)


def test_every_statement_keeps_to_its_index(stored, clock, tmp_path, statements):
    clock.now = NOW
    stored(lambda store: all_that_is_asked(store, clock))
    connection = apsw.Connection(str(tmp_path / "store0" / "callhouse.db"))
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    asked = {sql: values for sql, values in statements.items() if "calls" in sql and sql.split()[0] in PLANNED}
    assert len(asked) > 30
    used = set()
    for sql, values in asked.items():
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        steps = [step for step in plan if " calls " in step]
        used.update(step.partition("INDEX ")[2].split(" ")[0] for step in steps)
        told = f"{sql}\n{plan}"
        # Only through an index, and one that narrows down more than the account; few calls are in progress.
        wide = [step for step in steps if step.startswith("SCAN") or "(account_id=?)" in step]
        assert all("calls_in_progress" in step for step in wide), told
        for column in ("session_id", "call_uuid"):
            if f"{column} = :{column}" in sql and sql.split()[0] == "SELECT":
                assert any(f"{column}=?" in step for step in plan), told
        # A page that was found before its rows are read is small and may be sorted again.
        if "LIMIT" in sql and "call_uuid = " not in sql and "AS page" not in sql:
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, told
    indexes = {
        f"calls_{name}"
        for name in ("by_session", "by_uuid", "by_start", "by_end", "by_dest", "in_progress", "with_log")
    }
    indexes |= {f"calls_{name}" for name in ("by_kind", "by_src", "by_parent", "to_themselves", "that_are_long")}
    assert used >= indexes
