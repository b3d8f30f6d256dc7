"""``callhouse import``: records from the files that switches write."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Json,
    Set,
    counted,
    err,
    opened,
    out,
    plain,
    print_json,
    run,
    settings,
)
from callhouse.cli.preview import preview
from callhouse.errors import CallhouseError, StoreUnavailable
from callhouse.ingest.files import STANDARD_INPUT, OpenFile, expanded
from callhouse.ingest.follow import Follower
from callhouse.ingest.importer import Importer, Progress, Refused
from callhouse.ingest.pump import readers
from callhouse.settings import Settings

NATIVE = "native"
ROUTE_OF_NATIVE = "calls"

REPORT_SECONDS = 60
"""How often an import that follows files says what it did where there is no terminal to show it on."""


class Imported(msgspec.Struct):
    """What ``import --json`` prints; *refused* are the first of the records that were quarantined."""

    files: int
    known_files: int
    accepted: int
    duplicate: int
    quarantined: int
    expired_events: int
    seconds: float
    failed: Sequence[str]
    refused: Sequence[Refused]


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
    in_force, _ = settings(config, data, chosen, **flags)
    _check(files, follow=follow and not dry_run)
    if dry_run:
        if not preview(expanded(files), readers(in_force.sources)[route], in_force.ingest, as_json=as_json):
            raise typer.Exit(1)
        return
    if account is None:
        raise typer.BadParameter("say whose calls they are.", param_hint="--account")
    began = time.monotonic()
    progress, was_stopped = run(_import(files, route, in_force, account=account, follow=follow, again=again))
    _report(progress, time.monotonic() - began, account, as_json=as_json)
    if was_stopped and not follow:
        raise CallhouseError("Interrupted. What was imported is kept; run the same command again to go on.")
    if progress.quarantined or progress.failed:
        raise typer.Exit(1)


def _check(names: Sequence[str], *, follow: bool) -> None:
    if follow and str(STANDARD_INPUT) in names:
        raise typer.BadParameter("standard input ends by itself; leave out --follow.", param_hint="FILE")
    for name in names:
        path = Path(name)
        is_there = path.exists() or any(match.exists() for match in expanded([name]))
        if follow and path.exists() and not path.is_file() and not path.is_dir():
            raise typer.BadParameter(f"{name} is no file that could be followed.", param_hint="FILE")
        if follow and not is_there:
            err.print(f"Waiting for {plain(name)}.", highlight=False, soft_wrap=True)
        elif not is_there and path != STANDARD_INPUT:
            raise typer.BadParameter(f"there is no file {name}.", param_hint="FILE")


async def _import(
    names: Sequence[str], route: str, in_force: Settings, *, account: int, follow: bool, again: bool
) -> tuple[Progress, bool]:
    """Import; what came of it, and whether it was told to stop."""
    async with opened(in_force) as store:
        shown = _Shown(names, follow=follow)
        importer = Importer(
            store,
            await store.accounts.get(account),
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
                    await _take(importer, expanded(names), shown)
                await importer.flush()
                await importer.settle()
                shown.update(None)
            except StoreUnavailable as error:
                raise StoreUnavailable(
                    f"{error} What was imported until then is kept; run the same command again to go on."
                ) from error
        return importer.progress, importer.stopping.is_set()


async def _take(importer: Importer, paths: Sequence[Path], shown: "_Shown") -> None:
    for path in paths:
        if importer.stopping.is_set():
            return
        await importer.take_file(path)
        shown.finish(path)


@contextlib.contextmanager
def _stopping(event: asyncio.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C set *event*."""
    loop = asyncio.get_running_loop()
    signals = signal.SIGINT, signal.SIGTERM
    for number in signals:
        loop.add_signal_handler(number, event.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


class _Shown:
    """The progress on the terminal; without one, of an import that follows files, a line now and then."""

    def __init__(self, names: Sequence[str], *, follow: bool) -> None:
        self._follow = follow
        self._read = 0
        self._began = self._said_at = time.monotonic()
        self._said = self._told_refused = self._told_failed = 0
        self._told_waiting = ""
        self._progress = Progress()
        total = None if follow else sum(map(_size, expanded(names)))
        more = () if follow else (BarColumn(), TimeRemainingColumn())
        self._bar = ProgressBar(
            SpinnerColumn(),
            *more,
            TextColumn("{task.fields[counts]}"),
            console=err,
            transient=True,
            disable=not err.is_terminal,
        )
        self._task = self._bar.add_task("", total=total or None, counts="")

    @contextlib.contextmanager
    def over(self, progress: Progress) -> Iterator[None]:
        """Show *progress* for as long as this lasts."""
        self._progress = progress
        with self._bar:
            yield

    def update(self, file: OpenFile | None) -> None:
        self._tell()
        now = time.monotonic()
        read = self._read + (0 if file is None else file.position)
        rate = self._progress.records / max(now - self._began, 0.001)
        counts = _counts(self._progress)
        if not self._follow:
            counts = f"{rate:,.0f} records/s · {counts}"
        self._bar.update(self._task, completed=read, counts=counts)
        has_news = self._progress.records != self._said
        if self._follow and not err.is_terminal and has_news and now - self._said_at >= REPORT_SECONDS:
            err.print(counts, highlight=False, soft_wrap=True)
            self._said, self._said_at = self._progress.records, now

    def _tell(self) -> None:
        """Say what went wrong since this was last asked."""
        progress = self._progress
        for reason in progress.failed[self._told_failed :]:
            err.print(plain(reason), style="red", highlight=False, soft_wrap=True)
        for refused in progress.refused[self._told_refused :]:
            err.print(f"{plain(refused.origin)}: {plain(refused.reason)}", highlight=False, soft_wrap=True)
        if progress.waiting and progress.waiting != self._told_waiting:
            err.print(f"{plain(progress.waiting)} Trying until that is over.", highlight=False, soft_wrap=True)
        self._told_failed, self._told_refused = len(progress.failed), len(progress.refused)
        self._told_waiting = progress.waiting

    def finish(self, path: Path) -> None:
        """All of *path* was read, or is not to be read."""
        self._read += _size(path)
        self.update(None)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0


def _counts(progress: Progress) -> str:
    return f"{progress.accepted:,} accepted, {progress.duplicate:,} duplicate, {progress.quarantined:,} quarantined"


def _report(progress: Progress, seconds: float, account: int, *, as_json: bool) -> None:
    if as_json:
        counts = {name: getattr(progress, name) for name in Imported.__struct_fields__ if name != "seconds"}
        print_json(Imported(**counts, seconds=seconds))
        return
    rate = progress.records / max(seconds, 0.001)
    out.print(
        f"{counted(progress.records, 'record')} of {counted(progress.files, 'file')} in {seconds:.1f} s "
        f"({rate:,.0f}/s): {_counts(progress)}.",
        highlight=False,
        soft_wrap=True,
    )
    if progress.known_files:
        out.print(
            f"{counted(progress.known_files, 'file')} had been imported before; --again reads such files anew.",
            highlight=False,
            soft_wrap=True,
        )
    if progress.expired_events:
        out.print(
            f"{progress.expired_events:,} events were left out because they are older than their retention "
            "(`retention.details`).",
            highlight=False,
            soft_wrap=True,
        )
    if progress.quarantined > len(progress.refused):
        err.print(f"and {progress.quarantined - len(progress.refused):,} more.")
    if progress.quarantined:
        err.print(
            f"`callhouse quarantine list --account {account}` shows what was quarantined, `quarantine replay` "
            "tries it again.",
            highlight=False,
            soft_wrap=True,
        )
