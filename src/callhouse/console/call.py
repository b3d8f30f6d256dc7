"""One call: what is known of it, drawn, listed and as every API shows it; again while it goes on."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from callhouse.auth import authenticate
from callhouse.console import live, steps, timeline
from callhouse.console.access import PATH, access
from callhouse.console.records import native, records
from callhouse.console.views import HEADERS, HTML, page, render, title_of
from callhouse.errors import NotFound
from callhouse.model.account import Account
from callhouse.model.browsing import ListedCall
from callhouse.model.event import EVENT_CLASSES, Event, EventClass
from callhouse.render import JSON, header
from callhouse.store import Store
from callhouse.store.accounts import KINDS
from callhouse.store.calls import StoredCall

EVENTS = 200
"""Events that are shown at once."""


class Events(msgspec.Struct, frozen=True):
    """The events that were asked for: each with its place in the log, *offset* milliseconds into the call; where the
    next ones begin; how many match; how many of each class there are in all.
    """

    shown: list[tuple[int, int, Event]]
    following: int | None
    matching: int
    counts: dict[EventClass, int]


class Details(msgspec.Struct, frozen=True):
    """All that a page of a call shows."""

    call: ListedCall
    stored: StoredCall
    legs: list[ListedCall]
    same_call_id: list[ListedCall]
    events: Sequence[Event]


@get("/call/{session_id:path}", include_in_schema=False)
async def call(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[Any]:  # noqa: ARG001 — read raw
    """The page of a call."""
    visitor, account = await access(request).signed_in(request)
    found = await _details(request, account, as_sent(request, "/call/"))
    shown = await records(request, account, found.call, found.stored)
    return page(
        request,
        "call.html",
        visitor,
        active="calls",
        title=title_of(found.call),
        records=shown,
        **_values(request, found),
    )


def _values(request: Request[Any, Any, Any], found: Details) -> dict[str, Any]:
    store: Store = request.app.state.store
    return {
        "call": found.call,
        "stored": found.stored,
        "legs": found.legs,
        "same_call_id": found.same_call_id,
        "timeline": timeline.draw(found.call, found.legs, found.events, store.clock()),
        "steps": steps.path(found.events),
        "events": _chosen_events(request, found),
        "classes": EVENT_CLASSES,
        "asked": _asked(request),
        "now": store.clock(),
        "events_path": f"{PATH}/events/{quote(found.call.session_id, safe='')}",
    }


async def _details(request: Request[Any, Any, Any], account: Account, session_id: str) -> Details:
    """Raises NotFound: of another account's call as of one that does not exist."""
    store: Store = request.app.state.store
    now = store.clock()
    since, details_since = account.retention.calls_since(now), account.retention.details_since(now)
    errors_since = account.retention.sessions_since(now)
    listed = await store.browsing.one(account.id, session_id, since, errors_since)
    stored = await store.calls.whole(account.id, session_id, since=since, details_since=details_since)
    if listed is None or stored is None:
        raise NotFound
    legs = await store.browsing.legs(account.id, listed, since)
    sip_call_id = stored.call.sip_call_id
    same = await store.browsing.of_sip_call(account.id, sip_call_id, since) if sip_call_id else []
    return Details(listed, stored, legs, [each for each in same if each.id != listed.id], stored.events or ())


@get("/live/{session_id:path}", include_in_schema=False)
async def live_call(
    request: Request[Any, Any, Any],
    session_id: FromPath[str],  # noqa: ARG001 — read raw
) -> ASGIResponse:
    """What the page of a call in progress shows, again whenever there is more of it, until the call is over."""
    visitor, account = await access(request).signed_in(request)
    name = as_sent(request, "/live/")
    await _details(request, account, name)

    async def look() -> tuple[str, bool]:
        found = await _details(request, account, name)
        html = render("call_body.html", visitor, **_values(request, found))
        return html, found.stored.call.is_complete

    return await live.stream(request, look)


@get("/events/{session_id:path}", include_in_schema=False)
async def events(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[Any]:  # noqa: ARG001 — read raw
    """Some of a call's events."""
    visitor, account = await access(request).signed_in(request)
    found = await _details(request, account, as_sent(request, "/events/"))
    html = render("events.html", visitor, **_values(request, found))
    return Response(html.encode(), headers=HEADERS, media_type=HTML)


@get("/record/{session_id:path}", include_in_schema=False)
async def record(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[Any]:  # noqa: ARG001 — read raw
    """The call as a native record; for a script with HTTP Basic and any of the account's credentials, too."""
    if header(request, b"authorization"):
        account = await authenticate(request, *KINDS)
    else:
        _, account = await access(request).signed_in(request)
    found = await _details(request, account, as_sent(request, "/record/"))
    return Response(native(found.stored), headers=HEADERS, media_type=JSON)


def as_sent(request: Request[Any, Any, Any], prefix: str) -> str:
    """The session id in the path; the router's own value has lost doubled and final slashes that may belong to it."""
    raw = request.scope["raw_path"].partition(b"?")[0]
    return unquote_to_bytes(raw.removeprefix(PATH.encode()).removeprefix(prefix.encode())).decode(errors="replace")


class AskedEvents(msgspec.Struct, frozen=True):
    """Which events of a call are to be shown: of *classes*, or all; that hold *text*; from the place *first* on."""

    classes: tuple[str, ...]
    text: str
    first: int


def _asked(request: Request[Any, Any, Any]) -> AskedEvents:
    sent = parse_qsl(request.scope["query_string"].decode("latin-1"))
    values = dict(sent)
    first = values.get("from", "0")
    return AskedEvents(
        classes=tuple(value for name, value in sent if name == "class" and value in EVENT_CLASSES),
        text=values.get("text", "").strip()[:200],
        first=int(first) if first.isascii() and first.isdigit() and len(first) < 10 else 0,
    )


def _chosen_events(request: Request[Any, Any, Any], found: Details) -> Events:
    asked = _asked(request)
    start = found.call.start or (found.events[0].timestamp if found.events else 0)
    text = asked.text.casefold()
    counts = dict.fromkeys(EVENT_CLASSES, 0)
    matching = []
    for place, event in enumerate(found.events):
        counts[event.class_] += 1
        if (not asked.classes or event.class_ in asked.classes) and (not text or _holds(event, text)):
            matching.append((place, event.timestamp - start, event))
    shown = [each for each in matching if each[0] >= asked.first]
    following = shown[EVENTS][0] if len(shown) > EVENTS else None
    return Events(shown[:EVENTS], following, len(matching), counts)


def _holds(event: Event, text: str) -> bool:
    return text in event.line.casefold() or text in msgspec.json.encode(event.data).decode().casefold()
