"""The database that a store is moved to, which is no store before all of it is there.

What finds rows by other things than their key, and what ties tables together, is put back once the bulk is copied.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import msgspec
import psycopg

from callhouse.errors import MoveError, TookTooLong
from callhouse.store import postgres_connection
from callhouse.store.engine import Row
from callhouse.store.migrations import migrations
from callhouse.store.move_part import Key, Part
from callhouse.store.postgres import LOCKS, PostgresTransaction, migrate
from callhouse.store.watch import Watch

_LOCK = f"SELECT pg_try_advisory_lock({LOCKS}, -1)"
_HERE = "CAST(current_schema() AS regnamespace)"
# Of tables and the like: what an extension brought is nobody's, also in the schema that is ours.
_IS_EXTENSIONS = """
EXISTS (SELECT FROM pg_depend WHERE classid = CAST('pg_class' AS regclass) AND objid = pg_class.oid AND deptype = 'e')
"""
_NOT_MOVED = ("schema_version", "log_words", "move", "move_copied", "move_definitions")
_BYTEA = 17

_RELATIONS = f"""
SELECT count(*) FROM pg_class
WHERE relnamespace = {_HERE} AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT {_IS_EXTENSIONS}
"""  # noqa: S608
_TABLES = f"""
SELECT relname, array_agg(CAST(attname AS TEXT) ORDER BY attnum), array_agg(CAST(atttypid AS BIGINT) ORDER BY attnum)
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
WHERE relkind IN ('r', 'p') AND relnamespace = {_HERE} AND NOT {_IS_EXTENSIONS} GROUP BY relname ORDER BY relname
"""  # noqa: S608
_KEYS = f"""
SELECT relname, array_agg(CAST(attname AS TEXT) ORDER BY place)
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid CROSS JOIN unnest(conkey) WITH ORDINALITY AS k (num, place)
JOIN pg_attribute ON attrelid = conrelid AND attnum = num
WHERE contype = 'p' AND connamespace = {_HERE} GROUP BY relname
"""  # noqa: S608
_IDENTITIES = f"""
SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE attidentity <> '' AND relnamespace = {_HERE}
"""  # noqa: S608

_STATE = """
CREATE TABLE move (id TEXT NOT NULL);
CREATE TABLE move_copied (part TEXT PRIMARY KEY, place BYTEA NOT NULL, is_whole BOOLEAN NOT NULL);
CREATE TABLE move_definitions (sql TEXT NOT NULL, stage BIGINT NOT NULL);
"""
_CONSTRAINTS = f"""
SELECT format('ALTER TABLE %s ADD CONSTRAINT %I %s', CAST(conrelid AS regclass), conname,
    pg_get_constraintdef(pg_constraint.oid)),
