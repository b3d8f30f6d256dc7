"""Files that go on growing, read through rotation, and directories swept for new ones."""

import glob
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path

from callhouse.errors import FileUnreadable
from callhouse.ingest.files import OpenFile, expanded, failing_clearly
from callhouse.ingest.importer import Importer
from callhouse.ingest.reading import Reading

POLL_SECONDS = 0.5
"""How long to wait after each look; longer where it takes long to find out which files there are."""

QUIET_LOOKS = 4
"""Looks after which a file that did not change has ended for now: a line without its end, a document of many lines."""

GONE_LOOKS = 120
"""Looks for which a file is read that was renamed or deleted: who writes it may not have heard of it."""

SMALL = 1024 * 1024
"""Bytes up to which a file that changes after it ended is read again from its beginning."""


class _Followed:
    """A file, told from others by its place on the disk; *path* is what it is called now.

    *held* keeps it open, so that it can be read after it was renamed. *changed* is its size and time when it was last
    looked at, *quiet* for how many looks it has been the same; *has_ended* until it changes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held: int | None = None
        self.reading: Reading | None = None
        self.changed: tuple[int, int] | None = None
        self.quiet = 0
        self.has_ended = False
        self.is_new = True


class Follower:
    """Takes the files in with *importer* that *names* mean, as they appear and grow."""

    def __init__(self, importer: Importer, names: Sequence[str]) -> None:
        self._importer = importer
        self._names = names
        self._by_name = {Path(name) for name in names}
        self._followed: dict[tuple[int, int], _Followed] = {}

    async def run(self) -> None:
        """Follow until it is time to stop. Raises StoreUnavailable."""
        try:
            await self._take_rotated()
            while not self._importer.stopping.is_set():
                began = time.monotonic()
                paths = expanded(self._names)
                listing = time.monotonic() - began
                await self._look(paths)
                await self._importer.flush()
                await self._importer.settle()
                await self._importer.pause(max(POLL_SECONDS, 5 * listing))
        finally:
            for followed in self._followed.values():
                _release(followed)

    async def _take_rotated(self) -> None:
        """Take in the ends of files that were moved aside, beside where they were, since they were last read."""
        for name in self._by_name:
            beside = sorted(name.parent.glob(f"{glob.escape(name.name)}?*")) if name.parent.is_dir() else []
            for path in beside:
                try:
                    with OpenFile(path) as file:
                        is_known = file.can_be_reread and self._importer.knows(file)
                except FileUnreadable:
                    continue
                if is_known:
                    await self._importer.take_file(path)

    async def _look(self, paths: Sequence[Path]) -> None:
        present = set()
        for path in paths:
            try:
                status = path.stat()
            except OSError:
                # It is not there yet, or was moved just now.
                continue
            if stat.S_ISREG(status.st_mode) and not self._importer.stopping.is_set():
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
        followed.has_ended = followed.has_ended and followed.quiet > 0
        if followed.has_ended:
            return
        try:
            if followed.held is None and followed.path in self._by_name:
                with failing_clearly(followed.path):
                    followed.held = os.open(followed.path, os.O_RDONLY)
            with OpenFile(followed.path, followed.held) as file:
                await self._read(followed, file, status.st_size)
        except FileUnreadable as error:
            self._importer.fail(str(error))
            followed.has_ended = True

    async def _read(self, followed: _Followed, file: OpenFile, size: int) -> None:
        has_settled = followed.quiet >= QUIET_LOOKS
        if file.is_compressed:
            if has_settled:
                await self._importer.take_file(followed.path)
                followed.has_ended = True
            return
        if followed.is_new:
            followed.is_new = False
            self._importer.progress.files += 1
        if followed.reading is None or _is_another(followed.reading, file, size):
            followed.reading = self._importer.resumed(file)
        if followed.reading is None:
            followed.has_ended = True
            return
        before = followed.reading.size
        file.seek(before)
        left = await self._importer.feed_lines(followed.reading, file)
        if followed.reading.size > before:
            self._importer.reached(followed.reading.place(), file)
        if has_settled:
            self._importer.finish(followed.reading, left, file)
            followed.has_ended = True
            if followed.held is None and size <= SMALL:
                followed.reading = None


def _is_another(reading: Reading, file: OpenFile, size: int) -> bool:
    """Whether *file* was cut off, and perhaps filled again, since *reading*."""
    if size < reading.size:
        return True
    return not file.holds(reading.last_line, reading.size - len(reading.last_line))


def _release(followed: _Followed) -> None:
    if followed.held is not None:
        os.close(followed.held)
