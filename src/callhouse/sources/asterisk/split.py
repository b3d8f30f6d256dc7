"""A body, or a file, of what Asterisk wrote → its rows: CSV with or without header lines, and lines of JSON."""

from collections.abc import Iterable

import msgspec

from callhouse.errors import RecordError
from callhouse.sources import MAX_HEADER, Cut, may_be_names
from callhouse.sources.asterisk.columns import is_header
from callhouse.sources.asterisk.rows import values_of

MAX_LINES = 100
"""Lines that a value may go over: the whole of a CDR has 1,024 bytes at most."""

_FEWEST_COLUMNS = 16
_encode = msgspec.json.Encoder().encode


class Splitter:
    """The rows below a header line come as JSON under its names.

    A line feed within quotes belongs to a value; a row that lacks a quote ends with its line.
    """

    def __init__(self) -> None:
        self._has_row = False
        self._is_plain = False
        self._names: list[str] | None = None
        self._open: list[bytes] = []
        self._number = 0

    def take(self, number: int, line: bytes) -> Iterable[Cut]:
        # Nearly every line, so it is worth a way of its own.
        if self._is_plain and not self._open and line.count(b'"') % 2 == 0:
            row = line.strip()
            if not may_be_names(row):
                return ((number, row),)
        return [(at, row) for at, text in self._lines(number, line) if (row := self._row(text))]

    def rest(self) -> Iterable[Cut]:
        lines, self._open = self._open, []
        return [(at, row) for at, text in enumerate(lines, self._number) if (row := self._row(text))]

    def _lines(self, number: int, line: bytes) -> Iterable[Cut]:
        """The lines of the rows that end with *line* or before it, joined where a quote goes over several."""
        is_object, is_odd = line[:1] == b"{", line.count(b'"') % 2 == 1
        if not self._open:
            if is_object or not is_odd:
                return ((number, line),)
            self._open, self._number = [line], number
            return ()
        lines, self._open = [*self._open, line], []
        if is_odd and not is_object:
            return ((self._number, b"".join(lines)),)
        if is_object or len(lines) > MAX_LINES or _is_whole_row(line):
            return enumerate(lines, self._number)
        self._open = lines
        return ()

    def _row(self, text: bytes) -> bytes:
        """The row that *text* is, for a reader; nothing of a header line and of a blank one."""
        row = text.strip()
        if row and (not self._has_row or may_be_names(row)):
            self._has_row = True
            # Files that were put together have one for each of them.
            if (names := _header(row)) is not None:
                self._names = names
            self._is_plain = self._names is None
            if names is not None:
                return b""
        return _named(self._names, row) if row and self._names is not None else row


def _is_whole_row(line: bytes) -> bool:
    if line.count(b",") < _FEWEST_COLUMNS - 1:
        return False
    try:
        return len(values_of(line.decode("latin-1"))) >= _FEWEST_COLUMNS
    except RecordError:
        return False


def _header(row: bytes) -> list[str] | None:
    """The names that *row* consists of, if it is a header line."""
    if row.startswith(b"{") or len(row) > MAX_HEADER:
        return None
    try:
        values = values_of(row.decode())
    except (RecordError, UnicodeDecodeError):
        return None
    return values if is_header(values) else None


def _named(names: list[str], row: bytes) -> bytes:
    """*row* as JSON under *names*; a row that does not fit them stays as it is."""
    if row.startswith(b"{"):
        return row
    try:
        text = row.decode()
    except UnicodeDecodeError:
        text = row.decode("latin-1")
    try:
        values = values_of(text)
    except RecordError:
        return row
    return _encode(dict(zip(names, values, strict=True))) if len(values) == len(names) else row
