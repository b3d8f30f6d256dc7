"""Pages in either order and of calls with a log are exact at any depth, and read what they need."""

import asyncio
import random

import apsw
import pytest

from callhouse.model.account import Retention
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.instant import DAY
from callhouse.model.query import CallQuery
from callhouse.model.record import Part, Record
from callhouse.store import calls
from callhouse.store.conditions import conditions
from callhouse.store.sqlite import SQLiteTransaction

SPAN = 40 * DAY
FIELDS = ("event_count", "start", "session_id")


async def filled(store, clock, count):
    """An account with *count* calls, of which many start at the same instant and a third have a log."""
    account, _ = await store.accounts.create(email="a@b.c", login=None, plan="standard", timezone="UTC", parent_id=None)
    rng = random.Random(3)
    base = clock.now - SPAN
    starts = [base + rng.randrange(SPAN) for _ in range(count // 3)]
    records, known = [], []
    for n in range(count):
        start = rng.choice(starts)
        end = start + rng.randrange(DAY)
        call = Call(session_id=f"s{n:05}", dest=str(n % 2), start=start, end=end)
        events = (Event(start, None, "info", "x", {}),) if n % 3 == 0 else ()
        part = Part(session_id=call.session_id, call=call, events=events)
        records.append(Record(account=account, source="calls", raw=str(n).encode(), read=part))
        known.append((start, call.session_id, end, call.dest, bool(events)))
    await store.load(records)
    return account, base, known


async def page(store, query):
    found = await store.calls.page(query, FIELDS)
    return [row[1:] for row in found.rows], found.total


@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_page_in_either_order_is_exact_at_any_depth(stored, clock, oldest_first):
    async def work(store):
        account, base, known = await filled(store, clock, 3000)
        rng = random.Random(5)
        for _ in range(120):
            since, until = sorted(base + rng.randrange(-DAY, SPAN + DAY) for _ in range(2))
            expected = sorted((k[:2] for k in known if since <= k[0] < until), reverse=not oldest_first)
            offset = rng.choice([0, 499, 500, rng.randrange(3100), max(len(expected) - 1, 0), len(expected)])
            limit = rng.choice([1, 100, 101, 700])
            query = CallQuery(
                account_ids=(account.id,),
                since=since,
                until=until,
                limit=limit,
                offset=offset,
                oldest_first=oldest_first,
            )
            assert await page(store, query) == (
                expected[offset : offset + limit],
                len(expected),
            )

    stored(work)


@pytest.mark.parametrize("number", [None, "1"])
def test_calls_with_a_log_are_listed_and_counted_exactly(stored, clock, number):
    async def work(store):
        account, base, known = await filled(store, clock, 1500)
        rng = random.Random(7)
        for _ in range(60):
            since, until, logged_since = base + DAY, base + rng.randrange(DAY, SPAN), base + rng.randrange(SPAN)
            expected = sorted(
                (
                    (start, session)
                    for start, session, end, dest, log in known
                    if since <= start < until and end >= logged_since and log and number in {None, dest}
                ),
                reverse=True,
            )
            offset, limit = rng.choice([0, 1, 200, 600]), rng.choice([1, 50, 400])
            query = CallQuery(
                account_ids=(account.id,), since=since, until=until, number=number, limit=limit, offset=offset,
                logged_since=logged_since,
            )  # fmt: skip
            assert await page(store, query) == (expected[offset : offset + limit], len(expected))

    stored(work, Retention(details=None))


@pytest.mark.sqlite_only
@pytest.mark.parametrize("number", [None, "1"])
def test_a_list_of_calls_with_a_log_passes_by_the_calls_without_one(stored, clock, tmp_path, number):
    async def work(store):
        await filled(store, clock, 9)

    stored(work)
    reader = SQLiteTransaction(apsw.Connection(str(tmp_path / "store0" / "callhouse.db")))
    query = CallQuery(account_ids=(1,), since=0, until=2**50, number=number, limit=10, logged_since=0)
    more, given = conditions(query)
    sql = calls._select(FIELDS, more, oldest_first=False, logged=True)
    plan = [row[-1] for row in reader.rows(f"EXPLAIN QUERY PLAN {sql}", calls._parameters(query, given))]
    assert any(
        "USING COVERING INDEX calls_with_log (account_id=? AND started>? AND started<?)" in step for step in plan
    )
    assert not any("calls_by_" in step for step in plan)


@pytest.mark.parametrize("oldest_first", [False, True])
def test_a_long_page_holds_every_call_once_and_as_many_as_its_total_while_calls_come_and_move(
    stored, clock, oldest_first
):
    async def work(store):
        account, base, known = await filled(store, clock, 3000)
        until = clock.now + DAY
        query = CallQuery(account_ids=(account.id,), since=base, until=until, limit=10_000, oldest_first=oldest_first)
        rng = random.Random(9)
        reading = True

        async def write():
            while reading:
                moved = [(session, base + rng.randrange(SPAN)) for _, session, *_ in rng.sample(known, 50)]
                new = [(f"n{rng.random()}", base + rng.randrange(SPAN)) for _ in range(20)]
                parts = [
                    Part(session_id=session, call=Call(session_id=session, start=start, end=start + DAY))
                    for session, start in moved + new
                ]
                await store.load(
                    [Record(account=account, source="calls", raw=repr(part).encode(), read=part) for part in parts]
                )

        writing = asyncio.create_task(write())
        totals = set()
        try:
            while len(totals) <= 10:
                found, total = await page(store, query)
                assert len({session for _, session in found}) == len(found) == total
                totals.add(total)
        finally:
            reading = False
            await writing

    stored(work)
