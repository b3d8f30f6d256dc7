"""The most calls under way at once, also round the edges of hours and of what is shown, is what counting gives."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import stores
from callhouse.model.account import Retention
from callhouse.model.call import Call
from callhouse.model.instant import HOUR, MINUTE
from callhouse.model.record import Part, Record
from callhouse.store import concurrency, open_store

BASE = 1_700_000_000_000 // HOUR * HOUR
NOW = BASE + 30 * HOUR

instants = st.builds(lambda hour, off: BASE + hour * HOUR + off, st.integers(0, 9), st.sampled_from([-1, 0, 1, MINUTE]))
lengths = st.sampled_from([0, 1, MINUTE, HOUR - 1, HOUR, HOUR + 1, 5 * HOUR])
intervals = st.lists(st.tuples(st.integers(0, 1), instants, lengths), max_size=8)


class Bench:
    """One store for many examples, each with accounts of its own."""

    def __init__(self, directory):
        self._runner = asyncio.Runner()
        keep = Retention(details=None, sessions=None, plivo=None)
        self.store = self.run(open_store(stores.location(directory), retention=keep, clock=lambda: NOW))
        self.emails = (f"{n}@example.com" for n in itertools.count())

    def run(self, work):
        return self._runner.run(work)

    def account(self):
        made = self.store.accounts.create(
            email=next(self.emails), login=None, plan="standard", timezone="UTC", parent_id=None
        )
        return self.run(made)[0]

    def send(self, accounts, sent):
        records = []
        for n, (which, start, length) in enumerate(sent):
            call = Call(session_id=f"s{n}", start=start, end=start + length)
            part = Part(session_id=call.session_id, call=call)
            records.append(Record(account=accounts[which], source="calls", raw=repr(call).encode(), read=part))
        self.run(self.store.load(records))

    def settle(self, accounts):
        for account in accounts:
            while self.run(self.store.settle(account)):
                pass

    def peak(self, shown_since, since, until):
        return self.run(self.store._engine.quick(lambda reader: concurrency.peak(reader, shown_since, since, until)))

    def close(self):
        self.run(self.store.close())
        self._runner.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("concurrency"))
    yield bench
    bench.close()


def counted(calls, since, until):
    """The most calls under way at the beginning of the window or where one begins in it."""
    at = [since, *(start for start, _ in calls if since <= start < until)]
    return max(sum(start <= t < end for start, end in calls) for t in at) if since < until else 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sent=intervals,
    changed=intervals,
    windows=st.lists(st.tuples(instants, instants), min_size=2, max_size=4),
    shown=st.tuples(st.one_of(st.just(0), instants), st.one_of(st.just(0), instants)),
)
@example([(0, BASE, HOUR)], [], [(BASE + HOUR, BASE + 3 * HOUR)], (0, 0))
# A call that is not shown ends in an hour before that of the most.
@example(
    [(0, BASE - 1, HOUR + MINUTE), (0, BASE + 2 * HOUR, HOUR), (0, BASE + 2 * HOUR, HOUR)],
    [],
    [(BASE, BASE + 4 * HOUR)],
    (BASE, 0),
)
def test_the_peak_of_any_window_is_what_counting_at_every_instant_gives(bench, sent, changed, windows, shown):
    accounts = [bench.account(), bench.account()]
    bench.send(accounts, sent)
    bench.settle(accounts)
    bench.send(accounts, changed)
    # What is sent again under its session is the call from then on.
    known = {(which, n): (start, start + length) for n, (which, start, length) in enumerate(sent)}
    known.update({(which, n): (start, start + length) for n, (which, start, length) in enumerate(changed)})
    for is_settled in (False, True):
        if is_settled:
            bench.settle(accounts)
        for window, which in itertools.product(windows, [(0,), (1,), (0, 1)]):
            since, until = sorted(window)
            asked = {accounts[n].id: shown[n] for n in which}
            calls = [call for (of, _), call in known.items() if of in which and call[0] >= shown[of]]
            found = bench.peak(asked, since, until)
            assert found.calls == counted(calls, since, until)
            assert since <= found.at < until or found.calls == 0
            assert found.calls in {0, sum(start <= found.at < end for start, end in calls)}


def test_hours_without_a_call_cost_nothing(bench):
    account = bench.account()
    bench.send([account], [(0, BASE, HOUR)])
    statements = []

    def work(reader):
        class Counting:
            def rows(self, sql, parameters):
                statements.append(sql)
                return reader.rows(sql, parameters)

        return concurrency.peak(Counting(), {account.id: 0}, 0, BASE + 2 * HOUR)

    assert bench.run(bench.store._engine.quick(work)) == (1, BASE)
    assert len(statements) < 20
