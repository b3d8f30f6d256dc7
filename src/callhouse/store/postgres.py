"""The server engine: a PostgreSQL database, which any number of nodes share."""

import asyncio
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import apsw
import psycopg

from callhouse.errors import NoStore, StoreUnavailable, TookTooLong
from callhouse.store import postgres_connection
from callhouse.store.engine import Parameters, Progress, Reader, Row, Transaction
from callhouse.store.log_writer import account_word
from callhouse.store.migrations import migrations
from callhouse.store.postgres_connection import Connection, failure
from callhouse.store.postgres_pool import Pool

T = TypeVar("T")

OLDEST = 150_000
"""PostgreSQL 15, as the server counts its versions."""

READING_THREADS = 8
WRITING_THREADS = 2
"""A batch waits for no other write of its node."""

WRITE_SECONDS = 120.0
"""How long a transaction that writes may take, waiting for its turn included."""

LONGEST_WORD = 500
"""Bytes of a word in the index; a longer one is found by its digest. An entry of an index has 2,700 at most."""

# Every write holds these until it is committed: of the accounts that it writes to, in order, so that no two writes wait
# for each other; one that names none keeps all others waiting. The number stands for Callhouse among others' locks.
LOCKS = 1_128_352_332
_LOCK_ALL = f"SELECT pg_advisory_xact_lock({LOCKS}, 0)"
_LOCK_SOME = f"SELECT pg_advisory_xact_lock_shared({LOCKS}, 0)"
_LOCK_ACCOUNT = f"SELECT pg_advisory_xact_lock({LOCKS}, CAST(:lock AS INTEGER))"
_LARGEST_LOCK = 2**31 - 1

