"""Whatever was sent, changed and expired, figures and filtered lists are what counting all calls in Python gives."""

import asyncio
import itertools
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import stores
from callhouse.model.account import Retention
from callhouse.model.instant import DAY, HOUR, MINUTE
from callhouse.model.number import number_key
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call
from callhouse.store import by_end, open_store, totals
from callhouse.store.check import check_store

NOW = 1_700_000_000_000
KEEP = Retention(details=5 * DAY, sessions=60 * DAY, plivo=60 * DAY)
NUMBERS = [None, "8005550100", "+18005550100", "+49 30 1234", "anonymous", "2125550000"]
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]
CAUSES = [None, 0, 4000, 3010, 12_345]
SOURCES = [None, "Caller", "Callee", "somebody"]
VERIFICATIONS = [None, "Verified", "Not Verified"]

instants = st.one_of(
    st.integers(NOW - 70 * DAY, NOW),
    # Round the retention's horizon, the end of summer time, the edges of hours and days, and many at once.
    st.integers(NOW - 60 * DAY - 5 * HOUR, NOW - 60 * DAY + 5 * HOUR),
    st.integers(1_698_537_600_000, 1_698_545_000_000),
    st.builds(lambda n, d: (NOW // HOUR - n) * HOUR + d, st.integers(0, 60 * 24), st.sampled_from([-1, 0, 1])),
    st.sampled_from([NOW - 3 * DAY, NOW - 3 * DAY + 1, NOW - 3 * DAY + 2]),
)
lengths = st.one_of(st.integers(0, 3), st.integers(0, 20 * MINUTE), st.integers(3 * HOUR, 5 * HOUR), st.just(9 * DAY))


@st.composite
def calls(draw):
    start, length = draw(instants), draw(lengths)
    end = draw(st.sampled_from([start + length, start + length, None]))
    fields = {
        "session_id": f"s{draw(st.integers(0, 12)):02}",
        "start": start / 1000,
        "end": None if end is None else end / 1000,
        "answer": draw(st.sampled_from([None, start / 1000])),
        "duration": draw(st.sampled_from([None, 0, 61.5])),
        "billed_duration": draw(st.sampled_from([None, 120])),
        "direction": draw(st.sampled_from([None, "inbound", "outbound", "transfer"])),
        "src": draw(st.sampled_from(NUMBERS)),
        "dest": draw(st.sampled_from(NUMBERS)),
        "hangup_cause_code": draw(st.sampled_from(CAUSES)),
        "hangup_source": draw(st.sampled_from(SOURCES)),
        "stir_verification": draw(st.sampled_from(VERIFICATIONS)),
        "parent_call_uuid": draw(st.sampled_from([None, "p"])),
        "application_name": draw(st.sampled_from([None, "Orders", "Clinic"])),
    }
    steps = draw(st.lists(st.sampled_from([None, "menu", "exit"]), max_size=2))
    events = [
        {
            "timestamp": start / 1000,
            "seq": n,
            "class": draw(st.sampled_from(["info", "error"])),
            "line": "x",
            "data": {} if step is None else {"result_variable": step, "module_type": "m"},
        }
        for n, step in enumerate(steps)
    ]
    given_fields = {field: value for field, value in fields.items() if value is not None}
    return {**given_fields, "events": events} if events else given_fields


# What is sent to which account, the time that goes by, and the expiry of what is too old then.
steps = st.one_of(
    st.tuples(st.just("send"), st.integers(0, 1), st.lists(calls(), min_size=1, max_size=6)),
    st.tuples(st.just("wait"), st.sampled_from([HOUR, DAY, 6 * DAY])),
    st.tuples(st.just("expire")),
    st.tuples(st.just("settle")),
)


class Bench:
    """One store for many examples, each with accounts of its own."""

    def __init__(self, directory):
        self.runner = asyncio.Runner()
        self.directory = directory
        self.now = NOW
        self.emails = (f"{n}@example.com" for n in itertools.count())
        self.store = self.run(open_store(stores.location(directory), retention=KEEP, clock=lambda: self.now))

    def run(self, work):
        return self.runner.run(work)

    def account(self):
        made = self.store.accounts.create(
            email=next(self.emails), login=None, plan="standard", timezone="UTC", parent_id=None
        )
        return self.run(made)[0]

    def do(self, accounts, step):
        match step:
            case ("send", n, sent):
                records = []
                for record in sent:
                    raw = json.dumps(record).encode()
                    records.append(Record(account=accounts[n], source="calls", raw=raw, read=read_call(raw, 32)))
                self.run(self.store.load(records))
            case ("wait", length):
                self.now += length
            case ("expire",):
                for account in accounts:
                    while self.run(self.store.expire(account)):
                        pass
            case ("settle",):
                for account in accounts:
                    while self.run(self.store.settle(account)):
                        pass

    def known(self, account):
        """The account's complete calls that are shown, as dicts, read row by row."""
        columns = {
            "session_id": "session_id", "start": "started", "end": "ended", "answer": "answered", "src": "src",
            "duration": "duration", "billed": "billed_duration", "direction": "coalesce(direction, 'inbound')",
            "dest": "dest", "cause": "cause_code", "source": "hangup_source", "verification": "stir_verification",
            "parent": "parent_call_uuid", "application": "application_name",
        }  # fmt: skip
        sql = f"""
        SELECT {", ".join(columns.values())} FROM calls
        WHERE account_id = :id AND +started >= :shown AND +ended IS NOT NULL
        """
        shown = account.retention.calls_since(self.now)
        rows = self.run(self.store._engine.quick(lambda reader: reader.rows(sql, {"id": account.id, "shown": shown})))
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def last_steps(self, account):
        """The last step of each log that is kept."""
        found = {}
        for call in self.known(account):
            log = self.run(self.store.calls.log(account.id, call["session_id"], since=0, details_since=0))
            if log is not None and log.document is not None:
                for entry in msgspec.json.decode(log.document.split(b"\n")[0]):
                    if "result_variable" in entry["event"]["data"]:
                        found[call["session_id"]] = entry["event"]["data"]["result_variable"]
        return found

    def close(self):
        self.run(self.store.close())
        self.runner.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = Bench(tmp_path_factory.mktemp("figures"))
    yield bench
    bench.close()


def talk(call):
    if call["duration"] is not None:
        return call["duration"]
    return None if call["answer"] is None else call["end"] - call["answer"]


def peak(calls, since, until):
    """The most calls under way at an instant of the window: at its beginning, or where another one begins."""
    at = [since, *(call["start"] for call in calls if since <= call["start"] < until)]
    return max((sum(call["start"] <= t < call["end"] for call in calls) for t in at), default=0)


def expected_heat(calls, zone):
    heat = [[0] * 24 for _ in range(7)]
    for call in calls:
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=call["start"])).astimezone(ZoneInfo(zone))
        heat[local.weekday()][local.hour] += 1
    return heat


