"""The records that were refused inside an accepted batch, with their reasons."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import Any

import msgspec
import zstandard

from callhouse.store import accounts
from callhouse.store.engine import Engine, Reader, Row, Transaction

PREVIEW_CHARACTERS = 200

_COLUMNS = "id, account_id, received, source, origin, reason, size, preview"
_LIST = f"""
SELECT {_COLUMNS} FROM quarantine
WHERE account_id = :account_id AND id > :after AND id < :before ORDER BY id LIMIT :limit
"""  # noqa: S608
_NEWEST = f"""
SELECT {_COLUMNS} FROM quarantine
WHERE account_id = :account_id AND id < :before {{more}} ORDER BY id DESC LIMIT :limit
"""  # noqa: S608
_FOR_REASON = "AND reason = :reason"
_OF = f"SELECT {_COLUMNS} FROM quarantine WHERE account_id = :account_id AND id = :id"  # noqa: S608
_RECORD = "SELECT record FROM quarantine WHERE account_id = :account_id AND id = :id"
_DROP = "DELETE FROM quarantine WHERE account_id = :account_id AND id = :id RETURNING id"
_DROP_ALL = "DELETE FROM quarantine WHERE account_id = :account_id RETURNING id"
_COUNT = "SELECT count(*) FROM quarantine WHERE account_id = :account_id"
_REASONS = "SELECT reason, count(*) FROM quarantine WHERE account_id = :account_id GROUP BY reason"
_BEHIND_ALL = 2**63 - 1


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
    """Its entries, of one account or, where *account_id* is None, of all; an id is one entry's in the whole store."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def list(self, account_id: int | None = None, *, after: int = 0, limit: int = 1000) -> list[Quarantined]:
        """At most *limit* entries whose id is above *after*, in order of id."""

        def work(reader: Reader) -> list[Row]:
            first: list[Row] = []
            for each in _accounts(reader, account_id):
                # What stands behind the last of enough others is not asked for.
                before = first[-1][0] if first and len(first) == limit else _BEHIND_ALL
                place = {"account_id": each, "after": after, "before": before, "limit": limit}
                first = sorted([*first, *reader.rows(_LIST, place)])[:limit]
            return first

        return [_quarantined(row) for row in await self._engine.read(work)]

    async def newest(
        self, account_id: int, *, before: int, limit: int, reason: str | None = None
    ) -> Sequence[Quarantined]:
        """At most *limit* entries of an account whose id is below *before*, those that came last first."""
        sql = _NEWEST.format(more="" if reason is None else _FOR_REASON)
        parameters: dict[str, Any] = {"account_id": account_id, "before": before, "limit": limit}
        if reason is not None:
            parameters["reason"] = reason
        rows = await self._engine.read(lambda reader: reader.rows(sql, parameters))
        return [_quarantined(row) for row in rows]

    async def of(self, account_id: int, entry_id: int) -> Quarantined | None:
        """The entry with that id, if it is the account's."""
        parameters = {"id": entry_id, "account_id": account_id}
        rows = await self._engine.quick(lambda reader: reader.rows(_OF, parameters))
        return _quarantined(rows[0]) if rows else None

    async def get(self, entry_id: int) -> Quarantined | None:
        """The entry with that id, whosever it is."""

        def work(reader: Reader) -> Row | None:
            for account_id in accounts.ids(reader):
                for row in reader.rows(_OF, {"id": entry_id, "account_id": account_id}):
                    return row
            return None

        found = await self._engine.read(work)
        return None if found is None else _quarantined(found)

    async def record(self, entry: Quarantined) -> bytes | None:
        """The record as it was sent; None when it has left the quarantine."""
        rows = await self._engine.read(lambda reader: reader.rows(_RECORD, _key(entry)))
        return zstandard.decompress(rows[0][0]) if rows else None

    async def drop(self, entries: Iterable[Quarantined]) -> int:
        """Forget *entries*; how many there still were."""
        keys = [_key(entry) for entry in entries]
        return len(await self._engine.write(lambda tx: tx.each(_DROP, keys)))

    async def drop_all(self, account_id: int | None) -> int:
        """Forget all entries; how many there were."""

        def work(tx: Transaction) -> int:
            return len(tx.each(_DROP_ALL, [{"account_id": each} for each in _accounts(tx, account_id)]))

        return await self._engine.write(work)

    async def count(self, account_id: int | None = None) -> int:
        """How many entries there are."""

        def work(reader: Reader) -> int:
            return sum(reader.rows(_COUNT, {"account_id": each})[0][0] for each in _accounts(reader, account_id))

        return await self._engine.read(work)

    async def reasons(self, account_id: int | None = None, *, limit: int) -> Sequence[tuple[str, int]]:
        """The *limit* most frequent reasons, and how many entries have each."""

        def work(reader: Reader) -> Counter[str]:
            times: Counter[str] = Counter()
            for each in _accounts(reader, account_id):
                times.update(dict(reader.rows(_REASONS, {"account_id": each})))
            return times

        found = await self._engine.read(work)
        return nsmallest(limit, found.items(), key=lambda item: (-item[1], item[0]))


def drop(tx: Transaction, account_id: int, entry_id: int) -> None:
    """Forget an entry."""
    tx.each(_DROP, [{"account_id": account_id, "id": entry_id}])


def _accounts(reader: Reader, account_id: int | None) -> Sequence[int]:
    return accounts.ids(reader) if account_id is None else [account_id]


def _key(entry: Quarantined) -> dict[str, int]:
    return {"account_id": entry.account_id, "id": entry.id}
