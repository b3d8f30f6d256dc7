"""Mirrors as they look after they were followed for a while, without a vendor."""

from callhouse.mirror import place as places
from callhouse.model.instant import SECOND
from callhouse.store.mirrors import Advance
from mirror.stand import mirror


async def followed(store, name, api, account_id, *, had=None, losses=None, calls=18_234, **changes):
    """Add a mirror that has *had* a window, whose last success was 90 seconds ago, and that has these *losses*."""
    now = store.clock()
    added = await store.mirrors.add(mirror(api, "USER", account_id, now, name=name, **changes))
    place = places.parsed("[]") if had is None else places.parsed("[]").cover(had, now, 0)
    step = Advance(
        mirror_id=added.id, owner="me", owned_until=now, succeeded=now - 90 * SECOND, place=places.written(place),
        calls=calls, speed=12.5, losses=list((losses or {}).items()),
    )  # fmt: skip
    await store.mirrors.take(added.id, "me", now + 1)
    await store.load_mirrored([], lambda _: step)
    return added
