"""Group commit: what gathers while one batch is being written becomes the next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from callhouse.errors import Busy, StoreUnavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Batcher(Generic[Item, Outcome]):
    """Hands items to *write* in batches, one batch at a time, and each outcome back to who submitted the item.

    A lone item is written at once; under load a batch grows to at most *batch_items*. *write* must be all or nothing.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        *,
        batch_items: int,
        max_waiting: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._write = write
        self._batch_items = batch_items
        self._max_waiting = max_waiting
        self._on_batch = on_batch
        self._queue: deque[tuple[Sequence[Item], asyncio.Future[Sequence[Outcome]]]] = deque()
        self._waiting = 0
        self._running: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Items submitted and not yet written."""
        return self._waiting

    async def submit(self, items: Sequence[Item]) -> list[Outcome]:
        """The outcome of each of *items* once it is on disk; whatever *write* raises is raised here.

        A long list takes its turn batch by batch, so that it does not hold up the others. Raises Busy when more than
        *max_waiting* items wait already; nothing of the list is lost by sending it again.
        """
        outcomes: list[Outcome] = []
        for first in range(0, len(items), self._batch_items):
            outcomes += await self._enqueue(items[first : first + self._batch_items])
        return outcomes

    async def drain(self) -> None:
        """Wait until nothing is waiting."""
        while self._running is not None:
            await asyncio.wait([self._running])

    def _enqueue(self, items: Sequence[Item]) -> asyncio.Future[Sequence[Outcome]]:
        if self._waiting and self._waiting + len(items) > self._max_waiting:
            raise Busy
        future: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
        self._queue.append((items, future))
        self._waiting += len(items)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        try:
            while self._queue:
                await self._write_group(self._take())
        finally:
            self._running = None

    def _take(self) -> list[tuple[Sequence[Item], asyncio.Future[Sequence[Outcome]]]]:
        group = [self._queue.popleft()]
        size = len(group[0][0])
        while self._queue and size + len(self._queue[0][0]) <= self._batch_items:
            group.append(self._queue.popleft())
            size += len(group[-1][0])
        return group

    async def _write_group(self, group: list[tuple[Sequence[Item], asyncio.Future[Sequence[Outcome]]]]) -> None:
        batch = [item for items, _ in group for item in items]
        try:
            outcomes = await self._write(batch)
        except Exception as error:  # noqa: BLE001 — whatever it is belongs to who submitted
            # A store that is out of reach is so for all.
            if len(group) == 1 or type(error) is StoreUnavailable:
                for entry in group:
                    self._finish(entry, error)
                return
            # One of them may be to blame: each gets its own try, so that it fails alone.
            for lone in group:
                await self._write_group([lone])
            return
        self._on_batch(len(batch))
        first = 0
        for items, future in group:
            self._finish((items, future), outcomes[first : first + len(items)])
            first += len(items)

    def _finish(
        self,
        entry: tuple[Sequence[Item], asyncio.Future[Sequence[Outcome]]],
        result: Sequence[Outcome] | Exception,
    ) -> None:
        items, future = entry
        self._waiting -= len(items)
        # Who submitted may have gone meanwhile; what was written stays written.
        if future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
