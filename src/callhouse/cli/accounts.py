"""``callhouse accounts``: who may send and read."""

import sys
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Database,
    Json,
    Set,
    failing_clearly,
    local_time,
    opened,
    out,
    plain,
    print_json,
    run,
    settings,
    table,
)
from callhouse.errors import CallhouseError
from callhouse.model.account import Account, Plan, RetentionOverride
from callhouse.model.instant import format_duration, parse_duration, time_zone
from callhouse.store.accounts import Secrets

app = typer.Typer(help="Who may send and read calls.", no_args_is_help=True)

SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 256

Id = Annotated[
    int, typer.Argument(metavar="ID", max=LARGEST_ID, help="The account's number, as `accounts list` shows it.")
]
Zone = Annotated[
    str | None, typer.Option("--timezone", metavar="TZ", help="IANA time zone, for instance Europe/Berlin.")
]


class CreatedAccount(msgspec.Struct):
    """What ``accounts create --json`` prints; null for an API that the account does not use."""

    id: int
    email: str
    developer_key: str
    login: str | None
    password: str | None
    auth_id: str
    auth_token: str


class ListedAccount(msgspec.Struct):
    """What ``accounts list --json`` and ``show --json`` print; *created* in epoch seconds."""

    id: int
    email: str
    login: str | None
    auth_id: str
    plan: Plan
    active: bool
    timezone: str
    parent: int | None
    created: float
    retention: dict[str, str]


