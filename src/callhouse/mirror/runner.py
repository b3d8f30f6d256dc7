"""The loop over one account at a vendor: what to ask for, ask, hand to the store with how far that was."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import stamina

from callhouse.errors import (
    AnswerTooLong,
    Busy,
    MirrorError,
    RecordError,
    SecretUnavailable,
    StoreUnavailable,
    VendorRefusal,
    VendorUnavailable,
)
from callhouse.ingest.limits import IngestLimits
from callhouse.mirror import lease, secret
from callhouse.mirror import place as places
from callhouse.mirror.vendor import Vendor
from callhouse.mirror.work import MARGIN, NARROWEST, Work, floor
from callhouse.model.account import Account
from callhouse.model.instant import DAY, SECOND
from callhouse.model.record import Outcome, Part, Record
from callhouse.observability import INGESTED, log
from callhouse.store import Store
from callhouse.store.mirrors import UNKNOWN, Advance, Mirror
from callhouse.store.origins import MIRROR
from callhouse.wire import Found, Upstream, Window

UNDER_WAY = 8
"""Windows that are asked for, or wait to be stored, at once."""

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
JITTER = 2.0


@dataclass(frozen=True, eq=False)
class Reading:
    """The *records* that a *window* held when it was *read*; *losses* tells from their outcomes what of which day, and
    of how many calls, was lost.
    """

    window: Window
    read: int
    records: Sequence[Record]
    losses: Callable[[Sequence[Outcome]], Sequence[tuple[int, int]]]


class Runner:
    """Follows one *mirror*, whose *owner* it is, and tells *on_progress* after each window.

    Every method raises MirrorError when the mirror has another owner by now, VendorRefusal when the vendor refuses the
    credentials, and once also VendorUnavailable, SecretUnavailable and StoreUnavailable.
    """

    def __init__(
        self,
        store: Store,
        mirror: Mirror,
        account: Account,
        upstream: Upstream,
        *,
        owner: str,
        environment: Mapping[str, str],
        limits: IngestLimits,
        every: int,
        on_progress: Callable[["Runner"], None] = lambda _: None,
    ) -> None:
        self.mirror = mirror
        self.place = places.parsed(mirror.place)
        self.calls = 0
        self.trouble = mirror.trouble
        self._store = store
        self._account = account
        self._upstream = upstream
        self._owner = owner
        self._environment = environment
        self._limits = limits
        self._every = every
        self._on_progress = on_progress
        self._work = Work(upstream, mirror.since, mirror.overlap, every)
        self._busy: list[Window] = []
        self._failed: dict[Window, VendorUnavailable] = {}
        self._failures = 0
        self._changed = asyncio.Condition()
        self._storing = asyncio.Lock()
        self._waiting: list[Reading] = []
        self._horizon = 0
        self._began = 0
        self._calls_before = 0

    async def run(self) -> None:
        """Follow the account, through failures of the vendor and the store; never returns."""
        await self._as_owner(self._follow())

    async def once(self) -> None:
        """Have all that is to be had now."""
        await self._as_owner(self._pass(follow=False))

    async def _as_owner(self, work: Coroutine[Any, Any, None]) -> None:
        beating, working = asyncio.create_task(self._beat()), asyncio.create_task(work)
        try:
            await asyncio.wait([beating, working], return_when=asyncio.FIRST_COMPLETED)
            await (working if working.done() else beating)
        finally:
            await _ended([beating, working])

    async def _follow(self) -> None:
        while True:
            async for attempt in stamina.retry_context(
                on=self._pause_after,
                attempts=None,
                timeout=None,
                wait_initial=FIRST_PAUSE,
                wait_max=LONGEST_PAUSE,
                wait_jitter=JITTER,
            ):
                with attempt:
                    await self._pass(follow=True)
            await asyncio.sleep(self._every / SECOND)

    async def _pass(self, *, follow: bool) -> None:
        self._began = self._store.clock()
        self._calls_before = self.calls
        self._horizon = floor(self._began)
        self._failed.clear()
        self._failures = 0
        await self._note_what_is_gone()
        async with self.vendor() as vendor:
            workers = [asyncio.create_task(self._ask(vendor, follow=follow)) for _ in range(UNDER_WAY)]
            try:
                await asyncio.gather(*workers)
            finally:
                await _ended(workers)
        for error in self._failed.values():
            raise error
        self.trouble = ""
        await self._store.mirrors.succeed(self.mirror.id, self._owner)

    def vendor(self) -> Vendor:
        """The vendor of this mirror. Raises SecretUnavailable."""
        return vendor_of(self.mirror, self._environment, on_failure=self._note)

    def _note(self, trouble: str) -> None:
        self.trouble = trouble

    def _pause_after(self, error: BaseException) -> bool | float:
        # The end of a task comes by here, too.
        if not isinstance(error, Exception) or isinstance(error, VendorRefusal) or type(error) is MirrorError:
            return False
        if isinstance(error, VendorUnavailable | SecretUnavailable | StoreUnavailable | Busy):
            self.trouble = str(error)
            log.warning("mirror.failed", mirror=self.mirror.name, reason=str(error))
            return getattr(error, "pause", None) or True
        self.trouble = "internal error; the server's log says more"
        log.error("mirror.failed", mirror=self.mirror.name, exc_info=error)
        return True

    async def _beat(self) -> None:
        """Stay the owner, and tell what stands in the way."""
        while True:
            until = self._store.clock() + lease.SECONDS * SECOND
            with suppress(StoreUnavailable):
                if not await self._store.mirrors.keep(self.mirror.id, self._owner, until, self.trouble):
                    raise MirrorError("Another process follows this mirror now, or it was removed.")
            await asyncio.sleep(lease.BEAT_SECONDS)

    async def _note_what_is_gone(self) -> None:
        """Report, once, what the vendor deleted before it was asked for; how many calls those were nobody can tell."""
        first_shown = self.mirror.created - self._upstream.keeps + 2 * MARGIN
        gone = self.place.gaps(max(self.mirror.since, first_shown), self._work.earliest(self._began))
        for gap in gone:
            log.error("mirror.lost", mirror=self.mirror.name, since=gap.since, until=gap.until)
            days = range(gap.since // DAY, -(-gap.until // DAY))
            await self._store_window(Reading(gap, self._began, [], partial(_unknown, days)))

    async def _ask(self, vendor: Vendor, *, follow: bool) -> None:
        """Ask for one window after the other until nothing is left to ask for.

        A window that cannot be had keeps no other one waiting; a vendor that gives none at all is left alone.
        """
        while (window := await self._next(follow=follow)) is not None:
            try:
                await self._have(vendor, window)
                self._failures = 0
            except VendorUnavailable as error:
                self._failed[window] = error
                self._failures += 1
                if self._failures >= UNDER_WAY:
                    raise
            finally:
                async with self._changed:
                    self._busy.remove(window)
                    self._changed.notify_all()

    async def _have(self, vendor: Vendor, window: Window) -> None:
        read = self._store.clock()
        try:
            found = await self._upstream.fetch(vendor, self.mirror.user, window, self._work.at_most(window))
        except AnswerTooLong:
            if window.until - window.since <= NARROWEST:
                raise
            found = Found(1, None)
        await self._take(window, read, found)

    async def _next(self, *, follow: bool) -> Window | None:
        """The next window, which is busy then; None when there is no more, also of those that others are busy with."""
        async with self._changed:
            while True:
                now = self._store.clock()
                if follow and now - self._horizon >= self._every:
                    self._horizon = floor(now)
                window = self._work.next(self.place, [*self._busy, *self._failed], now, self._horizon)
                if window is not None:
                    self._busy.append(window)
                    return window
                if not self._busy:
                    return None
                await self._changed.wait()

    async def _take(self, window: Window, read: int, found: Found) -> None:
        self._work.learn(window, found.total, was_too_wide=found.records is None)
        if found.records is None:
            if window.until - window.since <= NARROWEST:
                raise VendorUnavailable("The vendor's list changes faster than it can be read.")
            return
        raws = found.records
        records = await asyncio.to_thread(lambda: [self._record(raw) for raw in raws])
        await self._store_window(Reading(window, read, records, partial(self._lost, records, read)))
        self.trouble = ""
        self._on_progress(self)

    def _record(self, raw: bytes) -> Record:
        part: Part | str
        try:
            part = self._upstream.read(raw, self._account, self._limits.max_depth)
        except RecordError as error:
            part = str(error)
        source = MIRROR + self.mirror.api
        return Record(account=self._account, source=source, raw=raw, read=part, origin=self.mirror.name)

    async def _store_window(self, reading: "Reading") -> None:
        """Keep *reading*, together with all that wait for the store by then."""
        self._waiting.append(reading)
        try:
            async with self._storing:
                if reading in self._waiting:
                    await self._store_waiting()
        finally:
            # What was not kept is to be read again.
            if reading in self._waiting:
                self._waiting.remove(reading)

    async def _store_waiting(self) -> None:
        """Keep the records of all readings that wait, and that their windows were read, in one transaction."""
        readings = list(self._waiting)
        place = self.place
        for reading in readings:
            place = place.cover(reading.window, reading.read, self.mirror.overlap)
        records = [record for reading in readings for record in reading.records]
        now = self._store.clock()

        def advance(outcomes: Sequence[Outcome]) -> Advance:
            calls = self.calls + len(records) - self._calls_before
            left = iter(outcomes)
            return Advance(
                mirror_id=self.mirror.id,
                owner=self._owner,
                owned_until=now + lease.SECONDS * SECOND,
                now=now,
                place=places.written(place),
                calls=len(records),
                speed=calls * SECOND / max(now - self._began, SECOND),
                losses=[lost for each in readings for lost in each.losses(list(islice(left, len(each.records))))],
            )

        outcomes = await self._store.load_mirrored(records, advance)
        self.place = place
        self.calls += len(records)
        self._waiting = [each for each in self._waiting if each not in readings]
        _count(MIRROR + self.mirror.api, outcomes)

    def _lost(self, records: Sequence[Record], read: int, outcomes: Sequence[Outcome]) -> Sequence[tuple[int, int]]:
        """How many calls came, by day, whose log the vendor deleted while it was followed."""
        keeps = self._upstream.keeps_log
        lost: Counter[int] = Counter()
        if keeps is not None:
            for record, outcome in zip(records, outcomes, strict=True):
                call = record.read.call if isinstance(record.read, Part) and not record.read.events else None
                if call is None or call.start is None or call.end is None or not outcome.is_new:
                    continue
                if self.mirror.created - keeps <= call.end < read - keeps:
                    lost[call.start // DAY] += 1
        for day, calls in lost.items():
            log.error("mirror.lost", mirror=self.mirror.name, since=day * DAY, calls=calls)
        return list(lost.items())


def vendor_of(
    mirror: Mirror,
    environment: Mapping[str, str],
    *,
    on_failure: Callable[[str], None] = lambda _: None,
) -> Vendor:
    """The vendor of *mirror*. Raises SecretUnavailable."""
    credentials = mirror.user, secret.read(mirror.secret, environment)
    return Vendor(mirror.name, mirror.url, credentials, mirror.rate, on_failure=on_failure)


def _unknown(days: range, _: Sequence[Outcome]) -> Sequence[tuple[int, int]]:
    return [(day, UNKNOWN) for day in days]


def _count(source: str, outcomes: Sequence[Outcome]) -> None:
    rejected = sum(outcome.refusal is not None for outcome in outcomes)
    repeated = sum(outcome.repeated for outcome in outcomes if outcome.refusal is None)
    INGESTED.labels(source, "rejected").inc(rejected)
    INGESTED.labels(source, "repeated").inc(repeated)
    INGESTED.labels(source, "accepted").inc(len(outcomes) - rejected - repeated)


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel *tasks* and wait until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
