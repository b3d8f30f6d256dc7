"""Paths and parameters → CallQuery → bodies."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any
from urllib.parse import quote, unquote_to_bytes

import msgspec
from litestar import Request, route
from litestar.params import PathParameter
from litestar.response.base import ASGIResponse

from callhouse.auth import authenticate
from callhouse.errors import DetailGone, NotFound
from callhouse.model import log as log_document
from callhouse.model.account import Account
from callhouse.model.browsing import ListedCall
from callhouse.model.query import CallQuery
from callhouse.reference import KNOWN, SINCE, START, End, Limit, Number, Offset
from callhouse.render import (
    DEFAULT_LIMIT,
    JSON,
    MAX_LIMIT,
    MAX_OFFSET,
    READ,
    XML,
    XML_DECLARATION,
    ignored_parameters,
    integer,
    slices,
    streamed,
    wants_xml,
    whole,
    window,
)
from callhouse.store import Store
from callhouse.store.calls import SMALL_PAGE
from callhouse.store.engine import Row
from callhouse.wire import Shown
from callhouse.wire.fuse import reference, schema

ROWS_WITH_LOGS = 500
"""Calls at most whose logs are read together."""

LARGE = 64 * 1024
"""A log of more bytes than this is turned into XML in another thread."""

Start = Annotated[str, PathParameter(description=START, schema_extra=SINCE)]
SessionId = Annotated[str, PathParameter(description=reference.SESSION_ID, schema_extra=reference.ID)]


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
    page = await store.calls.page(query, schema.FIELDS)
    details_since = account.retention.details_since(store.clock())
    xml = wants_xml(request)

    async def found() -> AsyncIterator[bytes]:
        for rows in slices(page.rows):
            bodies = schema.call_bodies(rows, details_since)
            yield "".join(map(schema.call_xml, bodies)).encode() if xml else msgspec.json.encode(bodies)[1:-1]

    if not xml and len(page.rows) <= SMALL_PAGE:
        bodies = schema.call_bodies(page.rows, details_since)
        return whole(msgspec.json.encode(schema.CallsBody(bodies, page.total)), headers, JSON)
    return await streamed(request, _listed(page.total, found(), xml), headers, XML if xml else JSON)


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
    page = await store.calls.page(query, schema.FIELDS)
    details_since = account.retention.details_since(store.clock())
    xml = wants_xml(request)

    async def found() -> AsyncIterator[bytes]:
        for rows in slices(page.rows, ROWS_WITH_LOGS):
            async for pairs in _with_logs(store, account.id, rows, details_since):
                yield await asyncio.to_thread(_detailed_xml, pairs) if xml else _detailed_json(pairs)

    return await streamed(request, _listed(page.total, found(), xml), headers, XML if xml else JSON)


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
    headers = ignored_parameters(request)
    if wants_xml(request):
        large = len(found.document) > LARGE
        rendered = await asyncio.to_thread(_log_xml, found.document) if large else _log_xml(found.document)
        return whole(rendered, headers, XML)
    return whole(log_document.entries(found.document), headers, JSON)


async def show(store: Store, account: Account, call: ListedCall) -> Shown:
    """The log of *call*, as the route above answers it."""
    now = store.clock()
    found = await store.calls.log(
        account.id,
        call.session_id,
        since=account.retention.calls_since(now),
        details_since=account.retention.details_since(now),
    )
    body = None if found is None or found.document is None else log_document.entries(found.document)
    return Shown(f"/api/call/{quote(call.session_id, safe='')}", account.email, "DEVELOPER_KEY", body)


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


async def _with_logs(
    store: Store, account_id: int, rows: Sequence[Row], details_since: int
) -> AsyncIterator[list[tuple[Row, bytes | None]]]:
    """*rows* with their logs, a few at a time."""
    while rows:
        logs = await store.calls.logs(account_id, [row[0] for row in rows], details_since)
        yield list(zip(rows, logs, strict=False))
        rows = rows[len(logs) :]


def _detailed_json(pairs: list[tuple[Row, bytes | None]]) -> bytes:
    bodies = [schema.detailed_call_body(row, None if log is None else log_document.entries(log)) for row, log in pairs]
    return msgspec.json.encode(bodies)[1:-1]


def _detailed_xml(pairs: list[tuple[Row, bytes | None]]) -> bytes:
    return "".join(
        schema.detailed_call_xml(row, None if log is None else log_document.decode_entries(log)) for row, log in pairs
    ).encode()


def _log_xml(document: bytes) -> bytes:
    return XML_DECLARATION + f"<result>{schema.log_xml(log_document.decode_entries(document))}</result>".encode()


async def _listed(total: int, found: AsyncIterator[bytes], xml: bool) -> AsyncGenerator[bytes, None]:
    """The list of calls that *found* gives, some at a time, as they stand in it."""
    yield XML_DECLARATION + b"<result><calls>" if xml else b'{"calls":['
    separator = b""
    async for calls_found in found:
        yield separator + calls_found
        separator = b"" if xml else b","
    yield (f"</calls><total_calls>{total}</total_calls></result>" if xml else f'],"total_calls":{total}}}').encode()
