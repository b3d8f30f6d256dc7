"""What a dashboard shows, as its template takes it."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

import msgspec

from callhouse.console import words
from callhouse.console.access import PATH
from callhouse.console.comparison import Change, change, whole
from callhouse.console.filters import NO_CAUSE, Filter
from callhouse.console.periods import Period
from callhouse.console.views import utc
from callhouse.model import hangup
from callhouse.model.account import Retention
from callhouse.model.browsing import COMPLETE
from callhouse.model.figures import Figures, StepShare, Width
from callhouse.model.instant import MINUTE, SECOND
from callhouse.model.week import WEEKDAYS, local_time

HEAT_LEVELS = 8
"""Shades of the heat map, from no calls to the most of an hour."""

MOST_CAUSES = 100
"""Hangup causes that are listed, those of the most calls; there are as many codes as senders make up."""

DAY_NAMES = dict(zip(WEEKDAYS, ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"), strict=True))


class Links:
    """Addresses of exactly those calls that figures of the window count."""

    def __init__(self, since: int, until: int) -> None:
        self._window = {"since": utc(since), "until": utc(until)}

    def calls(self, **asked: Any) -> str:
        """The calls that are over, narrowed by what is *asked*."""
        return f"{PATH}/calls?{Filter(**{'status': COMPLETE, **self._window, **asked}).query()}"

    def stretch(self, since: int, until: int) -> str:
        return self.calls(since=utc(since), until=utc(until))

    @staticmethod
    def under_way(at: int, **asked: Any) -> str:
        """The calls under way at an instant, which may have begun before the window."""
        return f"{PATH}/calls?{Filter(at=utc(at), **asked).query()}"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Since when what is shown is known: *calls*, *errors* and *logs*, in ms, and which of these reach back to the
    beginning of the period before, so that they can be compared. *oldest* is the oldest call there is.
    """

    calls: int
    errors: int
    logs: int
    oldest: int | None
    compares: bool
    compares_errors: bool
    compares_steps: bool

    @classmethod
    def of(cls, period: Period, retention: Retention, now: int, oldest: int | None) -> "Known":
        begin = period.before_since
        calls, errors, logs = retention.calls_since(now), retention.sessions_since(now), retention.details_since(now)
        compares = oldest is not None and begin >= max(calls, oldest)
        return cls(
            calls=calls,
            errors=errors,
            logs=logs,
            oldest=oldest,
            compares=compares,
            compares_errors=compares and begin >= errors,
            compares_steps=compares and begin >= logs,
        )


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """A figure: *wanted* is the trend that is good news, if any is; *at* is the instant that it is of."""

    name: str
    value: str
    link: str
    about: str = ""
    change: Change | None = None
    before_link: str = ""
    wanted: str = ""
    note: str = ""
    at: int | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a list: *part* is its share of all calls in tenths of a percent."""

    name: str
    detail: str = ""
    calls: int
    link: str
    part: int = 0
    change: Change | None = None
    before_link: str = ""


class Panel(msgspec.Struct, frozen=True):
    """A list: *column* is what its rows are; *about* says what is to be known of it, *empty* that there is nothing.
    *more* rows are left out.
    """

    name: str
    title: str
    column: str
    rows: Sequence[Row]
    compares: bool
    empty: str
    about: str = ""
    more: int = 0


def percent(ratio: float) -> str:
    return f"{100 * ratio:.1f} %"


def tiles(figures: Figures, before: Figures, links: Links, links_before: Links, known: Known, now: int) -> list[Tile]:
    past = before if known.compares else None
    answered, answered_before = links.calls(status=("answered",)), links_before.calls(status=("answered",))
    ratio, average = figures.answer_seizure_ratio, figures.average_duration
    return [
        Tile(
            name="Calls",
            value=whole(figures.calls),
            link=links.calls(),
            change=change(figures.calls, past.calls if past else None),
            before_link=links_before.calls(),
        ),
        Tile(
            name="Answered",
            value=whole(figures.answered),
            link=answered,
            change=change(figures.answered, past.answered if past else None),
            before_link=answered_before,
        ),
        Tile(
            name="Answer-seizure ratio",
            about="The part of the calls that were answered",
            value="" if ratio is None else percent(ratio),
            link=answered,
            change=change(
                ratio,
                past.answer_seizure_ratio if past else None,
                written=percent,
                shown=lambda part: round(part, 3),
                is_ratio=True,
            ),
            before_link=answered_before,
            wanted="up",
        ),
        Tile(
            name="Average call duration",
            about="Of the answered calls, from answer to end",
            value="" if average is None else _length(average),
            link=answered,
            change=change(
                average,
                past.average_duration if past else None,
                written=_length,
                shown=_to_seconds,
            ),
            before_link=answered_before,
        ),
        Tile(
            name="Minutes",
            about="Talked, of all answered calls",
            value=minutes(figures.talk),
            link=answered,
            change=change(figures.talk, past.talk if past else None, written=minutes, shown=_to_minutes),
            before_link=answered_before,
        ),
        Tile(
            name="Most at once",
            about="The most calls that were under way at the same time",
            value=whole(figures.peak),
            link=Links.under_way(figures.peak_at, status=COMPLETE),
            change=change(figures.peak, past.peak if past else None),
            before_link=Links.under_way(before.peak_at, status=COMPLETE),
            at=figures.peak_at if figures.peak else None,
        ),
        Tile(name="Under way now", value=whole(figures.now), link=Links.under_way(now), at=now),
        Tile(
            name="Calls with errors",
            value=whole(figures.calls_with_errors),
            link=links.calls(errors="with"),
            change=change(figures.calls_with_errors, before.calls_with_errors if known.compares_errors else None),
            before_link=links_before.calls(errors="with"),
            wanted="down",
            note=_errors(figures.errors),
        ),
    ]


def _length(milliseconds: float) -> str:
    return words.length(round(milliseconds))


def _to_seconds(milliseconds: float) -> float:
    """The part that _length writes."""
    return round(milliseconds) // SECOND * SECOND


def _errors(errors: int) -> str:
    return f"{errors:,} error{'' if errors == 1 else 's'} logged" if errors else ""


def minutes(talk: float) -> str:
    return f"{talk / MINUTE:,.0f}" if talk >= 10 * MINUTE or not talk else f"{talk / MINUTE:.1f}"


def _to_minutes(talk: float) -> float:
    """The part of *talk* that minutes writes."""
    return round(talk / MINUTE, 0 if talk >= 10 * MINUTE else 1) * MINUTE


def course(
    figures: Figures, before: Figures, links: Links, links_before: Links, known: Known, zone: tzinfo
) -> dict[str, Any]:
    """The calls by hours, days or weeks; beside each that of the period before which has the same place in it."""
    past = before.course if known.compares else []
    rows = [
        {
            "label": _label(stretch.since, figures.width, zone),
            "calls": stretch.calls,
            "link": links.stretch(stretch.since, stretch.until),
            "before": None if earlier is None else earlier.calls,
            "before_link": "" if earlier is None else links_before.stretch(earlier.since, earlier.until),
        }
        for stretch, earlier in itertools.zip_longest(figures.course, past[: len(figures.course)])
    ]
    return {"unit": figures.width, "rows": rows, "compares": bool(past)}


def _label(at: int, width: Width, zone: tzinfo) -> str:
    local = local_time(at, zone)
    if width == "hour":
        return f"{local:%a %H:%M}"
    return f"{local:%a} {local.day} {local:%b}" if width == "day" else f"{local.day} {local:%b %Y}"


def heat(figures: Figures, links: Links) -> dict[str, Any]:
    """The calls by weekday and hour, with their sums and shades."""
    most = max(map(max, figures.heat))
    rows = [
        {
            "name": DAY_NAMES[name],
            "calls": sum(hours),
            "link": links.calls(weekday=name),
            "cells": [
                {
                    "calls": calls,
                    "level": -(-calls * (HEAT_LEVELS - 1) // most) if most else 0,
                    "link": links.calls(weekday=name, hour=hour),
                }
                for hour, calls in enumerate(hours)
            ],
        }
        for name, hours in zip(WEEKDAYS, figures.heat, strict=True)
    ]
    hours = [
        {"calls": sum(column), "link": links.calls(hour=n)} for n, column in enumerate(zip(*figures.heat, strict=True))
    ]
    return {"rows": rows, "hours": hours, "most": most}


def lists(figures: Figures, before: Figures, links: Links, links_before: Links, known: Known) -> list[Panel]:
    """What the calls had in common."""

    def rows(
        found: Iterable[tuple[Any, int, str, str]],
        past: Mapping[Any, int],
        asked: Callable[[Any], Mapping[str, Any]],
        *,
        compares: bool = known.compares,
    ) -> list[Row]:
        """Of each key its calls, how it is shown and in detail; *asked* is the filter that finds them."""
        return [
            Row(
                name=name,
                detail=detail,
                calls=calls,
                link=links.calls(**asked(key)),
                part=round(1000 * calls / figures.calls) if figures.calls else 0,
                change=change(calls, past.get(key, 0)) if compares else None,
                before_link=links_before.calls(**asked(key)),
            )
            for key, calls, name, detail in found
        ]

    causes = rows(
        (
            (each.code, each.calls, _cause(each.code), "" if each.code is None else str(each.code))
            for each in figures.causes[:MOST_CAUSES]
        ),
        {each.code: each.calls for each in before.causes},
        lambda code: {"cause": NO_CAUSE if code is None else code},
    )
    directions = rows(
        ((name, calls, name, "") for name, calls in figures.directions.items()),
        dict(before.directions),
        lambda name: {"direction": (name,)},
    )
    numbers = rows(
        ((each.name, each.calls, each.name, "") for each in figures.numbers),
        {each.name: each.calls for each in before.numbers},
        lambda name: {"number": name},
    )
    steps = rows(
        (
            (_step(each), each.calls, each.name, " · ".join(filter(None, (each.type, each.application))))
            for each in figures.steps
        ),
        {_step(each): each.calls for each in before.steps},
        lambda step: {"step": msgspec.json.encode(step).decode()},
        compares=known.compares_steps,
    )
    applications = rows(
        ((each.name, each.calls, each.name, f"{minutes(each.talk)} min") for each in figures.applications),
        {each.name: each.calls for each in before.applications},
        lambda name: {"application": name},
    )
    compares, logged = known.compares, known.compares_steps
    about_steps = "The last step of the IVR before the call ended, as far as logs are kept."
    return [
        Panel(
            "causes",
            "Hangup causes",
            "Cause",
            causes,
            compares,
            "No call has ended.",
            more=max(0, len(figures.causes) - MOST_CAUSES),
        ),
        Panel("directions", "Directions", "Direction", directions, compares, "No call has ended."),
        Panel("numbers", "Numbers", "Own number", numbers, compares, "No call has a number."),
        Panel(
            "steps",
            "Where callers left",
            "Last step",
            steps,
            logged,
            "No log of these calls names a step.",
            about_steps,
        ),
        Panel("applications", "Applications", "Application", applications, compares, "No call names an application."),
    ]


def _step(share: StepShare) -> tuple[str, str, str]:
    return share.application, share.name, share.type


def _cause(code: int | None) -> str:
    return "not known" if code is None else hangup.NAMES.get(code, "no name")
