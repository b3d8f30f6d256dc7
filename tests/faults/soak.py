"""Everything at once for minutes: senders of every kind, readers of every API, slow ones, rude ones, and expiry.

    .venv/bin/python tests/faults/soak.py --minutes 10
    .venv/bin/python tests/faults/soak.py --minutes 10 --store postgresql

Calls are kept for 90 seconds, so that after a while as much is removed as comes. Then the server's memory, its open
files, the bytes in use for each call kept and the files must not grow; the exit status says whether they did.
"""

import argparse
import csv
import gzip
import io
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

import apsw
import httpx
import psycopg

import stores
from callhouse.store.check import check_store
from callhouse.store.sqlite import FILE_NAME
from postgres import Cluster
from serving import COMMAND, Server, ndjson
from watching import raw_get, value, worker

MEGABYTE = 2**20
KEPT = tuple(f"retention.{kind}=90s" for kind in ("details", "sessions", "plivo", "quarantine"))
SAMPLE_SECONDS = 2
WAL_LIMIT = 256 * MEGABYTE
"""The log is emptied at 32 MiB when nobody reads, and a transaction or a read may come in between a few times."""

LIMIT_OF_POSTGRESQL = 1280 * MEGABYTE
"""It keeps a gigabyte of it (max_wal_size), and a little more at times."""


def call(now, rng, session):
    steps = rng.randrange(12)
    events = [
        {
            "timestamp": now - 19 + step,
            "class": rng.choice(["info", "event", "prompt", "error"]),
            "line": f"step {step}: the caller pressed {rng.randrange(10)} and heard {rng.getrandbits(30)}",
            "data": {"module_type": "menu", "result_variable": f"choice{rng.randrange(9)}"},
        }
        for step in range(steps)
    ]
    return {
        "session_id": session, "start": now - 20, "end": now - 1, "src": f"212{rng.randrange(10**7):07}",
        "dest": f"800{rng.randrange(50):07}", "direction": rng.choice(["inbound", "outbound"]), "events": events,
    }  # fmt: skip


