"""Exact counts of complete calls for any window, and the way to any page, without reading the calls.

``call_counts`` holds how many complete calls of an account started in each hour, each day and each 32 days. It is
written in the transaction that writes the calls. A window is cut into the widest whole buckets that fit and the two
parts of an hour at its ends, which are counted on the index.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

from callhouse.model.instant import HOUR
from callhouse.store.engine import Reader, Transaction

WIDTHS = (1, 24, 768)
"""Bucket widths in hours; each divides the next."""

COMPLETE = "started IS NOT NULL AND ended IS NOT NULL"
"""The condition of the partial indexes, which a statement must repeat to use them."""

_ADD = """
INSERT INTO call_counts (account_id, width, bucket, calls) VALUES (:account_id, :width, :bucket, :calls)
ON CONFLICT (account_id, width, bucket) DO UPDATE SET calls = call_counts.calls + excluded.calls
"""

_FORGET_EMPTY = """
DELETE FROM call_counts WHERE account_id = :account_id AND width = :width AND bucket = :bucket AND calls = 0
"""

_COUNT_CALLS = f"""
(SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE} AND started >= :{{0}}a AND started < :{{0}}b)
"""  # noqa: S608

_COUNT_BUCKETS = """
(SELECT coalesce(sum(calls), 0) FROM call_counts
 WHERE account_id = :account_id AND width = {width} AND bucket >= :{name}a AND bucket < :{name}b)
"""

_BUCKETS_BEFORE = """
SELECT bucket, calls FROM call_counts
WHERE account_id = :account_id AND width = :width AND bucket < :before AND bucket >= :since ORDER BY bucket DESC
"""

_CALLS_IN = (
    f"SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE} AND started >= :a AND started < :b"  # noqa: S608
)

_SPANS = [(name, width) for width in WIDTHS for name in (f"left{width}", f"right{width}")]

_TOTAL = "SELECT " + " + ".join(
    [
        _COUNT_CALLS.format("left"),
        _COUNT_CALLS.format("right"),
        *(_COUNT_BUCKETS.format(name=name, width=width) for name, width in _SPANS),
    ]
)


def add(tx: Transaction, differences: Mapping[tuple[int, int], int]) -> None:
    """Add *differences* to the counts: by (account id, start in ms), how many calls came (or, negative, went)."""
    buckets: Counter[tuple[int, int, int]] = Counter()
    for (account_id, start), calls in differences.items():
        for width in WIDTHS:
            buckets[account_id, width, start // (width * HOUR)] += calls
    changed = [
        {"account_id": account_id, "width": width, "bucket": bucket, "calls": calls}
        for (account_id, width, bucket), calls in buckets.items()
        if calls
    ]
    tx.each(_ADD, changed)
    tx.each(_FORGET_EMPTY, (change for change in changed if change["calls"] < 0))


def total(reader: Reader, account_id: int, since: int, until: int) -> int:
    """How many complete calls of the account have ``since <= start < until``."""
    if since >= until:
        return 0
    parameters = {"account_id": account_id}
    for name, low, high in _cut(since, until):
        parameters[f"{name}a"] = low
        parameters[f"{name}b"] = high
    return int(reader.rows(_TOTAL, parameters)[0][0])


def _cut(since: int, until: int) -> Iterator[tuple[str, int, int]]:
    """The window's parts: calls by instant at the ends, buckets by number between; a part may be empty."""
    if since // HOUR == (until - 1) // HOUR:
        # Within one hour there is no whole bucket.
        yield "left", since, until
        yield "right", 0, 0
        low = high = 0
    else:
        low, high = -(-since // HOUR), until // HOUR
        yield "left", since, low * HOUR
        yield "right", high * HOUR, until
    for width, wider in zip(WIDTHS, (*WIDTHS[1:], None), strict=True):
        if wider is None:
            yield f"left{width}", low, high
            yield f"right{width}", 0, 0
            continue
        ratio = wider // width
        wider_low, wider_high = -(-low // ratio), high // ratio
        if wider_low >= wider_high:
            yield f"left{width}", low, high
            yield f"right{width}", 0, 0
            low = high = 0
        else:
            yield f"left{width}", low, wider_low * ratio
            yield f"right{width}", wider_high * ratio, high
            low, high = wider_low, wider_high


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
