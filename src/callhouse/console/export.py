"""All calls of a filter as a file, streamed while it is read, and how far a download has come."""

import asyncio
import csv
import io
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.params import FromPath
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse

from callhouse.console import filters, live
from callhouse.console.access import access
from callhouse.console.columns import COLUMNS, cells, plain
from callhouse.console.parquet import parquet
from callhouse.console.views import HEADERS, render, zone_of
from callhouse.errors import BadParameter
from callhouse.model.browsing import CallFilter, Place, WholeCall
from callhouse.model.instant import SECOND
from callhouse.sources.native import written
from callhouse.store import Store

CHUNK = 1_000
"""Calls that are read at a time, from a snapshot of their own."""

MOST_KNOWN = 1_000
"""Downloads whose progress is known at a time."""

LONGEST_ID = 64
SECONDS_TO_BEGIN = 10.0
"""How long a download may take to begin; one that is not known then is not coming."""


class Download(msgspec.Struct):
    """How far a download has come: *calls* of *total*, which is None until it is known, and *size* bytes."""

    calls: int = 0
    total: int | None = None
    size: int = 0
    state: str = "running"


Lines = AsyncIterator[list[WholeCall]]


async def _csv(chunks: Lines) -> AsyncGenerator[bytes, None]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([column.name for column in COLUMNS])
    async for chunk in chunks:
        await asyncio.to_thread(writer.writerows, map(cells, chunk))
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue().encode()


async def _ndjson(chunks: Lines) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        yield await asyncio.to_thread(lambda found: b"".join(_record(each) for each in found), chunk)


def _record(found: WholeCall) -> bytes:
    return written(found.call, ()) + b"\n"


async def _parquet(chunks: Lines) -> AsyncGenerator[bytes, None]:
    async def lines() -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield await asyncio.to_thread(
                lambda found: b"".join(msgspec.json.encode(plain(each)) + b"\n" for each in found), chunk
            )

    async for part in parquet(lines()):
        yield part


FORMATS: dict[str, tuple[str, Callable[[Lines], AsyncGenerator[bytes, None]]]] = {
    "csv": ("text/csv", _csv),
    "ndjson": ("application/x-ndjson", _ndjson),
    "parquet": ("application/vnd.apache.parquet", _parquet),
}
"""By the ending of the file: its media type, and what makes it."""


class Downloads:
    """The newest downloads of this process, by their account and the id that the page gave them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str], Download] = OrderedDict()

    def begin(self, account_id: int, name: str) -> Download:
        download = self._known[account_id, name] = Download()
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return download

    def get(self, account_id: int, name: str) -> Download | None:
        return self._known.get((account_id, name))


@get("/export/{format_name:str}", include_in_schema=False)
async def export(request: Request[Any, Any, Any], format_name: FromPath[str]) -> ASGIStreamingResponse:
    """The calls of the filter, newest first; those that come meanwhile are not in it."""
    visitor, account = await access(request).signed_in(request)
    store: Store = request.app.state.store
    chosen, rest = filters.parse(request.scope["query_string"])
    zone = zone_of(visitor)
    asked = filters.asked(chosen, account, store.clock(), zone)
    if format_name not in FORMATS:
        raise BadParameter("format", format_name, "one of " + ", ".join(FORMATS))
    media_type, make = FORMATS[format_name]
    download = request.app.state.downloads.begin(account.id, rest.get("progress", "")[:LONGEST_ID])
    name = f"calls-{datetime.fromtimestamp(store.clock() / SECOND, zone):%Y%m%d-%H%M%S}.{format_name}"
    headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    body = _watched(store, asked, download, make(_chunks(store, asked, download)))
    return ASGIStreamingResponse(iterator=body, headers=headers, media_type=media_type)


async def _chunks(store: Store, asked: CallFilter, download: Download) -> AsyncGenerator[list[WholeCall], None]:
    place: Place | None = None
    while True:
        found = await store.browsing.whole(asked, CHUNK, place)
        yield found
        download.calls += len(found)
        begun = [each.listed for each in found if each.listed.start is not None]
        if len(begun) < CHUNK:
            return
        place = Place(begun[-1].start or 0, begun[-1].session_id)


async def _watched(
    store: Store, asked: CallFilter, download: Download, body: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    async def count() -> None:
        download.total = (await store.browsing.count(asked, patient=True)).calls

    counting = asyncio.create_task(count())
    try:
        async for part in body:
            if part:
                yield part
                download.size += len(part)
        download.state = "done"
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
        await body.aclose()
        if download.state == "running":
            download.state = "broken off"


@get("/export/progress", include_in_schema=False)
async def progress(request: Request[Any, Any, Any]) -> ASGIResponse:
    """How far a download has come, again and again until it ends."""
    visitor, account = await access(request).signed_in(request)
    downloads: Downloads = request.app.state.downloads
    name = request.query_params.get("id", "")[:LONGEST_ID]

    given_up = time.monotonic() + SECONDS_TO_BEGIN

    async def look() -> tuple[str, bool]:
        download = downloads.get(account.id, name)
        is_missing = download is None and time.monotonic() > given_up
        html = render("progress.html", visitor, download=download, is_missing=is_missing)
        return html, is_missing or (download is not None and download.state != "running")

    return await live.stream(request, account.id, look, lasting=live.WHOLE_DOWNLOAD)
