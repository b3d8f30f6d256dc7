"""What can be asked of the calls, and the shape of an answer."""

from typing import Generic, TypeVar

import msgspec

from callhouse.model.call import Direction

T = TypeVar("T")


class CallQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The completed calls of some accounts with ``since <= start < until``, newest first, ties by session_id.

    *since* and *until* are in milliseconds. Where the store is asked for a window of ends, they bound the calls' ends,
    and *shown_since* gives for each of *account_ids* the earliest start that is shown.

    All else narrows the answer where it is not None: *number* is compared with the dialled number by number_key,
    *either* with the dialled and the calling one,
    *src_prefix* and *dest_prefix* are what a number begins with, a leading ``+`` on either side aside, *directions*
    (if any) are those allowed, and ``talk_from <= d < talk_until`` bounds the length in milliseconds of the answered
    part, as it was sent or else from answer to end. *logged_since*
    asks only for calls that have a log and ended then or later. *oldest_first* turns the order of a window of starts
    round, ties too.
    """

    account_ids: tuple[int, ...]
    since: int
    until: int
    shown_since: tuple[int, ...] = ()
    number: str | None = None
    either: str | None = None
    src_prefix: str | None = None
    dest_prefix: str | None = None
    directions: tuple[Direction, ...] = ()
    parent_call_uuid: str | None = None
    talk_from: int | None = None
    talk_until: int | None = None
    hangup_cause_code: int | None = None
    hangup_source: str | None = None
    stir_verification: str | None = None
    limit: int
    offset: int = 0
    logged_since: int | None = None
    oldest_first: bool = False


class Page(msgspec.Struct, Generic[T], frozen=True):
    """The rows of a page, and how many calls match in all."""

    rows: list[T]
    total: int
