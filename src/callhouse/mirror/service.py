"""All mirrors of a store at once, as the server and ``callhouse mirror run`` follow them."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from callhouse.errors import MirrorError, StoreUnavailable, VendorRefusal
from callhouse.ingest.limits import IngestLimits
from callhouse.mirror import lease
from callhouse.mirror.upstreams import upstreams
from callhouse.model.instant import SECOND
from callhouse.observability import log
from callhouse.store import Store
from callhouse.store.mirrors import Mirror
from callhouse.wire import Window

if TYPE_CHECKING:
    from callhouse.mirror.runner import Runner

LOOK_SECONDS = 1.0
"""How often is looked which mirrors there are, and whether another process follows them no longer."""


@dataclass
class Service:
    """Follows mirrors of *store*, as one process; *environment* may hold their secrets."""

    store: Store
    environment: Mapping[str, str]
    limits: IngestLimits
    every: int
    on_progress: Callable[["Runner"], None] = lambda _: None
    owner: str = field(default_factory=lease.new_owner)
    _tasks: dict[int, "asyncio.Task[None]"] = field(default_factory=dict)

    async def run(self, names: Collection[str] = ()) -> None:
        """Follow the mirrors of these *names*, or all; those too that are added or resumed later. Never returns."""
        try:
            while True:
                try:
                    await self._look(names)
                except StoreUnavailable as error:
                    log.warning("mirror.store_unavailable", reason=str(error))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self, names: Collection[str]) -> None:
        """Begin to follow what is to be followed and is not, and end what is no longer to be followed."""
        active = {
            m.id: m for m in await self.store.mirrors.all() if m.state == "active" and (not names or m.name in names)
        }
        for mirror_id, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[mirror_id]
                if not task.cancelled() and (error := task.exception()):
                    log.error("mirror.failed", mirror_id=mirror_id, exc_info=error)
            elif mirror_id not in active and not task.cancelling():
                log.info("mirror.paused", mirror_id=mirror_id)
                task.cancel()
        for mirror_id, mirror in active.items():
            if mirror_id not in self._tasks and await self._take(mirror):
                self._tasks[mirror_id] = asyncio.create_task(self._follow(mirror.name))

    async def once(self, name: str) -> "Runner":
        """Have all that one mirror is to have now. Raises MirrorError as Runner does, and when another follows it."""
        mirror = await self.store.mirrors.get(name)
        if not await self._take(mirror):
            raise MirrorError(f"Another process follows {name} now: the server, or another `callhouse mirror run`.")
        return await self._once(mirror)

    async def again(self, name: str, windows: Collection[Window]) -> bool:
        """Have *windows* again, or let who follows the mirror have them: False then. Raises MirrorError as Runner."""
        mirror = await self.store.mirrors.get(name)
        await self.store.mirrors.ask_again(mirror.id, list(windows))
        if not await self._take(mirror):
            return False
        await self._once(mirror)
        return True

    async def _once(self, mirror: Mirror) -> "Runner":
        runner = await self.runner(mirror.name)
        try:
            await runner.once()
        except VendorRefusal as error:
            await self._stop(runner, error)
            raise
        else:
            if mirror.state == "stopped":
                # The vendor takes the credentials again.
                await self.store.mirrors.set_state(mirror.id, "active")
        finally:
            await self.store.mirrors.keep(mirror.id, self.owner, self.store.clock(), runner.trouble)
            await self.store.mirrors.release(mirror.id, self.owner)
        return runner

    async def _follow(self, name: str) -> None:
        runner = await self.runner(name)
        mirror = runner.mirror
        log.info("mirror.started", mirror=name, api=mirror.api, account=mirror.account_id)
        try:
            await runner.run()
        except VendorRefusal as error:
            await self._stop(runner, error)
        except MirrorError as error:
            log.warning("mirror.left", mirror=name, reason=str(error))
        finally:
            await self.store.mirrors.release(mirror.id, self.owner)

    async def _take(self, mirror: Mirror) -> bool:
        is_others = mirror.owner not in {None, self.owner} and mirror.owned_until >= self.store.clock()
        if is_others and not lease.is_gone(mirror.owner, self.owner):
            return False
        until = self.store.clock() + lease.SECONDS * SECOND
        return await self.store.mirrors.take(mirror.id, self.owner, until, gone=mirror.owner)

    async def _stop(self, runner: "Runner", error: VendorRefusal) -> None:
        mirror = runner.mirror
        log.error("mirror.stopped", mirror=mirror.name, reason=str(error))
        runner.trouble = f"{error} Mend them, then `callhouse mirror resume {mirror.name}`."
        await self.store.mirrors.set_state(mirror.id, "stopped", runner.trouble)

    async def runner(self, name: str) -> "Runner":
        """The loop over the mirror of that name. Raises MirrorError when there is none."""
        # What asks vendors takes long to load, and most servers have no mirror.
        from callhouse.mirror.runner import Runner  # noqa: PLC0415

        mirror = await self.store.mirrors.get(name)
        return Runner(
            self.store,
            mirror,
            await self.store.accounts.get(mirror.account_id),
            upstreams()[mirror.api],
            owner=self.owner,
            environment=self.environment,
            limits=self.limits,
            every=self.every,
            on_progress=self.on_progress,
        )
