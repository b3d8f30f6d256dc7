"""The list that a person looks through: the same calls, in the same order, as looking at each of them would give."""

import asyncio
import itertools
import json
import random
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import apsw
import msgspec
import pytest

from callhouse.model.browsing import COMPLETE, CallFilter, Count, Place, Search
from callhouse.model.instant import DAY, HOUR
from callhouse.model.number import number_key
from callhouse.model.record import Record
from callhouse.model.step import Step
from callhouse.model.week import WeekHour
from callhouse.sources.native import read_call
from callhouse.store import browsing
from callhouse.store.browsing import FOREVER

NOW = 1_700_000_000_000
NUMBERS = ["6175550101", "+1 (617) 555-0101", "8005550100", None]
CAUSES = [None, 0, 1000, 3000, 3010, 3020, 3080, 3100, 4000, 4010, 5010, 12_345]
LONG_NAME = "Orders of a shop " * 9
APPLICATIONS = ["Orders", "Clinic", LONG_NAME, None]
STEPS = [Step("menu", "m"), Step("menu", "n"), Step('"exit"', "")]
BERLIN = ZoneInfo("Europe/Berlin")
LINES = ["Welcome", "Goodbye", "Card declined"]


def calls(seed, count):
    """Calls of every kind over ten days, some at the same instants, some in progress, some not begun."""
    rng = random.Random(seed)
    for n in range(count):
        start = NOW - rng.randrange(10) * DAY - rng.randrange(50) * HOUR // 2
        length = rng.choice([0, 1, 5, 59, 60, 600, 600, 5 * 3_600])
        call = {"session_id": f"s{n}", "src": rng.choice(NUMBERS), "dest": rng.choice(NUMBERS)}
        call["direction"] = rng.choice(["inbound", "outbound", "transfer", None])
        call["application_name"] = rng.choice(APPLICATIONS)
        call["hangup_cause_code"] = rng.choice(CAUSES)
        if rng.random() < 0.1:
            call["sip_call_id"] = "one@sip"
        state = rng.random()
        if state > 0.03:
            call["start"] = start / 1000
        if state > 0.15:
            call["end"] = start / 1000 + length
            if rng.random() < 0.5:
                call["answer"] = start / 1000
            elif rng.random() < 0.5:
                call["duration"] = rng.choice([0, length])
            event = {"timestamp": start / 1000, "class": "info", "line": rng.choice(LINES)}
            if step := rng.choice([None, *STEPS]):
                event["data"] = {"result_variable": step.name, "module_type": step.type}
            events = [event] if rng.random() < 0.7 else []
            if rng.random() < 0.2:
                events.append({"timestamp": start / 1000, "class": "error", "line": "It failed"})
            call["events"] = events
        yield {name: value for name, value in call.items() if value is not None}


async def filled(store, clock, seed=1, count=400):
    """Two accounts with the same calls; the first one's id, and what it sent."""
    clock.now = NOW
    sent = list(calls(seed, count))
    for email in ("a@x", "b@x"):
        account, _ = await store.accounts.create(
            email=email, login=None, plan="standard", timezone="UTC", parent_id=None
        )
        raws = [json.dumps(call).encode() for call in sent]
        records = [Record(account=account, source="calls", raw=raw, read=read_call(raw, 32)) for raw in raws]
        assert all(outcome.refusal is None for outcome in await store.load(records))
    return 1, sent


def everything(account_id, **asked):
    usual = {"since": 0, "until": FOREVER, "details_since": NOW - 5 * DAY, "errors_since": NOW - 8 * DAY}
    return CallFilter(account_id=account_id, **{**usual, **asked})


def status(call):
    """What became of a call, said in another way than the store says it."""
    if "start" not in call or "end" not in call:
        return "in progress"
    cause = call.get("hangup_cause_code")
    lasted = call["end"] > call["start"] and "duration" not in call and (cause is None or 4000 <= cause < 5000)
    if "answer" in call or call.get("duration", 0) > 0 or lasted:
        return "answered"
    if cause in {3010, 3100}:
        return "busy"
    return "unanswered" if cause in {None, 0, 1000, 3000, 3020, 3110, 6010, 9000, 4000, 4010} else "failed"


