"""Moves the embedded store to a PostgreSQL database while servers take in calls.

1. From the beginning triggers note the key of every row that changes, so that no change escapes.
2. The bulk is copied by key, a chunk and how far it reaches in one transaction of the database.
3. Rows of which a change was noted are copied anew, from one snapshot, as they are there or are not: then the copy is
   that snapshot. Every row of both is read and compared by its sums.
4. Again and again what changed meanwhile is copied, until that takes a moment; rows are compared as they are copied.
5. The last time nobody else may write. Then the store is marked as moved, which every writer asks for; after that the
   copy is released to be a store.

Whatever ends the command, the next one goes on: what was copied is noted with it, and what is copied twice is the same.
"""

import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec
import psycopg
import zstandard

from callhouse.errors import MoveError, StoreDamaged, StoreRefused, StoreUnavailable, TookTooLong
from callhouse.model import log as log_document
from callhouse.store import postgres_connection, sqlite
from callhouse.store.engine import Progress, Row
from callhouse.store.log_writer import account_word
from callhouse.store.logs import LogCodec
from callhouse.store.move_part import Moved, Part, Sums
from callhouse.store.move_source import Moving, Source
from callhouse.store.move_target import INDEXES, REFERENCES, Target

FEW_CHANGES = 2_000
"""So few are copied in a moment."""

MOMENT_SECONDS = 2.0
"""How long copying what changed may take for the last time to come."""

STOP_SECONDS = 20.0
"""How long the database may keep all who write waiting."""

TRIES = 10
"""How often that may fail to become quicker."""

TOLD = 10
"""Differences that are told one by one."""

_DAMAGES = (
    TypeError,
    ValueError,
    LookupError,
    msgspec.MsgspecError,
    zstandard.ZstdError,
    psycopg.DataError,
    StoreDamaged,
)
"""What comes of values that are not of their column's kind."""

AGAIN = "Nothing is lost: run the same command again and it goes on."


def move(directory: Path, url: str, on_progress: Progress) -> Moved:
    """Move the store in *directory* to the database at *url*, or go on with that; servers may use the store meanwhile.

    Raises NoStore, StoreUnavailable and MoveError; then the store is as usable as before, unless it was marked already
    and the next run has to finish it.
    """
    began = time.monotonic()
    shown = postgres_connection.without_password(url)
    with _reporting(), Source(directory) as source, Target(url) as target:
        is_marked = _ready(source, target)
        held_seconds = 0.0 if is_marked else _Move(source, target, shown, on_progress).run()
        _release(target)
        rows = {part.name: target.count(part) for part in target.parts()}
    return Moved(shown, rows, round(time.monotonic() - began, 3), round(held_seconds, 3))


def _release(target: Target) -> None:
    try:
        with target.limited(STOP_SECONDS):
            target.release()
    except TookTooLong:
        raise MoveError(
            f"The database did not answer for {STOP_SECONDS:g} seconds. All is copied and the directory takes nothing "
            "more: see that the database answers, and run the same command again, which ends the move in a moment."
        ) from None


def abandon(directory: Path) -> str:
    """Give up the move of the store in *directory* that was begun; the place of the copy, which is of no use now."""
    with _reporting(), Source(directory) as source:
        if (url := source.moved_to()) is not None:
            raise MoveError(f"The store was moved to {url} and may have changed there: this cannot be undone.")
        moving = source.moving()
        if moving is None:
            raise MoveError(f"The store in {directory} is not being moved.")
        source.abandon()
        return moving.place


@contextmanager
def _carrying(part: Part) -> Iterator[None]:
    """What a row of *part* is that no store of ours has written is told with its table."""
    try:
        yield
    except _DAMAGES as error:
        reason = postgres_connection.reason(error)
        raise MoveError(
            f"{part.name} holds what cannot be carried: {reason}. `callhouse check` tells which rows are damaged."
        ) from error


@contextmanager
def _reporting() -> Iterator[None]:
    """Whatever ends a move is told with what to do."""
    try:
        yield
    except KeyboardInterrupt:
        raise MoveError(f"Interrupted. {AGAIN}") from None
    except psycopg.Error as error:
        raise _stopped("database", postgres_connection.failure(error)) from error
    except apsw.Error as error:
        raise _stopped("store", sqlite.failure(error)) from error


