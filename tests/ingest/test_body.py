"""A body is taken apart into records whatever form it has, and one broken record never costs the others."""

import asyncio
import gzip
import json
import selectors

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from callhouse.errors import TooLarge, Unreadable
from callhouse.ingest.body import BODY_SECONDS, MAX_FRAMES, SILENCE_SECONDS, SLOWEST_RATE, decode, receive
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


def test_a_broken_object_over_several_lines_is_one_broken_record():
    body = b'{\n  "session_id": "\\ud800",\n  "events": [\n    {"line": "x"}\n  ]\n}'
    assert split(body, "application/json") == [body]


@pytest.mark.parametrize("lines", [[b'{"a":1', b'{"b":2}'], [b'{"a":1}', b"junk"], [b'{"a":1}', b' {"b":2}']])
def test_a_broken_line_leaves_the_others_whole(lines):
    assert split(b"\n".join(lines), "application/json") == [line.strip() for line in lines]


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


EMPTY = {"gzip": gzip.compress(b""), "zstd": zstandard.compress(b""), "skippable": b"\x50\x2a\x4d\x18\0\0\0\0"}


@pytest.mark.parametrize("kind", EMPTY)
def test_frames_without_end_that_hold_nothing_are_too_many(kind):
    encoding = "gzip" if kind == "gzip" else "zstd"
    assert decode(EMPTY[kind] * MAX_FRAMES, encoding, 1_000_000) == b""
    # Decoding them all would take seconds.
    with pytest.raises(TooLarge, match=f"more than {MAX_FRAMES} compressed frames"):
        decode(EMPTY[kind] * 1_000_000, encoding, 1_000_000)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_file_of_thousands_of_frames_that_were_appended_one_by_one_is_read(encoding):
    compress = gzip.compress if encoding == "gzip" else zstandard.compress
    lines = [b'{"session_id":"%d"}\n' % n for n in range(5_000)]
    assert decode(b"".join(map(compress, lines)), encoding, 1_000_000) == b"".join(lines)


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


class Skipping(selectors.DefaultSelector):
    """Has nothing to wait for but timers, so it lets their time pass at once."""

    skipped = 0

    def select(self, timeout=None):
        self.skipped += timeout or 0
        return super().select(0)


class Sending:
    """A request whose body comes as *pieces*, each after so many *seconds*."""

    def __init__(self, pieces, seconds):
        self._pieces, self._seconds = pieces, seconds

    async def stream(self):
        for piece in self._pieces:
            await asyncio.sleep(self._seconds)
            yield piece


def received(pieces, seconds, limit=10_000_000):
    """What receive gives for such a body, and how many seconds it waited; the clock is skipped over them."""
    selector = Skipping()
    loop = asyncio.SelectorEventLoop(selector)
    real = loop.time
    loop.time = lambda: real() + selector.skipped
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            return runner.run(receive(Sending(pieces, seconds), limit)), round(selector.skipped)
        except Unreadable as error:
            return str(error), round(selector.skipped)


TOO_LONG = "The body took too long to arrive."


def test_a_sender_that_drips_bytes_is_refused_when_the_grace_is_over():
    assert received([b"x"] * 1000, 1) == (TOO_LONG, SILENCE_SECONDS)
    assert received([b"x" * 100] * 10_000, 0.2) == (TOO_LONG, SILENCE_SECONDS)


def test_what_came_at_once_buys_time_only_in_proportion_to_its_size():
    first = b"x" * (100 * SLOWEST_RATE)
    assert received([first, *[b"x"] * 1000], 1)[1] == 100


def test_a_sender_that_stops_is_refused_after_the_silence_however_much_it_sent():
    first = b"x" * 5_000_000
    assert received([first, first], SILENCE_SECONDS - 1)[0] == first + first
    assert received([first, first], SILENCE_SECONDS + 1)[0] == TOO_LONG


def test_a_slow_but_honest_link_gets_its_body_through():
    # A poor mobile link: 2 KB a second, in bursts with pauses between them.
    body, seconds = received([b"x" * 20_000] * 20, 10)
    assert (len(body), seconds) == (400_000, 200)
    # A short body may take its time, up to the grace.
    assert received([b"{", b"}"], SILENCE_SECONDS / 2 - 1)[0] == b"{}"


def test_no_body_takes_longer_than_the_whole_may():
    assert received([b"x" * 10_000] * 10_000, 1) == (TOO_LONG, BODY_SECONDS)
