"""How reading grows with the store: other benchmarks at several sizes, and the exponent of each question.

    .venv/bin/python benchmarks/growth.py [--calls 1000000 --calls 10000000] [--data DIR] [--json FILE]

An exponent of 0 is a time that stays the same, 1 one that grows as the calls do. It is that of server / static, as each
size is a run of its own and the machine may be busier in one of them; where no server is asked, that of the time alone.
It measures and does not judge.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from reads import out
from rich.table import Table

HERE = Path(__file__).parent
PROGRAMS = ("fuse_reads", "plivo_reads", "filter_reads")


def measured(program: str, calls: int, place: Path) -> dict:
    """What *program* finds in a store of so many calls, which is kept in *place*."""
    results = place / f"{program}-{calls}.json"
    command = [HERE / f"{program}.py", "--calls", calls, "--data", place / f"{program}-{calls}", "--json", results]
    subprocess.run([sys.executable, *map(str, command)], check=True)
    return json.loads(results.read_text())


def exponent(small: dict, large: dict, value) -> float:
    return math.log(value(large) / value(small)) / math.log(large["calls"] / small["calls"])


def _beside(found: dict, name: str) -> float:
    return found["p50_ms"][name]["server"] / found["p50_ms"][name]["static"]


def report(program: str, found: list[dict]) -> dict[str, float]:
    """Print p50s by size; the exponents, from the smallest store to the largest."""
    small, large = found[0], found[-1]
    table = Table(program, *(f"{each['calls']:,} calls" for each in found), "exponent", title="p50 in ms")
    exponents = {}

    def row(name: str, value, form: str, comparable=None) -> None:
        exponents[name] = exponent(small, large, comparable or value)
        table.add_row(name, *(f"{value(each):{form}}" for each in found), f"{exponents[name]:.2f}")

    for name, p50 in small["p50_ms"].items():
        if "server" in p50:
            row(
                name, lambda each, of=name: each["p50_ms"][of]["server"], ".3f", lambda each, of=name: _beside(each, of)
            )
        else:
            row(name, lambda each, of=name: each["p50_ms"][of]["sql"], ".3f")
    row("load, calls/s", lambda each: each["calls"] / each["load_seconds"], ",.0f")
    row("MB on disk", lambda each: each["bytes_on_disk"] / 1e6, ",.0f")
    out.print(table)
    return exponents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, action="append", help="a size; give at least two")
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="this program alone; may be given again")
    parser.add_argument("--data", type=Path, help="directory of the stores, which the next run uses again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the exponents there")
    given = parser.parse_args()
    sizes = sorted(given.calls or [1_000_000, 10_000_000])
    if len(sizes) < 2:
        parser.error("growth shows between two sizes at least: give --calls twice")
    exponents = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = given.data or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for program in given.only or PROGRAMS:
            exponents[program] = report(program, [measured(program, calls, place) for calls in sizes])
    if given.json:
        given.json.write_text(json.dumps(exponents, indent=2) + "\n")


if __name__ == "__main__":
    main()
