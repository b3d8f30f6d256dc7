"""Files that switches write: which ones are meant, and what is in them, decompressed if need be."""

import bz2
import glob
import io
import lzma
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Self

import zstandard

from callhouse.errors import FileUnreadable

STANDARD_INPUT = Path("-")
LARGEST_WINDOW = 2**27


JUST_SECONDS = 5
"""For how long after it was written a file may be in the middle of a line."""

_PIECE = 1024
"""Compressed bytes that are expanded at a time: zstd gives all that they expand to at once."""


class _Unpacked(io.RawIOBase):
    """What is in the frames, members or streams of *file*, each of which *new_frame* makes a decompressor for.

    The readers that come with the libraries keep back what stands before damage, or take what was cut off for whole.
    """

    def __init__(self, file: IO[bytes], new_frame: Callable[[], Any]) -> None:
        self._file = file
        self._new_frame = new_frame
        self._frame: Any = None
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(_PIECE)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            if self._frame is None:
                # Tapes, and tools that align what they write, leave zeros behind it.
                self._packed = self._packed.lstrip(b"\0")
                self._frame = self._new_frame() if self._packed else None
                continue
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = b""
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        size = min(len(target), len(self._ready))
        target[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _zstd_frame() -> Any:
    return zstandard.ZstdDecompressor(max_window_size=LARGEST_WINDOW).decompressobj()


# What compressed files begin with. Their names say less: those are chosen by who rotates them.
_FORMATS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    b"\x28\xb5\x2f\xfd": _zstd_frame,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lzma.LZMADecompressor,
    # Frames that hold nothing, with which pzstd begins.
    **{bytes((number,)) + b"\x2a\x4d\x18": _zstd_frame for number in range(0x50, 0x60)},
}
_FOREIGN = {
    b"PK\x03\x04": "is a zip archive; unpack it first, or pipe it: `unzip -p FILE | callhouse import SOURCE -`",
    b"\xff\xfe": "is UTF-16; pipe it: `iconv -f UTF-16 -t UTF-8 FILE | callhouse import SOURCE -`",
    b"\xfe\xff": "is UTF-16; pipe it: `iconv -f UTF-16 -t UTF-8 FILE | callhouse import SOURCE -`",
}
"""What other files begin with, and what to do about them."""

_MAGIC_BYTES = max(map(len, _FORMATS))


def expanded(names: Sequence[str], on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """The files that *names* mean, each once: files, those in directories and below, those that fit a pattern.

    Within a directory or a pattern the oldest comes first, so that a rotated file comes before the one after it. Hidden
    files are left out, and so is what links to directories lead to. A name that is nothing of these is given back as
    it is; a pattern that nothing fits is dropped. *on_error* is told of directories that cannot be looked into.
    """
    found: dict[str, Path] = {}
    for name in names:
        for path in _meant(name, on_error):
            found.setdefault(name if path == STANDARD_INPUT else os.path.abspath(path), path)  # noqa: PTH100 — without ..
    return list(found.values())


def _meant(name: str, on_error: Callable[[OSError], None] | None) -> list[Path]:
    path = Path(name)
    mode = mode_of(path)
    if stat.S_ISDIR(mode):
        return _oldest_first(_below(path, on_error))
    if glob.has_magic(name) and not mode:
        matches = map(Path, glob.glob(name, recursive=True))  # noqa: PTH207 — it takes absolute patterns
        return _oldest_first(match for match in matches if stat.S_ISREG(mode_of(match)))
    return [path]


def mode_of(path: Path) -> int:
    """What kind of file *path* is, as stat tells it; 0 when there is none that could be looked at."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0


def _below(directory: Path, on_error: Callable[[OSError], None] | None) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory, onerror=on_error):
        directories[:] = [name for name in directories if not name.startswith(".")]
        paths = (Path(parent, name) for name in files if not name.startswith("."))
        yield from (path for path in paths if stat.S_ISREG(mode_of(path)))


def _oldest_first(paths: Any) -> list[Path]:
    def age(path: Path) -> tuple[float, str]:
        try:
            return path.stat().st_mtime, str(path)
        except OSError:
            return 0, str(path)

    return sorted(paths, key=age)


def title(path: Path) -> str:
    """What a person is told that the file is called: its whole path, in characters that can be written anywhere."""
    if path == STANDARD_INPUT:
        return "standard input"
    return os.fsencode(Path.absolute(path)).decode(errors="replace")


class OpenFile:
    """A file under *path* that is being read: *stream* gives what is in it, decompressed.

    Given *descriptor*, that is the file, whatever it is called by now. Raises FileUnreadable when it cannot be read.
    """

    def __init__(self, path: Path, descriptor: int | None = None) -> None:
        self.path = path
        self.title = title(path)
        with failing_clearly(path):
            self._file = path.open("rb") if descriptor is None else os.fdopen(os.dup(descriptor), "rb")
            start = self._file.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
        for magic, advice in _FOREIGN.items():
            if start.startswith(magic):
                self._file.close()
                raise FileUnreadable(f"{self.title} {advice}.")
        self._new_frame = next((new_frame for magic, new_frame in _FORMATS.items() if start.startswith(magic)), None)
        self.is_compressed = self._new_frame is not None
        self.stream = self._unpacked()
        # Pipes and the like can be read once only.
        self.can_be_reread = self._file.seekable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def was_just_written(self) -> bool:
        """Whether more of the file may be on its way."""
        if self.is_compressed or not self.can_be_reread:
            return False
        return time.time() - os.fstat(self._file.fileno()).st_mtime < JUST_SECONDS

    @property
    def position(self) -> int:
        """Bytes read of the file as it is, compressed or not; for telling how much is left."""
        return self._file.tell() if self.can_be_reread else 0

    def lines(self, limit: int) -> Iterator[bytes]:
        """The lines from here on with their ends, which the last may lack; one that is longer than *limit* in pieces.

        Raises FileUnreadable.
        """
        with failing_clearly(self.path):
            while line := self.stream.readline(limit):
                yield line

    def _unpacked(self) -> io.BufferedReader:
        return self._file if self._new_frame is None else io.BufferedReader(_Unpacked(self._file, self._new_frame))

    def seek(self, place: int) -> None:
        """Go on with the byte at *place*, which of a compressed file can only be the first. Raises FileUnreadable."""
        with failing_clearly(self.path):
            self._file.seek(place)
            self.stream = self._unpacked()

    def holds(self, content: bytes, place: int) -> bool:
        """Whether *content* stands at *place* of a file that is not compressed. Raises FileUnreadable."""
        with failing_clearly(self.path):
            return os.pread(self._file.fileno(), len(content), place) == content


def too_long(path: Path, number: int, limit: int) -> FileUnreadable:
    return FileUnreadable(
        f"{title(path)} cannot be read: the record of line {number} has more than {limit} bytes. Is it a file of "
        "another kind? If it is an array of JSON, make lines of it (`jq -c '.[]' FILE | callhouse import SOURCE -`) "
        "or raise ingest.max_body."
    )


@contextmanager
def failing_clearly(path: Path) -> Iterator[None]:
    """What goes wrong with reading the file under *path* becomes a FileUnreadable."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError):
        raise _damaged(path) from None
    except OSError as error:
        if error.errno is None:
            # So says bz2 that its data are damaged.
            raise _damaged(path) from None
        raise FileUnreadable(f"{title(path)} cannot be read: {error.strerror or str(error).rstrip('.')}.") from None


def _damaged(path: Path) -> FileUnreadable:
    return FileUnreadable(
        f"{title(path)} is damaged, was cut off, or needs too large a window: it cannot be decompressed to its end."
    )
