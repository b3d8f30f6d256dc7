"""What the benchmarks of reading share: questions, the measuring of them in three ways, and the report."""

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
from stand import DAYS, KEEP_ALL, Running, Stand, forget_peak, peak, resident, server, stand

CONNECTIONS = 32
LOAD_SECONDS = 5.0
LOAD_ROUNDS = 2
WARM_UP = 0.1
"""Rounds before those that count, as a part of them."""

Logins = Callable[["Case"], str]
"""The Authorization header of each case."""

Measured = dict[str, dict[str, float]]
"""Figures by what they are of and by what they say."""

HOW = ("server", "static", "sql")
out = Console(width=None if sys.stdout.isatty() else 120)


@dataclass
class Case:
    """A question: its *path*, the kind of answer to *accept*, and *sql*, which does the store's part of it here.

    A question without a path is measured in the store alone; one to another API than the benchmark's names its *api*.
    """

    name: str
    path: str | None
    sql: Callable[[], object]
    rounds: int
    accept: str = "*/*"
    api: str = ""

    @property
    def file(self) -> str:
        return self.name.replace(" ", "-").replace(",", "")


@dataclass
class Benchmark:
    """What is measured: *cases* gives the questions, of which the first is asked under load too, to a store of *calls*.

    They are spread over *days*. *api* names the credentials. *aims* turns the p50 in ms of each case and the requests a
    second into aims: each in words, what was measured, and the most that meets it; *more_aims* does so with all that
    was found. *keep* is what the store retains.
    """

    api: str
    calls: int
    cases: Callable[[Stand], list[Case]]
    aims: Callable[[dict[str, dict[str, float]], dict[str, float]], list[tuple[str, float, float]]]
    keep: tuple[str, ...] = KEEP_ALL
    days: int = DAYS
    more_aims: Callable[[dict], list[tuple[str, float, float]]] = lambda _: []


