"""``callhouse import``: records from the files that switches write."""

import asyncio
import contextlib
import signal
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Database,
    Json,
    Set,
    err,
    opened,
    plain,
    run,
    settings,
    warn_of_inactive,
)
from callhouse.cli.import_progress import ShownProgress, report
from callhouse.cli.preview import preview
from callhouse.errors import CallhouseError, StoreUnavailable
from callhouse.ingest.files import STANDARD_INPUT, expanded, mode_of
from callhouse.ingest.follow import Follower
from callhouse.ingest.importer import Importer, Progress
from callhouse.ingest.readers import readers
from callhouse.settings import Settings

NATIVE = "native"
ROUTE_OF_NATIVE = "calls"


def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Who wrote the files: native, freeswitch, asterisk or kamailio.")
    ],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Files, also compressed ones (.gz, .zst, .bz2, .xz), directories, patterns in quotes, or `-` for "
            "standard input.",
        ),
    ],
    account: Annotated[
        int | None, typer.Option("--account", metavar="ID", max=LARGEST_ID, help="Whose calls they are.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="TZ", help="Time zone of times without one, instead of the source's setting.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on: read files as they grow and are rotated, sweep directories.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Read from its beginning also what was imported before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Store nothing; show what the first records become.")
    ] = False,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Import call records from files, beside a running server or without one; each file goes on where it was left.

    A record that cannot be kept is quarantined with its file, line and reason, and the rest goes on; the exit status is
    1 then. Example: `callhouse import asterisk /var/log/asterisk/cdr-csv/Master.csv --account 1 --timezone
    Europe/Berlin`
    """
    flags = {} if timezone is None else {f"sources__{source}__timezone": timezone}
    route = ROUTE_OF_NATIVE if source == NATIVE else source
    if route not in readers({}):
        raise typer.BadParameter(f"{source} is none; native, freeswitch, asterisk or kamailio expected.")
    if timezone is not None and source == NATIVE:
        raise typer.BadParameter("native records say which zone their times are in.", param_hint="--timezone")
    in_force, _ = settings(config, data, chosen, database, **flags)
    _check(files, follow=follow and not dry_run)
    if dry_run:
        if not preview(expanded(files), readers(in_force.sources)[route], in_force.ingest, as_json=as_json):
            raise typer.Exit(1)
        return
    if account is None:
        raise typer.BadParameter("say whose calls they are.", param_hint="--account")
    began = time.monotonic()
    progress, was_stopped = run(_import(files, route, in_force, account=account, follow=follow, again=again))
    report(progress, time.monotonic() - began, account, as_json=as_json)
    if was_stopped and not follow:
        raise CallhouseError("Interrupted. What was imported is kept; run the same command again to go on.")
    if progress.quarantined or progress.failed:
        raise typer.Exit(1)


def _check(names: Sequence[str], *, follow: bool) -> None:
    if follow and str(STANDARD_INPUT) in names:
        raise typer.BadParameter("standard input ends by itself; leave out --follow.", param_hint="FILE")
    # What is opened next would take the number of a closed standard input, and be read in its place.
    if str(STANDARD_INPUT) in names and sys.stdin is None:
        raise CallhouseError("Standard input is closed.")
    for name in names:
        path = Path(name)
        mode = mode_of(path)
        is_there = bool(mode) or any(mode_of(match) for match in expanded([name]))
        if follow and mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise typer.BadParameter(f"{name} is no file that could be followed.", param_hint="FILE")
        if follow and not is_there:
            err.print(f"Waiting for {plain(name)}.", highlight=False, soft_wrap=True)
        elif not is_there and path != STANDARD_INPUT:
            raise typer.BadParameter(f"there is no file {name}, or it may not be looked at.", param_hint="FILE")


async def _import(
    names: Sequence[str], route: str, in_force: Settings, *, account: int, follow: bool, again: bool
) -> tuple[Progress, bool]:
    """Import; what came of it, and whether it was told to stop."""
    async with opened(in_force) as store:
        owner = await store.accounts.get(account)
        if not owner.active:
            warn_of_inactive(owner)
        shown = ShownProgress(names, follow=follow)
        importer = Importer(
            store,
            owner,
            route,
            in_force.sources,
            in_force.ingest,
            again=again,
            patience=follow,
            on_progress=shown.update,
        )
        await importer.start()
        with contextlib.closing(importer), shown.over(importer.progress), _stopping(importer.stopping):
            try:
                if follow:
                    await Follower(importer, names).run()
                else:
                    await _take(importer, expanded(names, importer.fail_directory), shown)
                await importer.flush()
                await importer.settle()
                shown.update(None)
            except StoreUnavailable as error:
                raise StoreUnavailable(
                    f"The store cannot be written: {str(error).rstrip('.')}. What was imported until then is kept; "
                    "run the same command again to go on."
                ) from error
        return importer.progress, importer.stopping.is_set()


async def _take(importer: Importer, paths: Sequence[Path], shown: ShownProgress) -> None:
    for path in paths:
        if importer.stopping.is_set():
            return
        await importer.take_file(path)
        shown.finish(path)


@contextlib.contextmanager
def _stopping(event: asyncio.Event) -> Iterator[None]:
    """SIGTERM, Ctrl-C and the end of the terminal set *event*."""
    loop = asyncio.get_running_loop()
    signals = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    for number in signals:
        loop.add_signal_handler(number, event.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
