"""The filter of the list of calls, as it stands in a URL."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from callhouse.errors import BadParameter
from callhouse.model.account import Account
from callhouse.model.browsing import STATUSES, CallFilter, Place, Search, Status
from callhouse.model.call import DIRECTIONS, Direction
from callhouse.model.instant import DAY, HOUR, MAX_SECONDS, SECOND
from callhouse.model.number import number_key
from callhouse.model.step import Step
from callhouse.model.week import WEEKDAYS, WeekHour, local_time
from callhouse.store.browsing import FOREVER

LAST = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "365d": 365 * DAY}
"""How far back a preset reaches; without one a list reaches back as far as calls are kept."""

LONGEST_SEARCH = 500
AS_SENT = frozenset({"application", "number", "step", "before", "after"})
"""Parameters whose blanks are part of what they name."""

NO_CAUSE = "none"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"(?:tel:|sips?:)?[\s\d+().\-/]+(?:;[a-z].*)?", re.IGNORECASE)
_SHORTEST_NUMBER = 3
"""Digits that make a number of a text that has more than digits; an extension of digits alone may be shorter."""
_PLACE = re.compile(r"(\d{1,15})~(.*)", re.DOTALL)
_YEARS = range(1900, 9999)
"""Years whose instants every time zone has a date for."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the URL, checked but not yet turned into instants: *since*, *until* and *at* are wall-clock times,
    or have an offset. *step* is JSON: an application (or ""), a step's name and its type.
    """

    q: str = ""
    last: str = ""
    since: str = ""
    until: str = ""
    direction: tuple[Direction, ...] = ()
    status: tuple[Status, ...] = ()
    application: str = ""
    number: str = ""
    step: str = ""
    weekday: str = ""
    hour: int | None = None
    at: str = ""
    cause: int | str | None = None
    shortest: int | None = None
    longest: int | None = None
    errors: str = ""

    def query(self, **more: Any) -> str:
        """The query of a URL that asks for the same, and for *more*; empty values are left out."""
        pairs: list[tuple[str, Any]] = []
        for name, value in {**msgspec.structs.asdict(self), **more}.items():
            values: Iterable[Any] = value if isinstance(value, tuple) else (value,)
            pairs += [(name, each) for each in values if each not in ("", None)]
        return urlencode(pairs)

    @property
    def is_recent(self) -> bool:
        """Whether *last* bounds it: a range that is given wins."""
        return bool(self.last and not self.since and not self.until)

    @property
    def narrows(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.query())


def parse(query_string: bytes) -> tuple[Filter, dict[str, str]]:
    """The filter, and the parameters that are not its. Raises BadParameter."""
    sent: dict[str, list[str]] = {}
    for name, value in parse_qsl(query_string.decode("latin-1")):
        # No text that is kept holds a NUL character, and a database may refuse to look for one.
        clean = value.replace("\0", "")
        sent.setdefault(name, []).append(clean if name in AS_SENT else clean.strip())
    own = {name: values for name, values in sent.items() if name in Filter.__struct_fields__}
    last = {name: values[-1] for name, values in sent.items()}
    if _chose_preset(last):
        last |= {"since": "", "until": ""}
    search = last.get("q", "")
    if len(search) > LONGEST_SEARCH:
        raise BadParameter("q", search, f"at most {LONGEST_SEARCH} characters")
    return (
        Filter(
            q=search,
            last=_one_of("last", last.get("last", ""), ("", *LAST)),
            since=last.get("since", ""),
            until=last.get("until", ""),
            direction=tuple(_one_of("direction", value, DIRECTIONS) for value in own.get("direction", ()) if value),
            status=tuple(_one_of("status", value, STATUSES) for value in own.get("status", ()) if value),
            application=last.get("application", ""),
            number=last.get("number", ""),
            step=last.get("step", ""),
            weekday=_one_of("weekday", last.get("weekday", ""), ("", *WEEKDAYS)),
            hour=_number("hour", last.get("hour", ""), 23),
            at=last.get("at", ""),
            cause=NO_CAUSE if last.get("cause") == NO_CAUSE else _number("cause", last.get("cause", ""), 9_999),
            shortest=_number("shortest", last.get("shortest", ""), 10**7),
            longest=_number("longest", last.get("longest", ""), 10**7),
            errors=_one_of("errors", last.get("errors", ""), ("", "with", "without")),
        ),
        {name: value for name, value in last.items() if name not in own},
    )


def _chose_preset(last: dict[str, str]) -> bool:
    """Whether the form was sent with another preset than it had, which then stands for the range that it had too."""
    return bool(last.get("last")) and last.get("was", last["last"]) != last["last"]


def asked(chosen: Filter, account: Account, now: int, zone: tzinfo) -> CallFilter:
    """What *chosen* asks the store for. Raises BadParameter."""
    since = now - LAST[chosen.last] if chosen.is_recent else instant("since", chosen.since, zone, 0)
    until = instant("until", chosen.until, zone, FOREVER)
    week_hour = None
    if chosen.weekday or chosen.hour is not None:
        week_hour = WeekHour(WEEKDAYS.index(chosen.weekday) if chosen.weekday else None, chosen.hour, zone)
        # Where there is no end, that of the calls: no clock is far ahead.
        until = min(until, now + DAY)
    return CallFilter(
        account_id=account.id,
        since=max(since, account.retention.calls_since(now)),
        until=until,
        details_since=account.retention.details_since(now),
        errors_since=account.retention.sessions_since(now),
        search=_search(chosen.q) if chosen.q else None,
        directions=chosen.direction,
        statuses=chosen.status,
        application=chosen.application or None,
        number=number_key(chosen.number) if chosen.number else None,
        last_step=last_step(chosen),
        week_hour=week_hour,
        under_way=instant("at", chosen.at, zone, 0) if chosen.at else None,
        cause_code=chosen.cause if isinstance(chosen.cause, int) else None,
        without_cause=chosen.cause == NO_CAUSE,
        shortest=None if chosen.shortest is None else chosen.shortest * SECOND,
        longest=None if chosen.longest is None else chosen.longest * SECOND,
        has_errors={"with": True, "without": False}.get(chosen.errors),
    )


def last_step(chosen: Filter) -> tuple[str, Step] | None:
    """The application and the step of it that *chosen* names. Raises BadParameter."""
    if not chosen.step:
        return None
    try:
        application, name, kind = msgspec.json.decode(chosen.step, type=tuple[str, str, str])
    except msgspec.MsgspecError:
        raise BadParameter("step", chosen.step, 'JSON such as ["Orders","menu","m"]') from None
    return application, Step(name, kind)


def field(at: int, zone: tzinfo) -> str:
    """An instant as a field for dates takes it; with its offset, which needs a field for text, where the clock shows
    the same time twice and this is the second.
    """
    local = local_time(at, zone)
    shown = local if local.fold else local.replace(tzinfo=None)
    return shown.isoformat(timespec="milliseconds" if at % SECOND else "seconds")


def field_type(text: str) -> str:
    """The type of a field that can hold what field made."""
    return "datetime-local" if datetime.fromisoformat(text or "2000-01-01").tzinfo is None else "text"


def place(parameters: dict[str, str], name: str) -> Place | None:
    """Where a page begins. Raises BadParameter."""
    text = parameters.get(name)
    if text is None:
        return None
    if (match := _PLACE.fullmatch(text)) is None or int(match[1]) > MAX_SECONDS * SECOND:
        raise BadParameter(name, text, "what a page's own link says")
    return Place(int(match[1]), match[2])


def written(where: Place) -> str:
    """What place reads."""
    return f"{where.start}~{where.session_id}"


def _search(text: str) -> Search:
    number = number_key(text) if _is_number(text) else None
    words = tuple(text.split()) if any(c.isalnum() for c in text) else ()
    return Search(text=text, number=number, words=words)


def _is_number(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return True
    digits = sum(c.isdigit() for c in text.partition(";")[0])
    return _NUMBER.fullmatch(text) is not None and digits >= _SHORTEST_NUMBER


def _one_of(name: str, value: str, allowed: Iterable[Any]) -> Any:
    if value not in allowed:
        raise BadParameter(name, value, "one of " + ", ".join(each for each in allowed if each))
    return value


def _number(name: str, value: str, most: int) -> int | None:
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) <= most):
        raise BadParameter(name, value, f"a whole number up to {most}")
    return int(value)


def instant(name: str, value: str, zone: tzinfo, default: int) -> int:
    """Milliseconds of a wall-clock time in *zone*, as a form writes it, or of one with an offset."""
    if not value:
        return default
    try:
        when = datetime.fromisoformat(value)
        if when.year not in _YEARS:
            raise BadParameter(name, value, f"a year from {_YEARS[0]} to {_YEARS[-1]}")
        since = (when if when.tzinfo else when.replace(tzinfo=zone)) - _EPOCH
    except (ValueError, OverflowError):
        raise BadParameter(name, value, "a date and time such as 2025-03-31T18:00") from None
    return since // timedelta(milliseconds=1)
