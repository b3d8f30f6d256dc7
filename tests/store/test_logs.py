"""Logs are packed small, searchable, and come back unchanged with every dictionary there ever was."""

import json

import stores
from callhouse import simulation
from callhouse.model import log as log_document
from callhouse.model.event import Event
from callhouse.model.instant import DAY
from callhouse.model.query import CallQuery
from callhouse.model.record import Part, Record
from callhouse.sources.native import read_call
from callhouse.store import logs


async def account_of(store, email="a@example.com"):
    account, _ = await store.accounts.create(email=email, login=None, plan="standard", timezone="UTC", parent_id=None)
    return account


def records(account, simulated):
    return [
        Record(
            account=account,
            source="calls",
            raw=call.session_id.encode(),
            read=Part(session_id=call.session_id, call=call, events=events),
        )
        for call, events in simulated
    ]


def test_a_document_gives_its_events_back_and_shows_only_what_is_published():
    events = [
        Event(1_500, 7, "event", "line\nfeed", {"b": [1, {"x": None}], "a": 1.5}),
        Event(2_000, None, "info", "", {}),
    ]
    document = log_document.pack(events)
    assert log_document.unpack(document) == events
    assert json.loads(log_document.entries(document)) == [
        {"event": {"line": "line\nfeed", "data": {"b": [1, {"x": None}], "a": 1.5}}, "class": "event", "timestamp": 1},
        {"event": {"line": "", "data": {}}, "class": "info", "timestamp": 2},
    ]


def test_logs_written_before_and_after_training_are_read_alike_and_the_later_ones_are_smaller(stored, clock, tmp_path):
    count = logs.SAMPLES * 2
    simulated = list(simulation.calls(3, count, clock.now - DAY, clock.now - DAY // 2))

    async def work(store):
        account = await account_of(store)
        await store.load(records(account, simulated[: count // 2 + 200]))
        assert await store.train()
        assert not await store.train()
        await store.load(records(account, simulated[count // 2 + 200 :]))
        for call, events in simulated:
            found = await store.calls.log(account.id, call.session_id, since=0, details_since=0)
            assert (log_document.unpack(found.document) if found.document else []) == list(events)

    stored(work)
    averages = "SELECT dictionary, avg(length(document)) FROM logs GROUP BY dictionary"
    sizes = {number: float(size) for number, size in stores.sql(tmp_path / "store0", averages)}
    assert sizes[1] < sizes[0] * 0.6


def test_the_dictionary_holds_what_many_calls_share_and_nothing_of_a_single_caller(stored, clock, tmp_path):
    def call(n):
        secret = f"My name is Secretname{n:05} and I live in Hiddenplace{n:05}"
        at = clock.now / 1000
        events = [
            {"timestamp": at, "class": "prompt", "line": "Welcome to the shared greeting of everybody who calls"},
            {"timestamp": at, "class": "event", "line": secret, "data": {"answer": secret, "nested": {"x": secret}}},
        ]
        return json.dumps({"session_id": f"s{n}", "start": at, "end": at, "events": events}).encode()

    async def work(store):
        account = await account_of(store)
        sent = [call(n) for n in range(logs.SAMPLES)]
        await store.load([Record(account=account, source="calls", raw=r, read=read_call(r, 32)) for r in sent])
        assert await store.train()

    stored(work)
    [(content,)] = stores.sql(tmp_path / "store0", "SELECT content FROM dictionaries")
    assert b"shared greeting" in content
    assert b"Secretname" not in content
    assert b"Hiddenplace" not in content


def test_a_search_finds_calls_by_all_of_the_words_in_their_own_account_only(stored, clock):
    async def work(store):
        ours, theirs = await account_of(store, "a@example.com"), await account_of(store, "b@example.com")
        for account in (ours, theirs):
            for n, line in enumerate(["Transfer to the kitchen", "Transfer to the garden", "Ünïcode prompt"]):
                at = clock.now / 1000 + n
                event = {"timestamp": at, "class": "info", "line": line}
                raw = json.dumps({"session_id": f"s{n}", "start": at, "end": at, "events": [event]}).encode()
                await store.load([Record(account=account, source="calls", raw=raw, read=read_call(raw, 32))])
        query = CallQuery(account_ids=(ours.id,), since=0, until=2**50, limit=10)

        async def found(*words, details_since=0):
            return [call.session_id for call in await store.calls.search(query, words, details_since)]

        assert await found("transfer") == ["s1", "s0"]
        assert await found("TRANSFER", "garden") == ["s1"]
        assert await found("unicode") == ["s2"]
        assert await found('gar"den OR kitchen') == []
        assert await found("transfer", details_since=clock.now + 1000) == ["s1"]

    stored(work)
