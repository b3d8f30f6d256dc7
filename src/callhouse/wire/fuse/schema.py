"""The bodies of the Fuse API, byte for byte as published: shared key order, types and white space aside."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from callhouse.model.log import LogEntry
from callhouse.render import xml_element, xml_text
from callhouse.store.engine import Row

FIELDS = ("id", "dest", "src", "direction", "end", "event_count", "start", "session_id", "told")
"""What a row of the store holds for this API."""

TOLD = "fuse"
"""Where in what a vendor told of a call stands what Fuse did."""

_decode_told = msgspec.json.Decoder(dict[str, Any]).decode

CallType = Literal["inbound", "outbound", "transfer"]


class CallBody(msgspec.Struct, gc=False):
    """A call in ``/api/calls``; *start* and *end* are integers here. *src* is ``Outbound`` for an outbound call."""

    dest: str
    src: str
    start: int
    end: int
    session_id: str
    type: CallType
    log: bool


class DetailedCallBody(msgspec.Struct):
    """A call in ``/api/all_logs``; *start* and *end* are strings here. *detail* is its log, or false without one."""

    dest: str
    src: str
    start: str
    end: str
    session_id: str
    detail: msgspec.Raw
    type: CallType
    log: bool


ShownCall = Any
"""A CallBody or DetailedCallBody; of a call that was mirrored a dictionary, where Fuse put something otherwise."""


def call_bodies(rows: Sequence[Row], details_since: int) -> list[ShownCall]:
    """One body a row; a log is shown of a call that has one and ended at *details_since* (ms) or later."""
    bodies: list[ShownCall] = [*own_bodies(rows, details_since)]
    for number, row in enumerate(rows):
        if row[-1]:
            bodies[number] = as_told(bodies[number], row[-1])
    return bodies


def as_told(body: CallBody | DetailedCallBody, told: str | None) -> ShownCall:
    """*body* with what Fuse itself said of the call."""
    facts = _decode_told(told).get(TOLD) if told else None
    return {**msgspec.structs.asdict(body), **facts} if facts else body


def own_bodies(rows: Iterable[Row], details_since: int) -> list[CallBody]:
    """The same without what Fuse said of mirrored calls."""
    return [
        CallBody(
            dest or "",
            "Outbound" if direction == "outbound" else src or "",
            start // 1000,
            end // 1000,
            session_id,
            direction,
            event_count > 0 and end >= details_since,
        )
        for _, dest, src, direction, end, event_count, start, session_id, _ in rows
    ]


def detailed_call_body(row: Row, log: bytes | None) -> ShownCall:
    """*log* is the JSON array of the call's events, or None when there is none to show."""
    [short] = own_bodies([row], 0)
    body = DetailedCallBody(
        short.dest,
        short.src,
        str(short.start),
        str(short.end),
        short.session_id,
        msgspec.Raw(b"false" if log is None else log),
        short.type,
        log is not None,
    )
    return as_told(body, row[-1])


def call_xml(body: ShownCall) -> str:
    if isinstance(body, dict):
        return xml_element("item", body)
    return (
        f"<item><dest>{xml_text(body.dest)}</dest><src>{xml_text(body.src)}</src><start>{body.start}</start>"
        f"<end>{body.end}</end><session_id>{xml_text(body.session_id)}</session_id><type>{body.type}</type>"
        f"<log>{'true' if body.log else 'false'}</log></item>"
    )


def detailed_call_xml(row: Row, log: list[LogEntry] | None) -> str:
    body = detailed_call_body(row, None if log is None else b"")
    fields = body if isinstance(body, dict) else msgspec.structs.asdict(body)
    detail = f"<detail>{'false' if log is None else log_xml(log)}</detail>"
    elements = [detail if name == "detail" else xml_element(name, value) for name, value in fields.items()]
    return f"<item>{''.join(elements)}</item>"


def log_xml(log: list[LogEntry]) -> str:
    """The ``<item>`` elements of a log."""
    return "".join(
        f"<item><event><line>{xml_text(entry.event.line)}</line>{xml_element('data', entry.event.data)}</event>"
        f"<class>{entry.class_}</class><timestamp>{entry.timestamp}</timestamp></item>"
        for entry in log
    )


class LogEventBody(msgspec.Struct):
    line: str
    data: dict[str, Any]


class LogEntryBody(msgspec.Struct, rename={"class_": "class"}):
    """An event in a log; *timestamp* is in epoch seconds."""

    event: LogEventBody
    class_: Literal["info", "event", "debug", "prompt", "error"]
    timestamp: int


class CallsBody(msgspec.Struct):
    """The answer of ``/api/calls``."""

    calls: list[CallBody]
    total_calls: int


class DetailedCall(msgspec.Struct):
    """A call with its log."""

    dest: str
    src: str
    start: str
    end: str
    session_id: str
    detail: list[LogEntryBody] | Literal[False]
    type: CallType
    log: bool


class AllLogsBody(msgspec.Struct):
    """The answer of ``/api/all_logs``."""

    calls: list[DetailedCall]
    total_calls: int
