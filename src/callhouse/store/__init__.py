"""The store: accounts, calls, their logs and the quarantine. Which engine holds them is known in this package alone."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from callhouse.model.account import Account, Retention
from callhouse.model.instant import DAY
from callhouse.model.record import Fragment, Outcome, Record
from callhouse.observability import BATCH_SIZE
from callhouse.store import backup, concurrency, expiry, fragments, imports, kept, logs, mirrors, quarantine
from callhouse.store.accounts import Accounts
from callhouse.store.arrivals import ArrivalLog
from callhouse.store.batcher import Batcher
from callhouse.store.browsing import Browsing
from callhouse.store.call_errors import CallErrors
from callhouse.store.calls import Calls
from callhouse.store.engine import Engine, Progress, Reader, Readers, Row, Transaction
from callhouse.store.figures import FigureReader
from callhouse.store.imports import Imports, Place
from callhouse.store.kept import KeptDay
from callhouse.store.logs import LogCodec
from callhouse.store.mirrors import Advance, Mirrors
from callhouse.store.quarantine import Quarantine
from callhouse.store.sign_ins import SignIns
from callhouse.store.sqlite import SQLite
from callhouse.store.timed import TimedEngine, TimedReaders
from callhouse.store.writer import BatchWriter

if TYPE_CHECKING:
    from callhouse.store.replicas import Replicas

BATCH_RECORDS = 500
MAX_WAITING_RECORDS = 20_000

LEAST_FREE = 64 * 1024 * 1024
"""Bytes free on the disk below which the store is nearly full: as many as a body may have."""

SILENCE = "silence"
"""The origin of a row that closes a call of which nothing came any more."""

_PROBE = """
INSERT INTO meta (name, value) VALUES ('probe', :now) ON CONFLICT (name) DO UPDATE SET value = excluded.value
"""
_NEWEST_ACCOUNT = "SELECT coalesce(max(id), 0) FROM accounts"
_ONE_OF_ITS_CALLS = "SELECT max(session_id) FROM calls WHERE account_id = :account_id"
_STATISTICS = {
    "calls": "SELECT coalesce(sum(calls), 0) FROM call_counts WHERE account_id = :account_id AND width = 768",
    "logs": "SELECT count(*) FROM logs WHERE account_id = :account_id",
    "call_errors": "SELECT count(*) FROM call_errors WHERE account_id = :account_id",
    "waiting_events": "SELECT count(*) FROM waiting_events WHERE account_id = :account_id",
    "fragments": "SELECT count(*) FROM fragments WHERE account_id = :account_id",
    "quarantine": "SELECT count(*) FROM quarantine WHERE account_id = :account_id",
}
_OLDEST_CALL = "SELECT min(bucket) FROM call_counts WHERE width = 1 AND account_id = :account_id"
_OLDEST_LOG = "SELECT min(ended) FROM logs WHERE account_id = :account_id"


class Statistics(msgspec.Struct, frozen=True):
    """What the store holds: *rows* by table, *bytes* on disk, the oldest call and log in ms (None: there is none).

    *free* is by how many bytes it can grow, None when the database alone knows.
    """

    rows: dict[str, int]
    bytes: int
    free: int | None
    oldest_call: int | None
    oldest_log: int | None


class Store:
    """All that Callhouse keeps. Made by open_store; use it on the event loop that opened it."""

    def __init__(
        self,
        engine: Engine,
        retention: Retention,
        clock: Callable[[], int],
        *,
        max_events: int,
        max_log: int,
        replicas: "Replicas | None" = None,
    ) -> None:
        self._engine = engine
        self._replicas = replicas
        readers: Readers = engine if replicas is None else TimedReaders(replicas)
        self._codec = LogCodec()
        self._max_events = max_events
        self._max_log = max_log
        self._probe: asyncio.Future[list[Row]] | None = None
        self.clock = clock
        self.accounts = Accounts(engine, retention, clock)
        self.calls = Calls(readers, self._codec)
        self.browsing = Browsing(readers, clock)
        self.errors = CallErrors(readers)
        self.figures = FigureReader(readers, clock)
        self.quarantine = Quarantine(engine)
        self.arrivals = ArrivalLog(readers)
        self.sign_ins = SignIns(engine, clock)
        self.imports = Imports(engine)
        self.mirrors = Mirrors(engine, clock)
        self._batcher: Batcher[Record, Outcome] = Batcher(
            self.load, batch_items=BATCH_RECORDS, max_waiting=MAX_WAITING_RECORDS, on_batch=BATCH_SIZE.observe
        )

    async def start(self) -> None:
        await self.accounts.load_key()
        await self._engine.quick(self._codec.load)

    @property
    def waiting(self) -> int:
        """Records on their way to the disk."""
        return self._batcher.waiting

    async def ingest(self, records: Sequence[Record]) -> list[Outcome]:
        """Keep *records*, together with what others send at the same time; an outcome for each once all are on disk.

        Raises Busy when too much is waiting and StoreUnavailable when the store cannot write.
        """
        return await self._batcher.submit(records)

    async def load(self, records: Sequence[Record], places: Sequence[Place] = ()) -> list[Outcome]:
        """Keep *records* in one transaction of their own, and the *places* in files that they were read up to: for
        loading in bulk.
        """

        def work(tx: Transaction) -> list[Outcome]:
            imports.put(tx, places, self.clock())
            return self._batch_writer(tx).write(records)

        return await self._engine.write(work, _accounts(records) | {place.account_id for place in places})

    async def load_mirrored(
        self, records: Sequence[Record], advance: Callable[[Sequence[Outcome]], Advance]
    ) -> list[Outcome]:
        """Keep *records* in one transaction, and what *advance* makes of the outcomes: how far their mirror has come.

        Raises MirrorError, and nothing is kept, when the mirror has another owner by now.
        """

        def work(tx: Transaction) -> list[Outcome]:
            outcomes = self._batch_writer(tx).write(records)
            mirrors.advance(tx, advance(outcomes))
            return outcomes

        return await self._engine.write(work, _accounts(records))

    async def replay(self, record: Record, entry_id: int) -> Outcome:
        """Try a quarantined record again; it leaves the quarantine when it is kept, in the same transaction."""

        def work(tx: Transaction) -> Outcome:
            [outcome] = self._batch_writer(tx).write([record])
            if outcome.refusal is None:
                quarantine.drop(tx, record.account.id, entry_id)
            return outcome

        return await self._engine.write(work, [record.account.id])

    async def close_lost(self, account: Account, source: str, closing: Fragment, silent_since: int) -> int:
        """Close a chunk of *account*'s calls in progress of which no row came to *source* since *silent_since*: each
        gets *closing* as one more row. How many were closed.
        """

        def work(reader: Reader) -> list[str]:
            return fragments.silent(reader, account.id, source, silent_since, expiry.CHUNK)

        lost = await self._engine.read(work)
        if not lost:
            return 0
        outcomes = await self.load(
            [
                Record(
                    account=account,
                    source=source,
                    raw=closing.content,
                    read=msgspec.structs.replace(closing, group=name),
                    origin=SILENCE,
                )
                for name in lost
            ]
        )
        return sum(outcome.refusal is None for outcome in outcomes)

    def _batch_writer(self, tx: Transaction) -> BatchWriter:
        return BatchWriter(tx, self._codec, now=self.clock(), max_events=self._max_events, max_log=self._max_log)

    async def expire(self, account: Account) -> int:
        """Remove a chunk of what *account* keeps no longer; rows removed."""
        return await self._engine.write(lambda tx: expiry.expire_account(tx, account, self.clock()), [account.id])

    async def settle(self, account: Account) -> int:
        """Find out some of the peaks that *account*'s calls made unknown; how many, 0 when there are none."""
        return await self._engine.write(lambda tx: concurrency.settle(tx, account.id, self.clock()), [account.id])

    async def expire_quarantine(self, account: Account) -> int:
        """Remove a chunk of *account*'s refused records that are older than their retention; rows removed."""
        if account.retention.quarantine is None:
            return 0
        before = self.clock() - account.retention.quarantine
        return await self._engine.write(lambda tx: expiry.expire_quarantine(tx, account.id, before), [account.id])

    async def train(self) -> bool:
        """Train the dictionary of the logs when it is time; whether it was."""
        if self._codec.has_dictionary:
            return False
        dictionary = await self._engine.read(lambda reader: logs.train(reader, self._codec))
        if dictionary is None:
            return False
        await self._engine.write(lambda tx: logs.add(tx, dictionary))
        # Only what is committed: a log that is packed with anything else could never be read.
        await self._engine.quick(self._codec.load)
        return True

    async def probe(self) -> None:
        """Return once something was read, and written and on disk; raises StoreUnavailable otherwise.

        Who asks while a probe is under way waits for that one: probes must not queue up before a store that hangs.
        """

        def read(reader: Reader) -> None:
            [(account_id,)] = reader.rows(_NEWEST_ACCOUNT, {})
            reader.rows(_ONE_OF_ITS_CALLS, {"account_id": account_id})

        await self._engine.quick(read)
        if self._probe is None or self._probe.done():
            written = self._engine.write(lambda tx: tx.each(_PROBE, [{"now": str(self.clock()).encode()}]), ())
            self._probe = asyncio.ensure_future(written)
            # Whoever asked may have given up meanwhile.
            self._probe.add_done_callback(lambda probe: probe.cancelled() or probe.exception())
        await asyncio.shield(self._probe)

    async def is_nearly_full(self) -> bool:
        """Whether the disk has so little room left that a batch may not fit."""
        free = await self._engine.free()
        return free is not None and free < LEAST_FREE

    async def horizon(self, account_id: int) -> tuple[int | None, int | None]:
        """When an account's oldest call began, to the hour, and its oldest log ended, in ms; None: there is none."""

        def work(reader: Reader) -> tuple[int | None, int | None]:
            [(hour,)] = reader.rows(_OLDEST_CALL, {"account_id": account_id})
            [(log,)] = reader.rows(_OLDEST_LOG, {"account_id": account_id})
            return (None if hour is None else hour * 3_600_000), log

        return await self._engine.quick(work)

    async def statistics(self) -> Statistics:
        """What the store holds, counted now; takes longer the more logs there are."""
        accounts = [account.id for account in await self.accounts.all()]

        def oldest(reader: Reader, sql: str) -> int | None:
            found = [reader.rows(sql, {"account_id": account_id})[0][0] for account_id in accounts]
            return min((value for value in found if value is not None), default=None)

        def work(reader: Reader) -> Statistics:
            rows = {
                table: sum(int(reader.rows(sql, {"account_id": account_id})[0][0]) for account_id in accounts)
                for table, sql in _STATISTICS.items()
            }
            hour = oldest(reader, _OLDEST_CALL)
            return Statistics(rows, 0, None, None if hour is None else hour * 3_600_000, oldest(reader, _OLDEST_LOG))

        counted = await self._engine.read(work)
        return msgspec.structs.replace(counted, bytes=await self._engine.size(), free=await self._engine.free())

    async def sizes(self) -> dict[str, int]:
        """Bytes of each table with its indexes, measured now. Raises TookTooLong where there are too many."""
        return await self._engine.sizes()

    async def days(self, account_id: int, days: int) -> list[KeptDay]:
        """What is kept of each of the last *days* of which something is, the latest first."""
        first = self.clock() // DAY - days + 1
        return await self._engine.read(lambda reader: kept.by_day(reader, account_id, first))

    async def backup(self, target: Path, on_progress: Progress, *, force: bool) -> Path:
        """Write a snapshot to *target* as callhouse.store.backup says, while others read and write."""
        return await backup.make(self._engine, target, self.clock(), force=force, on_progress=on_progress)

    async def close(self) -> None:
        """Write what is waiting and let go of the database."""
        await self._batcher.drain()
        if self._replicas is not None:
            await self._replicas.close()
        await self._engine.close()


