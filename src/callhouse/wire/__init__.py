"""What a wire API is: a folder here with a ``plugin``, and nothing else anywhere."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from callhouse.model.account import Account
from callhouse.model.browsing import ListedCall
from callhouse.model.record import Part
from callhouse.store import Store

if TYPE_CHECKING:
    # Who follows a vendor needs no server.
    from litestar import Request, Response
    from litestar.types import ControllerRouterHandler

T = TypeVar("T")


class Ask(Protocol):
    """Asks a vendor."""

    async def __call__(self, kind: type[T], path: str, parameters: Mapping[str, str | int] | None = None) -> T:
        """The JSON of its answer. Raises VendorHasNone for a 404, else VendorUnavailable or VendorRefusal."""
        ...


class Window(NamedTuple):
    """The instants from *since* on, before *until*; both in milliseconds, on the second."""

    since: int
    until: int


class Found(NamedTuple):
    """How many calls a vendor has in a window, and a record of each as it came; None where the window must be narrower,
    because they are too many to be had at once or changed while they were read.
    """

    total: int
    records: Sequence[bytes] | None


class Page(NamedTuple):
    """A part of a list: how many there are in all, and the records of the part."""

    total: int
    records: Sequence[bytes]


async def read_list(page: Callable[[int], Awaitable[Page]], at_most: int, name: Callable[[bytes], object]) -> Found:
    """The list whose pages, by their offset, *page* gives, if it has no more than *at_most* members.

    It is one list only if all pages tell the same total, and no two records have the same *name*: a page may have been
    shifted. What the vendor has twice on one page is taken once.
    """
    total, records = await page(0)
    if len(records) == total <= at_most:
        return Found(total, list({name(record): record for record in records}.values()))
    found, names = list(records), set(map(name, records))
    while len(found) < total <= at_most and records and len(names) == len(found):
        told, records = await page(len(found))
        if told != total:
            break
        found += records
        names.update(map(name, records))
    return Found(total, found if len(names) == len(found) == total <= at_most else None)


@dataclass(frozen=True)
class Upstream:
    """How a real account of an API is followed.

    *url* is where the vendor answers, *user* what it calls the name of an account's credentials. It shows a call for as
    long as *keeps*, its log for *keeps_log* (None: it has none), lists calls by their *clock*, over a window of at most
    *longest* and, if calls are not to come and go between two pages, about *at_once*. *rate* is how many requests a
    second it takes, *slack* how far outside a window a call may seem to be, where a time is the wall clock's, which
    shows an hour twice when summer ends. Lengths are in milliseconds.

    *fetch* gets the calls of a window, unless they are more than it is told; *total* counts them. *read* makes a part
    of one of the records, for the account that it is kept in, and bounds how deep that nests; it is pure and raises
    RecordError.
    """

    url: str
    user: str
    keeps: int
    keeps_log: int | None
    clock: Literal["start", "end"]
    longest: int
    at_once: int
    rate: float
    fetch: Callable[[Ask, str, Window, int], Awaitable[Found]]
    total: Callable[[Ask, str, Window], Awaitable[int]]
    read: Callable[[bytes, Account, int], Part]
    slack: int = 0


@dataclass(frozen=True)
class Shown:
    """What an API answers of one call, *body*, and to what: *path*, asked by *user* with the secret called *secret*.

    *user* is None where the account has no credentials of this API, *body* where the API does not show the call.
    """

    path: str
    user: str | None
    secret: str
    body: bytes | None


@dataclass(frozen=True)
class Wire:
    """One vendor's API.

    *path* begins every route of it. *render_error* puts any exception into the vendor's words, whatever it is;
    *title* and *description* head its part of the reference. *upstream* says how to follow an account at the vendor,
    *show* how the API shows a call to its account.
    """

    name: str
    title: str
    description: str
    path: str
    handlers: "Sequence[ControllerRouterHandler]"
    render_error: "Callable[[Request[Any, Any, Any], Exception], Response[Any]]"
    upstream: Upstream | None = None
    show: Callable[[Store, Account, ListedCall], Awaitable[Shown]] | None = None
