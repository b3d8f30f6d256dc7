"""A request's body → the records in it, each as the bytes that were sent."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import zstandard

from callhouse.errors import TooLarge, Unreadable
from callhouse.sources import BYTE_ORDER_MARK, ArraySplitter, LineSplitter, Splitter, cuts, is_json, members_of

if TYPE_CHECKING:
    # An import from files needs no server.
    from litestar import Request

_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
_LARGEST_WINDOW = 2**27

SILENCE_SECONDS = 30
"""How long the next piece of a body may take."""

BODY_SECONDS = 300
"""How long a whole body may take."""

SLOWEST_RATE = 1024
"""Bytes a second that must have arrived on average once SILENCE_SECONDS are over: a poor mobile link is quicker."""

DISCARD_SECONDS = 5
"""How long a refused sender may go on sending before it is cut off."""

PATIENCE = 4
"""How many times its limit a body is read, and forgotten, so that its sender gets to see the answer."""

MAX_FRAMES = 10_000
"""zstd frames or gzip members of a body. Most senders send one, and one that appends to a file a frame each time."""


async def receive(request: "Request[Any, Any, Any]", limit: int) -> bytes:
    """The body as sent, still encoded.

    Raises TooLarge when it is longer than *limit* bytes, and Unreadable when it stops coming or drips.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in _chunks(request):
        size += len(chunk)
        if size > limit:
            chunks.clear()
        else:
            chunks.append(chunk)
        if size > PATIENCE * limit:
            break
    if size > limit:
        raise TooLarge(f"The body has more than {limit} bytes; send it in parts.")
    return b"".join(chunks)


async def discard(request: "Request[Any, Any, Any]", limit: int) -> None:
    """Read what is being sent, up to PATIENCE times *limit*, and forget it.

    A client that is cut off while it sends sees a broken connection instead of the answer that says what is wrong.
    """
    size = 0
    with contextlib.suppress(Unreadable):
        async for chunk in _chunks(request, DISCARD_SECONDS):
            size += len(chunk)
            if size > PATIENCE * limit:
                break


async def _chunks(request: "Request[Any, Any, Any]", patience: float = BODY_SECONDS) -> AsyncIterator[bytes]:
    """What arrives of the body. Raises Unreadable when that takes more than *patience* seconds, or is too slow."""
    stream = request.stream()
    clock = asyncio.get_running_loop().time
    began, size = clock(), 0
    while True:
        slowest = max(SILENCE_SECONDS, size / SLOWEST_RATE)
        try:
            async with asyncio.timeout_at(min(clock() + SILENCE_SECONDS, began + min(slowest, patience))):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Unreadable("The body took too long to arrive.") from None
        except Exception as error:
            # The sender has gone, or breaks the rules of HTTP; each server says so with exceptions of its own.
            raise Unreadable("The body did not arrive whole.") from error
        size += len(chunk)
        yield chunk


def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """*body* without its Content-Encoding. Raises TooLarge or Unreadable; expands little more than *limit* bytes."""
    encoding = encoding.strip().lower()
    if encoding in {"", "identity"} or not body:
        return body
    if encoding not in {"gzip", "x-gzip", "zstd"}:
        raise Unreadable("Content-Encoding must be gzip or zstd, or absent.")
    # One decompressor serves all frames, because making it costs far more than a short frame does.
    zstd = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
    try:
        return _decoded(body, zstd.decompressobj if encoding == "zstd" else _gzip_member, limit)
    except (EOFError, zlib.error, zstandard.ZstdError):
        raise Unreadable(f"The body is no valid {encoding}.") from None


def _gzip_member() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _decoded(body: bytes, new_frame: Callable[[], Any], limit: int) -> bytes:
    decoded, size, start = [], 0, 0
    for _ in range(MAX_FRAMES):
        frame = new_frame()
        while not frame.eof and start < len(body):
            # Pieces are small because zstd gives all that a piece expands to at once.
            decoded.append(frame.decompress(body[start : start + 1024]))
            size += len(decoded[-1])
            start += 1024
            if size > limit:
                raise _too_large(limit)
        if not frame.eof:
            raise EOFError
        start = min(start, len(body)) - len(frame.unused_data)
        if start == len(body):
            return b"".join(decoded)
    raise TooLarge(f"The body has more than {MAX_FRAMES} compressed frames; put more into each.")


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body has more than {limit} bytes after decompression; send it in parts.")


def split(body: bytes, content_type: str, max_records: int, splitter: Splitter | None = None) -> list[bytes]:
    """The records of *body* as *splitter* cuts it; without one the members of a JSON array, the lines of NDJSON, or one
    JSON object.

    Raises Unreadable when there is nothing that could be a record, and TooLarge when there are too many.
    """
    if splitter is None:
        records = _records(body, content_type, max_records)
    else:
        records = [record for _, record in islice(cuts(splitter, body), max_records + 1)]
    if splitter is not None and not records:
        raise Unreadable("The body is empty.")
    if len(records) > max_records:
        raise TooLarge(f"The body has more than {max_records} records; send it in parts.")
    return records


def _records(body: bytes, content_type: str, max_records: int) -> list[bytes]:
    media_type = content_type.partition(";")[0].strip().lower()
    body = body.removeprefix(BYTE_ORDER_MARK).strip()
    if not body:
        raise Unreadable("The body is empty; send a JSON object, a JSON array or NDJSON.")
    if media_type in _NDJSON:
        return _lines(body)
    if body[:1] == b"[":
        return list(islice(members_of(body), max_records + 1))
    if body[:1] == b"{":
        # Scripts forget the content type; lines of objects can be nothing else than NDJSON.
        first, _, rest = body.partition(b"\n")
        may_be_lines = rest and (first.rstrip().endswith(b"}") or b"\n{" in body)
        return _lines(body) if may_be_lines and not is_json(body) else [body]
    raise Unreadable("The body is neither a JSON object, a JSON array nor NDJSON.")


class JsonSplitter(ArraySplitter):
    """Cuts a file: the members of a JSON array, else objects of JSON, each in a line or over several."""

    def __init__(self) -> None:
        super().__init__(LineSplitter())


def _lines(body: bytes) -> list[bytes]:
    lines = [line for raw in body.split(b"\n") if (line := raw.strip())]
    if not any(line.startswith(b"{") for line in lines):
        raise Unreadable("The body is no NDJSON: not one line of it is a JSON object.")
    return lines
