"""Whether all that a vendor shows is here, day by day; what is missing is asked for again."""

from collections.abc import AsyncIterator

import msgspec

from callhouse.mirror.runner import Runner
from callhouse.mirror.work import Work, floor
from callhouse.model.instant import DAY
from callhouse.model.query import CallQuery
from callhouse.store import Store
from callhouse.wire import Upstream, Window


class Day(msgspec.Struct, frozen=True):
    """A day in UTC, by its first instant in milliseconds, or what of it is asked about: how many calls the vendor has,
    and how many the account here, which may have others too.
    """

    window: Window
    vendor: int
    here: int


async def compare(store: Store, runner: Runner, upstream: Upstream) -> AsyncIterator[Day]:
    """The days that the vendor still shows, the newest first."""
    now = store.clock()
    mirror = runner.mirror
    earliest = Work(upstream, mirror.since, mirror.overlap, 0).earliest(now)
    until = floor(now)
    async with await runner.vendor() as vendor:
        while until > earliest:
            window = Window(max(earliest, (until - 1) // DAY * DAY), until)
            total = await upstream.total(vendor, mirror.user, window)
            yield Day(window, total, await here(store, mirror.account_id, upstream, window))
            until = window.since


async def here(store: Store, account_id: int, upstream: Upstream, window: Window) -> int:
    """How many calls the account has in *window*."""
    query = CallQuery(
        account_ids=(account_id,), shown_since=(0,), since=window.since, until=window.until, limit=1, offset=0
    )
    page = store.calls.page if upstream.clock == "start" else store.calls.page_by_end
    return (await page(query, ("session_id",))).total
