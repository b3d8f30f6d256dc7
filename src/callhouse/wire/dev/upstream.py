"""How a DEV account is followed: its four services, and what they say of a call → Call, Event."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from callhouse.errors import AnswerFailed, RecordError, VendorHasNone, VendorUnavailable
from callhouse.model import call as calls
from callhouse.model import halves
from callhouse.model.account import Account
from callhouse.model.call import DIRECTIONS, Call
from callhouse.model.event import Event
from callhouse.model.instant import DAY, HOUR, MAX_SECONDS, SECOND, YEAR, time_zone
from callhouse.model.record import Part
from callhouse.render import MAX_LIMIT
from callhouse.wire import Ask, Found, Page, Upstream, Window, read_list
from callhouse.wire.dev import lines, schema, told

T = TypeVar("T")

LOGS_UNDER_WAY = 4
"""Logs of one window that are asked for at once."""

MOST_DIGITS = 15
"""More has no total."""


class ToldListed(msgspec.Struct):
    """A call in the vendor's list of logs."""

    log_id: str
    session_id: str
    dest: str
    type: str
    src: str
    start: str
    end: str


class ToldLog(msgspec.Struct):
    """A log as the vendor gives it."""

    dest: str
    src: str
    type: str
    timestamp: str
    location: str
    log: str


class ToldCall(msgspec.Struct, omit_defaults=True):
    """What the vendor's services say of one call, each as it came."""

    session: str | None = None
    listed: ToldListed | None = None
    log: ToldLog | None = None
    errors: list[str] = []


class _Sessions(msgspec.Struct):
    total: str = msgspec.field(name="total_sessions")
    members: list[msgspec.Raw] = msgspec.field(name="sessions")


class _Logs(msgspec.Struct):
    total: str = msgspec.field(name="total_logs")
    members: list[msgspec.Raw] = msgspec.field(name="logs")


class _Errors(msgspec.Struct):
    total: str = msgspec.field(name="total_errors")
    members: list[msgspec.Raw] = msgspec.field(name="errors")


class _SessionsAnswer(msgspec.Struct):
    result: _Sessions


class _LogsAnswer(msgspec.Struct):
    result: _Logs


class _ErrorsAnswer(msgspec.Struct):
    result: _Errors


class _LogAnswer(msgspec.Struct):
    result: msgspec.Raw


class _Gathered(msgspec.Struct, omit_defaults=True):
    """A ToldCall that is put together; its log is left as it came."""

    session: str | None = None
    listed: ToldListed | None = None
    log: msgspec.Raw | None = None
    errors: list[str] = []


_KINDS: dict[str, type[Any]] = {"sessions": _SessionsAnswer, "logs": _LogsAnswer, "errors": _ErrorsAnswer}


async def fetch(ask: Ask, _user: str, window: Window, at_most: int) -> Found:
    """The calls that began in *window*, with what all services say of them."""
    sessions = await _whole(ask, "sessions", window, at_most)
    listed = await _whole(ask, "logs", window, at_most)
    errors = await _whole(ask, "errors", window, MAX_LIMIT)
    total = max(len(sessions or ()), len(listed or ()))
    if sessions is None or listed is None or errors is None:
        return Found(max(total, await count(ask, _user, window)), None)
    odd: list[bytes] = []
    calls = _understood(ToldListed, b'{"listed":%b}', listed, odd)
    records = _records(
        _understood(str, b'{"session":%b}', sessions, odd),
        await _logged(ask, calls, odd),
        _understood(str, b'{"errors":[%b]}', errors, odd),
    )
    return Found(total, [*records, *odd])


def _understood(kind: type[T], form: bytes, records: Sequence[bytes], odd: list[bytes]) -> list[T]:
    """Those *records* that can be read; the others join what is *odd*, in the *form* of a ToldCall."""
    found = []
    for record in records:
        try:
            found.append(msgspec.json.decode(record, type=kind))
        except (msgspec.DecodeError, UnicodeDecodeError):
            odd.append(form % record)
    return found


