"""The embedded engine: one SQLite file in WAL mode, one connection that writes, one for each thread that reads."""

import asyncio
import shlex
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import apsw

from callhouse.errors import NoStore, StoreDamaged, StoreRefused, StoreUnavailable, TookTooLong
from callhouse.store import sqlite_copy
from callhouse.store.engine import Parameters, Progress, Reader, Row, Transaction
from callhouse.store.log_writer import account_word
from callhouse.store.migrations import migrations
from callhouse.store.watch import Watch

T = TypeVar("T")

FILE_NAME = "callhouse.db"
READING_THREADS = 4

READER_CACHE_KIB = 16 * 1024
WRITER_CACHE_KIB = 128 * 1024
"""Random session ids dirty pages all over the indexes; the writer is quicker when it need not fetch them again."""

LOOP_BUSY_MS = 1_000
"""How long a read on the event loop may wait for a lock, which readers need only while another process recovers."""

LOOP_STEPS = 200_000
"""Steps of SQLite's machine, some milliseconds of them, after which a read on the event loop is made elsewhere."""

# Goes through all pages. What FTS5 keeps in tables of its own, and what SQLite does, counts for what it is kept for.
_SIZES = """
SELECT CASE WHEN pages.name LIKE 'log_words%' THEN 'log_words' ELSE coalesce(tbl_name, 'sqlite_schema') END AS owner,
sum(pgsize) FROM dbstat AS pages LEFT JOIN sqlite_schema ON sqlite_schema.name = pages.name
WHERE aggregate = TRUE GROUP BY owner
"""

MOVED = "moved"
"""The name in meta of the mark of a store that was moved; the value is the URL of where it is."""

_MOVED = f"SELECT value FROM meta WHERE name = '{MOVED}'"  # noqa: S608

NEAR = 32
"""In this part of the index of words, the newest, a search is quicker from its end: the index is made of several, and
of the small ones, which hold what came last, all that comes before is read.
"""

_MATCHES = "SELECT rowid FROM log_words WHERE log_words MATCH :phrase AND rowid BETWEEN :low AND :high"
# Without a limit the order would be left out.
_FROM_THE_END = f"{_MATCHES} ORDER BY rowid DESC LIMIT -1"
_NEWEST_WORDS = "SELECT coalesce(max(id), 0) FROM log_words_docsize"

_UNREADABLE = {apsw.SQLITE_IOERR_READ, apsw.SQLITE_IOERR_SHORT_READ, apsw.SQLITE_IOERR_CORRUPTFS}

# synchronous=FULL: a commit is on disk before it returns. Checkpoints are rarer than SQLite's default of 1,000 pages
# because random session ids dirty a page each, and a page that is dirtied often is better copied once. The file is read
# and not mapped: what a disk has lost, or a file that was cut short, would end the process (SIGBUS) and with it all
# that others have asked, and mapping saved no more than two microseconds of a log's twenty.
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 8192",
    "PRAGMA journal_size_limit = 67108864",
)


