"""Looking into a SQLite file that may be damaged."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw

from callhouse.store.engine import Parameters, Row
from callhouse.store.sqlite import SQLiteTransaction, failure

_MISSING = re.compile(r"row \d+ missing from index (\w+)")
_LAST_ID = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :table"
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table'"
_INDEXED = "SELECT rowid FROM log_words WHERE rowid BETWEEN :first AND :last"
_FOUND = f"{_INDEXED} AND log_words MATCH :term"


class SQLiteInspection(SQLiteTransaction):
    """Satisfies Inspection. Every part is looked into by itself: within a table SQLite gives up at some damage."""

    def rows(self, sql: str, parameters: Parameters) -> list[Row]:
        try:
            return super().rows(sql, parameters)
        except apsw.Error as error:
            raise failure(error) from error

    def parts(self) -> list[str]:
        # The schema's own pages, and with them the list of free ones.
        return ["sqlite_schema", *(name for (name,) in self.rows(_TABLES, {}))]

    def faults(self, part: str) -> list[str]:
        found: list[str] = []
        try:
            for (lines,) in self._connection.execute(f'PRAGMA integrity_check("{part}")'):
                found += [line for line in lines.splitlines() if not line.startswith("*** in database")]
            for _, row_id, parent, _ in self._connection.execute(f'PRAGMA foreign_key_check("{part}")'):
                found.append(f"row {row_id} refers to a row of {parent} that does not exist")
        except apsw.Error as error:
            # What it said up to there counts.
            found.append(str(error))
        return _without_repeats(line for line in found if line != "ok")

    def last_id(self, table: str) -> int:
        return int(self.rows(_LAST_ID, {"table": table})[0][0])

    def misfiled(self, first: int, last: int, texts: Mapping[int, str]) -> set[int]:
        # Word by word and not log by log: most words stand in many of the logs, and are looked up once for all.
        tokenizer = self._connection.fts5_tokenizer("unicode61", ["remove_diacritics", "2"])
        wanted: defaultdict[str, set[int]] = defaultdict(set)
        for call_id, text in texts.items():
            for tokens in tokenizer(text.encode(), apsw.FTS5_TOKENIZE_DOCUMENT, None, include_offsets=False):
                for token in tokens:
                    wanted[str(token)].add(call_id)
        bounds = {"first": first, "last": last}
        wrong = {call_id for (call_id,) in self.rows(_INDEXED, bounds)} ^ set(texts)
        for token, call_ids in wanted.items():
            wrong |= {call_id for (call_id,) in self.rows(_FOUND, {**bounds, "term": f'"{token}"'})} ^ call_ids
        return wrong


def _without_repeats(lines: Iterable[str]) -> list[str]:
    """*lines*, where one for each row that an index misses becomes one for the index."""
    return list(dict.fromkeys(_MISSING.sub(r"rows are missing from index \1", line) for line in lines))


def _cannot_change(path: Path) -> bool:
    """Whether the file is whole by itself, on a file system that nobody can write to."""
    wal = path.with_name(f"{path.name}-wal")
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY) and not (wal.exists() and wal.stat().st_size)


@contextmanager
def inspected(path: Path, *, in_use: bool) -> Iterator[SQLiteInspection]:
    """A snapshot of the file at *path*; *in_use* says whether others may be writing to it.

    Raises StoreDamaged when the file is so damaged, or so much another thing, that nothing of it can be read.
    """
    connection = None
    try:
        # One that nobody uses is read as it lies, so that nothing is made beside it.
        in_use = in_use and not _cannot_change(path)
        uri = f"file:{quote(str(path.absolute()))}" + ("?mode=rw" if in_use else "?mode=ro&immutable=1")
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI)
        connection.set_busy_timeout(30_000)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except apsw.Error as error:
        if connection is not None:
            connection.close()
        raise failure(error) from error
    try:
        yield SQLiteInspection(connection)
    finally:
        connection.close()
