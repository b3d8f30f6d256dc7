"""The accounts at vendors that are followed, and how far."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from callhouse.errors import MirrorError
from callhouse.store.engine import Engine, Row, Transaction
from callhouse.store.origins import MIRROR

State = Literal["active", "paused", "stopped"]
UNKNOWN = -1
"""Stands for a number of calls that nobody can tell."""

_COLUMNS = """
id, name, api, account_id, url, user_name, secret, since, overlap, rate, created, state, trouble, succeeded, calls,
speed, place, owner, owned_until
"""
_LIST = f"SELECT {_COLUMNS} FROM mirrors ORDER BY name"  # noqa: S608
_GET = f"SELECT {_COLUMNS} FROM mirrors WHERE name = :name"  # noqa: S608
_ADD = """
INSERT INTO mirrors (
    name, api, account_id, url, user_name, secret, since, overlap, rate, created, state, trouble, calls, speed, place,
    owned_until
)
VALUES (
    :name, :api, :account_id, :url, :user_name, :secret, :since, :overlap, :rate, :created, 'active', '', 0, 0, :place,
    0
)
RETURNING id
"""
_DROP_LOSSES = "DELETE FROM mirror_losses WHERE mirror_id = :id"
_DROP = "DELETE FROM mirrors WHERE id = :id"
_SET_STATE = "UPDATE mirrors SET state = :state, trouble = :trouble WHERE id = :id"
_TAKE = """
UPDATE mirrors SET owner = :owner, owned_until = :until
WHERE id = :id AND (owner IS NULL OR owner = :owner OR owner = :gone OR owned_until < :now) RETURNING id
"""
_KEEP = """
UPDATE mirrors SET owned_until = :until, trouble = :trouble WHERE id = :id AND owner = :owner RETURNING id
"""
_RELEASE = "UPDATE mirrors SET owner = NULL WHERE id = :id AND owner = :owner"
_SUCCEED = "UPDATE mirrors SET succeeded = :now WHERE id = :id AND owner = :owner"
_AGAIN = "SELECT again FROM mirrors WHERE id = :id"
_SET_AGAIN = "UPDATE mirrors SET again = :again WHERE id = :id"
_OWNED_AGAIN = "SELECT again FROM mirrors WHERE id = :id AND owner = :owner AND again <> '[]'"
_REOPEN = "UPDATE mirrors SET place = :place, again = '[]' WHERE id = :id AND owner = :owner"
_OTHERS = "SELECT name, api FROM mirrors WHERE account_id = :account_id AND api <> :api"
_OTHERS_BEFORE = """
SELECT source FROM origins WHERE account_id = :account_id AND source LIKE :mirrors AND source <> :source ORDER BY source
"""
_ADVANCE = """
UPDATE mirrors SET place = :place, calls = calls + :calls, speed = :speed,
    succeeded = coalesce(:succeeded, succeeded), owned_until = :until
WHERE id = :id AND owner = :owner RETURNING id
"""
_LOSE = """
INSERT INTO mirror_losses (mirror_id, day, calls) VALUES (:id, :day, :calls)
ON CONFLICT (mirror_id, day) DO UPDATE SET
    calls = CASE WHEN excluded.calls = -1 THEN -1 WHEN mirror_losses.calls = -1 THEN -1
    ELSE mirror_losses.calls + excluded.calls END
"""
_LOSSES = "SELECT day, calls FROM mirror_losses WHERE mirror_id = :id ORDER BY day"


class Mirror(msgspec.Struct, frozen=True, kw_only=True):
    """An account at a vendor, *user* there, that is followed into *account_id* from *since* on.

    *secret* is ``file:`` or ``variable:`` and the name of what holds the secret. *overlap* is for how long what was had
    is asked for again, *rate* how many requests a second are made at most. *trouble* says what stands in the way.
    *succeeded* is when the vendor last told what was asked for, *calls* how many it told of in all, *speed* how many a
    second at last. *place* is what was had. Instants and lengths are in milliseconds.
    """

    id: int
    name: str
    api: str
    account_id: int
    url: str
    user: str
    secret: str
    since: int
    overlap: int
    rate: float
    created: int
    state: State
    trouble: str
    succeeded: int | None
    calls: int
    speed: float
    place: str
    owner: str | None
    owned_until: int


class Advance(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch of a mirror brings: the *place* reached with it, how many *calls*, and of how many what was lost, by
    day; *succeeded* is when the vendor told it, None where it told nothing.
    """

    mirror_id: int
    owner: str
    owned_until: int
    succeeded: int | None
    place: str
    calls: int
    speed: float
    losses: Sequence[tuple[int, int]]


