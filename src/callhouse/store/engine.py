"""The narrow interface that a database offers to the rest of the store.

Statements are written once, in the SQL that SQLite and PostgreSQL share, with parameters named ``:name``.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

Row = tuple[Any, ...]
Parameters = Mapping[str, Any]
T = TypeVar("T")
Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


class Reader(Protocol):
    """A snapshot of the database."""

    def rows(self, sql: str, parameters: Parameters) -> list[Row]:
        """All rows that *sql* gives."""
        ...

    def each(self, sql: str, parameters: Iterable[Parameters]) -> list[Row]:
        """Run *sql* once for each of *parameters* and give all rows that came back, in order."""
        ...

    def calls_with_words(self, words: Sequence[str], parameters: Parameters, sql: str) -> list[Row]:
        """The rows of *sql*, in which ``{matches}`` stands for a SELECT of the ids, from ``:low`` to ``:high``, of the
        calls whose log holds all *words*, and ``{holds}`` for the condition that one of ``calls`` is among them.

        *parameters* name the ``account_id`` as well; others' calls may be found too where its account_word is not
        among the words. The condition is for calls that are most of those between the ids.
        """
        ...


class Transaction(Reader, Protocol):
    """The one transaction that writes."""

    def index_words(self, words: Iterable[tuple[int, int, str]]) -> None:
        """Make texts findable, each under its account's and its call's id."""
        ...

    def forget_words(self, calls: Iterable[tuple[int, int]]) -> None:
        """Undo index_words for *calls*, each named by its account's and its own id."""
        ...


class Inspection(Reader, Protocol):
    """A snapshot of a database that may be damaged: StoreDamaged is raised where it is, and all else can be read."""

    def parts(self) -> list[str]:
        """What faults can look into: the tables, and whatever else the database keeps."""
        ...

    def faults(self, part: str) -> list[str]:
        """What the database itself finds wrong with *part*, its indexes and its references."""
        ...

    def last_id(self, table: str) -> int:
        """No row of *table* has a higher id."""
        ...

    def misfiled(self, first: int, last: int, texts: Mapping[int, str]) -> set[int]:
        """The ids from *first* to *last* under which the search index has not each word of the text that *texts* has
        for the id, or has any where it has none.
        """
        ...


class Readers(Protocol):
    """What reads a database. Every method raises StoreUnavailable when the database does not do its part."""

    async def quick(self, work: Callable[[Reader], T]) -> T:
        """The result of *work*, which reads a few rows through an index; each statement is a snapshot of its own."""
        ...

    async def read(self, work: Callable[[Reader], T]) -> T:
        """The result of *work*, which may read for long; the event loop runs on meanwhile.

        Raises TookTooLong when it reads for longer than the database was told to allow.
        """
        ...


class Engine(Readers, Protocol):
    """A database that holds the store."""

    async def write(self, work: Callable[[Transaction], T], accounts: Collection[int] | None = None, /) -> T:
        """The result of *work* once all it wrote is committed and on disk; nothing is written if it raises.

        It has what belongs to *accounts* to itself meanwhile, or with None the whole store. It may be run again when
        the database lets it down before the commit.
        """
        ...

    async def backup(self, target: Path, on_progress: Progress, /) -> None:
        """Copy all that is committed now to *target*, an empty file; it is on disk when this returns.

        Others read and write meanwhile.
        """
        ...

    async def size(self) -> int:
        """Bytes on disk."""
        ...

    async def sizes(self) -> dict[str, int]:
        """Bytes of each table with its indexes; takes longer the more there are. Raises TookTooLong as read does."""
        ...

    async def free(self) -> int | None:
        """Bytes by which it can still grow; None when the database alone knows."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the database."""
        ...
