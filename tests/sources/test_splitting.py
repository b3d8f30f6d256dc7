"""Lines in, records out: what is one record where, and that nothing of a body is lost on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callhouse import sources
from callhouse.discovery import discover
from callhouse.sources import LineSplitter, Source, cuts
from callhouse.sources.asterisk.split import MAX_LINES
from callhouse.sources.asterisk.split import Splitter as AsteriskSplitter

SPLITTERS = {source.name: source.splitter for source in discover(sources, Source) if source.splitter is not None}


def split(body, splitter=LineSplitter):
    return list(cuts(splitter(), body))


def test_a_record_comes_with_the_number_of_the_line_that_it_begins_with():
    assert split(b'\n{"a":1}\r\n\n{\n"b":2\n}\n{"c":3}') == [(2, b'{"a":1}'), (4, b'{\n"b":2\n}'), (7, b'{"c":3}')]
    assert split(b"x,y\n\nz") == [(1, b"x,y"), (3, b"z")]


def test_a_broken_object_costs_no_other_line_of_json():
    assert split(b'{"a":\n{"b":1}\n{"c":1}\n') == [(1, b'{"a":'), (2, b'{"b":1}'), (3, b'{"c":1}')]


def test_objects_over_several_lines_follow_one_another():
    assert split(b'{\n "a": 1\n}\n{\n "b": 2\n}\n') == [(1, b'{\n "a": 1\n}'), (4, b'{\n "b": 2\n}')]


def test_a_row_is_known_to_be_whole_with_its_line():
    for make in SPLITTERS.values():
        assert [record for _, record in make().take(1, b"a,b,c\n")] == [b"a,b,c"]
        assert [record for _, record in make().take(1, b'{"a":1}\n')] == [b'{"a":1}']


def test_an_open_quote_takes_in_only_so_many_lines():
    lines = [b'"a,b\n', *[b"c\n"] * (MAX_LINES + 5)]
    assert split(b"".join(lines), AsteriskSplitter) == [(at, line.strip()) for at, line in enumerate(lines, start=1)]


def test_the_records_of_an_array_of_rows_are_its_members():
    for make in SPLITTERS.values():
        assert split(b"[\n]", make) == []
        assert split(b'\xef\xbb\xbf[\n{"a":1},\n{\n}\n]', make) == [(2, b'{"a":1}'), (3, b"{\n}")]
        assert split(b'[{"a":1}, {"b", {"c":3}]', make) == [(1, b'{"a":1}'), (1, b'{"b", {"c":3}]')]


LINES = st.lists(
    st.sampled_from(
        [b"{", b"}", b'{"a":1}', b'"x', b'y"', b"a,b,c", b"<cdr>", b"</cdr>", b"", b" ", b"cdr=1", b"[", b"]", b'"q",1']
    ),
    max_size=30,
)


@pytest.mark.parametrize("make", SPLITTERS.values(), ids=SPLITTERS)
@given(lines=LINES)
def test_every_line_is_in_one_record_and_in_its_place(make, lines):
    body = b"\n".join(lines)
    found = list(cuts(make(), body))
    # What stands between the members of an array is in none of them.
    between = b"[], \n" if body.strip()[:1] == b"[" else b" \n"
    assert b"".join(record for _, record in found).translate(None, between) == body.translate(None, between)
    numbers = [number for number, _ in found]
    assert numbers == sorted(numbers)
    if body.strip()[:1] == b"[":
        return
    for number, record in found:
        assert b"\n".join(lines[number - 1 :]).startswith(record) or b"\n".join(lines[number - 1 :]).strip().startswith(
            record
        )
