"""How far a file was read: from its lines to records, and from what was remembered back to there.

A file is known by what is in it, not by its name: an import goes on where it was after the file was renamed, compressed
or copied, and begins anew when something else is in it.
"""

import copy
import hashlib
from collections.abc import Iterable
from typing import IO

import msgspec

from callhouse.sources import Cut, Splitter
from callhouse.store.imports import Place

HEAD_BYTES = 1024
"""Bytes at the beginning that remembered places are found by."""

KEPT_OF_LONG = 8 * 1024 * 1024
"""Bytes that are quarantined of a line that is too long."""

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
        # A writer that does not append leaves a hole where a file was truncated.
        found = list(self._splitter.take(self._lines, line.lstrip(b"\0")))
        self._open_size = 0 if found else self._open_size + len(line)
        self._records += len(found)
        return self._not_given(found)

    def feed_long(self, piece: bytes, *, begins: bool, ends: bool) -> list[Cut]:
        """The records that there are with a *piece* of a line that is too long to be held: what the line *begins* with
        stands for the whole.
        """
        self._last_line = piece if ends else b""
        self._lines += begins
        self._size += len(piece)
        self._open_size = 0
        self._digest.update(piece)
        if len(self._head) < HEAD_BYTES:
            self._head = (self._head + piece)[:HEAD_BYTES]
        if not begins:
            return []
        found = [*self._splitter.rest(), (self._lines, piece[:KEPT_OF_LONG])]
        self._records += len(found)
        return self._not_given(found)

    def _not_given(self, found: list[Cut]) -> list[Cut]:
        """Those of the last records that an earlier import did not take in."""
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


class Places:
    """What is known of files, to be found by how they begin: there may be many thousands."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._by_id: dict[bytes, Place] = {}
        self._by_head: dict[tuple[int, bytes], dict[bytes, Place]] = {}
        self._sizes: set[int] = set()
        for place in places:
            self.put(place)

    def put(self, place: Place) -> None:
        """Know *place*, instead of the one with its id."""
        known = self._by_id.get(place.id)
        if known is not None:
            del self._by_head[_head_of(known)][known.id]
        self._by_id[place.id] = place
        self._sizes.add(min(place.size, HEAD_BYTES))
        self._by_head.setdefault(_head_of(place), {})[place.id] = place

    def find(self, stream: IO[bytes]) -> tuple[Place | None, bool]:
        """The place that tells most of the file that *stream* gives from its beginning, and whether it tells all.

        A place tells of a file that begins with exactly the bytes that were taken in.
        """
        head = stream.read(HEAD_BYTES) if self._by_id else b""
        found = longest = None
        known, size = digest(head), len(head)
        for place in sorted(self._fitting(head), key=lambda place: (place.size, place.is_whole)):
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

    def _fitting(self, head: bytes) -> list[Place]:
        heads = ((size, digest(head[:size]).digest()) for size in self._sizes if size <= len(head))
        return [place for key in heads for place in self._by_head.get(key, {}).values()]


def _head_of(place: Place) -> tuple[int, bytes]:
    return min(place.size, HEAD_BYTES), place.head
