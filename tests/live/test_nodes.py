"""Three nodes on one database: nothing lost, nothing doubled, the same answers everywhere, whatever dies meanwhile."""

import asyncio
import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from functools import partial

import psycopg
import pytest

import stores
from callhouse import simulation
from callhouse.errors import StoreUnavailable
from callhouse.model import log as log_document
from callhouse.model.account import Retention
from callhouse.model.instant import DAY
from callhouse.model.query import CallQuery
from callhouse.store import logs, open_store, postgres_connection
from callhouse.store.check import check_store
from console.visiting import Visitor
from killing import PASSING
from nodes import Load, check_listed, check_log, check_nodes, is_ready, node, wait_until_ready
from postgres import Cluster
from serving import callhouse, create_account, get, send, wait_until
from store.test_logs import account_of, records
from watching import worker

pytestmark = pytest.mark.clusters


@pytest.fixture(scope="module")
def cluster():
    """A cluster that keeps what it has committed."""
    with Cluster() as its:
        yield its


@pytest.fixture
def nodes(cluster, tmp_path):
    """Starts that many nodes on a database of their own."""
    running = []

    def start(many, *settings):
        url = cluster.database()
        running.extend(node(tmp_path / str(number), url, *settings) for number in range(many))
        return running

    yield start
    for each in running:
        if each.process.poll() is None:
            each.stop()


@pytest.fixture
def seed():
    chosen = int(os.environ.get("CALLHOUSE_TEST_SEED") or random.randrange(2**32))
    print(f"CALLHOUSE_TEST_SEED={chosen}")
    return chosen


def test_nothing_is_lost_or_doubled_on_three_nodes_of_which_one_is_killed_while_the_database_is_restarted_and_crashes(
    nodes, cluster, seed
):
    servers = nodes(3)
    logins = [each.account(f"{n}@example.com", "--login", f"login{n}") for n, each in enumerate(servers[:2])]
    passing = servers[2].account("passing@example.com")
    callhouse("accounts", "set", passing.id, *PASSING, data=servers[0].data)

    def looked():
        wait_until_ready(*servers)
        load.goes_on()
        for login in logins:
            check_listed(servers, login, load.known(login))

    with Load(seed, servers, logins, passing) as load:
        load.goes_on()
        servers[0].kill()
        load.goes_on()
        servers[0].start()
        load.ways.urls[0] = servers[0].url
        looked()
        processes = [server.process.pid for server in servers]
        for how in (signal.SIGINT, signal.SIGQUIT):
            cluster.stop(how)
            with ThreadPoolExecutor(len(servers)) as pool:
                assert not any(pool.map(is_ready, servers))
            assert [server.client.get("/healthz").status_code for server in servers] == [200] * 3
            refused = load.ways.refused
            wait_until(lambda refused=refused: load.ways.refused > refused, "a refusal")
            cluster.start()
            looked()
        # Each came to itself.
        assert [server.process.pid for server in servers] == processes
    print(load.told)
    check_nodes(servers, load, logins)
    assert "Nothing is wrong" in callhouse("check", data=servers[0].data).stdout
    check_log(cluster)
    assert [server.stop() for server in servers] == [0, 0, 0]


def at_once(*calls):
    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result() for done in [pool.submit(call) for call in calls]]


def test_nodes_that_start_at_once_on_an_empty_database_make_one_store_of_it(cluster, tmp_path):
    url = cluster.database()
    with ThreadPoolExecutor(4) as pool, ExitStack() as running:
        for server in pool.map(lambda number: node(tmp_path / str(number), url), range(4)):
            running.enter_context(server)
            last = server
        logins = at_once(*(partial(create_account, last.data, f"{n}@example.com") for n in range(4)))
        for login in logins:
            assert get(last, login, "/api/calls/1/2").status_code == 200
    with psycopg.connect(url) as database:
        assert database.execute("SELECT count(*) FROM schema_version").fetchall() == [(1,)]


