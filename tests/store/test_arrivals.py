"""What came in is counted by source and hour, with the delay of calls that were sent when they ended."""

import json
from pathlib import Path

from callhouse.model.account import Retention
from callhouse.model.browsing import CallFilter
from callhouse.model.instant import DAY, HOUR, parse_instant
from callhouse.model.record import Record
from callhouse.sources import asterisk
from callhouse.sources.native import read_call
from callhouse.store.arrivals import KEPT, PROMPT, Arrivals
from callhouse.store.browsing import FOREVER

SAMPLES = Path(__file__).parents[1] / "sources/samples/asterisk/local-ivr"

NOW = 1_700_000_000_000


def record(account, session_id, *, source="calls", **call):
    raw = json.dumps({"session_id": session_id, **call}).encode()
    try:
        read = read_call(raw, 32)
    except Exception as error:  # noqa: BLE001
        read = str(error)
    return Record(account=account, source=source, raw=raw, read=read)


def test_records_are_counted_by_what_became_of_them_and_calls_by_how_late_they_were(stored, clock):
    async def work(store):
        clock.now = NOW
        account, _ = await store.accounts.create(
            email="a@x", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        other, _ = await store.accounts.create(email="b@x", login=None, plan="standard", timezone="UTC", parent_id=None)
        begun = {"start": NOW / 1000 - 60}
        await store.load([
            record(account, "now", **begun, end=NOW / 1000 - 2),
            record(account, "late", **begun, end=NOW / 1000 - 10),
            record(account, "imported", start=NOW / 1000 - 3 * 86_400, end=NOW / 1000 - 2 * 86_400),
            record(account, "live", **begun),
            record(account, "", **begun),
            record(account, "elsewhere", source="freeswitch", **begun, end=NOW / 1000 - 1),
            record(other, "theirs", **begun, end=NOW / 1000),
        ])  # fmt: skip
        clock.now += 1_000
        await store.load(
            [record(account, "now", **begun, end=NOW / 1000 - 2), record(account, "live", **begun, end=NOW / 1000)]
        )
        hour = NOW // HOUR
        assert await store.arrivals.of(account.id) == [
            Arrivals("calls", hour, 5, 1, 1, NOW + 1_000, 3, 2_000 + 10_000 + 1_000, 10_000),
            Arrivals("freeswitch", hour, 1, 0, 0, NOW, 1, 1_000, 1_000),
        ]
        clock.now += HOUR
        await store.load([record(account, "next")])
        assert [(each.hour, each.accepted) for each in await store.arrivals.of(account.id)][-1] == (hour + 1, 1)
        clock.now += KEPT + DAY
        await store.expire(account)
        assert await store.arrivals.of(account.id) == []
        assert len(await store.arrivals.of(other.id)) == 1

    stored(work)


def test_a_call_that_rows_complete_counts_for_their_source(stored, clock):
    async def work(store):
        account, _ = await store.accounts.create(
            email="a@x", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        [reader] = asterisk.plugin.readers_with(asterisk.plugin.options).values()
        rows = (SAMPLES / "Master.csv").read_bytes().splitlines()
        clock.now = parse_instant("2100-01-01T00:00:00Z")
        ends = []
        for raw in rows:
            outcomes = await store.load([Record(account=account, source="asterisk", raw=raw, read=reader(raw, 32))])
            assert outcomes[0].refusal is None, outcomes
            asked = CallFilter(account_id=account.id, since=0, until=FOREVER, details_since=0, errors_since=0)
            known = {c.session_id: c.end for c in (await store.browsing.page(asked, 500)).calls if c.end}
            ends.append(known)
        calls = sum(each.calls for each in await store.arrivals.of(account.id))
        assert (calls, len(ends[-1]) > 0) == (0, True), "none of them was sent when it ended"
        clock.now = max(ends[-1].values()) + 5_000
        again, _ = await store.accounts.create(email="b@x", login=None, plan="standard", timezone="UTC", parent_id=None)
        await store.load([Record(account=again, source="asterisk", raw=raw, read=reader(raw, 32)) for raw in rows])
        [came] = await store.arrivals.of(again.id)
        assert (came.source, came.accepted + came.repeated) == ("asterisk", len(rows))
        prompt = [clock.now - end for end in ends[-1].values() if clock.now - end <= PROMPT]
        assert (came.calls, came.delay, came.longest) == (len(prompt), sum(prompt), max(prompt))

    stored(work, retention=Retention(details=None, sessions=None, plivo=None))