def test_as_many_calls_are_answered_as_the_totals_count(stored, clock):
    async def work(store):
        account_id, _ = await filled(store, clock)
        account = await store.accounts.get(account_id)
        figures = await store.figures.of([account], NOW - 20 * DAY, NOW + HOUR, "UTC")
        answered = await store.browsing.count(everything(account_id, statuses=("answered",)))
        of_them = await store.browsing.count(
            everything(account_id, statuses=("answered", "busy", "unanswered", "failed"))
        )
        assert (answered.calls, of_them.calls) == (figures.answered, figures.calls)
        assert 0 < answered.calls < of_them.calls

    stored(work)


def last_step(call):
    """Where the log of a call that is over ends."""
    steps = [Step(data["result_variable"], data["module_type"]) for event in call.get("events", ())
             if (data := event.get("data"))]  # fmt: skip
    has_log = "start" in call and "end" in call and call["end"] * 1000 >= NOW - 5 * DAY
    return steps[-1] if steps and has_log else None


def week(week_hour):
    return week_hour.weekday, week_hour.hour


def has_errors(call):
    late = "start" in call and "end" in call and call["start"] * 1000 >= NOW - 8 * DAY
    return late and any(event["class"] == "error" for event in call.get("events", ()))


def matches(asked, call):  # noqa: C901, PLR0911, PLR0912 — a filter has that many parts
    start, end = call.get("start"), call.get("end")
    if start is None:
        if asked.until < FOREVER:
            return False
    elif not asked.since <= start * 1000 < asked.until:
        return False
    if asked.directions and call.get("direction", "inbound") not in asked.directions:
        return False
    if asked.statuses and status(call) not in asked.statuses:
        return False
    if asked.application is not None and call.get("application_name") != asked.application:
        return False
    if asked.number is not None and asked.number not in [
        number_key(call[side]) for side in ("src", "dest") if side in call
    ]:
        return False
    if asked.last_step is not None and (call.get("application_name", ""), last_step(call)) != asked.last_step:
        return False
    if asked.under_way is not None and (start is None or not start * 1000 <= asked.under_way < (end or NOW) * 1000):
        return False
    if asked.week_hour is not None:
        local = None if start is None else datetime.fromtimestamp(start, UTC).astimezone(asked.week_hour.zone)
        clock = (None, None) if local is None else (local.weekday(), local.hour)
        if any(wanted not in {None, at} for wanted, at in zip(week(asked.week_hour), clock, strict=True)):
            return False
    if asked.without_cause and call.get("hangup_cause_code") not in {None, 12_345}:
        return False
    if asked.cause_code is not None and call.get("hangup_cause_code") != asked.cause_code:
        return False
    length = None if start is None or end is None else round((end - start) * 1000)
    if asked.shortest is not None and (length is None or length < asked.shortest):
        return False
    if asked.longest is not None and (length is None or length >= asked.longest):
        return False
    if asked.has_errors is not None and has_errors(call) != asked.has_errors:
        return False
    search = asked.search
    if search is None:
        return True
    if search.text in (call["session_id"], call.get("sip_call_id")):
        return True
    if search.number and search.number in [number_key(call[side]) for side in ("src", "dest") if side in call]:
        return True
    if search.number is None and search.text in (call.get("src"), call.get("dest")):
        return True
    said = " ".join(event["line"] for event in call.get("events", ())).lower()
    shown = end is not None and end * 1000 >= asked.details_since
    return bool(search.words) and shown and start is not None and all(word.lower() in said for word in search.words)


def order(call):
    return ("start" not in call, call.get("start", 0), call["session_id"])


