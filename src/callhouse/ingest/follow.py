"""Files that go on growing, read through rotation, and directories swept for new ones."""

import asyncio
import contextlib
import glob
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from callhouse.errors import FileUnreadable
from callhouse.ingest.files import OpenFile, expanded, failing_clearly, mode_of
from callhouse.ingest.importer import Importer, is_half_a_row
from callhouse.ingest.reading import Reading

POLL_SECONDS = 0.5
"""How long to wait after each look; longer where it takes long to find out which files there are."""

QUIET_LOOKS = 8
"""Looks after which a file that did not change has ended for now, with a document of many lines, say."""

HALF_A_ROW_LOOKS = 60
"""The same where its last line lacks its end: its writer may only be slow."""

RETRY_LOOKS = 60
"""Looks after which a file that could not be read is tried again, though it did not change."""

HELD_FILES = 200
"""Files that are kept open, so that they can be read after they were moved away."""

SLACK_MS = 2_000
"""By how much the clocks of files and of the store may differ."""

GONE_LOOKS = 120
"""Looks for which a file is read that was renamed or deleted: who writes it may not have heard of it."""

SMALL = 1024 * 1024
"""Bytes up to which a file that changes after it ended is read again from its beginning."""


class _Followed:
    """A file, told from others by its place on the disk; *path* is what it is called now.

    *held* keeps it open, so that it can be read after it was renamed. *changed* is its size and time when it was last
    looked at, *quiet* for how many looks it has been the same; *is_read* whether all that was in it was taken in;
    *has_ended* until it changes, also if it *has_failed* to be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: int | None = None
        self.reading: Reading | None = None
        self.changed: tuple[int, int] | None = None
        self.quiet = 0
        self.is_read = False
        self.has_ended = False
        self.has_failed = False
        self.is_new = True


class Follower:
    """Takes the files in with *importer* that *names* mean, as they appear and grow.

    Of a file that is named, those beside it whose names begin with its name are part of it if they were written since
    all of it was last read: rotation made them of it, or moved it away while nobody looked. Until when that was is
    stored, for it may take several runs to catch up.
    """

    def __init__(self, importer: Importer, names: Sequence[str]) -> None:
        self._importer = importer
        self._names = names
        self._since: dict[Path, int] = {}
        self._has_news = False
        self._looked = 0
        self._followed: dict[tuple[int, int], _Followed] = {}
        self._held: set[Path] = set()

    async def run(self) -> None:
        """Follow until it is time to stop. Raises StoreUnavailable."""
        now = _now()
        for path in map(Path, self._names):
            if not glob.has_magic(str(path)) and not stat.S_ISDIR(mode_of(path)):
                self._since[path] = await self._importer.read_until(path, now)
        try:
            while not self._importer.stopping.is_set():
                began, looked = time.monotonic(), _now()
                paths = self._paths()
                listing = time.monotonic() - began
                await self._look(paths)
                await self._importer.flush()
                await self._importer.settle()
                await self._remember(looked)
                await self._importer.pause(max(POLL_SECONDS, 5 * listing))
        finally:
            for followed in self._followed.values():
                _release(followed)

    async def _remember(self, looked: int) -> None:
        """Remember that all was read that had been written before the last look but this, which began when *looked*: a
        file that is being renamed may be missed once.
        """
        before, self._looked = self._looked, looked
        is_read = not self._importer.stopping.is_set() and all(each.is_read for each in self._followed.values())
        if is_read and self._has_news and self._since and before:
            await self._importer.remember_read_until(list(self._since), before)
            self._has_news = False

    def _paths(self) -> list[Path]:
        """All files to be looked at now. Those that are not in directories are to be held."""
        paths = dict.fromkeys(expanded(self._names, self._importer.fail_directory))
        outside = [name for name in self._names if not stat.S_ISDIR(mode_of(Path(name)))]
        self._held = set(expanded(outside)[:HELD_FILES])
        for path, since in self._since.items():
            for beside in path.parent.glob(f"{glob.escape(path.name)}?*"):
                with contextlib.suppress(OSError):
                    if beside.stat().st_mtime * 1000 >= since - SLACK_MS:
                        paths[beside] = None
        return list(paths)

    async def _look(self, paths: Sequence[Path]) -> None:
        present = set()
        for path in paths:
            if self._importer.stopping.is_set():
                return
            try:
                status = path.stat()
            except OSError:
                # It is not there yet, or was moved just now.
                continue
            if stat.S_ISREG(status.st_mode):
                key = status.st_dev, status.st_ino
                present.add(key)
                followed = self._followed.setdefault(key, _Followed(path))
                followed.path = path
                await self._look_at(followed, status)
        for key in self._followed.keys() - present:
            await self._look_after(key)

    async def _look_after(self, key: tuple[int, int]) -> None:
        """Look at a file that is not where it was."""
        followed = self._followed[key]
        if followed.held is not None:
            await self._look_at(followed, os.fstat(followed.held))
        if followed.held is None or followed.quiet > GONE_LOOKS:
            _release(self._followed.pop(key))

    async def _look_at(self, followed: _Followed, status: os.stat_result) -> None:
        changed = status.st_size, status.st_mtime_ns
        followed.quiet = followed.quiet + 1 if changed == followed.changed else 0
        followed.changed = changed
        self._has_news = self._has_news or not followed.quiet
        is_due = followed.has_failed and followed.quiet % RETRY_LOOKS == RETRY_LOOKS - 1
        followed.has_ended = followed.has_ended and followed.quiet > 0 and not is_due
        if followed.path not in self._held and followed.quiet > GONE_LOOKS:
            _release(followed)
        if followed.has_ended:
            return
        followed.is_read = False
        try:
            if followed.held is None and followed.path in self._held:
                with failing_clearly(followed.path):
                    followed.held = os.open(followed.path, os.O_RDONLY)
            with OpenFile(followed.path, followed.held) as file:
                await self._read(followed, file, status.st_size)
            followed.has_failed = False
        except FileUnreadable as error:
            self._importer.fail(str(error))
            followed.has_ended = followed.has_failed = True
        # Signals are seen however many files there are.
        await asyncio.sleep(0)

    async def _read(self, followed: _Followed, file: OpenFile, size: int) -> None:
        if file.is_compressed:
            if followed.quiet >= QUIET_LOOKS:
                await self._importer.take_file(followed.path)
                followed.has_ended = followed.is_read = True
            return
        if followed.is_new:
            followed.is_new = False
            self._importer.progress.files += 1
        if followed.reading is None or _is_another(followed.reading, file, size):
            followed.reading = self._importer.resumed(file)
        if followed.reading is None:
            followed.has_ended = followed.is_read = True
            return
        before = followed.reading.size
        file.seek(before)
        left = await self._importer.feed_lines(followed.reading, file)
        if followed.reading.size > before:
            self._importer.reached(followed.reading.place(), file)
        followed.is_read = not left and not followed.reading.open_size
        if followed.quiet >= (HALF_A_ROW_LOOKS if is_half_a_row(followed.reading, left) else QUIET_LOOKS):
            self._importer.finish(followed.reading, left, file)
            followed.has_ended = followed.is_read = True
            if followed.held is None and size <= SMALL:
                followed.reading = None


def _now() -> int:
    return int(time.time() * 1000)


def _is_another(reading: Reading, file: OpenFile, size: int) -> bool:
    """Whether *file* was cut off, and perhaps filled again, since *reading*."""
    if size < reading.size:
        return True
    return not file.holds(reading.last_line, reading.size - len(reading.last_line))


def _release(followed: _Followed) -> None:
    if followed.held is not None:
        os.close(followed.held)
        followed.held = None