async def _logged(
    ask: Ask, listed: Sequence[ToldListed], odd: list[bytes]
) -> list[tuple[ToldListed, msgspec.Raw | None]]:
    """Each of the *listed* with its log, some of which are asked for at once; an unreadable one joins the *odd*."""
    logs: list[msgspec.Raw | None] = [None] * len(listed)
    left = iter(range(len(listed)))

    async def work() -> None:
        for number in left:
            logs[number] = await _log(ask, listed[number], odd)

    tasks = [asyncio.create_task(work()) for _ in range(LOGS_UNDER_WAY)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return list(zip(listed, logs, strict=True))


async def count(ask: Ask, _user: str, window: Window) -> int:
    """How many calls began in *window*."""
    return _number((await _list(ask, "sessions", window, 1, 0)).total)


async def _whole(ask: Ask, service: str, window: Window, at_most: int) -> Sequence[bytes] | None:
    """The list of *service*; None when it has more than *at_most* members, or changed while it was read."""

    async def page(offset: int) -> Page:
        part = await _list(ask, service, window, min(at_most, MAX_LIMIT), offset)
        return Page(_number(part.total), list(map(halves.as_it_came, part.members)))

    # Two errors may be the same line.
    name: Callable[[bytes], object] = (lambda _: object()) if service == "errors" else bytes
    return (await read_list(page, at_most, name)).records


async def _list(ask: Ask, service: str, window: Window, limit: int, offset: int) -> Any:
    path = f"/ws/calls/{service}/{window.since // SECOND}/{window.until // SECOND}"
    return (await ask(_KINDS[service], path, {"limit": limit, "offset": offset})).result


async def _log(ask: Ask, listed: ToldListed, odd: list[bytes]) -> msgspec.Raw | None:
    """The log; None when the vendor has deleted it by now, or it is odd."""
    try:
        log = halves.as_it_came((await ask(_LogAnswer, f"/ws/calls/log/{quote(listed.log_id, safe='')}")).result)
    except VendorHasNone:
        return None
    try:
        msgspec.json.decode(log, type=ToldLog)
    except msgspec.ValidationError as error:
        raise AnswerFailed(f"The vendor's log is of another kind: {error}.", is_worth_repeating=False) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        odd.append(msgspec.json.encode(_Gathered(listed=listed, log=msgspec.Raw(log))))
        return None
    return msgspec.Raw(log)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS:
        raise VendorUnavailable("The vendor's total is no number.", is_worth_repeating=False)
    return int(text)


def _records(
    sessions: Sequence[str], listed: Sequence[tuple[ToldListed, msgspec.Raw | None]], errors: Sequence[str]
) -> list[bytes]:
    """A record of each call, and of each line that is of none."""
    found: dict[str, _Gathered] = {}
    for each, log in listed:
        found[lines.column(each.session_id)] = _Gathered(listed=each, log=log)
    odd: list[_Gathered] = []
    for line in sessions:
        parsed = told.session_line(line)
        call = _Gathered() if parsed is None else found.setdefault(parsed.session, _Gathered())
        if parsed is None or call.session is not None:
            odd.append(_Gathered(session=line))
        else:
            call.session = line
    for line in errors:
        session = told.session_of_error(line)
        if session is None:
            odd.append(_Gathered(errors=[line]))
        else:
            found.setdefault(session, _Gathered()).errors.append(line)
    return [msgspec.json.encode(call) for call in (*found.values(), *odd)]


def read(record: bytes, account: Account, _max_depth: int) -> Part:
    """What the services say of a call. Raises RecordError."""
    try:
        said = msgspec.json.decode(record, type=ToldCall)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"is nothing of DEV's: {error}") from None
    session = None if said.session is None else told.session_line(said.session)
    if said.session is not None and session is None:
        raise RecordError("is no session line")
    zone = time_zone(account.timezone)
    parsed = [(line, told.error_line(line, zone)) for line in said.errors]
    if wrong := [line for line, error in parsed if error is None]:
        raise RecordError(f"is no error line: {wrong[0]}")
    errors = [(line, error) for line, error in parsed if error is not None]
    call = to_call(said, session) if session or said.listed else None
    session_id = errors[0][1].session if call is None else call.session_id
    events, others = _events(
        said, session_id, [error for _, error in errors], 0 if call is None else call.start, account
    )
    if call is not None:
        calls.check_storable(call)
        calls.check(call)
        call = msgspec.structs.replace(call, told=_told_otherwise(said, call, errors, account))
    return Part(session_id=session_id, call=call, events=events, errors=others, replaces_log=True)


