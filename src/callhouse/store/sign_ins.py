"""Who is signed in to the console. The store knows a hash of what a browser holds, so it opens nothing."""

import hashlib
from collections.abc import Callable

import msgspec

from callhouse.model.instant import HOUR, MINUTE
from callhouse.store.engine import Engine, Row, Transaction

LONGEST_PAUSE = 12 * HOUR
"""A sign-in that was not used for so long is over."""

LONGEST = 7 * 24 * HOUR
"""And so is one that is as old as this."""

_NOTED = 5 * MINUTE
"""How exactly it is known when a sign-in was last used."""

_PUT = """
INSERT INTO sign_ins (id, account_id, is_operator, fingerprint, timezone, created, used)
VALUES (:id, :account_id, :is_operator, :fingerprint, NULL, :now, :now)
"""
_GET = """
SELECT account_id, is_operator, fingerprint, timezone, used FROM sign_ins
WHERE id = :id AND used > :used_since AND created > :created_since
"""
_USED = "UPDATE sign_ins SET used = :now WHERE id = :id"
_SHOW = "UPDATE sign_ins SET account_id = :account_id WHERE id = :id AND is_operator <> 0"
_SET_ZONE = "UPDATE sign_ins SET timezone = :timezone WHERE id = :id"
_DROP = "DELETE FROM sign_ins WHERE id = :id"
_DROP_OLD = "DELETE FROM sign_ins WHERE used <= :used_since OR created <= :created_since"


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """*account_id* is whose calls are shown: None until an operator chose. *timezone* is the one they are shown in,
    None for the account's. *fingerprint* belongs to the credential that was used.
    """

    account_id: int | None
    is_operator: bool
    fingerprint: bytes
    timezone: str | None


class SignIns:
    """By the token that a browser holds."""

    def __init__(self, engine: Engine, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._clock = clock

    async def put(self, token: bytes, *, account_id: int | None, is_operator: bool, fingerprint: bytes) -> None:
        """Remember a sign-in, and forget those that are over."""
        row = {
            **self._now(),
            "id": _hash(token),
            "account_id": account_id,
            "is_operator": int(is_operator),
            "fingerprint": fingerprint,
        }

        def work(tx: Transaction) -> None:
            tx.each(_DROP_OLD, [self._now()])
            tx.each(_PUT, [row])

        await self._engine.write(work, ())

    async def get(self, token: bytes) -> SignIn | None:
        """The sign-in, which is used thereby; None when there is none, or it is over."""
        place = {"id": _hash(token), **self._now()}
        rows: list[Row] = await self._engine.quick(lambda reader: reader.rows(_GET, place))
        if not rows:
            return None
        account_id, is_operator, fingerprint, timezone, used = rows[0]
        if used < self._clock() - _NOTED:
            await self._engine.write(lambda tx: tx.each(_USED, [place]), ())
        return SignIn(
            account_id=account_id, is_operator=bool(is_operator), fingerprint=bytes(fingerprint), timezone=timezone
        )

    async def show(self, token: bytes, account_id: int) -> None:
        """Let an operator see the calls of that account."""
        change = {"id": _hash(token), "account_id": account_id}
        await self._engine.write(lambda tx: tx.each(_SHOW, [change]), ())

    async def set_timezone(self, token: bytes, timezone: str | None) -> None:
        change = {"id": _hash(token), "timezone": timezone}
        await self._engine.write(lambda tx: tx.each(_SET_ZONE, [change]), ())

    async def end(self, token: bytes) -> None:
        await self._engine.write(lambda tx: tx.each(_DROP, [{"id": _hash(token)}]), ())

    def _now(self) -> dict[str, int]:
        now = self._clock()
        return {"now": now, "used_since": now - LONGEST_PAUSE, "created_since": now - LONGEST}


def _hash(token: bytes) -> bytes:
    return hashlib.blake2b(token, digest_size=32).digest()