ASKED = [
    {},
    {"since": NOW - 2 * DAY},
    {"since": NOW - 5 * DAY, "until": NOW - DAY},
    {"directions": ("outbound", "transfer")},
    {"statuses": ("answered",)},
    {"statuses": ("busy", "failed")},
    {"statuses": ("in progress",)},
    {"statuses": ("unanswered",), "directions": ("inbound",), "until": NOW - DAY},
    {"application": "Orders"},
    {"cause_code": 3010},
    {"shortest": 5_000, "longest": 60_000},
    {"has_errors": True},
    {"has_errors": True, "statuses": COMPLETE},
    {"statuses": COMPLETE},
    {"statuses": COMPLETE, "since": NOW - 6 * DAY - 1, "until": NOW - DAY + 1},
    {"without_cause": True, "statuses": COMPLETE},
    {"without_cause": True},
    {"application": LONG_NAME, "statuses": COMPLETE, "since": NOW - 6 * DAY - 1},
    {"number": "6175550101", "statuses": COMPLETE, "since": NOW - 6 * DAY - 1},
    {"number": "6175550101"},
    {"number": "6175550101", "search": Search(text="welcome", number=None, words=("welcome",))},
    {"number": "8005550100", "statuses": ("busy",)},
    {"number": "2", "statuses": COMPLETE},
    {"last_step": ("Orders", STEPS[0]), "statuses": COMPLETE, "since": NOW - 4 * DAY + 1},
    {"last_step": ("", STEPS[2])},
    {"under_way": NOW - 5 * DAY - 3 * HOUR},
    {"under_way": NOW - 5 * DAY - 3 * HOUR, "statuses": COMPLETE, "until": NOW - 5 * DAY},
    {"under_way": NOW - 5 * DAY - 3 * HOUR, "since": NOW - 5 * DAY - 6 * HOUR, "directions": ("inbound",)},
    {"week_hour": WeekHour(6, None, BERLIN), "since": NOW - 9 * DAY, "until": NOW},
    {"week_hour": WeekHour(3, 9, BERLIN), "since": NOW - 9 * DAY, "until": NOW, "statuses": COMPLETE},
    {"week_hour": WeekHour(None, 23, UTC), "since": NOW - 9 * DAY, "until": NOW, "application": "Orders"},
    {"has_errors": False, "application": "Clinic"},
    {"search": Search(text="(617) 555 0101", number="6175550101", words=())},
    {"search": Search(text="s17", number=None, words=("s17",))},
    {"search": Search(text="one@sip", number=None, words=("one@sip",))},
    {"search": Search(text="card DECLINED", number=None, words=("card", "DECLINED"))},
    {"search": Search(text="welcome", number=None, words=("welcome",)), "statuses": ("answered",)},
    {"search": Search(text="nothing", number=None, words=("nothing",))},
]


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: " ".join(map(str, asked)) or "everything")
def test_pages_either_way_and_the_count_are_what_looking_at_every_call_gives(stored, clock, asked):
    async def work(store):
        account_id, sent = await filled(store, clock)
        wanted = everything(account_id, **asked)
        expected = sorted((call for call in sent if matches(wanted, call)), key=order, reverse=True)
        names = [call["session_id"] for call in expected]
        begun = [call["session_id"] for call in expected if "start" in call]
        assert await store.browsing.count(wanted) == Count(len(names))
        walked, place = [], None
        while True:
            page = await store.browsing.page(wanted, 7 if place else 40, place)
            walked += [call.session_id for call in page.calls]
            last = [call for call in page.calls if call.start is not None]
            if not page.goes_on:
                break
            place = Place(last[-1].start, last[-1].session_id)
        assert sorted(walked[: len(names) - len(begun)]) == sorted(names[: len(names) - len(begun)])
        assert walked[len(names) - len(begun) :] == begun
        back = []
        place = Place(0, "")
        while True:
            page = await store.browsing.page(wanted, 9, place, newer=True)
            back = [call.session_id for call in page.calls] + back
            if not page.goes_on:
                break
            place = Place(page.calls[0].start, page.calls[0].session_id)
        assert back == begun
        whole = await store.browsing.whole(wanted, 1_000)
        assert sorted(each.call.session_id for each in whole) == sorted(names)
        for each in whole:
            call = next(call for call in sent if call["session_id"] == each.call.session_id)
            assert each.listed.status == status(call), call
            assert bool(each.listed.has_errors) == has_errors(call), call

    stored(work)


