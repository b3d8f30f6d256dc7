"""How many records a second come in: by each reader alone, and by `callhouse import` from a file to the disk.

Beside the latter stands the rate at which the store alone takes in the same calls.

    .venv/bin/python benchmarks/sources.py [--rows 200000] [--json FILE]

Readers and joins are pure and run here on one core. It measures and does not judge. benchmarks/README.md says more.
"""

import argparse
import asyncio
import csv
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from callhouse import simulation
from callhouse.clock import now
from callhouse.ingest.importer import BATCH_RECORDS, splitter_of
from callhouse.ingest.readers import Reader, readers
from callhouse.model.account import Retention
from callhouse.model.record import Fragment, Part, Record
from callhouse.sources import cuts, native
from callhouse.store import open_store

SAMPLES = Path(__file__).parents[1] / "tests/sources/samples"
FOREVER = Retention(details=None, sessions=None, plivo=None)
KEEP = [word for name in ("details", "sessions", "plivo") for word in ("--set", f"retention.{name}=forever")]
ROUNDS = 5
out = Console()


def asterisk(name: str, count: int) -> bytes:
    """At least *count* rows of a captured file, which is told again and again with other ids."""
    text = (SAMPLES / "asterisk/local-ivr" / name).read_text()
    return "".join(re.sub(r'"lab1-', f'"lab{n}-', text) for n in range(-(-count // text.count("\n")))).encode()


def freeswitch(directory: str, kind: str, count: int) -> bytes:
    """Captured bodies of the *kind*, told again and again; one a line."""
    posts = [json.loads(path.read_text())["body"] for path in sorted((SAMPLES / directory).glob("*.json"))]
    bodies = [body.replace("\n", " ") for body in posts if body.startswith(kind)]
    return "".join(bodies[n % len(bodies)] + "\n" for n in range(count)).encode()


def freeswitch_rows(count: int) -> bytes:
    """Rows of mod_cdr_csv in its template ``example``."""
    stamp = "2026-11-20 %02d:%02d:%02d"
    return "".join(
        f'"Caller {n}","1415555{n % 10_000:04}","800","public","{stamp % (n // 3600 % 24, n // 60 % 60, n % 60)}","",'
        f'"{stamp % (23, 59, 59)}","9","0","NO_ANSWER","leg-{n}","","","PCMU","PCMU"\n'
        for n in range(count)
    ).encode()


def kamailio(count: int) -> bytes:
    record = json.loads((SAMPLES / "kamailio/answered_caller_bye.json").read_text())
    return b"".join(json.dumps({**record, "call_id": f"{n}@192.0.2.1"}).encode() + b"\n" for n in range(count))


def kamailio_rows(count: int) -> bytes:
    """Rows of the table acc: each call's INVITE and BYE."""
    rows = ["callid,method,time,sip_code,sip_reason,src_user,dst_ouser"]
    for n in range(count // 2):
        rows += [f"{n}@x,INVITE,2026-11-20 10:00:00,200,OK,14155550101,800", f"{n}@x,BYE,2026-11-20 10:01:00,200,OK,,"]
    return "\n".join(rows).encode()


def native_records(count: int) -> bytes:
    until = now()
    simulated = simulation.calls(1, count, until - 86_400_000, until)
    return b"".join(native.written(call, events) + b"\n" for call, events in simulated)


FILES: dict[str, tuple[str, Callable[[int], bytes], float]] = {
    "Asterisk CEL, 23 columns": ("asterisk", lambda n: asterisk("cel_full.csv", n), 1),
    "Asterisk CEL, 20 columns": ("asterisk", lambda n: asterisk("cel_legacy.csv", n), 1),
    "Asterisk CDR, 21 columns": ("asterisk", lambda n: asterisk("Master.csv", n), 0.5),
    "FreeSWITCH CSV": ("freeswitch", freeswitch_rows, 0.5),
    "FreeSWITCH JSON": ("freeswitch", lambda n: freeswitch("freeswitch/posts", "{", n), 0.01),
    "FreeSWITCH XML": ("freeswitch", lambda n: freeswitch("freeswitch/posts", "cdr=", n), 0.001),
    "Kamailio acc CSV": ("kamailio", kamailio_rows, 0.5),
    "Kamailio JSON": ("kamailio", kamailio, 0.2),
    "native, 15 events a call": ("calls", native_records, 0.05),
}
"""Of each kind its route, how so many of its records are made, and what part of all rows is enough of it."""

IMPORTED = ("Asterisk CEL, 23 columns", "Asterisk CDR, 21 columns", "FreeSWITCH CSV", "Kamailio acc CSV")
"""What is imported from end to end: the kinds that are CSV."""


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, in the quickest of some rounds: what else the machine does is not to be measured."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def of_readers(body: bytes, reader: Reader) -> dict[str, float]:
    """Records a second of each step on one core, and of all together."""
    # A file holds one document of XML.
    is_xml = body.startswith(b"cdr=")
    records = body.splitlines() if is_xml else [record for _, record in cuts(splitter_of(reader), body)]
    text = body.decode()
    took = {
        "csv.reader alone": seconds(lambda: list(csv.reader(io.StringIO(text)))),
        "splitting": seconds(lambda: list(cuts(splitter_of(reader), body))),
        "reading": seconds(lambda: [reader.read(record, 32) for record in records]),
    }
    groups, join = grouped(records, reader)
    if join is not None:
        took["joining"] = seconds(lambda: [join(name, rows) for name, rows in groups.items()])
    took["all of ours"] = sum(took.values()) - took["csv.reader alone"]
    return {step: len(records) / t for step, t in took.items()}


def grouped(records: Sequence[bytes], reader: Reader):
    groups: dict[str, list[bytes]] = defaultdict(list)
    join = None
    for record in records:
        read = reader.read(record, 32)
        if isinstance(read, Fragment):
            groups[read.group].append(read.content)
            join = read.join
    return groups, join


def told(body: bytes, reader: Reader) -> Iterator[Part]:
    """What a file tells, each call once where its rows are joined by the source."""
    records = [record for _, record in cuts(splitter_of(reader), body)]
    groups, join = grouped(records, reader)
    if join is None:
        yield from (reader.read(record, 32) for record in records)
    for name, rows in groups.items():
        yield from join(name, rows)


def stored_in(directory: Path, parts: Sequence[Part]) -> float:
    """Seconds that the store takes for *parts*, in batches like those of an import, into an empty store."""

    async def work() -> float:
        store = await open_store(directory, retention=FOREVER, clock=now)
        account, _ = await store.accounts.create(
            email="a@example.com", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        records = [Record(account=account, source="calls", raw=b"%d" % n, read=part) for n, part in enumerate(parts)]
        start = time.perf_counter()
        for first in range(0, len(records), BATCH_RECORDS):
            await store.load(records[first : first + BATCH_RECORDS])
            await store.train()
        took = time.perf_counter() - start
        await store.close()
        return took

    return asyncio.run(work())


def imported_in(directory: Path, file: Path, source: str) -> float:
    """Seconds of ``callhouse import`` into an empty store; the start of the process is left out."""

    async def prepare() -> None:
        store = await open_store(directory, retention=FOREVER, clock=now)
        await store.accounts.create(email="a@example.com", login=None, plan="standard", timezone="UTC", parent_id=None)
        await store.close()

    asyncio.run(prepare())
    command = [
        sys.executable,
        "-m",
        "callhouse",
        "import",
        source,
        file,
        "--account",
        "1",
        "--data",
        directory,
        "--json",
    ]
    done = json.loads(subprocess.run([*map(str, command), *KEEP], check=True, capture_output=True).stdout)
    assert not done["quarantined"]
    assert not done["duplicate"]
    return done["seconds"]


def from_end_to_end(body: bytes, source: str, reader: Reader) -> dict[str, float]:
    """Rows a second of an import, and of the store alone for the same calls; the median of three turns each."""
    parts = list(told(body, reader))
    rows = sum(1 for _ in cuts(splitter_of(reader), body))
    alone, whole = [], []
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "rows")
        file.write_bytes(body)
        for turn in range(3):
            alone.append(stored_in(Path(scratch, f"alone{turn}"), parts))
            whole.append(imported_in(Path(scratch, f"whole{turn}"), file, source))
    alone_rate, whole_rate = rows / sorted(alone)[1], rows / sorted(whole)[1]
    return {"import": whole_rate, "store alone": alone_rate, "import / store": whole_rate / alone_rate}


def table(title: str, found: dict[str, dict[str, float]]) -> None:
    columns = list(dict.fromkeys(name for rates in found.values() for name in rates))
    shown = Table("", *columns, title=title)
    for kind, rates in found.items():
        shown.add_row(
            kind, *("" if name not in rates else f"{rates[name]:,.{2 if '/' in name else 0}f}" for name in columns)
        )
    out.print(shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    known = readers({})
    alone = {
        kind: of_readers(make(int(chosen.rows * part)), known[route]) for kind, (route, make, part) in FILES.items()
    }
    table(f"records a second of one core; load at the start: {load:.1f}", alone)
    whole = {}
    for kind in IMPORTED:
        source, make, part = FILES[kind]
        whole[kind] = from_end_to_end(make(int(chosen.rows * part)), source, known[source])
    table(f"rows a second from file to disk; load: {os.getloadavg()[0]:.1f}", whole)
    joined = alone["Asterisk CEL, 23 columns"]["joining"]
    out.print(f"Correlation of CEL: {joined:,.0f} rows a second; the aim is 150,000.")
    least = min(rates["import / store"] for rates in whole.values())
    out.print(f"Import of CSV: at least {least:.2f} of the store's own rate; the aim is 0.5.")
    if chosen.json:
        chosen.json.write_text(json.dumps({"load": load, "alone": alone, "end_to_end": whole}, indent=2))


if __name__ == "__main__":
    main()
