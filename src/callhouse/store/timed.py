"""Any engine, with the time of its work measured."""

from collections.abc import Callable, Collection
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from callhouse.observability import STORE_SECONDS
from callhouse.store.engine import Engine, Progress, Reader, Readers, Transaction

T = TypeVar("T")

_quick = STORE_SECONDS.labels("quick")
_read = STORE_SECONDS.labels("read")
_write = STORE_SECONDS.labels("write")


class TimedReaders:
    """Passes everything on to *readers*, and observes how long it took, waiting for its turn included."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def quick(self, work: Callable[[Reader], T]) -> T:
        began = perf_counter()
        try:
            return await self._readers.quick(work)
        finally:
            _quick.observe(perf_counter() - began)

    async def read(self, work: Callable[[Reader], T]) -> T:
        with _read.time():
            return await self._readers.read(work)


class TimedEngine(TimedReaders):
    """The same for all that an engine does."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._engine = engine

    async def write(self, work: Callable[[Transaction], T], accounts: Collection[int] | None = None) -> T:
        with _write.time():
            return await self._engine.write(work, accounts)

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
