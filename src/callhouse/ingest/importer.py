"""Files → the store: batches of records, each stored together with how far the files were read."""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from callhouse import __version__
from callhouse.errors import FileUnreadable, StoreUnavailable
from callhouse.ingest.ahead import ReadAhead
from callhouse.ingest.body import JsonSplitter
from callhouse.ingest.files import OpenFile, failing_clearly, title, too_long
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.pipes import Pipe, is_piped
from callhouse.ingest.readers import Reader, readers
from callhouse.ingest.reading import Places, Reading, digest
from callhouse.model.account import Account
from callhouse.model.record import Outcome, Record
from callhouse.sources import Cut, Splitter, is_json
from callhouse.store import Store
from callhouse.store.imports import Place

T = TypeVar("T")

BATCH_RECORDS = 5_000
BATCH_BYTES = 16 * 1024 * 1024
BATCHES_UNDER_WAY = 3
"""One that is stored, one that was read meanwhile, and one that is being read."""

LINES_BETWEEN_PAUSES = 10_000
"""Lines without a record after which signals are looked at, and the progress is shown."""

STORE_RETRY_SECONDS = 5.0
"""How long to wait before trying a store again that could not be written."""

SHOWN_REFUSALS = 10


class Refused(msgspec.Struct, frozen=True):
    """A record that was quarantined: the file and the line where it begins, and the reason."""

    origin: str
    reason: str


class Progress(msgspec.Struct):
    """What became of the files so far. What an earlier import had taken in is not counted; *known_files* are those of
    which nothing was left.

    *refused* are the first records that were quarantined; *failed* says which files could not be read, or not to their
    end; *unfinished* are those whose last line is left for the next import, as it was just being written; *waiting* why
    the store cannot be written now, as long as that is so.
    """

    files: int = 0
    known_files: int = 0
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    expired_events: int = 0
    refused: list[Refused] = []
    failed: list[str] = []
    unfinished: list[str] = []
    waiting: str = ""

    @property
    def records(self) -> int:
        return self.accepted + self.duplicate + self.quarantined


