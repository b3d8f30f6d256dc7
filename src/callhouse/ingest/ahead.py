"""Records read, and their rows joined, in a process of its own while those before them are stored."""

import asyncio
import contextlib
import gc
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import msgspec

from callhouse.child import end_with_parent
from callhouse.errors import CallhouseError, RecordError
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.readers import read_record, readers
from callhouse.model.record import Fragment, Join, Part
from callhouse.sources import ReadRecord

WORTHWHILE = 128 * 1024
"""Bytes of a batch for which it pays to hand it to another process, and to start one."""

_MEANT_FOR_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

Read = Part | Fragment | str


class ReadAhead:
    """Reads batches of records of *route* under *options*: small ones here, and large ones in another process once that
    has started.
    """

    def __init__(self, route: str, options: Mapping[str, msgspec.Struct], limits: IngestLimits) -> None:
        self._settings = route, options, limits
        self._read = readers(options)[route].read
        self._limits = limits
        self._other: ProcessPoolExecutor | None = None
        self._has_started: Future[None] | None = None

    async def read(self, raws: Sequence[bytes]) -> list[Read]:
        """What each of *raws* becomes, or why it cannot be kept."""
        if sum(map(len, raws)) < WORTHWHILE:
            return self._read_here(raws)
        if self._other is None:
            self._other, self._has_started = self._start_other()
        if self._has_started is None or not self._has_started.done():
            return self._read_here(raws)
        try:
            encoded = await asyncio.get_running_loop().run_in_executor(self._other, _read_there, raws)
        except BrokenProcessPool:
            raise CallhouseError(
                "The process that reads records was ended. What was imported is kept; run the same command again."
            ) from None
        return self._found(encoded, raws)

    def _read_here(self, raws: Sequence[bytes]) -> list[Read]:
        return [read_record(raw, self._read, self._limits) for raw in raws]

    def _found(self, encoded: bytes, raws: Sequence[bytes]) -> list[Read]:
        found = _decode(encoded)
        rows: list[Fragment] = []
        if found.groups:
            # The function that joins them is not handed over: any of their rows tells it here too.
            [first] = self._read_here([next(raw for raw, read in zip(raws, found.reads, strict=True) if read == 0)])
            assert isinstance(first, Fragment)
            for name, contents, parts in found.groups:
                join = first.join if parts is None else _Joined(first.join, contents, parts)
                rows += [Fragment(group=name, content=content, join=join) for content in contents]
        return [rows[read] if isinstance(read, int) else read for read in found.reads]

    def _start_other(self) -> "tuple[ProcessPoolExecutor, Future[None]]":
        other = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_prepare, initargs=self._settings
        )
        # Ctrl-C reaches both processes, and so does what ends a service. It is meant for this one; the other, which
        # takes over what is blocked when it is started, must read on for what this one still stores.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _MEANT_FOR_PARENT)
        try:
            return other, other.submit(_start)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def close(self) -> None:
        if self._other is not None:
            self._other.shutdown(cancel_futures=True)


class _Joined:
    """A Join that knows what comes of the *rows* of a batch, which is all that there is of most groups."""

    def __init__(self, join: Join, rows: list[bytes], parts: list[Part]) -> None:
        self._join = join
        self._rows = rows
        self._parts = parts

    def __call__(self, group: str, rows: Sequence[bytes]) -> list[Part]:
        return self._parts if rows == self._rows else self._join(group, rows)


class _Found(msgspec.Struct, array_like=True):
    """What a batch of records becomes, in a form that takes little time to hand over.

    Of each record a part, or a reason, or else which of the rows of all *groups* it is. A group is its name, its rows,
    and what they tell, or None where they cannot be joined.
    """

    reads: list[Part | str | int]
    groups: list[tuple[str, list[bytes], list[Part] | None]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Found).decode

_prepared: list[tuple[ReadRecord, IngestLimits]] = []
"""How this process reads, if it was started to."""


def _prepare(route: str, options: Mapping[str, msgspec.Struct], limits: IngestLimits) -> None:
    end_with_parent(signal.SIGKILL)
    _prepared.append((readers(options)[route].read, limits))
    # What was imported stays; to look through it again and again for garbage takes longer than there is of that.
    gc.freeze()


def _start() -> None:
    """Return once this process is prepared."""


def _read_there(raws: Sequence[bytes]) -> bytes:
    """The _Found of *raws*."""
    [(read, limits)] = _prepared
    reads = [read_record(raw, read, limits) for raw in raws]
    groups: dict[str, dict[bytes, None]] = {}
    join: Join | None = None
    for each in reads:
        if isinstance(each, Fragment):
            groups.setdefault(each.group, {})[each.content] = None
            join = each.join
    places: dict[tuple[str, bytes], int] = {}
    found: list[tuple[str, list[bytes], list[Part] | None]] = []
    for group, rows in groups.items():
        assert join is not None
        contents = list(rows)
        parts = None
        # What cannot be joined is found out again, and told, by the store.
        with contextlib.suppress(RecordError):
            parts = join(group, contents)
        found.append((group, contents, parts))
        for content in contents:
            places[group, content] = len(places)
    numbered = [places[each.group, each.content] if isinstance(each, Fragment) else each for each in reads]
    return _encode(_Found(numbered, found))
