"""A figure beside that of the period before."""

from collections.abc import Callable
from typing import Literal

import msgspec

Trend = Literal["up", "down", "same"]
_SIGNS: dict[Trend, str] = {"up": "+", "down": "\N{MINUS SIGN}", "same": "±"}


class Change(msgspec.Struct, frozen=True):
    """*text* is by how much a figure changed, as a person reads it, and *before* what it was."""

    text: str
    before: str
    trend: Trend


def whole(value: float) -> str:
    return f"{value:,.0f}"


def change(
    value: float | None,
    before: float | None,
    *,
    written: Callable[[float], str] = whole,
    shown: Callable[[float], float] = float,
    is_ratio: bool = False,
) -> Change | None:
    """By how much *value* is more or less than *before*; None where one of them is not known.

    The difference is that of what is *shown* of the two when they are *written*. Of nothing there is no percentage, nor
    of what is a ratio itself.
    """
    if value is None or before is None:
        return None
    value, before = shown(value), shown(before)
    difference = _points if is_ratio else written
    size = difference(abs(value - before))
    trend: Trend = "same" if size == difference(0) else "up" if value > before else "down"
    text = f"{_SIGNS[trend]}{size}"
    if before and not is_ratio and trend != "same":
        text += f" ({_SIGNS[trend]}{_percent(abs(value - before) / before)})"
    return Change(text, written(before), trend)


def _points(part: float) -> str:
    return f"{100 * part:.1f} points"


def _percent(part: float) -> str:
    """With as many places as are of interest."""
    return f"{100 * part:,.0f} %" if part >= 0.1 else f"{100 * part:.1f} %"
