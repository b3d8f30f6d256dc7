"""A wire API for benchmarks: answers that are read from files at start, with no store and no accounts behind them.

``GET /static/<name>`` answers with the bytes of the file of that name in the directory BENCHMARK_ANSWERS.
``POST /static/calls`` does all that ``POST /ingest/calls`` does, but keeps nothing.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from litestar import Request, Response, get, post

from callhouse.auth import authenticate
from callhouse.ingest import body
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.pump import Pump, Sent
from callhouse.ingest.readers import readers
from callhouse.model.record import Outcome, Record
from callhouse.render import JSON
from callhouse.wire import Wire

_READER = readers({})["calls"]


class Nowhere:
    """As much of a Store as the pump asks of it; forgets what it is given."""

    waiting = 0

    async def ingest(self, records: Sequence[Record]) -> list[Outcome]:
        return [Outcome(refusal=record.read if isinstance(record.read, str) else None) for record in records]


_pump = Pump(Nowhere(), IngestLimits())


@post("/calls", name="acknowledged without storing", include_in_schema=False)
async def acknowledged(request: Request) -> Response[bytes]:
    account = await authenticate(request, "fuse", "plivo", "dev")
    sent = Sent(
        await body.receive(request, _pump.limits.max_body),
        request.headers.get("content-type", ""),
        request.headers.get("content-encoding", ""),
    )
    reply = await _pump.take(sent, account, "calls", _READER)
    return Response(msgspec.json.encode(reply), status_code=200, media_type=JSON)


def _handler(file: Path):
    content = file.read_bytes()

    # A route for each file, without parameters: nothing may be cheaper in this server.
    @get(f"/{file.name}", name=f"static {file.name}", include_in_schema=False)
    async def answer() -> Response[bytes]:
        return Response(content, media_type=JSON)

    return answer


def _render_error(_request, error: Exception) -> Response[str]:
    return Response(str(error), status_code=getattr(error, "status_code", 500))


plugin = Wire(
    name="static",
    title="Static",
    description="Answers from memory, to compare with.",
    path="/static",
    handlers=[acknowledged, *(_handler(file) for file in sorted(Path(os.environ["BENCHMARK_ANSWERS"]).iterdir()))],
    render_error=_render_error,
)