CASE contype WHEN 'f' THEN 2 ELSE 1 END,
format('ALTER TABLE %s DROP CONSTRAINT %I', CAST(conrelid AS regclass), conname)
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE contype IN ('u', 'f') AND connamespace = {_HERE} AND NOT {_IS_EXTENSIONS} ORDER BY 2 DESC
"""  # noqa: S608
_INDEXES = f"""
SELECT pg_get_indexdef(indexrelid), 1, format('DROP INDEX %s', CAST(indexrelid AS regclass))
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
WHERE relnamespace = {_HERE} AND NOT {_IS_EXTENSIONS}
AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid)
"""  # noqa: S608
_DEFINED = "SELECT DISTINCT sql FROM move_definitions WHERE stage = :stage ORDER BY sql"
_PUT_COPIED = """
INSERT INTO move_copied (part, place, is_whole) VALUES (:part, :place, :is_whole)
ON CONFLICT (part) DO UPDATE SET place = excluded.place, is_whole = excluded.is_whole
"""
_RELEASE = """
DROP TABLE move, move_copied, move_definitions;
UPDATE schema_version SET number = -number;
"""

INDEXES, REFERENCES = 1, 2
"""Stages of what is put back."""


class Target:
    """The database at *url*, to which this process alone moves a store; close() it.

    Raises MoveError when another process moves one there, and psycopg.Error when it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        # What these would tell is told by what is raised.
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)
        self.place = postgres_connection.place_of(url)
        self._connection = psycopg.connect(postgres_connection.conninfo(url), autocommit=True)
        try:
            postgres_connection.set_up(self._connection, None)
            # Between two of its statements logs are unpacked, which may take long; nobody waits for its locks.
            self._connection.execute("SET idle_in_transaction_session_timeout = 0")
            self.reader = PostgresTransaction(self._connection)
            self._lock()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        if not self.reader.rows(_LOCK, {})[0][0]:
            raise MoveError(f"Another command is moving a store to {self.place}.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            yield

    @contextmanager
    def limited(self, seconds: float) -> Iterator[None]:
        """The database may take so long for what is done within, which raises TookTooLong otherwise; the connection is
        of no use then.
        """
        overdue: list[postgres_connection.Connection] = []

        def give_up(connection: postgres_connection.Connection) -> None:
            overdue.append(connection)
            postgres_connection.cut(connection)

        watch = Watch(seconds, give_up)
        try:
            with watch.over(self._connection):
                yield
        except psycopg.Error as error:
            if overdue:
                raise TookTooLong from error
            raise
        finally:
            watch.end()
        if overdue:
            raise TookTooLong

    def is_empty(self) -> bool:
        return not self.reader.rows(_RELATIONS, {})[0][0]

    def holds_store(self) -> bool:
        return self._schema() > 0

    def copy_of(self) -> str | None:
        """The id of the move whose unfinished copy the database holds.

        Raises MoveError when another version of the program began it.
        """
        schema = self._schema()
        if schema >= 0:
            return None
        if -schema != migrations("postgresql")[-1].number:
            raise MoveError(
                f"The unfinished copy in {self.place} is of another version of Callhouse: make the database anew."
            )
        return str(self.reader.rows("SELECT id FROM move", {})[0][0])

    def _schema(self) -> int:
        """The number of the schema, negative for a copy that is not finished; 0 when there is none."""
        [(exists,)] = self.reader.rows("SELECT to_regclass('schema_version') IS NOT NULL", {})
        return int(self.reader.rows("SELECT number FROM schema_version", {})[0][0]) if exists else 0

    def begin(self, move_id: str) -> None:
        """Make all tables for the copy of that move, in an empty database."""
        with self.transaction():
            migrate(self._connection, self.place, create=True)
            self._connection.execute("UPDATE schema_version SET number = -number")
            self._connection.execute(_STATE.encode())
            self.reader.each("INSERT INTO move (id) VALUES (:id)", [{"id": move_id}])
            for sql, stage, drop in self.reader.rows(_CONSTRAINTS, {}) + self.reader.rows(_INDEXES, {}):
                definition = {"sql": sql, "stage": stage}
                self.reader.each("INSERT INTO move_definitions (sql, stage) VALUES (:sql, :stage)", [definition])
                self._connection.execute(drop.encode())

    def parts(self) -> list[Part]:
        """All that is copied; what is made of it in the database is not."""
        keys = {table: tuple(key) for table, key in self.reader.rows(_KEYS, {})}
        return [
            Part(table, tuple(columns), tuple(types), keys[table], _blobs(columns, types))
            for table, columns, types in self.reader.rows(_TABLES, {})
            if table not in _NOT_MOVED
        ]

    def words(self) -> Part:
        """Of the words of logs that are made in the database the keys, which are those of the logs."""
        key = next(tuple(key) for table, key in self.reader.rows(_KEYS, {}) if table == "log_words")
        return Part("log_words", key, (), key)

    def copied(self, part: Part) -> tuple[Key | None, bool]:
        """The key up to which the bulk of *part* was copied, and whether that was all."""
        sql = "SELECT place, is_whole FROM move_copied WHERE part = :part"
        for place, is_whole in self.reader.rows(sql, {"part": part.name}):
            return msgspec.msgpack.decode(place), is_whole
        return None, False

    def note_copied(self, part: Part, place: Key, *, is_whole: bool) -> None:
        noted = {"part": part.name, "place": msgspec.msgpack.encode(place), "is_whole": is_whole}
        self.reader.each(_PUT_COPIED, [noted])

    def need_not_wait(self) -> None:
        """Within a transaction: its end need not be on disk at once. What comes after it brings it there."""
        self._connection.execute("SET LOCAL synchronous_commit = off")

    def put(self, part: Part, rows: Sequence[Row]) -> None:
        with self._connection.cursor() as cursor:
            into = f"COPY {part.name} ({', '.join(part.columns)}) FROM STDIN (FORMAT BINARY)"
            with cursor.copy(into.encode()) as copy:
                copy.set_types(part.types)
                for row in rows:
                    copy.write_row(row)

    def build(self, stage: int) -> Iterator[tuple[int, int]]:
        """Put back what belongs to *stage*, one after the other; how many are done, of how many."""
        definitions = [sql for (sql,) in self.reader.rows(_DEFINED, {"stage": stage})]
        for done, sql in enumerate(definitions):
            yield done, len(definitions)
            with self.transaction():
                self._connection.execute(sql.encode())
                self.reader.each("DELETE FROM move_definitions WHERE sql = :sql", [{"sql": sql}])

    def analyze(self, parts: Iterable[Part]) -> None:
        """Let the planner know what there is, and readers see at once that it is there for all."""
        for name in (*(part.name for part in parts), "log_words"):
            self._connection.execute(f"VACUUM (ANALYZE) {name}".encode())

    def set_last_ids(self, last_ids: Mapping[str, int]) -> None:
        """Let new rows have ids behind the highest that was ever given."""
        for table, column in self.reader.rows(_IDENTITIES, {}):
            if last_ids.get(table):
                sequence: dict[str, Any] = {"table": table, "column": column, "last": last_ids[table]}
                self.reader.rows("SELECT setval(pg_get_serial_sequence(:table, :column), :last)", sequence)

    def release(self) -> None:
        """Let the copy be a store."""
        with self.transaction():
            self._connection.execute(_RELEASE.encode())

    def count(self, part: Part) -> int:
        return int(self.reader.rows(f"SELECT count(*) FROM {part.name}", {})[0][0])  # noqa: S608


def _blobs(columns: Sequence[str], types: Sequence[int]) -> tuple[str, ...]:
    return tuple(column for column, kind in zip(columns, types, strict=True) if kind == _BYTEA)
