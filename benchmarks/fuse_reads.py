"""What reading through the Fuse API costs, beside the same SQL alone and beside a static answer of the same bytes.

    .venv/bin/python benchmarks/fuse_reads.py [--calls 1000000] [--data DIR] [--json FILE]

It measures and does not judge: the exit status is 0 whether the aims are met or not. benchmarks/README.md says more.
"""

import argparse
import base64
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
from client import Connection, request_bytes, requests_per_second
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stand import DAYS, Stand, server, stand

from callhouse.model.instant import DAY, SECOND
from callhouse.model.query import CallQuery
from callhouse.store.calls import Calls, _rows, _select, _total
from callhouse.store.engine import Reader
from callhouse.store.logs import LogCodec
from callhouse.wire.fuse.schema import FIELDS

CONNECTIONS = 32
LOAD_SECONDS = 5.0
LOAD_ROUNDS = 2
SMALL_ROUNDS, LARGE_ROUNDS = 1_000, 40
WARM_UP = 0.1
"""Rounds before those that count, as a part of them."""

HOW = ("server", "static", "sql")
out = Console(width=None if sys.stdout.isatty() else 120)


@dataclass
class Case:
    """A question: its *path*, and *sql*, which does in this process what the server must do in the store."""

    name: str
    path: str
    sql: Callable[[], object]
    rounds: int

    @property
    def file(self) -> str:
        return self.name.replace(" ", "-").replace(",", "")


class Direct:
    """The store's own statements on a connection of this process: no thread, no event loop, no HTTP.

    Satisfies as much of Engine as reading needs.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._codec = LogCodec()
        self._codec.load(reader)
        self._calls = Calls(self, self._codec)

    async def quick(self, work):
        self._reader.rows("BEGIN", {})
        result = work(self._reader)
        self._reader.rows("COMMIT", {})
        return result

    read = quick

    def page(self, query: CallQuery) -> list[tuple]:
        """The rows by one statement, however many, and the total."""

        def work(reader: Reader):
            return _rows(reader, _select(FIELDS), query), _total(reader, query)

        return _finished(self.quick(work))[0]

    def log(self, account_id: int, session_id: str) -> bytes:
        return _finished(self._calls.log(account_id, session_id, since=0, details_since=0)).document

    def logs(self, query: CallQuery) -> list[bytes | None]:
        call_ids = [row[0] for row in self.page(query)]
        documents: list[bytes | None] = []
        while len(documents) < len(call_ids):
            documents += _finished(self._calls.logs(query.account_id, call_ids[len(documents) :], 0))
        return documents

    def newest(self, account_id: int) -> int:
        """The first whole second, in ms, after all calls began."""
        sql = "SELECT max(started) FROM calls WHERE account_id = :id AND started IS NOT NULL AND ended IS NOT NULL"
        return (self._reader.rows(sql, {"id": account_id})[0][0] // SECOND + 1) * SECOND


def _finished(coroutine):
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("the store waited for something; measure it through its own engine")


def cases(direct: Direct, account_id: int, calls: int) -> list[Case]:
    until = direct.newest(account_id)
    deep = min(200_000, calls // 2)

    def query(days: int, limit: int, offset: int = 0) -> CallQuery:
        return CallQuery(account_ids=(account_id,), since=until - days * DAY, until=until, limit=limit, offset=offset)

    def path(route: str, asked: CallQuery) -> str:
        window = f"{asked.since // SECOND}/{asked.until // SECOND}"
        return f"/api/{route}/{window}?limit={asked.limit}" + (f"&offset={asked.offset}" if asked.offset else "")

    def listed(name: str, asked: CallQuery, rounds: int) -> Case:
        return Case(name, path("calls", asked), lambda: direct.page(asked), rounds)

    session = next(row[-1] for row in direct.page(query(DAYS, 100, deep)) if row[FIELDS.index("event_count")])
    logs = query(DAYS, 1_000)
    return [
        listed("list of 20, day", query(1, 20), SMALL_ROUNDS),
        listed("list of 20, year", query(DAYS, 20), SMALL_ROUNDS),
        listed("20 at offset", query(DAYS, 20, deep), SMALL_ROUNDS),
        Case("one log", f"/api/call/{session}", lambda: direct.log(account_id, session), SMALL_ROUNDS),
        listed("list of 10,000", query(DAYS, 10_000), LARGE_ROUNDS),
        Case("all_logs of 1,000", path("all_logs", logs), lambda: direct.logs(logs), LARGE_ROUNDS),
    ]


def save_answers(asked: Iterable[Case], url: str, login: tuple[str, str], directory: Path) -> dict[str, int]:
    """Put the server's answer to each case into its file in *directory*; the bytes of each."""
    sizes = {}
    for case in asked:
        answer = httpx.get(url + case.path, auth=login, timeout=60).raise_for_status()
        (directory / case.file).write_bytes(answer.content)
        sizes[case.name] = len(answer.content)
    return sizes


