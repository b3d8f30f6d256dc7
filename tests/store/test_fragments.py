"""Rows of calls, however they arrive: the calls that all of them make, as if they had come at once."""

import itertools
import json
from collections import defaultdict

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callhouse.model import log as log_document
from callhouse.model.account import Retention
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.instant import DAY
from callhouse.model.query import CallQuery
from callhouse.model.record import Part, Record
from callhouse.sources.asterisk import Options, silence
from callhouse.sources.native import read_call, read_events
from callhouse.store import expiry, fragments
from sources.asterisk_rows import CDR, CDR_CUSTOM, CEL, cel, joined, read, rows_of

NOW = 1_795_250_000_000
FIELDS = ("src", "dest", "direction", "answer", "end", "hangup_original_code", "parent_call_uuid", "event_count")
FIELDS += ("start", "session_id")
FOREVER = Retention(details=None, sessions=None, plivo=None)
emails = (f"{n}@example.com" for n in itertools.count())


@pytest.fixture(autouse=True)
def now(clock):
    clock.now = NOW


async def account_of(store):
    account, _ = await store.accounts.create(
        email=next(emails), login=None, plan="standard", timezone="UTC", parent_id=None
    )
    return account


def record(account, row, source="asterisk"):
    return Record(account=account, source=source, raw=row, read=read(row))


async def send(store, account, rows):
    return await store.ingest([record(account, row) for row in rows])


async def answers(store, account):
    """All that can be seen of the account's complete calls: rows, total, logs, what a search finds and errors."""
    query = CallQuery(account_ids=(account.id,), since=0, until=2 * NOW, limit=1000)
    page = await store.calls.page(query, FIELDS)
    logs = {}
    for row in page.rows:
        found = await store.calls.log(account.id, row[-1], since=0, details_since=0)
        logs[row[-1]] = [] if found.document is None else log_document.unpack(found.document)
    searched = await store.calls.search(query, ["welcome"], 0)
    errors = await store.errors.read(account.id, (await store.errors.page(query)).rows)
    return page.rows, page.total, logs, [sorted(call.session_id for call in searched), errors]


ROWS = {file: rows_of(file) for file in (CEL, CDR, CDR_CUSTOM)}


@st.composite
def sendings(draw):
    """The rows of some of the twelve calls from some of the files, shuffled, some of them twice, cut into bodies."""
    files = draw(st.sampled_from([(CEL,), (CDR,), (CEL, CDR), (CEL, CDR, CDR_CUSTOM), (CDR, CDR_CUSTOM)]))
    groups = defaultdict(list)
    for row in itertools.chain(*(ROWS[file] for file in files)):
        groups[read(row).group].append(row)
    chosen = draw(st.lists(st.sampled_from(sorted(groups)), min_size=1, max_size=3, unique=True))
    rows = [row for name in chosen for row in groups[name]]
    sent = draw(st.permutations(rows + draw(st.lists(st.sampled_from(rows), max_size=5))))
    cuts = sorted(draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    bodies = [sent[a:b] for a, b in itertools.pairwise([0, *cuts, len(sent)]) if a < b]
    return rows, bodies


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sendings())
def test_rows_in_any_order_and_any_number_of_bodies_make_the_same_calls(stored, sending):
    rows, bodies = sending

    async def work(store):
        at_once, by_parts = await account_of(store), await account_of(store)
        assert all(outcome.refusal is None for outcome in await send(store, at_once, rows))
        for body in bodies:
            assert all(outcome.refusal is None for outcome in await send(store, by_parts, body))
        expected = await answers(store, at_once)
        assert await answers(store, by_parts) == expected
        assert expected[0]
        assert all(outcome.repeated for outcome in await send(store, by_parts, rows))
        assert await answers(store, by_parts) == expected

    stored(work, FOREVER)


def test_rows_one_by_one_make_the_calls_that_the_join_of_all_makes(stored):
    rows = [*reversed(ROWS[CEL]), *ROWS[CDR]]

    async def work(store):
        account = await account_of(store)
        for row in rows:
            [outcome] = await send(store, account, [row])
            assert (outcome.refusal, outcome.repeated) == (None, False)
        listed, total, logs, _ = await answers(store, account)
        expected = {s: p for s, p in joined(rows).items() if p.call.is_complete}
        assert total == len(listed) == len(expected)
        for row in listed:
            part = expected[row[-1]]
            assert row[:7] == tuple(getattr(part.call, field) for field in FIELDS[:7])
            assert logs[row[-1]] == list(part.events)
            assert row[7] == len(part.events)

    stored(work, FOREVER)


def test_a_repeat_in_one_body_is_a_repeat(stored):
    async def work(store):
        account = await account_of(store)
        row = ROWS[CEL][0]
        assert [outcome.repeated for outcome in await send(store, account, [row, row])] == [False, True]

    stored(work, FOREVER)


