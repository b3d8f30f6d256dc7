"""The records that were refused inside an accepted batch, with their reasons."""

from collections.abc import Sequence
from typing import Any

import msgspec

from callhouse.store.engine import Engine, Transaction

_COLUMNS = "id, account_id, received, source, reason, record"
_LIST = f"""
SELECT {_COLUMNS} FROM quarantine
WHERE (:account_id IS NULL OR account_id = :account_id) AND id > :after ORDER BY id LIMIT :limit
"""  # noqa: S608
_GET = f"SELECT {_COLUMNS} FROM quarantine WHERE id = :id"  # noqa: S608
_DROP = "DELETE FROM quarantine WHERE id = :id RETURNING id"
_DROP_ALL = "DELETE FROM quarantine WHERE :account_id IS NULL OR account_id = :account_id RETURNING id"
_COUNT = "SELECT count(*) FROM quarantine"


class Quarantined(msgspec.Struct, frozen=True):
    """A refused record as it was sent; *received* in milliseconds, the last time when it came more than once."""

    id: int
    account_id: int
    received: int
    source: str
    reason: str
    record: bytes


class Quarantine:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, account_id: int | None = None, *, after: int = 0, limit: int = 1000) -> list[Quarantined]:
        """At most *limit* entries whose id is above *after*, in order of id; of one account or of all."""
        parameters: dict[str, Any] = {"account_id": account_id, "after": after, "limit": limit}
        rows = await self._engine.read(lambda reader: reader.rows(_LIST, parameters))
        return [Quarantined(*row) for row in rows]

    async def get(self, entry_id: int) -> Quarantined | None:
        rows = await self._engine.quick(lambda reader: reader.rows(_GET, {"id": entry_id}))
        return Quarantined(*rows[0]) if rows else None

    async def drop(self, entry_ids: Sequence[int]) -> int:
        """Forget the entries; how many there were."""

        def work(tx: Transaction) -> int:
            return len(tx.each(_DROP, [{"id": entry_id} for entry_id in entry_ids]))

        return await self._engine.write(work)

    async def drop_all(self, account_id: int | None) -> int:
        """Forget all entries, or all of an account; how many there were."""
        return len(await self._engine.write(lambda tx: tx.each(_DROP_ALL, [{"account_id": account_id}])))

    async def count(self) -> int:
        return int((await self._engine.quick(lambda reader: reader.rows(_COUNT, {})))[0][0])
