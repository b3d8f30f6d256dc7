"""All that is known of one Call-ID → the call that it was, and each attempt that was not yet that call.

A caller's agent uses one Call-ID for each of its attempts, a proxy before this one for each server that it tries. acc
writes one row for an INVITE, another for its BYE, and as configured one for each branch that failed and each re-INVITE.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from callhouse.model.call import UNKNOWN_CAUSE, UNKNOWN_CAUSE_NAME, Call, CauseScheme
from callhouse.model.event import Event, EventClass
from callhouse.model.instant import SECOND
from callhouse.model.record import Part
from callhouse.sources import MAX_ID

TRIED_AGAIN = {*map(str, range(300, 400)), "401", "407", "413", "415", "416", "420", "421", "422", "494"}
"""Answers after which the caller's agent tries again, better, with the same Call-ID (RFC 3261, 8.1.3.4 and 8.1.3.5)."""

_NO_FAILURES = {"487", *TRIED_AGAIN}
"""Who gives up before anybody answers makes no error, and who tries again neither."""

_SIDES = {"487": "caller", "408": "timeout"}
"""Who ended a call that was not answered, where its final answer tells."""


class Attempt(msgspec.Struct, frozen=True, tag="cdr"):
    """A record of acc_json: what became of one INVITE from outside. *code* is its final SIP answer."""

    code: str
    call: Call
    events: tuple[Event, ...]


class AccRow(msgspec.Struct, frozen=True, tag="acc"):
    """A row of acc: the final answer of one transaction. *call* is what the row says of a call, without its times."""

    time: int
    is_bye: bool
    code: str
    from_tag: str
    to_tag: str
    call: Call
    columns: dict[str, str]


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """Stands for the row that a call never got."""


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[Attempt | AccRow | Lost]).decode


def session_of(call_id: str, attempt: str = "") -> str:
    """The session_id of a call: its Call-ID, which a sender may make longer than an id can be.

    An *attempt* that only led to another one is a call of its own, lest the two be taken for one.
    """
    session_id = f"{call_id};{attempt}" if attempt else call_id
    if len(session_id) <= MAX_ID:
        return session_id
    digest = hashlib.blake2b(session_id.encode(errors="replace"), digest_size=16).hexdigest()
    return f"{call_id[: MAX_ID - len(digest) - 1]}~{digest}"


def join(group: str, contents: Sequence[bytes]) -> list[Part]:
    """The calls that *contents* tell of, whatever their order: first the one that has the name *group*.

    That is the first one that was answered, or else the last one. A call in progress has no log yet.
    """
    told = _decode(b"[" + b",".join(sorted(contents)) + b"]")
    rows = sorted((row for row in told if isinstance(row, AccRow)), key=lambda row: (row.time, row.is_bye, row.code))
    attempts = {attempt.call.start: attempt for attempt in told if isinstance(attempt, Attempt)}
    of_rows = _attempts_of(rows, is_lost=any(isinstance(row, Lost) for row in told))
    if not attempts or (_was_answered(of_rows) and not _was_answered(attempts.values())):
        attempts = {attempt.call.start: attempt for attempt in (*attempts.values(), *of_rows)}
        rows = []
    if not attempts:
        return []
    main = max(attempts.values(), key=_weight)
    others = [attempt for attempt in attempts.values() if attempt is not main]
    return [_part(main, group, rows), *(_part(attempt, _name(attempt)) for attempt in others)]


def _was_answered(attempts: Iterable[Attempt]) -> bool:
    return any(attempt.call.answer is not None for attempt in attempts)


def _weight(attempt: Attempt) -> tuple[bool, bool, int]:
    """How well *attempt* stands for the call."""
    start = attempt.call.start or 0
    answered = attempt.call.answer is not None
    return answered, attempt.code not in TRIED_AGAIN, -start if answered else start


def _name(attempt: Attempt) -> str:
    start = attempt.call.start or 0
    return session_of(attempt.call.sip_call_id or "", f"{start // SECOND}.{start % SECOND:03}")


def _part(attempt: Attempt, session_id: str, rows: Sequence[AccRow] = ()) -> Part:
    """*attempt* under its name; *rows* tell of the same call, and are kept with it."""
    call = msgspec.structs.replace(attempt.call, session_id=session_id)
    if rows:
        call = msgspec.structs.replace(call, extra={**(call.extra or {}), "acc_rows": [row.columns for row in rows]})
    return Part(session_id=session_id, call=call, events=attempt.events)