class Client(threading.Thread):
    """Does the same again and again until it is told to stop."""

    def __init__(self, server, login, number, over):
        super().__init__(name=f"{type(self).__name__} {number}", daemon=True)
        self.server, self.login, self.over = server, login, over
        self.rng = random.Random(self.name)
        self.done = Counter()
        self.failure = None
        self._numbers = 0

    def run(self):
        try:
            with httpx.Client(base_url=self.server.url, timeout=120) as self.client:
                while not self.over.is_set():
                    self.step()
                    self.done[type(self).__name__] += 1
        except Exception as failure:  # noqa: BLE001 — told at the end
            self.failure = failure

    def session(self):
        self._numbers += 1
        return f"{self.name} {self.rng.getrandbits(64):016x} {self._numbers}"

    def post(self, route, content, kind="application/x-ndjson", **headers):
        return self.client.post(
            f"/ingest/{route}", content=content, headers={"Content-Type": kind, **headers}, auth=self.login.fuse
        )

    def accepted(self, route, content, number, **headers):
        answer = self.post(route, content, **headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rejected"] == [], answer.text
        assert answer.json()["accepted"] == number


class OneByOne(Client):
    """Calls as a switch sends them; one in five is sent twice."""

    def step(self):
        body = json.dumps(call(time.time(), self.rng, self.session())).encode()
        for _ in range(2 if self.rng.random() < 0.2 else 1):
            self.accepted("calls", body, 1, kind="application/json")


class InBulk(Client):
    """Compressed bodies of hundreds of calls."""

    def step(self):
        now = time.time()
        body = gzip.compress(ndjson([call(now, self.rng, self.session()) for _ in range(200)]), 1)
        self.accepted("calls", body, 200, **{"Content-Encoding": "gzip"})
        self.over.wait(0.5)


class InParts(Client):
    """The call when it starts, its events one by one, and the call again at its end."""

    def step(self):
        whole = call(time.time(), self.rng, self.session())
        session, events = whole["session_id"], whole.pop("events")
        self.accepted("calls", json.dumps({"session_id": session, "start": whole["start"]}), 1, kind="application/json")
        for event in events:
            self.accepted("events", json.dumps({"session_id": session, "events": [event]}), 1, kind="application/json")
        self.accepted("calls", json.dumps(whole), 1, kind="application/json")


class Asterisk(Client):
    """Rows of Asterisk's CDR, which the store joins."""

    def step(self):
        out, now = io.StringIO(), time.time()
        rows = csv.writer(out, quoting=csv.QUOTE_ALL)
        at = [datetime.fromtimestamp(now - ago, UTC).strftime("%Y-%m-%d %H:%M:%S") for ago in (20, 15, 1)]
        for _ in range(20):
            unique = f"{now:.0f}.{self.rng.getrandbits(40)}"
            channels = [f"SIP/{self.rng.randrange(1000)}-{self.rng.getrandbits(32):08x}" for _ in range(2)]
            rows.writerow(
                ["", "1001", "200", "default", '"A" <1001>', *channels, "Dial", "SIP/200", *at, 19, 14, "ANSWERED",
                 "DOCUMENTATION", unique, ""]
            )  # fmt: skip
        self.accepted("asterisk", out.getvalue().encode(), 20, kind="text/csv")
        self.over.wait(0.2)


class Wrong(Client):
    """Records that are refused, bodies that cannot be read, bombs and wrong credentials."""

    def step(self):
        refused = json.dumps({"session_id": "", "what": self.rng.getrandbits(64)})
        assert self.post("calls", refused, "application/json").json()["accepted"] == 0
        assert self.post("calls", b"[" * 100_000, "application/json").status_code == 400
        bomb = gzip.compress(bytes(2**20)) * 128
        assert self.post("calls", bomb, **{"Content-Encoding": "gzip"}).status_code == 413
        wrong = self.client.get("/api/calls/1/2", auth=(self.login.email, "wrong"))
        assert wrong.status_code in {401, 429}
        self.over.wait(1)


class Reader(Client):
    """Every API, in JSON and XML, from short to long."""

    def step(self):
        now = int(time.time())
        window, fuse, dev = f"{now - 200}/{now + 1}", self.login.fuse, self.login.dev
        day = datetime.fromtimestamp(now - 3600, UTC).strftime("%Y-%m-%d %H:%M")
        path, auth = self.rng.choice(
            [
                *3 * [(f"/api/calls/{window}?limit=20", fuse)],
                (f"/api/calls/{window}?limit=1000&offset=1000", fuse),
                (f"/api/calls/{window}?number=8000000007", fuse),
                (f"/api/all_logs/{window}?limit=1000", fuse),
                (f"/ws/calls/logs/{window}?limit=1000", dev),
                (f"/ws/calls/sessions/{window}?limit=10000", dev),
                (f"/ws/calls/errors/{window}?limit=1000", dev),
                (f"/v1/Account/{self.login.auth_id}/Call/?limit=20&end_time__gt={day}", self.login.plivo),
                (f"/v1/Account/{self.login.auth_id}/Call/?limit=20&bill_duration__gte=60", self.login.plivo),
                ("/readyz", None),
            ]
        )
        accept = self.rng.choice(["application/json", "application/xml"])
        answer = self.client.get(path, auth=auth, headers={"Accept": accept})
        # A store that takes two seconds for a write, as it may on a machine with this much to do, is not ready.
        allowed = {200, 503} if path == "/readyz" else {200}
        assert answer.status_code in allowed, f"{path}: {answer.text}"
        if answer.status_code == 503:
            self.done["not ready"] += 1


class Slow(Client):
    """Takes a long answer in sips."""

    def step(self):
        now = int(time.time())
        with raw_get(self.server, self.login, f"/api/all_logs/{now - 200}/{now}?limit=10000") as connection:
            connection.settimeout(120)
            for _ in range(100):
                if self.over.wait(0.1) or not connection.recv(16_384):
                    return


class Rude(Client):
    """Hangs up in the middle."""

    def step(self):
        now = int(time.time())
        path = f"/api/all_logs/{now - 200}/{now}?limit=10000"
        with self.client.stream("GET", path, auth=self.login.fuse) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw(65_536))
        self.over.wait(0.2)


CLIENTS = {OneByOne: 4, InBulk: 1, InParts: 2, Asterisk: 1, Wrong: 1, Reader: 3, Slow: 3, Rude: 1}