def test_a_page_does_not_shift_when_newer_calls_come(stored, clock):
    async def work(store):
        account_id, _ = await filled(store, clock)
        asked = everything(account_id)
        first = await store.browsing.page(asked, 50)
        place = Place(first.calls[-1].start, first.calls[-1].session_id)
        before = await store.browsing.page(asked, 50, place)
        account = await store.accounts.get(account_id)
        for n in range(60):
            raw = json.dumps({"session_id": f"new{n}", "start": NOW / 1000 + 1, "end": NOW / 1000 + 2}).encode()
            await store.load([Record(account=account, source="calls", raw=raw, read=read_call(raw, 32))])
        assert await store.browsing.page(asked, 50, place) == before
        newer = await store.browsing.page(
            asked, 50, Place(before.calls[0].start, before.calls[0].session_id), newer=True
        )
        begun = [call for call in first.calls if call.start is not None]
        assert newer.calls[-len(begun) :] == begun

    stored(work)


def test_when_time_runs_out_a_page_says_how_far_it_looked_and_the_next_one_goes_on_there(stored, clock, monkeypatch):
    monkeypatch.setattr(browsing, "PATIENCE", -1.0)

    async def work(store):
        account_id, sent = await filled(store, clock)
        asked = everything(account_id, statuses=("busy",))
        walked, place, pages = [], None, 0
        while True:
            page = await store.browsing.page(asked, 1_000, place)
            walked += [call.session_id for call in page.calls]
            if page.reached is None:
                break
            monkeypatch.setattr(browsing, "PATIENCE", 60.0 if pages else -1.0)
            place, pages = Place(page.reached, ""), pages + 1
        expected = sorted((call for call in sent if status(call) == "busy"), key=order, reverse=True)
        assert walked == [call["session_id"] for call in expected]
        assert pages == 2
        monkeypatch.setattr(browsing, "PATIENCE", -1.0)
        # What the totals tell needs no time.
        assert await store.browsing.count(asked) == Count(len(walked))
        lasting = everything(account_id, statuses=("busy",), shortest=1_000)
        counted = await store.browsing.count(lasting)
        assert (counted.calls, counted.reached) == (0, FOREVER)
        matching = sum(matches(lasting, call) for call in sent)
        assert (await store.browsing.count(lasting, patient=True)).calls == matching

    stored(work)


