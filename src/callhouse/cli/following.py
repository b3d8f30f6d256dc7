"""What `callhouse mirror run` and `check` do, and show of it."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from datetime import date
from typing import Any

import msgspec
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from callhouse.cli.context import counted, err, opened, out, plain, warn_of_inactive
from callhouse.cli.listed_mirror import day_of, length_in_words
from callhouse.clock import now
from callhouse.errors import CallhouseError, MirrorError
from callhouse.mirror import place as places
from callhouse.mirror.check import Day, compare
from callhouse.mirror.runner import Runner
from callhouse.mirror.service import Service
from callhouse.mirror.status import status_of
from callhouse.mirror.upstreams import upstreams
from callhouse.mirror.work import Work
from callhouse.model.instant import DAY, SECOND
from callhouse.settings import Settings
from callhouse.store import Store


class CheckedDay(msgspec.Struct):
    """What ``mirror check --json`` prints of each day."""

    day: date
    vendor: int
    here: int
    filled: int


async def follow(in_force: Settings, names: list[str], *, once: bool) -> None:
    async with opened(in_force) as store:
        chosen = [await store.mirrors.get(name) for name in names] or await store.mirrors.all()
        if not any(mirror.state == "active" or (once and names) for mirror in chosen):
            hint = "`callhouse mirror resume` lets one go on" if chosen else "`callhouse mirror add` makes one"
            until = "" if once else " Waiting until there is one."
            err.print(f"No mirror is active; {hint}.{until}", highlight=False)
        shown = ShownProgress()
        service = _service_of(store, in_force, shown)
        with shown:
            if not once:
                await _until_stopped(service.run(names))
                return
            failed = []
            for mirror in chosen:
                if names or mirror.state == "active":
                    owner = await store.accounts.get(mirror.account_id)
                    if not owner.active:
                        warn_of_inactive(owner)
                    try:
                        runner = await service.once(mirror.name)
                        out.print(f"{plain(mirror.name)}: {counted(runner.calls, 'call')}.", highlight=False)
                    except CallhouseError as error:
                        failed.append(f"{mirror.name}: {error}")
    if failed:
        raise MirrorError("\n".join(failed))


def _service_of(store: Store, in_force: Settings, shown: "ShownProgress") -> Service:
    return Service(store, os.environ, in_force.ingest, in_force.mirror.every_ms(), on_progress=shown.update)


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run *work* until it is over, or until SIGTERM, Ctrl-C or the end of the terminal."""
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


class ShownProgress:
    """How far each mirror is, on a terminal."""

    def __init__(self) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[counts]}"))
        self._bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, runner: Runner) -> None:
        mirror = msgspec.structs.replace(runner.mirror, place=places.written(runner.place))
        status = status_of(mirror, upstreams()[mirror.api], now())
        if mirror.id not in self._tasks:
            self._tasks[mirror.id] = self._bar.add_task(plain(mirror.name), total=None, counts="")
        counts = f"{counted(runner.calls, 'call')}, {length_in_words(status.backlog / SECOND)} to go"
        self._bar.update(
            self._tasks[mirror.id], total=status.total, completed=status.total - status.backlog, counts=counts
        )

    def compared(self, runner: Runner, day: Day) -> None:
        """The days, the newest first, are compared down to *day*."""
        mirror = runner.mirror
        first = Work(upstreams()[mirror.api], mirror.since, mirror.overlap, 0).earliest(now())
        if mirror.id not in self._tasks:
            self._tasks[mirror.id] = self._bar.add_task(plain(mirror.name), total=None, counts="")
        total, done = (-(-(now() - instant) // DAY) for instant in (first, day.window.since))
        self._bar.update(self._tasks[mirror.id], total=total, completed=done, counts=f"{done} of {total} days compared")


async def checked_days(name: str, in_force: Settings) -> tuple[list[CheckedDay], bool]:
    """The days, and whether those that lack calls are left to another process, which follows the mirror."""
    shown = ShownProgress()
    async with opened(in_force) as store:
        service = _service_of(store, in_force, shown)
        with shown:
            before = await _days(store, service, name, shown)
            lacking = [day.window for day in before if day.here < day.vendor]
            is_ours = not lacking or await service.again(name, lacking)
            after = await _days(store, service, name, shown) if lacking and is_ours else before
    known = {day_of(day.window.since): day.here for day in before}
    days = [(day_of(found.window.since), found) for found in after]
    return [CheckedDay(day, each.vendor, each.here, each.here - known.get(day, 0)) for day, each in days], not is_ours


async def _days(store: Store, service: Service, name: str, shown: "ShownProgress") -> list[Day]:
    runner = await service.runner(name)
    days = []
    async for day in compare(store, runner, upstreams()[runner.mirror.api]):
        days.append(day)
        shown.compared(runner, day)
    return days
