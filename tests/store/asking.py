"""Something of everything that a store can be asked to do with calls."""

import json

import msgspec

from callhouse.model.instant import DAY, YEAR
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call

NOW = 1_700_000_000_000


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
