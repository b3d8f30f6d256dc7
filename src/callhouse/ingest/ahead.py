"""Records read, and their rows joined, in a process of its own while those before them are stored."""

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import msgspec

from callhouse.child import end_with_parent
from callhouse.errors import CallhouseError, RecordError
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.pump import read_record, readers
from callhouse.model.record import Fragment, Join, Part
from callhouse.sources import ReadRecord

WORTHWHILE = 4_000
"""Records after which another process pays for its start."""

_MEANT_FOR_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

Read = Part | Fragment | str


class ReadAhead:
    """Reads batches of records of *route* under *options*: few records here, more of them in another process."""

    def __init__(self, route: str, options: Mapping[str, msgspec.Struct], limits: IngestLimits) -> None:
        self._settings = route, options, limits
        self._read = readers(options)[route].read
        self._limits = limits
        self._records = 0
        self._other: ProcessPoolExecutor | None = None

    async def read(self, raws: Sequence[bytes]) -> list[Read]:
        """What each of *raws* becomes, or why it cannot be kept."""
        self._records += len(raws)
        if self._records <= WORTHWHILE:
            return [read_record(raw, self._read, self._limits) for raw in raws]
        try:
            return _here(*await asyncio.wrap_future(self._submit(raws)))
        except BrokenProcessPool:
            raise CallhouseError(
                "The process that reads records was ended. What was imported is kept; run the same command again."
            ) from None

    def _submit(self, raws: Sequence[bytes]) -> "Future[tuple[bytes, Join | None]]":
        if self._other is not None:
            return self._other.submit(_read_there, raws)
        spawned = multiprocessing.get_context("spawn")
        self._other = ProcessPoolExecutor(1, spawned, initializer=_prepare, initargs=self._settings)
        # Ctrl-C reaches both processes, and so does what ends a service. It is meant for this one; the other, which is
        # started here and takes over what is blocked, must read on for what this one still stores.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _MEANT_FOR_PARENT)
        try:
            return self._other.submit(_read_there, raws)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def close(self) -> None:
        if self._other is not None:
            self._other.shutdown(cancel_futures=True)


class _Joined:
    """A Join that knows what comes of the rows of a batch, which is all that there is of most groups."""

    def __init__(self, join: Join, known: Mapping[str, tuple[list[bytes], list[Part]]]) -> None:
        self._join = join
        self._known = known

    def __call__(self, group: str, rows: Sequence[bytes]) -> list[Part]:
        known, parts = self._known.get(group, (None, []))
        return parts if rows == known else self._join(group, rows)


class _Found(msgspec.Struct, array_like=True):
    """What a batch of records becomes, in a form that takes little time to hand over: of each record a part, or else
    the group and the content of a row, or else a reason. *joined* are the rows of groups and what they tell.
    """

    parts: list[Part | None]
    rows: list[tuple[str, bytes] | None]
    reasons: list[str | None]
    joined: dict[str, tuple[list[bytes], list[Part]]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Found).decode

_prepared: list[tuple[ReadRecord, IngestLimits]] = []
"""How this process reads, if it was started to."""


def _prepare(route: str, options: Mapping[str, msgspec.Struct], limits: IngestLimits) -> None:
    end_with_parent(signal.SIGKILL)
    _prepared.append((readers(options)[route].read, limits))


def _read_there(raws: Sequence[bytes]) -> tuple[bytes, Join | None]:
    """The _Found of *raws*, and what joins its rows."""
    [(read, limits)] = _prepared
    reads = [read_record(raw, read, limits) for raw in raws]
    fragments = [each for each in reads if isinstance(each, Fragment)]
    groups: dict[str, dict[bytes, None]] = {}
    for fragment in fragments:
        groups.setdefault(fragment.group, {})[fragment.content] = None
    joined = {}
    for group, rows in groups.items():
        # What cannot be joined is found out again, and told, by the store.
        with contextlib.suppress(RecordError):
            joined[group] = list(rows), fragments[0].join(group, list(rows))
    found = _Found(
        [each if isinstance(each, Part) else None for each in reads],
        [(each.group, each.content) if isinstance(each, Fragment) else None for each in reads],
        [each if isinstance(each, str) else None for each in reads],
        joined,
    )
    return _encode(found), fragments[0].join if fragments else None


def _here(encoded: bytes, join: Join | None) -> list[Read]:
    found = _decode(encoded)
    joined = None if join is None else _Joined(join, found.joined)
    return [
        part or (Fragment(group=row[0], content=row[1], join=joined) if row and joined else reason or "")
        for part, row, reason in zip(found.parts, found.rows, found.reasons, strict=True)
    ]
