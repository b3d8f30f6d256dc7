"""What comes in: each source with its rate and delay, what was refused and what to do about it, and what is kept."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Request, Response, post, route
from litestar.params import FromPath

from callhouse.console import mirrors, told
from callhouse.console.access import MAX_FORM, PATH, access
from callhouse.console.sign_in import local, redirect
from callhouse.console.views import HEADERS, HTML, page, render
from callhouse.errors import BadParameter, NotFound
from callhouse.ingest.pump import Pump, reader_of
from callhouse.model.account import Account
from callhouse.model.instant import HOUR
from callhouse.render import READ
from callhouse.store import Store
from callhouse.store.arrivals import Arrivals
from callhouse.store.quarantine import Quarantined

HOURS = 24
"""Hours that are drawn."""

ENTRIES = 25
MOST_AT_ONCE = 500
"""Refused records that one click tries again, or drops."""

SHOWN = 64 * 1024
"""Bytes of a refused record that are shown."""

MAX_ID = 2**63 - 1


class SourceSummary(msgspec.Struct, frozen=True):
    """*day* and *refused* count the records of the last HOURS, *hours* them one by one from the oldest on; *rate* is
    records a minute in the hour that is running. *delay* and *longest* are those of the last HOURS, in ms.
    """

    source: str
    last: int
    day: int
    refused: int
    rate: float
    delay: int | None
    longest: int | None
    hours: list[int]


@route("/ingest", http_method=READ, include_in_schema=False)
async def ingest(request: Request[Any, Any, Any]) -> Response[Any]:
    """The page of what comes in."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    reason = request.query_params.get("reason") or None
    before = _number(request.query_params.get("before")) or MAX_ID
    entries = await store.quarantine.newest(account.id, before=before, limit=ENTRIES + 1, reason=reason)
    call, log = await store.horizon(account.id)
    return page(
        request,
        "ingest.html",
        visitor,
        active="ingest",
        sources=await _sources(store, account),
        now=store.clock(),
        entries=entries[:ENTRIES],
        following=entries[ENTRIES - 1].id if len(entries) > ENTRIES else None,
        refused=await store.quarantine.count(account.id),
        reasons=await store.quarantine.reasons(account.id, limit=8),
        reason=reason,
        told=told.message(request),
        retention=account.retention,
        oldest={"call": call, "log": log},
        mirrors=await mirrors.shown(request, visitor),
    )


@route("/ingest/sources", http_method=READ, include_in_schema=False)
async def sources(request: Request[Any, Any, Any]) -> Response[Any]:
    """The sources alone, for a page that shows them again and again."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    html = render("sources.html", visitor, sources=await _sources(store, account), now=store.clock())
    return Response(html.encode(), headers=HEADERS, media_type=HTML)


async def _sources(store: Store, account: Account) -> list[SourceSummary]:
    hour, into = divmod(store.clock(), HOUR)
    by_source: dict[str, list[Arrivals]] = {}
    for arrivals in await store.arrivals.of(account.id):
        by_source.setdefault(arrivals.source, []).append(arrivals)
    return [_summary(name, came, hour, into) for name, came in sorted(by_source.items())]


def _summary(name: str, came: Sequence[Arrivals], hour: int, into: int) -> SourceSummary:
    recent = {each.hour: each for each in came if each.hour > hour - HOURS}
    hours = [_records(recent[h]) if h in recent else 0 for h in range(hour - HOURS + 1, hour + 1)]
    calls = sum(each.calls for each in recent.values())
    return SourceSummary(
        source=name,
        last=max(each.last for each in came),
        day=sum(hours),
        refused=sum(each.refused for each in recent.values()),
        rate=hours[-1] / max(1.0, into / 60_000),
        delay=sum(each.delay for each in recent.values()) // calls if calls else None,
        longest=max(each.longest for each in recent.values()) if calls else None,
        hours=hours,
    )


def _records(came: Arrivals) -> int:
    return came.accepted + came.repeated + came.refused


@route("/quarantine/{entry_id:str}", http_method=READ, include_in_schema=False)
async def entry(request: Request[Any, Any, Any], entry_id: FromPath[str]) -> Response[Any]:
    """A refused record as it was sent."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    found = await store.quarantine.of(account.id, _number(entry_id) or 0)
    record = await store.quarantine.record(found) if found else None
    if found is None or record is None:
        raise NotFound
    return page(
        request,
        "quarantined.html",
        visitor,
        active="ingest",
        entry=found,
        record=record[:SHOWN].decode(errors="replace"),
        is_cut=len(record) > SHOWN,
    )


@post("/quarantine", include_in_schema=False, request_max_body_size=MAX_FORM)
async def change(request: Request[Any, Any, Any]) -> Response[Any]:
    """Try refused records again, or drop them: the one of the form, or the newest of its reason, or of all."""
    _, account, sent = await access(request).changing_account(request)
    store: Store = request.app.state.store
    entries = await _named(store, account, sent)
    if sent.get("what") == "drop":
        dropped = await store.quarantine.drop(entries)
        return _told(sent, told.query("dropped", dropped))
    if sent.get("what") != "replay":
        raise BadParameter("what", sent.get("what", ""), "replay or drop")
    refused = [each for each in entries if not await _replayed(request, each, account)]
    return _told(sent, told.query("replayed", len(entries) - len(refused), len(refused)))


async def _named(store: Store, account: Account, sent: dict[str, str]) -> Sequence[Quarantined]:
    if "id" in sent:
        found = await store.quarantine.of(account.id, _number(sent["id"]) or 0)
        if found is None:
            raise NotFound
        return [found]
    return await store.quarantine.newest(
        account.id, before=MAX_ID, limit=MOST_AT_ONCE, reason=sent.get("reason") or None
    )


async def _replayed(request: Request[Any, Any, Any], found: Quarantined, account: Account) -> bool:
    """Whether the record was kept this time, or has left the quarantine meanwhile."""
    store: Store = request.app.state.store
    pump: Pump = request.app.state.pump
    read = reader_of(found.source, request.app.state.readers, request.app.state.upstreams, account)
    record = await store.quarantine.record(found)
    if record is None:
        return True
    if read is None:
        return False
    outcome = await pump.replay(found, record, account, read)
    return outcome.refusal is None


def _told(sent: dict[str, str], query: str) -> Response[Any]:
    target = local(sent.get("next") or f"{PATH}/ingest")
    return redirect(f"{target.partition('?')[0]}?{query}")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
