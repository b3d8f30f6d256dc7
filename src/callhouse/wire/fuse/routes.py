"""Paths and parameters → CallQuery → bodies."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import HttpMethod, Request, route
from litestar.params import PathParameter, QueryParameter
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse

from callhouse.auth import authenticate
from callhouse.errors import DetailGone, NotFound
from callhouse.model import log as log_document
from callhouse.model.account import Account
from callhouse.model.query import CallQuery, Page
from callhouse.render import JSON, XML, XML_DECLARATION, ignored_parameters, integer, wants_xml, window
from callhouse.store import Store
from callhouse.store.calls import CHUNK
from callhouse.store.engine import Row
from callhouse.wire.fuse import reference, schema

MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1_000
MAX_OFFSET = 2**53
ROWS_WITH_LOGS = 500
EVENTS_AT_A_TIME = 1_000
"""Calls and the events of their logs that are held at a time: a client that stops reading must not cost much."""

KNOWN = frozenset({"number", "limit", "offset"})
NONE_KNOWN: frozenset[str] = frozenset()
READ = [HttpMethod.GET, HttpMethod.HEAD]

Start = Annotated[str, PathParameter(description=reference.START, schema_extra=reference.SINCE)]
End = Annotated[str, PathParameter(description=reference.END, schema_extra=reference.UNTIL)]
SessionId = Annotated[str, PathParameter(description=reference.SESSION_ID, schema_extra=reference.ID)]
Number = Annotated[str | None, QueryParameter(description=reference.NUMBER)]
Limit = Annotated[str | None, QueryParameter(description=reference.LIMIT, schema_extra=reference.LIMITS)]
Offset = Annotated[str | None, QueryParameter(description=reference.OFFSET, schema_extra=reference.OFFSETS)]


@route("/calls/{start:str}/{end:str}", http_method=READ, **reference.CALLS)
async def calls(
    request: Request[Any, Any, Any],
    start: Start,
    end: End,
    number: Number = None,
    limit: Limit = None,
    offset: Offset = None,
) -> ASGIResponse:
    """The calls that started in a window, newest first."""
    account = await authenticate(request, "fuse")
    store: Store = request.app.state.store
    query = _query(store, account, start, end, number, limit, offset)
    headers = ignored_parameters(request, KNOWN)
    page = await store.calls.start_of_page(query, schema.FIELDS)
    details_since = account.retention.details_since(store.clock())
    xml = wants_xml(request)

    async def body() -> AsyncIterator[bytes]:
        yield XML_DECLARATION + b"<result><calls>" if xml else b'{"calls":['
        separator = b""
        async for rows in _all_rows(store, query, page.rows, CHUNK):
            bodies = schema.call_bodies(rows, details_since)
            if xml:
                yield "".join(map(schema.call_xml, bodies)).encode()
            elif bodies:
                yield separator + msgspec.json.encode(bodies)[1:-1]
                separator = b","
        yield _end(page.total, xml)

    whole = _is_whole(page, query)
    if whole and not xml:
        bodies = schema.call_bodies(page.rows, details_since)
        return _whole(msgspec.json.encode(schema.CallsBody(bodies, page.total)), headers, JSON)
    return await _answer(request, body(), headers, xml=xml, whole=whole)


@route("/all_logs/{start:str}/{end:str}", http_method=READ, **reference.ALL_LOGS)
async def all_logs(
    request: Request[Any, Any, Any],
    start: Start,
    end: End,
    number: Number = None,
    limit: Limit = None,
    offset: Offset = None,
) -> ASGIResponse:
    """The calls that started in a window, newest first, each with its log."""
    account = await authenticate(request, "fuse")
    store: Store = request.app.state.store
    query = _query(store, account, start, end, number, limit, offset)
    headers = ignored_parameters(request, KNOWN)
    page = await store.calls.start_of_page(query, schema.FIELDS, ROWS_WITH_LOGS)
    details_since = account.retention.details_since(store.clock())
    xml = wants_xml(request)

    async def body() -> AsyncIterator[bytes]:
        yield XML_DECLARATION + b"<result><calls>" if xml else b'{"calls":['
        separator = b""
        async for rows in _all_rows(store, query, page.rows, ROWS_WITH_LOGS):
            for few in _by_events(rows):
                logs = await store.calls.logs(account.id, [row[0] for row in few], details_since)
                pairs = list(zip(few, logs, strict=True))
                if xml:
                    yield "".join(
                        schema.detailed_call_xml(row, None if log is None else log_document.decode_entries(log))
                        for row, log in pairs
                    ).encode()
                else:
                    bodies = [
                        schema.detailed_call_body(row, None if log is None else log_document.entries(log))
                        for row, log in pairs
                    ]
                    yield separator + msgspec.json.encode(bodies)[1:-1]
                    separator = b","
        yield _end(page.total, xml)

    few_events = sum(row[5] for row in page.rows) <= EVENTS_AT_A_TIME
    return await _answer(request, body(), headers, xml=xml, whole=few_events and _is_whole(page, query))


# A session id is the sender's own and may hold a slash, hence the type path.
@route("/call/{session_id:path}", http_method=READ, **reference.CALL)
async def call(
    request: Request[Any, Any, Any],
    session_id: SessionId,  # noqa: ARG001 — documents the path; what was sent is read from the request
) -> ASGIResponse:
    """The log of one call."""
    account = await authenticate(request, "fuse")
    store: Store = request.app.state.store
    now = store.clock()
    found = await store.calls.log(
        account.id,
        _session_as_sent(request),
        since=account.retention.calls_since(now),
        details_since=account.retention.details_since(now),
    )
    if found is None:
        raise NotFound
    if found.document is None:
        raise DetailGone
    headers = ignored_parameters(request, NONE_KNOWN)
    if wants_xml(request):
        items = schema.log_xml(log_document.decode_entries(found.document))
        return _whole(XML_DECLARATION + f"<result>{items}</result>".encode(), headers, XML)
    return _whole(log_document.entries(found.document), headers, JSON)


def _session_as_sent(request: Request[Any, Any, Any]) -> str:
    """The session id in the path; the router's own value has lost doubled and final slashes that may belong to it."""
    raw = request.scope["raw_path"].partition(b"?")[0].removesuffix(b"/")
    return unquote_to_bytes(raw.partition(b"/call/")[2]).decode(errors="replace")