def latencies(asked: list[Case], url: str, authorization: str) -> dict[str, dict[str, float]]:
    """The p50 in ms of each case in each of the ways of HOW, over one connection.

    All take turns, so that whatever else the machine does hits all alike; large answers have turns of their own.
    """
    taken: dict[str, dict[str, list[float]]] = {case.name: {how: [] for how in HOW} for case in asked}
    with closing(Connection(url)) as connection:
        for rounds in sorted({case.rounds for case in asked}, reverse=True):
            group = [case for case in asked if case.rounds == rounds]
            steps = list(_steps(group, connection, url, authorization))
            warm_up = int(rounds * WARM_UP)
            title = f"one connection, {len(group)} cases x {rounds} rounds"
            for turn in track(range(warm_up + rounds), title, console=Console(stderr=True), transient=True):
                for name, how, step in steps:
                    began = time.perf_counter()
                    step()
                    if turn >= warm_up:
                        taken[name][how].append(time.perf_counter() - began)
    return {name: {how: statistics.median(times) * 1000 for how, times in ways.items()} for name, ways in taken.items()}


def _steps(group: list[Case], connection: Connection, url: str, authorization: str):
    for case in group:
        real = request_bytes(url + case.path, authorization)
        static = request_bytes(f"{url}/static/{case.file}", authorization)
        yield case.name, "server", lambda request=real: connection.answer(request)
        yield case.name, "static", lambda request=static: connection.answer(request)
        yield case.name, "sql", case.sql


def rates(case: Case, url: str, authorization: str) -> dict[str, float]:
    """Requests a second of the server and of its static answer, in turns."""
    found: dict[str, list[float]] = {"server": [], "static": []}
    for turn in range(LOAD_ROUNDS):
        for how, path in (("server", case.path), ("static", f"/static/{case.file}")):
            out.print(f"[dim]{CONNECTIONS} connections, {LOAD_SECONDS:.0f} s: {how}, {turn + 1} of {LOAD_ROUNDS}")
            found[how].append(requests_per_second(url + path, authorization, CONNECTIONS, LOAD_SECONDS))
    return {how: statistics.median(values) for how, values in found.items()}


def aims(p50: dict[str, dict[str, float]], rate: dict[str, float]) -> list[tuple[str, float, float]]:
    """Each aim in words, what was measured, and the most that meets it."""
    day, year, deep = (p50[name]["server"] for name in ("list of 20, day", "list of 20, year", "20 at offset"))
    many = p50["list of 10,000"]
    return [
        ("list of 20: p50 within 2 times the static answer's", day / p50["list of 20, day"]["static"], 2.0),
        ("list of 20: static requests/s within 2 times the server's", rate["static"] / rate["server"], 2.0),
        ("list of 20: the year as fast as the day (within a tenth)", year / day, 1.1),
        ("deep page within 1.5 times the first", deep / year, 1.5),
        ("list of 10,000: p50 within 2 times the SQL alone", many["server"] / many["sql"], 2.0),
    ]


def report(found: dict) -> None:
    table = Table("", "bytes", "server", "static", "SQL alone", "server / static", "server / SQL", title="p50 in ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, p50 in found["p50_ms"].items():
        server_ms, static, sql = (p50[how] for how in HOW)
        ratios = (f"{server_ms / static:.2f}", f"{server_ms / sql:.2f}")
        table.add_row(name, f"{found['bytes'][name]:,}", *(f"{p50[how]:.3f}" for how in HOW), *ratios)
    out.print(table)
    rate = found["requests_per_second"]
    out.print(
        f"list of 20, day, {CONNECTIONS} connections: {rate['server']:,.0f} requests/s, "
        f"static {rate['static']:,.0f} requests/s ({rate['server'] / rate['static']:.2f} of it)\n",
        highlight=False,
    )
    for aim, measured, most in aims(found["p50_ms"], rate):
        verdict = "[green]met    [/]" if measured <= most else "[red]not met[/]"
        out.print(f"{verdict}  {aim}: {measured:.2f} (at most {most:g})", highlight=False)


def measure(on: Stand) -> dict:
    """Everything, as plain data for report() and for --json."""
    direct = Direct(on.read_only())
    asked = cases(direct, on.login.id, on.calls)
    authorization = "Basic " + base64.b64encode(":".join(on.login.fuse).encode()).decode()
    with tempfile.TemporaryDirectory() as temporary:
        answers = Path(temporary)
        with server(on.data, answers) as url:
            sizes = save_answers(asked, url, on.login.fuse, answers)
        with server(on.data, answers) as url:
            p50 = latencies(asked, url, authorization)
            rate = rates(asked[0], url, authorization)
    return {
        "calls": on.calls,
        "days": DAYS,
        "load_seconds": on.seconds,
        "bytes_on_disk": on.bytes,
        "python": platform.python_version(),
        "bytes": sizes,
        "p50_ms": p50,
        "requests_per_second": rate,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure reading through the Fuse API.")
    parser.add_argument("--calls", type=int, default=1_000_000, help="how many calls the store must hold")
    parser.add_argument("--data", type=Path, help="directory of the store; used again when it holds enough calls")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results there too")
    given = parser.parse_args()
    # SIGTERM too must leave no server behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory() as temporary:
        on, new = stand(given.data or Path(temporary), given.calls)
        if new:
            out.print(f"Loaded {on.calls:,} calls in {on.seconds:.1f} s ({on.calls / on.seconds:,.0f} calls/s).")
        load = os.getloadavg()[0]
        out.print(f"{on.calls:,} calls, {on.bytes:,} bytes on disk; load average {load:.1f}.", highlight=False)
        found = {"load_average": load, **measure(on)}
    report(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
