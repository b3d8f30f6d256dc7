"""Reading from replicas of a PostgreSQL server that are not far behind it."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from time import monotonic
from typing import TypeVar

from callhouse.errors import StoreRefused, StoreUnavailable, TookTooLong
from callhouse.observability import log
from callhouse.store.engine import Reader, Readers
from callhouse.store.postgres import READING_THREADS, begin_reading, reading
from callhouse.store.postgres_connection import Connection, place_of
from callhouse.store.postgres_pool import Pool

T = TypeVar("T")

ASKED_OFTEN = 4
"""So many times in the time that a replica may be behind the primary is asked how far it is."""

ANSWER_SECONDS = 2.0
"""Within this a replica must say how far it is."""

PAUSE_SECONDS = 5.0
"""For so long a replica that is of no use is left alone."""

_WRITTEN = "SELECT CAST(pg_current_wal_lsn() AS TEXT)"
_HAS_REPLAYED = b"SELECT pg_is_in_recovery() AND pg_last_wal_replay_lsn() >= CAST(%s AS pg_lsn)"


class _BehindError(StoreUnavailable):
    """The replica has not caught up."""


_read_from: ContextVar[object] = ContextVar("read_from")
"""The server that whatever is being done has read from before."""


class Replicas:
    """Reads from replicas what was on the primary *lag* seconds ago or is newer, and from the primary itself where
    none is that near. Satisfies Readers.

    What the primary had written is known by its place in the log, which it is asked for again and again: a replica that
    has replayed up to there holds all that was committed before the primary was asked. What one answer is made of comes
    from one server, or in the end from the primary: never from one that knows less than the one before.
    """

    def __init__(self, primary: Readers, urls: Sequence[str], lag: float, read_limit: float | None) -> None:
        self._primary = primary
        self._lag = lag
        self._begin_reading = begin_reading(read_limit)
        self._replicas = [_Replica(url, read_limit) for url in urls]
        # Each node has a favourite of its own.
        self._favourite = secrets.randbelow(len(urls))
        self._threads = ThreadPoolExecutor(READING_THREADS * len(urls), "store-replicas")
        self._written: deque[tuple[float, str]] = deque()
        self._asking = asyncio.create_task(self._ask())

    async def quick(self, work: Callable[[Reader], T]) -> T:
        done = await self._done(work, None)
        # What is not found may be too new for the replica, and whoever asks may have met it elsewhere.
        if done is not None and done[0]:
            return done[0]
        _read_from.set(self._primary)
        return await self._primary.quick(work)

    async def read(self, work: Callable[[Reader], T]) -> T:
        done = await self._done(work, self._begin_reading)
        return await self._primary.read(work) if done is None else done[0]

    async def _done(self, work: Callable[[Reader], T], begin: bytes | None) -> tuple[T] | None:
        """What *work* gives on a replica; None where none can be read from."""
        now = monotonic()
        while self._written and self._written[0][0] < now - self._lag:
            self._written.popleft()
        if not self._written:
            return None
        written = self._written[0][1]
        before = _read_from.get(None)
        for turn in range(len(self._replicas)):
            replica = self._replicas[(self._favourite + turn) % len(self._replicas)]
            if now < replica.rests_until or before not in {None, replica}:
                continue
            _read_from.set(replica)
            loop = asyncio.get_running_loop()
            try:
                return (await loop.run_in_executor(self._threads, replica.run, work, begin, written),)
            except _BehindError:
                replica.rests_until = monotonic() + self._lag
            except (TookTooLong, StoreRefused):
                raise
            except StoreUnavailable as error:
                replica.rests_until = monotonic() + PAUSE_SECONDS
                log.warning("store.replica_failed", replica=replica.place, error=str(error))
            if before is not None:
                break
        _read_from.set(self._primary)
        return None

    async def _ask(self) -> None:
        """Note how far the primary is, again and again."""
        while True:
            asked = monotonic()
            with suppress(StoreUnavailable):
                [(written,)] = await self._primary.quick(lambda reader: reader.rows(_WRITTEN, {}))
                self._written.append((asked, written))
            await asyncio.sleep(self._lag / ASKED_OFTEN)

    async def close(self) -> None:
        """Let go of the replicas; the primary is left as it is."""
        self._asking.cancel()
        await asyncio.to_thread(self._threads.shutdown)
        for replica in self._replicas:
            await asyncio.to_thread(replica.close)


class _Replica:
    """One of them; *rests_until* is until when it is left alone, in monotonic seconds."""

    def __init__(self, url: str, read_limit: float | None) -> None:
        self.place = place_of(url)
        self.rests_until = 0.0
        self._read_limit = read_limit
        self._pool = Pool(url, READING_THREADS, read_limit, patience=ANSWER_SECONDS)
        self._answering = self._pool.watch(ANSWER_SECONDS)

    def run(self, work: Callable[[Reader], T], begin: bytes | None, written: str) -> T:
        """The result of *work*, on what was *written* or is newer. Raises _BehindError."""

        def catch_up(connection: Connection) -> None:
            with self._answering.over(connection):
                [(has_replayed,)] = connection.execute(_HAS_REPLAYED, [written]).fetchall()
            if not has_replayed:
                raise _BehindError

        return self._pool.run(reading(work, self._read_limit if begin else None), begin, before=catch_up)

    def close(self) -> None:
        self._pool.close()
