"""What a list costs while calls come in at half the most that they can, and while a month of calls is being removed.

    .venv/bin/python benchmarks/busy_reads.py [--calls 1000000] [--data DIR] [--json FILE]

It works on a copy of the store. It measures and does not judge. benchmarks/README.md says more.
"""

import base64
import shutil
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from client import Connection, request_bytes
from fuse_reads import Direct
from loading import simulated
from posting import posted
from reads import on_a_stand, out
from rich.table import Table
from stand import DAYS, KEEP_ALL, Stand, reader_of, server

from callhouse.model.instant import DAY, SECOND
from callhouse.sources import native

CLIENTS = 64
ROUNDS = 500
FIRST_POSTS = 3_000
INGEST_SECONDS = 10
MONTH = 30
EXPIRY_SECONDS = 60.0
"""How long the expiry of a month is watched at most."""

_OLDEST = """
SELECT min(started) FROM calls WHERE account_id = :id AND started IS NOT NULL AND ended IS NOT NULL
"""


class Lists:
    """A list of 20 and a static answer, asked in turns over one connection."""

    def __init__(self, url: str, path: str, authorization: str) -> None:
        self._url = url
        self._requests = {
            "list": request_bytes(url + path, authorization),
            "static": request_bytes(f"{url}/static/list", authorization),
        }

    def p50(self, goes_on: Callable[[int], bool]) -> dict[str, float]:
        """The median of each, in ms, of as many turns as *goes_on* wants."""
        taken: dict[str, list[float]] = {name: [] for name in self._requests}
        with closing(Connection(self._url)) as connection:
            turns = 0
            while goes_on(turns):
                turns += 1
                for name, request in self._requests.items():
                    began = time.perf_counter()
                    connection.answer(request)
                    taken[name].append(time.perf_counter() - began)
        return {"turns": turns, **{name: statistics.median(times) * 1000 for name, times in taken.items()}}


def bodies(file: Path, count: int, seed: int) -> Path:
    file.write_bytes(b"\n".join(native.written(call, events) for call, events in simulated(count, seed, days=1)))
    return file


def measure(on: Stand, place: Path) -> dict[str, dict[str, float]]:
    data, answers = place / "data", place / "answers"
    shutil.copytree(on.data, data)
    answers.mkdir()
    authorization = "Basic " + base64.b64encode(":".join(on.login.fuse).encode()).decode()
    until = Direct(on.read_only()).newest(on.login.id)
    path = f"/api/calls/{(until - DAY) // SECOND}/{until // SECOND}?limit=20"
    found = {}
    # The answer does not matter here, but its length does: about that of 20 calls.
    (answers / "list").write_bytes(b" " * 3_000)
    with server(data, answers, KEEP_ALL) as running:
        lists = Lists(running.url, path, authorization)
        found["idle"] = lists.p50(lambda turns: turns < ROUNDS)
        ingest = f"{running.url}/ingest/calls"
        most = posted(ingest, authorization, CLIENTS, bodies(place / "first", FIRST_POSTS, 11)).rate
        # Half of what was possible without any reader.
        half = bodies(place / "half", int(most / 2 * INGEST_SECONDS), 12)
        taken = []
        sender = threading.Thread(
            target=lambda: taken.append(posted(ingest, authorization, CLIENTS, half, rate=most / 2))
        )
        sender.start()
        found[f"{most / 2:,.0f} single records/s come in"] = lists.p50(lambda _: sender.is_alive())
        sender.join()
    keep = [f"retention.{what}={DAYS - MONTH}d" for what in ("sessions", "plivo", "details")]
    reader, horizon = reader_of(data), until - (DAYS - MONTH + 1) * DAY
    end = time.monotonic() + EXPIRY_SECONDS
    with server(data, answers, tuple(keep)) as running:

        def goes_on(turns: int) -> bool:
            is_over = reader.rows(_OLDEST, {"id": on.login.id})[0][0] >= horizon
            return turns == 0 or (not is_over and time.monotonic() < end)

        found["a month is removed"] = Lists(running.url, path, authorization).p50(goes_on)
    return found


def report(found: dict[str, dict[str, float]]) -> None:
    idle = found["idle"]
    table = Table("", "turns", "list of 20", "static", "list / idle", "aim", title="p50 in ms")
    for name, p50 in found.items():
        ratio = p50["list"] / idle["list"]
        aim = "" if p50 is idle else f"at most 2: {'met' if ratio <= 2 else 'not met'}"
        table.add_row(name, f"{p50['turns']}", f"{p50['list']:.3f}", f"{p50['static']:.3f}", f"{ratio:.2f}", aim)
    out.print(table)


if __name__ == "__main__":
    on_a_stand(__doc__, measure, report)