def test_no_filter_and_no_search_shows_another_accounts_calls(stored, clock):
    async def work(store):
        account_id, _ = await filled(store, clock, count=100)
        stranger, _ = await store.accounts.create(
            email="c@x", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        for asked in ASKED:
            wanted = everything(stranger.id, **asked)
            assert (await store.browsing.page(wanted, 50)).calls == []
            assert await store.browsing.count(wanted) == Count(0)
            assert await store.browsing.whole(wanted, 50) == []
        assert await store.browsing.one(stranger.id, "s17", 0, 0) is None
        assert await store.browsing.of_sip_call(stranger.id, "one@sip", 0) == []
        assert await store.browsing.applications(stranger.id, 0) == []
        assert (await store.browsing.one(account_id, "s17", 0, 0)).session_id == "s17"

    stored(work)


def test_the_legs_of_a_call_are_those_around_it_and_nobody_elses(stored, clock):
    async def work(store):
        clock.now = NOW
        legs = [("a", None), ("b", "uuid a"), ("c", "uuid a"), ("d", "uuid c"), ("e", None), ("f", "uuid e")]
        for email in ("a@x", "b@x"):
            account, _ = await store.accounts.create(
                email=email, login=None, plan="standard", timezone="UTC", parent_id=None
            )
            for n, (name, parent) in enumerate(legs):
                call = {"session_id": name, "call_uuid": f"uuid {name}", "start": NOW / 1000 + n, "end": NOW / 1000 + 9}
                raw = json.dumps({**call, **({"parent_call_uuid": parent} if parent else {})}).encode()
                await store.load([Record(account=account, source="calls", raw=raw, read=read_call(raw, 32))])
        for name, around, made in (("a", "abc", 2), ("b", "abc", 0), ("c", "abcd", 1), ("d", "cd", 0), ("f", "ef", 0)):
            call = await store.browsing.one(1, name, 0, 0)
            assert call.legs == made
            assert [leg.session_id for leg in await store.browsing.legs(1, call, 0)] == list(around)

    stored(work)


INDEXES = {
    "session_id = :text": "calls_by_session",
    "call_uuid = :text": "calls_by_uuid",
    "sip_call_id = :text": "calls_by_sip_call_id",
    "dest_key = :number": "calls_by_dest",
    "src_key = :number": "calls_by_src",
    "dest_key = :of_number": "calls_by_dest",
    "src_key = :of_number": "calls_by_src",
    "account_id = :account_id": "calls_by_start",
}
"""The index of each walk, by the condition that it begins with."""


@pytest.mark.sqlite_only
def test_every_walk_keeps_to_an_index_that_narrows_down_more_than_the_account(stored, clock, tmp_path):
    seen = {}

    def hook(connection):
        connection.set_exec_trace(lambda _cursor, sql, values: seen.setdefault(sql, values) is not None or True)

    async def work(store):
        account_id, _ = await filled(store, clock, count=20)
        seen.clear()
        for asked, place in itertools.product(ASKED, (None, Place(NOW, "x"))):
            wanted = everything(account_id, **asked)
            for newer in (False, True):
                await store.browsing.page(wanted, 50, place, newer=newer)
            await store.browsing.count(wanted)
            await store.browsing.whole(wanted, 50, place)
        call = await store.browsing.one(account_id, "s1", 0, 0)
        await store.browsing.legs(account_id, msgspec.structs.replace(call, parent_call_uuid="x"), 0)
        await store.browsing.of_sip_call(account_id, "x", 0)
        await store.browsing.applications(account_id, 0)
        await store.calls.whole(account_id, "s1", since=0, details_since=0)

    apsw.connection_hooks.append(hook)
    try:
        stored(work)
    finally:
        apsw.connection_hooks.remove(hook)
    connection = apsw.Connection(str(tmp_path / "store0" / "callhouse.db"))
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    asked = {sql: values for sql, values in seen.items() if "FROM calls" in sql}
    assert len(asked) > 20
    for sql, values in asked.items():
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        steps = [step for step in plan if " calls " in step or " legs " in step]
        wide = [step for step in steps if step.startswith("SCAN") or "(account_id=?)" in step]
        assert all("calls_in_progress" in step for step in wide), (sql, plan)
        # The few calls that hold a rare word are looked up and sorted; others are met among those that have a log.
        looked_up, is_whole = "AND id IN (" in sql, "UNION" not in sql and "FROM totals" not in sql
        has_log = "event_count > 0" in sql
        if has_log and is_whole and not looked_up:
            assert "calls_with_log" in steps[0], (sql, plan)
        for condition, index in INDEXES.items():
            if f"{condition} AND started IS NOT NULL" in sql and is_whole and not has_log:
                assert index in steps[0], (sql, plan)
        named = any(f"{column} = :" in sql for column in ("session_id", "call_uuid", "sip_call_id", "parent_call_uuid"))
        # The few that are long are sorted.
        if (
            "LIMIT" in sql
            and not any(index in str(plan) for index in ("calls_in_progress", "calls_that_are_long"))
            and not named
            and not looked_up
        ):
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, (sql, plan)


def test_a_store_that_is_written_to_meanwhile_gives_no_call_twice(stored, clock):
    async def work(store):
        account_id, sent = await filled(store, clock, count=200)
        account = await store.accounts.get(account_id)
        asked = everything(account_id)

        async def write():
            for n in range(200):
                raw = json.dumps({"session_id": f"n{n}", "start": NOW / 1000 - n, "end": NOW / 1000}).encode()
                await store.load([Record(account=account, source="calls", raw=raw, read=read_call(raw, 32))])

        writing = asyncio.create_task(write())
        walked, place = [], None
        while found := await store.browsing.whole(asked, 10, place):
            walked += [each.call.session_id for each in found]
            begun = [each.listed for each in found if each.listed.start is not None]
            if len(begun) < 10:
                break
            place = Place(begun[-1].start, begun[-1].session_id)
        await writing
        assert len(walked) == len(set(walked))
        assert {call["session_id"] for call in sent} <= set(walked)

    stored(work)
