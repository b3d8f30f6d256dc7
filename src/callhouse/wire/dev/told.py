"""Lines as DEV writes them → what they tell. Pure; what is no such line is None."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from callhouse.model.event import Event, EventClass
from callhouse.model.instant import HOUR, SECOND
from callhouse.model.log import LogEntry, Step
from callhouse.wire.dev import lines

_SESSION = re.compile(
    r"(inbound|outbound|transfer) (\S+) (\S+) \[([^\]]+)\] (\S+) (\S+) (\d{1,11}) (\d{1,11}) (\S+)", re.ASCII
)
_ERROR = re.compile(r"error (\S+) (\S+) \[([^\]]+)\] (\S+) (\S+) (.*)", re.DOTALL)
_BRACKET = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)", re.ASCII)
_TIME = r"(\w{3} (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) ([AP]M) (\S+))"
_FIRST_ORDER = re.compile(_TIME + r" \[([^\]]*)\] \(([^)]*)\) ([A-Z]+): (.*)", re.DOTALL)
_SECOND_ORDER = re.compile(_TIME + r" \(([^)]*)\) \[([^\]]*)\] ([A-Z]+): (.*)", re.DOTALL)

_CLASS: dict[str, EventClass] = {"LOCAL": "info", "USAGE": "info", "EVENT": "event", "DEBUG": "debug", "ERROR": "error"}
_HOURS = {"UTC": 0, "GMT": 0, "EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
"""The zones of North America, which an account here may not be in."""


class SessionLine(NamedTuple):
    direction: str
    ani: str
    channel: str
    dnis: str
    session: str
    start: int
    end: int


class ErrorLine(NamedTuple):
    """*at* is in milliseconds."""

    session: str
    at: int
    message: str


def session_line(line: str) -> SessionLine | None:
    """What a session line tells; its bracket is left aside, as start and end say more."""
    match = _SESSION.fullmatch(line)
    if match is None:
        return None
    direction, ani, channel, _, dnis, session, start, end, _ = match.groups()
    return SessionLine(direction, ani, channel, dnis, session, int(start) * SECOND, int(end) * SECOND)


def session_of_error(line: str) -> str | None:
    """The session that an error line is of, as a column."""
    match = _ERROR.fullmatch(line)
    return match[5] if match else None


def error_line(line: str, zone: tzinfo) -> ErrorLine | None:
    """What an error line tells to an account in *zone*."""
    match = _ERROR.fullmatch(line)
    at = _bracket(match[3], zone) if match else None
    return None if match is None or at is None else ErrorLine(match[5], at, match[6])


def _bracket(text: str, zone: tzinfo) -> int | None:
    """The instant in ms.

    The vendor's offset may be that of the moment at which it wrote the line, an hour off; its wall clock is right.
    """
    match = _BRACKET.fullmatch(text)
    if match is None or match[2] not in lines.MONTHS:
        return None
    day, month, year, hour, minute, second = match[1], lines.MONTHS.index(match[2]) + 1, *match.groups()[2:6]
    try:
        wall = datetime(int(year), month, int(day), int(hour), int(minute), int(second), tzinfo=zone)
    except ValueError:
        return None
    offset = timedelta(hours=int(match[8]), minutes=int(match[9]))
    written = wall.replace(tzinfo=UTC) + (offset if match[7] == "-" else -offset)
    at, local = _milliseconds(written), _milliseconds(wall)
    return local if abs(at - local) == HOUR and zone is not UTC else at


def log_events(text: str, session_id: str, start: int, zone: tzinfo) -> list[Event]:
    """The lines of a log as events in their order; a line that is none is an event at the time of the one before it.

    A line that we would not write as it stands is kept in its event's data.
    """
    events: list[Event] = []
    at = start
    for line in text.split("\n"):
        event = _event(line, session_id, at, zone)
        at = event.timestamp
        events.append(event)
    return events


def as_told(event: Event, line: str, session_id: str, zone: tzinfo) -> Event:
    """*event*, with its *line* where we would write another."""
    entry = LogEntry(Step(event.line, event.data), event.class_, event.timestamp // SECOND)
    if lines.log_line(entry, session_id, zone) == line:
        return event
    return Event(event.timestamp, None, event.class_, event.line, {**event.data, lines.LINE: line})


def _event(line: str, session_id: str, at: int, zone: tzinfo) -> Event:
    if match := _FIRST_ORDER.fullmatch(line):
        module = match[10]
    elif match := _SECOND_ORDER.fullmatch(line):
        module = match[11]
    else:
        return Event(at, None, "info", lines.text(line), {lines.LINE: line})
    class_ = _CLASS.get(match[12], "info")
    if class_ == "event" and module == "prompt":
        class_ = "prompt"
    data = {} if module == lines.MODULE_OF_CLASS[class_] else {"module_type": module}
    written = _log_time(match, zone)
    # Events stand in the order of their times; the lines of a log are to stay in the order of the log.
    event = Event(max(at, at if written is None else written), None, class_, lines.text(match[13]), data)
    return as_told(event, line, session_id, zone)


def _log_time(match: re.Match[str], zone: tzinfo) -> int | None:
    """The instant in ms of ``Wed 28 Aug 2002 10:16:58 AM EDT``, whose zone is the account's or one that is known."""
    _, day, month, year, hour, minute, second, half, name = match.groups()[:9]
    if month not in lines.MONTHS:
        return None
    hours = int(hour) % 12 + (12 if half == "PM" else 0)
    try:
        wall = datetime(
            int(year), lines.MONTHS.index(month) + 1, int(day), hours, int(minute), int(second), tzinfo=zone
        )
    except ValueError:
        return None
    for local in (wall, wall.replace(fold=1)):
        if local.tzname() == name:
            return _milliseconds(local)
    if name in _HOURS:
        wall = wall.replace(tzinfo=timezone(timedelta(hours=_HOURS[name])))
    return _milliseconds(wall)


def _milliseconds(when: datetime) -> int:
    return int(when.timestamp()) * SECOND
