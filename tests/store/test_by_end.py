"""Pages by end: for any calls, accounts, window and filters they are what filtering in plain Python gives."""

import asyncio
import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

import stores
from callhouse.model.account import Retention
from callhouse.model.instant import DAY, HOUR, MINUTE, SECOND
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call
from callhouse.store import by_end, open_store

NOW = 1_700_000_000_000
KEEP = Retention(details=None, sessions=None, plivo=None)
# Lengths on both sides of what is long, and windows and horizons that cut through calls.
lengths = st.one_of(
    st.integers(0, 10 * MINUTE), st.integers(by_end.LONG - SECOND, by_end.LONG + SECOND), st.integers(0, 40 * DAY)
)
instants = st.one_of(st.integers(NOW - 60 * DAY, NOW), st.integers(NOW - 2 * DAY, NOW - 2 * DAY + HOUR))
calls = st.lists(st.tuples(st.integers(0, 2), instants, lengths, st.sampled_from(["a", "b"])), max_size=30)


def record(account, n, start, length, source):
    fields = {"session_id": f"s{n:02}", "start": start / 1000, "end": (start + length) / 1000, "hangup_source": source}
    raw = json.dumps(fields).encode()
    return Record(account=account, source="calls", raw=raw, read=read_call(raw, 32))


@settings(max_examples=60, deadline=None)
@given(
    sent=calls,
    asked=st.lists(
        st.fixed_dictionaries(
            {
                "accounts": st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True),
                "since": instants,
                "length": st.integers(0, 45 * DAY),
                "shown": st.one_of(st.just(0), instants),
                "source": st.sampled_from([None, "a"]),
                "limit": st.integers(1, 12),
                "offset": st.integers(0, 12),
            }
        ),
        min_size=10,
        max_size=10,
    ),
    at_once=st.sampled_from([1, 2, 100]),
)
def test_a_page_by_end_is_what_filtering_in_python_gives(sent, asked, at_once):
    async def work(store):
        accounts = [
            (await store.accounts.create(email=f"{n}@x", login=None, plan="standard", timezone="UTC", parent_id=None))[
                0
            ]
            for n in range(3)
        ]
        outcomes = await store.load([record(accounts[a], n, *rest) for n, (a, *rest) in enumerate(sent)])
        assert not any(outcome.refusal for outcome in outcomes)
        for each in asked:
            until = each["since"] + each["length"]
            query = CallQuery(
                account_ids=tuple(accounts[n].id for n in each["accounts"]),
                shown_since=tuple(each["shown"] for _ in each["accounts"]),
                since=each["since"],
                until=until,
                hangup_source=each["source"],
                limit=each["limit"],
                offset=each["offset"],
            )
            page = await store.calls.page_by_end(query, ("session_id",))
            want = sorted(
                (
                    (start, f"s{n:02}")
                    for n, (account, start, length, source) in enumerate(sent)
                    if account in each["accounts"]
                    and each["since"] <= start + length < until
                    and start >= each["shown"]
                    and each["source"] in {None, source}
                ),
                reverse=True,
            )
            assert page.total == len(want)
            assert [row[0] for row in page.rows] == [
                session for _, session in want[query.offset : query.offset + query.limit]
            ]

    async def opened(directory):
        store = await open_store(stores.location(directory), retention=KEEP, clock=lambda: NOW)
        try:
            await work(store)
        finally:
            await store.close()

    before = by_end.MERGED, by_end.FIRST_KEYS
    by_end.MERGED = by_end.FIRST_KEYS = at_once
    try:
        with tempfile.TemporaryDirectory() as directory:
            asyncio.run(opened(Path(directory) / "data"))
    finally:
        by_end.MERGED, by_end.FIRST_KEYS = before


def test_a_call_whose_end_changes_is_counted_where_it_ends_now(stored, clock):
    async def work(store):
        account, _ = await store.accounts.create(
            email="a@x", login=None, plan="standard", timezone="UTC", parent_id=None
        )

        async def totals():
            found = []
            for day in range(3):
                since = NOW + day * DAY
                query = CallQuery(account_ids=(account.id,), shown_since=(0,), since=since, until=since + DAY, limit=10)
                page = await store.calls.page_by_end(query, ("session_id",))
                assert len(page.rows) == page.total
                found.append(page.total)
            return found

        for length, expected in [
            (0, [1, 0, 0]),
            (DAY, [0, 1, 0]),
            (2 * DAY + 3 * HOUR, [0, 0, 1]),
            (2 * DAY + 3 * HOUR, [0, 0, 1]),
            (HOUR, [1, 0, 0]),
        ]:
            await store.load([record(account, 1, NOW, length, "a")])
            assert await totals() == expected

    stored(work, KEEP)