def test_accounts_and_sources_do_not_share_rows(stored):
    rows = [row for row in ROWS[CEL] if read(row).group == "lab1-1795213272.0"]

    async def work(store):
        one, other = await account_of(store), await account_of(store)
        await send(store, one, rows[:20])
        await send(store, other, rows[20:])
        assert (await answers(store, one))[1] == 0
        assert (await answers(store, one))[0] != (await answers(store, other))[0]
        await send(store, one, rows[20:])
        assert (await answers(store, one))[1] == 2

    stored(work, FOREVER)


def test_what_others_sent_of_a_call_outlives_each_new_join(stored):
    """An application that posts its own events and fields under the linkedid is not overruled by the rows."""
    session = "lab1-1795213272.0"
    rows = [row for row in ROWS[CEL] if read(row).group == session]
    own_event = {"timestamp": 1795213275, "class": "event", "line": "own", "data": {"a": 1}}

    def native(account, reader, sent):
        raw = json.dumps({"session_id": session, **sent}).encode()
        return Record(account=account, source="calls", raw=raw, read=reader(raw, 32))

    async def work(store):
        for order in itertools.permutations(range(3)):
            account = await account_of(store)
            steps = [
                [native(account, read_events, {"events": [own_event]})],
                [native(account, read_call, {"location": "Boston", "x-own": "kept"})],
                [record(account, row) for row in rows[:10]],
            ]
            for step in order:
                await store.ingest(steps[step])
            for row in rows[10:]:
                await store.ingest([record(account, row)])
            query = CallQuery(account_ids=(account.id,), since=0, until=2 * NOW, limit=10)
            page = await store.calls.page(query, ("location", "extra", "src", "event_count", "session_id"))
            [found] = [row for row in page.rows if row[-1] == session]
            assert (found[0], json.loads(found[1])["x-own"], found[2]) == ("Boston", "kept", "+14155550001")
            _, _, logs, _ = await answers(store, account)
            assert [event.line for event in logs[session]].count("own") == 1
            assert len(logs[session]) == len(joined(rows)[session].events) + 1 == found[3]

    stored(work, FOREVER)


def test_a_leg_that_gets_its_real_name_is_not_there_twice(stored):
    """A CDR alone names a leg by its channel; CEL, when it comes, by its uniqueid."""
    session = "lab1-1795213275.4"

    async def work(store):
        account = await account_of(store)
        await send(store, account, [row for row in ROWS[CDR] if read(row).group == session])
        rows, _, _, _ = await answers(store, account)
        assert {row[-1] for row in rows} == {session, f"{session}/Local/602@agents-00000003;1"}
        await send(store, account, [row for row in ROWS[CEL] if read(row).group == session])
        rows, total, logs, _ = await answers(store, account)
        assert {row[-1] for row in rows} == set(logs) == {session, "lab1-1795213277.6"}
        assert total == 2
        statistics = await store.statistics()
        assert statistics.rows["logs"] == 2
        assert statistics.rows["calls"] == 2

    stored(work, FOREVER)


def test_what_others_sent_of_a_leg_waits_when_it_gets_another_name(stored):
    session = "lab1-1795213275.4"
    name = f"{session}/Local/602@agents-00000003;1"

    async def work(store):
        account = await account_of(store)
        await send(store, account, [row for row in ROWS[CDR] if read(row).group == session])
        raw = json.dumps({"session_id": name, "events": [{"timestamp": 1795213277, "class": "info", "line": "x"}]})
        await store.ingest(
            [Record(account=account, source="events", raw=raw.encode(), read=read_events(raw.encode(), 32))]
        )
        await send(store, account, [row for row in ROWS[CEL] if read(row).group == session])
        statistics = await store.statistics()
        assert (statistics.rows["calls"], statistics.rows["waiting_events"]) == (2, 1)

    stored(work, FOREVER)


def test_an_event_does_not_wait_for_a_call_that_its_rows_tell_of_no_longer(stored):
    """A channel seems to come from another call until that is known to be without a beginning, not the channel."""
    bodies = [
        [cel("CHAN_START", 1, "SIP/3-03", "a.3"), cel("HANGUP", 5, "SIP/2-02<ZOMBIE>", "a.2")],
        [cel("HANGUP", 6, "SIP/1-01", "a.1")],
        [cel("CHAN_START", 1, "SIP/2-02", "a.2")],
    ]

    async def work(store):
        account = await account_of(store)
        waiting = []
        for body in bodies:
            await send(store, account, body)
            waiting.append((await store.statistics()).rows["waiting_events"])
        assert waiting == [1, 0, 0]
        _, _, logs, _ = await answers(store, account)
        assert [(event.line, event.data.get("channel")) for event in logs["a.2"]] == [
            ("Channel started", None),
            ("Hung up, cause unknown", "SIP/2-02<ZOMBIE>"),
        ]

    stored(work, FOREVER)


