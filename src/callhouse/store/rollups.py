"""Exact counts of complete calls for any window, and the way to any page, without reading the calls.

``call_counts`` holds how many complete calls of an account started in each hour, each day and each 32 days, and
``end_counts`` how many ended. They are written in the transaction that writes the calls. A window is cut into the
widest whole buckets that fit and the two parts of an hour at its ends, which are counted on the index.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from callhouse.model.instant import HOUR
from callhouse.store.engine import Reader, Transaction

WIDTHS = (1, 24, 768)
"""Bucket widths in hours; each divides the next."""

COMPLETE = "started IS NOT NULL AND ended IS NOT NULL"
INCOMPLETE = "(started IS NULL OR ended IS NULL)"
"""The conditions of the partial indexes, which a statement must repeat to use them."""


class Clock(NamedTuple):
    """What a window is of: the instants in *column*, which *table* counts."""

    column: str
    table: str


START = Clock("started", "call_counts")
END = Clock("ended", "end_counts")

_ADD = """
INSERT INTO {table} (account_id, width, bucket, calls) VALUES (:account_id, :width, :bucket, :calls)
ON CONFLICT (account_id, width, bucket) DO UPDATE SET calls = {table}.calls + excluded.calls
"""

_FORGET_EMPTY = """
DELETE FROM {table} WHERE account_id = :account_id AND width = :width AND bucket = :bucket AND calls = 0
"""

_COUNT_CALLS = (
    f"(SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE} "  # noqa: S608
    "AND {column} >= :a{n} AND {column} < :b{n})"
)
_COUNT_BUCKETS = (
    "(SELECT coalesce(sum(calls), 0) FROM {table} "
    "WHERE account_id = :account_id AND width = {width} AND bucket >= :a{n} AND bucket < :b{n})"
)

_BUCKETS_BEFORE = """
SELECT bucket, calls FROM call_counts
WHERE account_id = :account_id AND width = :width AND bucket < :before AND bucket >= :since ORDER BY bucket DESC
"""

_CALLS_IN = (
    f"SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE} AND started >= :a AND started < :b"  # noqa: S608
)


def add(tx: Transaction, differences: Mapping[tuple[int, int], int], clock: Clock = START) -> None:
    """Add *differences* to the counts: by (account id, instant in ms), how many calls came (or, negative, went)."""
    buckets: Counter[tuple[int, int, int]] = Counter()
    for (account_id, instant), calls in differences.items():
        for width in WIDTHS:
            buckets[account_id, width, instant // (width * HOUR)] += calls
    changed = [
        {"account_id": account_id, "width": width, "bucket": bucket, "calls": calls}
        for (account_id, width, bucket), calls in buckets.items()
        if calls
    ]
    tx.each(_ADD.format(table=clock.table), changed)
    tx.each(_FORGET_EMPTY.format(table=clock.table), (change for change in changed if change["calls"] < 0))


def total(reader: Reader, account_id: int, since: int, until: int) -> int:
    """How many complete calls of the account have ``since <= start < until``."""
    expression, bounds = total_expression(since, until)
    return int(reader.rows(f"SELECT {expression}", {"account_id": account_id, **bounds})[0][0])


def total_expression(since: int, until: int, clock: Clock = START) -> tuple[str, dict[str, int]]:
    """The same, by either clock, as an expression in SQL with its parameters; ``:account_id`` is left to the caller."""
    bounds: dict[str, int] = {}
    widths: list[int] = []
    for width, low, high in cut(since, until):
        if low < high:
            bounds[f"a{len(widths)}"] = low
            bounds[f"b{len(widths)}"] = high
            widths.append(width)
    return _sum_of_spans(tuple(widths), clock), bounds


@functools.cache
def _sum_of_spans(widths: tuple[int, ...], clock: Clock) -> str:
    terms = [
        (_COUNT_BUCKETS if width else _COUNT_CALLS).format(n=n, width=width, table=clock.table, column=clock.column)
        for n, width in enumerate(widths)
    ]
    return f"({' + '.join(terms)})" if terms else "0"


def cut(since: int, until: int, widths: Sequence[int] = WIDTHS) -> list[tuple[int, int, int]]:
    """The window's parts, some of them empty: (width, first, end) of buckets, or with width 0 of instants."""
    low, high = -(-since // HOUR), until // HOUR
    if low > high:
        return [(0, since, until)]
    spans = [(0, since, low * HOUR), (0, high * HOUR, until)]
    for width, wider in pairwise(widths):
        ratio = wider // width
        wider_low, wider_high = -(-low // ratio), high // ratio
        if wider_low >= wider_high:
            return [*spans, (width, low, high)]
        spans += [(width, low, wider_low * ratio), (width, wider_high * ratio, high)]
        low, high = wider_low, wider_high
    return [*spans, (widths[-1], low, high)]


def seek(reader: Reader, account_id: int, since: int, until: int, offset: int) -> tuple[int, int]:
    """Where the call stands that has *offset* newer ones in the window: *until* and *offset* of a shorter way to it.

    The two name the same call as those given, with less than an hour's calls to skip.
    """
    hour = until // HOUR * HOUR
    if hour < until:
        newest = max(hour, since)
        calls = reader.rows(_CALLS_IN, {"account_id": account_id, "a": newest, "b": until})[0][0]
        if calls > offset or newest == since:
            return until, offset
        until, offset = hour, offset - calls
    # Up to ever wider buckets while they can be skipped whole, then down into the one that cannot.
    for width, wider, up in ((1, 24, True), (24, 768, True), (768, None, True), (24, 768, False), (1, 24, False)):
        length = width * HOUR
        if until % length:
            continue
        low = -(-since // length)
        if wider is not None:
            reach = wider * HOUR
            low = max(low, (until // reach * reach if up else until - reach) // length)
        bounds = {"account_id": account_id, "width": width, "before": until // length, "since": low}
        for bucket, calls in reader.rows(_BUCKETS_BEFORE, bounds):
            if calls > offset:
                until = (bucket + 1) * length
                break
            until, offset = bucket * length, offset - calls
        else:
            until = min(until, low * length)
    return until, offset
