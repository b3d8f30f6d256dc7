"""Failures as pages."""

from typing import Any
from urllib.parse import quote

from litestar import Request, Response
from litestar.exceptions import HTTPException

from callhouse.console.access import KNOWN_AS, PATH, ForgedChange, SignInNeeded, Visitor
from callhouse.console.sign_in import redirect
from callhouse.console.views import page
from callhouse.errors import (
    BadParameter,
    Busy,
    InactiveAccount,
    NotAuthenticated,
    NotFound,
    StoreUnavailable,
    TooManyFailures,
    matching,
)
from callhouse.render import READ, failure_headers

_NOT_FOUND = "There is no such page, or no such call in this account; a call disappears when its retention is over."
_UNKNOWN = "Something went wrong here; the server's log says what."
STATUS: dict[type[Exception], tuple[int, str | None]] = {
    BadParameter: (400, None),
    NotAuthenticated: (401, "These credentials are wrong."),
    InactiveAccount: (401, "This account is switched off."),
    ForgedChange: (403, "This form is too old, or is none of the console's. Go back, reload the page and try again."),
    NotFound: (404, _NOT_FOUND),
    TooManyFailures: (429, None),
    Busy: (429, None),
    StoreUnavailable: (503, "The store cannot be read or written now. Try again in a moment."),
}
"""The status of each error, and its text where that is not the error's own."""

_TITLES = {400: "That was not understood", 401: "Not signed in", 403: "Not changed", 404: "Not found", 405: "Not found",
           413: "Too large", 429: "Too much at once", 503: "Not available"}  # fmt: skip
_NOBODY = Visitor(token=b"", form_token="", is_new=False)


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any exception as a page; who is not signed in gets the form for that, and then what was asked for."""
    if isinstance(error, SignInNeeded):
        asked = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
        query = request.scope["query_string"].decode("latin-1")
        target = f"{asked}?{query}" if query else asked
        return redirect(f"{PATH}/sign-in?next={quote(target if request.method in READ else PATH, safe='')}")
    if isinstance(error, HTTPException):
        status = error.status_code
        text = _NOT_FOUND if status in {404, 405} else "This request cannot be answered." if status < 500 else _UNKNOWN
    else:
        status, own = matching(error, STATUS, (500, _UNKNOWN))
        text = own or str(error)
    title = _TITLES.get(status, "That did not work")
    visitor: Visitor = request.scope.get(KNOWN_AS, _NOBODY)  # type: ignore[assignment]
    shown = page(request, "error.html", visitor, status=status, title=title, text=text)
    shown.headers.update(failure_headers(error, status, "Callhouse"))
    return shown
