"""Templates, and the answers that are made of them."""

import hashlib
from datetime import UTC, datetime, tzinfo
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
import msgspec
from litestar import Request, Response

from callhouse import __version__
from callhouse.console import words
from callhouse.console.access import PATH, Visitor, access
from callhouse.model.browsing import ListedCall
from callhouse.model.instant import SECOND, time_zone

HTML = "text/html"

LONGEST_NAME = 100
"""Characters of a side of a call that a heading or a link has."""

STATIC = {file.name: file.read_bytes() for file in (files("callhouse") / "console" / "static").iterdir()}
"""The scripts and the style sheet, by name; all of it is installed here."""

_DIGEST = hashlib.blake2b(b"".join(content for _, content in sorted(STATIC.items())), digest_size=6).hexdigest()

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # What a page shows is the account's own, and is to be gone with the sign-in.
    "Cache-Control": "no-store",
}

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("callhouse.console"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    console=PATH, version=__version__, static=lambda name: f"{PATH}/static/{name}?{_DIGEST}", words=words
)


def zone_of(visitor: Visitor) -> tzinfo:
    """The time zone that times are shown in."""
    return time_zone(zone_name(visitor))


def zone_name(visitor: Visitor) -> str:
    chosen = visitor.sign_in.timezone if visitor.sign_in else None
    return chosen or (visitor.account.timezone if visitor.account else "UTC")


def render(template: str, visitor: Visitor, **values: Any) -> str:
    """*template* for *visitor*, with filters that know the visitor's time zone."""
    zone = zone_of(visitor)

    def clock(instant: int, *, exact: bool = False) -> str:
        when = datetime.fromtimestamp(instant / SECOND, zone)
        return when.strftime("%H:%M:%S") + (f".{instant % SECOND:03}" if exact else "")

    def day(instant: int) -> str:
        when = datetime.fromtimestamp(instant / SECOND, zone)
        return f"{when:%a} {when.day} {when:%b %Y}"

    this_year = datetime.now(zone).year

    def short_day(instant: int) -> str:
        when = datetime.fromtimestamp(instant / SECOND, zone)
        return f"{when.day} {when:%b}" if when.year == this_year else f"{when.day} {when:%b %Y}"

    values |= {"visitor": visitor, "clock": clock, "day": day, "short_day": short_day, "zone_name": zone_name(visitor)}
    return _templates.get_template(template).render(values)


def utc(instant: int) -> str:
    """For machines, and for who points at a time."""
    return datetime.fromtimestamp(instant / SECOND, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def call_path(call: ListedCall) -> str:
    """The permanent address of a call."""
    return path_of("call", call.session_id)


def path_of(page: str, session_id: str) -> str:
    """The address of a *page* of a call.

    Slashes and dots alone name no page of their own: browsers, proxies and servers take them for parts of a path.
    """
    if not session_id.strip("./"):
        return f"{PATH}/{page}?{urlencode({'session_id': session_id})}"
    return f"{PATH}/{page}/{quote(session_id, safe='')}"


def utc_day(instant: int) -> str:
    """A day that begins at *instant* in UTC."""
    when = datetime.fromtimestamp(instant / SECOND, UTC)
    return f"{when:%a} {when.day} {when:%b %Y}"


def side(number: str | None) -> str:
    """A side of a call; unknown, too, where only blanks were sent."""
    return number if number and number.strip() else "unknown"


def short(text: str) -> str:
    """The beginning of a text that would fill a heading."""
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"


_templates.filters.update(
    side=side,
    short=short,
    path_of=lambda session_id, page: path_of(page, session_id),
    utc=utc,
    utc_day=utc_day,
    call_path=call_path,
    json=lambda value: msgspec.json.encode(value).decode(),
)


def address(request: Request[Any, Any, Any]) -> str:
    """What was asked for, as it was sent."""
    path = request.scope["raw_path"].partition(b"?")[0].decode("latin-1")
    query = request.scope["query_string"].decode("latin-1")
    return f"{path}?{query}" if query else path


def page(
    request: Request[Any, Any, Any], template: str, visitor: Visitor, *, status: int = 200, **values: Any
) -> Response[Any]:
    """An answer that shows *template*; a browser that has no cookie yet gets one, so that its forms can be trusted."""
    values.setdefault("path", address(request))
    values.setdefault("knows_operators", access(request).knows_operators)
    body = render(template, visitor, **values).encode()
    answer = Response(body, status_code=status, headers=HEADERS, media_type=HTML)
    if visitor.is_new:
        answer.set_cookie(access(request).cookie(request, visitor.token))
    return answer


def title_of(call: ListedCall) -> str:
    """The two sides of a call, as a title."""
    return f"{side(call.src)} → {side(call.dest)}"
