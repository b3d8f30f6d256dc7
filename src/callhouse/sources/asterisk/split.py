"""A body, or a file, of what Asterisk wrote → its rows: CSV with or without a header line, and lines of JSON."""

from collections.abc import Iterator

import msgspec

from callhouse.errors import RecordError
from callhouse.sources import MAX_HEADER
from callhouse.sources.asterisk.columns import is_header
from callhouse.sources.asterisk.rows import values_of

_FEWEST_COLUMNS = 16
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def split(body: bytes) -> list[bytes]:
    """The rows of *body*, none when it is empty. The rows below a header line come as JSON under its names."""
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if body[:1] == b"[":
        try:
            return [bytes(row) for row in _decode_array(body)]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return [body]
    rows = _rows(body)
    first = next(rows, None)
    if first is None:
        return []
    names = _header(first)
    return [first, *rows] if names is None else [_named(names, row) for row in rows]


def _rows(body: bytes) -> Iterator[bytes]:
    """The rows of *body*. A line feed within quotes belongs to a value; a row that lacks a quote ends with its line."""
    lines = body.split(b"\n")
    if body.count(b'"') % 2 == 0 and not any(line.count(b'"') % 2 for line in lines):
        for line in lines:
            if row := line.strip():
                yield row
        return
    number = 0
    while number < len(lines):
        last = number
        if lines[number].count(b'"') % 2 and not lines[number].lstrip().startswith(b"{"):
            last = _last_line(lines, number)
        if row := b"\n".join(lines[number : last + 1]).strip():
            yield row
        number = last + 1


def _last_line(lines: list[bytes], number: int) -> int:
    """The line with which the row ends that begins in line *number* and has an odd number of quotes there."""
    for last in range(number + 1, len(lines)):
        if lines[last].startswith(b"{"):
            return number
        if lines[last].count(b'"') % 2:
            return last
        if _is_whole_row(lines[last]):
            return number
    return number


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