def _stopped(by: str, reason: StoreUnavailable) -> MoveError:
    # What is refused or damaged is so the next time as well.
    is_lasting = isinstance(reason, StoreRefused | StoreDamaged)
    return MoveError(f"The {by} says: {reason}.{'' if is_lasting else ' ' + AGAIN}")


def _ready(source: Source, target: Target) -> bool:
    """Begin the move, or find the one to go on with; whether all of it is copied and the store marked as moved.

    Raises MoveError when there is another store, copy or program in the database, or another move of the store.
    """
    moving, moved_to, copy_of = source.moving(), source.moved_to(), target.copy_of()
    if moving is not None and copy_of == moving.id:
        return moved_to is not None
    if moved_to is not None:
        raise MoveError(f"The store was moved already: start with --store {shlex.quote(moved_to)}.")
    if copy_of is not None:
        raise MoveError(
            f"{target.place} holds an unfinished copy of another store, or of a move that was given up: "
            "drop the database if it is of no use, and make it anew."
        )
    if target.holds_store():
        raise MoveError(f"{target.place} holds a store already. Name an empty database.")
    if not target.is_empty():
        raise MoveError(f"{target.place} holds what another program put there. Name an empty database.")
    if moving is not None and moving.place != target.place:
        raise MoveError(
            f"The store is being moved to {moving.place} already: go on with that, or give it up with "
            "`callhouse move --abandon`."
        )
    # Committed here before there: what is left of a command that ends in between is a database that is empty.
    with target.transaction():
        moving = Moving(secrets.token_hex(16), target.place)
        target.begin(moving.id)
        parts = target.parts()
        if {part.name for part in parts} != source.tables():
            raise MoveError(f"{target.place} and the store have not the same tables.")
        source.begin(moving, parts)
    return False


