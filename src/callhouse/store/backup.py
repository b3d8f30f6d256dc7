"""Backups of the embedded store: a snapshot as one file, and a store made of it again.

A backup appears under its name when it is whole, looked through and on disk, and not before.
"""

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import apsw

from callhouse.errors import CallhouseError, StoreDamaged, StoreUnavailable
from callhouse.store.engine import Engine, Inspection, Progress
from callhouse.store.migrations import migrations
from callhouse.store.move_source import forget_move
from callhouse.store.sqlite import FILE_NAME, SQLiteTransaction, failure, moved_to
from callhouse.store.sqlite_copy import flush
from callhouse.store.sqlite_inspection import inspected

CHUNK = 4 * 1024 * 1024
_KEY = "SELECT count(*) FROM meta WHERE name = 'credential_key'"


class BackupError(CallhouseError):
    """A backup that cannot be made or restored; the message is for the operator."""


async def make(engine: Engine, target: Path, now: int, *, force: bool, on_progress: Progress) -> Path:
    """Write a backup to *target*, or into it under a name of its own when it is a directory; the file's path.

    Raises BackupError when there is such a file already and *force* is not given, when it cannot be written, and when
    what was copied is damaged: a good backup of last week must not make room for a bad one of today.
    """
    target = _named(target, now, force=force)
    try:
        with _part_of(target.parent, target.name) as part:
            await engine.backup(part, on_progress)
            await asyncio.to_thread(_verify, part, on_progress)
            _put(part, target, force=force)
        flush(target.parent)
    except StoreDamaged as error:
        raise BackupError(f"There is no backup, as the store is damaged: {error}. Run `callhouse check`.") from error
    except (OSError, StoreUnavailable) as error:
        raise BackupError(f"The backup {target} cannot be written: {_reason(error)}.") from error
    return target


def _named(target: Path, now: int, *, force: bool) -> Path:
    if target.is_dir():
        target /= f"callhouse-{datetime.fromtimestamp(now / 1000, UTC):%Y%m%dT%H%M%SZ}.db"
    if target.exists() and not force:
        raise BackupError(f"{target} exists already; name another file, or overwrite it with --force.")
    return target


def restore(source: Path, directory: Path, on_progress: Progress) -> None:
    """Make a store in *directory*, which is empty or absent, of the backup *source*.

    Raises BackupError, and leaves *directory* as it was, when *source* is no whole backup of a store that this program
    can read.
    """
    wal = source.with_name(source.name + "-wal")
    if wal.exists() and wal.stat().st_size:
        raise BackupError(
            f"{source} belongs to a store that is in use: {wal.name} holds what is not in it yet. "
            "`callhouse backup` makes a file that can be restored."
        )
    try:
        absent = not directory.exists()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = sorted(entry.name for entry in directory.iterdir())
        if present:
            raise BackupError(f"{directory} is not empty: it holds {', '.join(present[:3])}. Name an empty directory.")
        try:
            with _part_of(directory, FILE_NAME) as part:
                _copy(source, part, on_progress)
                _verify(part, on_progress)
                _give_up_move(part)
                _put(part, directory / FILE_NAME, force=False)
        except BaseException:
            if absent:
                directory.rmdir()
            raise
        flush(directory)
        flush(directory.parent)
    except StoreDamaged as error:
        raise BackupError(f"{source} is not whole and was not restored: {error}.") from error
    except (OSError, StoreUnavailable) as error:
        raise BackupError(f"{source} cannot be restored to {directory}: {_reason(error)}.") from error


@contextmanager
def _part_of(directory: Path, name: str) -> Iterator[Path]:
    """An empty file that only its owner may read, which is gone afterwards unless it was given another name.

    So is its journal of either kind, which SQLite leaves behind when the disk is full.
    """
    # The keys of credentials are in it.
    descriptor, path = tempfile.mkstemp(dir=directory, prefix=f"{name}.", suffix=".part")
    os.close(descriptor)
    try:
        yield Path(path)
    finally:
        for left in (path, f"{path}-journal", f"{path}-wal", f"{path}-shm"):
            Path(left).unlink(missing_ok=True)


def _put(part: Path, target: Path, *, force: bool) -> None:
    """Give *part* its name, which no other file loses by that unless *force* is given."""
    if force:
        part.replace(target)
        return
    try:
        os.link(part, target)
    except FileExistsError:
        raise BackupError(f"{target} was made by somebody else meanwhile; it was left as it is.") from None
    except OSError:
        # Some file systems know no links, and then the look before has to do.
        part.rename(target)


def _copy(source: Path, target: Path, on_progress: Progress) -> None:
    size, done = source.stat().st_size, 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while chunk := reading.read(CHUNK):
            writing.write(chunk)
            done += len(chunk)
            on_progress("Copying", done, size)
    flush(target)


def _verify(path: Path, on_progress: Progress) -> None:
    """Raise StoreDamaged for a file that is not whole, and BackupError for one that is no store of ours."""
    with inspected(path, in_use=False) as inspection:
        _recognize(inspection)
        parts = inspection.parts()
        for number, part in enumerate(parts):
            on_progress("Verifying", number, len(parts))
            if faults := inspection.faults(part):
                raise StoreDamaged(f"{part}: {faults[0]}")


def _give_up_move(path: Path) -> None:
    """Let the copy of a store that was being moved be one that is not; what was moved stays so."""
    try:
        with closing(apsw.Connection(str(path))) as copy:
            if moved_to(SQLiteTransaction(copy)) is None:
                with copy:
                    forget_move(copy)
    except apsw.Error as error:
        raise failure(error) from error


def _recognize(inspection: Inspection) -> None:
    newest = migrations("sqlite")[-1].number
    if not {"meta", "accounts", "calls"} <= {*inspection.parts()} or not inspection.rows(_KEY, {})[0][0]:
        raise BackupError("The file is a database, but not one of Callhouse.")
    [(schema,)] = inspection.rows("PRAGMA user_version", {})
    if schema > newest:
        raise BackupError(f"The backup has schema {schema}, newer than this program's {newest}: install a newer one.")


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
