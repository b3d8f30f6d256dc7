"""How far a file was read: from its lines to records, and from what was remembered back to there.

A file is known by what is in it, not by its name: an import goes on where it was after the file was renamed, compressed
or copied, and begins anew when something else is in it.
"""

import copy
import hashlib
from collections.abc import Iterable, Sequence
from typing import IO

import msgspec

from callhouse.sources import Cut, Splitter
from callhouse.store.imports import Place

HEAD_BYTES = 1024
"""Bytes at the beginning that remembered places are found by."""

_CHUNK = 1024 * 1024


def digest(content: bytes = b"") -> "hashlib.blake2b":
    """What a Place holds of *content* and whatever it is updated with."""
    return hashlib.blake2b(content, digest_size=16)


class Reading:
    """A file that is being read line by line, from its beginning, for an import that *splitter* cuts into records.

    What *place* says to have been taken in before is not given again.
    """

    def __init__(self, place: Place, splitter: Splitter) -> None:
        self._place = place
        self._splitter = splitter
        self._digest = digest()
        self._head = b""
        self._lines = 0
        self._records = 0
        self._size = 0
        self._open_size = 0
        self._last_line = b""

    @property
    def last_line(self) -> bytes:
        """What was fed last."""
        return self._last_line

    @property
    def size(self) -> int:
        """Bytes that were fed."""
        return self._size

    @property
    def open_size(self) -> int:
        """Bytes that were fed since the last record was whole."""
        return self._open_size

    @property
    def lines(self) -> int:
        """Lines that were fed."""
        return self._lines

    def feed(self, line: bytes) -> Iterable[Cut]:
        """The records that are whole now that *line* came, which ends in a line feed."""
        self._last_line = line
        self._lines += 1
        self._size += len(line)
        self._digest.update(line)
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + line)[:HEAD_BYTES]
        found = list(self._splitter.take(self._lines, line))
        self._open_size = 0 if found else self._open_size + len(line)
        self._records += len(found)
        given_before = len(found) - (self._records - self._place.records)
        return found if given_before <= 0 else found[given_before:]

    def rest(self, line: bytes) -> list[Cut]:
        """What there is besides if the file ends with *line*, which has no line feed; more may be fed afterwards."""
        splitter = copy.deepcopy(self._splitter)
        return [*(splitter.take(self._lines + 1, line) if line else ()), *splitter.rest()]

    def place(self) -> Place:
        """How far the file was taken in when all of the records that were given are."""
        if self._records < self._place.records:
            return self._place
        return self._at(self._size, self._head, self._digest.digest(), is_whole=False)

    def end(self, line: bytes) -> Place:
        """The same with those of the rest."""
        whole = self._digest.copy()
        whole.update(line)
        return self._at(self._size + len(line), (self._head + line)[:HEAD_BYTES], whole.digest(), is_whole=True)

    def _at(self, size: int, head: bytes, whole: bytes, *, is_whole: bool) -> Place:
        return msgspec.structs.replace(
            self._place,
            size=size,
            head=digest(head).digest(),
            digest=whole,
            records=self._records,
            is_whole=is_whole,
        )


def remembered(stream: IO[bytes], places: Sequence[Place]) -> tuple[Place | None, bool]:
    """Of *places* the one that tells most of the file that *stream* gives from its beginning, and whether it tells all.

    A place tells of a file that begins with exactly the bytes that were taken in.
    """
    head = stream.read(HEAD_BYTES)
    found = longest = None
    known, size = digest(head), len(head)
    for place in sorted(_fitting(places, head), key=lambda place: (place.size, place.is_whole)):
        while size < place.size and (chunk := stream.read(min(_CHUNK, place.size - size))):
            known.update(chunk)
            size += len(chunk)
        if size < place.size:
            break
        content = digest(head[: place.size]) if place.size <= HEAD_BYTES else known.copy()
        if content.digest() == place.digest:
            longest = place
            # Without a record nothing is known but how many files begin.
            found = place if place.records else found
    if longest is not None and longest.is_whole and longest.size == size and not stream.read(1):
        return longest, True
    return found, False


def _fitting(places: Sequence[Place], head: bytes) -> list[Place]:
    heads = {size: digest(head[:size]).digest() for size in {min(place.size, HEAD_BYTES) for place in places}}
    return [
        place
        for place in places
        if min(place.size, HEAD_BYTES) <= len(head) and heads[min(place.size, HEAD_BYTES)] == place.head
    ]
