"""How each route's records are read; without HTTP and the store, as a process that only reads needs neither."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from callhouse import sources
from callhouse.discovery import discover
from callhouse.errors import RecordError
from callhouse.ingest.limits import IngestLimits
from callhouse.model.record import Fragment, Part
from callhouse.sources import CUT_OFF, ReadRecord, Source, Splitter


@dataclass(frozen=True)
class Reader:
    """How a route's bodies are cut into records and its records are read, as the *source* of that name says."""

    source: str
    read: ReadRecord
    splitter: Callable[[], Splitter] | None


def read_record(raw: bytes, read: ReadRecord, limits: IngestLimits) -> Part | Fragment | str:
    """What *read* makes of a record, or why it cannot be kept."""
    if len(raw) > limits.max_record:
        return f"has more than {limits.max_record} bytes"
    if raw == CUT_OFF:
        return "is where an array of JSON was cut off: it does not end in ], and what stood behind this is missing"
    try:
        return read(raw, limits.max_depth)
    except RecordError as error:
        return str(error)


def readers(options: Mapping[str, msgspec.Struct]) -> dict[str, Reader]:
    """The reader of each route below ``/ingest/``, under the *options* of the sources that are named there."""
    return {
        route: Reader(source.name, read, source.splitter)
        for source in discover(sources, Source)
        for route, read in source.readers_with(options.get(source.name)).items()
    }
