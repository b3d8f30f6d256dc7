"""The rows that calls are joined from, kept by group until no more of them can be expected."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import zstandard

from callhouse.errors import RecordError
from callhouse.model.account import Account
from callhouse.model.record import Fragment, Join, Outcome, Part, Record
from callhouse.store.engine import Reader, Transaction

DIGEST_BYTES = 8

_KNOWN = """
SELECT account_id, name, source, digests, document FROM fragments
WHERE account_id = :account_id AND name = :name AND source = :source
"""
_PUT = """
INSERT INTO fragments (account_id, name, source, changed, ended, digests, document)
VALUES (:account_id, :name, :source, :changed, :ended, :digests, :document)
ON CONFLICT (account_id, name, source) DO UPDATE
SET changed = excluded.changed, ended = excluded.ended, digests = excluded.digests, document = excluded.document
"""
_SILENT = """
SELECT name FROM fragments
WHERE account_id = :account_id AND source = :source AND ended IS NULL AND changed < :before
ORDER BY changed LIMIT :limit
"""

GroupKey = tuple[int, str, str]
"""Account, name and source."""

_KEPT, _REPEATED = Outcome(), Outcome(repeated=True)


def digest_of(row: bytes) -> bytes:
    """What is kept of *row* for good."""
    return hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest()


def digests_in(column: bytes) -> set[bytes]:
    """The digests of a group's rows, as the store keeps them."""
    return {column[at : at + DIGEST_BYTES] for at in range(0, len(column), DIGEST_BYTES)}


class Group:
    """The rows of one group: those in the store, and those of a batch that are *new*, by their digests.

    *said* is what the rows in the store say, *says* what all of them do, *origin* the last record of a new one.
    """

    def __init__(self, account: Account, name: str, source: str, join: Join) -> None:
        self.account = account
        self.key: GroupKey = (account.id, name, source)
        self.refusal: str | None = None
        self.expired_events = 0
        self.said: list[Part] = []
        self.says: list[Part] = []
        self.new: dict[bytes, bytes] = {}
        self.origin: Record | None = None
        self._join = join
        self._known: set[bytes] = set()
        self._told: set[bytes] = set()
        self._rows: list[bytes] | None = []

    def load(self, digests: bytes, document: bytes | None) -> None:
        """Know the rows that the store has."""
        self._known = digests_in(digests)
        self._rows = None if document is None else zstandard.decompress(document).split(b"\n")

    def add(self, record: Record, content: bytes) -> bytes:
        """Take in the row of *record*, new or not; its digest."""
        digest = digest_of(content)
        if digest not in self._known:
            self.new.setdefault(digest, content)
            self.origin = record
        return digest

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return sum(map(len, self._rows or [])) + sum(map(len, self.new.values()))

    def join(self, max_rows: int) -> None:
        """Find out what the rows say. Raises RecordError when the new ones cannot be joined."""
        if self._rows is None:
            raise RecordError("the other rows of its call are older than their retention, so it cannot be joined")
        if len(self._rows) + len(self.new) > max_rows:
            raise RecordError(f"the call has more than {max_rows} rows")
        name = self.key[1]
        self.said = self._join(name, self._rows) if self._rows else []
        self.says = self._join(name, [*self._rows, *self.new.values()])

    def refuse(self, reason: str) -> None:
        """Let the new rows be refused; the group stays as it is in the store."""
        self.refusal = reason
        self.said, self.says = [], []

    def outcome(self, digest: bytes) -> Outcome:
        """What became of the row that has *digest*; of one that stands in the batch again, that it is a repeat."""
        if digest not in self.new or (self.refusal is None and digest in self._told):
            return _REPEATED
        if self.refusal is not None:
            return Outcome(refusal=self.refusal)
        self._told.add(digest)
        if not self.expired_events:
            return _KEPT
        # They are counted once, with the first of the rows that brought them.
        expired, self.expired_events = self.expired_events, 0
        return Outcome(expired_events=expired)

    def row(self, now: int, compressor: zstandard.ZstdCompressor) -> dict[str, Any]:
        """The columns of the group with its new rows."""
        assert self._rows is not None
        account_id, name, source = self.key
        ends = [part.call.end for part in self.says if part.call is not None and part.session_id == name]
        return {
            "account_id": account_id,
            "name": name,
            "source": source,
            "changed": now,
            "ended": ends[0] if ends else None,
            "digests": b"".join(sorted({*self._known, *self.new})),
            "document": compressor.compress(b"\n".join([*self._rows, *self.new.values()])),
        }


def gather(
    tx: Transaction, records: Sequence[Record], max_rows: int
) -> tuple[list[Group], list[tuple[Group, bytes] | None]]:
    """The groups that *records* bring something new to, joined, and for each record its group and its digest there."""
    groups: dict[GroupKey, Group] = {}
    group_of: list[Group | None] = []
    for record in records:
        read = record.read
        group = None
        if isinstance(read, Fragment):
            key = record.account.id, read.group, record.source
            group = groups.get(key)
            if group is None:
                group = groups[key] = Group(record.account, read.group, record.source, read.join)
        group_of.append(group)
    keys = ({"account_id": account_id, "name": name, "source": source} for account_id, name, source in groups)
    for account_id, name, source, digests, document in tx.each(_KNOWN, keys) if groups else []:
        groups[account_id, name, source].load(digests, document)
    places = [
        (group, group.add(record, read.content))
        if group is not None and isinstance(read := record.read, Fragment)
        else None
        for record, group in zip(records, group_of, strict=True)
    ]
    changed = [group for group in groups.values() if group.new]
    for group in changed:
        try:
            group.join(max_rows)
        except RecordError as error:
            group.refuse(str(error))
    return changed, places


def put(tx: Transaction, groups: Iterable[Group], now: int) -> None:
    """Keep the rows of *groups* that were not refused."""
    # Making a compressor takes longer than compressing a few rows.
    compressor = zstandard.ZstdCompressor()
    tx.each(_PUT, [group.row(now, compressor) for group in groups if group.refusal is None])


def silent(reader: Reader, account_id: int, source: str, before: int, limit: int) -> list[str]:
    """The names of groups of calls in progress whose last row came before *before*, the most silent first."""
    asked = {"account_id": account_id, "source": source, "before": before, "limit": limit}
    return [name for (name,) in reader.rows(_SILENT, asked)]
