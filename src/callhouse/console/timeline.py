"""A call drawn to scale: its legs as lanes, and on its own lane what happened, by class.

Lengths are in parts of WIDTH, which a page stretches to whatever is there.
"""

from collections.abc import Sequence

import msgspec

from callhouse.console import words
from callhouse.model.browsing import ListedCall
from callhouse.model.event import EVENT_CLASSES, Event, EventClass
from callhouse.model.instant import HOUR, MINUTE, SECOND

WIDTH = 1_000
MOST_LANES = 12
MOST_MARKS = 400
"""Events that the timeline itself knows the words of; of more than that a page asks for the one that is pointed at."""

MOST_TEXT = 120

_STEPS = tuple(
    unit * n
    for unit, numbers in (
        (SECOND, (1, 2, 5, 10, 15, 30)),
        (MINUTE, (1, 2, 5, 10, 15, 30)),
        (HOUR, (1, 2, 3, 6, 12, 24)),
    )
    for n in numbers
)
_FEWEST_LABELS = 4


class Bar(msgspec.Struct, frozen=True):
    """*kind* is ``ring``, ``talk`` or, on a leg that a transfer made, ``transfer``."""

    kind: str
    left: float
    width: float
    said: str


class Lane(msgspec.Struct, frozen=True):
    call: ListedCall
    is_own: bool
    bars: list[Bar]


class Ticks(msgspec.Struct, frozen=True):
    """The events of one class, as the path of an SVG; *row* is the height at which they are drawn."""

    class_: EventClass
    path: str
    row: int
    count: int


class Mark(msgspec.Struct, frozen=True):
    """An event: where it is, and what it says."""

    at: float
    text: str


class Label(msgspec.Struct, frozen=True):
    percent: float
    text: str


class Timeline(msgspec.Struct, frozen=True):
    """From *since* to *until*, in milliseconds; *more* lanes are left out."""

    since: int
    until: int
    lanes: list[Lane]
    more: int
    ticks: list[Ticks]
    marks: bytes
    labels: list[Label]


def draw(call: ListedCall, legs: Sequence[ListedCall], events: Sequence[Event], now: int) -> Timeline | None:
    """The timeline of *call*, one of *legs*; None of a call that has not begun."""
    if call.start is None:
        return None
    instants = [call.start, *(event.timestamp for event in events[:1]), *(event.timestamp for event in events[-1:])]
    for leg in legs:
        if leg.start is not None:
            instants += [leg.start, leg.end or max(now, leg.start)]
    since, until = min(instants), max(instants)
    until = max(until, since + SECOND)
    scale = WIDTH / (until - since)
    shown = _nearest(call, legs)
    lanes = [Lane(leg, leg.id == call.id, _bars(leg, since, scale, now)) for leg in shown]
    marks = [_mark(event, call.start, since, scale) for event in events] if len(events) <= MOST_MARKS else []
    return Timeline(
        since=since,
        until=until,
        lanes=lanes,
        more=len(legs) - len(shown),
        ticks=_ticks(events, since, scale),
        marks=msgspec.json.encode(marks),
        labels=_labels(until - since, call.start - since),
    )


def _nearest(call: ListedCall, legs: Sequence[ListedCall]) -> list[ListedCall]:
    """The first legs, and the call itself whichever it is."""
    begun = [leg for leg in legs if leg.start is not None]
    first = begun[:MOST_LANES]
    return first if any(leg.id == call.id for leg in first) else [*first[:-1], call]


def _bars(leg: ListedCall, since: int, scale: float, now: int) -> list[Bar]:
    assert leg.start is not None
    end = leg.end or max(now, leg.start)
    answer = leg.answer
    if answer is None and leg.status == "answered":
        answer = end - leg.duration if leg.duration else leg.start
    parts = [("ring", leg.start, end if answer is None else answer)]
    talk = "transfer" if leg.direction == "transfer" else "talk"
    parts += [] if answer is None else [(talk, answer, end)]
    said = {"ring": "rang", "talk": "talked", "transfer": "talked after a transfer"}
    return [
        Bar(kind, (low - since) * scale, max(2.0, (high - low) * scale), f"{said[kind]} {words.spoken(high - low)}")
        for kind, low, high in parts
        if high > low
    ]


def _ticks(events: Sequence[Event], since: int, scale: float) -> list[Ticks]:
    drawn = []
    for row, class_ in enumerate(EVENT_CLASSES):
        places = [round((event.timestamp - since) * scale) for event in events if event.class_ == class_]
        path = "".join(f"M{place} {row * 5}v4" for place in sorted(set(places)))
        drawn.append(Ticks(class_, path, row, len(places)))
    return drawn


def _mark(event: Event, start: int, since: int, scale: float) -> Mark:
    return Mark(round((event.timestamp - since) * scale, 1), spoken(event, start))


def spoken(event: Event, start: int) -> str:
    """When and what an event was, on one line."""
    return f"{words.exact(event.timestamp - start)}  {event.class_}  {event.line[:MOST_TEXT]}"


def _labels(span: int, before: int) -> list[Label]:
    """Round offsets from the start of the call, which stands *before* milliseconds behind the left end."""
    step = next(
        (step for step in _STEPS if span / step <= 2 * _FEWEST_LABELS), _STEPS[-1] * max(1, span // _STEPS[-1] // 4)
    )
    first = -(before // step) * step
    return [
        Label(round((offset + before) * 100 / span, 2), f"{'-' if offset < 0 else ''}{words.length(abs(offset))}")
        for offset in range(first, span - before + 1, step)
    ]
