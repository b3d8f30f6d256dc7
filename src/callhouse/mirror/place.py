"""What a mirror has got: which stretches of time it asked for, and when. Pure."""

from collections.abc import Iterable, Iterator

import msgspec

from callhouse.model.instant import SECOND
from callhouse.wire import Window

ALIKE = 4
"""Stretches are joined when the times at which they were read differ by less than this part of their age then."""

SHORTEST = 2 * SECOND
"""Stretches that are together no longer than this need not be told apart."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Of the time from *since* to *until* all is had that the vendor showed at *read*; in milliseconds."""

    since: int
    until: int
    read: int

    @property
    def lateness(self) -> int:
        """What came later than this was missed."""
        return max(0, self.read - self.until)


class Place(msgspec.Struct, frozen=True):
    """The stretches that were had, the oldest first; none overlap."""

    spans: tuple[Span, ...] = ()

    def gaps(self, since: int, until: int) -> list[Window]:
        """The windows between *since* and *until* that were never had, the oldest first."""
        found = []
        for span in self.spans:
            if since < min(span.since, until):
                found.append(Window(since, min(span.since, until)))
            since = max(since, span.until)
        if since < until:
            found.append(Window(since, until))
        return found

    def stale(self, now: int, every: int, overlap: int) -> list[Window]:
        """The windows to be asked for again at *now*: calls may have come or changed since.

        A window is due when it is twice as old as it was when it was read, *every* at least, until it was read when it
        was as old as *overlap*. So what came late is found when it is twice as late, in few readings.
        """
        due = [
            Window(span.since, span.until)
            for span in self.spans
            if span.lateness < overlap and now - span.until >= 2 * max(span.lateness, every)
        ]
        return list(_joined(due))

    def cover(self, window: Window, read: int, overlap: int) -> "Place":
        """This place once *window* was read too."""
        spans = [*self.forget(window).spans, *_parts(window, read, overlap)]
        return Place(tuple(_merged(sorted(spans, key=lambda span: span.since), overlap)))

    def forget(self, window: Window) -> "Place":
        """This place without *window*."""
        spans = []
        for span in self.spans:
            if span.since < min(window.since, span.until):
                spans.append(Span(span.since, min(window.since, span.until), span.read))
            if max(window.until, span.since) < span.until:
                spans.append(Span(max(window.until, span.since), span.until, span.read))
        return Place(tuple(spans))


def _parts(window: Window, read: int, overlap: int) -> Iterator[Span]:
    """*window* in parts none of which is much older at its beginning than at its end, so that it is not read again as
    often as its newest part is.
    """
    until = window.until
    while until > window.since:
        lateness = max(0, read - until)
        # On whole seconds, for a vendor is asked in no others.
        length = max(SHORTEST, lateness - lateness % SECOND)
        since = window.since if lateness >= overlap else max(window.since, until - length)
        yield Span(since, until, read)
        until = since


def _joined(windows: Iterable[Window]) -> Iterator[Window]:
    joined: Window | None = None
    for window in windows:
        if joined is not None and joined.until == window.since:
            joined = Window(joined.since, window.until)
            continue
        if joined is not None:
            yield joined
        joined = window
    if joined is not None:
        yield joined


def _merged(spans: Iterable[Span], overlap: int) -> Iterator[Span]:
    """*spans*, adjacent ones as one where that hardly changes when they are read again."""
    last: Span | None = None
    for span in spans:
        merged = None if last is None or last.until != span.since else _merge(last, span, overlap)
        if merged is None and last is not None:
            yield last
        last = span if merged is None else merged
    if last is not None:
        yield last


def _merge(older: Span, newer: Span, overlap: int) -> Span | None:
    if older.lateness >= overlap and newer.lateness >= overlap:
        # Neither is read again.
        return Span(older.since, newer.until, max(older.read, newer.read))
    read = min(older.read, newer.read)
    lateness = read - newer.until
    is_short = newer.until - older.since <= max(SHORTEST, lateness)
    if is_short and abs(older.read - newer.read) * ALIKE <= max(lateness, SHORTEST):
        return Span(older.since, newer.until, read)
    return None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[Span, ...]).decode


def written(place: Place) -> str:
    return _encode(place.spans).decode()


def parsed(text: str) -> Place:
    """The place that was written."""
    return Place(_decode(text))
