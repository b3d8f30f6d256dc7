"""``callhouse move``."""

import shlex
import signal
from pathlib import Path
from typing import Annotated

import typer

from callhouse.cli.context import (
    Config,
    Data,
    Json,
    Set,
    counted,
    no_store,
    out,
    plain,
    print_json,
    progress_bar,
    settings,
)
from callhouse.errors import MoveError, NoStore
from callhouse.store.move_part import Moved


def move(
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="Empty PostgreSQL database: `postgresql://user@host/name`."),
    ] = None,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="Give up a move that was begun; the copy is of no use then.")
    ] = False,
    data: Data = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Move the store of a directory to a PostgreSQL database while the server runs.

    Everything is copied and compared while senders go on. Only what changed in the last moment is copied while nobody
    may write; from then on the directory is only read, and senders are told 503 until the server is started with
    `--store`. They send again, and nothing is lost. Interrupted at any moment, the same command goes on.

    Example: `callhouse move --data /var/lib/callhouse --to postgresql://callhouse@db.example.com/callhouse`
    """
    if (to is None) != abandon:
        raise typer.BadParameter("Give either --to or --abandon.", param_hint="--to")
    in_force, _ = settings(config, data, chosen)
    if in_force.store.url:
        raise MoveError(
            "Only the store of a directory can be moved; PostgreSQL's own programs, such as pg_dump, move a database."
        )
    directory = Path(in_force.store.data)
    # What stops a command tidily in a terminal does so everywhere.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if to is None:
            _abandon(directory)
        else:
            _move(directory, to, as_json=as_json)
    except NoStore as error:
        raise no_store(error) from None


def _move(directory: Path, to: str, *, as_json: bool) -> None:
    # What speaks with a database is loaded for who has one.
    from callhouse.store.move import move as move_store  # noqa: PLC0415

    with progress_bar() as tell:
        moved = move_store(directory, to, tell)
    if as_json:
        print_json(moved)
    else:
        _print(moved)


def _print(moved: Moved) -> None:
    rows = ", ".join(f"{number:,} {table}" for table, number in moved.rows.items() if number)
    out.print(
        f"Moved {counted(sum(moved.rows.values()), 'row')} in {moved.seconds:.1f} s, all compared: {rows}.\n"
        f"Nobody could write for {moved.held_seconds:.2f} s, nor can any more to the directory. Start the server with "
        f"[bold]--store {plain(shlex.quote(moved.url))}[/bold] now.",
        soft_wrap=True,
        highlight=False,
    )


def _abandon(directory: Path) -> None:
    from callhouse.store.move import abandon as abandon_move  # noqa: PLC0415

    place = abandon_move(directory)
    out.print(f"Given up. What was copied to {plain(place)} is of no use: drop that database.", soft_wrap=True)
