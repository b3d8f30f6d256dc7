"""What taking calls in costs: single records, bulk, files, the last tenth of a large store; and how a server starts.

    .venv/bin/python benchmarks/ingest.py [--calls 1000000] [--only posts --only bulk] [--json FILE]

It measures and does not judge: the exit status is 0 whether the aims are met or not. benchmarks/README.md says more.
"""

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import httpx
from loading import commit, copied, inserted_again, simulated, tenths
from posting import posted
from rich.console import Console
from rich.table import Table
from stand import KEEP_ALL, resident, server

from callhouse.sources import native
from postgres import Cluster
from serving import COMMAND, Login, Server, create_account, wait_until

CLIENTS = 256
POSTS = 20_000
BULK = 100_000
TURNS = 2
IDLE_SECONDS = 3
out = Console(width=None if sys.stdout.isatty() else 140)


class Line(NamedTuple):
    """A measured thing: *ours* beside something else, both in *unit*, and the bounds that their ratio should keep."""

    name: str
    unit: str
    ours: float
    beside: float
    least: float | None = None
    most: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.beside

    @property
    def aim(self) -> str:
        if self.least is None and self.most is None:
            return ""
        met = (self.least is None or self.ratio >= self.least) and (self.most is None or self.ratio <= self.most)
        bound = f"at least {self.least}" if self.least is not None else f"at most {self.most}"
        return f"{bound}: {'met' if met else 'not met'}"


def records(count: int, seed: int, *, logs: bool) -> list[bytes]:
    """Native records of so many calls."""
    return [native.written(call, events if logs else ()) for call, events in simulated(count, seed)]


def basic(login: Login) -> str:
    return "Basic " + base64.b64encode(":".join(login.fuse).encode()).decode()


def posts(place: Path, calls: int) -> list[Line]:
    """Single records from many clients, stored and merely acknowledged in turns."""
    count = min(POSTS, calls)
    found = []
    for logs in (False, True):
        data = place / f"posts{logs}"
        data.mkdir()
        login = create_account(data)
        (answers := place / f"answers{logs}").mkdir()
        taken: dict[str, list] = {"/ingest/calls": [], "/static/calls": []}
        with server(data, answers, KEEP_ALL) as running:
            for turn in range(TURNS):
                bodies = place / "bodies"
                bodies.write_bytes(b"\n".join(records(count, turn + 1, logs=logs)))
                for path, times in taken.items():
                    times.append(posted(running.url + path, basic(login), CLIENTS, bodies))
        stored, acknowledged = (max(times) for times in taken.values())
        name = f"single records {'with' if logs else 'without'} logs, {CLIENTS} clients"
        found += [
            Line(f"{name} / not stored", "records/s", stored.rate, acknowledged.rate, least=0.6),
            Line(f"{name}, p99 / not stored", "ms", stored.p99, acknowledged.p99),
            Line(f"{name}, p99 / a commit of one", "ms", stored.p99, commit(data, 1), most=10),
            Line(f"{name}, p99 / a commit of {CLIENTS}", "ms", stored.p99, commit(data, CLIENTS, 10)),
        ]
    return found


def bulk(place: Path, calls: int) -> list[Line]:
    """One NDJSON body, beside the same rows inserted by a bare loop."""
    count = min(BULK, calls)
    found = []
    for logs in (False, True):
        data = place / f"bulk{logs}"
        lines = records(count, 1, logs=logs)
        with Server(data, *KEEP_ALL, "ingest.max_body=1000000000", command=COMMAND) as running:
            login = running.account()
            headers = {"Content-Type": "application/x-ndjson"}
            began = time.perf_counter()
            answer = running.client.post(
                "/ingest/calls", content=b"\n".join(lines), headers=headers, auth=login.fuse, timeout=3_600
            )
            took = time.perf_counter() - began
            assert answer.json()["accepted"] == count, answer.text
        bare = inserted_again(data, place / f"bare{logs}")
        name = f"NDJSON of {count:,} calls {'with' if logs else 'without'} logs / bare inserts"
        found.append(Line(name, "calls/s", count / took, count / bare, least=0.6))
    return found


