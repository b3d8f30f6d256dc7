"""How a mirror fares, for people and for metrics."""

from collections.abc import Mapping

import msgspec

from callhouse.mirror import place as places
from callhouse.mirror.work import MARGIN, Work
from callhouse.model.instant import DAY, SECOND
from callhouse.observability import (
    MIRROR_BACKLOG,
    MIRROR_CALLS,
    MIRROR_DAYS_LEFT,
    MIRROR_LAG,
    MIRROR_LOST,
    MIRROR_RATE,
    MIRROR_SUCCESS,
    MIRROR_UP,
)
from callhouse.store import Store
from callhouse.store.mirrors import UNKNOWN, Mirror
from callhouse.wire import Upstream, Window


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far a mirror is: *lag* is the age of the newest instant up to which was asked, *backlog* how much time was
    never asked for, of *total* that it is to have; all in milliseconds. *days_left* are the days until the vendor
    deletes something that is not had yet, None when it has done so already with all there is.
    """

    lag: int
    backlog: int
    total: int
    days_left: float | None


def status_of(mirror: Mirror, upstream: Upstream, now: int) -> Status:
    place = places.parsed(mirror.place)
    since = Work(upstream, mirror.since, mirror.overlap, 0).earliest(now) + MARGIN
    gaps = place.gaps(since, now)
    newest = max((span.until for span in place.spans), default=since)
    left = [time for gap in gaps for time in _times_left(gap, upstream, now)]
    return Status(
        lag=now - newest,
        backlog=sum(gap.until - gap.since for gap in gaps),
        total=max(0, now - since),
        days_left=min(left) / DAY if left else None,
    )


def _times_left(gap: Window, upstream: Upstream, now: int) -> list[int]:
    """The times until something of *gap* is deleted that is there still: its logs, and its calls."""
    keeps = [keep for keep in (upstream.keeps_log, upstream.keeps) if keep is not None]
    return [max(gap.since, now - keep) + keep - now for keep in keeps if gap.until > now - keep]


async def measure(store: Store, upstreams: Mapping[str, Upstream]) -> None:
    """Set the metrics of all mirrors."""
    for gauge in (MIRROR_CALLS, MIRROR_RATE, MIRROR_SUCCESS, MIRROR_LAG, MIRROR_BACKLOG, MIRROR_DAYS_LEFT, MIRROR_LOST,
                  MIRROR_UP):  # fmt: skip
        # Of one that was removed nothing is to be told any more.
        gauge.clear()
    for mirror in await store.mirrors.all():
        status = status_of(mirror, upstreams[mirror.api], store.clock())
        losses = await store.mirrors.losses(mirror.id)
        MIRROR_CALLS.labels(mirror.name).set(mirror.calls)
        MIRROR_RATE.labels(mirror.name).set(mirror.speed)
        MIRROR_SUCCESS.labels(mirror.name).set((mirror.succeeded or 0) / SECOND)
        MIRROR_LAG.labels(mirror.name).set(status.lag / SECOND)
        MIRROR_BACKLOG.labels(mirror.name).set(status.backlog / SECOND)
        MIRROR_DAYS_LEFT.labels(mirror.name).set(0 if status.days_left is None else status.days_left)
        MIRROR_LOST.labels(mirror.name).set(sum(calls for _, calls in losses if calls != UNKNOWN))
        MIRROR_UP.labels(mirror.name).set(mirror.state == "active" and not mirror.trouble)
