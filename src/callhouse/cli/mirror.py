"""``callhouse mirror``: accounts at vendors that are followed."""

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Database,
    Json,
    Set,
    counted,
    failing_clearly,
    opened,
    out,
    plain,
    print_json,
    run,
    settings,
    table,
    warn_of_inactive,
)
from callhouse.cli.listed_mirror import ListedMirror, length_in_words, listed, listed_of, lost_in_words, print_mirror
from callhouse.clock import now
from callhouse.errors import CallhouseError
from callhouse.mirror.status import status_of
from callhouse.mirror.upstreams import upstreams
from callhouse.model.account import Account, RetentionOverride
from callhouse.model.instant import SECOND, format_duration, parse_duration
from callhouse.observability import configure_logging
from callhouse.store import Store
from callhouse.store.mirrors import Mirror
from callhouse.wire import Upstream, Window

app = typer.Typer(help="Accounts at vendors that are followed, so that what they delete is kept.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The mirror's name.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Only these mirrors.")]


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
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Follow an account at a vendor from now on; the credentials are tried at once.

    The account here is set to keep everything for ever, where no retention of its own says otherwise. Example:
    `callhouse mirror add plivo --name sales --account 1 --user MA2025RK4E639VJFZAGV --secret-file plivo.token`
    """
    in_force, _ = settings(config, data, chosen, database)
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

    from callhouse.mirror.runner import vendor_of  # noqa: PLC0415 — what asks vendors takes long to load

    async def work() -> tuple[Mirror, Account]:
        async with opened(in_force) as store:
            owner = await store.accounts.get(account)
            async with await vendor_of(new, os.environ) as vendor:
                until = began - began % SECOND
                # Somebody waits for it, and can try again.
                once = partial(vendor, attempts=1)
                await upstream.total(once, user, Window(until - 60 * SECOND, until))
            if not owner.active:
                warn_of_inactive(owner)
            mirror = await store.mirrors.add(new)
            return mirror, await _keep_for_ever(store, owner)

    mirror, kept = run(work())
    made = listed(mirror, status_of(mirror, upstream, began), [])
    if as_json:
        print_json(made)
        return
    print_mirror(made)
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
        (parts.hostname or "").encode("idna")
    except ValueError:
        is_address = False
    if not is_address or not url.isascii() or not url.isprintable() or any(sign in url for sign in "@?# "):
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
def list_(
    data: Data = None, database: Database = None, config: Config = None, chosen: Set = None, as_json: Json = False
) -> None:
    """List the mirrors and how they fare.

    Example: `callhouse mirror list`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> list[ListedMirror]:
        async with opened(in_force) as store:
            return [await listed_of(store, mirror) for mirror in await store.mirrors.all()]

    found = run(work())
    if as_json:
        print_json(found)
        return
    if not found:
        out.print("There are no mirrors; `callhouse mirror add` makes one.")
        return
    rows = table("name", "api", "account", "state", "lag", "backlog", "calls", "lost")
    for each in found:
        rows.add_row(
            plain(each.name),
            each.api,
            str(each.account),
            each.state,
            length_in_words(each.lag),
            length_in_words(each.backlog),
            f"{each.calls:,}",
            lost_in_words(each.lost),
        )
    out.print(rows)
    for each in found:
        if each.trouble:
            out.print(f"{plain(each.name)}: {plain(each.trouble)}", style="red", highlight=False, soft_wrap=True)


@app.command()
@failing_clearly
def show(
    name: Name,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Show one mirror, and what was lost because the vendor deleted it too soon.

    Example: `callhouse mirror show sales`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> ListedMirror:
        async with opened(in_force) as store:
            return await listed_of(store, await store.mirrors.get(name))

    found = run(work())
    if as_json:
        print_json(found)
    else:
        print_mirror(found)


@app.command()
@failing_clearly
def pause(name: Name, data: Data = None, database: Database = None, config: Config = None, chosen: Set = None) -> None:
    """Follow an account no longer, until it is resumed.

    Example: `callhouse mirror pause sales`
    """
    _change(name, config, data, database, chosen, lambda store, mirror: store.mirrors.set_state(mirror.id, "paused"))
    out.print(f"{plain(name)} is paused; `callhouse mirror resume` goes on where it was.")


@app.command()
@failing_clearly
def resume(name: Name, data: Data = None, database: Database = None, config: Config = None, chosen: Set = None) -> None:
    """Follow an account again that was paused, or stopped because the vendor refused the credentials.

    Example: `callhouse mirror resume sales`
    """
    _change(name, config, data, database, chosen, lambda store, mirror: store.mirrors.set_state(mirror.id, "active"))
    out.print(f"{plain(name)} is active.")


@app.command()
@failing_clearly
def remove(name: Name, data: Data = None, database: Database = None, config: Config = None, chosen: Set = None) -> None:
    """Forget a mirror; the calls that it brought stay.

    Example: `callhouse mirror remove sales`
    """
    _change(name, config, data, database, chosen, lambda store, mirror: store.mirrors.remove(mirror.id))
    out.print(f"{plain(name)} is removed; the calls that it brought stay.")


def _change(name: str, config: Config, data: Data, database: Database, chosen: Set, work: Any) -> None:
    in_force, _ = settings(config, data, chosen, database)

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
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
) -> None:
    """Follow all mirrors, or those named, until Ctrl-C; beside a server that follows them it waits for its turn.

    Example: `callhouse mirror run --once sales`
    """
    in_force, _ = settings(config, data, chosen, database)
    configure_logging(in_force.log.format, in_force.log.level if in_force.log.level != "info" else "warning")
    from callhouse.cli.following import follow  # noqa: PLC0415 — what asks vendors takes long to load

    run(follow(in_force, names or [], once=once))


@app.command()
@failing_clearly
def check(
    name: Name,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Compare how many calls the vendor has of each day with how many are here, and ask again for days that lack some.

    Beside a server, or `mirror run`, that follows the mirror, that asks again. Exit status 1 when some are still
    missing. Example: `callhouse mirror check sales`
    """
    in_force, _ = settings(config, data, chosen, database)
    from callhouse.cli.following import checked_days  # noqa: PLC0415 — what asks vendors takes long to load

    days, is_left = run(checked_days(name, in_force))
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
            "`callhouse mirror run`, and asks for these days again now; check once more in a while. What could not be "
            "understood is shown by `callhouse quarantine list`."
        )
    if missing:
        raise CallhouseError(
            f"{counted(missing, 'call')} of the vendor's are not here; `callhouse quarantine list` shows those that "
            "could not be understood."
        )