class _Move:
    """One run, as far as it comes."""

    def __init__(self, source: Source, target: Target, url: str, on_progress: Progress) -> None:
        self._source = source
        self._target = target
        self._url = url
        self._tell = on_progress
        self._parts = target.parts()
        self._codec = LogCodec()

    def run(self) -> float:
        """Copy all, and mark the store as moved; for how many seconds nobody could write."""
        self._bulk()
        # Without it indexes that allow a thing once could meet it twice: as it was, and as it became meanwhile.
        with self._source.snapshot():
            last = self._catch_up()
        self._source.forget_changes(last)
        for done, total in self._target.build(INDEXES):
            self._tell("Indexing", done, total)
        self._target.analyze(self._parts)
        with self._source.snapshot():
            last = self._catch_up()
            self._verify()
        self._source.forget_changes(last)
        self._until_little_is_left()
        return self._finish()

    def _bulk(self) -> None:
        total = sum(self._source.count(part) for part in self._parts)
        done = 0
        for part in self._parts:
            place, is_whole = self._target.copied(part)
            if is_whole:
                done += self._target.count(part)
                continue
            order = self._source.order(part)
            columns = [part.columns.index(column) for column in order]
            done += self._target.count(part)
            with _carrying(part):
                for rows in part.chunks(self._source.reader, order, place):
                    place = [rows[-1][column] for column in columns]
                    with self._target.transaction():
                        self._target.need_not_wait()
                        self._put(part, rows)
                        self._target.note_copied(part, place, is_whole=False)
                    done += len(rows)
                    self._tell(f"Copying {part.name}", done, max(done, total))
            with self._target.transaction():
                self._target.note_copied(part, place or (), is_whole=True)

    def _put(self, part: Part, rows: list[Row]) -> None:
        self._target.put(part, rows)
        if part.name == "logs":
            self._target.reader.index_words(self._words(part, rows))

    def _words(self, part: Part, rows: list[Row]) -> Iterator[tuple[int, int, str]]:
        """What logs are found by, as LogWriter has it."""
        names = "account_id", "call_id", "dictionary", "document"
        account, call, dictionary, document = map(part.columns.index, names)
        for row in rows:
            packed = self._codec.decompress(self._source.reader, row[dictionary], row[document])
            lines = (event.line for event in log_document.unpack(packed))
            yield row[account], row[call], " ".join([account_word(row[account]), *lines])

    def _catch_up(self) -> int:
        """Copy anew what changed up to now, within a transaction of the store; the number of the last change."""
        last, _ = self._source.last_change()
        differences: list[str] = []
        with self._target.transaction():
            # First all that was goes, so that what is has its place.
            for part in self._parts:
                with _carrying(part):
                    for keys in self._source.changed(part, last):
                        gone = part.named(keys)
                        self._target.reader.each(part.delete, gone)
                        if part.name == "logs":
                            self._target.reader.forget_words([(log["account_id"], log["call_id"]) for log in gone])
            for part in self._parts:
                here, there = Sums(part), Sums(part)
                with _carrying(part):
                    for keys in self._source.changed(part, last):
                        for rows in part.those(self._source.reader, keys):
                            self._put(part, rows)
                            here.add(rows)
                        for rows in part.those(self._target.reader, keys):
                            there.add(rows)
                differences += here.differences(there)
        _none(differences)
        return last

    def _verify(self) -> None:
        """Compare all rows here, within a snapshot, with those in the copy."""
        differences: list[str] = []
        total = 2 * sum(self._source.count(part) for part in self._parts)
        done = 0
        for part in self._parts:
            here, there = Sums(part), Sums(part)
            with _carrying(part):
                for sums, reader, order in (
                    (here, self._source.reader, self._source.order(part)),
                    (there, self._target.reader, part.key),
                ):
                    for rows in part.chunks(reader, order):
                        sums.add(rows)
                        done += len(rows)
                        self._tell(f"Comparing {part.name}", done, total)
            differences += here.differences(there)
        _none(differences + self._lacking_words())

    def _lacking_words(self) -> list[str]:
        """The same for which logs have words in the copy."""
        logs = next(part for part in self._parts if part.name == "logs")
        words = self._target.words()
        here, there = Sums(words), Sums(words)
        for rows in words._replace(name=logs.name).chunks(self._source.reader, self._source.order(logs)):
            here.add(rows)
        for rows in words.chunks(self._target.reader, words.key):
            there.add(rows)
        return here.differences(there)

    def _until_little_is_left(self) -> None:
        """Copy what changed until copying it takes a moment."""
        quickest, tries = float("inf"), 0
        while (changes := self._source.last_change()[1]) > FEW_CHANGES:
            self._tell(f"Catching up with {changes:,} changes", 0, 1)
            began = time.monotonic()
            with self._source.snapshot():
                last = self._catch_up()
            self._source.forget_changes(last)
            seconds = time.monotonic() - began
            if seconds < MOMENT_SECONDS:
                return
            tries = tries + 1 if seconds >= quickest else 0
            quickest = min(seconds, quickest)
            if tries == TRIES:
                raise MoveError(
                    f"The store changes as quickly as it can be copied: what changed in {seconds:.0f} seconds takes as "
                    f"long to copy. Run the same command again when fewer calls come; it goes on."
                )

    def _finish(self) -> float:
        self._tell("Catching up for the last time", 0, 1)
        try:
            with self._source.held():
                began = time.monotonic()
                with self._target.limited(STOP_SECONDS):
                    self._catch_up()
                    for _ in self._target.build(REFERENCES):
                        pass
                    self._target.set_last_ids(self._source.last_ids())
                self._source.mark(self._url)
        except TookTooLong:
            raise MoveError(
                f"The last step was given up, as nobody could write for {STOP_SECONDS:g} seconds: the database does "
                f"not answer or is too slow. The directory takes calls again. See that the database answers. {AGAIN}"
            ) from None
        return time.monotonic() - began


def _none(differences: list[str]) -> None:
    """Raise MoveError when there are any."""
    if differences:
        more = f"; and {len(differences) - TOLD:,} more" if len(differences) > TOLD else ""
        raise MoveError(
            f"The copy is not what the store is. {'; '.join(differences[:TOLD])}{more}. The store was left as it was; "
            "somebody else writes to the database, or it is damaged. Give the move up with `callhouse move --abandon`, "
            "make the database anew and move again."
        )