def _query(
    store: Store, account: Account, start: str, end: str, number: str | None, limit: str | None, offset: str | None
) -> CallQuery:
    since, until = window(start, end)
    return CallQuery(
        account_id=account.id,
        since=max(since, account.retention.calls_since(store.clock())),
        until=until,
        number=number or None,
        limit=integer("limit", limit, DEFAULT_LIMIT, 1, MAX_LIMIT),
        offset=integer("offset", offset, 0, 0, MAX_OFFSET),
    )


async def _all_rows(store: Store, query: CallQuery, first: list[Row], chunk: int) -> AsyncIterator[list[Row]]:
    yield first
    if len(first) == chunk:
        async for rows in store.calls.rest_of_page(query, schema.FIELDS, first[-1], chunk):
            yield rows


def _by_events(rows: list[Row]) -> list[list[Row]]:
    """*rows* in groups whose logs hold few events together."""
    groups: list[list[Row]] = []
    events = EVENTS_AT_A_TIME
    for row in rows:
        events += row[5]
        if events >= EVENTS_AT_A_TIME:
            groups.append([])
            events = row[5]
        groups[-1].append(row)
    return groups


def _end(total: int, xml: bool) -> bytes:
    return (f"</calls><total_calls>{total}</total_calls></result>" if xml else f'],"total_calls":{total}}}').encode()


def _is_whole(page: Page[Row], query: CallQuery) -> bool:
    """Whether the start of the page is all of it."""
    return len(page.rows) == min(query.limit, max(page.total - query.offset, 0))


async def _answer(
    request: Request[Any, Any, Any], body: AsyncIterator[bytes], headers: dict[str, str], *, xml: bool, whole: bool
) -> ASGIResponse:
    """*body* with its length when it is short (*whole*), else as a stream, of which HEAD reads nothing."""
    media_type = XML if xml else JSON
    if whole:
        return _whole(b"".join([part async for part in body]), headers, media_type)
    chunks = iter(()) if request.method == HttpMethod.HEAD else body
    return ASGIStreamingResponse(iterator=chunks, headers=headers, media_type=media_type)


def _whole(body: bytes, headers: dict[str, str], media_type: str) -> ASGIResponse:
    return ASGIResponse(body=body, headers=headers, media_type=media_type)
