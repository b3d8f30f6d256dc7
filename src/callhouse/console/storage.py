"""What is kept: an account's days, and the tables of the whole store."""

from typing import Any

from litestar import Request, Response, route

from callhouse.console.access import access
from callhouse.console.views import HEADERS, HTML, render
from callhouse.errors import NotFound, TookTooLong
from callhouse.render import READ
from callhouse.store import Store

DAYS = 31
"""Days that are told one by one."""

UNCOUNTED = {"log_words": "the words of the logs", "totals": "what the calls come to"}
"""Tables that may be large and whose rows mean nothing to anybody, and what is in them."""

MEASURED_AT_ONCE = 512 * 1024 * 1024
"""Bytes of a store whose tables are measured without being asked for: all of it is read."""


@route("/ingest/days", http_method=READ, include_in_schema=False)
async def days(request: Request[Any, Any, Any]) -> Response[Any]:
    """What is kept of the account's last days."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    return _answer(render("days.html", visitor, days=await store.days(account.id, DAYS), shown=DAYS))


@route("/ingest/storage", http_method=READ, include_in_schema=False)
async def storage(request: Request[Any, Any, Any]) -> Response[Any]:
    """What the whole store holds, which only an operator may see; counting takes a while."""
    visitor = await access(request).visitor(request)
    if not visitor.is_operator:
        raise NotFound
    store: Store = request.app.state.store
    statistics = await store.statistics()
    sizes: dict[str, int] | None = None
    took_too_long = False
    if "measure" in request.query_params or statistics.bytes <= MEASURED_AT_ONCE:
        try:
            sizes = await store.sizes()
        except TookTooLong:
            took_too_long = True
    named = {*statistics.rows, *UNCOUNTED}
    told = {
        "statistics": statistics,
        "tables": [*statistics.rows, *(UNCOUNTED if sizes else ())],
        "uncounted": UNCOUNTED,
        "sizes": sizes,
        "others": sum(size for table, size in (sizes or {}).items() if table not in named),
        "took_too_long": took_too_long,
    }
    return _answer(render("storage.html", visitor, **told))


def _answer(html: str) -> Response[Any]:
    return Response(html.encode(), headers=HEADERS, media_type=HTML)
