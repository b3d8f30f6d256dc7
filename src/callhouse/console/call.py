"""One call: what is known of it, drawn, listed and as every API shows it; again while it goes on."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from litestar import Request, Response, get, route
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
from callhouse.render import JSON, READ, header
from callhouse.store import Store
from callhouse.store.accounts import KINDS
from callhouse.store.calls import StoredCall

EVENTS = 200
"""Events that are shown at once."""

MOST_EVENTS = 1_000
"""And those that are shown at most, when more of them were asked for again and again."""


class Events(msgspec.Struct, frozen=True):
    """The events that were asked for: each with its place in the log, *offset* milliseconds into the call; how many of
    them there are before and after; where the ones *before* and *after* begin; how many match; how many of each class
    there are in all. *pointed* is the place of the one that was nearest to the instant that was asked for.
    """

    shown: list[tuple[int, int, Event]]
    earlier: int
    later: int
    before: int
    after: int
    matching: int
    counts: dict[EventClass, int]
    pointed: int | None


class ShownCall(msgspec.Struct, frozen=True):
    """A call as lists show it, and all that is kept of it."""

    call: ListedCall
    stored: StoredCall

    @property
    def events(self) -> Sequence[Event]:
        return self.stored.events or ()

    @property
    def start(self) -> int:
        """What the offsets of the events are counted from."""
        return self.call.start or (self.events[0].timestamp if self.events else 0)


@route(["/call", "/call/{session_id:path}"], http_method=READ, include_in_schema=False)
async def call(request: Request[Any, Any, Any]) -> Response[Any]:
    """The page of a call."""
    visitor, account = await access(request).signed_in(request)
    found = await _found(request, account, as_sent(request, "/call/"))
    shown = await records(request, account, found.call, found.stored)
    return page(
        request,
        "call.html",
        visitor,
        active="calls",
        title=title_of(found.call),
        records=shown,
        is_update=False,
        **await _values(request, account, found),
    )


async def _values(request: Request[Any, Any, Any], account: Account, found: ShownCall) -> dict[str, Any]:
    """All that a page of a call shows but for its records."""
    store: Store = request.app.state.store
    now = store.clock()
    since = account.retention.calls_since(now)
    legs = await store.browsing.legs(account.id, found.call, since)
    sip_call_id = found.stored.call.sip_call_id
    same = await store.browsing.of_sip_call(account.id, sip_call_id, since) if sip_call_id else []
    known = {found.call.id, *(leg.id for leg in legs)}
    return {
        **_event_values(request, found),
        "legs": legs,
        "same_call_id": [each for each in same if each.id not in known],
        "logged": _logged(found),
        "timeline": timeline.draw(found.call, legs, found.events, now),
        "steps": steps.path(found.events),
        "now": now,
    }


def _event_values(request: Request[Any, Any, Any], found: ShownCall) -> dict[str, Any]:
    return {
        "call": found.call,
        "stored": found.stored,
        "events": _chosen_events(request, found),
        "classes": EVENT_CLASSES,
        "most_events": MOST_EVENTS,
        "asked": _asked(request),
    }


async def _found(request: Request[Any, Any, Any], account: Account, session_id: str) -> ShownCall:
    """Raises NotFound: of another account's call as of one that does not exist."""
    store: Store = request.app.state.store
    now = store.clock()
    since, details_since = account.retention.calls_since(now), account.retention.details_since(now)
    errors_since = account.retention.sessions_since(now)
    listed = await store.browsing.one(account.id, session_id, since, errors_since)
    stored = await store.calls.whole(account.id, session_id, since=since, details_since=details_since)
    if listed is None or stored is None:
        raise NotFound
    return ShownCall(listed, stored)


@get(["/live", "/live/{session_id:path}"], include_in_schema=False)
async def live_call(request: Request[Any, Any, Any]) -> ASGIResponse:
    """What the page of a call in progress shows, again whenever there is more of it, until the call is over."""
    visitor, account = await access(request).signed_in(request)
    name = as_sent(request, "/live/")
    await _found(request, account, name)

    async def look() -> tuple[str, bool]:
        found = await _found(request, account, name)
        is_over = found.stored.call.is_complete
        # Some APIs show a call only when it is over, or elsewhere.
        shown = await records(request, account, found.call, found.stored) if is_over else []
        # The page asks for the events itself, as its reader has chosen them.
        values = await _values(request, account, found)
        html = render("live_call.html", visitor, records=shown, **values, is_update=True)
        return html, is_over

    return await live.stream(request, account.id, look)