def to_call(said: ToldCall, session: told.SessionLine | None) -> Call:
    """The call; of an outbound one the session line tells the dialled number and the login. Raises RecordError."""
    listed = said.listed
    if listed is not None:
        start, end = _instant("start", listed.start), _instant("end", listed.end)
        src, dest, kind, session_id = listed.src or None, listed.dest or None, listed.type, listed.session_id
    else:
        assert session is not None
        ani, dnis = (None if value == lines.UNKNOWN else value for value in (session.ani, session.dnis))
        src, dest = (None, ani) if session.direction == "outbound" else (ani, dnis)
        start, end, kind, session_id = session.start, session.end, session.direction, session.session
    return Call(
        session_id=session_id,
        direction=next((known for known in DIRECTIONS if known == kind), None),
        src=src,
        dest=dest,
        start=start,
        end=end,
        channel=None if session is None else session.channel,
        location=None if said.log is None else said.log.location or None,
        log_id=int(listed.log_id) if listed and listed.log_id.isascii() and listed.log_id.isdigit() else None,
    )


def _events(
    said: ToldCall, session_id: str, errors: Sequence[told.ErrorLine], start: int | None, account: Account
) -> tuple[tuple[Event, ...], tuple[Event, ...]]:
    """The events of the log, and the errors that do not stand in it.

    The list of errors says what is an error: what only the log calls one is an event of another class.
    """
    left = Counter((error.at, error.message) for error in errors)
    zone = time_zone(account.timezone)
    text = None if said.log is None else said.log.log
    events = [] if text is None else told.log_events(text, session_id, start or 0, zone)
    told_lines = [] if text is None else text.split("\n")
    for number, (event, line) in enumerate(zip(events, told_lines, strict=True)):
        if event.class_ != "error":
            continue
        name = event.timestamp, event.line
        if left[name]:
            left[name] -= 1
        else:
            data = {key: value for key, value in event.data.items() if key != lines.LINE}
            other = Event(event.timestamp, None, "debug", event.line, data)
            events[number] = told.as_told(other, line, session_id, zone)
    others = [Event(at, None, "error", message, {}) for at, message in left.elements()]
    return tuple(events), tuple(others)


def _told_otherwise(
    said: ToldCall, call: Call, errors: Sequence[tuple[str, told.ErrorLine]], account: Account
) -> dict[str, Any]:
    """What the vendor says of *call* that we would not say as it does; None where we would.

    Services that said nothing this time, as the log is gone, say nothing here: what they said before stays.
    """
    direction = call.direction or "inbound"
    facts: dict[str, Any] = {}
    parties = (direction, call.src, call.dest, call.channel)
    if said.session is not None:
        [line] = lines.session_lines([(*parties, call.end, call.start, call.session_id, None)], account)
        facts[schema.TOLD_SESSION] = None if line == said.session else said.session
    if errors:
        zone = time_zone(account.timezone)
        rows = [(error.at, error.message, *parties, None, call.session_id) for _, error in errors]
        differing = {
            lines.error_name(error.at, error.message): line
            for (line, error), row in zip(errors, rows, strict=True)
            if lines.error_line(row, account, zone) != line
        }
        facts[schema.TOLD_ERRORS] = differing or None
    if said.listed is not None:
        row = (call.log_id, call.dest, direction, call.src, call.end, call.start, call.session_id, None)
        [listed] = schema.log_bodies([row])
        facts[schema.TOLD_LISTED] = _differing(said.listed, listed)
    if said.log is not None:
        shown = schema.LogResult(
            call.dest or "",
            call.src or "",
            direction,
            str((call.start or 0) // SECOND),
            call.location or "",
            said.log.log,
        )
        facts[schema.TOLD_LOG] = _differing(said.log, shown)
    return facts


def _differing(said: msgspec.Struct, ours: msgspec.Struct) -> dict[str, Any] | None:
    theirs = msgspec.structs.asdict(said)
    return {key: value for key, value in theirs.items() if value != getattr(ours, key)} or None


def _instant(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 11 or int(text) >= MAX_SECONDS:
        raise RecordError(f"{name} is no epoch in seconds")
    return int(text) * SECOND


upstream = Upstream(
    url="https://hosting.plumvoice.com",
    user="login",
    keeps=YEAR,
    keeps_log=5 * DAY,
    clock="start",
    longest=YEAR,
    at_once=100,
    rate=10,
    fetch=fetch,
    total=count,
    read=read,
    slack=HOUR,
)