class Mirrors:
    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    async def add(self, mirror: Mirror) -> Mirror:
        """Keep a new *mirror*; what it has got for an id is ignored.

        Raises MirrorError when its name is taken, and when its account has calls that were followed through another
        API: either would replace what only the other tells, or keep each call twice.
        """

        def work(tx: Transaction) -> None:
            if tx.rows(_GET, {"name": mirror.name}):
                raise MirrorError(f"There is a mirror {mirror.name} already.")
            _refuse_another_api(tx, mirror)
            row = {**msgspec.structs.asdict(mirror), "user_name": mirror.user}
            tx.each(_ADD, [row])

        await self._engine.write(work)
        return await self.get(mirror.name)

    async def all(self) -> list[Mirror]:
        rows = await self._engine.quick(lambda reader: reader.rows(_LIST, {}))
        return [_mirror(row) for row in rows]

    async def get(self, name: str) -> Mirror:
        """Raises MirrorError when there is none of that name."""
        rows = await self._engine.quick(lambda reader: reader.rows(_GET, {"name": name}))
        if not rows:
            raise MirrorError(f"There is no mirror {name}; `callhouse mirror list` shows those there are.")
        return _mirror(rows[0])

    async def remove(self, mirror_id: int) -> None:
        """Follow it no longer; what was had stays."""

        def work(tx: Transaction) -> None:
            tx.each(_DROP_LOSSES, [{"id": mirror_id}])
            tx.each(_DROP, [{"id": mirror_id}])

        await self._engine.write(work)

    async def set_state(self, mirror_id: int, state: State, trouble: str = "") -> None:
        parameters = {"id": mirror_id, "state": state, "trouble": trouble}
        await self._engine.write(lambda tx: tx.each(_SET_STATE, [parameters]), ())

    async def take(self, mirror_id: int, owner: str, until: int, *, gone: str | None = None) -> bool:
        """Become its owner; False while another one, who is not the one that is *gone*, is."""
        parameters = {"id": mirror_id, "owner": owner, "until": until, "now": self._clock(), "gone": gone or owner}
        return bool(await self._engine.write(lambda tx: tx.each(_TAKE, [parameters]), ()))

    async def keep(self, mirror_id: int, owner: str, until: int, trouble: str) -> bool:
        """Stay its owner, and tell what stands in the way; False when it has another one, or is gone."""
        parameters = {"id": mirror_id, "owner": owner, "until": until, "trouble": trouble}
        return bool(await self._engine.write(lambda tx: tx.each(_KEEP, [parameters]), ()))

    async def release(self, mirror_id: int, owner: str) -> None:
        """Be its owner no longer."""
        await self._engine.write(lambda tx: tx.each(_RELEASE, [{"id": mirror_id, "owner": owner}]), ())

    async def succeed(self, mirror_id: int, owner: str) -> None:
        """Note that all was had that was to be had."""
        parameters = {"id": mirror_id, "owner": owner, "now": self._clock()}
        await self._engine.write(lambda tx: tx.each(_SUCCEED, [parameters]), ())

    async def ask_again(self, mirror_id: int, windows: Sequence[tuple[int, int]]) -> None:
        """Let its owner, or who becomes it, ask for *windows* again."""

        def work(tx: Transaction) -> None:
            for (known,) in tx.rows(_AGAIN, {"id": mirror_id}):
                again = _encode([*_windows(known), *windows]).decode()
                tx.each(_SET_AGAIN, [{"id": mirror_id, "again": again}])

        await self._engine.write(work)

    async def reopen(
        self, mirror_id: int, owner: str, without: Callable[[Sequence[tuple[int, int]]], str]
    ) -> str | None:
        """Go back to the place that is left *without* the windows that are to be asked for again; None if none are."""
        named = {"id": mirror_id, "owner": owner}
        if not await self._engine.quick(lambda reader: reader.rows(_OWNED_AGAIN, named)):
            return None

        def work(tx: Transaction) -> str | None:
            for (again,) in tx.rows(_OWNED_AGAIN, named):
                place = without(_windows(again))
                tx.each(_REOPEN, [{**named, "place": place}])
                return place
            return None

        return await self._engine.write(work)

    async def losses(self, mirror_id: int) -> Sequence[tuple[int, int]]:
        """The days of which something was lost, and of how many calls; UNKNOWN where nobody can tell."""
        rows = await self._engine.quick(lambda reader: reader.rows(_LOSSES, {"id": mirror_id}))
        return [(day, calls) for day, calls in rows]


def advance(tx: Transaction, step: Advance) -> None:
    """Note how far a mirror has come. Raises MirrorError when it has another owner by now, or is gone."""
    row = {
        "id": step.mirror_id,
        "owner": step.owner,
        "until": step.owned_until,
        "succeeded": step.succeeded,
        "place": step.place,
        "calls": step.calls,
        "speed": step.speed,
    }
    if not tx.each(_ADVANCE, [row]):
        raise MirrorError("Another process follows this mirror now.")
    tx.each(_LOSE, ({"id": step.mirror_id, "day": day, "calls": calls} for day, calls in step.losses))


def _refuse_another_api(tx: Transaction, mirror: Mirror) -> None:
    account = {"account_id": mirror.account_id}
    why = (
        "Calls of two APIs in one account would replace each other's logs or stand there twice; follow this one into "
        "another account (`callhouse accounts create`)."
    )
    for name, api in tx.rows(_OTHERS, {**account, "api": mirror.api}):
        raise MirrorError(f"Account {mirror.account_id} has a mirror of another API, {name} ({api}). {why}")
    for (source,) in tx.rows(_OTHERS_BEFORE, {**account, "mirrors": f"{MIRROR}%", "source": MIRROR + mirror.api}):
        api = source.removeprefix(MIRROR)
        raise MirrorError(f"Account {mirror.account_id} has calls that a mirror of another API brought ({api}). {why}")


_encode = msgspec.json.Encoder().encode
_windows = msgspec.json.Decoder(list[tuple[int, int]]).decode


def _mirror(row: Row) -> Mirror:
    return Mirror(**dict(zip(Mirror.__struct_fields__, row, strict=True)))
