"""Hours of the week, as they stand on the clock of a time zone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

from callhouse.model.instant import DAY, HOUR, MINUTE, SECOND

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

QUARTER = 15 * MINUTE
"""What the hours of all zones are made of."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def local_time(instant: int, zone: tzinfo) -> datetime:
    """The wall-clock time of an instant."""
    return (_EPOCH + timedelta(milliseconds=instant)).astimezone(zone)


def utc_offset(instant: int, zone: tzinfo) -> int:
    """By how many milliseconds the wall clock is before UTC's."""
    offset = local_time(instant, zone).utcoffset()
    assert offset is not None
    return offset // timedelta(milliseconds=1)


def weekday(instant: int) -> int:
    """The day of the week in UTC; 0 is Monday."""
    return (instant // DAY + _EPOCH.weekday()) % 7


class WeekHour(msgspec.Struct, frozen=True):
    """All instants in *zone* on a *weekday* (0 is Monday) within an *hour* of the clock; None is any."""

    weekday: int | None
    hour: int | None
    zone: tzinfo

    def spans(self, since: int, until: int, *, newest_first: bool) -> Iterator[tuple[int, int]]:
        """Those of ``since <= instant < until`` as pairs of the first instant and the end, in order."""
        if since >= until:
            return
        first, last = (local_time(instant, self.zone).date() for instant in (since, until - 1))
        for n in range((last - first).days + 1):
            day = last - timedelta(days=n) if newest_first else first + timedelta(days=n)
            if self.weekday in {None, day.weekday()}:
                found = self._of_day(datetime(day.year, day.month, day.day, tzinfo=self.zone))
                cut = [(max(low, since), min(high, until)) for low, high in found if low < until and high > since]
                yield from reversed(cut) if newest_first else cut

    def _of_day(self, midnight: datetime) -> list[tuple[int, int]]:
        """The spans of one day, which has an hour twice, or lacks one, when the clocks are changed."""
        begin = int(midnight.timestamp()) * SECOND // HOUR * HOUR
        spans: list[tuple[int, int]] = []
        # The day's hours, and those that a change of the clocks may move into it.
        for at in range(begin - 2 * HOUR, begin + 27 * HOUR, QUARTER):
            local = local_time(at, self.zone)
            if local.date() != midnight.date() or self.hour not in {None, local.hour}:
                continue
            if spans and spans[-1][1] == at:
                spans[-1] = spans[-1][0], at + QUARTER
            else:
                spans.append((at, at + QUARTER))
        return spans
