"""What a mirror is to ask for next, and how wide a window to take. Pure."""

from collections.abc import Sequence

from callhouse.mirror.place import Place
from callhouse.model.instant import MINUTE, SECOND
from callhouse.wire import Upstream, Window

MARGIN = MINUTE
"""What the vendor deletes within this time is not asked for: the window would be too old when the request arrives."""

URGENT = 10
"""What the vendor deletes within this part of the time that it keeps things for goes first."""

FULL = 70
"""How full of calls a window should be, in percent of what can be had at once."""

NARROWEST = SECOND
EVERYTHING = 1_000_000
"""More calls than that begin or end in no second."""


def floor(now: int) -> int:
    """The second that *now* is in; windows begin and end on seconds."""
    return now - now % SECOND


def halves_of(window: Window) -> list[Window]:
    """The two parts of *window*, which is longer than a second, the newer first."""
    middle = floor((window.since + window.until) // 2)
    return [Window(middle, window.until), Window(window.since, middle)]


class Work:
    """The windows of one account that are to be asked for, from *since* on."""

    def __init__(self, upstream: Upstream, since: int, overlap: int, every: int) -> None:
        self._upstream = upstream
        self._since = floor(since)
        self._overlap = overlap
        self._every = every
        self._width = upstream.longest

    def earliest(self, now: int) -> int:
        """The earliest instant that the vendor can be asked for."""
        return max(self._since, floor(now) - self._upstream.keeps + MARGIN)

    def next(self, place: Place, busy: Sequence[Window], now: int, horizon: int) -> Window | None:
        """The window before *horizon* that is to be asked for now, when those that are *busy* are being had.

        First what was added since the last time, then what the vendor deletes soon, the oldest first, then what may
        have changed, then the rest, the newest first.
        """
        for window in busy:
            place = place.cover(window, now, self._overlap)
        gaps = place.gaps(self.earliest(now), horizon)
        if gaps and gaps[-1].until == horizon and gaps[-1].since >= horizon - 10 * self._every:
            return self._newest(gaps[-1])
        for gap in gaps:
            if urgent := self._urgent(gap, now):
                return Window(urgent.since, min(urgent.until, urgent.since + self._width))
        earliest = self.earliest(now)
        stale = [
            Window(max(w.since, earliest), w.until)
            for w in place.stale(now, self._every, self._overlap)
            if w.until > earliest
        ]
        return self._newest((stale or gaps)[-1]) if stale or gaps else None

    def at_most(self, window: Window) -> int:
        """How many calls are had at once in *window*: one that cannot be narrower is had whatever they are."""
        return EVERYTHING if window.until - window.since <= NARROWEST else self._upstream.at_once

    def learn(self, window: Window, total: int, *, was_too_wide: bool) -> None:
        """Adapt the width of windows to a *window* that held so many calls."""
        length = window.until - window.since
        fitting = length * self._upstream.at_once * FULL // (100 * max(total, 1))
        if was_too_wide:
            width = min(self._width, fitting, length // 2)
        elif length * 2 >= self._width:
            width = min(4 * self._width, fitting if total else 4 * length)
        else:
            return
        self._width = min(self._upstream.longest, max(NARROWEST, floor(width)))

    def _newest(self, gap: Window) -> Window:
        return Window(max(gap.since, gap.until - self._width), gap.until)

    def _urgent(self, gap: Window, now: int) -> Window | None:
        """The part of *gap* of which something is deleted soon."""
        for keeps in (self._upstream.keeps_log, self._upstream.keeps):
            if keeps is not None:
                since = max(gap.since, floor(now) - keeps)
                until = min(gap.until, floor(now) - keeps + keeps // URGENT)
                if since < until:
                    return Window(since, until)
        return None
