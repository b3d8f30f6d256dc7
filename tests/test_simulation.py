"""Simulated calls: the same again for the same seed, and shaped like the real thing."""

import random
import re
from collections import Counter
from decimal import Decimal
from itertools import islice, pairwise

import pytest

from callhouse.model.call import check
from callhouse.model.event import EVENT_CLASSES
from callhouse.model.instant import DAY, HOUR, MINUTE
from callhouse.simulation import SimulatedCall, call_starting, calls
from callhouse.simulation.scripts import HANG_UP

SINCE = 1_760_000_000_000
UNTIL = SINCE + 3 * DAY
COUNT = 6000
STATIC = [
    "type",
    "has_audio",
    "revision_id",
    "prompt_id_type",
    "prompt_id",
    "language",
    "module_type",
    "result_variable",
]
DYNAMIC = ["type", "language", "module_type", "result_variable"]


@pytest.fixture(scope="module")
def made() -> list[SimulatedCall]:
    return list(calls(7, COUNT, SINCE, UNTIL))


@pytest.fixture(scope="module")
def events(made):
    return [event for _, events in made for event in events]


def test_the_same_arguments_give_the_same_calls(made):
    assert list(calls(7, COUNT, SINCE, UNTIL)) == made


def test_another_seed_gives_other_calls(made):
    others = list(calls(8, COUNT, SINCE, UNTIL))
    assert not {c.call.call_uuid for c in others} & {c.call.call_uuid for c in made}
    assert [c.call.start for c in others] != [c.call.start for c in made]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 101, 1000])
@pytest.mark.parametrize("seed", range(5))
def test_as_many_calls_come_as_were_asked_for(seed, count):
    assert sum(1 for _ in calls(seed, count, SINCE, UNTIL)) == count


def test_calls_without_time_to_place_them_in_are_refused():
    with pytest.raises(ValueError, match="until must be after since"):
        next(calls(1, 1, SINCE, SINCE))


@pytest.mark.parametrize("length", [1, 1000, HOUR, 40 * DAY])
def test_every_start_lies_in_the_span_of_time(length):
    for since in (0, SINCE, SINCE + 12345):
        assert all(since <= c.call.start < since + length for c in calls(3, 300, since, since + length))


def test_calls_come_oldest_first_but_for_transfer_legs(made):
    starts = [c.call.start for c in made if c.call.direction != "transfer"]
    assert starts == sorted(starts)


