"""What is known of one call while a batch is applied."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from callhouse.model import log as log_document
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.record import Record
from callhouse.store.totals import Counted


class Session:
    """A call as stored, and as the batch leaves it."""

    __slots__ = (
        "account_id",
        "call",
        "changed",
        "counted",
        "errors",
        "first_origin",
        "identities",
        "last_step",
        "late_errors",
        "log",
        "loses_events",
        "origin",
        "parts",
        "replaced",
        "row_id",
        "session_id",
        "size_at_most",
        "size_is_exact",
        "stored",
        "stored_events",
        "stored_log",
        "unsaid",
        "unsaid_errors",
        "waiting",
        "waiting_large",
    )

    def __init__(self, account_id: int, session_id: str) -> None:
        self.account_id = account_id
        self.session_id = session_id
        self.row_id: int | None = None
        self.stored: Call | None = None
        self.stored_events = 0
        # What the store's row says beside the call: its place in the totals (None unless it is complete), and the last
        # step of its log, which the batch may change.
        self.counted: Counted | None = None
        self.last_step: str | None = None
        self.waiting = 0
        # Bytes in waiting events that are large.
        self.waiting_large = 0
        self.call: Call | None = None
        self.parts: list[tuple[Event, ...]] = []
        self.errors: list[tuple[Event, ...]] = []
        # The events of the log that an earlier join of the call's rows told of, when it is joined again; of the errors
        # among them the digests.
        self.unsaid: set[bytes] = set()
        self.unsaid_errors: set[bytes] = set()
        # The log as stored, once it was read, and as the batch leaves it, when that is another one.
        self.stored_log: list[Event] = []
        self.log: list[Event] | None = None
        # Known only once the number of events or their size has come near its limit.
        self.identities: set[bytes] | None = None
        # Bytes of the log: a bound that is cheap to know, until that has come near the limit.
        self.size_at_most: int | None = None
        self.size_is_exact = False
        # Sizes by identity; known only once errors have come that no log counts.
        self.late_errors: dict[bytes, int] | None = None
        self.changed = False
        # The records that told of the call first and last, and how many told otherwise what was known of it.
        self.first_origin: Record | None = None
        self.origin: Record | None = None
        self.replaced = 0
        # Whether the record at hand takes events out of the log.
        self.loses_events = False

    def copy(self) -> "Session":
        """The same again, which what happens to the one leaves as it is."""
        # As copy.copy does, in a fifth of the time.
        other = Session.__new__(Session)
        for name in Session.__slots__:
            setattr(other, name, getattr(self, name))
        other.parts, other.errors = [*self.parts], [*self.errors]
        other.unsaid, other.unsaid_errors = {*self.unsaid}, {*self.unsaid_errors}
        other.identities = None if self.identities is None else {*self.identities}
        return other

    def restore(self, other: "Session") -> None:
        """Be again what *other*, a copy, is."""
        for name in Session.__slots__:
            setattr(self, name, getattr(other, name))

    def came_from(self, record: Record | None) -> None:
        """Note that *record* told something of the call."""
        if self.first_origin is None and self.call is not None:
            self.first_origin = record
        self.origin = record

    @property
    def was_complete(self) -> bool:
        return self.stored is not None and self.stored.is_complete

    @property
    def is_complete(self) -> bool:
        return self.call is not None and self.call.is_complete

    @property
    def key(self) -> dict[str, Any]:
        return {"account_id": self.account_id, "session_id": self.session_id}


def digest_of(identity: bytes) -> bytes:
    """What events are told apart by in the tables: a digest of the identity that callhouse.model.log gives them."""
    return hashlib.blake2b(identity, digest_size=16).digest()


def identified(events: Sequence[Event]) -> Iterator[tuple[bytes, Event]]:
    """*events*, each with the digest of its identity."""
    for identity, event in zip(log_document.identities(events), events, strict=True):
        yield digest_of(identity), event
