"""What a benchmark stands on: a store full of synthetic calls, and a server over it that has static answers too."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import apsw
import msgspec

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))

from callhouse.clock import now  # noqa: E402
from callhouse.model.account import Retention  # noqa: E402
from callhouse.store import open_store  # noqa: E402
from callhouse.store.sqlite import _PRAGMAS, FILE_NAME, READER_CACHE_KIB, SQLiteTransaction  # noqa: E402
from serving import COMMAND, Login, create_account  # noqa: E402

KEEP_ALL = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever")
DAYS = 365
LOGGED = 500_000
"""As many of the newest calls have logs: vendors keep them for days, and so do most who keep calls for years."""

EMAIL = "bench@example.com"
STOP_SECONDS = 40


@dataclass
class Stand:
    """A directory with a store of *calls* calls of one account, *login*, over *days*, which took *seconds* to load.

    *settled* is how long upkeep then took to find out how many calls were under way at once.
    """

    directory: Path
    login: Login
    calls: int
    days: int
    seconds: float
    settled: float

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.data.iterdir())

    def read_only(self) -> SQLiteTransaction:
        return reader_of(self.data)


def reader_of(data: Path) -> SQLiteTransaction:
    """The file in *data* as the store itself opens it to read, in this process."""
    connection = apsw.Connection(str(data / FILE_NAME))
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    for pragma in _PRAGMAS:
        connection.execute(pragma)
    connection.pragma("cache_size", -READER_CACHE_KIB)
    connection.pragma("query_only", 1)
    return SQLiteTransaction(connection)


def stand(directory: Path, calls: int, days: int, keep: tuple[str, ...]) -> tuple[Stand, bool]:
    """The stand in *directory*, and whether it was made now because there was none; *keep* says what is retained.

    Exits when the directory holds something else: a stand with fewer calls, of other days, or not finished.
    """
    note = directory / "stand.json"
    if note.exists():
        found = msgspec.json.decode(note.read_bytes(), type=Stand, dec_hook=lambda kind, value: kind(value))
        if found.days != days:
            sys.exit(f"{directory} holds calls of {found.days} days, not of {days}: name another.")
        if found.calls >= calls:
            return found, False
        sys.exit(f"{directory} holds {found.calls:,} calls, fewer than {calls:,}: remove it or name another.")
    if (directory / "data").exists():
        sys.exit(f"{directory}/data was not filled to the end, or not by a benchmark: remove it or name another.")
    made = _filled(directory, calls, days, keep)
    note.write_bytes(msgspec.json.encode(made, enc_hook=str))
    return made, True


def _filled(directory: Path, calls: int, days: int, keep: tuple[str, ...]) -> Stand:
    data = directory / "data"
    login = create_account(data, EMAIL, "--login", "bench")
    kept = [word for setting in keep for word in ("--set", setting)]
    what = ["generate", "--calls", str(calls), "--days", str(days), "--account", str(login.id), "--json"]
    what += ["--log-days", str(days * min(1, LOGGED / calls))]
    # Its progress bar is on standard error, which stays ours.
    done = subprocess.run([*COMMAND, *what, "--data", data, *kept], stdout=subprocess.PIPE, check=True)
    told = json.loads(done.stdout)
    began = time.perf_counter()
    asyncio.run(_settle(data))
    return Stand(directory, login, told["calls"], days, told["seconds"], time.perf_counter() - began)


async def _settle(data: Path) -> None:
    """Do what the server's upkeep would otherwise do while it is measured."""
    store = await open_store(data, retention=Retention(details=None, sessions=None, plivo=None), clock=now)
    for account in await store.accounts.all():
        while await store.settle(account):
            pass
    await store.close()


class Running(NamedTuple):
    """A server's address and the process that started it."""

    url: str
    process_id: int


@contextmanager
def server(data: Path, answers: Path, keep: tuple[str, ...]) -> Iterator[Running]:
    """A server over *data* that has the files of *answers* under /static/; it runs inside the block."""
    where = ["--data", data, "--host", "127.0.0.1", "--port", "0"]
    kept = [word for setting in (*keep, "log.format=json") for word in ("--set", setting)]
    log = data.with_suffix(".log")
    command = [sys.executable, HERE / "with_static_answers.py", "serve", *where, *kept]
    environment = {**os.environ, "BENCHMARK_ANSWERS": str(answers)}
    with log.open("wb") as errors:
        # A process group of its own: Ctrl-C is for the benchmark, which then stops the server in order.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, process_group=0
        )
    try:
        url = process.stdout.readline().rpartition(" on ")[2].strip()
        if not url:
            sys.exit(f"The server did not start:\n{log.read_text()}")
        _wait_until_open(url)
        yield Running(url, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def processes(process_id: int) -> list[int]:
    """The process and all that it started."""
    children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text().split()
    return [process_id, *(found for child in children for found in processes(int(child)))]


def resident(process_id: int) -> int:
    """Bytes of memory that the process and those that it started hold; what they share is counted once for each."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes(process_id))
    return pages * os.sysconf("SC_PAGE_SIZE")


def forget_peak(process_id: int) -> None:
    """Let peak() begin anew."""
    for each in processes(process_id):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def peak(process_id: int) -> int:
    """The most bytes of memory that each of the processes held, in all."""
    found = (Path(f"/proc/{each}/status").read_text() for each in processes(process_id))
    return sum(int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) for status in found) * 1024


def _wait_until_open(url: str) -> None:
    # The server says that it is ready some milliseconds before it takes connections.
    parts = urlsplit(url)
    for _ in range(500):
        try:
            socket.create_connection((parts.hostname, parts.port)).close()
        except ConnectionRefusedError:
            time.sleep(0.01)
        else:
            return
    sys.exit(f"Nothing listens on {url}.")
