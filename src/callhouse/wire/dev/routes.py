"""Paths and parameters → CallQuery → bodies."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Request, route
from litestar.params import PathParameter
from litestar.response.base import ASGIResponse

from callhouse.auth import authenticate
from callhouse.errors import BadParameter, NotFound
from callhouse.model import log as log_document
from callhouse.model.account import Account
from callhouse.model.browsing import ListedCall
from callhouse.model.instant import DAY, SECOND, format_duration, time_zone
from callhouse.model.query import CallQuery
from callhouse.reference import KNOWN, START, End, Limit, Number, Offset
from callhouse.render import (
    DEFAULT_LIMIT,
    JSON,
    MAX_LIMIT,
    MAX_OFFSET,
    READ,
    XML,
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
from callhouse.wire import Shown
from callhouse.wire.dev import lines, reference, schema
from callhouse.wire.dev.errors import DemoAccount

GRACE = DAY
"""How much earlier than its limit a window may begin: a script's year may have 366 days. It shows nothing more."""

LARGE = 64 * 1024
"""A log of more bytes than this is rendered in another thread."""

Start = Annotated[str, PathParameter(description=START, schema_extra=reference.SINCE)]
LogId = Annotated[str, PathParameter(description=reference.LOG_ID, schema_extra=reference.ID)]


@route("/calls/logs/{start:str}/{end:str}", http_method=READ, **reference.LOGS)
async def logs(
    request: Request[Any, Any, Any],
    start: Start,
    end: End,
    number: Number = None,
    limit: Limit = None,
    offset: Offset = None,
) -> ASGIResponse:
    """The calls of a window whose log is kept, newest first."""
    account = await _account(request)
    store: Store = request.app.state.store
    now = store.clock()
    query = _query(now, account, start, end, number, limit, offset, logged_since=account.retention.details_since(now))
    page = await store.calls.page(query, schema.LISTED)

    async def found() -> AsyncIterator[list[schema.LogBody]]:
        for rows in slices(page.rows):
            yield schema.log_bodies(rows)

    return await _listed(request, "logs", page.total, found())


@route("/calls/log/{log_id:str}", http_method=READ, **reference.LOG)
async def log(request: Request[Any, Any, Any], log_id: LogId) -> ASGIResponse:
    """One call's log as text."""
    account = await _account(request)
    xml = wants_xml(request)
    body = await _one_log(request.app.state.store, account, _log_id(log_id), xml=xml)
    if body is None:
        raise NotFound
    return whole(body, ignored_parameters(request), XML if xml else JSON)


async def show(store: Store, account: Account, call: ListedCall) -> Shown:
    """The log of *call*, as the route above answers it."""
    body = None if account.plan == "demo" else await _one_log(store, account, call.log_id, xml=False)
    return Shown(f"/ws/calls/log/{call.log_id}", account.login, "PASSWORD", body)


async def _one_log(store: Store, account: Account, log_id: int, *, xml: bool) -> bytes | None:
    now = store.clock()
    fields = ("id", "dest", "src", "direction", "start", "location", "session_id", "told")
    call = await store.calls.by_log_id(account.id, log_id, fields, since=account.retention.calls_since(now))
    if call is None:
        return None
    [document] = await store.calls.logs(account.id, [call[0]], account.retention.details_since(now))
    if document is None:
        return None

    def render() -> bytes:
        _, dest, src, direction, began, location, session_id, told = call
        text = lines.log_text(log_document.decode_entries(document), session_id, account)
        result = schema.LogResult(dest or "", src or "", direction, str(began // 1000), location or "", text)
        result = msgspec.structs.replace(result, **(schema.fact(told, schema.TOLD_LOG) or {}))
        body = schema.OneLogBody("success", "", result)
        return schema.xml_document("log", body) if xml else schema.json(body)

    return await asyncio.to_thread(render) if len(document) > LARGE else render()


@route("/calls/sessions/{start:str}/{end:str}", http_method=READ, **reference.SESSIONS)
async def sessions(
    request: Request[Any, Any, Any],
    start: Start,
    end: End,
    number: Number = None,
    limit: Limit = None,
    offset: Offset = None,
) -> ASGIResponse:
    """A line for each call of a window, oldest first."""
    account = await _account(request)
    store: Store = request.app.state.store
    query = _query(store.clock(), account, start, end, number, limit, offset, oldest_first=True)
    page = await store.calls.page(query, lines.SESSION)

    async def found() -> AsyncIterator[list[str]]:
        for rows in slices(page.rows):
            if len(rows) > SMALL_PAGE:
                yield await asyncio.to_thread(lines.session_lines, rows, account)
            else:
                yield lines.session_lines(rows, account)

    return await _listed(request, "sessions", page.total, found())


@route("/calls/errors/{start:str}/{end:str}", http_method=READ, **reference.ERRORS)
async def errors(
    request: Request[Any, Any, Any],
    start: Start,
    end: End,
    number: Number = None,
    limit: Limit = None,
    offset: Offset = None,
) -> ASGIResponse:
    """A line for each error of the calls of a window, oldest first."""
    account = await _account(request)
    store: Store = request.app.state.store
    query = _query(store.clock(), account, start, end, number, limit, offset)
    page = await store.errors.page(query)

    async def found() -> AsyncIterator[list[str]]:
        zone = time_zone(account.timezone)
        left = page.rows
        while left:
            rows = await store.errors.read(account.id, left)
            left = left[len(rows) :]
            yield [lines.error_line(row, account, zone) for row in rows if row is not None]

    return await _listed(request, "errors", page.total, found())


async def _account(request: Request[Any, Any, Any]) -> Account:
    account = await authenticate(request, "dev")
    if account.plan == "demo":
        raise DemoAccount
    return account


def _query(
    now: int,
    account: Account,
    start: str,
    end: str,
    number: str | None,
    limit: str | None,
    offset: str | None,
    *,
    logged_since: int | None = None,
    oldest_first: bool = False,
) -> CallQuery:
    since, until = window(start, end)
    retention = account.retention
    kept = retention.sessions
    if logged_since is not None and kept is not None:
        # A log may be kept for longer than a session.
        kept = None if retention.details is None else max(kept, retention.details)
    earliest = 0 if kept is None else now - kept
    if since < earliest - GRACE:
        raise BadParameter(
            "start", start, f"a time within the last {format_duration(kept)}: {earliest // SECOND} or later"
        )
    return CallQuery(
        account_ids=(account.id,),
        since=max(since, earliest),
        until=until,
        number=number or None,
        limit=integer("limit", limit, DEFAULT_LIMIT, 1, MAX_LIMIT),
        offset=integer("offset", offset, 0, 0, MAX_OFFSET),
        logged_since=logged_since,
        oldest_first=oldest_first,
    )


def _log_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadParameter("log_id", text, "the whole number that the list of logs shows")
    return int(text)


async def _listed(
    request: Request[Any, Any, Any],
    service: str,
    total: int,
    found: AsyncIterator[Sequence[schema.LogBody] | Sequence[str]],
) -> ASGIResponse:
    xml = wants_xml(request)

    async def body() -> AsyncGenerator[bytes, None]:
        yield schema.opening(service, total, xml=xml)
        separator = b""
        async for bodies in found:
            if bodies:
                yield separator + schema.members(service, bodies, xml=xml)
                separator = b"" if xml else b","
        yield schema.closing(service, xml=xml)

    return await streamed(request, body(), ignored_parameters(request, KNOWN), XML if xml else JSON)
