"""``callhouse backup`` and ``callhouse restore``."""

import signal
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from callhouse.cli.context import (
    Config,
    Data,
    Database,
    Json,
    Set,
    opened,
    out,
    plain,
    print_json,
    progress_bar,
    run,
    settings,
)
from callhouse.errors import CallhouseError
from callhouse.settings import Settings
from callhouse.store import backup as backups


class BackedUp(msgspec.Struct):
    """What ``backup --json`` prints."""

    path: str
    bytes: int
    seconds: float


def backup(
    target: Annotated[
        Path, typer.Argument(help="File to write, or a directory, in which one is named after the time.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")] = False,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Copy the store to one file while the server runs: all that was acknowledged before is in it, nothing is in half.

    The file is as secret as the store and only its owner may read it.

    Example: `callhouse backup /backup/`
    """
    in_force, _ = settings(config, data, chosen, database)
    _refuse_database(in_force)
    if Path(in_force.store.data).resolve() in {target.resolve(), target.resolve().parent}:
        raise CallhouseError(f"{target} lies in the store's own directory; a backup belongs on another disk.")
    _tidy_up_when_stopped()

    async def work() -> BackedUp:
        began = time.perf_counter()
        async with opened(in_force) as store:
            with progress_bar() as tell:
                path = await store.backup(target, tell, force=force)
        return BackedUp(str(path), path.stat().st_size, round(time.perf_counter() - began, 3))

    done = run(work())
    if as_json:
        print_json(done)
    else:
        out.print(f"{plain(done.path)}: {done.bytes:,} bytes in {done.seconds:.1f} s.", soft_wrap=True, highlight=False)


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `callhouse backup` wrote.")],
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
) -> None:
    """Make a store of a backup, in a directory that is empty or not there yet.

    The backup is looked through first: pages, indexes, and that this program can read it.

    Example: `callhouse restore /backup/callhouse-20260701T030000Z.db --data /var/lib/callhouse-restored`
    """
    in_force, _ = settings(config, data, chosen, database)
    _refuse_database(in_force)
    _tidy_up_when_stopped()
    directory = Path(in_force.store.data)
    with progress_bar() as tell:
        backups.restore(source, directory, tell)
    out.print(f"Restored to {plain(str(directory))}.", soft_wrap=True, highlight=False)


def _refuse_database(in_force: Settings) -> None:
    if in_force.store.url:
        raise CallhouseError(
            "A store in PostgreSQL is backed up and restored by PostgreSQL's own means, for instance pg_dump and "
            "pg_restore, or a replica and its write-ahead log; docs/scaling.md tells how."
        )


def _tidy_up_when_stopped() -> None:
    """Let SIGTERM do what Ctrl-C does, so that nothing unfinished is left behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
