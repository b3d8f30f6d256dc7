"""The dashboard: what the calls of a period come to, beside the period before, each number a link to its calls."""

from typing import Any

from litestar import Request, Response, route

from callhouse.console import filters, panels, periods
from callhouse.console.access import access
from callhouse.console.panels import Known, Links
from callhouse.console.views import page, zone_name, zone_of
from callhouse.render import READ
from callhouse.store import Store


@route("/dashboard", http_method=READ, include_in_schema=False)
async def dashboard(request: Request[Any, Any, Any]) -> Response[Any]:
    """The figures of the period that the URL names."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    zone, now = zone_of(visitor), store.clock()
    period = periods.parse(dict(request.query_params), now, zone)
    figures, before = await store.figures.compared(
        [account],
        period.since,
        period.until,
        zone_name(visitor),
        before=(period.before_since, period.before_until),
    )
    oldest, _ = await store.horizon(account.id)
    known = Known.of(period, account.retention, now, oldest)
    links, links_before = Links(period.since, period.until), Links(period.before_since, period.before_until)
    return page(
        request,
        "dashboard.html",
        visitor,
        active="dashboard",
        period=period,
        presets=periods.PRESETS,
        range={"since": filters.field(period.since, zone), "until": filters.field(period.until, zone)},
        field_type=filters.field_type,
        known=known,
        figures=figures,
        has_any=oldest is not None or figures.now > 0,
        tiles=panels.tiles(figures, before, links, links_before, known, now),
        course=panels.course(figures, before, links, links_before, known, zone),
        heat=panels.heat(figures, links),
        lists=panels.lists(figures, before, links, links_before, known),
    )
