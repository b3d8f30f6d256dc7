"""How an account at Plivo is followed: its pages, and a call of Plivo's → Call."""

import re
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import quote

import msgspec

from callhouse.errors import RecordError
from callhouse.model import call as calls
from callhouse.model import halves, hangup
from callhouse.model.account import Account
from callhouse.model.call import Call
from callhouse.model.event import nests_deeper_than
from callhouse.model.instant import DAY, HOUR, MAX_SECONDS, SECOND, time_zone
from callhouse.model.record import Part
from callhouse.store.engine import Row
from callhouse.wire import Ask, Found, Page, Upstream, Window, read_list
from callhouse.wire.plivo import schema

ROWS = 20
"""Calls on one page at most."""

_RESOURCE = re.compile(r"/v1/Account/[^/]+/Call/([^/]+)/")


class ToldMeta(msgspec.Struct):
    total_count: int


class ToldPage(msgspec.Struct):
    """A page of Plivo's list; each call is left as it came."""

    meta: ToldMeta
    objects: list[msgspec.Raw]


class ToldCall(msgspec.Struct):
    """What is read of a call of Plivo's."""

    call_uuid: str
    initiation_time: str
    end_time: str
    answer_time: str | None = None
    bill_duration: int | None = None
    billed_duration: int | None = None
    call_direction: str | None = None
    conference_uuid: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    hangup_cause_code: int | None = None
    hangup_cause_name: str | None = None
    hangup_source: str | None = None
    parent_call_uuid: str | None = None
    source_ip: str | None = None
    stir_verification: str | None = None
    Stir_attestation: str | None = None
    stir_attestation: str | None = None
    total_amount: str | None = None
    total_rate: str | None = None
    voice_network_group: str | None = None


async def fetch(ask: Ask, auth_id: str, window: Window, at_most: int) -> Found:
    """The calls that ended in *window*."""

    async def page(offset: int) -> Page:
        told = await _page(ask, auth_id, window, offset)
        return Page(told.meta.total_count, list(map(halves.as_it_came, told.objects)))

    return await read_list(page, at_most, _identity)


class _Named(msgspec.Struct):
    call_uuid: str


def _identity(record: bytes) -> str | bytes:
    try:
        return msgspec.json.decode(record, type=_Named).call_uuid
    except (msgspec.DecodeError, UnicodeDecodeError):
        return record


async def count(ask: Ask, auth_id: str, window: Window) -> int:
    """How many calls ended in *window*."""
    return (await _page(ask, auth_id, window, 0, limit=1)).meta.total_count


async def _page(ask: Ask, auth_id: str, window: Window, offset: int, limit: int = ROWS) -> ToldPage:
    bounds = {"end_time__gte": _written(window.since), "end_time__lt": _written(window.until)}
    path = f"/v1/Account/{quote(auth_id, safe='')}/Call/"
    return await ask(ToldPage, path, {**bounds, "limit": limit, "offset": offset})


def _written(instant: int) -> str:
    return datetime.fromtimestamp(instant / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S")


def read(record: bytes, account: Account, max_depth: int) -> Part:
    """A call of Plivo's. Raises RecordError."""
    try:
        shown = msgspec.json.decode(record, type=dict[str, Any])
        told = msgspec.convert(shown, ToldCall, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(f"is no call of Plivo's: {error}") from None
    except RecursionError:
        raise RecordError(f"nests deeper than {max_depth}") from None
    if nests_deeper_than(shown, max_depth):
        raise RecordError(f"nests deeper than {max_depth}")
    call = to_call(told, time_zone(account.timezone))
    calls.check_storable(call)
    calls.check(call)
    facts = _told_otherwise(shown, call, account)
    call = msgspec.structs.replace(call, told={schema.TOLD: facts} if facts else None)
    return Part(session_id=call.session_id, call=call, replaces_call=True)


def to_call(told: ToldCall, zone: tzinfo) -> Call:
    """The call; a time without an offset is in *zone*. Raises RecordError."""
    return Call(
        session_id=told.call_uuid,
        call_uuid=told.call_uuid,
        parent_call_uuid=told.parent_call_uuid,
        direction={"inbound": "inbound", "outbound": "outbound"}.get(told.call_direction or ""),  # type: ignore[arg-type]
        src=told.from_number,
        dest=told.to_number,
        start=_instant("initiation_time", told.initiation_time, zone),
        answer=None if told.answer_time is None else _instant("answer_time", told.answer_time, zone),
        end=_instant("end_time", told.end_time, zone),
        duration=_length("bill_duration", told.bill_duration),
        billed_duration=_length("billed_duration", told.billed_duration),
        hangup_cause_code=told.hangup_cause_code,
        hangup_cause_name=told.hangup_cause_name,
        hangup_source=told.hangup_source,
        rate=_money(told.total_rate),
        amount=_money(told.total_amount),
        conference_uuid=told.conference_uuid,
        stir_verification=told.stir_verification,
        stir_attestation=told.Stir_attestation if told.stir_attestation is None else told.stir_attestation,
        source_ip=told.source_ip,
        voice_network_group=told.voice_network_group,
    )


def _told_otherwise(shown: dict[str, Any], call: Call, account: Account) -> dict[str, Any]:
    """What Plivo says of *call* that we would not say as it does."""
    body = schema.completed_call(_row(call), f"/v1/Account/{account.auth_id}/Call/", time_zone(account.timezone))
    ours = msgspec.to_builtins(body)
    facts = {
        key: value
        for key, value in shown.items()
        if key not in ours or type(ours[key]) is not type(value) or ours[key] != value
    }
    # The account in the path is Plivo's; here it is the one that asks.
    resource = _RESOURCE.fullmatch(str(facts.get("resource_uri")))
    if resource and f"/{resource[1]}/" in body.resource_uri:
        del facts["resource_uri"]
    return facts


def _row(call: Call) -> Row:
    """*call* as the store gives it to the schema."""
    values = {
        **msgspec.structs.asdict(call),
        "direction": call.direction or "inbound",
        "cause_code": hangup.cause_code(call),
        "amount": None if call.amount is None else str(call.amount),
        "rate": None if call.rate is None else str(call.rate),
    }
    return tuple(map(values.__getitem__, schema.FIELDS))


def _instant(name: str, written: str, zone: tzinfo) -> int:
    try:
        when = datetime.fromisoformat(written)
    except ValueError:
        raise RecordError(f"{name} is no time") from None
    if when.tzinfo is None:
        when = when.replace(tzinfo=zone)
    seconds = int(when.replace(microsecond=0).timestamp())
    if not 0 <= seconds < MAX_SECONDS:
        raise RecordError(f"{name} is out of range")
    return seconds * SECOND + when.microsecond // 1_000


def _length(name: str, seconds: int | None) -> int | None:
    if seconds is not None and not 0 <= seconds < calls.MAX_INTEGER // SECOND:
        raise RecordError(f"{name} is out of range")
    return None if seconds is None else seconds * SECOND


def _money(text: str | None) -> Decimal | None:
    """None for what is no number, which is then kept as it was told."""
    try:
        amount = Decimal(text) if text is not None and len(text) <= 40 else Decimal("NaN")
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount.adjusted()) <= 20 else None


upstream = Upstream(
    url="https://api.plivo.com",
    user="auth id",
    keeps=90 * DAY,
    keeps_log=None,
    clock="end",
    longest=30 * DAY,
    at_once=20 * ROWS,
    # Of 300 in five seconds; the account's own scripts ask too.
    rate=50,
    slack=HOUR,
    fetch=fetch,
    total=count,
    read=read,
)
