"""Errors: the same however they arrive, kept longer than logs, gone with their call."""

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores
from callhouse.model.account import Retention
from callhouse.model.instant import DAY, MINUTE, YEAR
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call, read_events
from callhouse.store import expiry, open_store

NOW = 1_700_000_000_000
emails = (f"errors{n}@example.com" for n in itertools.count())


async def account_of(store):
    account, _ = await store.accounts.create(
        email=next(emails), login=None, plan="standard", timezone="UTC", parent_id=None
    )
    return account


def record_of(account, record):
    read = read_call if "start" in record or "end" in record else read_events
    raw = json.dumps(record).encode()
    return Record(account=account, source="calls", raw=raw, read=read(raw, 32))


async def send(store, account, record):
    [outcome] = await store.ingest([record_of(account, record)])
    return outcome


async def errors_of(store, account, since=0, until=2 * NOW, number=None, limit=1000, offset=0):
    """The errors of a page: time in ms, line, and the session of their call; and the total."""
    query = CallQuery(account_ids=(account.id,), since=since, until=until, number=number, limit=limit, offset=offset)
    page = await store.errors.page(query)
    shown, left = [], page.rows
    while left:
        rows = await store.errors.read(account.id, left)
        shown += [(row[0], row[1], row[-1]) for row in rows]
        left = left[len(rows) :]
    return shown, page.total


async def expire_all(store, account):
    removed = 0
    while chunk := await store.expire(account):
        removed += chunk
    return removed


def error(at, line="broken", **more):
    return {"timestamp": at / 1000, "class": "error", "line": line, **more}


def call(session_id, start, *events, **more):
    return {"session_id": session_id, "start": start / 1000, "end": (start + MINUTE) / 1000, "events": events, **more}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """One store for many examples, each with accounts of its own."""
    import asyncio

    class Clock:
        now = NOW

        def __call__(self):
            return self.now

    clock = Clock()
    with asyncio.Runner() as runner:
        store = runner.run(
            open_store(stores.location(tmp_path_factory.mktemp("errors")), retention=Retention(), clock=clock)
        )
        yield runner.run, store, clock
        runner.run(store.close())


@st.composite
def sendings(draw):
    """Calls that ended before or after the retention of logs, and their parts in any order, with repeats."""
    calls, sent = [], []
    for n in range(draw(st.integers(1, 3))):
        start = NOW - draw(st.integers(1, 9)) * DAY
        stamps = draw(st.lists(st.integers(0, 3), max_size=5))
        events = [
            {
                "timestamp": (start + stamp * 1000) / 1000,
                # Numbered, so that those of one instant have an order wherever they arrive.
                "seq": seq,
                "class": draw(st.sampled_from(["error", "error", "info"])),
                "line": draw(st.sampled_from(["a", "b"])),
            }
            for seq, stamp in enumerate(stamps)
        ]
        whole = call(f"s{n}", start, *events, dest=draw(st.sampled_from(["1", "2"])))
        calls.append(whole)
        opening = {key: value for key, value in whole.items() if key not in {"end", "events"}}
        closing = {"session_id": whole["session_id"], "end": whole["end"]}
        # Alone, what is no error of an old call is refused.
        alone = [e for e in events if e["class"] == "error"]
        cut = draw(st.integers(0, len(alone)))
        chunks = [{"session_id": f"s{n}", "events": chunk} for chunk in (alone[:cut], alone[cut:]) if chunk]
        sent += [opening, closing, *chunks, *([whole] if draw(st.booleans()) else [])]
    repeats = draw(st.lists(st.sampled_from(sent), max_size=4))
    return calls, draw(st.permutations(sent + repeats))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sending=sendings(), at_once=st.booleans())
