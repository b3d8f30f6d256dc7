"""Paths and parameters → CallQuery → bodies."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
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
from callhouse.store.calls import CHUNK, SMALL_PAGE
from callhouse.store.engine import Row
from callhouse.wire.fuse import reference, schema

MAX_LIMIT = 10_000
DEFAULT_LIMIT = 1_000
MAX_OFFSET = 2**53
ROWS_WITH_LOGS = 500
"""Calls that are held at a time for an answer with logs: a client that stops reading must not cost much."""

WHOLE_BYTES = 256 * 1024
"""An answer of no more bytes than this is sent whole, with its length."""

LARGE = 64 * 1024
"""A log of more bytes than this is turned into XML in another thread."""

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

    async def body() -> AsyncGenerator[bytes, None]:
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

    if _is_whole(page, query) and not xml and len(page.rows) <= SMALL_PAGE:
        bodies = schema.call_bodies(page.rows, details_since)
        return _whole(msgspec.json.encode(schema.CallsBody(bodies, page.total)), headers, JSON)
    return await _answer(request, body(), headers, xml=xml)


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

    async def body() -> AsyncGenerator[bytes, None]:
        yield XML_DECLARATION + b"<result><calls>" if xml else b'{"calls":['
        separator = b""
        async for rows in _all_rows(store, query, page.rows, ROWS_WITH_LOGS):
            async for pairs in _with_logs(store, account.id, rows, details_since):
                if xml:
                    yield await asyncio.to_thread(_detailed_xml, pairs)
                else:
                    bodies = [
                        schema.detailed_call_body(row, None if log is None else log_document.entries(log))
                        for row, log in pairs
                    ]
                    yield separator + msgspec.json.encode(bodies)[1:-1]
                    separator = b","
        yield _end(page.total, xml)

    return await _answer(request, body(), headers, xml=xml)


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
        large = len(found.document) > LARGE
        rendered = await asyncio.to_thread(_log_xml, found.document) if large else _log_xml(found.document)
        return _whole(rendered, headers, XML)
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
        account_ids=(account.id,),
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


async def _with_logs(
    store: Store, account_id: int, rows: list[Row], details_since: int
) -> AsyncIterator[list[tuple[Row, bytes | None]]]:
    """*rows* with their logs, a few at a time."""
    while rows:
        logs = await store.calls.logs(account_id, [row[0] for row in rows], details_since)
        yield list(zip(rows, logs, strict=False))
        rows = rows[len(logs) :]


def _detailed_xml(pairs: list[tuple[Row, bytes | None]]) -> bytes:
    return "".join(
        schema.detailed_call_xml(row, None if log is None else log_document.decode_entries(log)) for row, log in pairs
    ).encode()


def _log_xml(document: bytes) -> bytes:
    return XML_DECLARATION + f"<result>{schema.log_xml(log_document.decode_entries(document))}</result>".encode()


def _end(total: int, xml: bool) -> bytes:
    return (f"</calls><total_calls>{total}</total_calls></result>" if xml else f'],"total_calls":{total}}}').encode()


def _is_whole(page: Page[Row], query: CallQuery) -> bool:
    """Whether the start of the page is all of it."""
    return len(page.rows) == min(query.limit, max(page.total - query.offset, 0))


async def _answer(
    request: Request[Any, Any, Any], body: AsyncGenerator[bytes, None], headers: dict[str, str], *, xml: bool
) -> ASGIResponse:
    """*body* with its length when it is short, else as a stream, of which HEAD reads no more than its beginning."""
    media_type = XML if xml else JSON
    parts: list[bytes] = []
    async for part in body:
        parts.append(part)
        if sum(map(len, parts)) > WHOLE_BYTES:
            break
    else:
        return _whole(b"".join(parts), headers, media_type)
    if request.method == HttpMethod.HEAD:
        await body.aclose()
        return ASGIStreamingResponse(iterator=iter(()), headers=headers, media_type=media_type)
    return ASGIStreamingResponse(iterator=_going_on(parts, body), headers=headers, media_type=media_type)


async def _going_on(parts: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(parts)
    parts.clear()
    async for part in rest:
        yield part


def _whole(body: bytes, headers: dict[str, str], media_type: str) -> ASGIResponse:
    return ASGIResponse(body=body, headers=headers, media_type=media_type)
