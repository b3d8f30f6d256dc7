"""Rows → Parquet, while they are read: neither the rows nor the file are ever held as a whole.

The library's writer wants files, and runs in a thread of its own. What it reads there comes from the event loop, and
what it writes goes back to it, a little at a time.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from arro3.core import DataType, Field, Schema
from arro3.io import read_json, write_parquet

from callhouse import __version__
from callhouse.console.columns import COLUMNS, MONEY_PLACES, Kind

T = TypeVar("T")

ROWS_OF_A_GROUP = 20_000
"""Rows that are compressed together, and held until they are."""

_TYPES: dict[Kind, DataType] = {
    "text": DataType.utf8(),
    "instant": DataType.timestamp("ms", tz="UTC"),
    "seconds": DataType.float64(),
    "number": DataType.int64(),
    "money": DataType.decimal128(38, MONEY_PLACES),
    "flag": DataType.bool(),
}
_SCHEMA = Schema([Field(column.name, _TYPES[column.kind], nullable=True) for column in COLUMNS])


async def parquet(lines: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The file of the rows that *lines* give, each line a JSON object."""
    pipe = _Pipe(lines)
    writing = asyncio.create_task(asyncio.to_thread(pipe.run))
    writing.add_done_callback(lambda _: pipe.parts.put_nowait(b""))
    try:
        while part := await pipe.parts.get():
            pipe.taken.release()
            yield part
        await writing
    finally:
        pipe.is_closed = True
        pipe.taken.release()
        await asyncio.gather(writing, return_exceptions=True)


class _Pipe:
    """What the writer takes for the file to read and the file to write, on its own thread."""

    def __init__(self, lines: AsyncIterator[bytes]) -> None:
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        self._left = b""
        self.parts: asyncio.Queue[bytes] = asyncio.Queue()
        # One part at a time waits for a client that reads slowly.
        self.taken = asyncio.Semaphore(1)
        self.is_closed = False
        self.closed = False

    def run(self) -> None:
        write_parquet(
            read_json(self, _SCHEMA, batch_size=1_000),  # type: ignore[arg-type]
            self,  # type: ignore[arg-type]
            compression="zstd(3)",
            max_row_group_size=ROWS_OF_A_GROUP,
            created_by=f"callhouse {__version__}",
        )

    def read(self, size: int) -> bytes:
        if not self._left and not self.is_closed:
            self._left = self._on_the_loop(self._next())
        part, self._left = self._left[:size], self._left[size:]
        return part

    def write(self, content: bytes) -> int:
        self._on_the_loop(self._put(bytes(content)))
        return len(content)

    def flush(self) -> None:
        """What was written is on its way."""

    def seek(self, *_: Any) -> int:
        """Looked for by the reader of JSON, which reads on and on."""
        raise OSError("this is a pipe")

    def _on_the_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _next(self) -> bytes:
        return await anext(self._lines, b"")

    async def _put(self, content: bytes) -> None:
        await self.taken.acquire()
        if self.is_closed:
            raise BrokenPipeError
        if content:
            self.parts.put_nowait(content)