def save_answers(
    asked: Iterable[Case], running: Running, logins: Logins, directory: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Put the server's answer to each case into its file in *directory*; the bytes of each, and by how many bytes of
    memory the server had grown at most meanwhile.
    """
    sizes, grown = {}, {}
    for case in asked:
        if case.path is None:
            continue
        headers = {"Accept": case.accept, "Authorization": logins(case)}
        forget_peak(running.process_id)
        before = resident(running.process_id)
        answer = httpx.get(running.url + case.path, headers=headers, timeout=600).raise_for_status()
        grown[case.name] = max(0, peak(running.process_id) - before)
        (directory / case.file).write_bytes(answer.content)
        sizes[case.name] = len(answer.content)
    return sizes, grown


def latencies(asked: list[Case], url: str, logins: Logins) -> dict[str, dict[str, float]]:
    """The p50 in ms of each case in each of the ways of HOW, and of the server's first byte, over one connection.

    All take turns, so that whatever else the machine does hits all alike; large answers have turns of their own.
    """
    taken: dict[str, dict[str, list[float]]] = {case.name: {how: [] for how in (*HOW, "first byte")} for case in asked}
    with closing(Connection(url)) as connection:
        for rounds in sorted({case.rounds for case in asked}, reverse=True):
            group = [case for case in asked if case.rounds == rounds]
            steps = list(_steps(group, connection, url, logins))
            warm_up = int(rounds * WARM_UP)
            title = f"one connection, {len(group)} cases x {rounds} rounds"
            for turn in track(range(warm_up + rounds), title, console=Console(stderr=True), transient=True):
                for name, how, step in steps:
                    began = time.perf_counter()
                    step()
                    if turn >= warm_up:
                        taken[name][how].append(time.perf_counter() - began)
                        if how == "server":
                            taken[name]["first byte"].append(connection.first_byte - began)
    return {
        name: {how: statistics.median(times) * 1000 for how, times in ways.items() if times}
        for name, ways in taken.items()
    }


def _steps(group: list[Case], connection: Connection, url: str, logins: Logins):
    for case in group:
        yield case.name, "sql", case.sql
        if case.path is None:
            continue
        authorization = logins(case)
        real = request_bytes(url + case.path, authorization, case.accept)
        static = request_bytes(f"{url}/static/{case.file}", authorization)
        yield case.name, "server", lambda request=real: connection.answer(request)
        yield case.name, "static", lambda request=static: connection.answer(request)


def rates(case: Case, url: str, authorization: str) -> dict[str, float]:
    """Requests a second of the server and of its static answer, in turns."""
    found: dict[str, list[float]] = {"server": [], "static": []}
    for turn in range(LOAD_ROUNDS):
        for how, path in (("server", case.path), ("static", f"/static/{case.file}")):
            out.print(f"[dim]{CONNECTIONS} connections, {LOAD_SECONDS:.0f} s: {how}, {turn + 1} of {LOAD_ROUNDS}")
            found[how].append(requests_per_second(url + path, authorization, CONNECTIONS, LOAD_SECONDS))
    return {how: statistics.median(values) for how, values in found.items()}


def report(found: dict, aims: Iterable[tuple[str, float, float]]) -> None:
    table = Table("", "bytes", "server", "static", "SQL alone", "server / static", "server / SQL", title="p50 in ms")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, p50 in found["p50_ms"].items():
        if "server" not in p50:
            table.add_row(name, "", "", "", f"{p50['sql']:.3f}", "", "")
            continue
        server_ms, static, sql = (p50[how] for how in HOW)
        ratios = (f"{server_ms / static:.2f}", f"{server_ms / sql:.2f}")
        table.add_row(name, f"{found['bytes'][name]:,}", *(f"{p50[how]:.3f}" for how in HOW), *ratios)
    out.print(table)
    rate = found["requests_per_second"]
    out.print(
        f"{next(iter(found['p50_ms']))}, {CONNECTIONS} connections: {rate['server']:,.0f} requests/s, "
        f"static {rate['static']:,.0f} requests/s ({rate['server'] / rate['static']:.2f} of it)\n",
        highlight=False,
    )
    for aim, measured, most in aims:
        verdict = "[green]met    [/]" if measured <= most else "[red]not met[/]"
        out.print(f"{verdict}  {aim}: {measured:.2f} (at most {most:g})", highlight=False)


def measure(on: Stand, benchmark: Benchmark) -> dict:
    """Everything, as plain data for report() and for --json."""
    asked = benchmark.cases(on)

    def logins(case: Case) -> str:
        login = getattr(on.login, case.api or benchmark.api)
        return "Basic " + base64.b64encode(":".join(login).encode()).decode()

    with tempfile.TemporaryDirectory() as temporary:
        answers = Path(temporary)
        with server(on.data, answers, benchmark.keep) as running:
            sizes, grown = save_answers(asked, running, logins, answers)
        with server(on.data, answers, benchmark.keep) as running:
            p50 = latencies(asked, running.url, logins)
            rate = rates(asked[0], running.url, logins(asked[0]))
    return {
        "calls": on.calls,
        "days": on.days,
        "load_seconds": on.seconds,
        "settle_seconds": on.settled,
        "bytes_on_disk": on.bytes,
        "python": platform.python_version(),
        "bytes": sizes,
        "grown_by": grown,
        "p50_ms": p50,
        "requests_per_second": rate,
    }


def _asked_for(about: str, calls: int) -> argparse.Namespace:
    """The options of a benchmark that is told *about*, which SIGTERM, too, ends in order from now on."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=calls, help="how many calls the store must hold")
    parser.add_argument("--data", type=Path, help="directory of the store; used again when it holds enough calls")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results there too")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return parser.parse_args()


def on_a_stand(about: str, measure: Callable[[Stand, Path], Measured], report: Callable[[Measured], None]) -> None:
    """Run a benchmark that is told *about*: it can *measure* p50 in ms on a stand, with a directory of its own."""
    given = _asked_for(about, 1_000_000)
    # A copy of the store is to lie on the same disk.
    with tempfile.TemporaryDirectory(dir=given.data and given.data.parent) as temporary:
        place = Path(temporary, "own")
        place.mkdir()
        on, _ = stand(given.data or Path(temporary), given.calls, DAYS, KEEP_ALL)
        load = os.getloadavg()[0]
        out.print(f"{on.calls:,} calls; load average {load:.1f}.", highlight=False)
        found = measure(on, place)
    report(found)
    if given.json:
        given.json.write_text(json.dumps({"load_average": load, "calls": on.calls, "p50_ms": found}, indent=2) + "\n")


def main(benchmark: Benchmark) -> None:
    given = _asked_for(f"Measure reading through the {benchmark.api.title()} API.", benchmark.calls)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            on, new = stand(given.data or Path(temporary), given.calls, benchmark.days, benchmark.keep)
            if new:
                out.print(f"Loaded {on.calls:,} calls in {on.seconds:.1f} s ({on.calls / on.seconds:,.0f} calls/s).")
            load = os.getloadavg()[0]
            out.print(f"{on.calls:,} calls, {on.bytes:,} bytes on disk; load average {load:.1f}.", highlight=False)
            found = {"load_average": load, **measure(on, benchmark)}
        report(found, [*benchmark.aims(found["p50_ms"], found["requests_per_second"]), *benchmark.more_aims(found)])
        if given.json:
            given.json.write_text(json.dumps(found, indent=2) + "\n")
    except KeyboardInterrupt:
        sys.exit(130)
