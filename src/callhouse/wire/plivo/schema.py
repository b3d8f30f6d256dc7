"""The bodies of the Plivo API: every key is always there, null where nothing is known."""

import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from callhouse.model import hangup
from callhouse.model.instant import MINUTE, SECOND, time_zone
from callhouse.store.engine import Row

FIELDS = (
    "answer",
    "duration",
    "billed_duration",
    "direction",
    "call_uuid",
    "conference_uuid",
    "end",
    "src",
    "cause_code",
    "hangup_cause_name",
    "hangup_source",
    "start",
    "parent_call_uuid",
    "stir_verification",
    "dest",
    "amount",
    "rate",
    "stir_attestation",
    "voice_network_group",
    "source_ip",
    "told",
)
"""What a row of the store holds for a completed call."""

TOLD = "plivo"
"""Where in what a vendor told of a call stands what Plivo did."""

IN_PROGRESS_FIELDS = (
    "answer",
    "call_uuid",
    "direction",
    "src",
    "start",
    "dest",
    "stir_verification",
    "stir_attestation",
)
"""What a row of the store holds for a call in progress."""

# Rates may have twenty digits before the point and as many behind it.
_MONEY = Context(prec=100, rounding=ROUND_HALF_UP)
_decode_told = msgspec.json.Decoder(dict[str, Any]).decode
_FIVE_PLACES = Decimal("0.00001")

CallDirection = Literal["inbound", "outbound"]


class CompletedCall(msgspec.Struct, gc=False, rename={"stir_attestation_": "Stir_attestation"}):
    """A call that is over. Lengths are in seconds, money is a decimal text, times are in the account's time zone."""

    answer_time: str | None
    api_id: str
    bill_duration: int | None
    billed_duration: int | None
    call_direction: CallDirection
    call_duration: int | None
    call_state: Literal["ANSWER"] | None
    call_uuid: str
    conference_uuid: str | None
    end_time: str
    from_number: str | None
    hangup_cause_code: int | None
    hangup_cause_name: str | None
    hangup_source: str | None
    initiation_time: str
    parent_call_uuid: str | None
    resource_uri: str
    stir_verification: str | None
    to_number: str | None
    total_amount: str | None
    total_rate: str | None
    stir_attestation_: str | None
    voice_network_group: str | None
    source_ip: str | None
    # The documented sample spells it with a capital, every SDK without.
    stir_attestation: str | None
    # No SDK survives its absence in PHP; nothing is known of it here.
    cnam_lookup: str | None


class ListMeta(msgspec.Struct, gc=False):
    """Where the page stands; *next* and *previous* are relative URLs of the pages beside it."""

    limit: int
    next: str | None
    offset: int
    previous: str | None
    total_count: int


class CallList(msgspec.Struct, gc=False):
    """A page of completed calls."""

    api_id: str
    meta: ListMeta
    objects: list[CompletedCall]


ShownCall = Any
"""A CompletedCall; of a call that was mirrored from Plivo a dictionary, with the values that Plivo gave."""


class CallIds(msgspec.Struct):
    """The uuids of calls in progress."""

    api_id: str
    calls: list[str]


class QueuedCall(msgspec.Struct, rename={"from_": "from"}):
    """A call that has not begun."""

    api_id: str
    call_status: Literal["queued"]
    call_uuid: str
    caller_name: str
    direction: CallDirection
    from_: str | None
    request_uuid: str
    to: str | None


class LiveCall(msgspec.Struct, rename={"from_": "from"}):
    """A call that has begun and is not over; *session_start* is in UTC."""

    api_id: str
    call_status: Literal["ringing", "in-progress"]
    call_uuid: str
    caller_name: str
    direction: CallDirection
    from_: str | None
    request_uuid: str
    session_start: str
    to: str | None
    stir_verification: str | None
    stir_attestation: str | None


def completed_calls(rows: Sequence[Row], auth_id: str, timezone: str) -> list[ShownCall]:
    """One body a row of FIELDS; *auth_id* is whose path a client is to use."""
    local = time_zone(timezone)
    path = f"/v1/Account/{auth_id}/Call/"
    return [_as_told(completed_call(row, path, local), row[-1]) for row in rows]


def _as_told(body: CompletedCall, told: str | None) -> ShownCall:
    """*body* with what Plivo itself said of the call."""
    facts = _decode_told(told).get(TOLD) if told else None
    return {**msgspec.to_builtins(body), **facts} if facts else body


def completed_call(row: Row, path: str, local: tzinfo) -> CompletedCall:
    (
        answer,
        duration,
        billed_duration,
        direction,
        call_uuid,
        conference_uuid,
        end,
        src,
        cause,
        cause_name,
        source,
        start,
        parent,
        stir_verification,
        dest,
        amount,
        rate,
        attestation,
        network_group,
        source_ip,
        _,
    ) = row
    if duration is None and answer is not None:
        duration = end - answer
    talk = _seconds(duration)
    return CompletedCall(
        None if answer is None else _time(answer, local),
        _api_id(call_uuid),
        talk,
        _seconds(billed_duration),
        _direction(direction),
        talk,
        None if answer is None else "ANSWER",
        call_uuid,
        conference_uuid,
        _time(end, local),
        src,
        cause,
        hangup.NAMES.get(cause) if cause_name is None else cause_name,
        source,
        _time(start, local),
        parent,
        f"{path}{quote(call_uuid, safe='')}/",
        stir_verification,
        dest,
        _amount(amount, rate, billed_duration),
        None if rate is None else _money(rate),
        attestation,
        network_group,
        source_ip,
        attestation,
        None,
    )


def live_call(row: Row, api_id: str) -> LiveCall:
    """A row of IN_PROGRESS_FIELDS of a call that has begun."""
    answer, call_uuid, direction, src, start, dest, stir_verification, attestation = row
    return LiveCall(
        api_id,
        "ringing" if answer is None else "in-progress",
        call_uuid,
        "",
        _direction(direction),
        src,
        call_uuid,
        datetime.fromtimestamp(start / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        dest,
        stir_verification,
        attestation,
    )


def queued_call(row: Row, api_id: str) -> QueuedCall:
    """A row of IN_PROGRESS_FIELDS of a call that has not begun."""
    _, call_uuid, direction, src, _, dest, _, _ = row
    return QueuedCall(api_id, "queued", call_uuid, "", _direction(direction), src, call_uuid, dest)


def _seconds(length: int | None) -> int | None:
    # A second that has begun counts: the documented sample answers and ends in the same second and lasts one.
    return None if length is None else -(-length // SECOND)


def _time(instant: int, local: tzinfo) -> str:
    return datetime.fromtimestamp(instant // SECOND, local).isoformat(" ")


def _direction(direction: str) -> CallDirection:
    """A transfer leg is one that the platform dials."""
    return "inbound" if direction == "inbound" else "outbound"


# Prices repeat: most calls of an account have one of a few rates, and last one of a few numbers of minutes.
@functools.lru_cache(4_096)
def _amount(amount: str | None, rate: str | None, billed_duration: int | None) -> str | None:
    if amount is not None:
        return _money(amount)
    if rate is None or billed_duration is None:
        return None
    return _rounded(_MONEY.divide(_MONEY.multiply(Decimal(rate), Decimal(billed_duration)), Decimal(MINUTE)))


@functools.lru_cache(4_096)
def _money(amount: str) -> str:
    return _rounded(Decimal(amount))


def _rounded(value: Decimal) -> str:
    # Adding zero turns -0 into 0.
    return f"{_MONEY.add(value.quantize(_FIVE_PLACES, context=_MONEY), Decimal(0)):f}"


def _api_id(call_uuid: str) -> str:
    """Plivo shows the id of the request that made the call; here it is a UUID made of the call's, always the same."""
    digits = hashlib.md5(call_uuid.encode(), usedforsecurity=False).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-3{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
