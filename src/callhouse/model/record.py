"""What a source makes of one record that was sent."""

from collections.abc import Callable, Sequence

import msgspec

from callhouse.model.account import Account
from callhouse.model.call import Call
from callhouse.model.event import Event


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one record says of one call: something about the call, some of its events, or both.

    *errors* are events of class error that stand in no log. With *replaces_call* it is all there is to know of the
    call; with *replaces_log* its events, if there are any, are the whole log, and its errors, if there are any, all
    there are. What was known before gives way.
    """

    session_id: str
    call: Call | None = None
    events: tuple[Event, ...] = ()
    errors: tuple[Event, ...] = ()
    replaces_call: bool = False
    replaces_log: bool = False


Join = Callable[[str, Sequence[bytes]], list[Part]]
"""Makes calls of all rows known of a group, given its name; pure, and indifferent to the order of the rows.

The events of a call in progress are left out: its rows are there to be joined again.
"""


class Fragment(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of a call that makes sense only with the others: *content* in a normal form without line feeds, so that
    equal rows are the same one. All of a *group* are joined whenever one is new, and what they say then replaces what
    they said before.
    """

    group: str
    content: bytes
    join: Join


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record as it was sent by *account* to *source*, and what came of reading it, or why nothing did.

    *origin* says where it stands if it came from a file: ``path:line``. Of one that came in another way than over HTTP
    it is the name of what brought it: a mirror, or a command.
    """

    account: Account
    source: str
    raw: bytes
    read: Part | Fragment | str
    origin: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the store did with a record. *refusal* is the reason when it was not kept.

    *repeated* tells that it changed nothing, *is_new* that nothing was known of the call; *expired_events* counts the
    events that were left out for their age.
    """

    refusal: str | None = None
    repeated: bool = False
    is_new: bool = False
    expired_events: int = 0