def _attempts_of(rows: Sequence[AccRow], *, is_lost: bool) -> list[Attempt]:
    """What *rows*, in order, tell: attempts that led to another one, and the call that all others are of."""
    again = [row for row in rows if not row.is_bye and row.code in TRIED_AGAIN]
    attempts = [_attempt([row], [], is_lost=False) for row in again]
    invites = [row for row in rows if not row.is_bye and row not in again]
    byes = [row for row in rows if row.is_bye]
    return [*attempts, _attempt(invites, byes, is_lost=is_lost)] if invites or byes else attempts


def _attempt(invites: Sequence[AccRow], byes: Sequence[AccRow], *, is_lost: bool) -> Attempt:
    """The call that *invites* and *byes* are of: its branches, its re-INVITEs and its end."""
    answered = next((row for row in invites if row.code.startswith("2")), None)
    final = answered or (invites[-1] if invites else byes[0])
    first = (*invites, *byes)[0]
    # A clock that was set back must not keep a call open.
    bye = next((row for row in byes if row.time >= final.time), byes[-1] if byes else None)
    end: int | None = None
    if bye is not None and (invites or is_lost):
        end = bye.time
    elif invites and answered is None:
        end = final.time
    elif is_lost:
        end = (*invites, *byes)[-1].time
    call = _call(first, final, end, answered=answered, bye=bye)
    call = msgspec.structs.replace(call, extra=_extra(final, bye, [*invites, *byes]))
    return Attempt(final.code, call, events_of(call, final.code) if call.is_complete else ())


def _call(first: AccRow, final: AccRow, end: int | None, *, answered: AccRow | None, bye: AccRow | None) -> Call:
    answer = None if answered is None else answered.time
    talk: int | None = None
    if end is not None:
        end = max(first.time, answer or 0, end)
        talk = 0 if answer is None else end - answer
    cause: tuple[str | None, CauseScheme | None] = ("16", "q850") if answered else (final.code or None, "sip")
    is_unknown = end is not None and bye is None and answered is not None
    name = final.call.hangup_cause_name
    if end is None or is_unknown or final.is_bye:
        cause, name = (None, None), UNKNOWN_CAUSE_NAME if is_unknown else None
    return msgspec.structs.replace(
        first.call,
        start=first.time,
        answer=answer,
        end=end,
        duration=talk,
        billed_duration=talk,
        hangup_cause_code=UNKNOWN_CAUSE if is_unknown else None,
        hangup_cause_name=name,
        hangup_original_code=cause[0],
        hangup_original_scheme=cause[1] if cause[0] else None,
        hangup_source=_side(answered, bye) if answered else _SIDES.get(final.code),
    )


def _side(answered: AccRow, bye: AccRow | None) -> str | None:
    """Who ended the call: the tag of a BYE's From is the one that its sender had in the INVITE."""
    if bye is None or not bye.from_tag or answered.from_tag == answered.to_tag:
        return None
    return {answered.from_tag: "caller", answered.to_tag: "callee"}.get(bye.from_tag)


def _extra(final: AccRow, bye: AccRow | None, rows: Sequence[AccRow]) -> dict[str, Any]:
    extra: dict[str, Any] = {} if final.is_bye else {"acc_invite": final.columns}
    if bye is not None:
        extra["acc_bye"] = bye.columns
    others = [row.columns for row in rows if row is not final and row is not bye]
    return {**extra, "acc_rows": others} if others else extra


def events_of(call: Call, code: str, *, ring: int | None = None, name: str = "", reason: str = "") -> tuple[Event, ...]:
    """What can be told of a *call* that no application handled and that is over: two to four steps."""
    start, end = call.start or 0, call.end or 0
    side, text = call.hangup_source or "", call.hangup_cause_name or ""
    failed = call.answer is None and code >= "4" and code not in _NO_FAILURES
    last = " ".join(filter(None, (code, text, f"({side})" if side else "")))
    if call.answer is not None:
        last = f"Ended by {side}" if side else "Ended"
    steps: list[tuple[int | None, EventClass, str, dict[str, Any]]] = [
        (start, "info", f"INVITE from {call.src or ''} to {call.dest or ''}", {"name": name, "module_type": "invite"}),
        (ring, "info", "Ringing", {"module_type": "ring"}),
        (call.answer, "info", "Answered", {"module_type": "answer"}),
        (
            end,
            "error" if failed else "event",
            last or "Ended",
            {"sip_code": code, "sip_reason": text, "reason": reason, "module_type": "hangup"},
        ),
    ]
    return tuple(
        Event(min(max(start, at), end), seq, class_, line, {**data, "result_variable": ""})
        for seq, (at, class_, line, data) in enumerate(steps)
        if at is not None
    )
