"""What every command shares: its options, its store, and how it prints and fails."""

import asyncio
import contextlib
import functools
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import msgspec
import setproctitle
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.table import Column, Table

from callhouse.clock import now
from callhouse.errors import CallhouseError, NoStore
from callhouse.model.account import Account
from callhouse.settings import InForce, Settings, load, redacted
from callhouse.store import Store, open_store
from callhouse.store.engine import Progress

P = ParamSpec("P")
R = TypeVar("R")


class _Output(Console):
    def on_broken_pipe(self) -> NoReturn:
        # failing_clearly ends the command as it ends one that prints JSON.
        raise BrokenPipeError


err = _Output(stderr=True)
out = _Output()

Data = Annotated[
    str | None, typer.Option("--data", metavar="DIR", help="Directory of the store.", rich_help_panel="Settings")
]
Database = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="PostgreSQL database of the store: `postgresql://user@host/name`.",
        rich_help_panel="Settings",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file of settings.",
        envvar="CALLHOUSE_CONFIG",
        rich_help_panel="Settings",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting, for instance `--set retention.details=forever`; may be repeated.",
        rich_help_panel="Settings",
    ),
]
LARGEST_ID = 2**63 - 1

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def failing_clearly(command: Callable[P, R]) -> Callable[P, R]:
    """*command*, whose foreseen failures become one line on standard error and exit status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            # What is still to be printed may fail too.
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            # Who read the output has seen enough: the status of a program that SIGPIPE ended, which says just that.
            _give_up_output()
            raise typer.Exit(128 + signal.SIGPIPE) from None
        except OSError as error:
            _give_up_output()
            _print_error(f"{error.filename or 'Reading or writing failed'}: {error.strerror or error}.")
            raise typer.Exit(1) from None
        except CallhouseError as error:
            _print_error(str(error))
            raise typer.Exit(1) from None
        except UnicodeEncodeError as error:
            if error.encoding == "utf-8":
                # What that cannot encode can only have come from there.
                _print_error("An argument is not UTF-8.")
            else:
                lacking = error.object[error.start]
                _print_error(f"The output is to be {error.encoding}, which has no {lacking!a}: choose a UTF-8 locale.")
            raise typer.Exit(1) from None
        return result

    return wrapped


def _print_error(reason: str) -> None:
    err.print(f"Error: {plain(reason)}", style="red", highlight=False, soft_wrap=True)


def _give_up_output() -> None:
    """Let what could not be written be forgotten, which Python would try to write once more in the end."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())


def settings(
    config: Path | None,
    data: str | None,
    chosen: list[str] | None,
    database: str | None = None,
    **flags: str | int | None,
) -> tuple[Settings, list[InForce]]:
    """The settings in force. *flags* are named as their setting, with two underscores for the dot."""
    given = {key.replace("__", "."): str(value) for key, value in flags.items() if value is not None}
    if data is not None and database is not None:
        raise typer.BadParameter(
            "The store is either a directory (--data) or a database (--store).", param_hint="--store"
        )
    if data is not None:
        given["store.data"] = data
    if database is not None:
        given["store.url"] = database
    for assignment in chosen or []:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise typer.BadParameter(f"{assignment!r} is not KEY=VALUE.", param_hint="--set")
        given[key.strip()] = value.strip()
    _hide_passwords()
    return load(config, os.environ, given)


def _hide_passwords() -> None:
    """Let the list of processes, which everybody may read, show no password of a database."""
    shown = [redacted(word) for word in sys.orig_argv]
    if shown != sys.orig_argv:
        setproctitle.setproctitle(shlex.join(shown))


@asynccontextmanager
async def opened(chosen: Settings, *, create: bool = False, replicas: bool = False) -> AsyncIterator[Store]:
    """The store, for the time of a command; a server may be using it too.

    Only with *create* is one made where there is none; a mistyped directory should not look like an empty store. What a
    command reads is what is there now, so that it comes from *replicas* only for the sake of trying them.
    """
    try:
        store = await open_store(
            chosen.store.location(),
            retention=chosen.retention.parsed(),
            clock=now,
            max_events=chosen.ingest.max_events,
            max_log=chosen.ingest.max_log,
            create=create,
            distributed=chosen.store.distributed,
            replicas=chosen.store.replica_urls() if replicas else (),
        )
    except NoStore as error:
        raise no_store(error) from None
    try:
        yield store
    finally:
        await store.close()


def no_store(error: NoStore) -> CallhouseError:
    """*error* with what to do."""
    return CallhouseError(
        f"{error} Name another with --data or --store (CALLHOUSE_STORE_DATA, CALLHOUSE_STORE_URL); `callhouse serve` "
        "and `callhouse accounts create` make a store where there is none."
    )


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Something to tell a long command's progress to; it is shown on a terminal while the command runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with ProgressBar(*columns, console=err, transient=True) as bar:
        task = bar.add_task("", total=None)

        def tell(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        yield tell


def run(work: Coroutine[Any, Any, R]) -> R:
    return asyncio.run(work)


def print_json(value: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
    sys.stdout.buffer.flush()


async def print_json_array(values: AsyncIterator[Any]) -> None:
    """Print *values* as they come, one a line, so that there may be any number."""
    separator = b"[\n"
    async for value in values:
        sys.stdout.buffer.write(separator + msgspec.json.encode(value))
        separator = b",\n"
    sys.stdout.buffer.write(b"[]\n" if separator == b"[\n" else b"\n]\n")
    sys.stdout.buffer.flush()


def table(*headings: str) -> Table:
    """A table with these columns, in which a narrow terminal folds what it would otherwise cut off."""
    return Table(*(Column(heading, overflow="fold") for heading in headings))


def plain(text: str) -> str:
    """*text* from outside, without what the terminal would take for markup or control."""
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))


def counted(number: int, thing: str) -> str:
    """*number* of *thing*, in the plural where that is due."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def local_time(instant: int) -> str:
    """An instant in ms, as a person reads it."""
    return datetime.fromtimestamp(instant / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def warn_of_inactive(account: Account) -> None:
    """Say what an inactive *account*, which gets calls, is missing."""
    err.print(
        f"Account {account.id} is inactive: its calls are kept, and nobody can read them through the APIs until "
        f"`callhouse accounts activate {account.id}`.",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )
