"""Call: one leg of one call."""

import uuid
from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, get_args

import msgspec

from callhouse.errors import RecordError

Direction = Literal["inbound", "outbound", "transfer"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
CauseScheme = Literal["q850", "sip", "plivo"]

MAX_ID = 256
"""Characters of a session id at most."""

MAX_INTEGER = 2**63
"""Integers that the store holds are below it, and none is below its negative."""

UNKNOWN_CAUSE = 0
UNKNOWN_CAUSE_NAME = "Unknown"
"""Of a call that was closed because nothing more was heard of it, in the words of Plivo's table."""


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One leg of one call, as every source fills it.

    A call may arrive in parts, so everything but its name may be unknown (None). It is in progress until *end* is
    known, and only a call whose *start* and *end* are known is listed.

    *start*, *answer*, *end* are instants and *duration*, *billed_duration* lengths, all in milliseconds. *session_id*
    is the sender's own id, unique in the account. *sip_call_id* is the Call-ID of the leg's SIP dialog, which the
    records that several switches make of one call have in common. *extra* is whatever else the sender sent, as it came.

    Of a call that was mirrored from a vendor, *log_id* is the number that the vendor gave its log, and *told* holds, by
    API, what the vendor says of it otherwise than our API of that name would.
    """

    session_id: str
    call_uuid: str | None = None
    parent_call_uuid: str | None = None
    direction: Direction | None = None
    src: str | None = None
    dest: str | None = None
    start: int | None = None
    answer: int | None = None
    end: int | None = None
    duration: int | None = None
    billed_duration: int | None = None
    hangup_cause_code: int | None = None
    hangup_cause_name: str | None = None
    hangup_source: str | None = None
    hangup_original_code: str | None = None
    hangup_original_scheme: CauseScheme | None = None
    rate: Decimal | None = None
    amount: Decimal | None = None
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
    log_id: int | None = None
    told: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the call is over and may be listed."""
        return self.start is not None and self.end is not None

    @property
    def has_unknown_end(self) -> bool:
        """Whether the call was closed because nothing more was heard of it; *end* is when something last was."""
        return self.end is not None and self.hangup_cause_code == UNKNOWN_CAUSE and not self.hangup_original_code


FIELDS = Call.__struct_fields__
_values = attrgetter(*FIELDS)

_UUID_NAMESPACE = uuid.UUID("15126ba6-e710-4f3e-8df5-e597d6dae380")


def derived_uuid(account_id: int, session_id: str) -> str:
    """The call_uuid of a call that was sent without one: a UUID of version 5, the same at every time."""
    return str(uuid.uuid5(_UUID_NAMESPACE, f"{account_id}/{session_id}"))


def merge(known: Call, arrived: Call) -> Call:
    """One call made of what was *known* and what *arrived*; neither loses what only it says.

    Where both say something, the fuller record wins: one that has an end over one that has none, else the later one.
    Hence parts may arrive in any order and any number of times. An end that is only the last that was heard of a call
    makes way for one that was told.

    Raises RecordError when the parts contradict each other.
    """
    if known.has_unknown_end and arrived.end is not None:
        known = _without_end(known)
    elif arrived.has_unknown_end and known.end is not None:
        arrived = _without_end(arrived)
    base, over = (arrived, known) if known.end is not None and arrived.end is None else (known, arrived)
    changes = {field: value for field in FIELDS if (value := getattr(over, field)) is not None}
    if base.extra and over.extra:
        changes["extra"] = {**base.extra, **over.extra}
    if base.told and over.told:
        changes["told"] = {**base.told, **over.told}
    merged = msgspec.structs.replace(base, **changes)
    check(merged)
    return merged


def _without_end(call: Call) -> Call:
    return msgspec.structs.replace(
        call, end=None, duration=None, billed_duration=None, hangup_cause_code=None, hangup_cause_name=None
    )


def unsaid(known: Call, said: Call) -> Call | None:
    """What is *known* of a call without what *said* alone tells of it; None when nothing else is known."""
    left = {field: value for field in FIELDS if (value := getattr(known, field)) != getattr(said, field)}
    if known.extra and said.extra:
        left["extra"] = {name: value for name, value in known.extra.items() if said.extra.get(name) != value} or None
    left = {field: value for field, value in left.items() if value is not None}
    return Call(**{**left, "session_id": known.session_id}) if left else None


def contradicts(known: Call, told: Call) -> bool:
    """Whether *told* lacks something that was *known* of the call, or has something else in its place."""
    for field in FIELDS:
        value = getattr(known, field)
        if value is None or value == (other := getattr(told, field)):
            continue
        if field not in {"extra", "told"} or other is None or not value.items() <= other.items():
            return True
    return False


def check_storable(call: Call) -> None:
    """Raise RecordError when the store cannot hold what stands in *call*."""
    if not 0 < len(call.session_id) <= MAX_ID:
        raise RecordError(f"session_id must have 1 to {MAX_ID} characters")
    for field, value in zip(FIELDS, _values(call), strict=True):
        if isinstance(value, str):
            if "\0" in value:
                raise RecordError(f"{field} holds a NUL character")
        elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
            raise RecordError(f"{field} is out of range")


def check(call: Call) -> None:
    """Raise RecordError when the instants of *call* contradict each other."""
    if call.start is not None and call.end is not None and call.end < call.start:
        raise RecordError("end is before start")
    if call.answer is not None:
        if call.start is not None and call.answer < call.start:
            raise RecordError("answer is before start")
        if call.end is not None and call.answer > call.end:
            raise RecordError("answer is after end")
