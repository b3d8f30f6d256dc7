"""What loads calls in benchmarks without a server: our store, a bare loop of inserts, PostgreSQL's COPY."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import apsw
import psycopg
from msgspec.structs import replace

from callhouse import simulation
from callhouse.clock import now
from callhouse.model import log as log_document
from callhouse.model.account import Account, Retention
from callhouse.model.instant import DAY
from callhouse.model.record import Part, Record
from callhouse.simulation import SimulatedCall
from callhouse.store import BATCH_RECORDS, open_store
from callhouse.store.log_writer import account_word
from callhouse.store.logs import LogCodec
from callhouse.store.sqlite import _PRAGMAS, FILE_NAME, WRITER_CACHE_KIB, SQLiteTransaction

FOREVER = Retention(details=None, sessions=None, plivo=None)
BULK = 2_000
"""Calls in a transaction of the store's bulk path, as ``callhouse generate`` has them."""

_LOGS = "SELECT call_id, account_id, dictionary, document FROM logs"
_CALLS = "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'calls' AND sql IS NOT NULL ORDER BY type DESC"


def simulated(count: int, seed: int = 1, days: int = 30) -> Iterator[SimulatedCall]:
    """So many calls that are over by now, oldest first."""
    until = now() - DAY // 48
    for call, events in simulation.calls(seed, count, until - days * DAY, until):
        # A call of another seed may have been on the same channel in the same second, and so have the same id.
        yield SimulatedCall(replace(call, session_id=f"{call.session_id}-{seed}"), events)


def chunks(items: Iterator, size: int) -> Iterator[list]:
    while chunk := list(islice(items, size)):
        yield chunk


def tenths(directory: Path, count: int) -> list[float]:
    """Seconds that the store takes for each tenth of *count* calls without logs, one after the other."""

    async def load() -> list[float]:
        store = await open_store(directory, retention=FOREVER, clock=now)
        account, _ = await store.accounts.create(
            email="tenths@example.com", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        took = [0.0] * 10
        batch = min(BULK, count // 10)
        for number, records in enumerate(chunks(bulk_records(account, simulated(count, days=365)), batch)):
            began = time.perf_counter()
            await store.load(records)
            took[min(9, number * batch * 10 // count)] += time.perf_counter() - began
        await store.close()
        return took

    return asyncio.run(load())


def bulk_records(account: Account, calls: Iterator[SimulatedCall]) -> Iterator[Record]:
    """The calls without their logs."""
    for call, _ in calls:
        part = Part(session_id=call.session_id, call=call)
        yield Record(account=account, source="calls", raw=call.session_id.encode(), read=part)


def commit(directory: Path, size: int, rounds: int = 100) -> float:
    """The median time in ms of a transaction of so many calls with their logs, one after the other."""

    async def load() -> list[float]:
        store = await open_store(directory, retention=FOREVER, clock=now)
        account, _ = await store.accounts.create(
            email=f"commits-of-{size}@example.com", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        took = []
        for chunk in chunks(simulated(rounds * size, seed=7), size):
            parts = [Part(session_id=call.session_id, call=call, events=events) for call, events in chunk]
            records = [
                Record(account=account, source="calls", raw=part.session_id.encode(), read=part) for part in parts
            ]
            began = time.perf_counter()
            await store.load(records)
            took.append(time.perf_counter() - began)
        await store.close()
        return took

    took = sorted(asyncio.run(load()))
    return took[len(took) // 2] * 1000


def inserted_again(filled: Path, empty: Path) -> float:
    """Seconds that a bare loop takes to insert all rows of the store in *filled* into a new one in *empty*.

    Same tables, indexes, pragmas, and transactions of as many calls as a server's; the words of the logs too.
    """
    source = apsw.Connection(str(filled / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    asyncio.run(_create(empty))
    target = apsw.Connection(str(empty / FILE_NAME))
    for pragma in (*_PRAGMAS, f"PRAGMA cache_size = -{WRITER_CACHE_KIB}"):
        target.execute(pragma)
    calls = source.execute("SELECT * FROM calls ORDER BY id").fetchall()
    logs = {row[0]: row for row in source.execute("SELECT * FROM logs")}
    words = _words(source)
    counts = {
        table: source.execute(f"SELECT * FROM {table}").fetchall()
        for table in ("call_counts", "end_counts", "totals", "hour_peaks")
    }
    began = time.perf_counter()
    for chunk in chunks(iter(calls), BATCH_RECORDS):
        ids = [row[0] for row in chunk if row[0] in logs]
        with target:
            target.executemany(_insert("calls", chunk), chunk)
            target.executemany(_insert("logs", logs.values()), [logs[call_id] for call_id in ids])
            target.executemany(
                "INSERT INTO log_words (rowid, words) VALUES (?, ?)", [(call_id, words[call_id]) for call_id in ids]
            )
    with target:
        for table, rows in counts.items():
            target.executemany(_insert(table, rows), rows)
    took = time.perf_counter() - began
    target.close()
    return took


async def _create(directory: Path) -> None:
    store = await open_store(directory, retention=FOREVER, clock=now)
    await store.close()


def _insert(table: str, rows) -> str:
    width = len(next(iter(rows), ()))
    return f"INSERT INTO {table} VALUES ({', '.join('?' * width)})"


def _words(source: apsw.Connection) -> dict[int, str]:
    """What the search index was given of each log."""
    reader, codec = SQLiteTransaction(source), LogCodec()
    codec.load(reader)
    return {
        call_id: " ".join([account_word(account_id), *(entry.event.line for entry in entries)])
        for call_id, account_id, number, document in source.execute(_LOGS)
        if (entries := log_document.decode_entries(codec.decompress(reader, number, document)))
    }


def copied(filled: Path, url: str) -> float:
    """Seconds of PostgreSQL's COPY of all calls of the store in *filled* into an empty table with the same indexes."""
    source = apsw.Connection(str(filled / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    rows = source.execute("SELECT * FROM calls ORDER BY id").fetchall()
    with psycopg.connect(url) as target:
        for sql in postgres_table(source):
            target.execute(sql)
        target.commit()
        began = time.perf_counter()
        # The text of COPY made beforehand would be quicker by little: psycopg makes it in C.
        with target.cursor() as cursor, cursor.copy("COPY calls FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        target.commit()
        return time.perf_counter() - began


def postgres_table(source: apsw.Connection) -> Sequence[str]:
    """The statements that make the table of calls and its indexes, in PostgreSQL's words."""
    found = [sql for _, sql in source.execute(_CALLS)]
    plain = [re.sub(r"--[^\n]*", "", sql).replace("PRIMARY KEY AUTOINCREMENT", "PRIMARY KEY") for sql in found]
    return [re.sub(r"\bINTEGER\b", "BIGINT", sql) for sql in plain]