def is_answered(call):
    if call["answer"] is not None or call["duration"] is not None:
        return call["answer"] is not None or call["duration"] > 0
    return call["end"] > call["start"] and call["cause"] in {None, 4000}


def expected_course(found, calls, since, until, zone):
    """The course covers the period without a gap and counts every call once, by what the clock of the zone says."""
    assert [found.course[0].since, found.course[-1].until] == [since, until] if length_of(found) else not found.course
    assert all(one.until == other.since for one, other in itertools.pairwise(found.course))
    for stretch in found.course:
        assert stretch.calls == sum(stretch.since <= call["start"] < stretch.until for call in calls)
    for stretch in found.course[1:]:
        begin = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stretch.since)).astimezone(ZoneInfo(zone))
        assert (begin.minute, begin.second, begin.microsecond) == (0, 0, 0)
        assert until - since <= 50 * HOUR or begin.hour == 0
        assert until - since <= 100 * DAY or begin.weekday() == 0


def length_of(found):
    return found.until - found.since


def key(number):
    return None if number is None else number_key(number)


filters = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["number", "either", "either"]), st.sampled_from(NUMBERS[1:])),
        st.tuples(
            st.sampled_from(["src_prefix", "dest_prefix"]), st.sampled_from(["800", "+1", "4", "18005550100", "a"])
        ),
        st.tuples(st.just("directions"), st.sampled_from([("inbound",), ("outbound", "transfer")])),
        st.tuples(st.just("hangup_cause_code"), st.sampled_from(CAUSES[1:])),
        st.tuples(st.just("hangup_source"), st.sampled_from(SOURCES[1:])),
        st.tuples(st.just("stir_verification"), st.sampled_from(VERIFICATIONS[1:])),
        st.tuples(st.sampled_from(["talk_from", "talk_until"]), st.sampled_from([1, 61_500])),
        st.tuples(st.just("parent_call_uuid"), st.sampled_from(["p", "q"])),
    ),
    min_size=1,
    max_size=2,
).map(dict)
histories = st.lists(steps, min_size=1, max_size=12)
windows = st.tuples(instants, st.one_of(st.integers(0, 3 * HOUR), st.integers(0, 130 * DAY)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=histories,
    asked=st.lists(
        st.tuples(windows, st.sampled_from(ZONES), st.sampled_from([(0,), (1,), (0, 1)])), min_size=3, max_size=6
    ),
)
def test_figures_are_what_counting_all_calls_gives(bench, history, asked):
    bench.now = NOW
    accounts = [bench.account(), bench.account()]
    for step in history:
        bench.do(accounts, step)
    known = [bench.known(account) for account in accounts]
    last_steps = [bench.last_steps(account) for account in accounts]
    for (since, length), zone, which in asked:
        until = since + length
        found = bench.run(bench.store.figures.of([accounts[n] for n in which], since, until, zone))
        inside = [call for n in which for call in known[n] if since <= call["start"] < until]
        assert found.calls == len(inside)
        assert found.billed == sum(call["billed"] or 0 for call in inside)
        assert dict(found.directions) == dict(Counter(call["direction"] for call in inside))
        causes = Counter(call["cause"] if call["cause"] != 12_345 else None for call in inside)
        assert {share.code: share.calls for share in found.causes} == dict(causes)
        assert found.heat == expected_heat(inside, zone)
        assert found.peak == peak([call for n in which for call in known[n]], since, until) * (length > 0)
        applications = Counter(call["application"] for call in inside if call["application"])
        assert {share.name: share.calls for share in found.applications} == dict(applications)
        ended = Counter(
            (call["application"] or "", last_steps[n][call["session_id"]])
            for n in which
            for call in known[n]
            if since <= call["start"] < until and call["session_id"] in last_steps[n]
        )
        assert {(share.application, share.name): share.calls for share in found.steps} == dict(ended)
        answered = [call for call in inside if is_answered(call)]
        assert found.answered == len(answered)
        lengths = [talk(call) for call in answered]
        assert found.talk == sum(
            call["end"] - call["start"] if length is None else length
            for call, length in zip(answered, lengths, strict=True)
        )
        expected_course(found, inside, since, until, zone)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    history=histories,
    asked=st.lists(
        st.fixed_dictionaries(
            {
                "window": windows,
                "which": st.sampled_from([(0,), (1,), (0, 1)]),
                "limit": st.integers(1, 8),
                "offset": st.integers(0, 8),
                "filters": filters,
                "oldest_first": st.booleans(),
            }
        ),
        min_size=6,
        max_size=10,
    ),
    few=st.sampled_from([0, 2, 5_000]),
    many=st.sampled_from([1, 3, 5_000]),
    merged=st.sampled_from([1, 2, 100]),
)
def test_a_filtered_list_and_its_total_are_what_filtering_in_python_gives(bench, history, asked, few, many, merged):
    before = by_end.FEW, by_end.MERGED, totals.MANY, totals.SAMPLED
    by_end.FEW, by_end.MERGED, totals.MANY, totals.SAMPLED = few, merged, many, 2
    try:
        bench.now = NOW
        accounts = [bench.account(), bench.account()]
        for step in history:
            bench.do(accounts, step)
        known = [bench.known(account) for account in accounts]
        for each in asked:
            _compare(bench, accounts, known, dict(each))
    finally:
        by_end.FEW, by_end.MERGED, totals.MANY, totals.SAMPLED = before


