"""A snapshot of a SQLite file as another file, made while others write to it."""

import os
import threading
from pathlib import Path

import apsw

from callhouse.store.engine import Progress

STEP_PAGES = 1_024
"""Pages between two looks at the progress: 4 MiB."""

SYNC_PAGES = 16 * 1_024
"""Pages after which the copy is flushed, lest all of it be at once in the way of a sender's fsync."""


def copy(source: apsw.Connection, target: Path, on_progress: Progress, stop: threading.Event) -> None:
    """Copy what *source* sees now to the empty file *target*, flushed to the disk; give up once *stop* is set."""
    # The backup API and not VACUUM INTO: it copies pages as they lie, which takes a fraction of the time of building
    # every index anew, and it can tell its progress. Both keep one snapshot meanwhile, and a snapshot keeps the WAL
    # from being started over, so the shorter one is the better neighbour; nobody waits for it. Without a transaction
    # around it the API would see others' commits, and begin again at each: beside steady ingest it never ended.
    destination = apsw.Connection(str(target))
    try:
        # Nobody uses the file before it is whole, and then it is flushed.
        destination.execute("PRAGMA synchronous = OFF")
        source.execute("BEGIN")
        try:
            source.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            _copy_pages(source, destination, target, on_progress, stop)
        finally:
            source.execute("ROLLBACK")
        # One plain file, which can be read where nothing may be written beside it.
        destination.execute("PRAGMA journal_mode = DELETE")
    finally:
        destination.close()
    flush(target)


def _copy_pages(
    source: apsw.Connection, destination: apsw.Connection, target: Path, on_progress: Progress, stop: threading.Event
) -> None:
    flushed = 0
    with destination.backup("main", source, "main") as backup:
        while not backup.done and not stop.is_set():
            backup.step(STEP_PAGES)
            copied = backup.page_count - backup.remaining
            on_progress("Copying", copied, backup.page_count)
            if copied - flushed >= SYNC_PAGES:
                flush(target)
                flushed = copied


def flush(path: Path) -> None:
    """Return once the content of a file, or the names in a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
