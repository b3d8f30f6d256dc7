"""How many calls match a filter of the list, from the totals: as quick for a year as for an hour."""

from collections.abc import Callable, Sequence

from callhouse.model.browsing import COMPLETE, CallFilter
from callhouse.store import kinds, rollups, totals
from callhouse.store.engine import Reader

_WITH_ERRORS = """
SELECT count(DISTINCT session_id) FROM call_errors
WHERE account_id = :account_id AND started IS NOT NULL AND started >= :low AND started < :high
"""

Total = Callable[[int, int], int]
"""How many complete calls of a window match."""


def over(reader: Reader, asked: CallFilter, windows: Sequence[tuple[int, int]]) -> int | None:
    """How many calls that are over match *asked* and start in one of *windows*; None where the totals do not tell."""
    total = _total(reader, asked)
    return None if total is None else sum(total(low, high) for low, high in windows)


def _total(reader: Reader, asked: CallFilter) -> Total | None:
    if asked.search or asked.under_way is not None or asked.shortest is not None or asked.longest is not None:
        return None
    ways = {
        _of_kinds: _asks_for_kinds(asked),
        _of_number: asked.number is not None,
        _of_application: asked.application is not None,
        _of_step: asked.last_step is not None,
        _with_errors: asked.has_errors is not None,
    }
    taken = [way for way, is_asked in ways.items() if is_asked]
    if not taken:
        return lambda low, high: rollups.total(reader, asked.account_id, low, high)
    return taken[0](reader, asked) if len(taken) == 1 else None


def _every_status(asked: CallFilter) -> bool:
    return not asked.statuses or set(COMPLETE) <= set(asked.statuses)


def _asks_for_kinds(asked: CallFilter) -> bool:
    return bool(not _every_status(asked) or asked.directions or asked.cause_code is not None or asked.without_cause)


def _of_kinds(reader: Reader, asked: CallFilter) -> Total:
    every_status = _every_status(asked)

    def is_wanted(kind: int) -> bool:
        of = kinds.taken_apart(kind)
        return (
            (every_status or kinds.status_of(kind) in asked.statuses)
            and (not asked.directions or of.direction in asked.directions)
            and asked.cause_code in {None, of.cause}
            and not (asked.without_cause and of.cause is not None)
        )

    chosen = totals.chosen_kinds(reader, asked.account_id, is_wanted)
    return lambda low, high: totals.calls_of_kinds(reader, asked.account_id, chosen, low, high, rollups.START)


def _of_number(reader: Reader, asked: CallFilter) -> Total | None:
    number = asked.number
    if number is None or not totals.is_counted(reader, asked.account_id, number):
        return None
    return lambda low, high: totals.calls_of_number(reader, asked.account_id, number, low, high, either=True)


def _of_application(reader: Reader, asked: CallFilter) -> Total | None:
    application = asked.application
    if application is None:
        return None
    return lambda low, high: totals.calls_of_application(reader, asked.account_id, application, low, high)


def _of_step(reader: Reader, asked: CallFilter) -> Total | None:
    last_step = asked.last_step
    if last_step is None:
        return None
    return lambda low, high: totals.calls_of_step(reader, asked.account_id, *last_step, low, high)


def _with_errors(reader: Reader, asked: CallFilter) -> Total | None:
    if not asked.has_errors:
        return None

    def total(low: int, high: int) -> int:
        bounds = {"account_id": asked.account_id, "low": max(low, asked.errors_since), "high": high}
        return int(reader.rows(_WITH_ERRORS, bounds)[0][0])

    return total
