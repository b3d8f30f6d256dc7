"""The period that a dashboard shows, and the one that it is compared with."""

from datetime import datetime, timedelta, tzinfo

import msgspec

from callhouse.console.filters import LAST, instant
from callhouse.errors import BadParameter
from callhouse.model.instant import DAY, SECOND, YEAR
from callhouse.model.week import local_time

PRESETS = {"today": "Today", "yesterday": "Yesterday", "24h": "24 hours", "7d": "7 days", "30d": "30 days",
           "90d": "90 days", "365d": "365 days"}  # fmt: skip
USUAL = "7d"
LONGEST = YEAR + DAY
"""A leap year is one."""

_LENGTHS = {**LAST, "90d": 90 * DAY}
_LATEST = 4_000_000_000 * SECOND


class Period(msgspec.Struct, frozen=True):
    """``since <= instant < until``, compared with ``before_since <= instant < before_until``; *preset*, if any, is the
    name of what made it.
    """

    since: int
    until: int
    before_since: int
    before_until: int
    preset: str


def parse(sent: dict[str, str], now: int, zone: tzinfo) -> Period:
    """The period that the parameters *last*, or *since* and *until*, ask for. Raises BadParameter."""
    # To the second, which is as exact as a field for dates is; the second that is running counts.
    now = (now // SECOND + 1) * SECOND
    since, until = sent.get("since", ""), sent.get("until", "")
    if since or until:
        return _range(since, until, now, zone)
    preset = sent.get("last") or USUAL
    if preset not in PRESETS:
        raise BadParameter("last", preset, "one of " + ", ".join(PRESETS))
    if preset in _LENGTHS:
        length = _LENGTHS[preset]
        return Period(now - length, now, now - 2 * length, now - length, preset)
    today, yesterday, the_day_before = (_midnight(now, days, zone) for days in range(3))
    if preset == "yesterday":
        return Period(yesterday, today, the_day_before, yesterday, preset)
    # So far, against as much of the day before.
    return Period(today, now, yesterday, min(yesterday + now - today, today), preset)


def _range(since: str, until: str, now: int, zone: tzinfo) -> Period:
    end = instant("until", until, zone, now)
    begin = instant("since", since, zone, end - 7 * DAY)
    if not 0 <= begin < _LATEST:
        raise BadParameter("since", since, "a time after 1970")
    if not begin < end <= begin + LONGEST:
        raise BadParameter("until", until, "a time after the beginning, and a year after it at most")
    return Period(begin, end, 2 * begin - end, begin, "")


def _midnight(now: int, days_ago: int, zone: tzinfo) -> int:
    day = local_time(now, zone).date() - timedelta(days=days_ago)
    return int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()) * SECOND
