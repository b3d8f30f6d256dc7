"""The figures of a dashboard, from the totals: a year takes as long as a week, but for adding up its days."""

import functools
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from heapq import nlargest
from itertools import pairwise

import msgspec

from callhouse.model.account import Account
from callhouse.model.call import Direction
from callhouse.model.figures import CauseShare, Figures, Share, StepShare, Stretch, width_of
from callhouse.model.instant import DAY, HOUR, SECOND, time_zone
from callhouse.model.week import QUARTER, local_time, utc_offset, weekday
from callhouse.store import concurrency, totals
from callhouse.store.engine import Reader, Readers
from callhouse.store.kinds import Kind, taken_apart
from callhouse.store.rollups import COMPLETE, cut
from callhouse.store.totals import APPLICATION, DEST, ENDED, SRC, STARTED, STEP, Counted, Sums

LISTED = 20
"""Numbers, applications and steps that are shown."""

_NAMES_AT_ONCE = 500
_OWN_NUMBERS = "SELECT number FROM counted_numbers WHERE account_id = :account_id AND is_own = 1"
_SUMS = """
SELECT name, sum(calls), sum(talk), sum(billed) FROM totals
WHERE account_id = :account_id AND topic = :topic AND width = :width AND name IN ({names})
AND bucket >= :low AND bucket < :high GROUP BY name
"""
_QUARTERS = """
SELECT name, bucket, calls FROM totals
WHERE account_id = :account_id AND topic = :topic AND width = 1 AND name IN ('0', '1', '2', '3')
AND bucket >= :low AND bucket < :high
"""
_EDGE = f"""
SELECT {totals.COLUMNS} FROM calls WHERE account_id = :account_id AND {COMPLETE} AND started >= :low AND started < :high
"""  # noqa: S608
_ERRORS = """
SELECT count(*), count(DISTINCT session_id) FROM call_errors
WHERE account_id = :account_id AND started IS NOT NULL AND started >= :low AND started < :high
"""


class _Sums(defaultdict[tuple[int, str], Sums]):
    """Sums by topic and name."""

    def __init__(self) -> None:
        super().__init__(lambda: [0, 0, 0])

    def add(self, topic: int, name: str, more: Iterable[int]) -> None:
        found = self[topic, name]
        for place, value in enumerate(more):
            found[place] += value

    def of(self, topic: int) -> dict[str, Sums]:
        return {name: sums for (of, name), sums in self.items() if of == topic and sums[0]}


class FigureReader:
    """What the calls of a period come to."""

    def __init__(self, readers: Readers, clock: Callable[[], int]) -> None:
        self._readers = readers
        self._clock = clock

    async def of(self, accounts: Sequence[Account], since: int, until: int, timezone: str) -> Figures:
        """The figures of all *accounts* together, for ``since <= start < until``; *timezone* is an IANA name."""
        zone, now = time_zone(timezone), self._clock()
        return await self._readers.read(lambda reader: figures(reader, accounts, since, until, zone, now))

    async def compared(
        self,
        accounts: Sequence[Account],
        since: int,
        until: int,
        timezone: str,
        *,
        before: tuple[int, int] | None = None,
    ) -> tuple[Figures, Figures]:
        """The figures of a period, and of another *before* it, or else the one of the same length that leads up to it.

        Lists of the latter name all that there is.
        """
        zone, now = time_zone(timezone), self._clock()
        low, high = before or (since - (until - since), since)

        def work(reader: Reader) -> tuple[Figures, Figures]:
            return (
                figures(reader, accounts, since, until, zone, now),
                figures(reader, accounts, low, high, zone, now, listed=None),
            )

        return await self._readers.read(work)


def figures(
    reader: Reader,
    accounts: Sequence[Account],
    since: int,
    until: int,
    zone: tzinfo,
    now: int,
    *,
    listed: int | None = LISTED,
) -> Figures:
    """The figures of one snapshot; lists hold what has the most calls, *listed* of them."""
    shown_since = {account.id: account.retention.calls_since(now) for account in accounts}
    sums = _Sums()
    quarters: Counter[int] = Counter()
    errors = calls_with_errors = 0
    for account in accounts:
        _add_up(reader, account.id, max(since, shown_since[account.id]), until, sums, quarters)
        shown = max(since, account.retention.sessions_since(now))
        found = reader.rows(_ERRORS, {"account_id": account.id, "low": shown, "high": until})[0]
        errors, calls_with_errors = errors + found[0], calls_with_errors + found[1]
    peak = concurrency.peak(reader, shown_since, since, until)
    by_kind = [(taken_apart(int(kind)), of) for kind, of in sums.of(STARTED).items()]
    answered = [of for kind, of in by_kind if kind.answered]
    return Figures(
        since=since,
        until=until,
        calls=sum(of[0] for _, of in by_kind),
        answered=sum(of[0] for of in answered),
        talk=sum(of[1] for of in answered),
        billed=sum(of[2] for _, of in by_kind),
        directions=_directions(by_kind),
        causes=_causes(by_kind),
        heat=_heat(quarters, zone),
        course=_course(quarters, since, until, zone),
        peak=peak.calls,
        peak_at=peak.at,
        now=sum(concurrency.now(reader, account_id, shown, now) for account_id, shown in shown_since.items()),
        numbers=_most(_numbers(sums), listed),
        applications=_most({name: of for name, of in sums.of(APPLICATION).items() if name}, listed),
        steps=_steps(sums.of(STEP), listed),
        errors=errors,
        calls_with_errors=calls_with_errors,
    )


