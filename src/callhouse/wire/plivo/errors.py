"""Our errors in Plivo's words, in bodies that every Plivo SDK survives."""

import re
import uuid
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from callhouse.errors import (
    BadParameter,
    Busy,
    InactiveAccount,
    NotAuthenticated,
    NotFound,
    StoreUnavailable,
    TookTooLong,
    TooManyFailures,
    matching,
)
from callhouse.render import JSON, failure_headers

INVALID_CREDENTIALS = "authentication failed"
INACTIVE = "this account is inactive"
NO_CALL = "not found"
METHOD = "method not allowed"
INTERNAL = "internal error"
TOO_LONG = "the query took too long; ask for a shorter time"

STATUS: dict[type[Exception], tuple[int, str | None]] = {
    BadParameter: (400, None),
    NotAuthenticated: (401, INVALID_CREDENTIALS),
    InactiveAccount: (401, INACTIVE),
    NotFound: (404, NO_CALL),
    TooManyFailures: (429, None),
    Busy: (429, None),
    # Not a 5xx: the SDKs would send it again at once, and partly without its parameters, which asks for even more.
    TookTooLong: (400, TOO_LONG),
    StoreUnavailable: (500, INTERNAL),
}
"""The status of each error, and its text where that is not the error's own."""

_LIST = re.compile(r"/v1/Account/[^/]+/Call/*")


class ErrorBody(msgspec.Struct):
    """A failure."""

    api_id: str
    error: str


class ListErrorBody(ErrorBody):
    """A failure of the list. *objects* is empty: plivo-python asks even an error how many it holds."""

    objects: list[Any]


def failure(kind: type[ErrorBody], api_id: str, error: str) -> ErrorBody:
    """The body of that *kind*."""
    return ListErrorBody(api_id, error, []) if kind is ListErrorBody else kind(api_id, error)


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any exception as an answer of this API; what is not foreseen is an internal error without details."""
    if isinstance(error, HTTPException):
        status, text = error.status_code, METHOD if error.status_code == 405 else NO_CALL
        if status not in {404, 405}:
            text = "bad request" if status < 500 else INTERNAL
    else:
        status, own = matching(error, STATUS, (500, INTERNAL))
        text = own or str(error)
    headers = failure_headers(error, status, "Plivo")
    kind = ListErrorBody if _LIST.fullmatch(request.scope["path"]) else ErrorBody
    body = msgspec.json.encode(failure(kind, str(uuid.uuid4()), text))
    return Response(body, status_code=status, headers=headers, media_type=JSON)
