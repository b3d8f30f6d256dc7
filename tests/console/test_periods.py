"""Which period a dashboard shows, and which one stands beside it."""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from callhouse.console.comparison import change
from callhouse.console.panels import Known, Links, tiles
from callhouse.console.periods import parse
from callhouse.errors import BadParameter
from callhouse.model.figures import Figures
from callhouse.model.instant import DAY, HOUR, MINUTE, SECOND

BERLIN = ZoneInfo("Europe/Berlin")


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN).timestamp()) * SECOND


NOW = at("2026-03-30T09:30:00") - 1


@pytest.mark.parametrize(
    ("last", "since", "until", "before_since", "before_until"),
    [
        # The day before had 23 hours.
        ("today", "2026-03-30", "2026-03-30T09:30", "2026-03-29", "2026-03-29T10:30"),
        ("yesterday", "2026-03-29", "2026-03-30", "2026-03-28", "2026-03-29"),
        ("24h", "2026-03-29T09:30", "2026-03-30T09:30", "2026-03-28T08:30", "2026-03-29T09:30"),
    ],
)
def test_days_are_those_of_the_zone(last, since, until, before_since, before_until):
    period = parse({"last": last}, NOW, BERLIN)
    assert (period.since, period.until) == (at(since), at(until))
    assert (period.before_since, period.before_until) == (at(before_since), at(before_until))
    assert period.preset == last


def test_a_range_is_beside_the_one_of_the_same_length_that_leads_up_to_it():
    period = parse({"since": "2026-03-01T00:00", "until": "2026-03-04T00:00"}, NOW, BERLIN)
    assert (period.since, period.until) == (at("2026-03-01"), at("2026-03-04"))
    assert (period.before_since, period.before_until) == (at("2026-02-26"), at("2026-03-01"))
    assert parse({"until": "2026-03-04T00:00"}, NOW, BERLIN).since == at("2026-02-25")
    assert parse({"since": "2026-03-30T00:00"}, NOW, BERLIN).until == NOW + 1
    assert parse({}, NOW, BERLIN).preset == "7d"


def test_a_leap_year_is_a_year_and_a_day_more_is_not():
    assert parse({"since": "2024-01-01T00:00", "until": "2025-01-01T00:00"}, NOW, BERLIN).until == at("2025-01-01")
    with pytest.raises(BadParameter):
        parse({"since": "2024-01-01T00:00", "until": "2025-01-01T00:01"}, NOW, BERLIN)


@pytest.mark.parametrize(
    ("value", "before", "text", "trend"),
    [
        (120, 100, "+20 (+20 %)", "up"),
        (1_000, 1_001, "−1 (−0.1 %)", "down"),
        (0, 5, "−5 (−100 %)", "down"),
        (5, 0, "+5", "up"),
        (0, 0, "±0", "same"),
        (12_345_678, 2, "+12,345,676 (+617,283,800 %)", "up"),
    ],
)
def test_a_change_is_told_in_all_and_in_percent_where_there_was_something(value, before, text, trend):
    found = change(value, before)
    assert (found.text, found.trend) == (text, trend)


@pytest.mark.parametrize(
    ("name", "value", "before"),
    [
        ("Average call duration", {"talk": 79_900, "answered": 2}, {"talk": 92_000, "answered": 2}),
        ("Answer-seizure ratio", {"answered": 12_344}, {"answered": 10_256}),
        ("Minutes", {"talk": 30.6 * MINUTE}, {"talk": 20.4 * MINUTE}),
        ("Minutes", {"talk": 9.16 * MINUTE}, {"talk": 4.04 * MINUTE}),
    ],
)
def test_a_difference_is_that_of_the_two_figures_as_they_are_shown(name, value, before):
    zeros = dict.fromkeys(Figures.__struct_fields__, 0)
    known = Known(calls=0, errors=0, logs=0, oldest=0, compares=True, compares_errors=True, compares_steps=True)
    counted = {"calls": 100_000, "answered": 100_000, "talk": 0}
    figures = [Figures(**{**zeros, **counted, **each}) for each in (value, before)]
    [tile] = [each for each in tiles(*figures, Links(0, 1), Links(0, 1), known, 0) if each.name == name]

    def number(text):
        parts = [float(part) for part in re.findall(r"[\d.]+", text.partition("(")[0])]
        return parts[0] * 60 + parts[1] if ":" in text else parts[0]

    assert number(tile.change.text) == pytest.approx(abs(number(tile.value) - number(tile.change.before)))


def test_there_is_no_change_of_what_is_not_known():
    assert change(None, 5) is None
    assert change(5, None) is None
    assert change(0.5, 0.25, is_ratio=True).text == "+25.0 points"
    assert change(2 * HOUR, DAY, written=lambda ms: f"{ms:.0f}").trend == "down"
