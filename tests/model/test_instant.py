"""Durations as an operator writes them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callhouse.model.instant import LONGEST, format_duration, parse_duration


@given(st.integers(0, LONGEST))
@example(LONGEST)
@example(0)
def test_a_duration_is_read_as_it_is_written(duration):
    text = format_duration(duration)
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["101y", "36501d", "999999999y"])
def test_what_is_longer_than_a_hundred_years_is_refused_with_what_to_write_instead(text):
    with pytest.raises(ValueError, match=f"'{text}' is longer than 100y: write forever"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "d", "-1d", "1.5d", "5 days", "5D", "1d1h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="is no duration"):
        parse_duration(text)