def test_a_call_in_progress_is_not_listed_and_its_events_do_not_wait(stored):
    rows = rows_of("odd/cel_of_call_lost_by_kill9.csv")

    async def work(store):
        account = await account_of(store)
        await send(store, account, rows)
        assert (await answers(store, account))[1] == 0
        assert (await store.statistics()).rows["waiting_events"] == 0

    stored(work, FOREVER)


SILENCE = silence(Options())
LOST_AFTER, LOST = SILENCE.limit, SILENCE.row


def test_a_call_cut_off_by_a_crash_is_closed_when_it_was_silent_for_long(stored, clock):
    rows = rows_of("odd/cel_of_call_lost_by_kill9.csv")

    async def work(store):
        account = await account_of(store)
        await send(store, account, rows)
        clock.now += LOST_AFTER - 1
        assert await store.close_lost(account, "asterisk", LOST, clock.now - LOST_AFTER) == 0
        clock.now += 2
        assert await store.close_lost(account, "asterisk", LOST, clock.now - LOST_AFTER) == 1
        assert await store.close_lost(account, "asterisk", LOST, clock.now - LOST_AFTER) == 0
        [row], total, logs, _ = await answers(store, account)
        assert total == 1
        assert row[4] == 1795214137219
        assert len(logs[row[-1]]) == len(rows)
        query = CallQuery(account_ids=(account.id,), since=0, until=2 * NOW, limit=10)
        fields = ("hangup_cause_code", "hangup_cause_name", "hangup_original_code", "hangup_source")
        assert (await store.calls.page(query, fields)).rows == [(0, "Unknown", None, None)]
        # It was not cut off after all: what comes now is the truth.
        channel, uniqueid = "SIP/127.0.0.1-0000001a", "lab1-1795214136.134"
        late = [
            cel("HANGUP", 214_200, channel, uniqueid, uniqueid, extra={"hangupcause": 16, "hangupsource": channel}),
            cel("LINKEDID_END", 214_200, channel, uniqueid, uniqueid),
        ]
        assert all(outcome.refusal is None for outcome in await send(store, account, late))
        [row], *_ = await answers(store, account)
        assert (row[4], row[5]) == (1795214200000, "16")

    stored(work, FOREVER)


def test_lost_calls_are_closed_in_small_chunks(stored, clock):
    async def work(store):
        account = await account_of(store)
        count = expiry.CHUNK + 7
        await send(store, account, [cel("CHAN_START", n, f"SIP/t-{n}", f"a.{n}", f"a.{n}") for n in range(count)])
        clock.now += DAY
        assert await store.close_lost(account, "asterisk", LOST, clock.now) == expiry.CHUNK
        assert await store.close_lost(account, "asterisk", LOST, clock.now) == 7
        assert (await answers(store, account))[1] == count

    stored(work, FOREVER)


def test_rows_go_with_the_log_and_a_repeat_of_them_is_still_known(stored, clock):
    rows = [row for row in ROWS[CEL] if read(row).group == "lab1-1795213272.0"]
    late = cel("DTMF", 213_275, "Local/press1@callers-00000000;1", "lab1-1795213272.0", "lab1-1795213272.0")

    async def work(store):
        account = await account_of(store)
        await send(store, account, rows)
        clock.now += DAY
        while await store.expire(account):
            pass
        assert (await answers(store, account))[1] == 2
        [outcome] = await send(store, account, [late])
        assert outcome.refusal is None
        clock.now += 4 * DAY
        while await store.expire(account):
            pass
        assert all(outcome.repeated for outcome in await send(store, account, rows))
        assert (await answers(store, account))[1] == 2
        [outcome] = await send(store, account, [cel("DTMF", 213_276, "SIP/t-1", "a.1", "lab1-1795213272.0")])
        assert "older than their retention" in outcome.refusal
        assert await store.quarantine.count(account.id) == 1
        clock.now += 10 * DAY
        while await store.expire(account):
            pass
        assert (await store.statistics()).rows["fragments"] == 0

    stored(work, Retention(details=2 * DAY, sessions=10 * DAY, plivo=10 * DAY))


def test_a_history_older_than_its_logs_is_joined_all_the_same(stored, clock):
    rows = [*ROWS[CEL], *ROWS[CDR]]

    async def work(store):
        account = await account_of(store)
        clock.now += 30 * DAY
        expired = 0
        for row in rows:
            [outcome] = await send(store, account, [row])
            assert outcome.refusal is None
            expired += outcome.expired_events
            while await store.expire(account):
                pass
        _, total, logs, _ = await answers(store, account)
        assert total == len([part for part in joined(rows).values() if part.call.is_complete])
        assert not any(logs.values())
        assert expired == len(ROWS[CEL])

    stored(work)