@app.command()
@failing_clearly
def create(
    email: Annotated[str, typer.Option(help="E-mail address: the user name of the Fuse API.")],
    login: Annotated[str | None, typer.Option(help="Login of the DEV API, when the account uses it.")] = None,
    plan: Annotated[Plan, typer.Option(help="What the account may do; `demo` has no DEV logs.")] = "standard",
    timezone: Zone = "UTC",
    parent: Annotated[
        int | None, typer.Option(metavar="ID", max=LARGEST_ID, help="Make a subaccount of that account.")
    ] = None,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Make an account and print its credentials, which are shown this once.

    Example: `callhouse accounts create --email ops@example.com --timezone Europe/Berlin`
    """
    if "@" not in email or ":" in email or any(c.isspace() for c in email):
        raise typer.BadParameter(f"{email!r} is no e-mail address.", param_hint="--email")
    _check_login(login)
    zone = _zone(timezone)
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> tuple[Account, Secrets]:
        async with opened(in_force, create=True) as store:
            return await store.accounts.create(
                email=email,
                login=login,
                plan=plan,
                timezone=zone or "UTC",
                parent_id=parent,
            )

    note = "Any of them sends calls. The secrets are not shown again; `callhouse accounts rotate` makes new ones."
    _print_credentials(*run(work()), note, as_json=as_json)


@app.command("list")
@failing_clearly
def list_(
    data: Data = None, database: Database = None, config: Config = None, chosen: Set = None, as_json: Json = False
) -> None:
    """List all accounts.

    Example: `callhouse accounts list --json`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> list[Account]:
        async with opened(in_force) as store:
            return await store.accounts.all()

    accounts = run(work())
    if as_json:
        print_json([_listed(account) for account in accounts])
        return
    listed = table("id", "e-mail", "login", "auth id", "plan", "state", "time zone", "parent")
    for a in accounts:
        state = "active" if a.active else "[red]inactive[/]"
        parent = "" if a.parent_id is None else str(a.parent_id)
        listed.add_row(str(a.id), plain(a.email), plain(a.login or ""), a.auth_id, a.plan, state, a.timezone, parent)
    out.print(listed if accounts else "There is no account yet; make one with `callhouse accounts create --email ...`.")


@app.command()
@failing_clearly
def show(
    account_id: Id,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Show one account.

    Example: `callhouse accounts show 1`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> Account:
        async with opened(in_force) as store:
            return await store.accounts.get(account_id)

    _print_account(run(work()), as_json=as_json)


@app.command("set")
@failing_clearly
def set_(
    account_id: Id,
    timezone: Zone = None,
    retention: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=DURATION",
            help="How long to keep `details`, `sessions` or `plivo` for this account: `30d`, `1y`, `forever`, or "
            "`server` for what the server says. May be repeated.",
        ),
    ] = None,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Change an account's time zone or retention.

    Example: `callhouse accounts set 1 --retention details=90d --retention plivo=forever`
    """
    zone = _zone(timezone)
    wishes = _wishes(retention or [])
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> Account:
        async with opened(in_force) as store:
            known = (await store.accounts.get(account_id)).override
            override = msgspec.structs.replace(known, **wishes) if wishes else None
            return await store.accounts.change(account_id, timezone=zone, retention=override)

    _print_account(run(work()), as_json=as_json)


@app.command()
@failing_clearly
def deactivate(
    account_id: Id,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Switch an account off at once; its calls stay, its credentials get 401, its subaccounts stay active.

    Example: `callhouse accounts deactivate 1`
    """
    _switch(account_id, data, database, config, chosen, active=False, as_json=as_json)


@app.command()
@failing_clearly
def activate(
    account_id: Id,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Switch an account on again.

    Example: `callhouse accounts activate 1`
    """
    _switch(account_id, data, database, config, chosen, active=True, as_json=as_json)


@app.command()
@failing_clearly
def rotate(
    account_id: Id,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Replace all secrets of an account at once, a password that was chosen too, and print the new ones this once.

    Example: `callhouse accounts rotate 1 --json`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> tuple[Account, Secrets]:
        async with opened(in_force) as store:
            return await store.accounts.rotate(account_id)

    account, secrets = run(work())
    dev = "" if secrets.password is None else "the DEV password, "
    note = (
        f"All are new: the developer key, {dev}the auth token. Those before no longer work. These are not shown again."
    )
    _print_credentials(account, secrets, note, as_json=as_json)


@app.command()
@failing_clearly
def password(
    account_id: Id,
    login: Annotated[str | None, typer.Option(help="The login; needed when the account has none.")] = None,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Choose the password of the DEV API, of 8 to 256 characters; it is asked for, or read from standard input.

    Example: `callhouse accounts password 1 --login ops < password.txt`
    """
    _check_login(login)
    in_force, _ = settings(config, data, chosen, database)
    new = _new_password()

    async def work() -> Account:
        async with opened(in_force) as store:
            return await store.accounts.set_password(account_id, new, login)

    _print_account(run(work()), as_json=as_json)


def _new_password() -> str:
    if sys.stdin.isatty():
        new: str = typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        # It may come from another encoding's terminal or file; what is not UTF-8 no client could send.
        new = sys.stdin.buffer.readline().decode(errors="replace").rstrip("\r\n")
    if not SHORTEST_PASSWORD <= len(new) <= LONGEST_PASSWORD or not new.isprintable() or "\ufffd" in new:
        raise CallhouseError(
            f"The password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} printable characters in UTF-8."
        )
    return new


def _check_login(login: str | None) -> None:
    if login is not None and (not login or ":" in login or not login.isprintable()):
        raise typer.BadParameter("a login is not empty, printable and holds no colon.", param_hint="--login")


def _switch(
    account_id: int, data: Data, database: Database, config: Config, chosen: Set, *, active: bool, as_json: bool
) -> None:
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> Account:
        async with opened(in_force) as store:
            return await store.accounts.set_active(account_id, active=active)

    _print_account(run(work()), as_json=as_json)


def _zone(name: str | None) -> str | None:
    if name is not None:
        try:
            time_zone(name)
        except ValueError:
            raise typer.BadParameter(f"{name!r} is no IANA time zone.", param_hint="--timezone") from None
    return name


def _wishes(assignments: list[str]) -> dict[str, str | None]:
    wishes: dict[str, str | None] = {}
    for assignment in assignments:
        name, _, duration = assignment.partition("=")
        if name not in RetentionOverride.__struct_fields__:
            names = ", ".join(RetentionOverride.__struct_fields__)
            raise typer.BadParameter(f"{assignment!r}: one of {names} expected.", param_hint="--retention")
        try:
            wishes[name] = None if duration == "server" else format_duration(parse_duration(duration))
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--retention") from None
    return wishes


def _listed(account: Account) -> ListedAccount:
    kept = account.retention
    return ListedAccount(
        id=account.id,
        email=account.email,
        login=account.login,
        auth_id=account.auth_id,
        plan=account.plan,
        active=account.active,
        timezone=account.timezone,
        parent=account.parent_id,
        created=account.created / 1000,
        retention={name: format_duration(getattr(kept, name)) for name in RetentionOverride.__struct_fields__},
    )


def _print_account(account: Account, *, as_json: bool) -> None:
    listed = _listed(account)
    if as_json:
        print_json(listed)
        return
    lines = Table(show_header=False, box=None)
    fields: dict[str, Any] = msgspec.structs.asdict(listed)
    fields["active"] = "yes" if account.active else "no"
    fields["created"] = local_time(account.created)
    for name, duration in fields.pop("retention").items():
        own = " (this account)" if getattr(account.override, name) else " (server)"
        fields[f"retention of {name}"] = duration + own
    for name, value in fields.items():
        lines.add_row(f"[bold]{name}[/]", "" if value is None else plain(str(value)))
    out.print(lines)


def _print_credentials(account: Account, secrets: Secrets, note: str, *, as_json: bool) -> None:
    created = CreatedAccount(
        account.id,
        account.email,
        secrets.developer_key,
        account.login,
        secrets.password,
        account.auth_id,
        secrets.auth_token,
    )
    if as_json:
        print_json(created)
        return
    # Whole lines, however narrow the terminal: what a table cut off would be lost.
    lines = [
        f"Account {account.id}",
        f"Fuse   user name      {account.email}",
        f"       developer key  {secrets.developer_key}",
    ]
    if account.login and secrets.password:
        lines += [f"DEV    login          {account.login}", f"       password       {secrets.password}"]
    lines += [f"Plivo  auth id        {account.auth_id}", f"       auth token     {secrets.auth_token}"]
    for line in lines:
        out.print(plain(line), soft_wrap=True, highlight=False)
    out.print(note, soft_wrap=not out.is_terminal)
