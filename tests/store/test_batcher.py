"""The batcher groups what gathers, loses nothing, and lets one bad list fail alone."""

import asyncio

import pytest

from callhouse.errors import Busy, StoreUnavailable
from callhouse.store.batcher import Batcher


class Writer:
    """Stands for the disk: holds each batch until it is let go, and fails on request."""

    def __init__(self):
        self.batches = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison = None

    async def __call__(self, items):
        await self.gate.wait()
        if self.poison in items:
            raise OSError("no room")
        self.batches.append(list(items))
        return [item * 10 for item in items]


def run(work, **options):
    async def main():
        writer = Writer()
        batcher = Batcher(writer, **{"batch_items": 4, "max_waiting": 100, **options})
        await work(writer, batcher)
        await batcher.drain()
        assert batcher.waiting == 0

    asyncio.run(main())


def test_a_lone_item_is_written_at_once():
    async def work(writer, batcher):
        assert await batcher.submit([1]) == [10]
        assert writer.batches == [[1]]

    run(work)


def test_what_gathers_during_a_commit_becomes_the_next_one_and_each_gets_its_own_outcome():
    async def work(writer, batcher):
        writer.gate.clear()
        tasks = [asyncio.create_task(batcher.submit([n])) for n in range(6)]
        await asyncio.sleep(0)
        writer.gate.set()
        assert await asyncio.gather(*tasks) == [[n * 10] for n in range(6)]
        assert sum(writer.batches, []) == list(range(6))
        assert max(map(len, writer.batches)) == 4

    run(work)


def test_a_long_list_takes_turns_with_a_short_one():
    async def work(writer, batcher):
        writer.gate.clear()
        long = asyncio.create_task(batcher.submit(list(range(100, 112))))
        await asyncio.sleep(0)
        short = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0)
        writer.gate.set()
        assert await short == [10]
        assert not long.done()
        assert await long == [n * 10 for n in range(100, 112)]

    run(work)


def test_a_list_that_cannot_be_written_fails_alone():
    async def work(writer, batcher):
        writer.gate.clear()
        writer.poison = 13
        tasks = [asyncio.create_task(batcher.submit([n])) for n in (12, 13, 14)]
        await asyncio.sleep(0)
        writer.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[0] == [120]
        assert isinstance(results[1], OSError)
        assert results[2] == [140]

    run(work)


def test_a_store_out_of_reach_fails_all_at_once_instead_of_one_by_one():
    async def work(writer, batcher):
        tries = []

        async def unreachable(items):
            tries.append(list(items))
            raise StoreUnavailable

        batcher._write = unreachable
        results = await asyncio.gather(*(batcher.submit([n]) for n in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailable] * 3
        assert len(tries) <= 2

    run(work)


def test_too_much_waiting_is_busy_and_an_idle_batcher_takes_any_list():
    async def work(writer, batcher):
        writer.gate.clear()
        waiting = asyncio.create_task(batcher.submit([1, 2, 3]))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await batcher.submit([4, 5, 6])
        writer.gate.set()
        assert await waiting == [10, 20, 30]
        assert len(await batcher.submit(list(range(50)))) == 50

    run(work, max_waiting=5)


def test_a_sender_that_has_gone_does_not_hold_up_the_others():
    async def work(writer, batcher):
        writer.gate.clear()
        gone = asyncio.create_task(batcher.submit([1]))
        await asyncio.sleep(0)
        stays = asyncio.create_task(batcher.submit([2]))
        await asyncio.sleep(0)
        gone.cancel()
        writer.gate.set()
        assert await stays == [20]
        assert sum(writer.batches, []) == [1, 2]

    run(work)
