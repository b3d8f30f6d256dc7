"""What an account keeps, day by day."""

import msgspec

from callhouse.model.instant import DAY
from callhouse.store.engine import Reader

SAMPLED = 12
"""Moments of a day, equally far apart, from each of which on some logs are measured."""

_CALLS = """
SELECT bucket, calls FROM call_counts WHERE account_id = :account_id AND width = 24 AND bucket >= :first
"""
_LOGS = f"""
SELECT ended / {DAY} AS bucket, count(*) FROM logs WHERE account_id = :account_id AND ended >= :since GROUP BY bucket
"""  # noqa: S608
# The length of a blob is known without reading it.
_SAMPLE = """
SELECT length(document) FROM logs WHERE account_id = :account_id AND ended >= :since AND ended < :until
ORDER BY ended LIMIT 10
"""


class KeptDay(msgspec.Struct, frozen=True):
    """Of a *day* (its beginning in UTC, in milliseconds) the *calls* that began, the *logs* of those that ended, and
    how many bytes these take, compressed: estimated from some of them.
    """

    day: int
    calls: int
    logs: int
    bytes: int


def by_day(reader: Reader, account_id: int, first: int) -> list[KeptDay]:
    """The days from *first* on (whole days since 1970) of which something is kept, the latest first."""
    asked = {"account_id": account_id, "first": first, "since": first * DAY}
    calls: dict[int, int] = dict(reader.rows(_CALLS, asked))
    logs: dict[int, int] = dict(reader.rows(_LOGS, asked))
    return [
        KeptDay(day * DAY, calls.get(day, 0), logs.get(day, 0), logs.get(day, 0) * _average(reader, account_id, day))
        for day in sorted(calls.keys() | logs.keys(), reverse=True)
    ]


def _average(reader: Reader, account_id: int, day: int) -> int:
    """Bytes of a log of that day, from some of them."""
    part = DAY // SAMPLED
    sizes: list[int] = []
    for since in range(day * DAY, (day + 1) * DAY, part):
        found = reader.rows(_SAMPLE, {"account_id": account_id, "since": since, "until": since + part})
        sizes += [size for (size,) in found]
    return sum(sizes) // max(1, len(sizes))
