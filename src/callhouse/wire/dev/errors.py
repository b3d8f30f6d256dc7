"""Our errors in DEV's words. What DEV does not document is worded as its siblings word it."""

from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from callhouse.errors import (
    BadParameter,
    Busy,
    InactiveAccount,
    NotAuthenticated,
    NotFound,
    RequestError,
    StoreUnavailable,
    TookTooLong,
    TooManyFailures,
    matching,
)
from callhouse.render import JSON, XML, failure_headers, wants_xml
from callhouse.wire.dev import schema

INACTIVE = "This account is inactive."
DEMO = "Logging is not available on demo accounts."
NO_LOG = "No call log was found."
DATABASE = "Database error."
METHOD = "Invalid HTTP method supplied."


class DemoAccount(RequestError):
    """Right credentials of an account whose plan has no logs."""


STATUS: dict[type[Exception], tuple[int, str | None]] = {
    BadParameter: (400, None),
    InactiveAccount: (401, INACTIVE),
    DemoAccount: (401, DEMO),
    NotFound: (404, NO_LOG),
    TooManyFailures: (429, None),
    Busy: (429, None),
    TookTooLong: (500, None),
    StoreUnavailable: (500, DATABASE),
}
"""The status of each error, and its text where that is not the error's own."""


def unauthorized(service: str) -> str:
    """The text for missing or wrong credentials."""
    return f"Unauthorized access to {service} service"


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any exception as an answer of this API; what is not foreseen is an internal error without details."""
    service = _service(request)
    if isinstance(error, HTTPException):
        status, text = error.status_code, METHOD if error.status_code == 405 else "Not found."
        if status not in {404, 405}:
            text = "Bad request." if status < 500 else "Internal error."
    elif isinstance(error, NotAuthenticated):
        status, text = 401, unauthorized(service)
    else:
        status, own = matching(error, STATUS, (500, "Internal error."))
        text = own or str(error)
    headers = failure_headers(error, status, "DEV")
    body = schema.ErrorBody("failure", text)
    if wants_xml(request):
        return Response(schema.xml_document(service, body), status_code=status, headers=headers, media_type=XML)
    return Response(schema.json(body), status_code=status, headers=headers, media_type=JSON)


def _service(request: Request[Any, Any, Any]) -> str:
    """The service that the path names, which is the root of an XML answer; ``calls`` when it names none."""
    named = request.scope["path"].removeprefix("/ws/calls/").partition("/")[0]
    return named if named in schema.SERVICES else "calls"
