"""What the calls of a period come to: the figures of a dashboard."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from callhouse.model.call import Direction
from callhouse.model.instant import DAY, HOUR

Width = Literal["hour", "day", "week"]


def width_of(length: int) -> Width:
    """By what the course of a period of *length* milliseconds is told."""
    return "hour" if length <= 50 * HOUR else "day" if length <= 100 * DAY else "week"


class Share(msgspec.Struct, frozen=True):
    """The calls that have something in common, and how long they were talked, in milliseconds; *name* is what it is."""

    name: str
    calls: int
    talk: int


class CauseShare(msgspec.Struct, frozen=True):
    """The calls that ended with a *code* of Plivo's table; None stands for those of which no cause is known, or a code
    that is in no table.
    """

    code: int | None
    calls: int


class StepShare(msgspec.Struct, frozen=True):
    """The calls whose log ends at a step of an application: *name* and *type* are its result variable and module."""

    application: str
    name: str
    type: str
    calls: int


class Stretch(msgspec.Struct, frozen=True):
    """The calls that started in ``since <= start < until``."""

    since: int
    until: int
    calls: int


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The complete calls that started in ``since <= start < until``, as far as they are shown. Lengths are in ms.

    *heat* holds the calls by weekday (Monday first) and hour of the zone that was asked for. *peak* is how many
    complete calls were under way at once at most, first at *peak_at*, a call being so from its start up to its end,
    which is not part of it; the calls that are under way *now* are of no period. *numbers* are the account's own, as
    number_key writes them. *steps* are known of calls that still have a log. These lists are sorted, most calls first.
    *course* is the calls by the hours, days or weeks of the zone: by the *width* that suits the length of the period.
    """

    since: int
    until: int
    calls: int
    answered: int
    talk: int
    billed: int
    directions: Mapping[Direction, int]
    causes: list[CauseShare]
    heat: list[list[int]]
    course: list[Stretch]
    peak: int
    peak_at: int
    now: int
    numbers: list[Share]
    applications: list[Share]
    steps: list[StepShare]
    errors: int
    calls_with_errors: int

    @property
    def width(self) -> Width:
        return width_of(self.until - self.since)

    @property
    def answer_seizure_ratio(self) -> float | None:
        """The part of the calls that were answered; None when there were none."""
        return self.answered / self.calls if self.calls else None

    @property
    def average_duration(self) -> float | None:
        """Of the answered calls, in ms; None when there were none."""
        return self.talk / self.answered if self.answered else None