class SQLiteTransaction:
    """Reads and writes through one connection; satisfies Reader and Transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, parameters: Parameters) -> list[Row]:
        return self._connection.execute(sql, parameters).fetchall()

    def each(self, sql: str, parameters: Iterable[Parameters]) -> list[Row]:
        return self._connection.executemany(sql, parameters).fetchall()

    def calls_with_words(self, words: Sequence[str], parameters: Parameters, sql: str) -> list[Row]:
        # Cut into words as the index was: a term of two words would be a phrase, which detail=none cannot look up.
        tokenizer = self._connection.fts5_tokenizer("unicode61", ["remove_diacritics", "2"])
        found = tokenizer(" ".join(words).encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False)
        # What has no word in it is held by every log.
        phrase = " ".join(f'"{token}"' for tokens in found for token in tokens) or account_word(
            parameters["account_id"]
        )
        [(newest,)] = self.rows(_NEWEST_WORDS, {})
        near = _FROM_THE_END if parameters["low"] > newest - newest // NEAR else _MATCHES
        given = {**parameters, "phrase": phrase}
        return self.rows(sql.format(matches=_MATCHES, holds=f"+id IN ({near})"), given)

    def index_words(self, words: Iterable[tuple[int, int, str]]) -> None:
        rows = ((call_id, text) for _, call_id, text in words)
        self._connection.executemany("INSERT INTO log_words (rowid, words) VALUES (?, ?)", rows)

    def forget_words(self, calls: Iterable[tuple[int, int]]) -> None:
        rows = ((call_id,) for _, call_id in calls)
        self._connection.executemany("DELETE FROM log_words WHERE rowid = ?", rows)


class SQLite:
    """The file ``callhouse.db`` in a directory; several processes may have it open at once. Satisfies Engine."""

    def __init__(
        self, directory: Path, *, create: bool = True, busy_timeout_ms: int = 30_000, read_limit: float | None = None
    ) -> None:
        """Open or *create* the store in *directory* and bring its schema up to date; a read may take *read_limit*
        seconds.

        Raises StoreUnavailable when the directory or the file cannot be used, and NoStore when there is none and none
        is to be created.
        """
        self.path = directory / FILE_NAME
        self._busy_timeout = busy_timeout_ms
        self._opened: list[apsw.Connection] = []
        self._opening = threading.Lock()
        try:
            if not create and not directory.is_file() and not self.path.exists():
                raise NoStore(f"The directory {directory} holds no store.")
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # What the store holds is nobody else's business, whatever the directory's mode; WAL files take this one's.
            self.path.touch(mode=0o600, exist_ok=True)
            self._loop_side = self._open(READER_CACHE_KIB)
            migrate(self._loop_side)
            self._loop_side.set_busy_timeout(LOOP_BUSY_MS)
            self._loop_side.set_progress_handler(lambda: True, LOOP_STEPS)
            self._loop_reader = SQLiteTransaction(self._loop_side)
        except FileExistsError as error:
            raise StoreUnavailable(f"The data directory {directory} cannot be used: it is a file.") from error
        except OSError as error:
            raise StoreUnavailable(f"The data directory {directory} cannot be used: {error.strerror}.") from error
        except apsw.Error as error:
            kind = type(failure(error))
            raise kind(f"The store {self.path} cannot be opened: {error}.") from error
        self._reading = threading.local()
        self._readers = ThreadPoolExecutor(READING_THREADS, "store-read")
        self._writer = ThreadPoolExecutor(1, "store-write")
        self._writing: apsw.Connection | None = None
        self._watch = None if read_limit is None else Watch(read_limit, apsw.Connection.interrupt)

    def _open(self, cache_kib: int) -> apsw.Connection:
        with self._opening:
            connection = connect(self.path, self._busy_timeout, cache_kib)
            self._opened.append(connection)
        return connection

    def _opened_or_unavailable(self, cache_kib: int) -> apsw.Connection:
        try:
            return self._open(cache_kib)
        except apsw.Error as error:
            raise failure(error) from error

    async def quick(self, work: Callable[[Reader], T]) -> T:
        # A few index look-ups cost less than the hop to another thread would.
        try:
            return work(self._loop_reader)
        except apsw.InterruptError:
            # It was not quick after all, and must not keep all the others waiting.
            return await self.read(work)
        except apsw.Error as error:
            raise failure(error) from error

    async def read(self, work: Callable[[Reader], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def _read(self, work: Callable[[Reader], T]) -> T:
        connection: apsw.Connection | None = getattr(self._reading, "connection", None)
        if connection is None:
            connection = self._reading.connection = self._opened_or_unavailable(READER_CACHE_KIB)
        with nullcontext() if self._watch is None else self._watch.over(connection):
            return _in_transaction(connection, "BEGIN", work)

    async def write(self, work: Callable[[Transaction], T], _accounts: Collection[int] | None = None) -> T:
        # There is one writer at a time in any case.
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)

    def _write(self, work: Callable[[Transaction], T]) -> T:
        if self._writing is None:
            self._writing = self._opened_or_unavailable(WRITER_CACHE_KIB)
        return _in_transaction(self._writing, "BEGIN IMMEDIATE", lambda tx: work(_still_here(tx)))

    async def backup(self, target: Path, on_progress: Progress) -> None:
        stop = threading.Event()

        def work() -> None:
            try:
                sqlite_copy.copy(self._open(READER_CACHE_KIB), target, on_progress, stop)
            except (apsw.Error, OSError) as error:
                raise failure(error) from error

        try:
            await asyncio.get_running_loop().run_in_executor(self._readers, work)
        finally:
            # Who was waiting may have been cancelled; the thread would copy on.
            stop.set()

    async def size(self) -> int:
        files = (self.path, self.path.with_name(FILE_NAME + "-wal"))
        return sum(f.stat().st_size for f in files if f.exists())

    async def sizes(self) -> dict[str, int]:
        return await self.read(lambda reader: dict(reader.rows(_SIZES, {})))

    async def free(self) -> int | None:
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise StoreUnavailable(str(error)) from error

    async def close(self) -> None:
        for executor in (self._writer, self._readers):
            await asyncio.to_thread(executor.shutdown)
        if self._watch is not None:
            self._watch.end()
        for connection in self._opened:
            connection.close()


def connect(path: Path, busy_timeout_ms: int, cache_kib: int) -> apsw.Connection:
    """A connection to the store's file, set up as all are."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(busy_timeout_ms)
    # Otherwise a statement is prepared anew whenever a value is bound that a plan might depend on, which took longer
    # than running it: a page with its total went from 76 to 29 µs.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    connection.execute(f"PRAGMA cache_size = -{cache_kib}")
    return connection