def test_calls_older_than_their_retention_are_refused_row_by_row(stored, clock):
    rows = [row for row in ROWS[CEL] if read(row).group == "lab1-1795213272.0"]

    async def work(store):
        account = await account_of(store)
        clock.now += 400 * DAY
        outcomes = await send(store, account, rows)
        assert {outcome.refusal for outcome in outcomes} == {"the call is older than its retention of 1y"}
        statistics = await store.statistics()
        assert (statistics.rows["fragments"], statistics.rows["calls"]) == (0, 0)
        assert statistics.rows["quarantine"] == len(rows)
        # What was refused is accepted when it is replayed under a longer retention.
        clock.now -= 400 * DAY
        for entry in await store.quarantine.list(account.id):
            raw = await store.quarantine.record(entry)
            assert (await store.replay(record(account, raw), entry.id)).refusal is None
        assert (await answers(store, account))[1] == 2
        assert await store.quarantine.count() == 0

    stored(work)


def test_a_call_of_too_many_rows_keeps_those_that_it_has(stored):
    rows = [row for row in ROWS[CEL] if read(row).group == "lab1-1795213272.0"]

    async def work(store):
        account = await account_of(store)
        assert all(outcome.refusal is None for outcome in await send(store, account, rows[:20]))
        outcomes = await send(store, account, [rows[20], rows[20], rows[0]])
        assert [outcome.refusal for outcome in outcomes] == ["the call has more than 20 rows"] * 2 + [None]

    stored(work, FOREVER, max_events=20)


def test_rows_that_cannot_be_kept_leave_everything_as_it_was(stored):
    """A leg that contradicts what another sender said of it costs its own rows, not those that were there before."""
    session = "lab1-1795213275.4"
    rows = [row for row in ROWS[CEL] if read(row).group == session]

    async def work(store):
        account = await account_of(store)
        contradiction = Call(session_id=session, start=1, answer=2)
        part = Part(session_id=session, call=contradiction, events=(Event(5, None, "info", "own", {}),))
        await store.ingest([Record(account=account, source="calls", raw=b"x", read=part)])
        first = [cel("CHAN_START", 213_275.2, "SIP/t-1", session, session, Exten="5", Context="from-trunk", Num="1")]
        outcomes = await send(store, account, first)
        assert [outcome.refusal for outcome in outcomes] == ["answer is before start"]
        assert (await store.statistics()).rows["fragments"] == 0
        outcomes = await send(store, account, rows)
        assert {outcome.refusal for outcome in outcomes} == {None}

    stored(work, FOREVER)


def test_an_error_is_in_the_list_of_errors_once_whatever_call_it_turns_out_to_be_of(stored):
    """Half of a Local channel seems to be a leg of its own until the other half is known."""
    said = {"hangupcause": 38, "hangupsource": "", "dialstatus": ""}
    rows = [
        cel("HANGUP", 5, "Local/1@x-01;2", "a.3", extra=said),
        cel("CHAN_START", 0, "SIP/t-01", "a.1", Exten="200", Context="from-trunk", Num="1"),
        cel("HANGUP", 6, "SIP/t-01", "a.1", extra={**said, "hangupcause": 34}),
        cel("LINKEDID_END", 6, "SIP/t-01", "a.1"),
        cel("CHAN_START", 1, "Local/1@x-01;1", "a.2", Exten="1", Context="x"),
        cel("CHAN_START", 1, "Local/1@x-01;2", "a.3", Exten="1", Context="x"),
    ]

    async def work(store):
        for order in itertools.permutations(rows):
            account = await account_of(store)
            for row in order:
                await send(store, account, [row])
            listed, total, _, (_, errors) = await answers(store, account)
            assert {row[-1] for row in listed} == {"a.1", "a.2"}
            assert total == 2
            assert [(row[1], row[-1]) for row in errors] == [("Hung up, cause 38", "a.2"), ("Hung up, cause 34", "a.1")]
            if order[0] is rows[3]:
                break
        assert (await store.statistics()).rows["call_errors"] % 2 == 0

    stored(work, FOREVER)


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (fragments._KNOWN, "sqlite_autoindex_fragments_1"),
        (fragments._SILENT, "fragments_in_progress"),
        (expiry._OLD_ROWS, "fragments_by_end"),
        (expiry._DROP_GROUPS, "sqlite_autoindex_fragments_1"),
    ],
)
def test_groups_are_found_through_an_index(stored, tmp_path, statement, index):
    async def nothing(_store):
        return None

    stored(nothing)
    connection = apsw.Connection(str(tmp_path / "store0" / "callhouse.db"))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", dict.fromkeys(PARAMETERS, 1))]
    [step] = [step for step in plan if " fragments " in step]
    assert f"INDEX {index} (" in step, plan
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


PARAMETERS = ("account_id", "name", "source", "before", "settled", "limit", "id")