def test_more_calls_come_by_day_than_by_night(made):
    hours = Counter(c.call.start // HOUR % 24 for c in made)
    assert min(hours[hour] for hour in range(14, 22)) > 3 * max(hours[hour] for hour in range(3, 10))


def test_each_direction_has_its_share():
    shares = Counter(c.call.direction for c in calls(1, 20_000, SINCE, UNTIL))
    assert shares["inbound"] == pytest.approx(16_000, abs=500)
    assert shares["outbound"] == pytest.approx(2_400, abs=300)
    assert shares["transfer"] == pytest.approx(1_600, abs=300)


@pytest.mark.parametrize("length", [1, 1000, MINUTE, 3 * DAY])
def test_no_session_id_comes_twice_however_dense_the_calls(length):
    sessions = [c.call.session_id for c in calls(2, 20_000, SINCE, SINCE + length)]
    assert len(set(sessions)) == len(sessions)


def test_session_id_is_server_channel_and_the_second_the_channel_was_ready(made):
    for call, _ in made:
        server, channel, ready = re.fullmatch(r"(\d{6});(\d{3});(\d{10})", call.session_id).groups()
        assert 0 <= call.start // 1000 - int(ready) < 120
        assert call.channel == str(int(channel))
        assert server[0] in "1234"


def test_a_channel_carries_one_call_at_a_time(made):
    spans = {}
    for call, _ in made:
        spans.setdefault(call.session_id[:10], []).append((call.start, call.end))
    assert all(end < start for taken in spans.values() for (_, end), (start, _) in pairwise(sorted(taken)))


def test_call_uuids_are_unique_and_of_version_4(made):
    uuids = {c.call.call_uuid for c in made}
    assert len(uuids) == COUNT
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", uuid) for uuid in uuids)


def test_instants_durations_and_amounts_agree(made):
    for call, _ in made:
        check(call)
        talked = 0 if call.answer is None else call.end - call.answer
        assert call.duration == talked
        assert call.billed_duration % MINUTE == 0
        assert 0 <= call.billed_duration - talked < MINUTE
        assert call.amount == call.rate * Decimal(call.billed_duration) / MINUTE
        assert call.amount.as_tuple().exponent == -5


def test_numbers_are_ten_digits_of_nobody(made):
    for call, _ in made:
        assert re.fullmatch(r"\d{3}555\d{4}", call.dest)
        assert re.fullmatch(r"\d{3}555\d{4}", call.src) if call.src else call.direction == "outbound"


def test_a_few_people_call_often_and_most_seldom(made):
    often = Counter(c.call.src for c in made if c.call.direction == "inbound")
    assert often.most_common(1)[0][1] >= 5
    assert sum(1 for times in often.values() if times == 1) > len(often) / 2
    assert len({c.call.dest for c in made if c.call.direction == "inbound"}) < 20


def test_outbound_calls_may_hide_their_caller_id(made):
    sources = {c.call.src for c in made if c.call.direction == "outbound"}
    assert None in sources
    assert len(sources) > 1


def test_a_transfer_leg_follows_its_parent_and_lies_within_it(made):
    legs = [(parent, leg) for (parent, _), (leg, _) in pairwise(made) if leg.direction == "transfer"]
    assert len(legs) == sum(c.call.direction == "transfer" for c in made) > 0
    for parent, leg in legs:
        assert leg.parent_call_uuid == parent.call_uuid
        assert leg.src == parent.src
        assert parent.answer <= leg.start <= leg.end <= parent.end


def test_only_transfer_legs_have_a_parent(made):
    assert all((c.call.parent_call_uuid is not None) == (c.call.direction == "transfer") for c in made)


def test_an_unanswered_call_is_outbound_and_has_no_events(made):
    unanswered = [c for c in made if c.call.answer is None]
    assert {c.call.hangup_cause_code for c in unanswered} == {3000, 3010}
    for call, events in unanswered:
        assert call.direction == "outbound"
        assert events == ()
        assert call.duration == call.billed_duration == call.amount == 0


def test_an_answered_call_has_events_and_the_cause_of_its_end(made):
    for call, events in made:
        if call.answer is not None:
            cause = (call.hangup_cause_code, call.hangup_cause_name)
            left = events[-2].line == "Exiting application"
            assert cause == ((4010, "End Of XML Instructions") if left else (4000, "Normal Hangup"))
            assert call.hangup_source == ("Plivo" if left else "Caller" if call.direction == "inbound" else "Callee")


def test_events_are_in_order_and_end_with_the_call(made):
    for call, events in made:
        times = [event.timestamp for event in events]
        assert times == sorted(times)
        if times:
            assert times[0] == call.answer
            assert times[-1] == call.end


def test_a_log_opens_with_the_application_and_closes_with_the_disconnection(made):
    for call, events in made:
        if events:
            line = f'Executing application "{call.application_name}" version "{call.application_version}"'
            assert (events[0].class_, events[0].line) == ("info", line)
            assert list(events[0].data.items()) == [("module_type", "start"), ("result_variable", "start")]
            assert (events[-1].class_, events[-1].line) == ("event", "Disconnecting call")


def test_each_class_of_event_occurs(events):
    assert {event.class_ for event in events} == set(EVENT_CLASSES)


def test_a_rest_failure_and_a_script_error_occur(events):
    errors = [event for event in events if event.class_ == "error"]
    assert {event.data["module_type"] for event in errors} == {"rest", "eval_js"}
    assert any(event.line.startswith("ReferenceError: ") for event in errors)


def test_module_and_variable_close_the_data_of_every_event(events):
    assert all(list(event.data)[-2:] == ["module_type", "result_variable"] for event in events)


def test_prompts_have_the_keys_of_their_type_in_order(events):
    for event in events:
        if event.class_ == "prompt":
            is_static = event.data["type"] == "static"
            assert list(event.data) == (STATIC if is_static else DYNAMIC)
            assert event.line.endswith(" (say-as: prompt)") != is_static


def test_each_prompt_text_has_an_id_of_its_own(events):
    texts = {(event.data["prompt_id"], event.line) for event in events if "prompt_id" in event.data}
    assert len({prompt_id for prompt_id, _ in texts}) == len(texts) > 20


def test_a_mail_says_to_whom_it_went_and_what_it_said(made):
    for _, events in made:
        for before, event in pairwise(events):
            if event.line == "Sent":
                assert (before.class_, before.line, event.class_) == ("info", "Sending", "debug")
                assert list(event.data) == ["to", "subject", "body", "module_type", "result_variable"]


def test_what_was_keyed_in_comes_back_later(made):
    spoken = 0
    for _, events in made:
        keyed = [event.line.split()[2] for event in events if event.line.startswith("User input: ")]
        for event in events:
            if event.data["module_type"] == "email" and "order" in event.data.get("subject", ""):
                assert event.data["subject"] == f"Your order {keyed[1]}"
                spoken += 1
    assert spoken


def test_no_gap_in_a_text_is_left_open(events):
    for event in events:
        assert not re.search(r"[{}#|%]|callback|\(hang up\)", event.line + str(event.data.get("body"))), event
    assert HANG_UP not in {event.data["result_variable"] for event in events}


@pytest.mark.parametrize("line", ["No input", "No match", "Transfer result: noanswer", "User input: true (dtmf)"])
def test_callers_hesitate_err_and_find_nobody(events, line):
    assert any(event.class_ == "event" and event.line == line for event in events)


def test_a_log_is_seldom_short_and_never_endless(made):
    lengths = sorted(len(events) for _, events in made if events)
    assert 7 <= lengths[len(lengths) // 2] <= 20
    assert lengths[0] >= 3
    assert lengths[-1] < 200


def test_calls_are_made_as_they_are_taken():
    assert len(list(islice(calls(1, 10**9, SINCE, UNTIL), 5))) == 5


def test_a_live_call_starts_when_told_and_is_finished():
    rng = random.Random(4)
    for second in range(300):
        call, events = call_starting(rng, SINCE + second * 1000)
        check(call)
        assert call.start == SINCE + second * 1000
        assert call.is_complete
        assert call.direction in {"inbound", "outbound"}
        assert bool(events) == (call.answer is not None)


def test_live_calls_share_no_session_with_each_other_or_with_the_past(made):
    rng = random.Random(4)
    live = {call_starting(rng, SINCE).call.session_id for _ in range(2000)}
    assert len(live) == 2000
    assert not {session[:6] for session in live} & {c.call.session_id[:6] for c in made}