def tenth(place: Path, calls: int) -> list[Line]:
    took = tenths(place / "tenths", calls)
    rates = [calls / 10 / seconds for seconds in took]
    name = f"the tenth {calls // 10:,} calls / the first"
    return [Line(name, "calls/s", rates[-1], rates[0], least=0.6)]


def copy(place: Path, calls: int) -> list[Line]:
    """``callhouse import`` of a file of calls into an empty store, beside COPY of the rows that it made."""
    data, file = place / "import", place / "calls.ndjson"
    login = create_account(data)
    with file.open("wb") as lines:
        lines.writelines(native.written(call, ()) + b"\n" for call, _ in simulated(calls))
    keep = [word for setting in KEEP_ALL for word in ("--set", setting)]
    command = [*COMMAND, "import", "native", file, "--account", login.id, "--data", data, "--json", *keep]
    began = time.perf_counter()
    done = json.loads(subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True).stdout)
    whole = time.perf_counter() - began
    assert not done["quarantined"], done
    with Cluster("shared_buffers=1GB", "max_wal_size=4GB", "maintenance_work_mem=256MB") as cluster:
        seconds = copied(data, cluster.database())
    name = f"import of {calls:,} calls / COPY"
    return [
        Line(name, "s", done["seconds"], seconds, most=1.5),
        Line(f"{name}, the start of the command too", "s", whole, seconds),
    ]


def start(place: Path, calls: int) -> list[Line]:
    """A server over a store of so many calls, beside one over an empty directory."""
    filled = place / "filled"
    login = create_account(filled)
    keep = [word for setting in KEEP_ALL for word in ("--set", setting)]
    what = ["generate", "--calls", calls, "--days", 30, "--account", login.id, "--data", filled, *keep]
    subprocess.run([*COMMAND, *map(str, what)], stdout=subprocess.PIPE, check=True)
    times: dict[Path, list[tuple[float, float]]] = {filled: [], place / "empty": []}
    for _ in range(TURNS + 1):
        for data, taken in times.items():
            taken.append(_started(data))
    (ready, memory), (ready_empty, memory_empty) = (
        tuple(statistics.median(column) for column in zip(*taken, strict=True)) for taken in times.values()
    )
    name = f"a store of {calls:,} calls / an empty directory"
    return [
        Line(f"start to /readyz, {name}", "s", ready, ready_empty),
        Line(f"resident memory when idle, {name}", "MB", memory / 1e6, memory_empty / 1e6),
    ]


def _started(data: Path) -> tuple[float, float]:
    """Seconds from the command to a 200 of /readyz, and bytes of memory once it has nothing to do."""
    began = time.perf_counter()
    with Server(data, *KEEP_ALL, command=COMMAND) as running:
        wait_until(lambda: httpx.get(f"{running.url}/readyz").status_code == 200, "readiness")
        took = time.perf_counter() - began
        time.sleep(IDLE_SECONDS)
        return took, resident(running.process.pid)


PARTS: dict[str, Callable[[Path, int], list[Line]]] = {
    "posts": posts,
    "bulk": bulk,
    "copy": copy,
    "tenth": tenth,
    "start": start,
}


def report(found: list[Line]) -> None:
    table = Table("", "unit", "ours", "beside", "ratio", "aim")
    for line in found:
        table.add_row(line.name, line.unit, f"{line.ours:,.2f}", f"{line.beside:,.2f}", f"{line.ratio:.2f}", line.aim)
    out.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--calls", type=int, default=1_000_000, help="calls of the largest store; 'tenth' is told by it"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="measure this alone; may be given again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results there too")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    out.print(f"Load average {load:.1f}.", highlight=False)
    found: list[Line] = []
    for name in given.only or PARTS:
        with tempfile.TemporaryDirectory() as temporary:
            found += PARTS[name](Path(temporary), given.calls)
    report(found)
    if given.json:
        lines = [{**line._asdict(), "ratio": line.ratio} for line in found]
        given.json.write_text(json.dumps({"load_average": load, "calls": given.calls, "lines": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
