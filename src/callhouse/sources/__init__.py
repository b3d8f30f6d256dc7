"""What a source is: a module here with a ``plugin`` that reads what one system sends; and what several of them need."""

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from callhouse.errors import RecordError, Unreadable
from callhouse.model.call import MAX_ID as MAX_ID
from callhouse.model.call import MAX_INTEGER as MAX_INTEGER
from callhouse.model.event import nests_deeper_than
from callhouse.model.record import Fragment, Part

ReadRecord = Callable[[bytes, int], Part | Fragment]
Cut = tuple[int, bytes]
"""The number of the line that a record begins with, from 1, and the record."""

MAX_HEADER = 2_000
"""Bytes of a line of column names. Each row below it is read with it, so a long one would multiply a body."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

CUT_OFF = b"["
"""The record that stands for what a JSON array lacks that ends between two of its members."""


@dataclass(frozen=True)
class Silence:
    """A call in progress of which nothing was sent to *route* for longer than *limit*, in milliseconds, is over: *row*
    closes it, whatever its group.
    """

    route: str
    limit: int
    row: Fragment


class Splitter(Protocol):
    """Cuts one body or file, which comes line by line, into records."""

    def take(self, number: int, line: bytes) -> Iterable[Cut]:
        """The records that are known to be whole now that *line* came as the *number*th, from 1."""
        ...

    def rest(self) -> Iterable[Cut]:
        """What is still open, for nothing comes any more."""
        ...


@dataclass(frozen=True)
class Source:
    """The readers of one system's records, by the last segment of the route that they are posted to.

    A reader makes a Part of one record, or a Fragment where only several records together tell of a call, or raises
    RecordError with the reason why it cannot be kept. It is pure: no store, no clock, no network. Its second argument
    bounds how deep a record may nest.

    *splitter* makes what cuts a body or a file into records, none of them when that is empty; without it they are JSON
    or NDJSON. A system that would only send a refused body again has one that takes anything for a record, so that it
    is quarantined.

    *options* is what an operator may set under ``[sources.<name>]``, a frozen struct of texts that holds the defaults
    and whose fields say in a Meta what they are; *configure* makes the readers under other options, and raises
    ValueError with the reason when they make no sense. *silence* tells under them when a call that was cut off is over,
    None if never.
    """

    name: str
    readers: Mapping[str, ReadRecord]
    splitter: Callable[[], Splitter] | None = None
    options: msgspec.Struct | None = None
    configure: Callable[[Any], Mapping[str, ReadRecord]] | None = None
    silence: Callable[[Any], Silence | None] | None = None

    def readers_with(self, options: msgspec.Struct | None) -> Mapping[str, ReadRecord]:
        """The readers under *options*, or under the defaults. Raises ValueError, as configure does."""
        return self.readers if options is None or self.configure is None else self.configure(options)


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_is_json = msgspec.json.Decoder(msgspec.Raw).decode
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
# Possessive, and a string may end with the array: one cut off within one is read once, not once from each quote.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)
_DIGIT = re.compile(rb"\d")


def begins_object(line: bytes) -> bool:
    """Whether *line* can only be the beginning of a JSON object."""
    return line.lstrip()[:1] == b"{"


class LineSplitter:
    """Every line is a record; but where the first one *begins a document*, a record may go over several lines.

    A document ends before a line that is a JSON object by itself, and where one object ends and another begins.
    """

    def __init__(self, begins_document: Callable[[bytes], bool] = begins_object) -> None:
        self._begins_document = begins_document
        self._has_documents: bool | None = None
        self._open: list[bytes] = []
        self._number = 0

    def take(self, number: int, line: bytes) -> Iterable[Cut]:
        if not self._open and not line.strip():
            return ()
        if self._has_documents is None:
            self._has_documents = self._begins_document(line)
        if not self._has_documents:
            # Tabs stay: they are columns that are empty.
            return ((number, line.strip(b" \r\n")),)
        if line[:1] == b"{" and is_json(line):
            return (*self.rest(), (number, line.strip()))
        done: Iterable[Cut] = ()
        if self._open and line[:1] == b"{" and self._open[-1].rstrip()[-1:] == b"}":
            done = self.rest()
        if not self._open:
            self._number = number
        self._open.append(line)
        return done

    def rest(self) -> Iterable[Cut]:
        record, self._open = b"".join(self._open).strip(), []
        return ((self._number, record),) if record else ()


class ArraySplitter:
    """The members of a JSON array; of anything else what *other* cuts it into."""

    def __init__(self, other: Splitter) -> None:
        self._other = other
        self._is_array: bool | None = None
        self._number = 0
        self._array: list[bytes] = []

    def take(self, number: int, line: bytes) -> Iterable[Cut]:
        if self._is_array is None:
            line = line.removeprefix(BYTE_ORDER_MARK)
            if start := line.lstrip()[:1]:
                self._is_array, self._number = start == b"[", number
        if not self._is_array:
            return self._other.take(number, line)
        self._array.append(line)
        return ()

    def rest(self) -> Iterable[Cut]:
        return self._members(b"".join(self._array).strip()) if self._is_array else self._other.rest()

    def _members(self, array: bytes) -> Iterator[Cut]:
        number, place = self._number, 0
        for member in _whole_members(array):
            start = max(place, array.find(member, place))
            number += array.count(b"\n", place, start)
            place = start
            yield number, member


def _whole_members(array: bytes) -> Iterator[bytes]:
    """The members of *array*; of one that does not end as it should, what stands behind them too, and CUT_OFF where
    that is not half a member.
    """
    end = 0
    try:
        for member in members_of(array):
            yield member
            end = array.index(member, end) + len(member)
    except Unreadable:
        if rest := array[end:].strip(b"[, \t\r\n"):
            yield rest
        if not rest or is_json(rest):
            yield CUT_OFF


def members_of(array: bytes) -> Iterator[bytes]:
    """The members of a JSON array, of which a broken one costs no other.

    Raises Unreadable behind the last one when the array does not end where it should.
    """
    members: list[msgspec.Raw] | None = None
    # Millions of members of a byte or two would take a hundred times their size; they are given one by one.
    if len(array) >= 8 * array.count(b","):
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            members = _split_array(array)
    return _members_by_brackets(array) if members is None else (bytes(member).strip() for member in members)


def _members_by_brackets(array: bytes) -> Iterator[bytes]:
    depth, first = 0, 1
    for token in _TOKEN.finditer(array):
        mark = token[0]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if depth == 0 and mark != b"]":
            break
        if (mark == b"," and depth == 1) or depth == 0:
            if member := array[first : token.start()].strip():
                yield member
            first = token.end()
        if depth == 0:
            if array[first:].strip():
                break
            return
    raise Unreadable("The body is a JSON array that does not end where it should.")


def may_be_names(row: bytes) -> bool:
    """Whether *row*, below others, can be a line of column names: every row of a call holds a time."""
    return not _DIGIT.search(row)


def cuts(splitter: Splitter, body: bytes) -> Iterator[Cut]:
    """The records of a whole *body*."""
    for number, line in enumerate(io.BytesIO(body), start=1):
        yield from splitter.take(number, line)
    yield from splitter.rest()


def is_json(text: bytes) -> bool:
    """Whether *text* is one JSON value from its first byte to its last."""
    try:
        _is_json(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


# Possessive, so that a record is read once: up to the first escape of a surrogate that has no other half.
_HALF_A_PAIR = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F])*+(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)


def json_object(record: bytes, max_depth: int) -> dict[str, Any]:
    """The JSON object that *record* is. Raises RecordError."""
    try:
        decoded = _decode(record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(_reason(record, error)) from None
    except RecursionError:
        raise RecordError(f"nests deeper than {max_depth}") from None
    if nests_deeper_than(decoded, max_depth):
        raise RecordError(f"nests deeper than {max_depth}")
    return decoded


def _reason(record: bytes, error: Exception) -> str:
    """Why *record* could not be decoded, where msgspec's own *error* would mislead."""
    try:
        record.decode()
    except UnicodeDecodeError as wrong:
        return f"is no JSON object: it is not UTF-8 (byte {wrong.start})"
    reason = str(error)
    if (half := _HALF_A_PAIR.match(record)) and ("surrogate" in reason or "truncated" in reason):
        return f"holds half a surrogate pair, {half[1].decode()} without its other half (byte {half.start(1)})"
    if "truncated" in reason:
        return f"is no JSON object: it ends too early (byte {len(record)})"
    if "trailing characters" in reason:
        return "is no JSON object but several, or has something behind it: put each object on a line (`jq -c .` does)"
    if "out of range" in reason:
        return "holds a number that is out of range"
    return f"is no JSON object: {reason}"
