"""What is older than its retention is invisible at once, and gone after a while; totals stay exact."""

import json

import pytest

import stores
from callhouse.model.account import Retention, RetentionOverride
from callhouse.model.instant import DAY, HOUR, MINUTE, YEAR
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call, read_events
from callhouse.store import expiry

EVENT = {"class": "info", "line": "Executing application"}


async def account_of(store, email="a@example.com", **wishes):
    account, _ = await store.accounts.create(email=email, login=None, plan="standard", timezone="UTC", parent_id=None)
    if wishes:
        account = await store.accounts.change(account.id, timezone=None, retention=RetentionOverride(**wishes))
    return account


async def send(store, account, record, read=read_call):
    raw = json.dumps(record).encode()
    [outcome] = await store.ingest([Record(account=account, source="calls", raw=raw, read=read(raw, 32))])
    return outcome


def call(session_id, end, **more):
    """A call of a minute with one event; *end* in ms."""
    event = {**EVENT, "timestamp": (end - MINUTE) / 1000}
    return {"session_id": session_id, "start": (end - MINUTE) / 1000, "end": end / 1000, "events": [event], **more}


async def expire_all(store):
    removed = 0
    for account in await store.accounts.all():
        while chunk := await store.expire(account):
            removed += chunk
    return removed


async def visible(store, account, now):
    """The sessions listed, the total, and those whose log is shown."""
    query = CallQuery(account_ids=(account.id,), since=account.retention.calls_since(now), until=2**50, limit=500)
    page = await store.calls.page(query, ("id", "session_id"))
    logs = await store.calls.logs(account.id, [row[0] for row in page.rows], account.retention.details_since(now))
    shown = [row[1] for row, log in zip(page.rows, logs, strict=True) if log is not None]
    return [row[1] for row in page.rows], page.total, shown


def test_a_log_is_invisible_from_the_moment_it_expires_and_then_removed(stored, clock):
    async def work(store):
        account = await account_of(store)
        await send(store, account, call("s", clock.now))
        clock.now += 5 * DAY
        assert await visible(store, account, clock.now) == (["s"], 1, ["s"])
        clock.now += 1
        assert await visible(store, account, clock.now) == (["s"], 1, [])
        assert await expire_all(store) == 1
        assert (await store.statistics()).rows["logs"] == 0
        assert await visible(store, account, clock.now) == (["s"], 1, [])

    stored(work)


def test_a_call_is_invisible_from_the_moment_it_expires_and_then_removed_with_its_count(stored, clock):
    async def work(store):
        account = await account_of(store)
        await send(store, account, call("old", clock.now))
        await send(store, account, call("new", clock.now + HOUR))
        clock.now += YEAR
        assert await visible(store, account, clock.now) == (["new"], 1, [])
        await expire_all(store)
        assert (await store.statistics()).rows["calls"] == 1
        assert await visible(store, account, clock.now) == (["new"], 1, [])

    stored(work)


def test_removal_goes_in_chunks_and_leaves_counts_equal_to_rows(stored, clock, tmp_path):
    async def work(store):
        account = await account_of(store)
        records = []
        for n in range(3 * expiry.CHUNK + 7):
            raw = json.dumps(call(f"s{n}", clock.now + n * MINUTE)).encode()
            records.append(Record(account=account, source="calls", raw=raw, read=read_call(raw, 32)))
        await store.load(records)
        clock.now += YEAR + (2 * expiry.CHUNK + 3) * MINUTE
        first = await store.expire(account)
        assert 0 < first <= 2 * expiry.CHUNK
        await expire_all(store)
        sessions, total, _ = await visible(store, account, clock.now)
        assert total == expiry.CHUNK + 3
        assert len(sessions) == expiry.CHUNK

    stored(work)
    data = tmp_path / "store0"
    [(rows,)] = stores.sql(data, "SELECT count(*) FROM calls")
    assert rows == expiry.CHUNK + 3
    for table in ("call_counts", "end_counts"):
        for width in (1, 24, 768):
            [(counted,)] = stores.sql(data, f"SELECT sum(calls) FROM {table} WHERE width = ?", width)
            assert counted == rows
        assert stores.sql(data, f"SELECT count(*) FROM {table} WHERE calls <= 0") == [(0,)]
    assert stores.sql(data, "SELECT count(*) FROM logs") == [(0,)]


def test_an_account_may_keep_its_calls_longer_than_the_server(stored, clock):
    async def work(store):
        kept = await account_of(store, "kept@example.com", details="forever", sessions="forever")
        other = await account_of(store, "other@example.com")
        for account in (kept, other):
            await send(store, account, call("s", clock.now))
        clock.now += 2 * YEAR
        await expire_all(store)
        assert await visible(store, kept, clock.now) == (["s"], 1, ["s"])
        assert await visible(store, other, clock.now) == ([], 0, [])

    stored(work)


