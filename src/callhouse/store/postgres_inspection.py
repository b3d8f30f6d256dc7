"""Looking into a database of PostgreSQL that may be damaged."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psycopg

from callhouse.errors import NoStore, StoreUnavailable
from callhouse.store import postgres_connection
from callhouse.store.engine import Parameters, Row
from callhouse.store.migrations import migrations
from callhouse.store.postgres import Cutter, PostgresTransaction, schema_of
from callhouse.store.postgres_connection import Connection, failure, reason

_BEGIN = b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SAVEPOINT snapshot"
_TABLES = """
SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = CAST(current_schema() AS regnamespace)
AND NOT EXISTS (SELECT 1 FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e') ORDER BY relname
"""
_HAS_AMCHECK = """
SELECT to_regprocedure('bt_index_check(regclass,boolean)') IS NOT NULL
AND has_function_privilege('bt_index_check(regclass,boolean)', 'execute')
"""
_INDEXES = """
SELECT indexrelid FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
WHERE indrelid = CAST(:part AS regclass) AND amname = 'btree' ORDER BY indexrelid
"""
_CHECK_INDEX = "SELECT bt_index_check(CAST(CAST(:index AS OID) AS regclass), TRUE)"
_READ = "SELECT count(CAST(part AS TEXT)) FROM {part} AS part"
_LAST_ID = "SELECT coalesce(max(id), 0) FROM {table}"
_INDEXED = "SELECT call_id, words FROM log_words WHERE call_id BETWEEN :first AND :last"


class PostgresInspection(PostgresTransaction):
    """Satisfies Inspection."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection
        connection.execute(_BEGIN)

    def rows(self, sql: str, parameters: Parameters) -> list[Row]:
        try:
            return super().rows(sql, parameters)
        except psycopg.Error as error:
            self._go_on()
            raise failure(error) from error

    def _go_on(self) -> None:
        """See the same snapshot again after a statement that failed."""
        if not postgres_connection.is_lost(self._connection):
            self._connection.execute(b"ROLLBACK TO SAVEPOINT snapshot")

    def parts(self) -> list[str]:
        return [name for (name,) in self.rows(_TABLES, {})]

    def faults(self, part: str) -> list[str]:
        """With PostgreSQL's amcheck, where it is installed and allowed, indexes are compared with their table."""
        found: list[str] = []
        statements: list[tuple[str, Parameters]] = [(_READ.format(part=f'"{part}"'), {})]
        if self.rows(_HAS_AMCHECK, {})[0][0]:
            statements += [(_CHECK_INDEX, {"index": index}) for (index,) in self.rows(_INDEXES, {"part": part})]
        for sql, parameters in statements:
            try:
                super().rows(sql, parameters)
            except psycopg.Error as error:
                self._go_on()
                found.append(reason(error))
        return found

    def last_id(self, table: str) -> int:
        return int(self.rows(_LAST_ID.format(table=table), {})[0][0])

    def misfiled(self, first: int, last: int, texts: Mapping[int, str]) -> set[int]:
        cutter = Cutter()
        indexed: dict[int, list[str]] = dict(self.rows(_INDEXED, {"first": first, "last": last}))
        wanted = {call_id: cutter.words(text) for call_id, text in texts.items()}
        return {each for each in indexed.keys() | wanted.keys() if indexed.get(each) != wanted.get(each)}


@contextmanager
def inspected(url: str) -> Iterator[PostgresInspection]:
    """A snapshot of the store in the database at *url*.

    Raises NoStore when it holds none, and StoreUnavailable when it cannot be used or its schema is not known.
    """
    place = postgres_connection.place_of(url)
    newest = migrations("postgresql")[-1].number
    try:
        with psycopg.connect(postgres_connection.conninfo(url), autocommit=True) as connection:
            postgres_connection.set_up(connection, None)
            present = schema_of(connection)
            if present is None:
                raise NoStore(f"The database {place} holds no store.")
            if present > newest:
                raise StoreUnavailable(f"The store has schema {present}, newer than this program's {newest}.")
            yield PostgresInspection(connection)
    except psycopg.Error as error:
        raise type(failure(error))(f"The database {place} cannot be used: {reason(error)}.") from error
