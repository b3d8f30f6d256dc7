"""A wire API for benchmarks: answers that are read from files at start, with no store and no accounts behind them.

``GET /static/<name>`` answers with the bytes of the file of that name in the directory BENCHMARK_ANSWERS.
"""

import os
from pathlib import Path

from litestar import Response, get

from callhouse.render import JSON
from callhouse.wire import Wire


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
    handlers=[_handler(file) for file in sorted(Path(os.environ["BENCHMARK_ANSWERS"]).iterdir())],
    render_error=_render_error,
)
