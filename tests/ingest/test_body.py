"""A body is taken apart into records whatever form it has, and one broken record never costs the others."""

import gzip
import json

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from callhouse.errors import TooLarge, Unreadable
from callhouse.ingest.body import decode
from callhouse.ingest.body import split as split_up_to


def split(body, content_type):
    return split_up_to(body, content_type, 1000)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
records = st.lists(st.dictionaries(st.text(max_size=5), json_values, max_size=3), min_size=1, max_size=5)


@given(records)
def test_an_array_an_indented_array_and_ndjson_hold_the_same_records(sent):
    array = split(json.dumps(sent).encode(), "application/json")
    indented = split(json.dumps(sent, indent=2, ensure_ascii=False).encode(), "application/json")
    lines = split("\r\n".join(map(json.dumps, sent)).encode(), "application/x-ndjson")
    for given_records in (array, indented, lines):
        assert [json.loads(record) for record in given_records] == sent


@given(
    records, st.integers(0, 4), st.sampled_from([b"{broken}", b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b"7"])
)
def test_a_broken_member_of_an_array_leaves_the_others_whole(sent, at, broken):
    members = [json.dumps(record).encode() for record in sent]
    members.insert(min(at, len(members)), broken)
    assert split(b"[" + b" , ".join(members) + b"]", "application/json") == members


def test_a_member_that_nests_without_end_leaves_the_others_whole():
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert split(b'[{"b":1},' + deep + b',{"c":2}]', "application/json") == [b'{"b":1}', deep, b'{"c":2}']


def test_one_object_over_several_lines_is_one_record():
    body = json.dumps({"session_id": "s", "start": 1}, indent=2).encode()
    assert split(body, "application/json") == [body]


def test_lines_of_objects_are_ndjson_even_without_its_content_type():
    assert split(b'{"a":1}\n{"b":2}\n', "application/x-www-form-urlencoded") == [b'{"a":1}', b'{"b":2}']


def test_an_empty_array_holds_no_records():
    assert split(b" [] ", "application/json") == []


@pytest.mark.parametrize(
    "body", [b"", b"  \n", b"hello", b"7", b'"text"', b"<cdr/>", b"[1,2", b'[{"a":1}', b'[{"a":1}] x', b"\xff\xfe"]
)
def test_a_body_that_holds_nothing_readable_is_refused_whole(body):
    with pytest.raises(Unreadable):
        split(body, "application/json")


def test_ndjson_without_a_single_object_is_refused_whole():
    with pytest.raises(Unreadable):
        split(b"a\nb\n", "application/x-ndjson")


@given(st.binary(max_size=3000))
def test_gzip_and_zstd_give_the_same_bytes_back(body):
    assert decode(gzip.compress(body), "gzip", 3000) == body
    assert decode(zstandard.compress(body), "zstd", 3000) == body
    two = body[: len(body) // 2], body[len(body) // 2 :]
    assert decode(b"".join(map(gzip.compress, two)), "x-gzip", 3000) == body
    assert decode(b"".join(map(zstandard.compress, two)), " ZSTD ", 3000) == body


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_bomb_is_too_large_before_it_unfolds(encoding):
    compress = gzip.compress if encoding == "gzip" else zstandard.compress
    bomb = compress(bytes(200_000_000))
    assert len(bomb) < 300_000
    with pytest.raises(TooLarge):
        decode(bomb, encoding, 1_000_000)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_is_cut_short_or_damaged_is_refused_whole(encoding):
    compress = gzip.compress if encoding == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress
    whole = compress(json.dumps([{"session_id": str(n)} for n in range(500)]).encode())
    for damaged in (whole[:-5], whole[:10], b"junk", whole[:20] + b"\0\0\0\0" + whole[24:]):
        with pytest.raises(Unreadable):
            decode(damaged, encoding, 1_000_000)


def test_an_unknown_encoding_is_named_as_such():
    with pytest.raises(Unreadable, match="gzip or zstd"):
        decode(b"x", "br", 100)


@pytest.mark.parametrize(
    "cut", [b'[{"session_id":"a"},"' + b'\\"' * 1_000_000, b'[{"s":"' + b"a" * 10_000_000, b"[" + b'"' * 3_000_001]
)
def test_a_long_body_cut_off_within_a_string_is_refused_without_reading_it_over_and_over(cut):
    # Quadratic time would take hours here.
    with pytest.raises(Unreadable):
        split(cut, "application/json")


@pytest.mark.parametrize("body", [b"[" + b"1," * 20_000_000 + b"1]", json.dumps([{"a": "b" * 20}] * 1001).encode()])
def test_more_records_than_allowed_are_too_large(body):
    with pytest.raises(TooLarge, match="1000 records"):
        split(body, "application/json")
