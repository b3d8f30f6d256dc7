"""Paths and parameters → CallQuery → bodies."""

import asyncio
import uuid
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

import msgspec
from litestar import Request, route
from litestar.params import PathParameter
from litestar.response.base import ASGIResponse

from callhouse.auth import authenticate
from callhouse.errors import NotAuthenticated, NotFound
from callhouse.model.account import Account
from callhouse.model.browsing import ListedCall
from callhouse.render import JSON, READ, header, ignored_parameters
from callhouse.store import Store
from callhouse.store.calls import SMALL_PAGE, CallState
from callhouse.wire import Shown
from callhouse.wire.plivo import parameters, reference, schema
from callhouse.wire.plivo.compression import compressed

ONE_KNOWN = frozenset({"status"})

AuthId = Annotated[str, PathParameter(description=reference.AUTH_ID, schema_extra=reference.AUTH_IDS)]
CallUuid = Annotated[str, PathParameter(description=reference.CALL_UUID, schema_extra=reference.CALL_UUIDS)]


@route("/Account/{auth_id:str}/Call", http_method=READ, **reference.CALLS)
async def calls(request: Request[Any, Any, Any], auth_id: AuthId) -> ASGIResponse:
    """The completed calls that ended in a window, newest first; or the calls in progress."""
    account = await _account(request, auth_id)
    store: Store = request.app.state.store
    sent = _parameters(request)
    state = parameters.status(sent)
    max_limit: int = request.app.state.plivo.max_limit
    shown_since = await _shown_since(store, account, parameters.subaccount(sent))
    api_id = str(uuid.uuid4())
    if state is not None:
        query = parameters.in_progress(sent, shown_since, max_limit)
        rows = await store.calls.in_progress(query, ("call_uuid",), state)
        ids = schema.CallIds(api_id, [call_uuid for (call_uuid,) in rows])
        return await _answer(request, msgspec.json.encode(ids), parameters.IN_PROGRESS)
    query = parameters.completed(sent, shown_since, store.clock(), max_limit)
    page = await store.calls.page_by_end(query, schema.FIELDS)
    meta = parameters.meta(f"/v1/Account/{auth_id}/Call/", sent, query, page.total)

    def body() -> bytes:
        objects = schema.completed_calls(page.rows, auth_id, account.timezone)
        return msgspec.json.encode(schema.CallList(api_id, meta, objects))

    encoded = body() if len(page.rows) <= SMALL_PAGE else await asyncio.to_thread(body)
    return await _answer(request, encoded, parameters.COMPLETED)


# A uuid is the sender's own and may hold a slash, hence the type path.
@route("/Account/{auth_id:str}/Call/{call_uuid:path}", http_method=READ, **reference.CALL)
async def call(
    request: Request[Any, Any, Any],
    auth_id: AuthId,
    call_uuid: CallUuid,  # noqa: ARG001 — documents the path; what was sent is read from the request
) -> ASGIResponse:
    """One call: completed, or in progress."""
    account = await _account(request, auth_id)
    store: Store = request.app.state.store
    state = parameters.status(_parameters(request)) or "completed"
    body = await _one_call(store, account, _uuid_as_sent(request), state)
    if body is None:
        raise NotFound
    return await _answer(request, body, ONE_KNOWN)


async def show(store: Store, account: Account, call: ListedCall) -> Shown:
    """*call*, as the route above answers it."""
    state: CallState = "completed" if call.start and call.end else "live" if call.start else "queued"
    path = f"/v1/Account/{account.auth_id}/Call/{quote(call.call_uuid, safe='')}/"
    path += "" if state == "completed" else f"?status={state}"
    return Shown(path, account.auth_id, "AUTH_TOKEN", await _one_call(store, account, call.call_uuid, state))


async def _one_call(store: Store, account: Account, call_uuid: str, state: CallState) -> bytes | None:
    shown_since = await _shown_since(store, account, None)
    fields = schema.FIELDS if state == "completed" else schema.IN_PROGRESS_FIELDS
    row = await store.calls.by_uuid(shown_since, call_uuid, fields, state)
    if row is None:
        return None
    body: schema.ShownCall
    if state == "live":
        body = schema.live_call(row, str(uuid.uuid4()))
    elif state == "queued":
        body = schema.queued_call(row, str(uuid.uuid4()))
    else:
        [body] = schema.completed_calls([row], account.auth_id, account.timezone)
    return msgspec.json.encode(body)


async def _account(request: Request[Any, Any, Any], auth_id: str) -> Account:
    """The account of the credentials, which the path must name too."""
    account = await authenticate(request, "plivo")
    if account.auth_id != auth_id:
        raise NotAuthenticated
    return account


async def _shown_since(store: Store, account: Account, subaccount: str | None) -> dict[int, int]:
    """The accounts whose calls *account* sees, each with the earliest start that is shown by its own retention."""
    seen = [account]
    if account.parent_id is None:
        seen += await store.accounts.subaccounts(account.id)
    now = store.clock()
    return {
        each.id: each.retention.plivo_since(now) for each in seen if subaccount is None or each.auth_id == subaccount
    }


def _parameters(request: Request[Any, Any, Any]) -> dict[str, str]:
    """The query's parameters that say something, in the order sent; of one that is repeated the last."""
    return dict(parse_qsl(request.scope["query_string"].decode("latin-1")))


def _uuid_as_sent(request: Request[Any, Any, Any]) -> str:
    """The uuid in the path; the router's own value has lost doubled slashes that may belong to it."""
    raw = request.scope["raw_path"].partition(b"?")[0].removesuffix(b"/")
    return unquote_to_bytes(raw.partition(b"/Call/")[2]).decode(errors="replace")


async def _answer(request: Request[Any, Any, Any], body: bytes, known: frozenset[str]) -> ASGIResponse:
    wanted = header(request, b"accept-encoding")
    large = len(body) > SMALL_PAGE * 1024
    body, headers = await asyncio.to_thread(compressed, body, wanted) if large else compressed(body, wanted)
    return ASGIResponse(body=body, headers={**headers, **ignored_parameters(request, known)}, media_type=JSON)
