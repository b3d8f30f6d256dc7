"""``callhouse mirror``: accounts at vendors that are followed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Coroutine
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from callhouse.app import now
from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Json,
    Set,
    counted,
    err,
    failing_clearly,
    local_time,
    opened,
    out,
    plain,
    print_json,
    run,
    settings,
    table,
    warn_of_inactive,
)
from callhouse.errors import CallhouseError, MirrorError
from callhouse.mirror import place as places
from callhouse.mirror.check import Day, compare
from callhouse.mirror.runner import Runner, vendor_of
from callhouse.mirror.service import Service, upstreams
from callhouse.mirror.status import Status, status_of
from callhouse.mirror.work import Work
from callhouse.model.account import Account, RetentionOverride
from callhouse.model.instant import DAY, SECOND, format_duration, parse_duration
from callhouse.observability import configure_logging
from callhouse.settings import Settings
from callhouse.store import Store
from callhouse.store.mirrors import UNKNOWN, Mirror
from callhouse.wire import Upstream, Window

app = typer.Typer(help="Accounts at vendors that are followed, so that what they delete is kept.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The mirror's name.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these mirrors.")]


class Lost(msgspec.Struct):
    """What was lost of a day; *calls* is null where nobody can tell how many."""

    day: date
    calls: int | None


class ListedMirror(msgspec.Struct):
    """What ``mirror show --json`` prints, and ``list --json`` of each; instants and lengths are in seconds."""

    name: str
    api: str
    account: int
    url: str
    user: str
    secret: str
    since: float
    overlap: str
    rate: float
    state: str
    trouble: str
    last_success: float | None
    lag: float
    backlog: float
    days_until_loss: float | None
    calls: int
    calls_per_second: float
    lost: list[Lost]


class CheckedDay(msgspec.Struct):
    """What ``mirror check --json`` prints of each day."""

    day: date
    vendor: int
    here: int
    filled: int


@app.command()
@failing_clearly
def add(
    api: Annotated[str, typer.Argument(metavar="API", help="The vendor's API: plivo, fuse or dev.")],
    name: Annotated[str, typer.Option(help="What to call the mirror.")],
    account: Annotated[
        int, typer.Option("--account", metavar="ID", max=LARGEST_ID, help="The account here that gets the calls.")
    ],
    user: Annotated[str, typer.Option(help="Plivo: the auth id; Fuse: the e-mail address; DEV: the login.")],
    secret_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File that holds the auth token, developer key or password.")
    ] = None,
    secret_variable: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable that holds it, instead of a file.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the vendor answers, if not at its usual address.")] = None,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Day (UTC) to begin with; by default all that the vendor shows."),
    ] = None,
    overlap: Annotated[
        str, typer.Option(help="For how long what was had is asked for again, to find late calls and changes.")
    ] = "1d",
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, max=100_000, help="Requests a second at most; by default what the vendor takes."),
    ] = None,
    data: Data = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Follow an account at a vendor from now on; the credentials are tried at once.

    The account here is set to keep everything for ever, where no retention of its own says otherwise. Example:
    `callhouse mirror add plivo --name sales --account 1 --user MA2025RK4E639VJFZAGV --secret-file plivo.token`
    """
    in_force, _ = settings(config, data, chosen)
    upstream = upstreams().get(api)
    if upstream is None:
        raise typer.BadParameter(f"{api!r} is none; {', '.join(sorted(upstreams()))} expected.", param_hint="API")
    if (secret_file is None) == (secret_variable is None):
        raise typer.BadParameter("name a file or a variable that holds the secret.", param_hint="--secret-file")
    if not name.isprintable() or not name.strip() or len(name) > 100:
        raise typer.BadParameter("1 to 100 printable characters expected.", param_hint="--name")
    if ":" in user or not user.isprintable() or not user.strip():
        raise typer.BadParameter("printable characters without a colon expected.", param_hint="--user")
    began = now()
    first = began - upstream.keeps if since is None else int(since.replace(tzinfo=UTC).timestamp()) * SECOND
    if first > began:
        raise typer.BadParameter("a day that has begun expected.", param_hint="--since")
    new = Mirror(
        id=0,
        name=name,
        api=api,
        account_id=account,
        url=_url(url or upstream.url),
        user=user,
        secret=f"variable:{secret_variable}" if secret_file is None else f"file:{secret_file.absolute()}",
        since=first,
        overlap=_overlap(overlap, upstream),
        rate=rate or upstream.rate,
        created=began,
        state="active",
        trouble="",
        succeeded=None,
        calls=0,
        speed=0.0,
        place="[]",
        owner=None,
        owned_until=0,
    )

    async def work() -> tuple[Mirror, Account]:
        async with opened(in_force) as store:
            owner = await store.accounts.get(account)
            async with await vendor_of(new, os.environ) as vendor:
                until = began - began % SECOND
                await upstream.total(vendor, user, Window(until - 60 * SECOND, until))
            if not owner.active:
                warn_of_inactive(owner)
            mirror = await store.mirrors.add(new)
            return mirror, await _keep_for_ever(store, owner)

    mirror, kept = run(work())
    listed = _listed(mirror, status_of(mirror, upstream, began), [])
    if as_json:
        print_json(listed)
        return
    _print(listed)
    kinds = ", ".join(f"{kind} {format_duration(getattr(kept.retention, kind))}" for kind in _KINDS)
    out.print(f"Account {account} keeps {kinds}; `callhouse accounts set {account} --retention` changes that.")
    out.print("A server over this store follows it from now on; without one, `callhouse mirror run` does.")


