"""What is moved: tables, and how their rows are read, told apart and added up, the same in every engine."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from callhouse.model.instant import DAY
from callhouse.store.engine import Reader, Row, Transaction

ROWS = 2_000
ROWS_WITH_BLOBS = 200
"""Rows that are read at once at most."""

BYTES = 16 * 1024 * 1024
"""What the blobs of rows that are read at once may take, unless it is one row."""

DAYS = {"calls": "started", "logs": "ended", "call_errors": "timestamp", "waiting_events": "timestamp"}
"""By which instant the rows of a table are told apart by days."""

_CHECKSUM = 2**64
_pack = msgspec.msgpack.Encoder().encode

Key = Sequence[Any]


class Moved(msgspec.Struct, frozen=True):
    """What was moved: *rows* by table. Nobody could write for *held_seconds*."""

    url: str
    rows: dict[str, int]
    seconds: float
    held_seconds: float


class Part(NamedTuple):
    """A table with its columns, their types in the database that it is moved to, and the primary key there."""

    name: str
    columns: tuple[str, ...]
    types: tuple[int, ...]
    key: tuple[str, ...]
    blobs: tuple[str, ...] = ()

    @property
    def is_by_account(self) -> bool:
        return "account_id" in self.columns

    @property
    def get(self) -> str:
        """The statement that reads the row with a key."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self._is_key}"  # noqa: S608

    @property
    def delete(self) -> str:
        return f"DELETE FROM {self.name} WHERE {self._is_key}"  # noqa: S608

    @property
    def _size(self) -> str:
        """What the blobs of a row take, which both engines know without reading them."""
        sizes = [f"coalesce(length({column}), 0)" for column in self.blobs]
        # Of a log also what it is unpacked, as its words are cut then.
        return " + ".join([*sizes, "size"] if self.name == "logs" else sizes)

    @property
    def _is_key(self) -> str:
        return " AND ".join(f"{column} = :{column}" for column in self.key)

    def named(self, keys: Iterable[Key]) -> list[dict[str, Any]]:
        """*keys* as parameters of get and delete."""
        return [dict(zip(self.key, key, strict=True)) for key in keys]

    def chunks(self, reader: Reader, order: Sequence[str], after: Key | None = None) -> Iterator[list[Row]]:
        """All rows behind the one of which the columns of *order*, a key, are *after*; a chunk is read when it is asked
        for, and holds no more than BYTES unless it is one row.
        """
        listed, columns = ", ".join(order), ", ".join(self.columns)
        names = [f"after_{column}" for column in order]
        behind = f"WHERE ({listed}) > ({', '.join(f':{name}' for name in names)})"
        places = [self.columns.index(column) for column in order]
        while True:
            given = {} if after is None else dict(zip(names, after, strict=True))
            rest = f"FROM {self.name} {behind if given else ''} ORDER BY {listed}"
            limit = ROWS
            if self.blobs:
                sizes = reader.rows(f"SELECT {self._size} {rest} LIMIT {ROWS_WITH_BLOBS}", given)
                limit = _fitting([size for (size,) in sizes])
            rows = reader.rows(f"SELECT {columns} {rest} LIMIT {limit}", given)
            if not rows:
                return
            after = [rows[-1][place] for place in places]
            yield rows

    def those(self, reader: Transaction, keys: Sequence[Key]) -> Iterator[list[Row]]:
        """The rows with *keys*, as far as there are any, in chunks as those of all rows."""
        if not self.blobs:
            yield reader.each(self.get, self.named(keys))
            return
        sql = f"SELECT {', '.join(self.key)}, {self._size} AS bytes FROM {self.name} WHERE {self._is_key}"  # noqa: S608
        found = reader.each(sql, self.named(keys))
        while found:
            limit = _fitting([size for *_, size in found])
            yield reader.each(self.get, self.named(key for *key, _ in found[:limit]))
            del found[:limit]


def _fitting(sizes: Sequence[int]) -> int:
    """How many rows of these *sizes* are read at once, from the first on: one at least."""
    return max(1, sum(total <= BYTES for total in accumulate(sizes)))


class Sums:
    """How many rows a table has, and a checksum of them in any order: by account and day, as far as it knows these."""

    def __init__(self, part: Part) -> None:
        self._name = part.name
        self._account = part.columns.index("account_id") if part.is_by_account else None
        day = DAYS.get(part.name)
        self._instant = None if day is None or day not in part.columns else part.columns.index(day)
        self.counts: defaultdict[tuple[int | None, int | None], int] = defaultdict(int)
        self._checksums: defaultdict[tuple[int | None, int | None], int] = defaultdict(int)

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            account_id = None if self._account is None else row[self._account]
            instant = None if self._instant is None else row[self._instant]
            of = account_id, None if instant is None else instant // DAY
            self.counts[of] += 1
            digest = hashlib.blake2b(_pack(row), digest_size=8).digest()
            self._checksums[of] = (self._checksums[of] + int.from_bytes(digest)) % _CHECKSUM

    def differences(self, copied: "Sums") -> list[str]:
        """A line for each account and day of which *copied* says something else."""
        lines = []
        for of in sorted(self.counts.keys() | copied.counts.keys(), key=str):
            here, there = self.counts.get(of, 0), copied.counts.get(of, 0)
            if here != there:
                lines.append(f"{self._where(*of)}: {here} rows, and {there} in the copy")
            elif self._checksums[of] != copied._checksums[of]:  # noqa: SLF001
                lines.append(f"{self._where(*of)}: {here} rows that are not alike in the copy")
        return lines

    def _where(self, account_id: int | None, day: int | None) -> str:
        whose = "" if account_id is None else f" of account {account_id}"
        when = "" if day is None else f" on {datetime.fromtimestamp(day * DAY / 1000, UTC):%Y-%m-%d}"
        return f"{self._name}{whose}{when}"
