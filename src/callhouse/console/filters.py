"""The filter of the list of calls, as it stands in a URL."""

import re
from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from callhouse.errors import BadParameter
from callhouse.model.account import Account
from callhouse.model.browsing import STATUSES, CallFilter, Place, Search, Status
from callhouse.model.call import DIRECTIONS, Direction
from callhouse.model.instant import DAY, HOUR, MAX_SECONDS, SECOND
from callhouse.model.number import number_key
from callhouse.store.browsing import FOREVER

LAST = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY, "365d": 365 * DAY}
"""How far back a preset reaches; without one a list reaches back as far as calls are kept."""

LONGEST_SEARCH = 500
_NUMBER = re.compile(r"(?:tel:|sips?:)?[\s\d+().\-/]+", re.IGNORECASE)
_SHORTEST_NUMBER = 3
_PLACE = re.compile(r"(\d{1,15})~(.+)", re.DOTALL)


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the URL, checked but not yet turned into instants: *since* and *until* are wall-clock times."""

    q: str = ""
    last: str = ""
    since: str = ""
    until: str = ""
    direction: tuple[Direction, ...] = ()
    status: tuple[Status, ...] = ()
    application: str = ""
    cause: int | None = None
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
        sent.setdefault(name, []).append(value.replace("\0", "").strip())
    own = {name: values for name, values in sent.items() if name in Filter.__struct_fields__}
    last = {name: values[-1] for name, values in sent.items()}
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
            cause=_number("cause", last.get("cause", ""), 9_999),
            shortest=_number("shortest", last.get("shortest", ""), 10**7),
            longest=_number("longest", last.get("longest", ""), 10**7),
            errors=_one_of("errors", last.get("errors", ""), ("", "with", "without")),
        ),
        {name: value for name, value in last.items() if name not in own},
    )


def asked(chosen: Filter, account: Account, now: int, zone: tzinfo) -> CallFilter:
    """What *chosen* asks the store for. Raises BadParameter."""
    since = now - LAST[chosen.last] if chosen.is_recent else _instant("since", chosen.since, zone, 0)
    until = _instant("until", chosen.until, zone, FOREVER)
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
        cause_code=chosen.cause,
        shortest=None if chosen.shortest is None else chosen.shortest * SECOND,
        longest=None if chosen.longest is None else chosen.longest * SECOND,
        has_errors={"with": True, "without": False}.get(chosen.errors),
    )


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
    number = None
    if _NUMBER.fullmatch(text) and sum(c.isdigit() for c in text) >= _SHORTEST_NUMBER:
        number = number_key(text)
    words = tuple(text.split()) if any(c.isalnum() for c in text) else ()
    return Search(text=text, number=number, words=words)


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


def _instant(name: str, value: str, zone: tzinfo, default: int) -> int:
    """Milliseconds of a wall-clock time in *zone*, as a form writes it."""
    if not value:
        return default
    try:
        when = datetime.fromisoformat(value)
        return int((when if when.tzinfo else when.replace(tzinfo=zone)).timestamp() * SECOND)
    except (ValueError, OverflowError, OSError):
        raise BadParameter(name, value, "a date and time such as 2025-03-31T18:00") from None
