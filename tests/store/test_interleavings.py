"""However a call's parts arrive, in whatever order and however often, the answers are the same."""

import asyncio
import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores
from callhouse.model import log as log_document
from callhouse.model.account import Retention
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call, read_events
from callhouse.store import open_store

NOW = 1_700_000_000_000
FIELDS = ("src", "dest", "direction", "end", "event_count", "start", "session_id")
emails = (f"{n}@example.com" for n in itertools.count())


class Bench:
    """One store for many examples, each with an account of its own."""

    def __init__(self, directory):
        self._runner = asyncio.Runner()
        self.store = self.run(
            open_store(stores.location(directory), retention=Retention(details=None, sessions=None), clock=lambda: NOW)
        )

    def run(self, work):
        return self._runner.run(work)

    def account(self):
        account, _ = self.run(
            self.store.accounts.create(email=next(emails), login=None, plan="standard", timezone="UTC", parent_id=None)
        )
        return account

    def send(self, account, sent):
        """Each of *sent* (route, record) as a request of its own; asserts that it was accepted."""
        for route, record in sent:
            raw = json.dumps(record).encode()
            part = (read_call if route == "calls" else read_events)(raw, 32)
            [outcome] = self.run(self.store.ingest([Record(account=account, source=route, raw=raw, read=part)]))
            assert outcome.refusal is None

    def answers(self, account):
        """All that can be seen of the account's complete calls: rows, total and logs."""
        query = CallQuery(account_ids=(account.id,), since=0, until=2 * NOW, limit=1000)
        page = self.run(self.store.calls.page(query, FIELDS))
        logs = {}
        for row in page.rows:
            found = self.run(self.store.calls.log(account.id, row[-1], since=0, details_since=0))
            logs[row[-1]] = None if found.document is None else log_document.unpack(found.document)
        assert len(page.rows) == page.total
        listed = CallQuery(account_ids=(account.id,), shown_since=(0,), since=0, until=2 * NOW, limit=1000)
        by_end = self.run(self.store.calls.page_by_end(listed, FIELDS))
        assert by_end == page
        return page.rows, page.total, logs

    def close(self):
        self.run(self.store.close())
        self._runner.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("interleavings"))
    yield bench
    bench.close()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.one_of(texts, st.booleans(), st.integers(), st.none(), st.floats(allow_nan=False, allow_infinity=False))


@st.composite
def whole_calls(draw, session_id):
    start = draw(st.integers(1_600_000_000, 1_600_010_000))
    end = start + draw(st.integers(0, 100))
    stamps = draw(st.lists(st.integers(start, end), max_size=6))
    events = [
        {
            "timestamp": stamp,
            # The sender numbers its events, so that those of one second have an order wherever they arrive.
            "seq": seq,
            "class": draw(st.sampled_from(["info", "event", "debug", "prompt", "error"])),
            "line": draw(texts),
            "data": draw(st.dictionaries(texts, values, max_size=3)),
        }
        for seq, stamp in enumerate(stamps)
    ]
    fields = {
        "session_id": session_id,
        "start": start,
        "end": end,
        "direction": draw(st.sampled_from(["inbound", "outbound", "transfer"])),
        "src": draw(st.text("0123456789+", max_size=12)),
        "dest": draw(st.text("0123456789+", max_size=12)),
    }
    return fields, events


@st.composite
def sendings(draw):
    """Some calls, and a way to send them: cut into parts, shuffled, with repeats; ending in nothing new."""
    calls = [draw(whole_calls(f"s{n}")) for n in range(draw(st.integers(1, 3)))]
    sent = []
    for fields, events in calls:
        parts = []
        for chunk in _chunks(draw, events):
            parts.append(("events", {"session_id": fields["session_id"], "events": chunk}))
        opening = {key: value for key, value in fields.items() if key != "end"}
        closing = draw(st.sampled_from([fields, {"session_id": fields["session_id"], "end": fields["end"]}]))
        parts += [("calls", opening), ("calls", closing)]
        if draw(st.booleans()):
            parts.append(("calls", {**fields, "events": events}))
        sent += parts
    repeats = draw(st.lists(st.sampled_from(sent), max_size=4))
    return calls, draw(st.permutations(sent + repeats))