def moved_to(reader: Reader) -> bytes | None:
    """What the mark of a store that was moved says of where it is; None while it is here."""
    marks = reader.rows(_MOVED, {})
    return marks[0][0] if marks else None


def _still_here(tx: SQLiteTransaction) -> SQLiteTransaction:
    # Asked in every transaction that writes, as the mark may be made at any time.
    if (place := moved_to(tx)) is not None:
        raise StoreUnavailable(
            f"The store was moved: start with --store {shlex.quote(place.decode())}, it is only read here."
        )
    return tx


def _in_transaction(connection: apsw.Connection, begin: str, work: Callable[[SQLiteTransaction], T]) -> T:
    try:
        connection.execute(begin)
        try:
            result = work(SQLiteTransaction(connection))
            connection.execute("COMMIT")
        except BaseException:
            # Some failures (a full disk, say) have rolled back already.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    except apsw.Error as error:
        raise failure(error) from error
    return result


def failure(error: Exception) -> StoreUnavailable:
    """*error* of SQLite or of the system as one of ours."""
    unreadable = isinstance(error, apsw.IOError) and error.extendedresult in _UNREADABLE  # type: ignore[attr-defined]
    if unreadable or isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return StoreDamaged(f"{error}; `callhouse check` tells what is hit")
    if isinstance(error, apsw.InterruptError):
        return TookTooLong()
    refusals = (apsw.ConstraintError, apsw.MismatchError, apsw.RangeError, apsw.SQLError, apsw.TooBigError)
    return StoreRefused(str(error)) if isinstance(error, refusals) else StoreUnavailable(str(error))


def migrate(connection: apsw.Connection) -> None:
    """Bring the schema up to date. Raises StoreUnavailable when it is newer than this program's."""
    steps = migrations("sqlite")

    def apply(_: SQLiteTransaction) -> None:
        present = connection.pragma("user_version")
        if present > steps[-1].number:
            raise StoreUnavailable(f"The store has schema {present}, newer than this program's {steps[-1].number}.")
        for step in steps:
            if step.number > present:
                connection.execute(step.sql)
                connection.pragma("user_version", step.number)

    if connection.pragma("user_version") != steps[-1].number:
        _in_transaction(connection, "BEGIN IMMEDIATE", apply)