def test_an_account_is_known_to_every_node_at_once_and_made_once_whoever_makes_it_meanwhile(nodes):
    servers = nodes(3)
    logins = at_once(*(partial(create_account, each.data, f"{n}@example.com") for n, each in enumerate(servers * 2)))
    assert len({login.id for login in logins}) == len(logins)
    for server in servers:
        for login in logins:
            assert get(server, login, "/api/calls/1/2").status_code == 200
    create = ("accounts", "create", "--email", "same@example.com")
    made = at_once(*(partial(callhouse, *create, data=each.data, check=False) for each in servers))
    assert sorted(done.returncode for done in made) == [0, 1, 1]
    assert sum("same@example.com is taken by another account" in done.stderr for done in made) == 2
    # Whatever a node remembers of credentials, it stops at once.
    callhouse("accounts", "rotate", logins[0].id, data=servers[0].data)
    callhouse("accounts", "deactivate", logins[1].id, data=servers[0].data)
    for server in servers:
        assert get(server, logins[0], "/api/calls/1/2").status_code == 401
        assert get(server, logins[1], "/api/calls/1/2").status_code == 401


def test_who_signs_in_to_the_console_at_one_node_is_signed_in_and_out_at_all_of_them(nodes):
    servers = nodes(3)
    login = servers[0].account("ops@example.com", "--login", "ops")
    with Visitor(servers[0]) as visitor:
        visitor.sign_in(*login.fuse)

        def shown(server):
            return visitor.client.get(f"{server.url}/console/calls").status_code

        assert [shown(server) for server in servers] == [200, 200, 200]
        visitor.client.base_url = servers[1].url
        visitor.send("/sign-out", page="/calls")
        assert [shown(server) for server in servers] == [303, 303, 303]

    def come_and_go(server):
        for _ in range(5):
            with Visitor(server) as other:
                other.sign_in(*login.fuse)
                assert other.get("/calls").status_code == 200

    at_once(*(partial(come_and_go, server) for server in servers))


def test_one_node_follows_a_mirror_and_another_one_goes_on_when_that_is_killed(nodes, cluster, tmp_path):
    """What the vendor has comes once, whoever brings it."""

    def calls(*numbers):
        now = int(time.time())
        return [{"session_id": f"s{n}", "call_uuid": f"s{n}", "start": now - 60, "end": now - 1} for n in numbers]

    with node(tmp_path / "vendor", cluster.database()) as vendor:
        there = vendor.account("there@example.com")
        send(vendor, there, calls(*range(3)))
        servers = nodes(3, "mirror.every=1s")
        here = servers[0].account()
        token = tmp_path / "token"
        token.write_text(there.auth_token)
        callhouse(
            "mirror", "add", "plivo", "--name", "sales", "--account", here.id, "--user", there.auth_id,
            "--secret-file", token, "--url", vendor.url, "--rate", "1000", data=servers[0].data,
        )  # fmt: skip

        def taken():
            return json.loads(callhouse("mirror", "show", "sales", "--json", data=servers[0].data).stdout)["calls"]

        def listed(server):
            answer = server.client.get(f"/v1/Account/{here.auth_id}/Call/", auth=here.plivo).json()
            return sorted(each["call_uuid"] for each in answer["objects"])

        wait_until(lambda: taken() == 3, "following")
        [(owner,)] = stores.sql(servers[0].data, "SELECT owner FROM mirrors")
        [follower] = [server for server in servers if f"/{worker(server).name}/" in owner]
        follower.kill()
        send(vendor, there, calls(3, 4))
        others = [server for server in servers if server is not follower]
        wait_until(lambda: all(listed(server) == [f"s{n}" for n in range(5)] for server in others), "going on")
        assert len(stores.sql(servers[0].data, "SELECT 1 FROM calls")) == 5


def together(url, clock, work, retention):
    """Run ``work(stores)`` with three stores over the database at *url*."""

    async def run():
        async with AsyncExitStack() as stack:
            opened = [await open_store(url, retention=retention, clock=clock) for _ in range(3)]
            for store in opened:
                stack.push_async_callback(store.close)
            return await work(opened)

    return asyncio.run(run())


