"""How many calls are under way at once: exact, from their intervals, however long the period is.

``hour_peaks`` holds for each hour in which a call began or ended by how many the calls under way at once exceeded
those at its beginning. That depends on nothing but the instants of that hour, and how many there were at its beginning
is what began before less what ended before. A change of a call makes the peaks of the two hours unknown again; who
needs one before upkeep has found it out computes it.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from callhouse.model.instant import HOUR
from callhouse.store.by_end import IS_LONG, LONG
from callhouse.store.engine import Reader, Transaction
from callhouse.store.rollups import COMPLETE, INCOMPLETE, cut

SETTLED = 2
"""Hours that a peak is left unknown: much still changes."""

CHUNK = 10_000
"""Instants that upkeep looks at in one transaction, more or less."""

_STARTS = f"""
SELECT started FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND started >= :low AND started < :high AND started >= :shown
"""  # noqa: S608
_ENDS = f"""
SELECT ended FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND ended >= :low AND ended < :high AND +started >= :shown
"""  # noqa: S608
_UNDER_WAY = f"""
SELECT (
    SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE}
    AND started >= :early AND started < :at AND +ended >= :at AND +started >= :shown
) + (
    SELECT count(*) FROM calls WHERE account_id = :account_id AND {IS_LONG}
    AND ended >= :at AND +started < :early AND +started >= :shown
)
"""  # noqa: S608
# Calls that are no longer shown, though their ends lie in the window.
_HIDDEN = f"""
SELECT ended FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND ended >= :low AND ended < :near AND +started < :shown
"""  # noqa: S608
_HIDDEN_LONG = f"""
SELECT ended FROM calls WHERE account_id = :account_id AND {IS_LONG}
AND ended >= :far AND ended < :high AND +started < :shown
"""  # noqa: S608
_IN_PROGRESS = f"""
SELECT count(*) FROM calls WHERE account_id = :account_id AND {INCOMPLETE}
AND started >= :shown AND started <= :now AND ended IS NULL
"""  # noqa: S608
_BUCKETS = """
SELECT bucket, calls FROM {table} WHERE account_id = :account_id AND width = 1 AND bucket >= :low AND bucket < :high
"""
_PEAKS = "SELECT hour, peak FROM hour_peaks WHERE account_id = :account_id AND hour >= :low AND hour < :high"
_UNKNOWN = """
SELECT hour FROM hour_peaks WHERE account_id = :account_id AND peak IS NULL AND hour < :before
ORDER BY hour DESC LIMIT 200
"""
_SETTLE = "UPDATE hour_peaks SET peak = :peak WHERE account_id = :account_id AND hour = :hour"


class _Part(NamedTuple):
    """A part of the window: at its beginning *level* calls are under way, at most *peak* within it."""

    low: int
    high: int
    level: int
    peak: int


def now(reader: Reader, account_id: int, shown: int, at: int) -> int:
    """The calls under way at an instant, which is now: those in progress, and those whose end is told but to come."""
    in_progress = reader.rows(_IN_PROGRESS, {"account_id": account_id, "shown": shown, "now": at})[0][0]
    return int(in_progress) + _under_way(reader, account_id, shown, at + 1)


class Peak(NamedTuple):
    """The most calls under way at once, and the first instant of it in the busiest part of the window."""

    calls: int
    at: int


def peak(reader: Reader, shown_since: Mapping[int, int], since: int, until: int) -> Peak:
    """How many complete calls were under way at once at most in the window, and when.

    *shown_since* names the accounts, and from which start on their calls count.
    """
    if since >= until:
        return Peak(0, since)
    parts: defaultdict[tuple[int, int], list[tuple[int, _Part]]] = defaultdict(list)
    for account_id, shown in shown_since.items():
        for part in _parts(reader, account_id, shown, since, until):
            parts[part.low, part.high].append((account_id, part))
    # No part can have more at once than its accounts have by themselves, so most parts need not be looked at.
    bounds = sorted(((sum(part.peak for _, part in of), span) for span, of in parts.items()), reverse=True)
    best, busiest = 0, None
    for bound, span in bounds:
        if bound <= best:
            break
        of = parts[span]
        calls = bound
        if len(of) > 1:
            calls = sum(part.level for _, part in of) + highest(_changes_of(reader, shown_since, of, span), span[0])
        if calls > best:
            best, busiest = calls, span
    if busiest is None:
        return Peak(0, since)
    return Peak(best, _highest_at(_changes_of(reader, shown_since, parts[busiest], busiest), busiest[0]))


def _changes_of(
    reader: Reader, shown_since: Mapping[int, int], of: Iterable[tuple[int, _Part]], span: tuple[int, int]
) -> dict[int, int]:
    return _changes(reader, {account_id: shown_since[account_id] for account_id, _ in of}, *span)


def _highest_at(changes: Mapping[int, int], low: int) -> int:
    """The first instant from *low* on at which the calls under way are as many as highest says."""
    level, best, at = 0, None if low in changes else 0, low
    for instant, change in sorted(changes.items()):
        level += change
        if best is None or level > best:
            best, at = level, instant
    return at


def settle(tx: Transaction, account_id: int, at: int) -> int:
    """Find out some of an account's unknown peaks, newest first; how many, 0 when all are known that need to be."""
    settled: list[dict[str, int]] = []
    seen = 0
    for (hour,) in tx.rows(_UNKNOWN, {"account_id": account_id, "before": at // HOUR - SETTLED}):
        changes = _changes(tx, {account_id: 0}, hour * HOUR, (hour + 1) * HOUR)
        settled.append({"account_id": account_id, "hour": hour, "peak": highest(changes, hour * HOUR)})
        seen += len(changes)
        if seen >= CHUNK:
            break
    tx.each(_SETTLE, settled)
    return len(settled)


def of_hour(reader: Reader, account_id: int, hour: int) -> int:
    """What hour_peaks should hold for the hour."""
    return highest(_changes(reader, {account_id: 0}, hour * HOUR, (hour + 1) * HOUR), hour * HOUR)


def highest(changes: Mapping[int, int], low: int) -> int:
    """By how many the calls under way exceed at most those at *low*, given by how many they change at which instants
    from then on.
    """
    levels = list(accumulate(change for _, change in sorted(changes.items())))
    # What was at the beginning lasts up to the first change, if there is any time before that.
    return max(levels if low in changes else [0, *levels])


def _changes(reader: Reader, shown_since: Mapping[int, int], low: int, high: int) -> dict[int, int]:
    changes: defaultdict[int, int] = defaultdict(int)
    for account_id, shown in shown_since.items():
        window = {"account_id": account_id, "low": low, "high": high, "shown": shown}
        for (started,) in reader.rows(_STARTS, window):
            changes[started] += 1
        for (ended,) in reader.rows(_ENDS, window):
            changes[ended] -= 1
    return changes


def _parts(reader: Reader, account_id: int, shown: int, since: int, until: int) -> Iterable[_Part]:
    """The hours of the window and the parts of one at its ends, in order."""
    level = _under_way(reader, account_id, shown, since)
    spans = [
        (low * HOUR, high * HOUR, True) if width else (low, high, False) for width, low, high in cut(since, until, (1,))
    ]
    for low, high, is_whole in sorted(spans):
        if is_whole:
            level = yield from _hours(reader, account_id, shown, low, high, level)
        elif low < high:
            changes = _changes(reader, {account_id: shown}, low, high)
            yield _Part(low, high, level, level + highest(changes, low))
            level += sum(changes.values())


def _hours(reader: Reader, account_id: int, shown: int, low: int, high: int, level: int) -> Generator[_Part, None, int]:
    first, end = low // HOUR, high // HOUR
    bounds = {"account_id": account_id, "low": first, "high": end}
    began: dict[int, int] = dict(reader.rows(_BUCKETS.format(table="call_counts"), bounds))
    over: dict[int, int] = dict(reader.rows(_BUCKETS.format(table="end_counts"), bounds))
    peaks: dict[int, int | None] = dict(reader.rows(_PEAKS, bounds))
    # Not all that began or ended in these hours is shown.
    partly_hidden = {*range(first, min(shown // HOUR + 1, end)), *_hidden(reader, account_id, shown, low, high)}
    if not level:
        first = min({*began, *over}, default=end)
    for hour in range(first, end):
        known, change = peaks.get(hour, 0), began.get(hour, 0) - over.get(hour, 0)
        if known is None or hour in partly_hidden:
            changes = _changes(reader, {account_id: shown}, hour * HOUR, (hour + 1) * HOUR)
            known, change = highest(changes, hour * HOUR), sum(changes.values())
        yield _Part(hour * HOUR, (hour + 1) * HOUR, level, level + known)
        level += change
    return level


def _hidden(reader: Reader, account_id: int, shown: int, low: int, high: int) -> set[int]:
    """The hours in which calls end that are no longer shown."""
    if not shown:
        return set()
    near = min(max(low, shown + LONG), high)
    bounds = {"account_id": account_id, "low": low, "near": near, "far": near, "high": high, "shown": shown}
    rows = reader.rows(_HIDDEN, bounds) + reader.rows(_HIDDEN_LONG, bounds)
    return {ended // HOUR for (ended,) in rows}


def _under_way(reader: Reader, account_id: int, shown: int, at: int) -> int:
    """The complete calls that began before an instant and end then or later."""
    bounds = {"account_id": account_id, "shown": shown, "at": at, "early": at - LONG}
    return int(reader.rows(_UNDER_WAY, bounds)[0][0])
