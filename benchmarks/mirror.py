"""How many calls a second are mirrored from a local vendor through each API, beside the vendor's own serving rate.

    .venv/bin/python benchmarks/mirror.py [--calls 20000] [--json FILE]

The vendor is a Callhouse too. It measures and does not judge. benchmarks/README.md says more.
"""

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from client import Connection, request_bytes
from rich.console import Console
from rich.table import Table
from stand import KEEP_ALL
from yarl import URL

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))

from callhouse.clock import now  # noqa: E402
from callhouse.ingest.limits import IngestLimits  # noqa: E402
from callhouse.mirror.runner import UNDER_WAY  # noqa: E402
from callhouse.mirror.service import Service, upstreams  # noqa: E402
from callhouse.model.account import Retention  # noqa: E402
from callhouse.model.record import Record  # noqa: E402
from callhouse.store import open_store  # noqa: E402
from callhouse.store.mirrors import Mirror  # noqa: E402
from serving import COMMAND, Server, create_account  # noqa: E402

FOREVER = Retention(details=None, sessions=None, plivo=None)
AIM = 0.7
DAY = 86_400_000
# Each log is a request, so fewer of them are enough.
SHARES = {"plivo": 1.0, "fuse": 1.0, "dev": 0.2}
CONNECTIONS = {"plivo": UNDER_WAY, "fuse": UNDER_WAY, "dev": UNDER_WAY * 4}
"""Requests that a mirror makes at once."""
out = Console()


# Without a text: asyncio.run() makes one of what it returns, which takes longer than to mirror it.
@dataclass(repr=False)
class Mirrored:
    """How many calls came in how many seconds, what was asked for, and what the store was given at a time."""

    calls: int
    seconds: float
    urls: list[str]
    batches: list[Sequence[Record]]


@contextmanager
def recorded_urls() -> Iterator[list[str]]:
    """All that is asked for within the block."""
    urls: list[str] = []
    get = aiohttp.ClientSession.get

    def ask(self: aiohttp.ClientSession, url: URL, **options: Any) -> Any:
        urls.append(str(url))
        return get(self, url, **options)

    aiohttp.ClientSession.get = ask
    try:
        yield urls
    finally:
        aiohttp.ClientSession.get = get


async def mirrored(api: str, url: str, credentials: tuple[str, str], directory: Path) -> Mirrored:
    """Mirror all that the vendor has."""
    account = await asyncio.to_thread(create_account, directory, "here@example.com", "--login", "here")
    store = await open_store(directory, retention=FOREVER, clock=now)
    try:
        began = now()
        mirror = Mirror(
            id=0, name=api, api=api, account_id=account.id, url=url, user=credentials[0], secret="variable:SECRET",
            since=began - 6 * DAY, overlap=1, rate=1_000_000, created=began, state="active", trouble="",
            succeeded=None, calls=0, speed=0.0, place="[]", owner=None, owned_until=0,
        )  # fmt: skip
        await store.mirrors.add(mirror)
        load, batches = store.load_mirrored, []

        async def remembered(records: Sequence[Record], advance: Any) -> Any:
            batches.append(records)
            return await load(records, advance)

        store.load_mirrored = remembered
        service = Service(store, {"SECRET": credentials[1]}, IngestLimits(), 60_000)
        with recorded_urls() as urls:
            start = time.perf_counter()
            runner = await service.once(api)
            return Mirrored(runner.calls, time.perf_counter() - start, urls, batches)
    finally:
        await store.close()


async def stored(batches: list[Sequence[Record]], directory: Path) -> float:
    """Seconds that the store alone takes for the same batches, in transactions of the same size."""
    await asyncio.to_thread(create_account, directory, "here@example.com", "--login", "here")
    store = await open_store(directory, retention=FOREVER, clock=now)
    try:
        start = time.perf_counter()
        for batch in batches:
            await store.load(batch)
        return time.perf_counter() - start
    finally:
        await store.close()


def served(urls: list[str], credentials: tuple[str, str], connections: int) -> float:
    """Seconds that the vendor takes for the same requests from clients that throw the answers away."""
    authorization = "Basic " + base64.b64encode(":".join(credentials).encode()).decode()
    requests = [
        request_bytes(url, authorization, "application/json\r\nAccept-Encoding: gzip, deflate, zstd") for url in urls
    ]

    def ask(number: int) -> None:
        connection = Connection(urls[0])
        for request in requests[number::connections]:
            connection.answer(request)
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(connections)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def measured(api: str, calls: int, turns: int) -> dict[str, float]:
    """Calls a second, mirrored and served, in turns."""
    rates: dict[str, list[float]] = {"mirrored": [], "served": [], "stored": [], "ratio": []}
    with tempfile.TemporaryDirectory() as place, Server(Path(place) / "vendor", *KEEP_ALL, command=COMMAND) as vendor:
        login = vendor.account("vendor@example.com", "--login", "vendor")
        what = ["generate", "--calls", str(calls), "--days", "5", "--account", str(login.id), "--data", vendor.data]
        subprocess.run([*COMMAND, *what], stdout=subprocess.DEVNULL, check=True)
        credentials = getattr(login, api)
        for turn in range(turns):
            done = asyncio.run(mirrored(api, vendor.url, credentials, Path(place) / f"here{turn}"))
            if done.calls < calls:
                sys.exit(f"{done.calls} of {calls} calls were mirrored.")
            bare = served(done.urls, credentials, CONNECTIONS[api])
            alone = asyncio.run(stored(done.batches, Path(place) / f"stored{turn}"))
            rates["mirrored"].append(calls / done.seconds)
            rates["served"].append(calls / bare)
            rates["stored"].append(calls / alone)
            # Nothing is had faster than it is kept.
            rates["ratio"].append(max(bare, alone) / done.seconds)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {"calls": calls, "requests": len(done.urls), **medians}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    out.print(f"Load average before: {os.getloadavg()[0]:.1f}")
    results = {api: measured(api, int(options.calls * SHARES[api]), options.turns) for api in sorted(upstreams())}
    table = Table("API", "calls", "requests", "mirrored/s", "vendor serves/s", "store alone/s", "ratio", "aim")
    for api, found in results.items():
        table.add_row(
            api,
            f"{found['calls']:,}",
            f"{found['requests']:,}",
            f"{found['mirrored']:,.0f}",
            f"{found['served']:,.0f}",
            f"{found['stored']:,.0f}",
            f"{found['ratio']:.2f}",
            f"{AIM} {'met' if found['ratio'] >= AIM else 'missed'}",
        )
    out.print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