async def log_of(store, account, session):
    return (await store.calls.log(account.id, session, since=0, details_since=0)).document


def test_nodes_that_train_and_remove_at_the_same_time_have_one_dictionary_and_remove_each_row_once(cluster, clock):
    url = cluster.database()
    count = logs.SAMPLES + 1_000
    old = list(simulation.calls(3, count, clock.now - DAY, clock.now - DAY // 2))
    new = list(simulation.calls(4, 300, clock.now - DAY // 4, clock.now))

    async def work(opened):
        account = await account_of(opened[0])
        for first in range(0, count, 500):
            await opened[first % 3].load(records(account, old[first : first + 500]))
        later = [store.load(records(account, new[n::3])) for n, store in enumerate(opened)]
        # Whoever comes to it before the others are done.
        done = await asyncio.gather(*(store.train() for store in opened), *later)
        assert any(done[:3])
        for store in opened:
            assert store._codec.has_dictionary or not await store.train()
        for call, events in (*old[:50], *new):
            for store in opened:
                document = await log_of(store, account, call.session_id)
                assert (log_document.unpack(document) if document else []) == list(events)
        kept = sum(bool(events) for _, events in (*old, *new))
        clock.now += 100 * DAY
        removed = 0
        while some := sum(await asyncio.gather(*(store.expire(account) for store in opened))):
            removed += some
        return kept, removed

    kept, removed = together(url, clock, work, Retention())
    assert check_store(url, lambda *_: None).findings == []
    with psycopg.connect(url) as database:
        left = {table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("logs", "calls")}
    assert left["logs"] == 0
    assert removed >= kept


_REFUSED = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON dictionaries DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def test_a_dictionary_that_could_not_be_committed_packs_nothing(cluster, clock):
    url = cluster.database()
    simulated = list(simulation.calls(3, logs.SAMPLES + 1_000, clock.now - DAY, clock.now - DAY // 2))
    later = list(simulation.calls(4, 300, clock.now - DAY // 4, clock.now))

    async def work(opened):
        first, other, _ = opened
        account = await account_of(first)
        await first.load(records(account, simulated))
        with psycopg.connect(url, autocommit=True) as database:
            database.execute(_REFUSED)
            with pytest.raises(StoreUnavailable):
                await first.train()
            database.execute("DROP TRIGGER refused ON dictionaries")
        await first.load(records(account, later))
        assert await other.train()
        for call, events in later:
            document = await log_of(other, account, call.session_id)
            assert (log_document.unpack(document) if document else []) == list(events)

    together(url, clock, work, Retention())
    assert check_store(url, lambda *_: None).findings == []


def test_a_node_that_stands_still_in_a_transaction_keeps_the_others_waiting_for_so_long_only(
    cluster, clock, monkeypatch
):
    """What it was at is begun again when it goes on, and nothing of it is there twice."""
    monkeypatch.setattr(postgres_connection, "IDLE_SECONDS", 1.0)
    url = cluster.database()
    simulated = list(simulation.calls(3, 40, clock.now - DAY, clock.now - DAY // 2))

    async def work(opened):
        still, other, _ = opened
        account = await account_of(still)
        begun, goes_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        writer = still._batch_writer

        def stands_still(tx):
            loop.call_soon_threadsafe(begun.set)
            assert goes_on.wait(60)
            return writer(tx)

        still._batch_writer = stands_still
        waiting = asyncio.create_task(still.load(records(account, simulated[:30])))
        await begun.wait()
        outcomes = await other.load(records(account, simulated[10:]))
        assert not any(outcome.refusal for outcome in outcomes)
        assert not waiting.done()
        goes_on.set()
        # Of those some are there by now.
        assert sum(outcome.repeated for outcome in await waiting) == 20
        page = await other.calls.page(CallQuery(account_ids=(account.id,), since=0, until=2**50, limit=99), ("id",))
        assert len(page.rows) == 40

    together(url, clock, work, Retention())
    assert check_store(url, lambda *_: None).findings == []