class Importer:
    """Imports files for *account* that the reader of *route* reads under *options*, those of every source by its name:
    from where earlier imports under the same options ended; with *again*, from their beginning.

    A store that cannot be written raises StoreUnavailable; with *patience* it is tried again until it can.
    """

    def __init__(
        self,
        store: Store,
        account: Account,
        route: str,
        options: Mapping[str, msgspec.Struct],
        limits: IngestLimits,
        *,
        again: bool = False,
        patience: bool = False,
        on_progress: Callable[[OpenFile | None], None] = lambda _: None,
    ) -> None:
        self.progress = Progress()
        self.stopping = asyncio.Event()
        """Set it, and what is being read ends with the record at hand."""
        self._store = store
        self._account = account
        self._route = route
        self._reader = readers(options)[route]
        self._limits = limits
        self._ahead = ReadAhead(route, options, limits)
        # Another version may cut a file into other records.
        self._options = digest(msgspec.json.encode((__version__, options.get(self._reader.source)))).digest()
        self._again = again
        self._patience = patience
        self._on_progress = on_progress
        self._places = Places()
        self._last_read: dict[str, int] = {}
        self._raws: list[tuple[str, bytes]] = []
        self._bytes = 0
        self._reached: dict[bytes, Place] = {}
        self._writing: deque[asyncio.Task[None]] = deque()

    async def start(self) -> None:
        """Find out what was imported before."""
        if not self._again:
            for place in await self._store.imports.places(self._account.id, self._route, self._options):
                self._places.put(place)
                self._last_read[place.path] = max(place.changed, self._last_read.get(place.path, 0))

    def close(self) -> None:
        """Let go of what the import took."""
        self._ahead.close()

    async def take_file(self, path: Path) -> None:
        """Take in all of the file that was not taken in before; what goes wrong with it is noted in the progress."""
        try:
            if is_piped(path):
                await self._take_pipe(path)
            else:
                with OpenFile(path) as file:
                    reading = self.resumed(file)
                    if reading is not None:
                        await self._read(reading, file)
        except FileUnreadable as error:
            self.fail(str(error))
        self.progress.files += 1
        # Signals are seen even if there was nothing to store.
        await asyncio.sleep(0)

    def fail_directory(self, error: OSError) -> None:
        """Note that a directory cannot be looked into."""
        self.fail(f"{title(Path(error.filename))} cannot be looked into: {error.strerror}.")

    async def read_until(self, path: Path, otherwise: int) -> int:
        """Up to when all was taken in that was written to the followed file *path*, in milliseconds; one that was not
        followed before counts as read when it was last imported, or else *otherwise*, from now on.
        """
        known = await self._store.imports.read_until(self._account.id, self._route)
        if title(path) not in known:
            known[title(path)] = self._last_read.get(title(path), otherwise)
            await self.remember_read_until([path], known[title(path)])
        return known[title(path)]

    async def remember_read_until(self, paths: Sequence[Path], instant: int) -> None:
        """All that was written to the followed files *paths* up to *instant* is stored."""
        instants = {title(path): instant for path in paths}
        await self._patiently(lambda: self._store.imports.put_read_until(self._account.id, self._route, instants))

    def fail(self, reason: str) -> None:
        """Note that a file cannot be read, or not to its end."""
        if reason not in self.progress.failed:
            self.progress.failed.append(reason)

    def resumed(self, file: OpenFile) -> Reading | None:
        """The reading of *file* from its beginning; None when all of it was taken in before. Raises FileUnreadable."""
        known = None
        if file.can_be_reread:
            with failing_clearly(file.path):
                known, is_all = self._places.find(file.stream)
            if is_all:
                self.progress.known_files += 1
                return None
            file.seek(0)
        return Reading(known or self._beginning(file), splitter_of(self._reader))

    async def _read(self, reading: Reading, file: OpenFile) -> None:
        try:
            left = await self.feed_lines(reading, file)
        except FileUnreadable:
            self.reached(reading.place(), file)
            raise
        if self.stopping.is_set() or self._is_being_written(reading, left, file):
            self.reached(reading.place(), file)
        else:
            self.finish(reading, left, file)

    def _is_being_written(self, reading: Reading, left: bytes, file: OpenFile) -> bool:
        if not is_half_a_row(reading, left) or not file.was_just_written:
            return False
        self.progress.unfinished.append(file.title)
        return True

    async def _take_pipe(self, path: Path) -> None:
        """Take in what comes through standard input or a pipe, a little after it came."""
        pipe = Pipe(path, self.stopping)
        with contextlib.closing(pipe):
            while not self.stopping.is_set() and not await pipe.has_more():
                pass
            if self.stopping.is_set():
                return
            with pipe.opened() as file:
                reading = Reading(self._beginning(file), splitter_of(self._reader))
                async for line in pipe.lines(file, self._limits.max_body):
                    if line is None:
                        await self.flush(file)
                        await self.settle()
                    elif line[-1:] == b"\n":
                        if self._feed(reading, line, file):
                            await self._pause(reading, file)
                    else:
                        self._take(reading.rest(line), file)
                        return
                if not self.stopping.is_set():
                    self._take(reading.rest(b""), file)

    async def feed_lines(self, reading: Reading, file: OpenFile) -> bytes:
        """Take in the lines of *file* from where it stands; what stands behind the last line feed.

        Raises FileUnreadable, also when a record has no end.
        """
        is_long = False
        for line in file.lines(self._limits.max_body):
            ends = line[-1:] == b"\n"
            if is_long or (not ends and len(line) == self._limits.max_body):
                # Its beginning is quarantined for its length; the whole of it is in the file.
                self._take(reading.feed_long(line, begins=not is_long, ends=ends), file)
                is_long = not ends
            elif ends:
                if self._feed(reading, line, file):
                    await self._pause(reading, file)
            else:
                return line
            if self.stopping.is_set():
                break
        return b""

    def _feed(self, reading: Reading, line: bytes, file: OpenFile) -> bool:
        """Take in the records that end with *line*; whether it is time to pause. Raises FileUnreadable."""
        if cuts := reading.feed(line):
            self._take(cuts, file)
            return len(self._raws) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES
        if reading.open_size > self._limits.max_body:
            raise too_long(file.path, reading.lines, self._limits.max_body)
        return reading.lines % LINES_BETWEEN_PAUSES == 0

    async def _pause(self, reading: Reading, file: OpenFile) -> None:
        """Let a batch that is full be stored, and signals be seen."""
        if len(self._raws) >= BATCH_RECORDS or self._bytes >= BATCH_BYTES:
            self.reached(reading.place(), file)
            await self.flush(file)
        else:
            self._on_progress(file)
            await asyncio.sleep(0)

    def finish(self, reading: Reading, line: bytes, file: OpenFile) -> None:
        """Take in what is left of *file*, which ends with *line*, for now or for good."""
        self._take(reading.rest(line), file)
        self.reached(reading.end(line), file)

    def reached(self, place: Place, file: OpenFile) -> None:
        """Remember *place* with the records that were taken in up to it."""
        if file.can_be_reread:
            self._reached[place.id] = place

    async def flush(self, file: OpenFile | None = None) -> None:
        """Let what was taken in be stored, while more is read."""
        raws, self._raws, self._bytes = self._raws, [], 0
        places, self._reached = self._reached, {}
        if raws or places:
            before = self._writing[-1] if self._writing else None
            self._writing.append(asyncio.create_task(self._write(raws, list(places.values()), before)))
            # It begins now, not when this task waits next.
            await asyncio.sleep(0)
        if len(self._writing) == BATCHES_UNDER_WAY:
            await self._oldest()
        self._on_progress(file)

    async def settle(self) -> None:
        """Wait until everything that was flushed is on disk. Raises StoreUnavailable."""
        while self._writing:
            await self._oldest()

    async def _oldest(self) -> None:
        try:
            await self._writing.popleft()
        except BaseException:
            for later in self._writing:
                later.cancel()
            self._writing.clear()
            raise

    async def _write(
        self, raws: Sequence[tuple[str, bytes]], places: Sequence[Place], before: asyncio.Task[None] | None
    ) -> None:
        """Store a batch once the one *before* it is stored."""
        found = await self._ahead.read([raw for _, raw in raws])
        # Its retention may have been changed since the import began.
        account = await self._store.accounts.get(self._account.id)
        records = [
            Record(account=account, source=self._route, raw=raw, read=read, origin=origin)
            for (origin, raw), read in zip(raws, found, strict=True)
        ]
        if before is not None:
            await before
        outcomes = await self._patiently(lambda: self._store.load(records, places))
        for place in places:
            self._places.put(place)
        self._count(records, outcomes)
        await self._store.train()

    async def _patiently(self, store: Callable[[], Awaitable[T]]) -> T:
        """What *store* gives, which is tried again while the store cannot be written, if there is patience for it."""
        while True:
            try:
                stored = await store()
                break
            except StoreUnavailable as error:
                if not self._patience or self.stopping.is_set():
                    raise
                self.progress.waiting = str(error)
                self._on_progress(None)
                await self.pause(STORE_RETRY_SECONDS)
        self.progress.waiting = ""
        return stored

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than until it is time to stop."""
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return

    def _take(self, cuts: Iterable[Cut], file: OpenFile) -> None:
        for number, raw in cuts:
            self._bytes += len(raw)
            self._raws.append((f"{file.title}:{number}", raw))

    def _count(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        progress = self.progress
        for record, outcome in zip(records, outcomes, strict=True):
            if outcome.refusal is not None:
                progress.quarantined += 1
                if len(progress.refused) < SHOWN_REFUSALS:
                    progress.refused.append(Refused(record.origin, outcome.refusal))
            elif outcome.repeated:
                progress.duplicate += 1
            else:
                progress.accepted += 1
            progress.expired_events += outcome.expired_events

    def _beginning(self, file: OpenFile) -> Place:
        return Place(
            account_id=self._account.id,
            source=self._route,
            options=self._options,
            id=uuid.uuid4().bytes,
            path=file.title,
            size=0,
            head=b"",
            digest=b"",
            records=0,
            is_whole=False,
        )


def is_half_a_row(reading: Reading, left: bytes) -> bool:
    """Whether *left*, a last line without its end, may be a row of which the rest is on its way."""
    return bool(left and reading.lines and not reading.open_size and not is_json(left))


def splitter_of(reader: Reader) -> Splitter:
    """What cuts a file for *reader* into records."""
    return JsonSplitter() if reader.splitter is None else reader.splitter()