def _accounts(records: Sequence[Record]) -> set[int]:
    """Whose the *records* are."""
    return {record.account.id for record in records}


async def open_store(
    location: Path | str,
    *,
    retention: Retention,
    clock: Callable[[], int],
    max_events: int = 10_000,
    max_log: int = 64 * 1024 * 1024,
    read_limit: float | None = None,
    create: bool = True,
    distributed: bool = False,
    replicas: Sequence[str] = (),
    replica_lag: float = 1.0,
) -> Store:
    """Open the store at *location*: a directory, or the URL of a database of PostgreSQL. Where there is none, *create*
    says whether one is made. Reads longer than *read_limit* seconds raise TookTooLong.

    A database that is *distributed* is one of Citus. What people ask for is read from *replicas*, databases at URLs,
    where these are not more than *replica_lag* seconds behind.

    Raises NoStore when there is none and none is to be made, and StoreUnavailable when it cannot be used.
    """
    engine: Engine
    followers = None
    if isinstance(location, str):
        # Who has a directory need not load what speaks with a server.
        from callhouse.store.postgres import Postgres  # noqa: PLC0415
        from callhouse.store.replicas import Replicas  # noqa: PLC0415

        engine = Postgres(location, create=create, read_limit=read_limit, distributed=distributed)
        followers = Replicas(engine, replicas, replica_lag, read_limit) if replicas else None
    else:
        engine = SQLite(location, create=create, read_limit=read_limit)
    store = Store(
        TimedEngine(engine),
        retention,
        clock,
        max_events=max_events,
        max_log=max_log,
        replicas=followers,
    )
    await store.start()
    return store
