"""The log of a finished call as one document, made to be stored small and served without being parsed.

Two lines. The first is a JSON array with an element for each event, in order::

    {"event": {"line": "...", "data": {...}}, "class": "info", "timestamp": 1575898386}

The second holds what the elements do not show, in the same order: ``[milliseconds past the second, seq]`` each; it is
empty when every event is on the second and none has a seq. JSON escapes line feeds, so the first one ends the array.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from callhouse.model.event import Event, EventClass


class Step(msgspec.Struct, gc=False):
    line: str
    data: dict[str, Any]


class LogEntry(msgspec.Struct, gc=False):
    """An element of the array; *timestamp* is in whole seconds."""

    event: Step
    class_: EventClass = msgspec.field(name="class")
    timestamp: int


_encode = msgspec.json.Encoder().encode
_timestamp = attrgetter("timestamp")
_position = attrgetter("position")
_decode_entries = msgspec.json.Decoder(list[LogEntry]).decode
_decode_rest = msgspec.json.Decoder(list[tuple[int, int | None]]).decode


def pack(events: Sequence[Event]) -> bytes:
    """The document of *events*, which stand in the order of Event.position."""
    entries = [LogEntry(Step(e.line, e.data), e.class_, e.timestamp // 1000) for e in events]
    rest = b""
    if any(e.seq is not None or e.timestamp % 1000 for e in events):
        rest = _encode([(e.timestamp % 1000, e.seq) for e in events])
    return _encode(entries) + b"\n" + rest


def entries(document: bytes) -> bytes:
    """The JSON array of *document*, as bytes to splice into an answer."""
    return document[: document.index(b"\n")]


def decode_entries(document: bytes) -> list[LogEntry]:
    """The elements of the array of *document*."""
    return _decode_entries(entries(document))


def unpack(document: bytes) -> list[Event]:
    """The events of *document*; pack gives the same bytes back."""
    array, _, rest = document.partition(b"\n")
    shown = _decode_entries(array)
    hidden = _decode_rest(rest) if rest else [(0, None)] * len(shown)
    return [
        Event(e.timestamp * 1000 + ms, seq, e.class_, e.event.line, e.event.data)
        for e, (ms, seq) in zip(shown, hidden, strict=True)
    ]


def identities(events: Iterable[Event]) -> list[bytes]:
    """A key for each event that a repeat of it shares and no other event does.

    Events that are alike in everything are told apart by how often they came before in *events*, so a caller who
    pressed the same key twice is not merged into one, while sending the same list again adds nothing.
    """
    seen: dict[bytes, int] = {}
    keys = []
    for event in events:
        key = _encode((event.timestamp, event.seq, event.class_, event.line, event.data))
        seen[key] = nth = seen.get(key, 0) + 1
        keys.append(b"%d %b" % (nth, key))
    return keys


def merge(known: Sequence[Event], arrived: Iterable[Sequence[Event]]) -> list[Event]:
    """*known* and the lists that *arrived*, each event once, in the order of Event.position."""
    merged = dict(zip(identities(known), known, strict=True))
    for part in arrived:
        for key, event in zip(identities(part), part, strict=True):
            merged.setdefault(key, event)
    return in_order(merged.values())


def in_order(events: Iterable[Event]) -> list[Event]:
    """*events* in the order of Event.position; those that tie keep the order in which they stand."""
    listed = list(events)
    if all(event.seq is None for event in listed):
        return sorted(listed, key=_timestamp)
    return sorted(listed, key=_position)