class InFile:
    """The store in files under *data*: the bytes of the database, of its log and of what is in use; the calls."""

    def __init__(self, data):
        self._data = data
        self._db = apsw.Connection(str(data / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
        self._db.set_busy_timeout(10_000)

    def sizes(self):
        pages, free, size = (self._db.pragma(name) for name in ("page_count", "freelist_count", "page_size"))
        files = [(self._data / f"{FILE_NAME}{end}").stat().st_size for end in ("", "-wal")]
        return *files, (pages - free) * size, self._db.execute("SELECT count(*) FROM calls").get

    def close(self):
        self._db.close()


class InPostgreSQL:
    """The same of the store in a database of *cluster*; vacuuming gives back what is not in use."""

    def __init__(self, cluster, data):
        url = cluster.superuser + urlsplit(stores.location(data)).path
        self._db = psycopg.connect(url, autocommit=True)

    def sizes(self):
        [(database, log, calls)] = self._db.execute(
            "SELECT pg_database_size(current_database()), (SELECT sum(size) FROM pg_ls_waldir()), count(*) FROM calls"
        ).fetchall()
        return database, int(log), database, calls

    def close(self):
        self._db.close()


class Sample:
    """What there is at a moment: seconds since the beginning; bytes but for files and calls."""

    FIELDS = ("rss", "files", "database", "log", "used", "calls")

    def __init__(self, at, server, kept):
        process = worker(server)
        self.at = at
        self.rss = int((process / "statm").read_text().split()[1]) * 4096
        self.files = len(list((process / "fd").iterdir()))
        self.database, self.log, self.used, self.calls = kept.sizes()

    def line(self):
        return (
            f"{self.at:6.0f} s  memory {self.rss / MEGABYTE:6.1f} MiB  open files {self.files:4}  file "
            f"{self.database / MEGABYTE:6.1f} MiB, of which used {self.used / MEGABYTE:6.1f}  write-ahead log "
            f"{self.log / MEGABYTE:6.1f} MiB  calls {self.calls:6}"
        )


def slope(samples, field):
    """The least squares slope of the samples' *field*, a minute."""
    if len(samples) < 3:
        return 0.0
    return statistics.linear_regression([s.at / 60 for s in samples], [getattr(s, field) for s in samples]).slope


def judged(samples, wal_limit):
    """What grew that should not, comparing the last third with the one before it; the first is for warming up."""
    third = len(samples) // 3
    before, after = samples[third : 2 * third], samples[2 * third :]

    def median(part, what):
        return statistics.median(map(what, part))

    def rss(sample):
        return sample.rss

    def used_a_call(sample):
        return sample.used / max(sample.calls, 1)

    if median(after, rss) > 1.1 * median(before, rss) + 8 * MEGABYTE:
        yield "memory"
    if max(s.files for s in after) > max(s.files for s in before) + 20:
        yield "open files"
    if median(after, used_a_call) > 1.25 * median(before, used_a_call):
        yield "bytes in use for each call"
    # A file never shrinks; it may be as large as what was once in use, and what one transaction needs beside it.
    if samples[-1].database > 1.25 * max(s.used for s in samples) + 8 * MEGABYTE:
        yield "the file, beyond what was ever in use"
    if max(s.log for s in samples) > wal_limit:
        yield "the write-ahead log"


def loaded(server, login, kept, minutes):
    """Put everything on *server* for so many minutes; what was seen meanwhile, and how often each client did a step."""
    over = threading.Event()
    clients = [kind(server, login, number, over) for kind, many in CLIENTS.items() for number in range(many)]
    samples, began = [], time.monotonic()
    for client in clients:
        client.start()
    try:
        while (at := time.monotonic() - began) < 60 * minutes and not any(client.failure for client in clients):
            samples.append(Sample(at, server, kept))
            if len(samples) % 15 == 1:
                print(samples[-1].line(), flush=True)
            over.wait(SAMPLE_SECONDS)
    finally:
        over.set()
        for client in clients:
            client.join(120)
    for client in clients:
        if client.failure is not None:
            raise client.failure
    assert not any(client.is_alive() for client in clients), "a client got no answer"
    return samples, sum((client.done for client in clients), Counter())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--data", type=Path, help="an empty directory for the store; a temporary one otherwise")
    parser.add_argument("--store", choices=stores.ENGINES, default="sqlite", help="the engine that holds the store")
    chosen = parser.parse_args()
    with ExitStack() as its:
        directory = its.enter_context(tempfile.TemporaryDirectory())
        data = chosen.data or Path(directory) / "data"
        cluster, wal_limit = None, WAL_LIMIT
        if chosen.store == "postgresql":
            stores.choose(chosen.store)
            cluster, wal_limit = its.enter_context(Cluster()), LIMIT_OF_POSTGRESQL
            stores.databases.take(data, cluster.database())
        with Server(data, *KEPT, "log.level=warning", command=COMMAND) as server:
            login = server.account("ops@example.com", "--login", "ops")
            process = worker(server)
            kept = its.enter_context(closing(InFile(data) if cluster is None else InPostgreSQL(cluster, data)))
            samples, done = loaded(server, login, kept, chosen.minutes)
            seconds = samples[-1].at
            print(", ".join(f"{name} {number / seconds:.1f}/s" for name, number in sorted(done.items())))
            print(f"{value(server, 'callhouse_retention_removed_rows_total'):.0f} rows removed for their age")
            same = worker(server) == process
        lines = server.log.read_text().splitlines()
        errors = [line for line in lines if '"level":"error"' in line and '"store.not_ready"' not in line]
        findings = check_store(stores.location(data), lambda *_: None).findings
    steady = samples[len(samples) // 3 :]
    for field in Sample.FIELDS:
        unit = 1 if field in {"files", "calls"} else MEGABYTE
        first, last, grows = steady[0], steady[-1], slope(steady, field)
        print(
            f"{field}: {getattr(first, field) / unit:.1f} -> {getattr(last, field) / unit:.1f}, {grows / unit:+.2f}/min"
        )
    wrong = [f"{what} grew" for what in judged(samples, wal_limit)]
    wrong += [] if same else ["the process was not the same in the end"]
    wrong += [f"check: {finding.part}: {finding.problem}" for finding in findings[:5]]
    wrong += [f"logged: {line[:500]}" for line in errors[:5]]
    print("\n".join(wrong) or "flat: nothing grew, the store is whole, no error was logged")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
