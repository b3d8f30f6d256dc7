"""What a mirror read goes into the store together with how far it has come, many windows at once."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from callhouse.mirror import lease
from callhouse.mirror import place as places
from callhouse.model.instant import DAY, SECOND
from callhouse.model.record import Outcome, Part, Record
from callhouse.observability import INGESTED, log
from callhouse.store import Store
from callhouse.store.mirrors import UNKNOWN, Advance, Mirror
from callhouse.store.origins import MIRROR
from callhouse.wire import Window


@dataclass(frozen=True, eq=False)
class Reading:
    """The *records* that a *window* held when it was *read*, or None where it is gone; *losses* tells from their
    outcomes what of which day, and of how many calls, was lost.
    """

    window: Window
    read: int
    records: Sequence[Record] | None
    losses: Callable[[Sequence[Outcome]], Sequence[tuple[int, int]]]


class Storing:
    """Keeps what *mirror* has read, as its *owner*; *place* is how far that is, *calls* how many calls came.

    Every method raises MirrorError when the mirror has another owner by now, and StoreUnavailable.
    """

    def __init__(self, store: Store, mirror: Mirror, owner: str, keeps_log: int | None) -> None:
        self.place = places.parsed(mirror.place)
        self.calls = 0
        self._store = store
        self._mirror = mirror
        self._owner = owner
        self._keeps_log = keeps_log
        self._storing = asyncio.Lock()
        self._waiting: list[Reading] = []
        self._began = store.clock()
        self._calls_before = 0

    def begin(self) -> None:
        """Measure the speed from now on."""
        self._began = self._store.clock()
        self._calls_before = self.calls

    async def reopen(self) -> None:
        """Go back to ask again for what somebody wants to be asked for again."""
        async with self._storing:
            place = await self._store.mirrors.reopen(self._mirror.id, self._owner, self._without)
            if place is not None:
                self.place = places.parsed(place)

    def _without(self, windows: Sequence[tuple[int, int]]) -> str:
        place = self.place
        for since, until in windows:
            place = place.forget(Window(since, until))
        return places.written(place)

    async def keep(self, window: Window, read: int, records: Sequence[Record]) -> None:
        """Keep the *records* that *window* held when it was *read*."""
        await self._keep(Reading(window, read, records, partial(self._logs_lost, records, read)))

    async def note_gone(self, gap: Window) -> None:
        """Report what the vendor deleted before it was asked for; how many calls those were nobody can tell."""
        log.error("mirror.lost", mirror=self._mirror.name, since=gap.since, until=gap.until)
        losses = [(day, UNKNOWN) for day in range(gap.since // DAY, -(-gap.until // DAY))]
        await self._keep(Reading(gap, self._store.clock(), None, lambda _: losses))

    async def _keep(self, reading: Reading) -> None:
        """Keep *reading*, together with all that wait for the store by then."""
        self._waiting.append(reading)
        try:
            async with self._storing:
                if reading in self._waiting:
                    await self._keep_waiting()
        finally:
            # What was not kept is to be read again.
            if reading in self._waiting:
                self._waiting.remove(reading)

    async def _keep_waiting(self) -> None:
        """Keep the records of all readings that wait, and that their windows were read, in one transaction."""
        readings = list(self._waiting)
        place = self.place
        for reading in readings:
            place = place.cover(reading.window, reading.read, self._mirror.overlap)
        told = [reading.records for reading in readings if reading.records is not None]
        records = [record for each in told for record in each]
        now = self._store.clock()

        def advance(outcomes: Sequence[Outcome]) -> Advance:
            calls = self.calls + len(records) - self._calls_before
            left = iter(outcomes)
            return Advance(
                mirror_id=self._mirror.id,
                owner=self._owner,
                owned_until=now + lease.SECONDS * SECOND,
                succeeded=now if told else None,
                place=places.written(place),
                calls=len(records),
                speed=calls * SECOND / max(now - self._began, SECOND),
                losses=[lost for each in readings for lost in each.losses(list(islice(left, len(each.records or ()))))],
            )

        outcomes = await self._store.load_mirrored(records, advance)
        self.place = place
        self.calls += len(records)
        self._waiting = [each for each in self._waiting if each not in readings]
        _count(MIRROR + self._mirror.api, outcomes)

    def _logs_lost(
        self, records: Sequence[Record], read: int, outcomes: Sequence[Outcome]
    ) -> Sequence[tuple[int, int]]:
        """How many calls came, by day, whose log the vendor deleted while it was followed."""
        keeps = self._keeps_log
        lost: Counter[int] = Counter()
        if keeps is not None:
            for record, outcome in zip(records, outcomes, strict=True):
                call = record.read.call if isinstance(record.read, Part) and not record.read.events else None
                if call is None or call.start is None or call.end is None or not outcome.is_new:
                    continue
                if self._mirror.created - keeps <= call.end < read - keeps:
                    lost[call.start // DAY] += 1
        for day, calls in lost.items():
            log.error("mirror.lost", mirror=self._mirror.name, since=day * DAY, calls=calls)
        return list(lost.items())


def _count(source: str, outcomes: Sequence[Outcome]) -> None:
    rejected = sum(outcome.refusal is not None for outcome in outcomes)
    repeated = sum(outcome.repeated for outcome in outcomes if outcome.refusal is None)
    INGESTED.labels(source, "rejected").inc(rejected)
    INGESTED.labels(source, "repeated").inc(repeated)
    INGESTED.labels(source, "accepted").inc(len(outcomes) - rejected - repeated)
