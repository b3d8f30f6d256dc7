"""What a source is: a module here with a ``plugin`` that reads what one system sends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from callhouse.model.record import Part

ReadRecord = Callable[[bytes, int], Part]


@dataclass(frozen=True)
class Source:
    """The readers of one system's records, by the last segment of the route that they are posted to.

    A reader makes a Part of one record, or raises RecordError with the reason why it cannot be kept. It is pure: no
    store, no clock, no network. Its second argument bounds how deep a record may nest.
    """

    readers: Mapping[str, ReadRecord]
