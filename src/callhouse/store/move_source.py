"""The embedded store while it is moved: what changes is noted by triggers, whoever changes it, until it is copied."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Self

import apsw

from callhouse.errors import MoveError, NoStore
from callhouse.store.engine import Row
from callhouse.store.move_part import Key, Part
from callhouse.store.sqlite import FILE_NAME, MOVED, SQLiteTransaction, connect, migrate, moved_to

BUSY_MS = 60_000
CACHE_KIB = 64 * 1024

KEYS = 1_000
"""Changed rows that are copied at once."""

FORGOTTEN = 20_000
"""Changes that are forgotten at once, lest senders wait."""

LONGEST_KEY = 5
"""Columns that a primary key has at most."""

_CAPTURE = f"""
CREATE TABLE move (id TEXT NOT NULL, place TEXT NOT NULL);
CREATE TABLE move_changes (
    seq INTEGER PRIMARY KEY, part TEXT NOT NULL, {", ".join(f"key{n}" for n in range(LONGEST_KEY))}
);
"""
_TRIGGERS = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'move!_%' ESCAPE '!'"
_TABLES = """
SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'
AND name NOT LIKE 'log!_words%' ESCAPE '!' AND name NOT IN ('move', 'move_changes')
"""
_IS_CAPTURING = "SELECT 1 FROM sqlite_schema WHERE name = 'move'"
_LAST_CHANGE = "SELECT coalesce(max(seq), 0), count(*) FROM move_changes"
_PRIMARY_KEY = "SELECT name FROM pragma_table_info(:table) WHERE pk > 0 ORDER BY pk"
_LAST_IDS = "SELECT name, seq FROM sqlite_sequence"


class Moving(NamedTuple):
    """A move that was begun: its *id*, which the copy bears too, and the *place* of the copy."""

    id: str
    place: str


class Source:
    """The store in *directory*, which this process alone moves; close() it.

    Raises NoStore when there is none, and MoveError when another process is moving it.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / FILE_NAME
        if not path.exists():
            raise NoStore(f"The directory {directory} holds no store.")
        # The lock goes with the process, however that ends, and leaves nothing behind.
        self._directory = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._connection = connect(path, BUSY_MS, CACHE_KIB)
            migrate(self._connection)
        except BlockingIOError:
            os.close(self._directory)
            raise MoveError(f"The store in {directory} is being moved by another command.") from None
        except BaseException:
            os.close(self._directory)
            raise
        self.reader = SQLiteTransaction(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()
        os.close(self._directory)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All that is read meanwhile is as it was at one moment; others write on."""
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else writes meanwhile; what is written here is on disk afterwards, or not at all if it raises."""
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    def moving(self) -> Moving | None:
        """The move that was begun, or that is over."""
        if not self.reader.rows(_IS_CAPTURING, {}):
            return None
        [(move_id, place)] = self.reader.rows("SELECT id, place FROM move", {})
        return Moving(move_id, place)

    def moved_to(self) -> str | None:
        """The URL of the place that the store was moved to."""
        url = moved_to(self.reader)
        return None if url is None else url.decode()

    def tables(self) -> set[str]:
        return {name for (name,) in self.reader.rows(_TABLES, {})}

    def order(self, part: Part) -> list[str]:
        """The primary key that *part* has here, which need not be that of the copy."""
        return [name for (name,) in self.reader.rows(_PRIMARY_KEY, {"table": part.name})]

    def count(self, part: Part) -> int:
        return int(self.reader.rows(f"SELECT count(*) FROM {part.name}", {})[0][0])  # noqa: S608

    def begin(self, moving: Moving, parts: Sequence[Part]) -> None:
        """Note from now on what changes in *parts*; an earlier move is forgotten."""
        with self.held():
            forget_move(self._connection)
            self._connection.execute(_CAPTURE)
            self._connection.execute("INSERT INTO move (id, place) VALUES (?, ?)", moving)
            for part in parts:
                for trigger in _triggers(part):
                    self._connection.execute(trigger)

    def abandon(self) -> None:
        """Forget the move that was begun."""
        with self.held():
            forget_move(self._connection)

    def last_change(self) -> tuple[int, int]:
        """The number of the last change that was noted, and how many there are."""
        [(last, count)] = self.reader.rows(_LAST_CHANGE, {})
        return last, count

    def changed(self, part: Part, last: int) -> Iterator[list[Key]]:
        """The keys of the rows of *part* that changed up to *last*, or are gone, in batches."""
        keys = ", ".join(f"key{n}" for n in range(len(part.key)))
        sql = f"SELECT DISTINCT {keys} FROM move_changes WHERE part = ? AND seq <= ?"  # noqa: S608
        found: Iterator[Row] = iter(self._connection.execute(sql, (part.name, last)))
        while batch := list(islice(found, KEYS)):
            yield list(batch)

    def forget_changes(self, last: int) -> None:
        """What was noted up to *last* is copied."""
        [(first,)] = self.reader.rows("SELECT coalesce(min(seq), 0) FROM move_changes", {})
        for end in range(first + FORGOTTEN - 1, last + FORGOTTEN, FORGOTTEN):
            with self.held():
                self._connection.execute("DELETE FROM move_changes WHERE seq <= ?", (min(end, last),))

    def last_ids(self) -> dict[str, int]:
        """The highest id that was ever given, by table."""
        return dict(self.reader.rows(_LAST_IDS, {}))

    def mark(self, url: str) -> None:
        """Let nobody write any more, and tell who tries that the store is at *url*. Within held."""
        _stop_capture(self._connection)
        self._connection.execute("INSERT INTO meta (name, value) VALUES (?, ?)", (MOVED, url.encode()))


def forget_move(connection: apsw.Connection) -> None:
    """Take out of a store what notes its changes for a move. Within a transaction."""
    _stop_capture(connection)
    connection.execute("DROP TABLE IF EXISTS move")


def _stop_capture(connection: apsw.Connection) -> None:
    for (name,) in connection.execute(_TRIGGERS).fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("DROP TABLE IF EXISTS move_changes")


def _triggers(part: Part) -> Iterator[str]:
    """Triggers that note the key of each row of *part* that comes, changes or goes. (A row that replaces another by
    REPLACE would escape them; no statement of ours has it.)
    """
    columns = ", ".join(["part", *(f"key{n}" for n in range(len(part.key)))])
    new, old = (", ".join(f"{row}.{column}" for column in part.key) for row in ("NEW", "OLD"))
    noted = {
        "insert": f"SELECT '{part.name}', {new}",
        "delete": f"SELECT '{part.name}', {old}",
        "update": f"SELECT '{part.name}', {old} UNION SELECT '{part.name}', {new}",
    }
    for event, keys in noted.items():
        yield (
            f"CREATE TRIGGER move_{part.name}_{event} AFTER {event} ON {part.name} "
            f"BEGIN INSERT INTO move_changes ({columns}) {keys}; END"
        )
