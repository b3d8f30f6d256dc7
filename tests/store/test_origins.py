"""A call knows by what way it came, when it was changed, and how often what was known of it was told otherwise."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from callhouse.model.account import Retention
from callhouse.model.instant import DAY, parse_instant
from callhouse.model.record import Record
from callhouse.sources import asterisk
from callhouse.sources.native import read_call, read_events
from callhouse.store import SILENCE, open_store
from callhouse.store.backup import restore
from callhouse.store.check import check_store
from callhouse.store.origins import Origin

SAMPLES = Path(__file__).parents[1] / "sources/samples/asterisk/local-ivr"
NOW = 1_700_000_000_000
S = NOW // 1000
KEEP_ALL = Retention(details=None, sessions=None, plivo=None)
HTTP = Origin("calls", "")


async def owner(store):
    account, _ = await store.accounts.create(email="a@x", login=None, plan="standard", timezone="UTC", parent_id=None)
    return account


def record(account, source="calls", origin="", **fields):
    raw = json.dumps({"session_id": "one", **fields}).encode()
    read = (read_events if source == "events" else read_call)(raw, 32)
    return Record(account=account, source=source, raw=raw, read=read, origin=origin)


async def told(store, account, session_id="one"):
    found = await store.calls.whole(account.id, session_id, since=0, details_since=0)
    return found.arrived, found.provenance


def event(second, line="Hello"):
    return {"timestamp": S + second, "class": "info", "line": line}


def test_a_call_keeps_when_it_was_first_told_of_and_when_it_was_last_changed(stored, clock):
    async def work(store):
        account = await owner(store)
        clock.now = NOW
        await store.load([record(account, start=S - 60)])
        arrived, known = await told(store, account)
        assert (arrived, known.told, known.changed_by, known.changed) == (NOW, HTTP, HTTP, NOW)
        assert (known.replaced, known.rows) == (0, [])
        clock.now += 5_000
        await store.load([record(account, "freeswitch", start=S - 60, end=S)])
        arrived, known = await told(store, account)
        assert (arrived, known.told, known.changed, known.replaced) == (NOW, HTTP, NOW + 5_000, 0)
        assert known.changed_by == Origin("freeswitch", "")
        clock.now += 5_000
        await store.load([record(account, "events", events=[event(-50)])])
        _, known = await told(store, account)
        assert (known.changed, known.changed_by.source, known.replaced) == (NOW + 10_000, "events", 0)

    stored(work, retention=KEEP_ALL)


def test_a_repeat_changes_nothing_and_is_not_counted(stored, clock):
    async def work(store):
        account = await owner(store)
        call = {"start": S - 60, "end": S, "src": "1", "note": {"a": [1]}, "events": [event(-50)]}
        clock.now = NOW
        await store.load([record(account, **call), record(account, **call)])
        before = await told(store, account)
        clock.now += 5_000
        await store.load(
            [record(account, **call), record(account, "freeswitch", start=S - 60), record(account, **call)]
        )
        assert await told(store, account) == before

    stored(work, retention=KEEP_ALL)


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
def test_each_record_that_tells_otherwise_what_was_known_is_counted(stored, clock, together):
    async def work(store):
        account = await owner(store)
        clock.now = NOW
        records = [
            record(account, start=S - 60, src="1", note="a", deep={"x": [1, {"y": 2}]}),
            record(account, start=S - 60, src="2"),
            record(account, end=S, dest="7"),
            record(account, end=S, note="b"),
            record(account, note="less is known of a call without its end, so this one counts for nothing"),
            record(account, other="c"),
            record(account, end=S, deep={"x": [1, {"y": 3}]}),
            record(account, "events", events=[event(-50), event(-40)]),
            record(account, src="2"),
        ]
        for batch in [records] if together else [[each] for each in records]:
            await store.load(batch)
        _, known = await told(store, account)
        assert known.replaced == 3
        assert (known.told, known.changed_by) == (HTTP, Origin("events", ""))

    stored(work, retention=KEEP_ALL)


def replacing(account, *events, **fields):
    """What a mirror makes of a call at the vendor."""
    found = record(account, "mirror:fuse", "sales: 1", events=list(events), **fields)
    return msgspec.structs.replace(
        found, read=msgspec.structs.replace(found.read, replaces_call=True, replaces_log=True)
    )


def test_what_a_mirror_brings_is_replaced_when_the_vendor_told_something_else(stored, clock):
    async def work(store):
        account = await owner(store)
        clock.now = NOW
        call = {"start": S - 60, "end": S, "src": "1"}
        for replaced, again in (
            (0, replacing(account, event(-50), **call)),
            (0, replacing(account, event(-50), **call)),
            (0, replacing(account, event(-50), event(-40), **call)),
            (1, replacing(account, event(-50), **call)),
            (2, replacing(account, event(-50), start=S - 60, end=S)),
            (3, replacing(account, event(-50, "Other"), start=S - 60, end=S + 1)),
            (3, replacing(account, event(-50, "Other"), start=S - 60, end=S + 1)),
        ):
            await store.load([again])
            _, known = await told(store, account)
            assert known.replaced == replaced
        assert known.told == known.changed_by == Origin("mirror:fuse", "sales: 1")

    stored(work, retention=KEEP_ALL)


def test_a_log_that_is_refused_leaves_the_one_it_was_to_replace(stored, clock):
    async def work(store):
        account = await owner(store)
        clock.now = NOW
        call = {"start": S - 60, "end": S}
        await store.load([replacing(account, event(-50), **call)])
        before = await told(store, account)
        clock.now += 1
        many = [event(-50 + n, f"Line {n}") for n in range(5)]
        [outcome] = await store.load([replacing(account, *many, **call)])
        assert outcome.refusal == "the call has more than 4 events"
        assert await told(store, account) == before
        found = await store.calls.whole(account.id, "one", since=0, details_since=0)
        assert [each.line for each in found.events] == ["Hello"]

    stored(work, retention=KEEP_ALL, max_events=4)


def test_of_a_file_the_directory_is_kept_and_of_a_command_its_name(stored, clock):
    async def work(store):
        account = await owner(store)
        places = {
            "/var/log/asterisk/cdr-csv/Master.csv:17": "/var/log/asterisk/cdr-csv/",
            "/odd: 3/a:b.json:1": "/odd: 3/",
            "/top.csv:1": "/",
            "standard input:5": "standard input",
            "generate": "generate",
        }
        for number, (origin, place) in enumerate(places.items()):
            clock.now += 1
            await store.load([record(account, "asterisk", origin, session_id=f"s{number}", start=S)])
            _, known = await told(store, account, f"s{number}")
            assert known.told == known.changed_by == Origin("asterisk", place)

    stored(work, retention=KEEP_ALL)


def test_a_call_that_is_joined_tells_from_how_many_rows_and_is_not_replaced_by_them(stored, clock):
    async def work(store):
        account = await owner(store)
        [reader] = asterisk.plugin.readers_with(asterisk.plugin.options).values()
        rows = [row for name in ("Master.csv", "cel_full.csv") for row in (SAMPLES / name).read_bytes().splitlines()]
        clock.now = parse_instant("2100-01-01T00:00:00Z")
        begun = clock.now
        records = [Record(account=account, source="asterisk", raw=raw, read=reader(raw, 32)) for raw in rows]
        names = {each.read.group for each in records}
        for each in records:
            clock.now += 1_000
            outcomes = await store.load([each, each])
            assert [outcome.refusal for outcome in outcomes] == [None, None]
        counted = 0
        for name in names:
            found = await store.calls.whole(account.id, name, since=0, details_since=0)
            if found is None:
                continue
            counted += 1
            known = found.provenance
            number = len({each.read.content for each in records if each.read.group == name})
            [joined] = known.rows
            assert (joined.source, joined.count, known.replaced) == ("asterisk", number, 0)
            last = max(n for n, each in enumerate(records) if each.read.group == name)
            assert joined.last == begun + 1_000 * (last + 1)
            assert found.arrived < known.changed <= clock.now
        assert counted > 1
        before = {name: await store.calls.whole(account.id, name, since=0, details_since=0) for name in names}
        clock.now += 60_000
        await store.load(records)
        assert before == {name: await store.calls.whole(account.id, name, since=0, details_since=0) for name in names}

    stored(work, retention=KEEP_ALL)


def test_a_call_that_was_closed_after_a_silence_says_so(stored, clock):
    async def work(store):
        account = await owner(store)
        silence = asterisk.plugin.silence(asterisk.plugin.options)
        [reader] = asterisk.plugin.readers_with(asterisk.plugin.options).values()
        rows = (SAMPLES / "cel_full.csv").read_bytes().splitlines()
        clock.now = NOW
        first = Record(account=account, source="asterisk", raw=rows[0], read=reader(rows[0], 32))
        await store.load([first])
        name = first.read.group
        clock.now += 10
        assert await store.close_lost(account, "asterisk", silence.row, clock.now) == 1
        found = await store.calls.whole(account.id, name, since=0, details_since=0)
        assert (found.provenance.told, found.provenance.changed_by) == (
            Origin("asterisk", ""),
            Origin("asterisk", SILENCE),
        )
        assert (found.arrived, found.provenance.changed) == (NOW, NOW + 10)

    stored(work, retention=KEEP_ALL)


@pytest.mark.sqlite_only
def test_where_calls_came_from_survives_a_backup_and_goes_with_them(stored, clock, tmp_path):
    async def work(store):
        account = await owner(store)
        clock.now = NOW
        await store.load([record(account, start=S - 60, end=S, src="1"), record(account, end=S, src="2")])
        await store.load([record(account, "kamailio", "/in/a.json:1", dest="2")])
        known = await told(store, account)
        assert known[1].replaced == 1
        path = await store.backup(tmp_path / "copy", lambda *_: None, force=False)
        clock.now += 2 * DAY
        assert await store.expire(account) > 0
        assert await store.calls.whole(account.id, "one", since=0, details_since=0) is None
        return path, account, known

    path, account, known = stored(work, retention=Retention(details=DAY, sessions=DAY, plivo=DAY))
    restore(path, tmp_path / "again", lambda *_: None)
    assert check_store(tmp_path / "again", lambda *_: None).findings == []

    async def again():
        store = await open_store(tmp_path / "again", retention=KEEP_ALL, clock=clock)
        try:
            assert await told(store, account) == known
        finally:
            await store.close()

    asyncio.run(again())
