"""The record of a leg, in the shape of document.py → Call."""

import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from itertools import islice
from typing import Any

from callhouse.errors import RecordError, shortened
from callhouse.model.call import Call, Direction
from callhouse.model.instant import MAX_SECONDS, SECOND
from callhouse.model.record import Part
from callhouse.sources import MAX_ID
from callhouse.sources.freeswitch import causes
from callhouse.sources.freeswitch.events import events_of

_SECOND_HALF = re.compile(r"loopback/.*-b", re.DOTALL)
_MAX_STEPS = 100
"""Transfers of one leg that are looked at."""


class Variables:
    """The channel variables of a leg as text; one that has several values gives the first."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        """The value, without NUL characters; empty when there is none."""
        value = self._values.get(name, "")
        if isinstance(value, str):
            return value.replace("\0", "\ufffd")
        return next(iter(texts(value)), "")

    def all(self, name: str) -> list[str]:
        return texts(self._values.get(name))


def texts(value: Any) -> list[str]:
    """The texts that *value* is or holds, without NUL characters."""
    return [
        member.replace("\0", "\ufffd")
        for member in (value if isinstance(value, list) else [value])
        if isinstance(member, str)
    ]


def part(document: dict[str, Any], zone: tzinfo, *, whole: bool) -> Part:
    """What *document* says of its leg. *zone* is the one of the stamps without a zone, for what has nothing better.

    A *whole* document's rest is kept member by member; that of a row of mod_cdr_csv stands apart, so that it does not
    replace that of the other. Raises RecordError.
    """
    variables = Variables(document["variables"])
    session_id = variables["uuid"]
    if not 1 <= len(session_id) <= MAX_ID:
        raise RecordError(f"its variable uuid must have 1 to {MAX_ID} characters")
    profiles = _profiles(document)
    oldest = profiles[-1] if profiles else {}
    caller = _mapping(oldest.get("caller_profile"))
    start, answer, end = _instants(variables, profiles, zone)
    applications = [_mapping(a) for a in _members(_mapping(document.get("app_log")).get("applications"))]
    parent = _parent(variables, caller)
    inbound = _is_inbound(document, variables)
    cause = _cause(variables, answered=answer is not None)
    code, scheme = causes.code_of(cause, variables["hangup_cause_q850"])
    talk = 0 if answer is None else end - answer
    rest = {key: value for key, value in document.items() if key != "app_log" or not applications}
    call = Call(
        session_id=session_id,
        call_uuid=session_id,
        parent_call_uuid=parent if parent != session_id else None,
        direction=_direction(variables, profiles, applications, inbound=inbound and not parent),
        src=_first(*texts(caller.get("caller_id_number")), variables["caller_id_number"], variables["sip_from_user"]),
        dest=_first(
            *texts(caller.get("destination_number")),
            variables["destination_number"],
            variables["sip_req_user"],
            variables["sip_to_user"],
        ),
        start=start,
        answer=answer,
        end=end,
        duration=talk,
        billed_duration=talk,
        hangup_cause_name=cause or None,
        hangup_original_code=code,
        hangup_original_scheme=scheme,
        hangup_source=_hangup_source(variables, cause, inbound=inbound),
        source_ip=_first(variables["sip_network_ip"], variables["network_addr"]),
        channel=_first(variables["channel_name"], *texts(caller.get("chan_name"))),
        conference_uuid=_first(variables["conference_uuid"]),
        sip_call_id=_first(variables["sip_call_id"]),
        extra=rest if whole else {"cdr_csv": document["variables"]},
    )
    return Part(session_id=session_id, call=call, events=events_of(applications, variables, start=start, end=end))


def _profiles(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of the call flow, the newest first as they are sent."""
    profiles = [_mapping(profile) for profile in _members(document.get("callflow"))]
    return sorted(profiles, key=lambda profile: -_number(profile.get("profile_index")))


def _instants(variables: Variables, profiles: list[Mapping[str, Any]], zone: tzinfo) -> tuple[int, int | None, int]:
    newest = _mapping(profiles[0].get("times")) if profiles else {}
    start = _instant(variables, "start", newest.get("created_time"), zone)
    answer = _instant(variables, "answer", newest.get("answered_time"), zone)
    end = _instant(variables, "end", newest.get("hangup_time"), zone)
    if end is None and start is not None:
        end = _end_by_duration(start, variables["duration"])
    if start is None:
        raise RecordError("does not say when the leg began")
    if end is None:
        raise RecordError("does not say when the leg ended; FreeSWITCH sends a record of what is over")
    # A clock that was set back while the call was up must not cost its record.
    end = max(start, end)
    return start, None if answer is None else min(max(start, answer), end), end


