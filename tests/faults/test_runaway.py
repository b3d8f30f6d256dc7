"""A query that runs away is stopped, tells its client so, and keeps nobody else waiting."""

import asyncio
import json
import re
import threading
import xml.etree.ElementTree as ET

import pytest

from callhouse.errors import TookTooLong
from callhouse.model.query import CallQuery
from callhouse.model.record import Record
from callhouse.sources.native import read_call
from callhouse.store.sqlite import LOOP_STEPS, READING_THREADS
from faults.conftest import CALLS
from serving import Server, callhouse, create_account, send, wait_until

ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
COUNTED = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :last) SELECT count(*) FROM n"


def endless(reader):
    return reader.rows(ENDLESS, {})


async def account_of(store):
    account, _ = await store.accounts.create(
        email="a@example.com", login=None, plan="standard", timezone="UTC", parent_id=None
    )
    return account


async def kept_and_listed(store, account, session):
    """Send a call and read it back."""
    now = store.clock()
    raw = json.dumps({"session_id": session, "start": now / 1000 - 5, "end": now / 1000}).encode()
    [outcome] = await store.ingest([Record(account=account, source="calls", raw=raw, read=read_call(raw, 32))])
    assert outcome.refusal is None
    page = await store.calls.page(CallQuery(account_ids=(account.id,), since=0, until=2**50, limit=20), ("session_id",))
    return session in [row[0] for row in page.rows]


def test_a_read_that_never_ends_is_stopped_and_the_same_thread_reads_on(stored):
    async def work(store):
        account = await account_of(store)
        # More than can run at once: those that wait for a thread are stopped in their turn.
        reads = [asyncio.create_task(store._engine.read(endless)) for _ in range(2 * READING_THREADS)]
        assert await kept_and_listed(store, account, "meanwhile")
        assert [type(result) for result in await asyncio.gather(*reads, return_exceptions=True)] == [TookTooLong] * len(
            reads
        )
        counted = [store._engine.read(lambda reader: reader.rows(COUNTED, {"last": 1_000})) for _ in reads]
        assert await asyncio.gather(*counted) == [[(1_000,)]] * len(reads)

    stored(work, read_limit=0.3)


def test_reads_that_take_all_threads_keep_neither_senders_nor_short_reads_waiting(stored):
    async def work(store):
        account = await account_of(store)
        begun, over = threading.Semaphore(0), threading.Event()

        def long_read(reader):
            begun.release()
            while not over.is_set():
                reader.rows(COUNTED, {"last": 10_000})

        reads = [asyncio.create_task(store._engine.read(long_read)) for _ in range(READING_THREADS)]
        for _ in reads:
            await asyncio.to_thread(begun.acquire)
        try:
            assert await kept_and_listed(store, account, "meanwhile")
            assert not any(read.done() for read in reads)
        finally:
            over.set()
            await asyncio.gather(*reads)

    stored(work)


def test_a_read_that_was_thought_short_and_is_not_leaves_the_event_loop(stored):
    async def work(store):
        account = await account_of(store)
        reads = [asyncio.create_task(store._engine.quick(endless)) for _ in range(READING_THREADS)]
        # It would never get there if one of them stayed.
        assert await kept_and_listed(store, account, "meanwhile")
        for read in reads:
            with pytest.raises(TookTooLong):
                await read
        many = LOOP_STEPS
        assert await store._engine.quick(lambda reader: reader.rows(COUNTED, {"last": many})) == [(many,)]

    stored(work, read_limit=0.3)


def test_a_limit_that_is_set_off_stops_nothing(stored):
    async def work(store):
        many = 2_000_000
        assert await store._engine.read(lambda reader: reader.rows(COUNTED, {"last": many})) == [(many,)]

    stored(work, read_limit=None)


TEXT = "The query took too long; ask for a shorter time."
FILTERED = 60_000
"""Calls that even a page of 20 has to be looked for among for many times the shortest limit there is."""


def answered(number, now):
    start = now - 80_000 + number
    told = {"start": start, "answer": start + 1, "end": start + 5, "direction": "inbound"}
    return {"session_id": f"answered {number}", **told}


def test_every_api_says_in_its_own_shape_that_a_query_took_too_long(large):
    login = large.login
    with Server(large.data, "store.read_limit=1ms", "log.level=warning", "retention.plivo=forever") as server:
        window = f"{large.now - 90_000}/{large.now}"
        filtered = create_account(large.data, "filtered@example.com")
        for first in range(0, FILTERED, 20_000):
            send(server, filtered, [answered(number, large.now) for number in range(first, first + 20_000)])

        def stopped(path, auth, accept="application/json", status=500):
            """The answer of the first try that did not make it, as some of them are quick enough."""

            def asked():
                with server.client.stream("GET", path, auth=auth, headers={"Accept": accept}) as answer:
                    assert answer.status_code in {200, status}
                    if answer.status_code == status:
                        answer.read()
                return answer if answer.status_code == status else None

            return wait_until(asked, f"stopping {path}")

        for path in (f"/api/calls/{window}?limit=10000", large.everything):
            assert stopped(path, login.fuse).json() == {"error": TEXT}
        answer = stopped(large.everything, login.fuse, "application/xml")
        assert [(each.tag, each.text) for each in ET.fromstring(answer.text)] == [("error", TEXT)]
        for service in ("logs", "sessions"):
            answer = stopped(f"/ws/calls/{service}/{window}?limit=10000", login.dev)
            assert answer.json() == {"status": "failure", "error": TEXT}
        many = f"bill_duration__gte=1&call_direction=inbound&limit=20&offset={FILTERED - 20}"
        body = stopped(f"/v1/Account/{filtered.auth_id}/Call/?{many}", filtered.plivo, status=400).json()
        assert body.pop("api_id")
        assert body == {"error": "the query took too long; ask for a shorter time", "objects": []}
        # A log names what was stopped; what is short goes on as ever.
        assert "TookTooLong" in server.log.read_text()
        assert server.client.get(f"/api/calls/{window}?limit=20", auth=login.fuse).json()["total_calls"] >= CALLS
        record = {"session_id": "short", "start": large.now - 9, "end": large.now - 1}
        assert send(server, login, [record])["accepted"] == 1
        assert server.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("limit", ["0s", "soon"])
def test_a_limit_that_is_none_is_refused_at_the_start(tmp_path, limit):
    done = callhouse("serve", "--set", f"store.read_limit={limit}", data=tmp_path, check=False)
    assert done.returncode == 1
    assert re.search("store.read_limit", done.stderr)
