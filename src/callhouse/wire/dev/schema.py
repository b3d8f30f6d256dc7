r"""The bodies of the DEV API, byte for byte as published: shared key order, escapes and white space aside.

Every value is a string. In JSON a slash is written ``\/``, as the vendor's samples have it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from callhouse.render import XML_DECLARATION, xml_text
from callhouse.store.engine import Row

SERVICES = ("logs", "log", "sessions", "errors")
_MEMBER = {"logs": "log", "sessions": "session", "errors": "error"}
"""The name of a list's members in XML."""

LISTED = ("shown_log_id", "dest", "direction", "src", "end", "start", "session_id", "told")
"""What a row of the store holds for a call in the list of logs."""

TOLD_SESSION, TOLD_ERRORS, TOLD_LISTED, TOLD_LOG = "dev.session", "dev.errors", "dev.listed", "dev.log"
"""Where in what a vendor told of a call stand its session line, its error lines (each by its time in epoch seconds and
its message), and the fields of its two descriptions in which they differ from ours.
"""

_decode_told = msgspec.json.Decoder(dict[str, Any]).decode

CallType = Literal["inbound", "outbound", "transfer"]


class ErrorBody(msgspec.Struct):
    """Every failure of this API; it has no result."""

    status: Literal["failure"]
    error: str


class LogBody(msgspec.Struct, gc=False):
    """A call in ``/ws/calls/logs``; *start* and *end* in epoch seconds."""

    log_id: str
    session_id: str
    dest: str
    type: CallType
    src: str
    start: str
    end: str


class LogsResult(msgspec.Struct):
    total_logs: str
    logs: list[LogBody]


class LogResult(msgspec.Struct):
    """*timestamp* is the call's start in epoch seconds; *log* has a line for each event."""

    dest: str
    src: str
    type: CallType
    timestamp: str
    location: str
    log: str


class SessionsResult(msgspec.Struct):
    total_sessions: str
    sessions: list[str]


class ErrorsResult(msgspec.Struct):
    total_errors: str
    errors: list[str]


class LogsBody(msgspec.Struct):
    """The answer of ``/ws/calls/logs``."""

    status: Literal["success"]
    error: Literal[""]
    result: LogsResult


class OneLogBody(msgspec.Struct):
    """The answer of ``/ws/calls/log``."""

    status: Literal["success"]
    error: Literal[""]
    result: LogResult


class SessionsBody(msgspec.Struct):
    """The answer of ``/ws/calls/sessions``."""

    status: Literal["success"]
    error: Literal[""]
    result: SessionsResult


class ErrorsBody(msgspec.Struct):
    """The answer of ``/ws/calls/errors``."""

    status: Literal["success"]
    error: Literal[""]
    result: ErrorsResult


def fact(told: str | None, name: str) -> Any:
    """What the vendor told of a call under that name; None when it told nothing that we would not say likewise."""
    return _decode_told(told).get(name) if told else None


def log_bodies(rows: Sequence[Row]) -> list[LogBody]:
    """One body a row."""
    bodies = [
        LogBody(str(log_id), session_id, dest or "", direction, src or "", str(start // 1000), str(end // 1000))
        for log_id, dest, direction, src, end, start, session_id, _ in rows
    ]
    for number, row in enumerate(rows):
        if row[-1] and (facts := fact(row[-1], TOLD_LISTED)):
            bodies[number] = msgspec.structs.replace(bodies[number], **facts)
    return bodies


def json(body: Any) -> bytes:
    """*body* as this API writes it; a slash stands nowhere but in strings."""
    return msgspec.json.encode(body).replace(b"/", b"\\/")


def xml_document(service: str, body: Any) -> bytes:
    """*body* below the root that is named as its service."""
    return XML_DECLARATION + _element(service, msgspec.to_builtins(body)).encode()


def _element(name: str, value: Any) -> str:
    if isinstance(value, str):
        content = xml_text(value)
    elif isinstance(value, dict):
        content = "".join([_element(key, member) for key, member in value.items()])
    else:
        content = "".join([_element(_MEMBER[name], member) for member in value])
    return f"<{name}>{content}</{name}>"


def opening(service: str, total: int, *, xml: bool) -> bytes:
    """What stands before the members of a list."""
    if xml:
        envelope = f"<{service}><status>success</status><error></error><result>"
        return XML_DECLARATION + f"{envelope}<total_{service}>{total}</total_{service}><{service}>".encode()
    return f'{{"status":"success","error":"","result":{{"total_{service}":"{total}","{service}":['.encode()


def members(service: str, bodies: Sequence[LogBody] | Sequence[str], *, xml: bool) -> bytes:
    """Members of a list; in JSON without the comma between these and others."""
    if xml:
        return "".join([_element(_MEMBER[service], member) for member in msgspec.to_builtins(bodies)]).encode()
    return json(bodies)[1:-1]


def closing(service: str, *, xml: bool) -> bytes:
    """What stands after the members of a list."""
    return f"</{service}></result></{service}>".encode() if xml else b"]}}"
