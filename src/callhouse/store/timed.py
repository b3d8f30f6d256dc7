"""Any engine, with the time of its work measured."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from callhouse.observability import STORE_SECONDS
from callhouse.store.engine import Engine, Progress, Reader, Transaction

T = TypeVar("T")

_quick = STORE_SECONDS.labels("quick")
_read = STORE_SECONDS.labels("read")
_write = STORE_SECONDS.labels("write")


class TimedEngine:
    """Passes everything on to *engine*, and observes how long it took, waiting for its turn included."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def quick(self, work: Callable[[Reader], T]) -> T:
        began = perf_counter()
        try:
            return await self._engine.quick(work)
        finally:
            _quick.observe(perf_counter() - began)

    async def read(self, work: Callable[[Reader], T]) -> T:
        with _read.time():
            return await self._engine.read(work)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        with _write.time():
            return await self._engine.write(work)

    async def backup(self, target: Path, on_progress: Progress) -> None:
        await self._engine.backup(target, on_progress)

    async def size(self) -> int:
        return await self._engine.size()

    async def sizes(self) -> dict[str, int]:
        return await self._engine.sizes()

    async def free(self) -> int | None:
        return await self._engine.free()

    async def close(self) -> None:
        await self._engine.close()
