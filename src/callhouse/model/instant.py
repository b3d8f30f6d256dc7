"""Instants and durations: whole milliseconds since 1970 in UTC, everywhere inside Callhouse; zones to show them in."""

import re
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY

MAX_SECONDS = 10**11
"""Epoch seconds are below this (the year 5138); a larger number is milliseconds sent by mistake."""

LONGEST = 100 * YEAR
"""The longest duration that is told with a number; what is to last longer lasts for ever."""

_UNITS = {"ms": 1, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY, "y": YEAR}
_DURATION = re.compile(r"(\d{1,13})(ms|[smhdwy])")


def parse_instant(value: float | str) -> int:
    """Milliseconds of an epoch in seconds (int or float) or of an RFC 3339 text with a zone.

    Raises ValueError with a reason fit for the sender.
    """
    if isinstance(value, str):
        try:
            when = datetime.fromisoformat(value.upper())
        except ValueError:
            raise ValueError("is neither epoch seconds nor an RFC 3339 time") from None
        if when.tzinfo is None:
            raise ValueError("has no time zone; add Z or an offset such as +02:00")
        seconds = Decimal(int(when.replace(microsecond=0).timestamp())) + Decimal(when.microsecond) / 1_000_000
    else:
        # A float of epoch seconds carries less than a microsecond of error, so its shortest text is what was meant.
        seconds = Decimal(repr(value))
    if not 0 <= seconds < MAX_SECONDS:
        raise ValueError("is out of range: seconds since 1970 expected, not milliseconds")
    return int(seconds * SECOND)


def parse_duration(text: str) -> int | None:
    """Milliseconds of a duration such as ``90s``, ``12h``, ``5d`` or ``1y`` (365 days) up to LONGEST; None for
    ``forever``.

    Raises ValueError with a reason fit for the operator.
    """
    if text == "forever":
        return None
    if match := _DURATION.fullmatch(text):
        duration = int(match[1]) * _UNITS[match[2]]
        if duration > LONGEST:
            raise ValueError(f"{text!r} is longer than {format_duration(LONGEST)}: write forever")
        return duration
    raise ValueError(f"{text!r} is no duration: write a number and ms, s, m, h, d, w or y (5d, 1y), or forever")


def format_duration(duration: int | None) -> str:
    """The shortest text that parse_duration reads back."""
    if duration is None:
        return "forever"
    for unit, length in sorted(_UNITS.items(), key=lambda item: -item[1]):
        if duration % length == 0 and duration >= length:
            return f"{duration // length}{unit}"
    return "0s"


_NO_ZONES = frozenset({"Factory", "localtime", "posixrules"})
"""Files of the time zone database that are no place's zone; those below right/ count leap seconds."""


def time_zone(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises ValueError with a reason fit for the operator."""
    try:
        # UTC needs no time zone database, which a small installation may lack.
        zone = UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = None
    if zone is None or name in _NO_ZONES or name.startswith("right/"):
        raise ValueError(f"timezone is {name!r}: a name such as Europe/Berlin expected")
    return zone