@pytest.mark.parametrize("many", [3, 5_000])
def test_every_filter_of_many_calls_of_which_some_are_no_longer_shown_is_exact(bench, many, monkeypatch):
    monkeypatch.setattr(totals, "MANY", many)
    monkeypatch.setattr(totals, "SAMPLED", 2)
    bench.now = NOW
    rng = random.Random(11)
    account = bench.account()
    horizon = NOW - 60 * DAY
    sent = []
    for n in range(400):
        start = horizon + rng.randrange(9 * HOUR)
        fields = {
            "session_id": f"s{n:03}",
            "start": start / 1000,
            "end": (start + rng.choice([MINUTE, HOUR, 5 * HOUR])) / 1000,
            "direction": rng.choice(["inbound", "outbound"]),
            "src": rng.choice(NUMBERS[1:]),
            "dest": rng.choice(NUMBERS[1:]),
            "hangup_cause_code": rng.choice(CAUSES[1:]),
            "hangup_source": rng.choice(SOURCES[1:]),
        }
        sent.append(fields)
    bench.do([account], ("send", 0, sent))
    # Those that began in the first hours are hidden now, and not yet removed.
    bench.now += 3 * HOUR
    known = [bench.known(account)]
    assert 100 < len(known[0]) < 380
    asked = [
        *({"either": number} for number in NUMBERS[1:]),
        *({"number": number} for number in NUMBERS[1:]),
        *({"hangup_cause_code": code} for code in CAUSES[1:]),
        *({"hangup_source": source, "directions": ("inbound",)} for source in SOURCES[1:]),
        {"either": NUMBERS[1], "directions": ("outbound",)},
        {"src_prefix": "800", "hangup_source": "Caller"},
    ]
    for each, since, oldest_first in itertools.product(asked, (0, 2 * HOUR + 7, 4 * HOUR), (False, True)):
        window = horizon + since, rng.randrange(30 * MINUTE, 9 * HOUR)
        page = {"limit": 20, "offset": rng.choice([0, 5]), "oldest_first": oldest_first}
        _compare(bench, [account], known, {"window": window, "which": (0,), "filters": each, **page})
    found = bench.run(bench.store.figures.of([account], horizon, NOW, "UTC"))
    own = {key(call["src" if call["direction"] == "outbound" else "dest"]) for call in known[0]}
    calls = {number: sum(number in {key(call["src"]), key(call["dest"])} for call in known[0]) for number in own}
    assert {share.name: share.calls for share in found.numbers} == calls
    bench.do([account], ("settle",))


