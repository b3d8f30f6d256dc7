"""Heads of numbers tell exactly what a number begins with, and keys what two spellings have in common."""

from hypothesis import example, given
from hypothesis import strategies as st

from callhouse.model.number import LONGEST_KEY, heads, number_head, number_key

numbers = st.one_of(st.text("0123456789", max_size=18), st.text("019+- a٣", max_size=18))


@given(number=numbers, prefix=st.one_of(st.text("0123456789", min_size=1, max_size=15), st.just("1")))
@example("+14155550100", "1415")
@example("1", "10")
@example("123456789012345678", "123456789012345")
@example("1415-555", "14150")
def test_a_number_begins_with_digits_exactly_if_its_head_lies_between_theirs(number, prefix):
    first, end = heads(prefix)
    assert (first <= number_head(number) < end) == number.lstrip("+").startswith(prefix)


@given(prefix=st.text("019+- a٣", min_size=1, max_size=18))
def test_heads_say_nothing_of_a_prefix_that_is_longer_than_they_are_or_not_of_digits(prefix):
    assert (heads(prefix) is None) == (not (prefix.isascii() and prefix.isdigit() and len(prefix) <= 15))


@given(
    digits=st.text("0123456789", min_size=LONGEST_KEY - 2, max_size=LONGEST_KEY + 50),
    more=st.text("0123456789", min_size=1),
)
def test_a_key_is_no_longer_than_an_index_holds_and_tells_long_numbers_apart(digits, more):
    key, other = number_key(digits), number_key(digits + more)
    assert max(len(key), len(other)) <= LONGEST_KEY
    assert key != other
    assert key == number_key(" ".join(digits))
