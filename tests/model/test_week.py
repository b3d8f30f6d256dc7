"""Hours of the week hold exactly the instants that a clock of the zone shows in them."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callhouse.model.instant import DAY, MINUTE
from callhouse.model.week import WeekHour

ZONES = [
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Beirut",
]
# Weeks in which clocks are changed, and in which a day was left out (Apia, December 2011).
WEEKS = [1_325_203_200_000, 1_698_537_600_000, 1_711_843_200_000, 1_696_032_000_000, 1_700_000_000_000]


@settings(max_examples=150, deadline=None)
@given(
    weekday=st.one_of(st.none(), st.integers(0, 6)),
    hour=st.one_of(st.none(), st.integers(0, 23)),
    zone=st.sampled_from(ZONES),
    week=st.sampled_from(WEEKS),
    offset=st.integers(-3 * DAY, 3 * DAY),
    length=st.integers(0, 8 * DAY),
)
@example(None, 2, "Europe/Berlin", WEEKS[1], 0, DAY)
@example(None, 0, "Asia/Beirut", WEEKS[2], -DAY, 3 * DAY)
def test_the_spans_are_all_instants_of_the_hour_and_no_others(weekday, hour, zone, week, offset, length):
    since, until = week + offset, week + offset + length
    asked = WeekHour(weekday, hour, ZoneInfo(zone))
    spans = list(asked.spans(since, until, newest_first=False))
    assert list(asked.spans(since, until, newest_first=True)) == spans[::-1]
    assert all(since <= low < high <= until for low, high in spans)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))
    for instant in range(since, until, 15 * MINUTE):
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant)).astimezone(ZoneInfo(zone))
        is_wanted = weekday in {None, local.weekday()} and hour in {None, local.hour}
        assert any(low <= instant < high for low, high in spans) == is_wanted, local


@pytest.mark.parametrize("newest_first", [False, True])
def test_no_time_has_no_spans(newest_first):
    assert list(WeekHour(None, None, UTC).spans(5, 5, newest_first=newest_first)) == []
