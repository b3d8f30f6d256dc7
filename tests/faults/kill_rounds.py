"""Kill a server under mixed load, again and again, and look each time whether anything acknowledged is lost or doubled.

.venv/bin/python tests/faults/kill_rounds.py --rounds 100 --store postgresql
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import stores
from killing import KEPT, killed
from serving import COMMAND, Server


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="the same seed, the same load")
    parser.add_argument("--store", choices=stores.ENGINES, default="sqlite", help="the engine that holds the store")
    chosen = parser.parse_args()
    stores.choose(chosen.store)
    try:
        rounds(chosen)
    finally:
        if stores.databases is not None:
            stores.databases.remove()


def rounds(chosen):
    print(f"seed {chosen.seed}", flush=True)
    began = time.monotonic()

    def told(number, acknowledged, interrupted, known, buckets):
        print(
            f"round {number}: {acknowledged} requests acknowledged, {interrupted} interrupted, {known} calls complete, "
            f"{buckets} counts right",
            flush=True,
        )

    with tempfile.TemporaryDirectory() as directory, Server(Path(directory) / "data", *KEPT, command=COMMAND) as server:
        done = killed(server, chosen.rounds, chosen.seed, told=told)
    print(
        f"{chosen.rounds} rounds in {time.monotonic() - began:.0f} s: {done['calls']} calls sent in "
        f"{done['acknowledged']} acknowledged requests, {done['interrupted']} interrupted; nothing lost or doubled, "
        "every count right after every round"
    )


if __name__ == "__main__":
    main()
