"""What more than one wire API needs to read a request and to write JSON and XML."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote
from xml.sax.saxutils import escape

from litestar import HttpMethod, Request
from litestar.exceptions import HTTPException
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse

from callhouse.errors import BadParameter, Busy, TooManyFailures
from callhouse.model.instant import MAX_SECONDS, SECOND

T = TypeVar("T")

JSON = "application/json"
XML = "application/xml"
XML_DECLARATION = b'<?xml version="1.0"?>\n'

READ = [HttpMethod.GET, HttpMethod.HEAD]
"""The methods of a route that reads."""

DEFAULT_LIMIT = 1_000
MAX_LIMIT = 10_000
MAX_OFFSET = 2**53

SLICE = 5_000
"""Rows of a long answer that are rendered at a time."""

WHOLE_BYTES = 256 * 1024
"""An answer of no more bytes than this is sent whole, with its length."""

# What XML 1.0 cannot hold at all, not even as a reference; see https://www.w3.org/TR/xml/#charsets.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
# What cannot stand between two tags as it is.
_NOT_PLAIN = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_NOT_A_NAME = re.compile(r"[^\w.\-]", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_Q = re.compile(r"q\s*=\s*([01](?:\.\d{0,3})?)\s*", re.ASCII)


def header(request: Request[Any, Any, Any], name: bytes) -> str:
    """The header of that name, in lower case, or an empty text; the framework would decode all headers first."""
    return next((value.decode("latin-1") for key, value in request.scope["headers"] if key == name), "")


def wants_xml(request: Request[Any, Any, Any]) -> bool:
    """Whether the client likes ``application/xml`` best; everything else, known or not, gets JSON.

    Of the media ranges with the highest q the first that is JSON or XML decides.
    """
    accept = header(request, b"accept").lower()
    if XML not in accept:
        return False
    best, xml, decided = 0.0, False, False
    for media_range in accept.split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        q = 1.0
        for parameter in parameters:
            if match := _Q.fullmatch(parameter):
                q = float(match[1])
        if q > best:
            best, xml, decided = q, name == XML, name in {XML, JSON}
        elif q == best and q > 0 and not decided:
            xml, decided = name == XML, name in {XML, JSON}
    return xml


def xml_text(text: str) -> str:
    """*text* between two tags: nothing trimmed, what XML forbids replaced by U+FFFD."""
    if not _NOT_PLAIN.search(text):
        return text
    # A raw carriage return would come back as a line feed.
    return escape(_NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})


def xml_element(name: str, value: Any) -> str:
    """*value*, as JSON knows it, as an element; a list's members are ``<item>``s.

    A name that XML does not allow becomes one that it does: other characters turn into ``_``.
    """
    tag = name if name.isascii() and name.isidentifier() else _xml_name(name)
    if isinstance(value, str):
        content = xml_text(value)
    elif value is True:
        content = "true"
    elif value is False:
        content = "false"
    elif value is None:
        content = ""
    elif isinstance(value, dict):
        content = "".join([xml_element(key, member) for key, member in value.items()])
    elif isinstance(value, list):
        content = "".join([xml_element("item", member) for member in value])
    else:
        content = str(value)
    return f"<{tag}>{content}</{tag}>"


def _xml_name(name: str) -> str:
    name = _NOT_A_NAME.sub("_", name)
    return name if name[:1].isalpha() or name[:1] == "_" else f"_{name}"


def seconds(name: str, value: str) -> int:
    """The milliseconds of an instant given in epoch seconds. Raises BadParameter."""
    if not value.isascii() or not value.isdigit():
        raise BadParameter(name, value, "whole seconds since 1970 in UTC")
    if len(value) == 13:
        raise BadParameter(name, value, "seconds since 1970, and this looks like milliseconds: seconds expected")
    if len(value) > 18 or int(value) >= MAX_SECONDS:
        raise BadParameter(name, value, f"seconds since 1970, from 0 to {MAX_SECONDS - 1}")
    return int(value) * SECOND


def window(start: str, end: str) -> tuple[int, int]:
    """The milliseconds of a window given by two path segments in epoch seconds. Raises BadParameter."""
    since, until = seconds("start", start), seconds("end", end)
    if since >= until:
        raise BadParameter("end", end, f"a time after start ({start})")
    return since, until


def integer(name: str, value: str | None, default: int, low: int, high: int) -> int:
    """A whole number from *low* to *high*; *default* when absent or empty. Never clamped. Raises BadParameter."""
    if not value:
        return default
    if not _INTEGER.fullmatch(value) or not low <= int(value) <= high:
        raise BadParameter(name, value, f"a whole number from {low} to {high}")
    return int(value)


def ignored_parameters(request: Request[Any, Any, Any], known: frozenset[str] = frozenset()) -> dict[str, str]:
    """The header that names the query parameters that were not *known*; no header when all were."""
    sent = request.scope["query_string"].decode("latin-1")
    if all(part.partition("=")[0] in known for part in sent.split("&") if part):
        return {}
    unknown = sorted({name for name in request.query_params if name not in known})
    # Percent-encoding keeps a name from ending the header; the length is bounded as proxies bound it.
    return {"X-Ignored-Parameters": ", ".join(quote(name[:100]) for name in unknown[:20])} if unknown else {}


def failure_headers(error: Exception, status: int, realm: str) -> dict[str, str]:
    """The headers of a failure: how to authenticate in *realm*, when to try again, what the framework itself adds."""
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 401:
        headers["WWW-Authenticate"] = f'Basic realm="{realm}", charset="UTF-8"'
    if isinstance(error, TooManyFailures | Busy):
        headers["Retry-After"] = str(error.retry_after)
    return headers


def slices(rows: Sequence[T], size: int = SLICE) -> Iterator[Sequence[T]]:
    """*rows*, *size* at a time, so that others are answered between one part of a long answer and the next."""
    return (rows[at : at + size] for at in range(0, len(rows), size))


async def streamed(
    request: Request[Any, Any, Any], body: AsyncGenerator[bytes, None], headers: dict[str, str], media_type: str
) -> ASGIResponse:
    """*body* with its length when it is short, else as a stream, of which HEAD reads no more than its beginning."""
    parts: list[bytes] = []
    async for part in body:
        parts.append(part)
        if sum(map(len, parts)) > WHOLE_BYTES:
            break
    else:
        return whole(b"".join(parts), headers, media_type)
    if request.method == HttpMethod.HEAD:
        await body.aclose()
        return ASGIStreamingResponse(iterator=iter(()), headers=headers, media_type=media_type)
    return ASGIStreamingResponse(iterator=_going_on(parts, body), headers=headers, media_type=media_type)


async def _going_on(parts: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield b"".join(parts)
    parts.clear()
    async for part in rest:
        yield part


def whole(body: bytes, headers: dict[str, str], media_type: str) -> ASGIResponse:
    """*body* with its length."""
    return ASGIResponse(body=body, headers=headers, media_type=media_type)