def test_any_interleaving_of_parts_and_repeats_gives_the_same_errors(bench, sending, at_once):
    run, store, _ = bench
    calls, sent = sending

    async def work():
        ours, theirs = await account_of(store), await account_of(store)
        if at_once:
            outcomes = await store.load([record_of(ours, record) for record in sent])
        else:
            outcomes = [await send(store, ours, record) for record in sent]
        assert not [outcome.refusal for outcome in outcomes if outcome.refusal]
        for number in (None, "1", "2"):
            expected = sorted(
                (round(e["timestamp"] * 1000), c["session_id"], e["seq"], e["line"])
                for c in calls
                for e in c["events"]
                if e["class"] == "error" and number in {None, c["dest"]}
            )
            shown, total = await errors_of(store, ours, number=number)
            assert shown == [(at, line, session) for at, session, _, line in expected]
            assert total == len(expected)
        for record in sent:
            assert (await send(store, ours, record)).repeated
        assert await errors_of(store, theirs) == ([], 0)

    run(work())


def test_two_accounts_with_the_same_session_ids_never_mix(bench):
    run, store, _ = bench

    async def work():
        ours, theirs = await account_of(store), await account_of(store)
        await send(store, ours, call("s", NOW - DAY, error(NOW - DAY, "ours")))
        await send(store, theirs, call("s", NOW - DAY, error(NOW - DAY, "theirs")))
        for account, line in ((ours, "ours"), (theirs, "theirs")):
            shown, total = await errors_of(store, account)
            assert ([line for _, line, _ in shown], total) == ([line], 1)
        query = CallQuery(account_ids=(ours.id,), since=0, until=2 * NOW, limit=10)
        [foreign] = (await store.errors.page(query)).rows
        assert await store.errors.read(theirs.id, [foreign]) == [None]

    run(work())


@settings(max_examples=60, deadline=None)
@given(
    starts=st.lists(st.integers(0, 40 * MINUTE), max_size=30),
    window=st.tuples(st.integers(0, 40 * MINUTE), st.integers(0, 40 * MINUTE)),
    limit=st.integers(1, 20),
)
def test_paging_through_any_window_gives_every_error_once_oldest_first(bench, starts, window, limit):
    run, store, _ = bench
    base = NOW - DAY
    since, until = sorted(window)

    async def work():
        account = await account_of(store)
        # An error comes up to 20 minutes after its call's start, so errors are not in the order of the calls.
        records = [
            record_of(account, call(f"s{n:02}", base + start, error(base + start + n * 7 % 20 * MINUTE)))
            for n, start in enumerate(starts)
        ]
        await store.load(records)
        expected = sorted(
            (base + start + n * 7 % 20 * MINUTE, f"s{n:02}") for n, start in enumerate(starts) if since <= start < until
        )
        seen = []
        for offset in range(0, len(expected) + limit, limit):
            shown, total = await errors_of(store, account, base + since, base + until, limit=limit, offset=offset)
            assert total == len(expected)
            seen += [(at, session) for at, _, session in shown]
        assert seen == expected

    run(work())


def test_errors_follow_their_call_when_its_start_or_number_is_mended(stored, clock):
    async def work(store):
        account = await account_of(store)
        start = clock.now - DAY
        await send(store, account, call("s", start, error(start), dest="1"))
        mended = call("s", start - MINUTE, dest="2")
        assert not (await send(store, account, mended)).repeated
        assert (await errors_of(store, account, since=start))[1] == 0
        assert (await errors_of(store, account, until=start, number="2"))[1] == 1

    stored(work)


def test_an_error_outlives_its_log_and_a_late_one_is_taken(stored, clock):
    async def work(store):
        account = await account_of(store)
        start = clock.now
        info = {"timestamp": start / 1000, "class": "info", "line": "x"}
        await send(store, account, call("s", start, error(start, "first"), info))
        clock.now += 6 * DAY
        assert await expire_all(store, account) == 1
        late = {"session_id": "s", "events": [error(start + 1000, "late"), info]}
        outcome = await send(store, account, late)
        assert (outcome.refusal, outcome.repeated, outcome.expired_events) == (None, False, 1)
        assert (await send(store, account, late)).repeated
        shown, _ = await errors_of(store, account)
        assert [line for _, line, _ in shown] == ["first", "late"]
        assert (await store.calls.log(account.id, "s", since=0, details_since=0)).document is None
        refused = await send(store, account, {"session_id": "s", "events": [info]})
        assert refused.refusal == "its events are older than their retention of 5d"

    stored(work)