def _add_up(reader: Reader, account_id: int, since: int, until: int, sums: _Sums, quarters: Counter[int]) -> None:
    """Add what an account's calls of the window come to; *quarters* are the calls by quarter of an hour since 1970."""
    if since >= until:
        return
    own = [number for (number,) in reader.rows(_OWN_NUMBERS, {"account_id": account_id})]
    named = {topic: totals.names(reader, account_id, topic) for topic in (STARTED, APPLICATION, STEP)}
    named |= {DEST: own, SRC: own}
    edges = totals.Totals()
    for width, low, high in cut(since, until, totals.WIDTHS):
        bounds = {"account_id": account_id, "low": low, "high": high}
        if width == 0:
            calls = (Counted(*row) for row in reader.rows(_EDGE, bounds))
            totals.gather(edges, calls, set(own))
            continue
        for topic, names in named.items():
            for name, *more in _summed(reader, {**bounds, "topic": topic, "width": width}, names):
                sums.add(topic, name, more)
    low, high = -(-since // HOUR), until // HOUR
    found = reader.rows(_QUARTERS, {"account_id": account_id, "topic": totals.QUARTER, "low": low, "high": high})
    for quarter, hour, calls in found:
        quarters[hour * 4 + int(quarter)] += calls
    for (topic, name, hour), more in edges.items():
        if topic == totals.QUARTER:
            quarters[hour * 4 + int(name)] += more[0]
        elif topic != ENDED:
            sums.add(topic, name, more)


def _summed(reader: Reader, bounds: Mapping[str, int], names: Sequence[str]) -> Iterable[tuple[str, int, int, int]]:
    for at in range(0, len(names), _NAMES_AT_ONCE):
        given = {f"name{n}": name for n, name in enumerate(names[at : at + _NAMES_AT_ONCE])}
        sql = _SUMS.format(names=", ".join(f":{name}" for name in given))
        for name, *sums in reader.rows(sql, {**bounds, **given}):
            # PostgreSQL adds up in another type.
            calls, talk, billed = map(int, sums)
            yield name, calls, talk, billed


def _directions(by_kind: Iterable[tuple[Kind, Sums]]) -> dict[Direction, int]:
    calls: Counter[Direction] = Counter()
    for kind, sums in by_kind:
        calls[kind.direction] += sums[0]
    return dict(calls.most_common())


def _causes(by_kind: Iterable[tuple[Kind, Sums]]) -> list[CauseShare]:
    calls: Counter[int | None] = Counter()
    for kind, sums in by_kind:
        calls[kind.cause] += sums[0]
    return [CauseShare(code, count) for code, count in calls.most_common()]


def _heat(quarters: Mapping[int, int], zone: tzinfo) -> list[list[int]]:
    """The calls by weekday and hour of the zone, which is off by whole quarters of an hour wherever people live."""
    offset = functools.cache(lambda instant: utc_offset(instant, zone))
    heat = [[0] * 24 for _ in range(7)]
    for quarter, calls in quarters.items():
        instant = quarter * QUARTER
        midnight = instant - instant % DAY
        # A year has 35,000 quarters, and on most days the clocks are not changed.
        local = instant + offset(midnight if offset(midnight) == offset(midnight + DAY) else instant)
        heat[weekday(local)][local % DAY // HOUR] += calls
    return heat


def _course(quarters: Mapping[int, int], since: int, until: int, zone: tzinfo) -> list[Stretch]:
    """The calls by hour, day or week, the first and the last as far as the period goes."""
    if since >= until:
        return []
    bounds = [since, *_turns(since, until, zone), until]
    calls = [0] * (len(bounds) - 1)
    for quarter, count in quarters.items():
        # A quarter that the period begins in begins before it.
        calls[bisect_right(bounds, max(quarter * QUARTER, since)) - 1] += count
    return [Stretch(*span, count) for span, count in zip(pairwise(bounds), calls, strict=True)]


def _turns(since: int, until: int, zone: tzinfo) -> Iterator[int]:
    """When the hours, days or weeks of the zone begin within the period."""
    width = width_of(until - since)
    if width == "hour":
        turn = since // HOUR * HOUR
        while (turn := turn + QUARTER) < until:
            if local_time(turn, zone).minute == 0 and turn > since:
                yield turn
        return
    day = local_time(since, zone).date()
    while (turn := int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND) < until:
        if turn > since and (width == "day" or day.weekday() == 0):
            yield turn
        day += timedelta(days=1)


def _numbers(sums: _Sums) -> dict[str, Sums]:
    """The calls of the account's own numbers, on either side."""
    both = _Sums()
    for topic in (DEST, SRC):
        for number, of in sums.of(topic).items():
            both.add(DEST, number, of)
    return both.of(DEST)


def _most(sums: Mapping[str, Sums], listed: int | None) -> list[Share]:
    return [Share(name, calls, talk) for name, (calls, talk, _) in _largest(sums, listed)]


def _steps(sums: Mapping[str, Sums], listed: int | None) -> list[StepShare]:
    most = _largest(sums, listed)
    return [StepShare(*msgspec.json.decode(name, type=tuple[str, str, str]), of[0]) for name, of in most]


def _largest(sums: Mapping[str, Sums], listed: int | None) -> list[tuple[str, Sums]]:
    return nlargest(len(sums) if listed is None else listed, sums.items(), key=lambda item: (item[1][0], item[0]))
