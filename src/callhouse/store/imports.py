"""How far files were imported, so that an import that was interrupted, or comes again, goes on where it was."""

from collections.abc import Mapping, Sequence

import msgspec

from callhouse.store.engine import Engine, Transaction

_KNOWN = """
SELECT account_id, source, options, id, path, size, head, digest, records, is_whole, changed FROM imports
WHERE account_id = :account_id AND source = :source AND options = :options
"""
_PUT = """
INSERT INTO imports (account_id, source, options, id, path, size, head, digest, records, is_whole, changed)
VALUES (:account_id, :source, :options, :id, :path, :size, :head, :digest, :records, :is_whole, :changed)
ON CONFLICT (account_id, source, options, id) DO UPDATE SET
    path = excluded.path, size = excluded.size, head = excluded.head, digest = excluded.digest,
    records = excluded.records, is_whole = excluded.is_whole, changed = excluded.changed
"""
_READ_UNTIL = "SELECT path, read_until FROM followed_files WHERE account_id = :account_id AND source = :source"
_PUT_READ_UNTIL = """
INSERT INTO followed_files (account_id, source, path, read_until) VALUES (:account_id, :source, :path, :read_until)
ON CONFLICT (account_id, source, path) DO UPDATE SET read_until = excluded.read_until
"""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file was imported: its first *size* bytes have the *digest*, and those of them that it is found by,
    *head*.

    They gave *records* that nothing behind them can change. *is_whole* tells that all was taken in, also what more
    bytes would change: a line without its end, a document of which nobody knows whether it is over. *path* is what the
    file was called; *options* is a digest of what it was read under. *changed* is when it was stored, in milliseconds.
    """

    account_id: int
    source: str
    options: bytes
    id: bytes
    path: str
    size: int
    head: bytes
    digest: bytes
    records: int
    is_whole: bool
    changed: int = 0


class Imports:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def places(self, account_id: int, source: str, options: bytes) -> list[Place]:
        """All that is known of files of an account that were imported from *source* under *options*."""
        parameters = {"account_id": account_id, "source": source, "options": options}
        rows = await self._engine.read(lambda reader: reader.rows(_KNOWN, parameters))
        return [
            msgspec.convert(dict(zip(Place.__struct_fields__, row, strict=True)), Place, strict=False) for row in rows
        ]

    async def read_until(self, account_id: int, source: str) -> dict[str, int]:
        """Up to when, in milliseconds, all was taken in that was written to each file that is followed, by its path."""
        parameters = {"account_id": account_id, "source": source}
        rows = await self._engine.read(lambda reader: reader.rows(_READ_UNTIL, parameters))
        return dict(rows)

    async def put_read_until(self, account_id: int, source: str, instants: Mapping[str, int]) -> None:
        """Remember that of *instants*, besides those of other paths."""
        known = {"account_id": account_id, "source": source}
        rows = [{**known, "path": path, "read_until": instant} for path, instant in instants.items()]
        await self._engine.write(lambda tx: tx.each(_PUT_READ_UNTIL, rows), [account_id])


def put(tx: Transaction, places: Sequence[Place], now: int) -> None:
    """Remember *places*, each instead of the one with its id."""
    rows = (msgspec.structs.asdict(place) for place in places)
    tx.each(_PUT, ({**row, "is_whole": int(row["is_whole"]), "changed": now} for row in rows))
