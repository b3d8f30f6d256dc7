"""Those parts of a filter that a link sets and no field of the form shows: each in words, to be kept or removed."""

from datetime import tzinfo

import msgspec

from callhouse.console.filters import Filter, instant, last_step
from callhouse.model.week import WEEKDAYS, local_time

_DAYS = dict(
    zip(
        WEEKDAYS,
        ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays"),
        strict=True,
    )
)


class Pin(msgspec.Struct, frozen=True):
    """What it asks for; the *fields* that do; the query of the filter without it."""

    text: str
    fields: list[tuple[str, str]]
    rest: str


def pins(chosen: Filter, zone: tzinfo) -> list[Pin]:
    """What *chosen* asks for in this way."""
    found = []
    if chosen.number:
        found.append(_pin(chosen, f"Number {chosen.number}", "number"))
    if (step := last_step(chosen)) is not None:
        application, (name, kind) = step
        of = f" of {application}" if application else ""
        found.append(_pin(chosen, f"Last step {name}{f' ({kind})' if kind else ''}{of}", "step"))
    if chosen.weekday or chosen.hour is not None:
        day = _DAYS[chosen.weekday] if chosen.weekday else "Every day"
        hour = "" if chosen.hour is None else f", {chosen.hour:02}:00 to {(chosen.hour + 1) % 24:02}:00"
        found.append(_pin(chosen, f"{day}{hour}", "weekday", "hour"))
    if chosen.at:
        at = local_time(instant("at", chosen.at, zone, 0), zone)
        found.append(_pin(chosen, f"Under way on {at.day} {at:%b %Y} at {at:%H:%M:%S}", "at"))
    return found


def _pin(chosen: Filter, text: str, *names: str) -> Pin:
    values = [(name, str(value)) for name in names if (value := getattr(chosen, name)) not in ("", None)]
    without = {name: getattr(Filter(), name) for name in names}
    return Pin(text, values, msgspec.structs.replace(chosen, **without).query())
