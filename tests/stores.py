"""Where the tests' stores are: in SQLite files, or in a PostgreSQL cluster when pytest is told ``--store postgresql``.

A test names a store by a path, whichever engine holds it.
"""

import asyncio
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import psycopg
from psycopg.rows import dict_row

from callhouse.clock import now
from callhouse.model.account import Retention
from callhouse.store import open_store
from callhouse.store.sqlite import FILE_NAME
from postgres import FAST, Cluster

ENGINES = ("sqlite", "postgresql")
MANY = 50
"""Databases, of eight megabytes each, that may wait for the end of their test."""


class Databases:
    """A cluster that starts at first need, and a database in it for each store."""

    def __init__(self):
        self._cluster = None
        self._template = None
        self._made = {}
        self._changing = threading.Lock()

    def url(self, data):
        """The database that belongs to *data*; it is noted in a file beside it, where other processes find it."""
        note = data.with_name(f"{data.name}.url")
        with self._changing:
            if not note.exists():
                self._make(data, note)
        return note.read_text()

    def copy(self, data, target):
        name = urlsplit(self.url(data)).path[1:]
        with self._changing:
            self._make(target, target.with_name(f"{target.name}.url"), name)

    def take(self, data, url):
        """Let the store *data* be the database at *url*, whoever made that."""
        data.parent.mkdir(parents=True, exist_ok=True)
        data.with_name(f"{data.name}.url").write_text(url)

    def _make(self, data, note, template=None):
        if self._cluster is None:
            self._cluster = Cluster(*FAST)
            # In another thread, because who asks may be on an event loop.
            with ThreadPoolExecutor(1) as other:
                self._template = other.submit(asyncio.run, self._with_schema()).result()
        if len(self._made) % MANY == MANY - 1:
            self._drop(lambda path: not path.parent.exists())
        self._made[data] = self._cluster.database(template or self._template)
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(self._made[data])

    async def _with_schema(self):
        url = self._cluster.database()
        store = await open_store(url, retention=Retention(), clock=now)
        await store.close()
        with psycopg.connect(url, autocommit=True) as database:
            # Each store makes its own.
            database.execute("DELETE FROM meta WHERE name = 'credential_key'")
        return urlsplit(url).path[1:]

    def forget(self, directory):
        """Drop the databases of the stores in *directory*, and of those whose directory is gone."""
        with self._changing:
            self._drop(lambda path: path.is_relative_to(directory) or not path.parent.exists())

    def _drop(self, is_over):
        over = [path for path in self._made if is_over(path)]
        if over:
            self._cluster.drop(*(self._made.pop(path) for path in over))

    def remove(self):
        if self._cluster is not None:
            self._cluster.remove()


databases = None
"""Where stores are kept other than in files."""


def choose(engine):
    global databases  # noqa: PLW0603 — as much a choice for all of the process as pytest's options are
    databases = Databases() if engine == "postgresql" else None


def location(data):
    """What open_store takes for the store that is called *data*."""
    return Path(data) if databases is None else databases.url(Path(data))


def options(data):
    """What a command takes for it."""
    return ["--data" if databases is None else "--store", str(location(data))]


def settings(data):
    """What stands for it under ``store`` in the settings."""
    return {"data" if databases is None else "url": str(location(data))}


def _file(data):
    database = apsw.Connection(str(Path(data) / FILE_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    database.set_busy_timeout(10_000)
    return database


def sql(data, statement, *values):
    """The rows of a *statement* behind the program's back; each ``?`` in it stands for one of the *values*."""
    if databases is None:
        with closing(_file(data)) as database:
            return database.execute(statement, values).fetchall()
    with psycopg.connect(location(data), autocommit=True) as database:
        # Without values a percent sign is one.
        done = database.execute(statement.replace("?", "%s"), values or None)
        return done.fetchall() if done.description else []


def change(data, statement, *values):
    """Change one row behind the program's back."""
    if databases is None:
        with closing(_file(data)) as database:
            database.execute(statement, values)
            changed = database.changes()
    else:
        with psycopg.connect(location(data), autocommit=True) as database:
            changed = database.execute(statement.replace("?", "%s"), values or None).rowcount
    assert changed == 1


def records(data, query, *values):
    """The rows of a *query* as sql gives them, each a dict by column."""
    if databases is None:
        with closing(_file(data)) as database:
            rows = database.execute(query, values)
            return [dict(zip((name for name, *_ in rows.getdescription()), row, strict=True)) for row in rows]
    with psycopg.connect(location(data), row_factory=dict_row) as database:
        return database.execute(query.replace("?", "%s"), values).fetchall()


def content(data):
    """All that is kept of the store, as bytes in which what is stored in the clear can be found."""
    if databases is None:
        return b"".join(file.read_bytes() for file in Path(data).iterdir() if file.is_file())
    with psycopg.connect(location(data)) as database:
        rows = [row for name in _tables(database) for row in database.execute(f"SELECT * FROM {name}")]
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)


def size(data):
    """Bytes on disk of the store's tables and their indexes."""
    if databases is None:
        return sum(file.stat().st_size for file in Path(data).glob(f"{FILE_NAME}*"))
    with psycopg.connect(location(data)) as database:
        return sum(
            database.execute("SELECT pg_total_relation_size(%s)", [name]).fetchone()[0] for name in _tables(database)
        )


def _tables(database):
    tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema()"
    return [name for (name,) in database.execute(tables)]


def copy(data, target):
    """Make the store *target*, a copy of one that nobody has open."""
    if databases is None:
        shutil.copytree(data, target)
    else:
        databases.copy(Path(data), Path(target))


@contextmanager
def no_writing(data):
    """Nobody else can write to the store meanwhile; reading goes on."""
    if databases is None:
        with closing(_file(data)) as database:
            database.execute("BEGIN IMMEDIATE")
            yield
            database.execute("ROLLBACK")
        return
    with psycopg.connect(location(data)) as database:
        database.execute(f"LOCK TABLE {', '.join(_tables(database))} IN SHARE MODE")
        yield
        database.rollback()
