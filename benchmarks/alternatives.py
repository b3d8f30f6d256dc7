"""The same calls and questions put to Callhouse on both engines, to Datasette on SQLite, and to FastAPI with asyncpg on
PostgreSQL.

    .venv/bin/python benchmarks/alternatives.py [--calls 1000000] [--data DIR] [--json FILE]

Datasette and FastAPI are installed into an environment of their own in the directory. It measures and does not judge.
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
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import apsw
import httpx
import psycopg
from client import Connection, request_bytes, requests_per_second
from loading import FOREVER, bulk_records, chunks, simulated
from reads import out
from rich.table import Table
from stand import KEEP_ALL, reader_of

import stores
from callhouse.clock import now
from callhouse.model.instant import DAY, SECOND
from callhouse.model.query import CallQuery
from callhouse.store import filtered, open_store
from callhouse.store.calls import _columns
from callhouse.store.engine import Reader
from callhouse.store.postgres import PostgresTransaction
from callhouse.store.postgres_connection import set_up
from callhouse.store.sqlite import FILE_NAME
from callhouse.wire.fuse.schema import FIELDS
from postgres import Cluster, free_port
from serving import COMMAND, Login, Server, create_account, wait_until

HERE = Path(__file__).parent
DAYS = 30
SMALL_ROUNDS, LARGE_ROUNDS = 200, 10
CLIENTS, LOAD_SECONDS = 32, 5.0
PACKAGES = ("datasette", "fastapi", "uvicorn[standard]", "asyncpg", "orjson")
COLUMNS = (
    "account_id", "session_id", "started", "ended", "direction", "src", "src_key", "dest", "dest_key", "event_count",
    "answered", "duration", "billed_duration", "call_uuid", "parent_call_uuid", "cause_code", "hangup_cause_name",
    "hangup_source", "rate", "amount", "source_ip", "application_name", "application_version", "location", "channel",
)  # fmt: skip
NUMBERS = {"started", "ended", "answered", "duration", "billed_duration", "account_id", "event_count", "cause_code"}
TABLE = ", ".join(f"{name} {'BIGINT' if name in NUMBERS else 'TEXT'}" for name in COLUMNS)
INDEXES = ("UNIQUE:session_id", "started, session_id", "dest_key, started", "src_key, started", "cause_code, started")
SHOWN = "session_id, started, ended, direction, src, dest, event_count"
BY_CAUSE = """
SELECT name, sum(calls) FROM totals
WHERE account_id = :id AND topic = 0 AND width = 24 AND bucket >= :since AND bucket < :until GROUP BY name
"""
OF_TABLES = """
SELECT CAST(sum(pg_total_relation_size(oid)) AS bigint) FROM pg_class
WHERE relkind = 'r' AND relnamespace = CAST('public' AS regnamespace)
"""


@dataclass
class Asked:
    """A question: a path of ours, or work in the store where no route asks it, and how it is put to the others."""

    name: str
    ours: str | Callable[[], object]
    datasette: tuple[str, dict]
    fastapi: str
    rounds: int = SMALL_ROUNDS


@dataclass
class Contender:
    """Who answers: seconds to load, bytes on disk, p50 in ms of each question, requests a second of the first."""

    seconds: float
    bytes: int = 0
    p50: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0


def load_ours(location: Path | str, login: Login, calls: int) -> float:
    async def load() -> float:
        store = await open_store(location, retention=FOREVER, clock=now)
        account = await store.accounts.get(login.id)
        took = 0.0
        for records in chunks(bulk_records(account, simulated(calls, days=DAYS)), 2_000):
            began = time.perf_counter()
            await store.load(records)
            took += time.perf_counter() - began
        # What the server's upkeep would otherwise do while it is asked.
        while await store.settle(account):
            pass
        await store.close()
        return took

    return asyncio.run(load())


def rows_of(data: Path) -> list[tuple]:
    return reader_of(data).rows(f"SELECT {', '.join(COLUMNS)} FROM calls ORDER BY id", {})


def load_sqlite(file: Path, rows: Sequence[tuple]) -> float:
    """Rows into a plain SQLite file with its indexes, made after them, as is quickest."""
    db = apsw.Connection(str(file))
    db.execute("PRAGMA journal_mode = WAL")
    began = time.perf_counter()
    with db:
        db.execute(f"CREATE TABLE calls (id INTEGER PRIMARY KEY, {TABLE})")
        places = ", ".join("?" * len(COLUMNS))
        db.executemany(f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({places})", rows)
        for sql in _indexes():
            db.execute(sql)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    took = time.perf_counter() - began
    db.execute("ANALYZE")
    db.close()
    return took


def load_postgres(url: str, rows: Sequence[tuple]) -> tuple[float, int]:
    with psycopg.connect(url) as db:
        began = time.perf_counter()
        db.execute(f"CREATE TABLE calls (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {TABLE})")
        with db.cursor() as cursor, cursor.copy(f"COPY calls ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        for sql in _indexes():
            db.execute(sql)
        db.commit()
        took = time.perf_counter() - began
        db.autocommit = True
        db.execute("VACUUM ANALYZE calls")
        return took, db.execute("SELECT pg_total_relation_size('calls')").fetchone()[0]


def _indexes() -> Iterator[str]:
    for number, columns in enumerate(INDEXES):
        unique, _, names = columns.rpartition(":")
        yield f"CREATE {unique} INDEX calls_{number} ON calls (account_id, {names})"


def questions(reader: Reader, account: int) -> list[Asked]:
    [(newest, calls)] = reader.rows("SELECT max(started), count(*) FROM calls WHERE account_id = :id", {"id": account})
    until = (newest // SECOND + 1) * SECOND
    [(dest,)] = reader.rows("SELECT dest_key FROM calls ORDER BY id LIMIT 1 OFFSET 100", {})
    [(src, session)] = reader.rows("SELECT src_key, session_id FROM calls WHERE direction = 'inbound' LIMIT 1", {})

    def listed(name: str, days: int, *, rounds: int = SMALL_ROUNDS, number: str = "", side: str = "", **page: int):
        window = {"account": account, "since": until - days * DAY, "until": until}
        page = {"limit": 20, "offset": 0, **page}
        which = {"dest": " AND dest_key = :number", "either": " AND (dest_key = :number OR src_key = :number)"}
        where = "account_id = :account AND started >= :since AND started < :until" + which.get(side, "")
        sql = (
            f"SELECT {SHOWN}, (SELECT count(*) FROM calls WHERE {where}) AS total FROM calls WHERE {where} "
            "ORDER BY started DESC, session_id DESC LIMIT :limit OFFSET :offset"
        )
        asked = {**window, **page, **({"number": number} if side else {})}
        ours: str | Callable[[], object] = f"/api/calls/{window['since'] // SECOND}/{until // SECOND}?" + urlencode(
            {**page, **({"number": number} if side else {})}
        )
        if side == "either":
            query = CallQuery(account_ids=(account,), since=window["since"], until=until, limit=20, either=number)
            ours = lambda: filtered.page(reader, query, _columns(FIELDS))  # noqa: E731 — one of two kinds of value
        return Asked(
            name, ours, (sql, asked), "/calls?" + urlencode({**asked, **({"side": side} if side else {})}), rounds
        )

    window = {"account": account, "since": until - DAYS * DAY, "until": until}
    one = f"SELECT {SHOWN} FROM calls WHERE account_id = :account AND session_id = :session_id"
    causes = (
        "SELECT cause_code, count(*) FROM calls WHERE account_id = :account AND started >= :since AND started < :until "
        "GROUP BY cause_code"
    )
    days = {"id": account, "since": window["since"] // DAY, "until": until // DAY + 1}
    by_session = {"account": account, "session_id": session}
    return [
        listed("list + total, 1 day", 1),
        listed("list + total, 30 days", DAYS),
        listed("list + total of one dest, 30 days", DAYS, number=dest, side="dest"),
        listed("list + total, src or dest", DAYS, number=src, side="either"),
        listed("20 at a deep offset + total", DAYS, offset=min(200_000, calls // 2)),
        listed("10,000 rows", DAYS, rounds=LARGE_ROUNDS, limit=10_000),
        Asked("one call", _one(reader, account, session), (one, by_session), "/call?" + urlencode(by_session)),
        Asked(
            "count by cause, 30 days",
            lambda: reader.rows(BY_CAUSE, days),
            (causes, window),
            "/causes?" + urlencode(window),
            LARGE_ROUNDS,
        ),
    ]


def _one(reader, account: int, session: str) -> Callable[[], object]:
    sql = f"SELECT {_columns(FIELDS)} FROM calls WHERE account_id = :account AND session_id = :session"
    return lambda: reader.rows(sql, {"account": account, "session": session})


def ask(contender: Contender, url: str, asked: dict[str, tuple[str | Callable, int]], authorization: str) -> None:
    """Fill in the times and the rate of *contender*, who is at *url*."""
    with closing(Connection(url)) as connection:
        for name, (what, rounds) in asked.items():
            request = None if callable(what) else request_bytes(url + what, authorization, "application/json")
            taken = []
            for _ in range(rounds + 2):
                began = time.perf_counter()
                what() if request is None else connection.answer(request)
                taken.append(time.perf_counter() - began)
            contender.p50[name] = statistics.median(taken[2:]) * 1000
    first = next(what for what, _ in asked.values())
    contender.rate = requests_per_second(url + first, authorization, CLIENTS, LOAD_SECONDS)


@contextmanager
def program(*command: object, url: str, **environment: str) -> Iterator[str]:
    """A program that serves at *url* within the block."""
    started = subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, **environment, "PYTHONPATH": str(HERE / "alternative")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )

    def answers() -> bool:
        assert started.poll() is None, f"{command[0]} ended by itself"
        try:
            return httpx.get(url).status_code < 500
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, f"the start of {command[1]}")
        yield url
    finally:
        started.terminate()
        started.wait(timeout=60)


def environment(place: Path) -> Path:
    """The programs of the other contenders, installed into *place* unless they are there."""
    if not (place / "bin/datasette").exists():
        venv.create(place, with_pip=True)
        subprocess.run([place / "bin/pip", "install", "--quiet", *PACKAGES], check=True)
    return place / "bin"


def ask_ours(contender: Contender, data: Path, login: Login, asked: Sequence[Asked]) -> None:
    with Server(data, *KEEP_ALL, command=COMMAND) as running:
        authorization = "Basic " + base64.b64encode(":".join(login.fuse).encode()).decode()
        ask(contender, running.url, {each.name: (each.ours, each.rounds) for each in asked}, authorization)


def on_postgres(cluster: Cluster, data: Path, calls: int) -> Contender:
    """What *data*, a name only, holds in *cluster*."""
    url = cluster.database()
    stores.choose("postgresql")
    stores.databases.take(data, url)
    login = create_account(data)
    ours = Contender(load_ours(url, login, calls))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("VACUUM ANALYZE")
        ours.bytes = db.execute(OF_TABLES).fetchone()[0]
        set_up(db, None)
        ask_ours(ours, data, login, questions(PostgresTransaction(db), login.id))
    return ours


def measure(place: Path, calls: int) -> dict[str, Contender]:
    programs = environment(place / "environment")
    with tempfile.TemporaryDirectory(dir=place) as temporary:
        data, file = Path(temporary, "ours"), Path(temporary, "calls.db")
        login = create_account(data)
        ours = Contender(load_ours(data, login, calls))
        rows = rows_of(data)
        ours.bytes = (data / FILE_NAME).stat().st_size
        asked = questions(reader_of(data), login.id)
        ask_ours(ours, data, login, asked)
        datasette = Contender(load_sqlite(file, rows), file.stat().st_size)
        paths = {
            each.name: ("/calls.json?" + urlencode({"sql": each.datasette[0], "_shape": "array", **each.datasette[1]}))
            for each in asked
        }
        port = free_port()
        limits = [word for limit in ("sql_time_limit_ms", "max_returned_rows") for word in ("--setting", limit, 60_000)]
        with program(
            programs / "datasette", "serve", file, "--port", port, *limits, url=f"http://127.0.0.1:{port}"
        ) as url:
            paths = {each.name: (_redirected(url, paths[each.name]), each.rounds) for each in asked}
            ask(datasette, url, paths, "")
        with Cluster("shared_buffers=1GB", "max_wal_size=4GB", "maintenance_work_mem=256MB") as cluster:
            ours_too = on_postgres(cluster, Path(temporary, "ours_too"), calls)
            database = cluster.database()
            fastapi = Contender(*load_postgres(database, rows))
            port = free_port()
            serve = ("uvicorn", "api:app", "--port", port, "--no-access-log")
            with program(programs / serve[0], *serve[1:], url=f"http://127.0.0.1:{port}", DATABASE=database) as url:
                ask(fastapi, url, {each.name: (each.fastapi, each.rounds) for each in asked}, "")
    return {
        "Callhouse, SQLite": ours,
        "Callhouse, PostgreSQL": ours_too,
        "Datasette": datasette,
        "FastAPI + asyncpg": fastapi,
    }


def _redirected(url: str, path: str) -> str:
    """Where *path* leads: versions of Datasette differ in where they answer statements."""
    answer = httpx.get(url + path, follow_redirects=True, timeout=120).raise_for_status()
    return answer.url.raw_path.decode()


def report(found: dict[str, Contender]) -> None:
    table = Table("p50 in ms", *found, title="in brackets: times ours")
    first = next(iter(found.values()))

    def row(name: str, values: list[float], form: str) -> None:
        table.add_row(name, *(f"{value:{form}} ({value / values[0]:.2f})" for value in values))

    for name in first.p50:
        row(name, [each.p50[name] for each in found.values()], ",.3f")
    row(f"requests/s of the first, {CLIENTS} clients", [each.rate for each in found.values()], ",.0f")
    row("load, seconds", [each.seconds for each in found.values()], ",.1f")
    row("MB on disk", [each.bytes / 1e6 for each in found.values()], ",.0f")
    out.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--data", type=Path, help="directory for the environment, which the next run uses again")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save the results there too")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    out.print(f"{given.calls:,} calls without logs over {DAYS} days; load average {load:.1f}.", highlight=False)
    with tempfile.TemporaryDirectory() as temporary:
        place = given.data or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        found = measure(place, given.calls)
    report(found)
    if given.json:
        results = {name: vars(each) for name, each in found.items()}
        given.json.write_text(json.dumps({"load_average": load, "calls": given.calls, **results}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