@route(["/events", "/events/{session_id:path}"], http_method=READ, include_in_schema=False)
async def events(request: Request[Any, Any, Any]) -> Response[Any]:
    """Some of a call's events."""
    visitor, account = await access(request).signed_in(request)
    found = await _found(request, account, as_sent(request, "/events/"))
    html = render("events.html", visitor, **_event_values(request, found))
    return Response(html.encode(), headers=HEADERS, media_type=HTML)


@route(["/record", "/record/{session_id:path}"], http_method=READ, include_in_schema=False)
async def record(request: Request[Any, Any, Any]) -> Response[Any]:
    """The call as a native record; for a script with HTTP Basic and any of the account's credentials, too."""
    if header(request, b"authorization"):
        account = await authenticate(request, *KINDS)
    else:
        _, account = await access(request).signed_in(request)
    found = await _found(request, account, as_sent(request, "/record/"))
    return Response(native(found.stored), headers=HEADERS, media_type=JSON)


def as_sent(request: Request[Any, Any, Any], prefix: str) -> str:
    """The session id in the path; the router's own value has lost doubled and final slashes that may belong to it.

    Where the path ends before it, that of the query: see path_of.
    """
    raw = request.scope["raw_path"].partition(b"?")[0].removeprefix(PATH.encode())
    if not raw.startswith(prefix.encode()):
        return str(request.query_params.get("session_id", ""))
    return unquote_to_bytes(raw.removeprefix(prefix.encode())).decode(errors="replace")


class AskedEvents(msgspec.Struct, frozen=True):
    """Which events of a call are to be shown: of *classes*, or all; that hold *text*; *most* of them, from the place
    *first* on, or, with *at*, those about that offset in milliseconds. Where none is left there, the last ones are.
    """

    classes: tuple[str, ...]
    text: str
    first: int
    most: int
    at: int | None


def _asked(request: Request[Any, Any, Any]) -> AskedEvents:
    sent = parse_qsl(request.scope["query_string"].decode("latin-1"))
    values = dict(sent)
    at = values.get("at", "")
    size = _count(at.removeprefix("-"))
    return AskedEvents(
        classes=tuple(value for name, value in sent if name == "class" and value in EVENT_CLASSES),
        text=values.get("text", "").strip()[:200],
        first=_count(values.get("from", "")) or 0,
        most=min(MOST_EVENTS, max(EVENTS, _count(values.get("shown", "")) or 0)),
        at=None if size is None else -size if at.startswith("-") else size,
    )


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 15 else None


def _logged(found: ShownCall) -> str:
    """What is another text as soon as there are other events."""
    last = found.events[-1].timestamp if found.events else None
    return f"{len(found.events)} {last} {found.stored.call.is_complete}"


def _chosen_events(request: Request[Any, Any, Any], found: ShownCall) -> Events:
    asked = _asked(request)
    start = found.start
    text = asked.text.casefold()
    counts = dict.fromkeys(EVENT_CLASSES, 0)
    matching = []
    for place, event in enumerate(found.events):
        counts[event.class_] += 1
        if (not asked.classes or event.class_ in asked.classes) and (not text or _holds(event, text)):
            matching.append((place, event.timestamp - start, event))
    low = sum(place < asked.first for place, *_ in matching)
    if low == len(matching):
        low = max(0, low - asked.most)
    pointed = None
    if asked.at is not None and matching:
        pointed = _nearest([offset for _, offset, _ in matching], asked.at)
        low = pointed // EVENTS * EVENTS
    shown = matching[low : low + asked.most]
    later = matching[low + asked.most :]
    return Events(
        shown=shown,
        earlier=low,
        later=len(later),
        before=matching[max(0, low - EVENTS)][0] if low else 0,
        after=later[0][0] if later else 0,
        matching=len(matching),
        counts=counts,
        pointed=None if pointed is None else matching[pointed][0],
    )


def _nearest(offsets: Sequence[int], at: int) -> int:
    return min(range(len(offsets)), key=lambda n: abs(offsets[n] - at))


@route(["/moment", "/moment/{session_id:path}"], http_method=READ, include_in_schema=False)
async def moment(request: Request[Any, Any, Any]) -> Response[Any]:
    """The event nearest to an offset, as a line of text."""
    _, account = await access(request).signed_in(request)
    found = await _found(request, account, as_sent(request, "/moment/"))
    at, start = _asked(request).at, found.start
    text = ""
    if at is not None and found.events:
        event = found.events[_nearest([event.timestamp - start for event in found.events], at)]
        text = timeline.spoken(event, start)
    return Response(text, headers=HEADERS, media_type="text/plain")


def _holds(event: Event, text: str) -> bool:
    return text in event.line.casefold() or text in msgspec.json.encode(event.data).decode().casefold()
