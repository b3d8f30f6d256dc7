"""The loop over one account at a vendor: what to ask for, ask, hand on to be stored."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import stamina

from callhouse.errors import (
    AnswerFailed,
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
from callhouse.mirror.failures import FIRST_PAUSE, LONGEST_PAUSE, Failures
from callhouse.mirror.place import Place
from callhouse.mirror.storing import Storing
from callhouse.mirror.vendor import Vendor
from callhouse.mirror.work import EVERYTHING, MARGIN, NARROWEST, Work, floor, halves_of
from callhouse.model import halves
from callhouse.model.account import Account
from callhouse.model.instant import MINUTE, SECOND
from callhouse.model.record import Part, Record
from callhouse.observability import log
from callhouse.store import Store
from callhouse.store.mirrors import Mirror
from callhouse.store.origins import MIRROR
from callhouse.wire import Ask, Found, Upstream, Window

UNDER_WAY = 8
"""Windows that are asked for, or wait to be stored, at once."""

JITTER = 2.0

FEW = 2
"""How often a request for a part of a window is made, where the whole was asked for as often as any."""

MOST_PARTED = 64
"""Windows that are parted within SEEN_TO; one call of a year that cannot be had takes 25."""

SEEN_TO = MINUTE
"""How often the secret is read, and what was lost is told; in milliseconds."""


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
        self._failures = Failures()
        self._in_a_row = 0
        self._had = 0
        self._parted = 0
        self._seen_to = 0
        self._changed = asyncio.Condition()
        self._storing = Storing(store, mirror, owner, upstream.keeps_log)
        self._horizon = 0

    @property
    def place(self) -> Place:
        """How far it has come."""
        return self._storing.place

    @property
    def calls(self) -> int:
        """How many calls it had."""
        return self._storing.calls

    async def run(self) -> None:
        """Follow the account, through failures of the vendor and the store; never returns."""
        await self._as_owner(self._follow())

    async def once(self) -> None:
        """Have all that is to be had now."""
        try:
            await self._as_owner(self._pass(follow=False))
        except (VendorUnavailable, SecretUnavailable) as error:
            self.trouble = str(error)
            raise

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
        self._storing.begin()
        self._seen_to = self._store.clock()
        self._horizon = floor(self._seen_to)
        self._in_a_row = self._had = self._parted = 0
        await self._reopen()
        await self._note_what_is_gone()
        async with await self.vendor() as vendor:
            workers = [asyncio.create_task(self._ask(vendor, follow=follow)) for _ in range(UNDER_WAY)]
            try:
                await asyncio.gather(*workers)
            except VendorUnavailable:
                self._failures.end_pauses()
                raise
            finally:
                await _ended(workers)
        self.trouble = str(self._failures)
        if not self._failures:
            await self._store.mirrors.succeed(self.mirror.id, self._owner)
        elif not (follow and self._had):
            self._failures.end_pauses()
            raise VendorUnavailable(self.trouble, pause=self._failures.pause)

    async def vendor(self) -> Vendor:
        """The vendor of this mirror. Raises SecretUnavailable."""
        return await vendor_of(self.mirror, self._environment, on_failure=self._note)

    async def _see_to(self, vendor: Vendor) -> None:
        """What is due now and then, however long a pass takes."""
        now = self._store.clock()
        if now - self._seen_to >= SEEN_TO:
            self._seen_to = now
            self._parted = 0
            vendor.credentials = await credentials_of(self.mirror, self._environment)
            await self._note_what_is_gone()

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
                await self._reopen()
            await asyncio.sleep(lease.BEAT_SECONDS)

    async def _reopen(self) -> None:
        """Go back to ask again for what somebody wants to be asked for again."""
        await self._storing.reopen()
        async with self._changed:
            self._changed.notify_all()

    async def _note_what_is_gone(self) -> None:
        """Report, once, what the vendor deleted before it was asked for; how many calls those were nobody can tell."""
        first_shown = self.mirror.created - self._upstream.keeps + 2 * MARGIN
        now = self._store.clock()
        gone = self.place.gaps(max(floor(self.mirror.since), floor(first_shown)), self._work.earliest(now))
        for gap in gone:
            await self._storing.note_gone(gap)

    async def _ask(self, vendor: Vendor, *, follow: bool) -> None:
        """Ask for one window after the other until nothing is left to ask for."""
        while (window := await self._next(follow=follow)) is not None:
            try:
                await self._see_to(vendor)
                await self._have_what_can_be_had(vendor, vendor, window)
            finally:
                async with self._changed:
                    self._busy.remove(window)
                    self._changed.notify_all()

    async def _have_what_can_be_had(self, vendor: Vendor, ask: Ask, window: Window) -> None:
        """Have *window*, or of one that the vendor fails at while it answers others, the parts that can be had.

        What cannot be had keeps nothing else waiting; a vendor that gives nothing at all is left alone.
        """
        try:
            await self._have(ask, window)
            self._in_a_row = 0
            self._had += 1
        except AnswerFailed as error:
            few = partial(vendor, attempts=FEW)
            if not await self._answers_others(few):
                self._fail(window, error)
                return
            self._in_a_row = 0
            if window.until - window.since <= NARROWEST or self._parted >= MOST_PARTED:
                self._leave(window, error)
                return
            self._parted += 1
            for part in halves_of(window):
                await self._have_what_can_be_had(vendor, few, part)
        except VendorUnavailable as error:
            self._fail(window, error)

    async def _answers_others(self, ask: Ask) -> bool:
        """Whether the vendor tells of the last second; if not, it is not for the window that it fails."""
        try:
            last = Window(self._horizon - NARROWEST, self._horizon)
            await self._upstream.fetch(ask, self.mirror.user, last, EVERYTHING)
        except VendorUnavailable:
            return False
        return True

    def _fail(self, window: Window, error: VendorUnavailable) -> None:
        """Leave *window* for later. Raises *error* when the vendor answers to nothing."""
        self._leave(window, error)
        self._in_a_row += 1
        if self._in_a_row >= UNDER_WAY:
            raise error

    def _leave(self, window: Window, error: VendorUnavailable) -> None:
        """Leave *window* for later, the longer the more often it failed."""
        self._failures.leave(window, error, self._store.clock())
        self.trouble = str(self._failures)

    async def _have(self, ask: Ask, window: Window) -> None:
        read = self._store.clock()
        try:
            found = await self._upstream.fetch(ask, self.mirror.user, window, self._work.at_most(window))
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
                left = self._failures.waiting(now) if follow else self._failures.windows
                window = self._work.next(self.place, [*self._busy, *left], now, self._horizon)
                if window is not None:
                    self._busy.append(window)
                    return window
                if not self._busy:
                    return None
                # What others are busy with may take long, and what is new does not wait for it.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._every / SECOND if follow else None):
                        await self._changed.wait()

    async def _take(self, window: Window, read: int, found: Found) -> None:
        self._work.learn(window, found.total, was_too_wide=found.records is None)
        if found.records is None:
            if window.until - window.since <= NARROWEST:
                raise VendorUnavailable("The vendor's list changes faster than it can be read.")
            return
        raws = found.records
        records = await asyncio.to_thread(lambda: [self._record(raw) for raw in raws])
        if any(self._is_outside(record, window) for record in records):
            told = "The vendor tells of calls outside the window that it was asked for."
            raise AnswerFailed(told, is_worth_repeating=False)
        await self._storing.keep(window, read, records)
        self._failures.forget(window)
        self.trouble = str(self._failures)
        self._on_progress(self)

    def _record(self, raw: bytes) -> Record:
        part: Part | str
        try:
            part = self._upstream.read(raw, self._account, self._limits.max_depth)
        except RecordError as error:
            part = "holds half a surrogate pair" if halves.are_in(raw) else str(error)
        except Exception as error:  # noqa: BLE001 — whatever the vendor said there, it keeps no other call away
            log.error("mirror.record_failed", mirror=self.mirror.name, exc_info=error)
            part = "cannot be read: internal error; the server's log says more"
        source = MIRROR + self.mirror.api
        return Record(account=self._account, source=source, raw=raw, read=part, origin=self.mirror.name)

    def _is_outside(self, record: Record, window: Window) -> bool:
        call = record.read.call if isinstance(record.read, Part) else None
        if call is None:
            return False
        instant = call.start if self._upstream.clock == "start" else call.end
        slack = self._upstream.slack
        return instant is not None and not window.since - slack <= instant < window.until + slack


async def credentials_of(mirror: Mirror, environment: Mapping[str, str]) -> tuple[str, str]:
    """The name of the user of *mirror*, and the secret. Raises SecretUnavailable."""
    return mirror.user, await secret.obtain(mirror.secret, environment)


async def vendor_of(
    mirror: Mirror,
    environment: Mapping[str, str],
    *,
    on_failure: Callable[[str], None] = lambda _: None,
) -> Vendor:
    """The vendor of *mirror*. Raises SecretUnavailable."""
    credentials = await credentials_of(mirror, environment)
    return Vendor(mirror.name, mirror.url, credentials, mirror.rate, on_failure=on_failure)


async def _ended(tasks: Sequence["asyncio.Task[None]"]) -> None:
    """Cancel *tasks* and wait until they are over."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
