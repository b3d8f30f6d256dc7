"""How many records a second the readers of switches take in, beside what the CSV module alone needs for the same bytes.

    .venv/bin/python benchmarks/sources.py [--rows 200000] [--json FILE]

Nothing is stored and nothing is sent: readers and joins are pure, and run here on one core. It measures and does not
judge. benchmarks/README.md says more.
"""

import argparse
import csv
import io
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from callhouse.sources import cuts
from callhouse.sources.asterisk import Options, readers
from callhouse.sources.asterisk.split import Splitter

SAMPLES = Path(__file__).parents[1] / "tests/sources/samples/asterisk/local-ivr"
FILES = {"CEL, 23 columns": "cel_full.csv", "CEL, 20 columns": "cel_legacy.csv", "CDR, 21 columns": "Master.csv"}
ROUNDS = 5
read = readers(Options())["asterisk"]
out = Console()


def rows_of(name: str, count: int) -> bytes:
    """At least *count* rows of a captured file, which is told again and again with other ids."""
    text = (SAMPLES / name).read_text()
    copies = -(-count // text.count("\n"))
    return "".join(re.sub(r'"lab1-', f'"lab{n}-', text) for n in range(copies)).encode()


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, in the quickest of some rounds: what else the machine does is not to be measured."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measured(body: bytes) -> dict[str, float]:
    """Rows a second of each step, and of all together."""
    text = body.decode()
    rows = [row for _, row in cuts(Splitter(), body)]
    groups = defaultdict(list)
    for row in rows:
        fragment = read(row, 32)
        groups[fragment.group].append(fragment.content)
    join = read(rows[0], 32).join

    def joining() -> None:
        for name, contents in groups.items():
            join(name, contents)

    steps = {
        "csv.reader alone": lambda: list(csv.reader(io.StringIO(text))),
        "splitting": lambda: list(cuts(Splitter(), body)),
        "reading": lambda: [read(row, 32) for row in rows],
        "joining": joining,
    }
    took = {step: seconds(work) for step, work in steps.items()}
    took["all of ours"] = took["splitting"] + took["reading"] + took["joining"]
    return {step: len(rows) / t for step, t in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    load = os.getloadavg()[0]
    found = {title: measured(rows_of(name, chosen.rows)) for title, name in FILES.items()}
    table = Table("rows a second of one core", *next(iter(found.values())), title=f"load at the start: {load:.1f}")
    for title, rates in found.items():
        table.add_row(title, *(f"{rate:,.0f}" for rate in rates.values()))
    out.print(table)
    joined = found["CEL, 23 columns"]["joining"]
    out.print(f"Correlation of CEL: {joined:,.0f} rows a second; the aim is 150,000.")
    if chosen.json:
        chosen.json.write_text(json.dumps({"load": load, "rows_per_second": found}, indent=2))


if __name__ == "__main__":
    main()
