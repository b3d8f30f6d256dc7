"""What a source makes of one record that was sent."""

import msgspec

from callhouse.model.account import Account
from callhouse.model.call import Call
from callhouse.model.event import Event


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What one record says of one call: something about the call, some of its events, or both."""

    session_id: str
    call: Call | None = None
    events: tuple[Event, ...] = ()


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One record as it was sent by *account* to *source*, and what came of reading it: a part, or why not."""

    account: Account
    source: str
    raw: bytes
    read: Part | str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the store did with a record. *refusal* is the reason when it was not kept.

    *repeated* tells that it changed nothing; *expired_events* counts the events that were left out for their age.
    """

    refusal: str | None = None
    repeated: bool = False
    expired_events: int = 0
