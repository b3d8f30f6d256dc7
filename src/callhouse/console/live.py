"""Server-sent events: what a page shows, again whenever it has changed."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from litestar import Request
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Scope, Send

from callhouse.console.access import access
from callhouse.console.views import HEADERS
from callhouse.errors import Busy, StoreUnavailable

SECONDS_BETWEEN = 1.0
"""Pause between two looks; longer where a look takes long, so that looking takes a tenth of the time at most."""

SECONDS_OPEN = 45.0
"""A stream ends then and the browser asks again, so that a stopping server and a proxy need not cut it off."""

WHOLE_DOWNLOAD = 6 * 3600.0
"""How long a stream about a download stays open: nothing asks again for it."""

MOST_STREAMS = 100
"""Streams that are open at once; all other requests have places of their own."""

MOST_OF_ACCOUNT = 50
"""Of these, streams that show the calls of one account, so that none takes the others' places."""

OVER = "event: over\ndata: \n\n"
"""Tells the browser not to ask again."""

SIGNED_OUT = "event: signed-out\ndata: \n\n"
"""Tells the page to show itself anew, which leads to the form for signing in."""

_open: Counter[int] = Counter()
"""Streams of this process, by account."""


class _Counted(ASGIStreamingResponse):
    """A stream that is one of its account's from the moment it is made until it ends, in whatever way."""

    def __init__(self, account_id: int, iterator: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        super().__init__(iterator=iterator, headers=headers, media_type="text/event-stream")
        self._account_id = account_id
        _open[account_id] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            _open[self._account_id] -= 1
            if not _open[self._account_id]:
                del _open[self._account_id]


async def stream(
    request: Request[Any, Any, Any],
    account_id: int,
    look: Callable[[], Awaitable[tuple[str, bool]]],
    *,
    lasting: float = SECONDS_OPEN,
) -> ASGIResponse:
    """What *look* gives, and again when that is something else, until it says that it was the last. Raises Busy."""
    if _open.total() >= MOST_STREAMS or _open[account_id] >= MOST_OF_ACCOUNT:
        raise Busy(30)
    headers = {**HEADERS, "X-Accel-Buffering": "no"}
    return _Counted(account_id, _messages(request, look, lasting), headers)


async def _messages(
    request: Request[Any, Any, Any], look: Callable[[], Awaitable[tuple[str, bool]]], lasting: float
) -> AsyncIterator[bytes]:
    is_stopping: Callable[[], bool] = request.app.state.is_stopping
    ends = time.monotonic() + lasting
    shown = None
    yield b": open\n\n"
    while time.monotonic() < ends and not is_stopping():
        if (await access(request).visitor(request)).sign_in is None:
            yield SIGNED_OUT.encode()
            return
        began = time.monotonic()
        try:
            html, is_last = await look()
        except StoreUnavailable:
            # It may be back when the browser asks again.
            return
        if html != shown:
            yield _message(html)
            shown = html
        if is_last:
            yield OVER.encode()
            return
        await asyncio.sleep(max(SECONDS_BETWEEN, 10 * (time.monotonic() - began)))


def _message(html: str) -> bytes:
    # Any of the three ends a line of the stream.
    lines = html.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "".join([*(f"data: {line}\n" for line in lines), "\n"]).encode()
