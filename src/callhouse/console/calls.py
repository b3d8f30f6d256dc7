"""The list of calls: filter, pages that never shift, how many there are, and new ones as they arrive."""

from typing import Any

import msgspec
from litestar import Request, Response, get, route
from litestar.response.base import ASGIResponse

from callhouse.console import filters, live
from callhouse.console.access import Visitor, access
from callhouse.console.filters import Filter
from callhouse.console.pins import pins
from callhouse.console.sign_in import HOME, redirect
from callhouse.console.views import HEADERS, HTML, page, render, zone_of
from callhouse.model import hangup
from callhouse.model.account import Account
from callhouse.model.browsing import STATUSES, CallFilter, Count, Listing, Place
from callhouse.model.call import DIRECTIONS
from callhouse.render import READ
from callhouse.store import Store

PAGE = 50
ARRIVED_SECONDS = 5
"""How long a call that has just arrived is marked."""


@route("/calls", http_method=READ, include_in_schema=False)
async def calls(request: Request[Any, Any, Any]) -> Response[Any]:
    """A page of the list."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    chosen, rest = filters.parse(request.scope["query_string"])
    zone = zone_of(visitor)
    asked = filters.asked(chosen, account, store.clock(), zone)
    older, newer = filters.place(rest, "before"), filters.place(rest, "after")
    listing = await store.browsing.page(asked, PAGE, newer or older, newer=newer is not None)
    if newer is not None and not listing.goes_on:
        # Fewer than a page are left: the first page, which may be full, shows them too.
        return redirect(f"{HOME}?{chosen.query()}".rstrip("?"))
    is_live = "live" in rest and older is None and newer is None
    return page(
        request,
        "calls.html",
        visitor,
        active="calls",
        chosen=chosen,
        range={
            "since": chosen.since and filters.field(asked.since, zone),
            "until": chosen.until and filters.field(filters.instant("until", chosen.until, zone, 0), zone),
        },
        field_type=filters.field_type,
        pins=pins(chosen, zone),
        listing=listing,
        links=_links(chosen, listing, older, newer),
        is_live=is_live,
        counted=await _count(store, asked) if "count" in rest else None,
        goes_newer=newer is not None,
        is_first=older is None and newer is None,
        applications=await store.browsing.applications(account.id, asked.since),
        causes=hangup.NAMES,
        directions=DIRECTIONS,
        statuses=STATUSES,
        presets=PRESETS,
        arrived=frozenset(),
        is_update=False,
        has_any=bool(listing.calls) or chosen.narrows or await _has_any(store, account),
    )


PRESETS = {"": "Any time", "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days",
           "365d": "Last 365 days"}  # fmt: skip


def _links(chosen: Filter, listing: Listing, older: Place | None, newer: Place | None) -> dict[str, str]:
    """The pages beside this one, and this list in its other ways."""
    begun = [Place(call.start, call.session_id) for call in listing.calls if call.start is not None]
    links = dict.fromkeys(("first", "newer", "older", "on"), "")
    links |= {"live": f"{HOME}?{chosen.query(live=1)}", "still": f"{HOME}?{chosen.query()}"}
    if (older or newer) and begun:
        links["newer"] = f"{HOME}?{chosen.query(after=filters.written(begun[0]))}"
        links["first"] = f"{HOME}?{chosen.query()}"
    if listing.reached is not None:
        # No session id stands before the empty one, so all calls of that instant have been looked at.
        reached = filters.written(Place(listing.reached, ""))
        links["on"] = f"{HOME}?{chosen.query(after=reached) if newer else chosen.query(before=reached)}"
    elif (listing.goes_on or newer) and begun:
        links["older"] = f"{HOME}?{chosen.query(before=filters.written(begun[-1]))}"
    return links


async def _has_any(store: Store, account: Account) -> bool:
    everything = filters.asked(Filter(), account, store.clock(), zone_of(_nobody))
    return bool((await store.browsing.page(everything, 1)).calls)


_nobody = Visitor(token=b"", form_token="", is_new=False)


@route("/calls/count", http_method=READ, include_in_schema=False)
async def count(request: Request[Any, Any, Any]) -> Response[Any]:
    """How many calls there are, for a page that shows the first of them already."""
    visitor, account = await access(request).signed_in(request)
    _, asked = _asked(request, visitor, account)
    counted = await _count(request.app.state.store, asked)
    return Response(render("count.html", visitor, counted=counted).encode(), headers=HEADERS, media_type=HTML)


async def _count(store: Store, asked: CallFilter) -> Count:
    """How many calls there are; one that was given up at once has reached no earlier than now."""
    counted = await store.browsing.count(asked)
    reached = None if counted.reached is None else min(counted.reached, store.clock())
    return msgspec.structs.replace(counted, reached=reached)


@get("/calls/live", include_in_schema=False)
async def live_calls(request: Request[Any, Any, Any]) -> ASGIResponse:
    """The first page, how many calls there are and the way to older ones, again whenever any of it has changed."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    known: dict[int, int] = {}
    before: Listing | None = None
    counted: Count | None = None

    async def look() -> tuple[str, bool]:
        nonlocal before, counted
        chosen, asked = _asked(request, visitor, account)
        listing = await store.browsing.page(asked, PAGE)
        # A count that was given up says "at least", which stays true.
        if counted is None or (listing != before and counted.reached is None):
            counted = await _count(store, asked)
        now, is_first, before = store.clock(), before is None, listing
        for call in listing.calls:
            known.setdefault(call.id, 0 if is_first else now)
        arrived = frozenset(c.id for c in listing.calls if known[c.id] > now - 1000 * ARRIVED_SECONDS)
        return _update(visitor, chosen, listing, counted, arrived), False

    _asked(request, visitor, account)
    return await live.stream(request, account.id, look)


def _update(visitor: Visitor, chosen: Filter, listing: Listing, counted: Count, arrived: frozenset[int]) -> str:
    """The list of the first page with the links that go on from it, and how many calls there are."""
    return render(
        "list.html",
        visitor,
        chosen=chosen,
        listing=listing,
        links=_links(chosen, listing, None, None),
        counted=counted,
        arrived=arrived,
        is_live=True,
        is_update=True,
        goes_newer=False,
    )


def _asked(request: Request[Any, Any, Any], visitor: Visitor, account: Account) -> tuple[Filter, CallFilter]:
    chosen, _ = filters.parse(request.scope["query_string"])
    return chosen, filters.asked(chosen, account, request.app.state.store.clock(), zone_of(visitor))