def test_errors_of_a_call_in_progress_are_kept_until_it_ends_however_long_it_lasts(stored, clock):
    async def work(store):
        account = await account_of(store)
        start = clock.now
        await send(store, account, {"session_id": "s", "start": start / 1000})
        await send(store, account, {"session_id": "s", "events": [error(start)]})
        assert await errors_of(store, account) == ([], 0)
        clock.now += 10 * DAY
        await expire_all(store, account)
        await send(store, account, {"session_id": "s", "end": clock.now / 1000})
        assert (await errors_of(store, account))[1] == 1

    stored(work)


def test_errors_go_in_chunks_when_their_calls_start_is_older_than_the_retention_of_sessions(stored, clock, tmp_path):
    async def work(store):
        account = await account_of(store)
        start, count = clock.now, 2 * expiry.CHUNK + 7
        records = [call(f"s{n}", start + n, error(start + n + DAY)) for n in range(count)]
        await store.load([record_of(account, record) for record in records])
        clock.now += YEAR + count - 3
        assert await store.expire(account) == expiry.CHUNK
        await expire_all(store, account)
        assert (await errors_of(store, account))[1] == 3
        # The rest go with their calls.
        clock.now += 10
        await expire_all(store, account)

    stored(work, Retention(plivo=YEAR + DAY))
    assert rows(tmp_path) == 0


def test_errors_go_with_their_call_and_so_do_those_whose_call_never_came(stored, clock, tmp_path):
    async def work(store):
        account = await account_of(store)
        future = clock.now + 2 * YEAR
        await send(store, account, call("whole", clock.now, error(future)))
        await send(store, account, {"session_id": "open", "start": clock.now / 1000})
        await send(store, account, {"session_id": "open", "events": [error(future)]})
        await send(store, account, {"session_id": "never", "events": [error(clock.now)]})
        assert (await store.statistics()).rows["call_errors"] == 3
        clock.now += YEAR + 1
        await expire_all(store, account)

    stored(work)
    assert rows(tmp_path) == 0


def test_an_error_that_is_older_than_the_retention_of_sessions_is_left_out_and_counted(stored, clock):
    async def work(store):
        account = await account_of(store)
        start = clock.now - 40 * DAY
        outcome = await send(store, account, call("s", start, error(start)))
        assert (outcome.refusal, outcome.expired_events) == (None, 1)
        alone = await send(store, account, {"session_id": "t", "events": [error(start)]})
        assert alone.refusal == "its events are older than their retention of 5d"
        assert (await errors_of(store, account))[1] == 0

    stored(work, Retention(sessions=30 * DAY))


def test_a_call_takes_no_more_late_errors_than_it_may_have_events(stored, clock):
    async def work(store):
        account = await account_of(store)
        start = clock.now - 6 * DAY
        await send(store, account, call("s", start))
        first = {"session_id": "s", "events": [error(start, seq=n) for n in range(90)]}
        more = [{"session_id": "s", "events": [error(start, seq=n)]} for n in range(85, 105)]
        outcomes = await store.load([record_of(account, record) for record in (first, first, *more)])
        refused = [outcome.refusal for outcome in outcomes]
        assert refused == [None] * 17 + ["the call has more than 100 errors"] * 5
        assert (await errors_of(store, account))[1] == 100
        assert [(await send(store, account, record)).refusal for record in (first, more[0])] == [None, None]

    stored(work, max_events=100)


def test_late_errors_take_no_more_room_than_a_log_may(stored, clock):
    async def work(store):
        account = await account_of(store)
        start = clock.now - 6 * DAY
        await send(store, account, call("s", start))
        records = [{"session_id": "s", "events": [error(start, f"{n} " + "x" * 398)]} for n in range(4)]
        outcomes = [await send(store, account, record) for record in (*records[:2], records[0], *records[2:])]
        assert [outcome.refusal for outcome in outcomes] == [None] * 3 + [
            "the call's errors have more than 1000 bytes"
        ] * 2
        assert (await errors_of(store, account))[1] == 2

    stored(work, max_log=1000)


def rows(tmp_path):
    [(count,)] = stores.sql(tmp_path / "store0", "SELECT count(*) FROM call_errors")
    return count
