"""``callhouse quarantine``: what was refused inside an accepted batch."""

from collections import Counter
from typing import Annotated

import msgspec
import typer
from rich.progress import track
from rich.table import Table

from callhouse.cli.context import (
    Config,
    Data,
    Json,
    Set,
    err,
    failing_clearly,
    local_time,
    opened,
    out,
    plain,
    print_json,
    run,
    settings,
)
from callhouse.errors import CallhouseError, shortened
from callhouse.ingest.pump import Pump, readers
from callhouse.store import Store
from callhouse.store.quarantine import Quarantined

app = typer.Typer(help="Records that were refused inside an accepted batch.", no_args_is_help=True)

AccountId = Annotated[int | None, typer.Option("--account", metavar="ID", help="Only this account's records.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers, as `quarantine list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="All records, or all of `--account`.")]


class ListedRecord(msgspec.Struct):
    """What ``quarantine list --json`` prints; *received* in epoch seconds, *record* as it was sent."""

    id: int
    account: int
    received: float
    source: str
    reason: str
    record: str


class Replayed(msgspec.Struct):
    """What ``quarantine replay --json`` prints."""

    accepted: int
    still_refused: dict[int, str]


@app.command("list")
@failing_clearly
def list_(
    account: AccountId = None, data: Data = None, config: Config = None, chosen: Set = None, as_json: Json = False
) -> None:
    """List the records with the reasons why they were refused.

    Example: `callhouse quarantine list --account 1`
    """
    in_force, _ = settings(config, data, chosen)

    async def work() -> list[Quarantined]:
        async with opened(in_force) as store:
            return await _all(store, account)

    entries = run(work())
    if as_json:
        print_json(
            [
                ListedRecord(
                    e.id, e.account_id, e.received / 1000, e.source, e.reason, e.record.decode(errors="replace")
                )
                for e in entries
            ]
        )
        return
    if not entries:
        out.print("The quarantine is empty.")
        return
    table = Table("id", "account", "received", "source", "reason", "record")
    for e in entries:
        record = shortened(e.record.decode(errors="replace").replace("\n", " "))
        table.add_row(str(e.id), str(e.account_id), local_time(e.received), e.source, plain(e.reason), plain(record))
    out.print(table)
    reasons = Counter(e.reason for e in entries).most_common(3)
    out.print(f"{len(entries)} records. Most frequent: " + "; ".join(f"{plain(r)} ({n})" for r, n in reasons))


@app.command()
@failing_clearly
def replay(
    ids: Ids = None,
    account: AccountId = None,
    all_: All = False,
    data: Data = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Try records again, for instance after a limit or a retention was raised; what is kept leaves the quarantine.

    Exit status 1 when some are refused again. Example: `callhouse quarantine replay --all`
    """
    in_force, _ = settings(config, data, chosen)

    async def work() -> Replayed:
        async with opened(in_force) as store:
            pump, known = Pump(store, in_force.ingest), readers()
            result = Replayed(0, {})
            for entry in track(await _chosen(store, ids, account, all_=all_), "Replaying", console=err, transient=True):
                if entry.source not in known:
                    result.still_refused[entry.id] = f"no source reads /ingest/{entry.source} any more"
                    continue
                owner = await store.accounts.get(entry.account_id)
                outcome = await pump.replay(entry, owner, known[entry.source])
                if outcome.refusal is None:
                    result.accepted += 1
                else:
                    result.still_refused[entry.id] = outcome.refusal
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


@app.command()
@failing_clearly
def drop(
    ids: Ids = None,
    account: AccountId = None,
    all_: All = False,
    data: Data = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Forget records for good.

    Example: `callhouse quarantine drop 3 4 5`
    """
    in_force, _ = settings(config, data, chosen)

    async def work() -> int:
        async with opened(in_force) as store:
            if all_ and not ids:
                return await store.quarantine.drop_all(account)
            entries = await _chosen(store, ids, account, all_=all_)
            return await store.quarantine.drop([entry.id for entry in entries])

    dropped = run(work())
    if as_json:
        print_json({"dropped": dropped})
    else:
        out.print(f"{dropped} dropped.")


async def _all(store: Store, account: int | None) -> list[Quarantined]:
    entries: list[Quarantined] = []
    while page := await store.quarantine.list(account, after=entries[-1].id if entries else 0):
        entries += page
    return entries


async def _chosen(store: Store, ids: list[int] | None, account: int | None, *, all_: bool) -> list[Quarantined]:
    if bool(ids) == all_:
        raise typer.BadParameter("name records by their numbers, or say --all.")
    if all_:
        return await _all(store, account)
    entries = [(entry_id, await store.quarantine.get(entry_id)) for entry_id in ids or []]
    missing = [str(entry_id) for entry_id, entry in entries if entry is None]
    if missing:
        raise CallhouseError(f"Not in the quarantine: {', '.join(missing)}; `callhouse quarantine list` shows what is.")
    return [entry for _, entry in entries if entry is not None and account in {None, entry.account_id}]