def test_a_call_that_arrives_older_than_its_retention_is_refused_with_that_reason(stored, clock):
    async def work(store):
        account = await account_of(store)
        outcome = await send(store, account, call("s", clock.now - YEAR))
        assert outcome.refusal == "the call is older than its retention of 1y"
        assert await store.quarantine.count() == 1

    stored(work)


def test_a_call_whose_log_alone_is_too_old_is_kept_and_its_events_are_counted(stored, clock):
    async def work(store):
        account = await account_of(store)
        outcome = await send(store, account, call("s", clock.now - 6 * DAY))
        assert (outcome.refusal, outcome.expired_events) == (None, 1)
        assert await visible(store, account, clock.now) == (["s"], 1, [])

    stored(work)


def test_events_alone_that_are_too_old_are_refused_with_that_reason(stored, clock):
    async def work(store):
        account = await account_of(store)
        old = {"session_id": "s", "events": [{**EVENT, "timestamp": (clock.now - 6 * DAY) / 1000}]}
        outcome = await send(store, account, old, read_events)
        assert outcome.refusal == "its events are older than their retention of 5d"

    stored(work)


def test_events_that_wait_for_a_call_that_never_comes_are_removed(stored, clock):
    async def work(store):
        account = await account_of(store)
        event = {**EVENT, "timestamp": clock.now / 1000}
        await send(store, account, {"session_id": "s", "events": [event]}, read_events)
        assert (await store.statistics()).rows["waiting_events"] == 1
        clock.now += 5 * DAY + 1
        await expire_all(store)
        assert (await store.statistics()).rows["waiting_events"] == 0

    stored(work)


@pytest.mark.parametrize(("kept", "left"), [(None, 1), (DAY, 0)])
def test_refused_records_are_kept_as_long_as_the_server_says(stored, clock, kept, left):
    async def work(store):
        account = await account_of(store)
        await send(store, account, call("s", clock.now - YEAR))
        clock.now += DAY + 1
        while await store.expire_quarantine(account):
            pass
        assert await store.quarantine.count() == left

    stored(work, Retention(quarantine=kept))


def test_a_log_id_is_never_given_twice(stored, clock):
    async def work(store):
        account = await account_of(store)
        await send(store, account, call("first", clock.now))
        query = CallQuery(account_ids=(account.id,), since=0, until=2**50, limit=10)
        [(first,)] = (await store.calls.page(query, ("id",))).rows
        clock.now += 2 * YEAR
        await expire_all(store)
        await send(store, account, call("second", clock.now))
        [(second,)] = (await store.calls.page(query, ("id",))).rows
        assert second > first

    stored(work)


@pytest.mark.parametrize("part", [{"session_id": "s"}, {"session_id": "s", "end": 1_699_999_990}])
def test_a_part_whose_start_never_comes_is_removed_too(stored, clock, part):
    async def work(store):
        account = await account_of(store)
        assert (await send(store, account, part)).refusal is None
        clock.now += YEAR + 1
        assert await expire_all(store) == 1

    stored(work)


def test_an_end_alone_that_is_too_old_is_refused(stored, clock):
    async def work(store):
        account = await account_of(store)
        outcome = await send(store, account, {"session_id": "s", "end": 1_000_000_000})
        assert outcome.refusal == "the call is older than its retention of 1y"

    stored(work)


def test_a_call_at_its_limit_of_events_takes_repeats_and_refuses_each_new_one(stored, clock):
    def record(first, last):
        at = clock.now / 1000
        events = [{**EVENT, "timestamp": at, "seq": n} for n in range(first, last)]
        raw = json.dumps({"session_id": "s", "events": events}).encode()
        return raw, read_events(raw, 32)

    async def work(store):
        account = await account_of(store)
        await send(store, account, {"session_id": "s", "start": clock.now / 1000, "end": clock.now / 1000})
        parts = [
            record(0, 50),
            record(0, 50),
            record(25, 75),
            record(75, 90),
            *(record(n, n + 1) for n in range(85, 110)),
        ]
        outcomes = await store.load(
            [Record(account=account, source="events", raw=raw, read=read) for raw, read in parts]
        )
        refused = [outcome.refusal is not None for outcome in outcomes]
        assert refused == [False] * 4 + [n >= 100 for n in range(85, 110)]
        found = await store.calls.log(account.id, "s", since=0, details_since=0)
        assert len(json.loads(found.document.split(b"\n")[0])) == 100

    stored(work, max_events=100)
