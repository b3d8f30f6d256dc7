"""What was had is had, what was not is asked for, and what may have changed is asked for again."""

from hypothesis import given
from hypothesis import strategies as st

from callhouse.mirror.place import Place, parsed, written
from callhouse.mirror.upstreams import upstreams
from callhouse.mirror.work import Work, floor
from callhouse.wire import Window

SECOND = 1_000
HOUR = 3_600 * SECOND
LONG = 10**12

windows = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda w: Window(w[0], w[0] + w[1]))
steps = st.lists(st.tuples(st.booleans(), windows, st.integers(0, 200)), max_size=30)


@given(steps, st.integers(0, 100))
def test_every_instant_is_had_or_in_a_gap_and_never_in_both(taken, overlap):
    place, had = Place(), set()
    for covers, window, late in taken:
        instants = set(range(window.since, window.until))
        if covers:
            place, had = place.cover(window, window.until + late, overlap), had | instants
        else:
            place, had = place.forget(window), had - instants
    missing = {instant for gap in place.gaps(0, 100) for instant in range(gap.since, gap.until)}
    assert missing == set(range(100)) - had
    assert {i for span in place.spans for i in range(span.since, span.until)} == had
    assert all(a.until <= b.since for a, b in zip(place.spans, place.spans[1:], strict=False))
    assert parsed(written(place)) == place


@given(st.integers(1, 10_000), st.lists(st.integers(1, 600), min_size=1, max_size=60))
def test_what_comes_late_is_found_before_it_is_three_times_as_late(lateness, pauses):
    """One looks again after each of *pauses*, and whenever something is due a second later."""
    overlap, now, place = LONG, 0, Place().cover(Window(-100, 0), 0, LONG)
    for pause in pauses:
        now += pause
        for window in place.stale(now, 10, overlap):
            place = place.cover(window, now, overlap)
        read = min(span.read for span in place.spans)
        # Not read since it came, although it came long ago: then the next look would have been due.
        if read < lateness <= now:
            assert now < 2 * max(read, 10) + max(pauses)


def test_a_day_followed_by_the_minute_is_read_few_times_and_told_in_few_spans():
    day, minute = 24 * HOUR, 60 * SECOND
    place, readings = Place(), 0
    for now in range(minute, 3 * day, minute):
        for window in [*place.gaps(0, now), *place.stale(now, minute, day)]:
            place = place.cover(window, now, day)
            readings += window.until - window.since
    assert len(place.spans) < 60
    # An instant is read when it is a minute old, two, four, until it is a day old.
    assert readings / (3 * day) < 20
    assert place.spans[0].until > day
    assert place.gaps(0, 3 * day - minute) == []


def test_what_was_read_when_it_was_older_than_the_overlap_is_not_read_again():
    place = Place().cover(Window(0, HOUR), 10 * HOUR, 5 * HOUR)
    assert place.stale(1_000 * HOUR, 1, 5 * HOUR) == []
    assert Place().cover(Window(0, HOUR), 2 * HOUR, 5 * HOUR).stale(3 * HOUR, 1, 5 * HOUR) == [Window(0, HOUR)]


@given(
    st.sampled_from(sorted(upstreams())), st.integers(1, 5_000), st.integers(1, 200_000),
    st.lists(st.tuples(st.integers(0, 90_000), st.integers(0, 3_000)), min_size=1, max_size=30),
)  # fmt: skip
def test_all_windows_begin_and_end_on_seconds_however_often_is_asked_and_however_late(api, every, overlap, steps):
    now = LONG + 123
    work, place = Work(upstreams()[api], now - 2 * HOUR - 7, overlap, every), Place()
    for pause, late in steps:
        now += pause
        for _ in range(8):
            window = work.next(place, [], now, floor(now))
            if window is None:
                break
            assert window.since % SECOND == window.until % SECOND == 0
            assert window.since < window.until
            now += late
            place = place.cover(window, now, overlap)
