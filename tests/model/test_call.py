"""Parts of a call: which of two that contradict each other counts."""

import itertools

from callhouse.model.call import UNKNOWN_CAUSE, UNKNOWN_CAUSE_NAME, Call, merge


def test_an_end_that_was_guessed_makes_way_for_one_that_was_told_whatever_comes_first():
    begun = Call(session_id="c", start=1_000, answer=2_000)
    told = Call(session_id="c", end=9_000, hangup_original_code="17", hangup_original_scheme="q850")
    guess = Call(
        session_id="c",
        start=1_000,
        end=3_000,
        duration=1_000,
        billed_duration=1_000,
        hangup_cause_code=UNKNOWN_CAUSE,
        hangup_cause_name=UNKNOWN_CAUSE_NAME,
    )
    for one, two, three in itertools.permutations([begun, told, guess]):
        call = merge(merge(one, two), three)
        assert (call.start, call.answer, call.end, call.duration) == (1_000, 2_000, 9_000, None)
        assert (call.hangup_cause_code, call.hangup_cause_name, call.hangup_original_code) == (None, None, "17")


def test_a_guess_at_the_end_counts_where_nothing_was_told():
    guess = Call(session_id="c", end=3_000, hangup_cause_code=UNKNOWN_CAUSE, hangup_cause_name=UNKNOWN_CAUSE_NAME)
    call = merge(guess, Call(session_id="c", start=1_000))
    assert (call.start, call.end, call.has_unknown_end) == (1_000, 3_000, True)
