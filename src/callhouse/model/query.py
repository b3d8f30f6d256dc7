"""What can be asked of the calls, and the shape of an answer."""

from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class CallQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The completed calls of one account with ``since <= start < until``, newest first, ties by session_id.

    *since* and *until* are in milliseconds; *number* is compared with the dialled number by number_key. *logged_since*
    asks only for calls that have a log and ended then or later. *oldest_first* turns the order round, ties too.
    """

    account_id: int
    since: int
    until: int
    number: str | None = None
    limit: int
    offset: int = 0
    logged_since: int | None = None
    oldest_first: bool = False


class Page(msgspec.Struct, Generic[T], frozen=True):
    """The rows of a page, and how many calls match in all."""

    rows: list[T]
    total: int