def _instant(variables: Variables, name: str, profile_time: Any, zone: tzinfo) -> int | None:
    """Milliseconds; None for what never happened, which is 0 or empty in the record."""
    for micros in (variables[f"{name}_uepoch"], *texts(profile_time)):
        if (number := _number(micros)) and number // 1_000 < MAX_SECONDS * SECOND:
            return number // 1_000
    if (number := _number(variables[f"{name}_epoch"])) and number < MAX_SECONDS:
        return number * SECOND
    if not (stamp := variables[f"{name}_stamp"]):
        return None
    try:
        when = datetime.fromisoformat(stamp)
        seconds = when.replace(tzinfo=when.tzinfo or zone).timestamp()
    except (ValueError, OverflowError):
        seconds = MAX_SECONDS
    if seconds >= MAX_SECONDS:
        raise RecordError(f"{name}_stamp is {shortened(stamp)!r}: a time such as 2026-11-20 22:32:38 expected")
    return int(seconds * SECOND) if seconds > 0 else None


def _end_by_duration(start: int, duration: str) -> int | None:
    """The end, where a template of mod_cdr_csv says how long the leg was instead."""
    end = start + _number(duration) * SECOND
    return end if duration.isdigit() and end < MAX_SECONDS * SECOND else None


def _parent(variables: Variables, caller: Mapping[str, Any]) -> str | None:
    originators = _members(_mapping(caller.get("originator")).get("originator_caller_profiles"))
    named = [text for originator in originators[:1] for text in texts(_mapping(originator).get("uuid"))]
    found = _first(variables["originator"], variables["originating_leg_uuid"], *named)
    # The second half of a loopback channel is the one that enters the dialplan; nobody else called there.
    is_second_half = variables["loopback_leg"] == "B" or _SECOND_HALF.fullmatch(variables["channel_name"])
    return found or (_first(variables["other_loopback_leg_uuid"]) if is_second_half else None)


def _is_inbound(document: Mapping[str, Any], variables: Variables) -> bool:
    directions = texts(_mapping(document.get("channel_data")).get("direction"))
    return _first(*directions, variables["direction"]) != "outbound"


def _direction(
    variables: Variables, profiles: list[Mapping[str, Any]], applications: list[Mapping[str, Any]], *, inbound: bool
) -> Direction:
    for transfer in islice(variables.all("transfer_history") or variables.all("transfer_source"), _MAX_STEPS):
        if _is_real_transfer(transfer, profiles, applications):
            return "transfer"
    return "inbound" if inbound else "outbound"


def _is_real_transfer(transfer: str, profiles: list[Mapping[str, Any]], applications: list[Mapping[str, Any]]) -> bool:
    """Whether somebody transferred the call; the dialplan's own application of that name looks the same.

    *transfer* is an entry of the history, such as ``1795213960:29d158ee-…:bl_xfer:ivr_3/default/XML``.
    """
    epoch, _, rest = transfer.partition(":")
    _, _, rest = rest.partition(":")
    kind, _, destination = rest.partition(":")
    if kind == "att_xfer":
        return True
    if kind != "bl_xfer":
        return False
    if applications:
        return not any(
            name == "transfer" and abs(_number(stamp) // 1_000_000 - _number(epoch)) <= 1
            for application in applications
            for name, stamp in [(application.get("app_name"), application.get("app_stamp"))]
        )
    # Without a log, what the dialplan would have done tells; its data is shown before variables were put into it.
    extension = destination.partition("/")[0]
    return not any(
        _mapping(application).get("app_name") == "transfer"
        for profile in profiles[:_MAX_STEPS]
        if extension not in texts(_mapping(profile.get("caller_profile")).get("destination_number"))
        for application in _members(_mapping(profile.get("extension")).get("applications"))
    )


def _cause(variables: Variables, *, answered: bool) -> str:
    """The name of the cause; where a call was never answered, the one of the leg that should have."""
    cause = variables["hangup_cause"]
    if cause != "NORMAL_CLEARING" or answered:
        return cause
    for name in ("originate_disposition", "last_bridge_hangup_cause"):
        if variables[name] not in {"", "SUCCESS"}:
            return variables[name]
    return cause


def _hangup_source(variables: Variables, cause: str, *, inbound: bool) -> str | None:
    bridged = _number(variables["bridge_uepoch"]) > 0 and variables["last_app"] in {"", "bridge"}
    proto = _first(variables["last_bridge_proto_specific_hangup_cause"], variables["proto_specific_hangup_cause"]) or ""
    return causes.ended_by(
        variables["sip_hangup_disposition"],
        cause,
        remote="caller" if inbound else "callee",
        bridged=bridged,
        far_end_answered_no=proto.startswith("sip:") and proto not in {"sip:200", "sip:487"},
    )


def _first(*candidates: str) -> str | None:
    return next((candidate for candidate in candidates if candidate), None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _members(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    """A number written in ASCII digits, below 10^18; 0 for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    return 0
