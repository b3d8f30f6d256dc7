"""How a Fuse account is followed: its list of calls with logs, and a call of Fuse's → Call, Event."""

from typing import Any

import msgspec

from callhouse.errors import RecordError
from callhouse.model import call as calls
from callhouse.model import halves
from callhouse.model.account import Account
from callhouse.model.call import DIRECTIONS, Call
from callhouse.model.event import Event, nests_deeper_than
from callhouse.model.instant import DAY, MAX_SECONDS, SECOND, YEAR
from callhouse.model.log import LogEntry
from callhouse.model.record import Part
from callhouse.render import MAX_LIMIT
from callhouse.wire import Ask, Found, Page, Upstream, Window, read_list
from callhouse.wire.fuse import schema

_NOT_FACTS = frozenset({"start", "end", "session_id", "detail", "log"})
"""What is shown in two forms, or changes with the age of the call."""


class ToldCalls(msgspec.Struct):
    """A list of Fuse's; each call is left as it came."""

    calls: list[msgspec.Raw]
    total_calls: int


class ToldCall(msgspec.Struct):
    """What is read of a call of Fuse's."""

    session_id: str
    start: int
    end: int
    dest: str | None = None
    src: str | None = None
    type: str | None = None
    detail: list[LogEntry] | bool = False


class _Named(msgspec.Struct):
    session_id: str


async def fetch(ask: Ask, _user: str, window: Window, at_most: int) -> Found:
    """The calls that began in *window*, with their logs."""

    async def page(offset: int) -> Page:
        told = await _list(ask, "all_logs", window, min(at_most, MAX_LIMIT), offset)
        return Page(told.total_calls, list(map(halves.as_it_came, told.calls)))

    return await read_list(page, at_most, _identity)


async def count(ask: Ask, _user: str, window: Window) -> int:
    """How many calls began in *window*."""
    return (await _list(ask, "calls", window, 1, 0)).total_calls


async def _list(ask: Ask, name: str, window: Window, limit: int, offset: int) -> ToldCalls:
    path = f"/api/{name}/{window.since // SECOND}/{window.until // SECOND}"
    return await ask(ToldCalls, path, {"limit": limit, "offset": offset})


def _identity(record: bytes) -> str | bytes:
    try:
        return msgspec.json.decode(record, type=_Named).session_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return record


def read(record: bytes, _account: Account, max_depth: int) -> Part:
    """A call of Fuse's with its log. Raises RecordError."""
    try:
        told = msgspec.json.decode(record, type=ToldCall, strict=False)
        shown = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
        more = {key: msgspec.json.decode(value) for key, value in shown.items() if key not in _NOT_FACTS}
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"is no call of Fuse's: {error}") from None
    except RecursionError:
        raise RecordError(f"nests deeper than {max_depth}") from None
    entries = told.detail if isinstance(told.detail, list) else []
    if nests_deeper_than([more, *(entry.event.data for entry in entries)], max_depth):
        raise RecordError(f"nests deeper than {max_depth}")
    call = to_call(told)
    calls.check_storable(call)
    calls.check(call)
    row = (0, call.dest, call.src, call.direction or "inbound", call.end, 0, call.start, "", None)
    [body] = schema.own_bodies([row], 0)
    facts = _told_otherwise(more, msgspec.structs.asdict(body))
    call = msgspec.structs.replace(call, told={schema.TOLD: facts} if facts else None)
    events = tuple(Event(e.timestamp * SECOND, None, e.class_, e.event.line, e.event.data) for e in entries)
    if any(not 0 <= entry.timestamp < MAX_SECONDS for entry in entries):
        raise RecordError("the timestamp of an event is out of range")
    return Part(session_id=call.session_id, call=call, events=events, replaces_call=True, replaces_log=True)


def to_call(told: ToldCall) -> Call:
    """The call. Raises RecordError."""
    if not 0 <= told.start < MAX_SECONDS or not 0 <= told.end < MAX_SECONDS:
        raise RecordError("start or end is out of range: epoch seconds expected")
    direction = next((known for known in DIRECTIONS if known == told.type), None)
    is_hidden = direction == "outbound" and told.src == "Outbound"
    return Call(
        session_id=told.session_id,
        direction=direction,
        src=None if is_hidden else told.src or None,
        dest=told.dest or None,
        start=told.start * SECOND,
        end=told.end * SECOND,
    )


def _told_otherwise(shown: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """What Fuse says of a call that we would not say as it does."""
    return {key: value for key, value in shown.items() if key not in ours or ours[key] != value}


upstream = Upstream(
    url="https://fuse.plumvoice.com",
    user="e-mail address",
    keeps=YEAR,
    keeps_log=5 * DAY,
    clock="start",
    longest=YEAR,
    at_once=1_000,
    rate=10,
    fetch=fetch,
    total=count,
    read=read,
)
