"""Failures as pages."""

from typing import Any
from urllib.parse import quote

from litestar import Request, Response
from litestar.exceptions import HTTPException

from callhouse.console.access import KNOWN_AS, PATH, ForgedChange, OtherAccount, SignInNeeded, Visitor
from callhouse.console.sign_in import local, redirect
from callhouse.console.views import HEADERS, address, page
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
from callhouse.render import READ, failure_headers, header

_NOT_FOUND = "There is no such page, or no such call in this account; a call disappears when its retention is over."
_OTHER_ACCOUNT = (
    "Nothing was changed: another account has been chosen since this page was opened, in another window perhaps. "
    "Reload it, or choose its account again."
)
_UNKNOWN = "Something went wrong here; the server's log says what."
STATUS: dict[type[Exception], tuple[int, str | None]] = {
    BadParameter: (400, None),
    NotAuthenticated: (401, "These credentials are wrong."),
    InactiveAccount: (401, "This account is switched off."),
    ForgedChange: (403, "This form is too old, or is none of the console's. Go back, reload the page and try again."),
    NotFound: (404, _NOT_FOUND),
    OtherAccount: (409, _OTHER_ACCOUNT),
    TooManyFailures: (429, None),
    Busy: (429, None),
    StoreUnavailable: (503, "The store cannot be read or written now. Try again in a moment."),
}
"""The status of each error, and its text where that is not the error's own."""

_TITLES = {400: "That was not understood", 401: "Not signed in", 403: "Not changed", 404: "Not found", 405: "Not found",
           409: "Another account is shown now", 413: "Too large", 429: "Too much at once",
           503: "Not available"}  # fmt: skip
_NOBODY = Visitor(token=b"", form_token="", is_new=False)


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Any exception as a page; who is not signed in gets the form for that, and then what was asked for.

    Where a page asks for a part of itself, that part stays as it is: the page goes to the form, or tells the failure.
    """
    is_part = bool(header(request, b"hx-request"))
    if isinstance(error, SignInNeeded):
        form = f"{PATH}/sign-in?next={quote(_wanted(request, is_part=is_part), safe='')}"
        # A browser would follow a redirection before the page knows of it.
        return _gone_to(form) if is_part else redirect(form)
    if isinstance(error, HTTPException):
        status = error.status_code
        text = _NOT_FOUND if status in {404, 405} else "This request cannot be answered." if status < 500 else _UNKNOWN
    else:
        status, own = matching(error, STATUS, (500, _UNKNOWN))
        text = own or str(error)
    if is_part:
        failures = {**HEADERS, **failure_headers(error, status, "Callhouse"), "HX-Reswap": "none"}
        return Response(text, status_code=status, headers=failures, media_type="text/plain")
    title = _TITLES.get(status, "That did not work")
    visitor: Visitor = request.scope.get(KNOWN_AS, _NOBODY)  # type: ignore[assignment]
    shown = page(request, "error.html", visitor, status=status, title=title, text=text)
    shown.headers.update(failure_headers(error, status, "Callhouse"))
    return shown


def _wanted(request: Request[Any, Any, Any], *, is_part: bool) -> str:
    """What is to be shown after signing in."""
    if request.method not in READ:
        return PATH
    if is_part:
        return local("/" + header(request, b"hx-current-url").partition("://")[2].partition("/")[2])
    return address(request)


def _gone_to(target: str) -> Response[Any]:
    return Response(None, status_code=204, headers={**HEADERS, "HX-Redirect": target})
