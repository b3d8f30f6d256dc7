"""What ``callhouse import`` says while it works, and in the end."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import RenderableType
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from callhouse.cli.context import counted, err, out, plain, print_json
from callhouse.ingest.files import OpenFile, expanded
from callhouse.ingest.importer import Progress, Refused

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


class _Bar(ProgressBar):
    """A line that a terminal of 60 columns has room for, and the counts below it."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            yield Text(task.fields["counts"])


class ShownProgress:
    """The progress on the terminal; without one, of an import that follows files, a line now and then."""

    def __init__(self, names: Sequence[str], *, follow: bool) -> None:
        self._follow = follow
        self._read = 0
        self._began = self._said_at = time.monotonic()
        self._said = self._told_refused = self._told_failed = 0
        self._told_waiting = ""
        self._progress = Progress()
        total = None if follow else sum(map(_size, expanded(names)))
        more = () if follow else (BarColumn(bar_width=20), TimeRemainingColumn())
        self._bar = _Bar(
            SpinnerColumn(),
            *more,
            TextColumn("{task.description}"),
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
        # Of less than a second a rate says little, and takes more room than there is.
        rate = self._progress.records / max(now - self._began, 1)
        counts = _counts(self._progress)
        doing = "following" if self._follow else f"{rate:,.0f} records/s"
        self._bar.update(self._task, completed=read, description=doing, counts=counts)
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


def report(progress: Progress, seconds: float, account: int, *, as_json: bool) -> None:
    """Say what became of all files."""
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
    for name in progress.unfinished:
        out.print(
            f"The last line of {plain(name)} has no end yet; the next import takes it.", highlight=False, soft_wrap=True
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
            f"`callhouse quarantine list --account {account}` shows what was quarantined, "
            f"`callhouse quarantine replay --all --account {account}` tries it again.",
            highlight=False,
            soft_wrap=True,
        )
