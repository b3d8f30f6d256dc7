"""The records that were refused inside an accepted batch, with their reasons."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import zstandard

from callhouse.store.engine import Engine, Row, Transaction

PREVIEW_CHARACTERS = 200

_COLUMNS = "id, account_id, received, source, origin, reason, size, preview"
_LIST = f"""
SELECT {_COLUMNS} FROM quarantine
WHERE (:account_id IS NULL OR account_id = :account_id) AND id > :after ORDER BY id LIMIT :limit
"""  # noqa: S608
_GET = f"SELECT {_COLUMNS} FROM quarantine WHERE id = :id"  # noqa: S608
_NEWEST = f"""
SELECT {_COLUMNS} FROM quarantine
WHERE account_id = :account_id AND id < :before AND (:reason IS NULL OR reason = :reason) ORDER BY id DESC LIMIT :limit
"""  # noqa: S608
_OF = f"SELECT {_COLUMNS} FROM quarantine WHERE id = :id AND account_id = :account_id"  # noqa: S608
_RECORD = "SELECT record FROM quarantine WHERE id = :id"
_DROP = "DELETE FROM quarantine WHERE id = :id RETURNING id"
_DROP_ALL = "DELETE FROM quarantine WHERE :account_id IS NULL OR account_id = :account_id RETURNING id"
_COUNT = "SELECT count(*) FROM quarantine WHERE :account_id IS NULL OR account_id = :account_id"
_REASONS = """
SELECT reason, count(*) AS times FROM quarantine WHERE :account_id IS NULL OR account_id = :account_id
GROUP BY reason ORDER BY times DESC, reason LIMIT :limit
"""


class Quarantined(msgspec.Struct, frozen=True):
    """What is told of a refused record; *received* in milliseconds, the last time when it came more than once.

    *origin* is the file and line that it came from, empty if it was posted; *size* is that of the record in bytes,
    *preview* its first PREVIEW_CHARACTERS.
    """

    id: int
    account_id: int
    received: int
    source: str
    origin: str
    reason: str
    size: int
    preview: str


def digest_of(source: str, record: bytes) -> bytes:
    """What two records have in common that are the same one to *source*."""
    return hashlib.blake2b(record, digest_size=16, person=source.encode()[:16]).digest()


def columns_of(record: bytes) -> dict[str, Any]:
    """The columns that hold *record*: compressed, and what a list shows of it without reading the whole."""
    return {"size": len(record), "preview": record[: 4 * PREVIEW_CHARACTERS], "record": zstandard.compress(record)}


def _quarantined(row: Row) -> Quarantined:
    *known, preview = row
    return Quarantined(*(*known, preview.decode(errors="replace")[:PREVIEW_CHARACTERS]))


class Quarantine:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, account_id: int | None = None, *, after: int = 0, limit: int = 1000) -> list[Quarantined]:
        """At most *limit* entries whose id is above *after*, in order of id; of one account or of all."""
        parameters: dict[str, Any] = {"account_id": account_id, "after": after, "limit": limit}
        rows = await self._engine.read(lambda reader: reader.rows(_LIST, parameters))
        return [_quarantined(row) for row in rows]

    async def newest(
        self, account_id: int, *, before: int, limit: int, reason: str | None = None
    ) -> Sequence[Quarantined]:
        """At most *limit* entries of an account whose id is below *before*, those that came last first."""
        parameters = {"account_id": account_id, "before": before, "limit": limit, "reason": reason}
        rows = await self._engine.read(lambda reader: reader.rows(_NEWEST, parameters))
        return [_quarantined(row) for row in rows]

    async def of(self, account_id: int, entry_id: int) -> Quarantined | None:
        """The entry with that id, if it is the account's."""
        parameters = {"id": entry_id, "account_id": account_id}
        rows = await self._engine.quick(lambda reader: reader.rows(_OF, parameters))
        return _quarantined(rows[0]) if rows else None

    async def get(self, entry_id: int) -> Quarantined | None:
        rows = await self._engine.quick(lambda reader: reader.rows(_GET, {"id": entry_id}))
        return _quarantined(rows[0]) if rows else None

    async def record(self, entry_id: int) -> bytes | None:
        """The record as it was sent; None when it has left the quarantine."""
        rows = await self._engine.read(lambda reader: reader.rows(_RECORD, {"id": entry_id}))
        return zstandard.decompress(rows[0][0]) if rows else None

    async def drop(self, entry_ids: Sequence[int]) -> int:
        """Forget the entries; how many there were."""

        def work(tx: Transaction) -> int:
            return len(tx.each(_DROP, [{"id": entry_id} for entry_id in entry_ids]))

        return await self._engine.write(work)

    async def drop_all(self, account_id: int | None) -> int:
        """Forget all entries, or all of an account; how many there were."""
        return len(await self._engine.write(lambda tx: tx.each(_DROP_ALL, [{"account_id": account_id}])))

    async def count(self, account_id: int | None = None) -> int:
        """How many entries there are, of one account or of all."""
        rows = await self._engine.read(lambda reader: reader.rows(_COUNT, {"account_id": account_id}))
        return int(rows[0][0])

    async def reasons(self, account_id: int | None = None, *, limit: int) -> Sequence[tuple[str, int]]:
        """The *limit* most frequent reasons, and how many entries have each."""
        parameters = {"account_id": account_id, "limit": limit}
        rows = await self._engine.read(lambda reader: reader.rows(_REASONS, parameters))
        return [(reason, times) for reason, times in rows]
