"""``POST /ingest/{route}``: a route for each reader of each source."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from callhouse.auth import authenticate
from callhouse.errors import (
    Busy,
    InactiveAccount,
    NotAuthenticated,
    RequestError,
    StoreUnavailable,
    TooLarge,
    TooManyFailures,
    Unreadable,
    matching,
)
from callhouse.ingest import body, reference
from callhouse.ingest.pump import Pump, Sent
from callhouse.ingest.readers import Reader, readers
from callhouse.render import JSON, failure_headers

PATH = "/ingest"

STATUS: dict[type[Exception], tuple[int, str | None]] = {
    Unreadable: (400, None),
    NotAuthenticated: (401, "Invalid credentials."),
    InactiveAccount: (401, "This account is inactive."),
    TooLarge: (413, None),
    TooManyFailures: (429, None),
    Busy: (429, None),
    StoreUnavailable: (503, "The store cannot be written now; nothing was lost if you send this again later."),
}
"""The status of each error, and its text where that is not the error's own."""

RETRY_AFTER_STORE = 5
"""Seconds to wait before trying a store again that could not be written."""


class ErrorBody(msgspec.Struct):
    """Every failure."""

    error: str


def routes(options: Mapping[str, msgspec.Struct]) -> list[HTTPRouteHandler]:
    """A handler for each reader, under the *options* of the sources that are named there."""
    return [_route(route, reader) for route, reader in readers(options).items()]


def _route(route: str, reader: Reader) -> HTTPRouteHandler:
    @post(f"/{route}", name=f"ingest_{route}", **reference.operation_of(route, ErrorBody))
    async def ingest(request: Request[Any, Any, Any]) -> Response[Any]:
        pump: Pump = request.app.state.pump
        try:
            account = await authenticate(request, "fuse", "plivo", "dev")
        except RequestError:
            await body.discard(request, pump.limits.max_body)
            raise
        sent = Sent(
            await body.receive(request, pump.limits.max_body),
            request.headers.get("content-type", ""),
            request.headers.get("content-encoding", ""),
        )
        reply = await pump.take(sent, account, route, reader)
        return Response(msgspec.json.encode(reply), status_code=200, media_type=JSON)

    return ingest


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any exception as ``{"error": ...}``; also for the paths that no wire API owns."""
    if isinstance(error, HTTPException):
        status = error.status_code
        text = {404: "Not found.", 405: "Method not allowed."}.get(status, "Bad request.")
        if status == 404 and f"{request.scope['path']}/".startswith(f"{PATH}/"):
            text = f"Not found; records are posted to {', '.join(f'{PATH}/{route}' for route in sorted(readers({})))}."
    else:
        status, own = matching(error, STATUS, (500, "Internal error."))
        text = own or str(error)
    headers = failure_headers(error, status, "Callhouse")
    if isinstance(error, StoreUnavailable):
        headers["Retry-After"] = str(RETRY_AFTER_STORE)
    return Response(msgspec.json.encode(ErrorBody(text)), status_code=status, headers=headers, media_type=JSON)