_KINDS = RetentionOverride.__struct_fields__


async def _keep_for_ever(store: Store, account: Account) -> Account:
    """Let *account* keep for ever what it has no wish about."""
    wishes = {kind: getattr(account.override, kind) or "forever" for kind in _KINDS}
    return await store.accounts.change(account.id, timezone=None, retention=RetentionOverride(**wishes))


def _url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"https", "http"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        is_address = False
    if (
        not is_address
        or "@" in url
        or "?" in url
        or "#" in url
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        raise typer.BadParameter("https://HOST or http://HOST expected, without credentials.", param_hint="--url")
    return url.rstrip("/")


def _overlap(text: str, upstream: Upstream) -> int:
    try:
        overlap = parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--overlap") from None
    longest = upstream.keeps_log or upstream.keeps
    if overlap is None or not 0 < overlap < longest:
        raise typer.BadParameter(
            f"a duration below {format_duration(longest)} expected, after which the vendor deletes.",
            param_hint="--overlap",
        )
    return overlap


@app.command("list")
@failing_clearly
def list_(data: Data = None, config: Config = None, chosen: Set = None, as_json: Json = False) -> None:
    """List the mirrors and how they fare.

    Example: `callhouse mirror list`
    """
    in_force, _ = settings(config, data, chosen)

    async def work() -> list[ListedMirror]:
        async with opened(in_force) as store:
            return [await _of(store, mirror) for mirror in await store.mirrors.all()]

    found = run(work())
    if as_json:
        print_json(found)
        return
    if not found:
        out.print("There are no mirrors; `callhouse mirror add` makes one.")
        return
    rows = table("name", "api", "account", "state", "lag", "backlog", "calls", "lost", "trouble")
    for each in found:
        rows.add_row(
            plain(each.name),
            each.api,
            str(each.account),
            each.state,
            _length(each.lag),
            _length(each.backlog),
            f"{each.calls:,}",
            _lost(each.lost),
            plain(each.trouble),
        )
    out.print(rows)


@app.command()
@failing_clearly
def show(name: Name, data: Data = None, config: Config = None, chosen: Set = None, as_json: Json = False) -> None:
    """Show one mirror, and what was lost because the vendor deleted it too soon.

    Example: `callhouse mirror show sales`
    """
    in_force, _ = settings(config, data, chosen)

    async def work() -> ListedMirror:
        async with opened(in_force) as store:
            return await _of(store, await store.mirrors.get(name))

    found = run(work())
    if as_json:
        print_json(found)
    else:
        _print(found)


@app.command()
@failing_clearly
def pause(name: Name, data: Data = None, config: Config = None, chosen: Set = None) -> None:
    """Follow an account no longer, until it is resumed.

    Example: `callhouse mirror pause sales`
    """
    _change(name, config, data, chosen, lambda store, mirror: store.mirrors.set_state(mirror.id, "paused"))
    out.print(f"{plain(name)} is paused; `callhouse mirror resume` goes on where it was.")


@app.command()
@failing_clearly
def resume(name: Name, data: Data = None, config: Config = None, chosen: Set = None) -> None:
    """Follow an account again that was paused, or stopped because the vendor refused the credentials.

    Example: `callhouse mirror resume sales`
    """
    _change(name, config, data, chosen, lambda store, mirror: store.mirrors.set_state(mirror.id, "active"))
    out.print(f"{plain(name)} is active.")


@app.command()
@failing_clearly
def remove(name: Name, data: Data = None, config: Config = None, chosen: Set = None) -> None:
    """Forget a mirror; the calls that it brought stay.

    Example: `callhouse mirror remove sales`
    """
    _change(name, config, data, chosen, lambda store, mirror: store.mirrors.remove(mirror.id))
    out.print(f"{plain(name)} is removed; the calls that it brought stay.")


def _change(name: str, config: Config, data: Data, chosen: Set, work: Any) -> None:
    in_force, _ = settings(config, data, chosen)

    async def done() -> None:
        async with opened(in_force) as store:
            await work(store, await store.mirrors.get(name))

    run(done())


@app.command("run")
@failing_clearly
def run_(
    names: Names = None,
    once: Annotated[bool, typer.Option("--once", help="End when all is had that is to be had now.")] = False,
    data: Data = None,
    config: Config = None,
    chosen: Set = None,
) -> None:
    """Follow all mirrors, or those named, until Ctrl-C; beside a server that follows them it waits for its turn.

    Example: `callhouse mirror run --once sales`
    """
    in_force, _ = settings(config, data, chosen)
    configure_logging(in_force.log.format, in_force.log.level if in_force.log.level != "info" else "warning")
    run(_run(in_force, names or [], once=once))


async def _run(in_force: Settings, names: list[str], *, once: bool) -> None:
    async with opened(in_force) as store:
        for name in names:
            await store.mirrors.get(name)
        shown = ShownProgress()
        service = _service(store, in_force, shown)
        with shown:
            if not once:
                await _until_stopped(service.run(names))
                return
            failed = []
            for mirror in await store.mirrors.all():
                if mirror.name in names or (not names and mirror.state == "active"):
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


def _service(store: Store, in_force: Settings, shown: "ShownProgress") -> Service:
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
        counts = f"{counted(runner.calls, 'call')}, {_length(status.backlog / SECOND)} to go"
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


@app.command()
@failing_clearly
def check(name: Name, data: Data = None, config: Config = None, chosen: Set = None, as_json: Json = False) -> None:
    """Compare how many calls the vendor has of each day with how many are here, and ask again for days that lack some.

    Beside a server, or `mirror run`, that follows the mirror, that asks again. Exit status 1 when some are still
    missing. Example: `callhouse mirror check sales`
    """
    in_force, _ = settings(config, data, chosen)
    days, is_left = run(_check(name, in_force))
    if as_json:
        print_json(days)
    else:
        rows = table("day (UTC)", "vendor", "here", "filled now")
        for each in days:
            style = "red" if each.here < each.vendor else None
            rows.add_row(str(each.day), f"{each.vendor:,}", f"{each.here:,}", f"{each.filled:,}", style=style)
        out.print(rows)
    missing = sum(max(0, each.vendor - each.here) for each in days)
    if missing and is_left:
        raise CallhouseError(
            f"{counted(missing, 'call')} of the vendor's are not here. Another process follows {name}, the server or "
            "`callhouse mirror run`, and asks for these days again now; check once more in a while."
        )
    if missing:
        raise CallhouseError(
            f"{counted(missing, 'call')} of the vendor's are not here; `callhouse quarantine list` shows those that "
            "could not be understood."
        )


async def _check(name: str, in_force: Settings) -> tuple[list[CheckedDay], bool]:
    """The days, and whether those that lack calls are left to another process, which follows the mirror."""
    shown = ShownProgress()
    async with opened(in_force) as store:
        service = _service(store, in_force, shown)
        with shown:
            before = await _days(store, service, name, shown)
            lacking = [day.window for day in before if day.here < day.vendor]
            is_ours = not lacking or await service.again(name, lacking)
            after = await _days(store, service, name, shown) if lacking and is_ours else before
    known = {_day(day.window.since): day.here for day in before}
    days = [(_day(found.window.since), found) for found in after]
    return [CheckedDay(day, each.vendor, each.here, each.here - known.get(day, 0)) for day, each in days], not is_ours


async def _days(store: Store, service: Service, name: str, shown: "ShownProgress") -> list[Day]:
    runner = await service.runner(name)
    days = []
    async for day in compare(store, runner, upstreams()[runner.mirror.api]):
        days.append(day)
        shown.compared(runner, day)
    return days


def _day(instant: int) -> date:
    return datetime.fromtimestamp(instant / SECOND, UTC).date()


async def _of(store: Store, mirror: Mirror) -> ListedMirror:
    losses = [
        Lost(_day(day * DAY), None if calls == UNKNOWN else calls)
        for day, calls in await store.mirrors.losses(mirror.id)
    ]
    return _listed(mirror, status_of(mirror, upstreams()[mirror.api], now()), losses)


def _listed(mirror: Mirror, status: Status, losses: list[Lost]) -> ListedMirror:
    return ListedMirror(
        name=mirror.name,
        api=mirror.api,
        account=mirror.account_id,
        url=mirror.url,
        user=mirror.user,
        secret=mirror.secret,
        since=mirror.since / SECOND,
        overlap=format_duration(mirror.overlap),
        rate=mirror.rate,
        state=mirror.state,
        trouble=mirror.trouble,
        last_success=None if mirror.succeeded is None else mirror.succeeded / SECOND,
        lag=status.lag / SECOND,
        backlog=status.backlog / SECOND,
        days_until_loss=status.days_left,
        calls=mirror.calls,
        calls_per_second=mirror.speed,
        lost=losses,
    )


def _print(each: ListedMirror) -> None:
    last = each.last_success
    shown = {
        "name": each.name,
        "follows": f"{each.api} account {each.user} at {each.url}",
        "into account": each.account,
        "secret": each.secret.replace(":", " ", 1),
        "since": local_time(int(each.since * SECOND)),
        "asked for again": f"for {each.overlap}, at most {each.rate:g} requests a second",
        "state": each.state,
        "trouble": each.trouble or "none",
        "last success": "never" if last is None else local_time(int(last * SECOND)),
        "lag": _length(each.lag),
        "backlog": _length(each.backlog),
        "until a loss": "" if each.days_until_loss is None else f"{each.days_until_loss:.2f} days",
        "calls": f"{each.calls:,} told, {each.calls_per_second:,.0f}/s at last",
        "lost": _lost(each.lost),
    }
    for key, value in shown.items():
        out.print(f"[bold]{key:>15}[/]  {plain(str(value))}", highlight=False, soft_wrap=True)
    for lost in each.lost:
        calls = "nobody can tell how many calls" if lost.calls is None else counted(lost.calls, "call")
        out.print(f"{'':>15}  {lost.day}: {calls}", highlight=False)


def _lost(lost: list[Lost]) -> str:
    if not lost:
        return "nothing"
    known = sum(each.calls or 0 for each in lost)
    unknown = "" if all(each.calls is not None for each in lost) else " and more"
    return f"{counted(known, 'call')}{unknown} of {counted(len(lost), 'day')}"


def _length(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
