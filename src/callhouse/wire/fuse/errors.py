"""Our errors in Fuse's words. What Fuse does not document is worded as its siblings word it."""

from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from callhouse.errors import (
    BadParameter,
    Busy,
    DetailGone,
    InactiveAccount,
    NotAuthenticated,
    NotFound,
    StoreUnavailable,
    TookTooLong,
    TooManyFailures,
    matching,
)
from callhouse.render import JSON, XML, XML_DECLARATION, failure_headers, wants_xml, xml_element

INVALID_CREDENTIALS = "Invalid email or developer key."
INACTIVE = "This account is inactive."
NO_CALL = "No call log was found."
NO_DETAIL = "There are no call log details available for this call."
DATABASE = "Database error."
METHOD = "Invalid HTTP method supplied."

STATUS: dict[type[Exception], tuple[int, str | None]] = {
    BadParameter: (400, None),
    NotAuthenticated: (401, INVALID_CREDENTIALS),
    InactiveAccount: (401, INACTIVE),
    NotFound: (404, NO_CALL),
    DetailGone: (404, NO_DETAIL),
    TooManyFailures: (429, None),
    Busy: (429, None),
    TookTooLong: (500, None),
    StoreUnavailable: (500, DATABASE),
}
"""The status of each error, and its text where that is not the error's own."""


class ErrorBody(msgspec.Struct):
    """Every failure of this API."""

    error: str


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any exception as an answer of this API; what is not foreseen is an internal error without details."""
    if isinstance(error, HTTPException):
        status, text = error.status_code, METHOD if error.status_code == 405 else "Not found."
        if status not in {404, 405}:
            text = "Bad request." if status < 500 else "Internal error."
    else:
        status, own = matching(error, STATUS, (500, "Internal error."))
        text = own or str(error)
    headers = failure_headers(error, status, "Fuse")
    if wants_xml(request):
        body = XML_DECLARATION + xml_element("result", {"error": text}).encode()
        return Response(body, status_code=status, headers=headers, media_type=XML)
    return Response(msgspec.json.encode(ErrorBody(text)), status_code=status, headers=headers, media_type=JSON)
