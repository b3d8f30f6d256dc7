"""A search for words gives what looking at every log would, whatever way it takes."""

import asyncio
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores
from callhouse.model.account import Retention
from callhouse.model.browsing import CallFilter, Count, Place, Search
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call
from callhouse.store import by_words, open_store, sqlite
from callhouse.store.browsing import FOREVER

NOW = 1_700_000_000_000
WORDS = ["welcome", "goodbye", "card", "seldom"]
SPAN = 12
"""Milliseconds in which calls start, many at the same one."""

instants = st.integers(NOW, NOW + SPAN)
early, late = st.integers(NOW, NOW + 3), st.integers(NOW + SPAN - 3, NOW + SPAN + 1)
calls = st.lists(
    st.fixed_dictionaries(
        {
            "account": st.sampled_from([0, 0, 0, 1]),
            "start": instants,
            "length": st.sampled_from([0, 1, 9, None]),
            "src": st.sampled_from(["1", "2"]),
            "words": st.sets(st.sampled_from(WORDS)),
            "later": st.sets(st.sampled_from(WORDS), max_size=1),
        }
    ),
    min_size=10,
    max_size=60,
)
sizes = st.builds(
    lambda few, **others: {"FEW": few[0], "NOT_MANY": few[1], **others},
    st.sampled_from([(0, 0), (0, 5), (3, 5), (0, 5_000), (3, 5_000), (500, 5_000)]),
    FIRST_STRETCH=st.integers(1, 8),
    GROWTH=st.integers(2, 4),
    LAST_STRETCH=st.sampled_from([1, 8, 1_000]),
    REPEATS=st.sampled_from([1.0, 1.5, 100.0]),
)
"""What the module decides by; what is few is not many."""


class Bench:
    """One store for many examples, each with accounts of its own, so that ids and starts do not go together."""

    def __init__(self, directory):
        self._runner = asyncio.Runner()
        self._emails = (f"{n}@example.com" for n in itertools.count())
        keep = Retention(details=None, sessions=None, plivo=None)
        self.store = self.run(open_store(stores.location(directory), retention=keep, clock=lambda: NOW))

    def run(self, work):
        return self._runner.run(work)

    def account(self):
        made = self.store.accounts.create(
            email=next(self._emails), login=None, plan="standard", timezone="UTC", parent_id=None
        )
        return self.run(made)[0]

    def send(self, accounts, sent, said):
        raws = [(accounts[call["account"]], json.dumps(_record(n, call, said)).encode()) for n, call in enumerate(sent)]
        records = [Record(account=to, source="calls", raw=raw, read=read_call(raw, 32)) for to, raw in raws]
        assert all(outcome.refusal is None for outcome in self.run(self.store.load(records)))

    def close(self):
        self.run(self.store.close())
        self._runner.close()


def _record(n, call, said):
    start, length = call["start"], call["length"]
    ended = {} if length is None else {"end": (start + length) / 1000}
    events = [{"timestamp": start / 1000, "class": "info", "line": word} for word in sorted(call[said])]
    return {"session_id": f"s{n:02}", "start": start / 1000, "src": call["src"], "events": events, **ended}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Bench(tmp_path_factory.mktemp("words") / "data")
    yield made
    made.close()


def holding(sent, words, since, until, details_since):
    """The names and starts of the first account's calls whose log holds the words, the newest first."""
    found = [
        (call["start"], f"s{n:02}", call["src"])
        for n, call in enumerate(sent)
        if call["account"] == 0
        and since <= call["start"] < until
        and call["length"] is not None
        and call["start"] + call["length"] >= details_since
        and (said := call["words"] | call["later"])
        and words <= said
    ]
    return sorted(found, reverse=True)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sent=calls,
    asked=st.lists(
        st.tuples(sizes, st.sets(st.sampled_from(WORDS)), early, late, st.integers(1, 9)),
        min_size=2,
        max_size=5,
    ),
    near=st.sampled_from([1, 32, 2**62]),
    details_since=st.sampled_from([0, NOW + SPAN // 2]),
)
def test_a_search_in_any_stretches_gives_what_every_log_tells(bench, sent, asked, near, details_since):
    accounts = [bench.account(), bench.account()]
    bench.send(accounts, sent, "words")
    bench.send(accounts, sent, "later")
    for size, words, since, until, limit in asked:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite, "NEAR", near)
            for name, value in size.items():
                patch.setattr(by_words, name, value)
            expected = holding(sent, words, since, until, details_since)
            query = CallQuery(account_ids=(accounts[0].id,), since=since, until=until, limit=limit, offset=2)
            found = bench.run(bench.store.calls.search(query, ["—", *words], details_since))
            assert [(call.start, call.session_id) for call in found] == [each[:2] for each in expected[2 : 2 + limit]]
            for number in (None, "1") if words else ():
                of_number = [each[:2] for each in expected if number in {None, each[2]}]
                look_through(bench, accounts[0], words, (since, until, details_since), limit, number, of_number)


def look_through(bench, account, words, bounds, limit, number, expected):
    """The console's list, from either end, and its count."""
    since, until, details_since = bounds
    wanted = CallFilter(
        account_id=account.id, since=since, until=until, details_since=details_since, errors_since=0, number=number,
        search=Search(text="nobody", number=None, words=tuple(words)),
    )  # fmt: skip
    assert bench.run(bench.store.browsing.count(wanted)) == Count(len(expected))
    for newer in (False, True):
        walked, place = [], Place(0, "") if newer else Place(FOREVER, "")
        while True:
            page = bench.run(bench.store.browsing.page(wanted, limit, place, newer=newer))
            here = [(call.start, call.session_id) for call in page.calls]
            walked = here + walked if newer else walked + here
            if not page.goes_on:
                break
            place = Place(*(here[0] if newer else here[-1]))
        assert walked == expected