_BEGIN_WRITING = b"BEGIN; SET LOCAL statement_timeout = 0"
_HAS_CITUS = b"SELECT 1 FROM pg_extension WHERE extname = 'citus'"
_IS_DISTRIBUTED = b"SELECT 1 FROM pg_dist_partition WHERE logicalrelid = CAST('calls' AS regclass)"
_SCHEMA = b"SELECT number FROM schema_version"
_HAS_SCHEMA = b"SELECT to_regclass('schema_version') IS NOT NULL"
_SET_SCHEMA = b"UPDATE schema_version SET number = %d"
_MAKE_SCHEMA = b"CREATE TABLE schema_version (number BIGINT NOT NULL); INSERT INTO schema_version VALUES (0)"
_SIZE = "SELECT pg_database_size(current_database())"
_SIZES = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = CAST(current_schema() AS regnamespace)
"""
_MATCHES = """
SELECT call_id FROM log_words
WHERE account_id = :account_id AND call_id BETWEEN :low AND :high AND words @> CAST(:words_of_log AS TEXT[])
"""
# Of each call by itself: the offset keeps the planner from reading all that the index of words has instead.
_HOLDS = """
EXISTS (
    SELECT 1 FROM log_words
    WHERE account_id = :account_id AND call_id = calls.id AND words @> CAST(:words_of_log AS TEXT[]) OFFSET 0
)
"""
_INDEX_WORDS = "INSERT INTO log_words (account_id, call_id, words) VALUES (:account_id, :call_id, :words)"
_FORGET_WORDS = "DELETE FROM log_words WHERE account_id = :account_id AND call_id = :call_id"

_NAME = re.compile(r"'(?:[^']|'')*'|:([a-z_]\w*)")
_READS = re.compile(r"\s*(?:SELECT|WITH)\b")
_PLAIN_INSERT = re.compile(r"INSERT INTO (\w+) \(([^)]*)\)\s+VALUES \((?::\w+(?:, )?)*\)")
_NO_TEXT = "\ufffe\uffff"
"""Stands for a character that no text has."""


class _Statement(NamedTuple):
    """A statement as PostgreSQL takes it, and the names of its parameters in order; of one that only adds rows the
    *table* with its columns.
    """

    query: bytes
    names: Sequence[str]
    reads: bool
    gives_rows: bool
    table: str | None

    def values(self, parameters: Parameters) -> list[Any]:
        """The values in order."""
        values = [parameters[name] for name in self.names]
        if self.reads and any(isinstance(value, str) and "\0" in value for value in values):
            # No text of ours holds what those of PostgreSQL cannot, so that none is like one that does.
            return [v.replace("\0", _NO_TEXT) if isinstance(v, str) else v for v in values]
        return values


@functools.lru_cache(4_096)
def _statement(sql: str) -> _Statement:
    names: dict[str, int] = {}

    def place(found: re.Match[str]) -> str:
        name = found[1]
        return found[0] if name is None else f"${names.setdefault(name, len(names) + 1)}"

    query = _NAME.sub(place, sql).encode()
    reads = bool(_READS.match(sql))
    plain = _PLAIN_INSERT.fullmatch(sql.strip())
    table = f"{plain[1]} ({plain[2]})" if plain and len(names) == plain[2].count(",") + 1 else None
    return _Statement(query, tuple(names), reads, reads or "RETURNING" in sql, table)


_ARRAYS = {int: "BIGINT[]", str: "TEXT[]", bytes: "BYTEA[]"}


def _array_type(values: Sequence[Any]) -> str:
    return next((_ARRAYS[type(value)] for value in values if value is not None), "TEXT[]")


@functools.lru_cache(256)
def _of_all(sql: str, types: Sequence[str]) -> bytes:
    """What *sql*, which only reads, gives for each of several rows of parameters, in their order: these are given as an
    array for each name.
    """
    names = _statement(sql).names
    arrays = ", ".join(f"CAST(${n} AS {kind})" for n, kind in enumerate(types, 1))
    of_one = _NAME.sub(lambda found: found[0] if found[1] is None else f"given.of_{found[1]}", sql)
    columns = ", ".join(f"of_{name}" for name in names)
    return f"""
    SELECT found.* FROM unnest({arrays}) WITH ORDINALITY AS given ({columns}, place), LATERAL ({of_one}) AS found
    ORDER BY given.place
    """.encode()  # noqa: S608


class Cutter:
    """Cuts texts into words just as the embedded engine does, whose own cutter it is."""

    def __init__(self) -> None:
        connection = apsw.Connection(":memory:")
        self._tokenize = connection.fts5_tokenizer("unicode61", ["remove_diacritics", "2"])

    def words(self, text: str, reason: int = apsw.FTS5_TOKENIZE_DOCUMENT) -> list[str]:
        """The words of *text*, each once, in order."""
        found = self._tokenize(text.encode(), reason, None, include_offsets=False)
        return sorted({_short(str(word)) for words in found for word in words})


def _short(word: str) -> str:
    encoded = word.encode()
    return word if len(encoded) <= LONGEST_WORD else hashlib.blake2b(encoded).hexdigest()


class PostgresTransaction:
    """Reads and writes through one connection; satisfies Reader and Transaction."""

    def __init__(self, connection: Connection, deadline: float | None = None) -> None:
        self._cursor = psycopg.RawCursor(connection)
        self._cursor.format = psycopg.pq.Format.BINARY
        self._deadline = deadline

    def rows(self, sql: str, parameters: Parameters) -> list[Row]:
        if self._deadline is not None and monotonic() > self._deadline:
            raise TookTooLong
        statement = _statement(sql)
        self._cursor.execute(statement.query, statement.values(parameters))
        return self._cursor.fetchall() if statement.gives_rows else []

    def each(self, sql: str, parameters: Iterable[Parameters]) -> list[Row]:
        statement = _statement(sql)
        values = [statement.values(given) for given in parameters]
        if len(values) == 1:
            self._cursor.execute(statement.query, values[0])
            return self._cursor.fetchall() if statement.gives_rows else []
        if not values:
            return []
        if statement.reads:
            # Planned once for all.
            columns = [*map(list, zip(*values, strict=True))]
            self._cursor.execute(_of_all(sql, tuple(map(_array_type, columns))), columns)
            return self._cursor.fetchall()
        if statement.table is not None:
            # Rows that go nowhere else and of which nothing comes back: the bulk of a batch.
            with self._cursor.copy(f"COPY {statement.table} FROM STDIN".encode()) as copy:
                for row in values:
                    copy.write_row(row)
            return []
        self._cursor.executemany(statement.query, values, returning=statement.gives_rows)
        return [row for result in self._cursor.results() for row in result] if statement.gives_rows else []

    def calls_with_words(self, words: Sequence[str], parameters: Parameters, sql: str) -> list[Row]:
        # The index knows of accounts by their words alone.
        terms = [account_word(parameters["account_id"]), *words]
        wanted = Cutter().words(" ".join(terms), apsw.FTS5_TOKENIZE_QUERY)
        return self.rows(sql.format(matches=_MATCHES, holds=_HOLDS), {**parameters, "words_of_log": wanted})

    def index_words(self, words: Iterable[tuple[int, int, str]]) -> None:
        cutter = Cutter()
        self.each(
            _INDEX_WORDS,
            (
                {"account_id": account_id, "call_id": call_id, "words": cutter.words(text)}
                for account_id, call_id, text in words
            ),
        )

    def forget_words(self, calls: Iterable[tuple[int, int]]) -> None:
        self.each(_FORGET_WORDS, ({"account_id": account_id, "call_id": call_id} for account_id, call_id in calls))


class Postgres:
    """The database at a URL. Satisfies Engine."""

    def __init__(
        self, url: str, *, create: bool = True, read_limit: float | None = None, distributed: bool = False
    ) -> None:
        """Connect and, if it is to *create* the store, bring its schema up to date; a read may take *read_limit*
        seconds. With *distributed* its tables are spread over the servers of Citus.

        Raises StoreUnavailable when the database cannot be used, and NoStore when it holds none and none is to be made.
        """
        # What these would tell is told by what is raised.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        place = postgres_connection.place_of(url)
        try:
            with psycopg.connect(postgres_connection.conninfo(url), autocommit=True) as connection:
                postgres_connection.set_up(connection, None)
                migrate(connection, place, create=create)
                if distributed:
                    _distribute(connection, place)
        except psycopg.Error as error:
            kind = type(failure(error))
            raise kind(f"The database {place} cannot be used: {postgres_connection.reason(error)}.") from error
        self._read_limit = read_limit
        self._begin_reading = begin_reading(read_limit)
        self._pool = Pool(url, READING_THREADS + WRITING_THREADS, read_limit)
        self._readers = ThreadPoolExecutor(READING_THREADS, "store-read")
        self._writers = ThreadPoolExecutor(WRITING_THREADS, "store-write")
        self._writing = self._pool.watch(WRITE_SECONDS)

    async def quick(self, work: Callable[[Reader], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work, None)

    async def read(self, work: Callable[[Reader], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work, self._begin_reading)

    def _read(self, work: Callable[[Reader], T], begin: bytes | None) -> T:
        return self._pool.run(reading(work, self._read_limit if begin else None), begin)

    async def write(self, work: Callable[[Transaction], T], accounts: Collection[int] | None = None) -> T:
        def locked(connection: Connection) -> T:
            transaction = PostgresTransaction(connection)
            transaction.rows(_LOCK_ALL if accounts is None else _LOCK_SOME, {})
            locks = sorted({1 + account_id % _LARGEST_LOCK for account_id in accounts or ()})
            transaction.each(_LOCK_ACCOUNT, ({"lock": lock} for lock in locks))
            return work(transaction)

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writers, self._pool.run, locked, _BEGIN_WRITING, self._writing)

    async def backup(self, _target: Path, _on_progress: Progress) -> None:
        raise StoreUnavailable("a store in PostgreSQL is backed up by PostgreSQL's own means, such as pg_dump")

    async def size(self) -> int:
        return int((await self.quick(lambda reader: reader.rows(_SIZE, {})))[0][0])

    async def sizes(self) -> dict[str, int]:
        return await self.read(lambda reader: dict(reader.rows(_SIZES, {})))

    async def free(self) -> int | None:
        return None

    async def close(self) -> None:
        for executor in (self._writers, self._readers):
            await asyncio.to_thread(executor.shutdown)
        await asyncio.to_thread(self._pool.close)


def begin_reading(limit: float | None) -> bytes:
    """Begins a snapshot in which a statement may take *limit* seconds."""
    begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = "
    return f"{begin}{postgres_connection.milliseconds(limit)}".encode()


def reading(work: Callable[[Reader], T], limit: float | None) -> Callable[[Connection], T]:
    """*work* on a connection, for *limit* seconds at most but for its last statement."""
    deadline = None if limit is None else monotonic() + limit
    return lambda connection: work(PostgresTransaction(connection, deadline))


def migrate(connection: Connection, place: str, *, create: bool) -> None:
    """Bring the schema of the database at *place* up to date, or with *create* make it; raises as Postgres does."""
    steps = migrations("postgresql")
    if connection.info.server_version < OLDEST:
        raise StoreUnavailable(f"The server of {place} is older than PostgreSQL 15.")
    [(encoding,)] = connection.execute(b"SHOW server_encoding").fetchall()
    if encoding != "UTF8":
        raise StoreUnavailable(f"The database {place} is encoded in {encoding}; it takes one in UTF8.")
    present = schema_of(connection)
    if present is None and not create:
        raise NoStore(f"The database {place} holds no store.")
    if present == steps[-1].number:
        return
    with connection.transaction():
        connection.execute(_LOCK_ALL.encode())
        present = schema_of(connection) or 0
        if present > steps[-1].number:
            raise StoreUnavailable(f"The store has schema {present}, newer than this program's {steps[-1].number}.")
        if not present:
            connection.execute(_MAKE_SCHEMA)
        for step in steps:
            if step.number > present:
                connection.execute(step.sql.encode())
                connection.execute(_SET_SCHEMA % step.number)


def _distribute(connection: Connection, place: str) -> None:
    """Spread the tables, if that was not done yet."""
    if not connection.execute(_HAS_CITUS).fetchall():
        raise StoreUnavailable(
            f"store.distributed is set, but {place} has no Citus: install it and run CREATE EXTENSION citus."
        )
    with connection.transaction():
        connection.execute(_LOCK_ALL.encode())
        if not connection.execute(_IS_DISTRIBUTED).fetchall():
            for step in migrations("citus"):
                connection.execute(step.sql.encode())


def schema_of(connection: Connection) -> int | None:
    """The number of the schema that is there; None when there is none.

    Raises StoreUnavailable while a store is being moved to the database, when the number is negative.
    """
    if not connection.execute(_HAS_SCHEMA).fetchall()[0][0]:
        return None
    number = int(connection.execute(_SCHEMA).fetchall()[0][0])
    if number < 0:
        raise StoreUnavailable(
            "The database holds a copy of a store that is not finished yet: run the same `callhouse move` again."
        )
    return number
