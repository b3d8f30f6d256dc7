"""Callhouse's own records: the model's names in JSON.

A call record holds the fields of Call and an optional ``events`` array; instants are epoch seconds or RFC 3339 and
lengths are seconds. What it holds beyond that is kept as the call's *extra*. An events record holds a ``session_id``
and ``events``.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from callhouse.errors import RecordError
from callhouse.model import call as calls
from callhouse.model.call import Call, CauseScheme, Direction
from callhouse.model.event import Event, EventClass
from callhouse.model.instant import SECOND, YEAR, parse_instant
from callhouse.model.record import Part
from callhouse.sources import MAX_ID, MAX_INTEGER, Source, json_object

Instant = int | float | str
Seconds = int | float
Money = int | float | str


class NativeEvent(msgspec.Struct, forbid_unknown_fields=True):
    timestamp: Instant
    line: str
    class_: EventClass = msgspec.field(name="class")
    seq: int | None = None
    data: dict[str, Any] = {}


class NativeCall(msgspec.Struct, kw_only=True):
    session_id: str
    call_uuid: str | None = None
    parent_call_uuid: str | None = None
    direction: Direction | None = None
    src: str | None = None
    dest: str | None = None
    start: Instant | None = None
    answer: Instant | None = None
    end: Instant | None = None
    duration: Seconds | None = None
    billed_duration: Seconds | None = None
    hangup_cause_code: int | None = None
    hangup_cause_name: str | None = None
    hangup_source: str | None = None
    hangup_original_code: str | None = None
    hangup_original_scheme: CauseScheme | None = None
    rate: Money | None = None
    amount: Money | None = None
    conference_uuid: str | None = None
    stir_verification: str | None = None
    stir_attestation: str | None = None
    source_ip: str | None = None
    voice_network_group: str | None = None
    application_name: str | None = None
    application_version: str | None = None
    location: str | None = None
    channel: str | None = None
    sip_call_id: str | None = None
    events: list[NativeEvent] | None = None


class NativeEvents(msgspec.Struct, forbid_unknown_fields=True):
    session_id: str
    events: list[NativeEvent]


_encode = msgspec.json.Encoder().encode
_CALL_KEYS = frozenset(NativeCall.__struct_fields__)
_INSTANTS = ("start", "answer", "end")
_LENGTHS = ("duration", "billed_duration")
_MONEY = ("rate", "amount")
_CONVERTED = frozenset((*_INSTANTS, *_LENGTHS, *_MONEY, "events"))
_PLAIN = tuple(field for field in NativeCall.__struct_fields__ if field not in _CONVERTED)


def read_call(record: bytes, max_depth: int) -> Part:
    """A call, or a part of one, with or without its events. Raises RecordError."""
    decoded = json_object(record, max_depth)
    native = _convert(decoded, NativeCall)
    fields: dict[str, Any] = {field: getattr(native, field) for field in _PLAIN}
    for field in _INSTANTS:
        fields[field] = _instant(field, getattr(native, field))
    for field in _LENGTHS:
        fields[field] = _length(field, getattr(native, field))
    for field in _MONEY:
        fields[field] = _money(field, getattr(native, field))
    for field, value in fields.items():
        _check_storable(field, value)
    # An empty text names no call.
    fields["call_uuid"] = native.call_uuid or None
    extra = {key: value for key, value in decoded.items() if key not in _CALL_KEYS}
    call = Call(**fields, extra=extra or None)
    calls.check(call)
    return Part(session_id=_session(native.session_id), call=call, events=_events(native.events or []))


def read_events(record: bytes, max_depth: int) -> Part:
    """Events of a call that is known, or will be. Raises RecordError."""
    native = _convert(json_object(record, max_depth), NativeEvents)
    if not native.events:
        raise RecordError("events is empty")
    return Part(session_id=_session(native.session_id), events=_events(native.events))


def written(call: Call, events: Sequence[Event]) -> bytes:
    """The record that read_call reads as *call* and *events*."""
    fields = {name: value for name, value in msgspec.structs.asdict(call).items() if value is not None}
    fields = {**(fields.pop("extra", None) or {}), **fields}
    for name in fields.keys() & {*_INSTANTS, *_LENGTHS}:
        fields[name] /= SECOND
    fields["events"] = [NativeEvent(e.timestamp / SECOND, e.line, e.class_, e.seq, e.data) for e in events]
    return _encode(fields)


def _convert(decoded: dict[str, Any], kind: type[Any]) -> Any:
    try:
        return msgspec.convert(decoded, kind)
    except msgspec.ValidationError as error:
        raise RecordError(str(error)) from None


def _session(session_id: str) -> str:
    if not session_id or len(session_id) > MAX_ID:
        raise RecordError(f"session_id must have 1 to {MAX_ID} characters")
    _check_storable("session_id", session_id)
    return session_id


def _check_storable(field: str, value: Any) -> None:
    if isinstance(value, str) and "\0" in value:
        raise RecordError(f"{field} holds a NUL character")
    if isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise RecordError(f"{field} is out of range")


def _instant(field: str, value: Instant | None) -> int | None:
    if value is None or value == "":
        return None
    try:
        return parse_instant(value)
    except ValueError as error:
        raise RecordError(f"{field} {error}") from None


def _length(field: str, value: Seconds | None) -> int | None:
    if value is None:
        return None
    if not 0 <= value * SECOND < YEAR:
        raise RecordError(f"{field} is out of range: seconds expected")
    return round(value * SECOND)


def _money(field: str, value: Money | None) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or len(str(amount)) > 40 or abs(amount.adjusted()) > 20:
        raise RecordError(f"{field} is no decimal number")
    return amount


def _events(events: list[NativeEvent]) -> tuple[Event, ...]:
    read = []
    for number, event in enumerate(events):
        try:
            timestamp = parse_instant(event.timestamp)
        except ValueError as error:
            raise RecordError(f"events[{number}].timestamp {error}") from None
        if event.seq is not None:
            _check_storable(f"events[{number}].seq", event.seq)
        read.append(Event(timestamp, event.seq, event.class_, event.line, event.data))
    return tuple(read)


plugin = Source(name="native", readers={"calls": read_call, "events": read_events})