def _chunks(draw, events):
    chunks, rest = [], list(events)
    while rest:
        size = draw(st.integers(1, len(rest)))
        chunks.append(rest[:size])
        rest = rest[size:]
    return chunks


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sending=sendings())
def test_any_interleaving_of_parts_and_repeats_gives_the_same_answers(bench, sending):
    calls, sent = sending
    account, reference = bench.account(), bench.account()
    bench.send(account, sent)
    bench.send(reference, [("calls", {**fields, "events": events}) for fields, events in calls])
    assert bench.answers(account) == bench.answers(reference)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sending=sendings(), other=sendings())
def test_two_accounts_that_use_the_same_session_ids_never_mix(bench, sending, other):
    ours, theirs, reference = bench.account(), bench.account(), bench.account()
    for mine, yours in itertools.zip_longest(sending[1], other[1]):
        bench.send(ours, [mine] if mine else [])
        bench.send(theirs, [yours] if yours else [])
    bench.send(reference, sending[1])
    assert bench.answers(ours) == bench.answers(reference)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    starts=st.lists(st.integers(0, 40 * 86_400_000), max_size=60),
    window=st.tuples(st.integers(0, 40 * 86_400_000), st.integers(0, 40 * 86_400_000)),
    limit=st.integers(1, 20),
)
def test_paging_through_any_window_gives_every_call_once_newest_first(bench, starts, window, limit):
    account = bench.account()
    sent = [
        ("calls", {"session_id": f"s{n}", "start": start / 1000, "end": start / 1000 + 1})
        for n, start in enumerate(starts)
    ]
    bench.send(account, sent)
    since, until = sorted(window)
    expected = sorted(((start, f"s{n}") for n, start in enumerate(starts) if since <= start < until), reverse=True)
    seen = []
    for offset in range(0, len(expected) + limit, limit):
        query = CallQuery(account_ids=(account.id,), since=since, until=until, limit=limit, offset=offset)
        page = bench.run(bench.store.calls.page(query, ("start", "session_id")))
        assert page.total == len(expected)
        seen += page.rows
    assert seen == expected


def test_the_same_key_pressed_twice_in_a_second_stays_two_events(bench):
    account = bench.account()
    press = {"timestamp": 1_600_000_000, "class": "event", "line": "User input: 1 (dtmf)"}
    whole = {"session_id": "s", "start": 1_600_000_000, "end": 1_600_000_001, "events": [press, press]}
    bench.send(account, [("calls", whole), ("calls", whole)])
    _, _, logs = bench.answers(account)
    assert [event.line for event in logs["s"]] == ["User input: 1 (dtmf)"] * 2


def test_events_that_differ_only_in_the_type_of_a_value_are_two_events(bench):
    account = bench.account()
    event = {"timestamp": 1_600_000_000, "class": "info", "line": "x"}
    parts = [("events", {"session_id": "s", "events": [{**event, "data": {"a": a}}]}) for a in (1, True, 1.0, "1")]
    bench.send(account, [*parts, ("calls", {"session_id": "s", "start": 1_600_000_000, "end": 1_600_000_001})])
    _, _, logs = bench.answers(account)
    assert [repr(event.data["a"]) for event in logs["s"]] == ["1", "True", "1.0", "'1'"]


def test_events_of_one_second_without_a_seq_keep_the_order_of_arrival(bench):
    account = bench.account()
    for line in ("c", "a", "b"):
        event = {"timestamp": 1_600_000_000, "class": "info", "line": line}
        bench.send(account, [("events", {"session_id": "s", "events": [event]})])
    bench.send(account, [("calls", {"session_id": "s", "start": 1_600_000_000, "end": 1_600_000_001})])
    _, _, logs = bench.answers(account)
    assert [event.line for event in logs["s"]] == ["c", "a", "b"]


def test_a_call_in_progress_is_not_listed_and_has_no_log_yet(bench):
    account = bench.account()
    bench.send(account, [("calls", {"session_id": "s", "start": 1_600_000_000})])
    assert bench.answers(account) == ([], 0, {})
    assert bench.run(bench.store.calls.log(account.id, "s", since=0, details_since=0)) is None
