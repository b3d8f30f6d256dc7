"""``callhouse quarantine``: what was refused inside an accepted batch."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import typer
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Database,
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
    print_json_array,
    run,
    settings,
)
from callhouse.errors import CallhouseError
from callhouse.ingest.pump import Pump, reader_of
from callhouse.ingest.readers import Reader, readers
from callhouse.mirror.upstreams import upstreams
from callhouse.settings import Settings
from callhouse.store import Store
from callhouse.store.quarantine import PREVIEW_CHARACTERS, Quarantined

SHOWN = 100
INDENT = 4
PAGE = 1_000
"""Entries that are read at a time, without their records."""

app = typer.Typer(help="Records that were refused inside an accepted batch.", no_args_is_help=True)

AccountId = Annotated[
    int | None, typer.Option("--account", metavar="ID", max=LARGEST_ID, help="Only this account's records.")
]
Ids = Annotated[
    list[int] | None,
    typer.Argument(metavar="[ID]...", max=LARGEST_ID, help="Numbers, as `quarantine list` shows them."),
]
All = Annotated[bool, typer.Option("--all", help="All records, or all of `--account`.")]


class ListedRecord(msgspec.Struct):
    """What ``quarantine list --json`` prints; *received* in epoch seconds, *origin* as ``file:line`` if it came from a
    file, *size* in bytes, *record* as it was sent.
    """

    id: int
    account: int
    received: float
    source: str
    origin: str
    reason: str
    size: int
    record: str


class Replayed(msgspec.Struct):
    """What ``quarantine replay --json`` prints."""

    accepted: int
    still_refused: dict[int, str]


@app.command("list")
@failing_clearly
def list_(
    account: AccountId = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help=f"Most records to list; by default {SHOWN}, and all with `--json`."),
    ] = None,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """List the records with the reasons why they were refused, the oldest first; whole ones with `--json`.

    Example: `callhouse quarantine list --account 1`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> None:
        async with _opened(in_force, account) as store:
            if as_json:
                await print_json_array(_listed(store, account, limit))
            else:
                await _print_entries(store, account, limit or SHOWN)

    run(work())


async def _listed(store: Store, account: int | None, limit: int | None) -> AsyncIterator[ListedRecord]:
    async for e in _entries(store, account, limit):
        record = await store.quarantine.record(e)
        if record is not None:
            text = record.decode(errors="replace")
            yield ListedRecord(e.id, e.account_id, e.received / 1000, e.source, e.origin, e.reason, e.size, text)


async def _print_entries(store: Store, account: int | None, limit: int) -> None:
    """Each entry as lines of its own, which any terminal is wide enough for."""
    async for e in _entries(store, account, limit):
        preview = " ".join(e.preview.split())
        if len(e.preview) == PREVIEW_CHARACTERS:
            preview += "…"
        known = f"{local_time(e.received)}, {e.source}, account {e.account_id}, {e.size:,} bytes"
        out.print(f"[bold]{e.id}[/]  {known}", highlight=False)
        reason = f"{e.origin}: {e.reason}" if e.origin else e.reason
        out.print(Padding.indent(f"[red]{plain(reason)}[/]", INDENT))
        out.print(Padding.indent(plain(preview), INDENT))
    count = await store.quarantine.count(account)
    if not count:
        out.print("The quarantine is empty.")
        return
    reasons = await store.quarantine.reasons(account, limit=3)
    every = counted(count, "record")
    shown = f"{limit:,} of {every}; `--limit` shows more." if count > limit else f"{every}."
    out.print(f"{shown} Most frequent:")
    for reason, times in reasons:
        out.print(Padding.indent(f"{plain(reason)} ({times:,})", INDENT))


@app.command()
@failing_clearly
def replay(
    ids: Ids = None,
    account: AccountId = None,
    all_: All = False,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Try records again, for instance after a limit or a retention was raised; what is kept leaves the quarantine.

    Exit status 1 when some are refused again. Example: `callhouse quarantine replay --all`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> Replayed:
        async with _opened(in_force, account) as store:
            pump, known = Pump(store, in_force.ingest), readers(in_force.sources)
            result = Replayed(0, {})
            total = len(ids or []) or await store.quarantine.count(account)
            with Progress("Replaying", BarColumn(), MofNCompleteColumn(), console=err, transient=True) as progress:
                task = progress.add_task("", total=total)
                async for entry in _chosen(store, ids, account, all_=all_):
                    await _replay(store, pump, entry, known, result)
                    progress.advance(task)
            return result

    result = run(work())
    if as_json:
        print_json(result)
    else:
        out.print(f"{result.accepted} accepted, {len(result.still_refused)} refused again.")
        for entry_id, reason in result.still_refused.items():
            out.print(f"  {entry_id}: {plain(reason)}")
    if result.still_refused:
        raise typer.Exit(1)


async def _replay(store: Store, pump: Pump, entry: Quarantined, known: Mapping[str, Reader], result: Replayed) -> None:
    account = await store.accounts.get(entry.account_id)
    read = reader_of(entry.source, known, upstreams(), account)
    if read is None:
        result.still_refused[entry.id] = f"no source reads /ingest/{entry.source} any more"
        return
    record = await store.quarantine.record(entry)
    if record is None:
        # Another command was quicker, or it has expired.
        return
    outcome = await pump.replay(entry, record, account, read)
    if outcome.refusal is None:
        result.accepted += 1
    else:
        result.still_refused[entry.id] = outcome.refusal


@app.command()
@failing_clearly
def drop(
    ids: Ids = None,
    account: AccountId = None,
    all_: All = False,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Forget records for good.

    Example: `callhouse quarantine drop 3 4 5`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> int:
        async with _opened(in_force, account) as store:
            if all_ and not ids:
                return await store.quarantine.drop_all(account)
            return await store.quarantine.drop([e async for e in _chosen(store, ids, account, all_=all_)])

    dropped = run(work())
    if as_json:
        print_json({"dropped": dropped})
    else:
        out.print(f"{dropped} dropped.")


@asynccontextmanager
async def _opened(chosen: Settings, account: int | None) -> AsyncIterator[Store]:
    """The store. Raises CallhouseError when it knows no such *account*, whose quarantine would seem empty."""
    async with opened(chosen) as store:
        if account is not None:
            await store.accounts.get(account)
        yield store


async def _entries(store: Store, account: int | None, limit: int | None = None) -> AsyncIterator[Quarantined]:
    """The entries in order of id, at most *limit*, read a page at a time."""
    left, after = limit, 0
    while page := await store.quarantine.list(account, after=after, limit=PAGE if left is None else min(PAGE, left)):
        for entry in page:
            yield entry
        after = page[-1].id
        if left is not None:
            left -= len(page)


async def _chosen(
    store: Store, ids: list[int] | None, account: int | None, *, all_: bool
) -> AsyncIterator[Quarantined]:
    if bool(ids) == all_:
        raise typer.BadParameter("name records by their numbers, or say --all.")
    if all_:
        async for entry in _entries(store, account):
            yield entry
        return
    named = [(entry_id, await store.quarantine.get(entry_id)) for entry_id in ids or []]
    missing = [str(entry_id) for entry_id, entry in named if entry is None]
    if missing:
        raise CallhouseError(f"Not in the quarantine: {', '.join(missing)}; `callhouse quarantine list` shows what is.")
    for _, found in named:
        if found is not None and account in {None, found.account_id}:
            yield found
