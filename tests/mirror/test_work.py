"""What is asked for next, and how much of it at once."""

from dataclasses import replace

from callhouse.mirror.place import Place
from callhouse.mirror.upstreams import upstreams
from callhouse.mirror.work import EVERYTHING, MARGIN, Work
from callhouse.wire import Window

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_000 * DAY
FUSE = upstreams()["fuse"]


def had(*windows):
    place = Place()
    for since, until in windows:
        place = place.cover(Window(NOW - since, NOW - until), NOW - until + 10 * DAY, DAY)
    return place


def wanted(place, upstream=FUSE, since=300 * DAY, busy=()):
    """The windows that are asked for one after the other, by their age in days, when all of them are empty."""
    work, found, now = Work(upstream, NOW - since, DAY, MINUTE), [], NOW
    while (window := work.next(place, busy, now, NOW)) is not None:
        found.append(((NOW - window.since) / DAY, (NOW - window.until) / DAY))
        place = place.cover(window, now + 10 * DAY, DAY)
        assert len(found) < 100
    return found


def test_what_is_new_goes_first_then_what_is_deleted_soon_then_the_rest_the_newest_first():
    place = had((200 * DAY, 100 * DAY), (90 * DAY, 6 * DAY), (4 * DAY, 2 * DAY), (DAY, 5 * MINUTE))
    # The logs of the last half day before five days are up are in danger.
    assert wanted(place) == [(5 * MINUTE / DAY, 0), (5, 4.5), (2, 1), (4.5, 4), (6, 5), (100, 90), (300, 200)]


def test_no_window_is_longer_than_the_vendor_allows_or_older_than_it_keeps():
    plivo = upstreams()["plivo"]
    windows = wanted(Place(), plivo)
    assert max(since - until for since, until in windows) <= 30
    assert max(since for since, _ in windows) <= 90 - MARGIN / DAY
    assert sum(since - until for since, until in windows) == 90 - MARGIN / DAY
    # What was read long ago and may have changed since is not asked for from before that either.
    stale = Place().cover(Window(NOW - 100 * DAY, NOW - 80 * DAY), NOW - 80 * DAY, DAY)
    assert max(since for since, _ in wanted(stale, plivo)) <= 90 - MARGIN / DAY


def test_what_others_are_busy_with_is_not_asked_for_twice():
    work = Work(FUSE, NOW - DAY, DAY, MINUTE)
    first = work.next(Place(), [], NOW, NOW)
    assert first == Window(NOW - DAY, NOW)
    assert work.next(Place(), [first], NOW, NOW) is None


def test_windows_become_as_wide_as_fits_and_never_narrower_than_a_second():
    upstream = replace(FUSE, longest=DAY, at_once=100, keeps_log=None)
    work = Work(upstream, NOW - 300 * DAY, DAY, MINUTE)

    def width():
        window = work.next(Place(), [], NOW - 200 * DAY, NOW - 200 * DAY)
        return window.until - window.since

    assert width() == DAY
    work.learn(Window(0, DAY), 2_400, was_too_wide=True)
    # A hundred an hour: seventy are to be in a window.
    assert width() == 42 * MINUTE
    work.learn(Window(0, 42 * MINUTE), 10, was_too_wide=False)
    assert width() == 4 * 42 * MINUTE
    # It changed while it was read, so half of it.
    work.learn(Window(0, 42 * MINUTE), 1, was_too_wide=True)
    assert width() == 21 * MINUTE
    for _ in range(30):
        work.learn(Window(0, 2_000), 10**6, was_too_wide=True)
    assert width() == 1_000
    assert work.at_most(Window(0, 1_000)) == EVERYTHING
    assert work.at_most(Window(0, 2_000)) == 100
