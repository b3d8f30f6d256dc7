"""Standard input and pipes: read as something comes, without holding up what else there is to do."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from callhouse.errors import FileUnreadable
from callhouse.ingest.files import STANDARD_INPUT, OpenFile, failing_clearly, title, too_long

IDLE_SECONDS = 1.0
"""How long nothing comes until what came is to be stored."""

_CHUNK = 64 * 1024


def is_piped(path: Path) -> bool:
    """Whether *path* is no file with a beginning and an end. Raises FileUnreadable."""
    if path == STANDARD_INPUT:
        return True
    with failing_clearly(path):
        return not stat.S_ISREG(path.stat().st_mode)


class Pipe:
    """What comes through *path* until it ends or *stopping* is set. Every method raises FileUnreadable."""

    def __init__(self, path: Path, stopping: asyncio.Event) -> None:
        self._path = path
        self._stopping = stopping
        with failing_clearly(path):
            # Otherwise a pipe that nobody writes to could not even be opened.
            self._descriptor = os.dup(0) if path == STANDARD_INPUT else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        if stat.S_ISDIR(os.fstat(self._descriptor).st_mode):
            self.close()
            raise FileUnreadable(f"{title(path)} cannot be read: it is a directory.")

    def close(self) -> None:
        os.close(self._descriptor)

    def opened(self) -> OpenFile:
        """The pipe, once there is something in it."""
        os.set_blocking(self._descriptor, True)
        return OpenFile(self._path, self._descriptor)

    async def has_more(self) -> bool:
        """Whether there is something to read, or the end; asked again after a while if not."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            # Files and some devices cannot be waited for, and need not.
            return True
        waiting = [asyncio.ensure_future(ready.wait()), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waiting, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._descriptor)
            for each in waiting:
                each.cancel()
        return ready.is_set()

    async def lines(self, file: OpenFile, limit: int) -> AsyncIterator[bytes | None]:
        """The lines with their ends, which the last may lack; None whenever nothing comes for a while."""
        left: list[bytes] = []
        size = number = 0
        while not self._stopping.is_set():
            with failing_clearly(self._path):
                chunk = file.stream.read1(_CHUNK)
            if not chunk:
                break
            left.append(chunk)
            size += len(chunk)
            if b"\n" in chunk:
                *lines, rest = b"".join(left).split(b"\n")
                left, size = [rest], len(rest)
                for line in lines:
                    yield line + b"\n"
                number += len(lines)
            if size > limit:
                raise too_long(self._path, number + 1, limit)
            while not await self.has_more() and not self._stopping.is_set():
                yield None
        if not self._stopping.is_set() and (last := b"".join(left)):
            yield last