def _compare(bench, accounts, known, each):
    since, length = each.pop("window")
    which = each.pop("which")
    chosen = each.pop("filters")
    fields = {**each, **chosen, "since": since, "until": since + length}
    for clock in ("start", "end"):
        named = which if clock == "end" else which[:1]
        shown = tuple(accounts[n].retention.calls_since(bench.now) for n in named)
        asked = CallQuery(account_ids=tuple(accounts[n].id for n in named), shown_since=shown, **fields)
        if clock == "start":
            asked = msgspec.structs.replace(asked, since=max(since, shown[0]), shown_since=())
            page = bench.run(bench.store.calls.page(asked, ("start", "session_id")))
        else:
            asked = msgspec.structs.replace(asked, oldest_first=False)
            page = bench.run(bench.store.calls.page_by_end(asked, ("start", "session_id")))
        matching = sorted(
            (
                (call["start"], call["session_id"])
                for n in named
                for call in known[n]
                if since <= call[clock] < since + length and _matches(call, asked)
            ),
            reverse=not asked.oldest_first,
        )
        assert page.total == len(matching)
        assert [tuple(row) for row in page.rows] == matching[asked.offset : asked.offset + asked.limit]


def _matches(call, asked):
    length = talk(call)
    return (
        (asked.number is None or key(call["dest"]) == key(asked.number))
        and (asked.either is None or key(asked.either) in {key(call["src"]), key(call["dest"])})
        and (asked.src_prefix is None or (call["src"] or "").lstrip("+").startswith(asked.src_prefix.lstrip("+")))
        and (asked.dest_prefix is None or (call["dest"] or "").lstrip("+").startswith(asked.dest_prefix.lstrip("+")))
        and (not asked.directions or call["direction"] in asked.directions)
        and asked.hangup_cause_code in {None, call["cause"]}
        and asked.hangup_source in {None, call["source"]}
        and asked.stir_verification in {None, call["verification"]}
        and asked.parent_call_uuid in {None, call["parent"]}
        and (asked.talk_from is None or (length is not None and length >= asked.talk_from))
        and (asked.talk_until is None or (length is not None and length < asked.talk_until))
    )


def test_totals_and_peaks_agree_with_the_calls_after_all_of_this(bench):
    report = check_store(stores.location(bench.directory), lambda *_: None)
    assert report.findings == []
    assert report.checked["totals"]
    assert report.checked["hour_peaks"]
