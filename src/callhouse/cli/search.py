"""``callhouse search``: calls by the words of their logs, or by their SIP Call-ID."""

from typing import Annotated

import msgspec
import typer

from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Database,
    Json,
    Set,
    local_time,
    opened,
    out,
    plain,
    print_json,
    run,
    settings,
    table,
)
from callhouse.clock import now
from callhouse.model.instant import YEAR, parse_duration
from callhouse.model.query import CallQuery
from callhouse.store.calls import FoundCall


def search(
    account: Annotated[int, typer.Option("--account", metavar="ID", max=LARGEST_ID, help="Whose calls.")],
    words: Annotated[
        list[str] | None, typer.Argument(help="Words that the log must hold, all of them; case does not matter.")
    ] = None,
    sip_call_id: Annotated[
        str | None,
        typer.Option("--sip-call-id", metavar="CALL-ID", help="Instead of words: what all switches called the call."),
    ] = None,
    last: Annotated[str, typer.Option(metavar="DURATION", help="How far back the calls may have started.")] = "forever",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most calls to show, the newest first.")] = 20,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Find calls by words that their logs hold, or by the Call-ID that several switches have in common.

    Example: `callhouse search --account 1 --last 1d goodbye`
    """
    try:
        reach = parse_duration(last)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--last") from None
    if (sip_call_id is None) == (not words):
        raise typer.BadParameter("give words, or --sip-call-id.", param_hint="WORDS")
    if words and not any(character.isalnum() for word in words for character in word):
        raise typer.BadParameter("letters or digits expected.", param_hint="WORDS")
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> list[FoundCall]:
        async with opened(in_force) as store:
            kept = (await store.accounts.get(account)).retention
            since = kept.calls_since(now()) if reach is None else max(now() - reach, kept.calls_since(now()))
            query = CallQuery(account_ids=(account,), since=since, until=now() + YEAR, limit=limit)
            if sip_call_id is not None:
                return await store.calls.of_sip_call(query, sip_call_id)
            return await store.calls.search(query, words or [], kept.details_since(now()))

    found = run(work())
    if as_json:
        print_json(
            [{**msgspec.structs.asdict(call), "start": call.start / 1000, "end": call.end / 1000} for call in found]
        )
        return
    nothing = "No call's log holds all these words." if sip_call_id is None else "No call has this Call-ID."
    listed = table("start", "session", "from", "to", "application", "seconds")
    for call in found:
        length = f"{(call.end - call.start) / 1000:.0f}"
        listed.add_row(
            local_time(call.start),
            plain(call.session_id),
            plain(call.src or ""),
            plain(call.dest or ""),
            plain(call.application_name or ""),
            length,
        )
    out.print(listed if found else nothing)
