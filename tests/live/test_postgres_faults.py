"""What goes wrong between a node and its database, and what a database may be like that is none of ours."""

import asyncio
import os
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg
import pytest

import stores
from callhouse.clock import now
from callhouse.model.account import Retention
from callhouse.store import open_store
from callhouse.store.check import check_store
from callhouse.store.postgres import READING_THREADS
from callhouse.store.postgres_connection import CONNECT_SECONDS
from faults.test_faults import call, sessions, small_disk
from nodes import check_refusal, node, wait_until_ready
from postgres import USER, Cluster
from serving import callhouse, get, send, wait_until
from watching import value

pytestmark = pytest.mark.clusters

PASSWORD = "pass word:/@?%41"
READ_LIMIT = 1
LONGEST = READ_LIMIT + 5
"""Seconds after which a read of a server that does not answer is over."""


@pytest.fixture(scope="module")
def cluster():
    """A cluster that asks for passwords."""
    with Cluster(auth="scram-sha-256", password=PASSWORD) as its:
        yield its


@pytest.fixture
def running(tmp_path):
    """Starts nodes; all are stopped at the end of the test."""
    with ExitStack() as its:
        yield lambda url, *settings: its.enter_context(node(tmp_path / "node", url, *settings))


def family(pid):
    """A process and all that it started, itself first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


@contextmanager
def frozen(cluster):
    """The database's server, of which no process runs meanwhile."""
    processes = []
    try:
        # Who was just started by one that had not stopped yet is found next time.
        while new := [pid for pid in family(cluster.process.pid) if pid not in processes]:
            for pid in new:
                os.kill(pid, signal.SIGSTOP)
            processes += new
        yield
    finally:
        for pid in processes:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def took(ask):
    began = time.monotonic()
    return ask(), time.monotonic() - began


def longest_refusal(server, login, now):
    """Ask each API for what it cannot give; the seconds that the longest took to say so."""
    asked = [
        lambda: server.client.post("/ingest/calls", json=call(7, now), auth=login.fuse),
        lambda: get(server, login, "/api/calls/1/2"),
        lambda: server.client.get("/ws/calls/sessions/1/2", auth=login.dev),
        lambda: server.client.get(f"/v1/Account/{login.auth_id}/Call/", auth=login.plivo),
        lambda: get(server, login, "/api/call/s1"),
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(took, asked))
    for answer, _ in answers:
        check_refusal(answer)
    return max(seconds for _, seconds in answers)


def check_out_of_reach(server):
    """The process lives, and says in time that its store is out of reach."""
    assert server.client.get("/healthz").status_code == 200
    answer, seconds = took(lambda: server.client.get("/readyz"))
    assert answer.status_code == 503
    assert answer.json() == {"status": "the store cannot be written"}
    assert seconds < 2 + 3
    assert server.client.get("/healthz").status_code == 200


def check_back(server, login, now, *before):
    """All is as it was, and goes on."""
    wait_until_ready(server)
    assert send(server, login, [call(99, now)]) == {"accepted": 1, "rejected": []}
    assert sorted(sessions(server, login, now)) == sorted([*before, "s99"])
    assert len(get(server, login, "/api/call/s99").json()) == 1
    said = server.log.read_text()
    assert PASSWORD not in said
    assert quote(PASSWORD, safe="") not in said


def test_a_server_that_stands_still_ends_reads_after_their_limit_and_takes_what_waits_when_it_goes_on(
    cluster, running, now_seconds
):
    server = running(cluster.database(), f"store.read_limit={READ_LIMIT}s")
    login = server.account("ops@example.com", "--login", "ops")
    send(server, login, [call(1, now_seconds)])
    with ThreadPoolExecutor(1) as pool:
        with stores.no_writing(server.data):
            sent = pool.submit(send, server, login, [call(2, now_seconds)])
            wait_until(lambda: value(server, "callhouse_ingest_queue_records") == 1, "waiting")
            with frozen(cluster):
                check_out_of_reach(server)
                assert longest_refusal(server, login, now_seconds) < LONGEST + 3
            assert not sent.done()
        assert sent.result() == {"accepted": 1, "rejected": []}
    check_back(server, login, now_seconds, "s1", "s2")


class Cable:
    """What lies between a node and its database: takes connections at *port* and passes bytes on, until it is cut."""

    def __init__(self, target):
        self._target = target
        self._pairs = []
        self._listener = None
        self._is_mute = False
        self.mend()

    def mend(self):
        """Pass on again; what was connected before is not."""
        self.cut()
        self._is_mute = False
        # Where it was before.
        self._listener = socket.create_server(("127.0.0.1", getattr(self, "port", 0)))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def cut(self):
        """Nothing gets through, and both ends are told."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for pair in self._pairs:
            for end in pair:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def swallow(self):
        """Nothing gets through, and nobody is told."""
        self._is_mute = True

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._pairs.append((client, server))
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=[source, sink], daemon=True).start()

    def _pass(self, source, sink):
        with suppress(OSError), source:
            while some := source.recv(65_536):
                if not self._is_mute:
                    sink.sendall(some)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()


def through(url, cable):
    return url.replace(f":{urlsplit(url).port}/", f":{cable.port}/")


def test_a_network_that_is_cut_or_swallows_everything_fails_requests_and_nothing_else(cluster, running, now_seconds):
    with Cable(cluster.port) as cable:
        server = running(through(cluster.database(), cable), f"store.read_limit={READ_LIMIT}s")
        login = server.account("ops@example.com", "--login", "ops")
        send(server, login, [call(1, now_seconds)])
        cable.cut()
        check_out_of_reach(server)
        assert longest_refusal(server, login, now_seconds) < LONGEST + 3
        many = 40
        with ThreadPoolExecutor(many) as pool:
            waited = list(pool.map(lambda _: took(lambda: get(server, login, "/api/calls/1/2")), range(many)))
        for answer, _ in waited:
            check_refusal(answer)
        # They do not wait one after the other for what did not come the last time.
        assert max(seconds for _, seconds in waited) < many / READING_THREADS * CONNECT_SECONDS / 2
        cable.mend()
        wait_until_ready(server)
        send(server, login, [call(2, now_seconds)])
        cable.swallow()
        assert longest_refusal(server, login, now_seconds) < LONGEST + 3
        cable.mend()
        check_back(server, login, now_seconds, "s1", "s2")


def test_when_the_database_takes_no_more_connections_a_node_says_so_and_goes_on_with_those_it_gets(
    running, now_seconds, tmp_path
):
    few = ("max_connections=8", "superuser_reserved_connections=3", "max_wal_senders=0")
    with Cluster(*few) as cluster, ExitStack() as others:
        url = cluster.database()
        server = running(url, f"store.read_limit={READ_LIMIT}s")
        login = server.account("ops@example.com", "--login", "ops")
        # Ten at a time, with half as many connections as it would make.
        with ThreadPoolExecutor(10) as pool:
            sent = pool.map(lambda n: send(server, login, [call(n, now_seconds)]), range(30))
            read = pool.map(lambda _: get(server, login, "/api/calls/1/2").status_code, range(30))
            assert [each["accepted"] for each in sent] == [1] * 30
            assert list(read) == [200] * 30
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'callhouse'")
        with suppress(psycopg.OperationalError):
            while True:
                others.enter_context(psycopg.connect(url, application_name="another"))
        done = callhouse("accounts", "list", data=server.data, check=False)
        assert done.returncode == 1
        assert "remaining connection slots are reserved" in one_line(done)
        check_out_of_reach(server)
        longest_refusal(server, login, now_seconds)
        others.close()
        check_back(server, login, now_seconds, *(f"s{n}" for n in range(30)))
        assert server.stop() == 0


def one_line(done):
    """What a command that failed says on standard error."""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    assert quote(PASSWORD, safe="") not in done.stdout + done.stderr
    return done.stderr


def changed(url, *, user=USER, password=PASSWORD, host="127.0.0.1", port=None, name=None):
    parts = urlsplit(url)
    return f"postgresql://{user}:{quote(password, safe='')}@{host}:{port or parts.port}/{name or parts.path[1:]}"


def a_wrong_password(cluster):
    return changed(cluster.database(), password=PASSWORD + "x")


def a_role_that_is_none(cluster):
    return changed(cluster.database(), user="nobody")


def a_role_that_may_make_no_tables(cluster):
    with suppress(psycopg.errors.DuplicateObject):
        cluster.sql(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
    return changed(cluster.database(), user="reader")


def a_database_that_is_none(cluster):
    return changed(cluster.database(), name="nowhere")


def a_port_where_nobody_listens(cluster):
    with socket.create_server(("127.0.0.1", 0)) as once:
        return changed(cluster.database(), port=once.getsockname()[1])


def a_host_that_is_none(cluster):
    # No name, so that no other machine is asked for it.
    return changed(cluster.database(), host="127.0.0.1.")


def _encoded(cluster, encoding):
    name = f"in_{encoding.lower()}"
    cluster.sql(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
    return changed(cluster.database(), name=name)


def a_database_without_an_encoding(cluster):
    return _encoded(cluster, "SQL_ASCII")


def a_database_in_latin1(cluster):
    return _encoded(cluster, "LATIN1")


def _holding(cluster, *statements):
    url = cluster.database()
    with psycopg.connect(url) as database:
        for statement in statements:
            database.execute(statement)
    return url


def tables_of_another_program(cluster):
    return _holding(cluster, "CREATE TABLE calls (id INT)")


def versions_of_another_program(cluster):
    return _holding(cluster, "CREATE TABLE schema_version (version TEXT, applied TIMESTAMP)")


def a_store_of_a_newer_program(cluster):
    return _holding(cluster, "CREATE TABLE schema_version (number BIGINT)", "INSERT INTO schema_version VALUES (9999)")


def a_role_that_may_only_read(cluster):
    url = cluster.database()
    cluster.sql(f"ALTER DATABASE {urlsplit(url).path[1:]} SET default_transaction_read_only = on")
    return url


NOT_USABLE = {
    a_wrong_password: "password authentication failed",
    a_role_that_is_none: "password authentication failed",
    a_role_that_may_make_no_tables: "permission denied for schema public.",
    a_database_that_is_none: 'database "nowhere" does not exist',
    a_port_where_nobody_listens: "Connection refused.",
    a_host_that_is_none: "127.0.0.1.",
    a_database_without_an_encoding: "SQL_ASCII",
    a_database_in_latin1: "LATIN1",
    tables_of_another_program: """it holds what is not Callhouse's: relation "calls" already exists.""",
    versions_of_another_program: """it holds what is not Callhouse's: column "number" does not exist.""",
    a_store_of_a_newer_program: "newer than this program",
    a_role_that_may_only_read: "read-only transaction",
}


@pytest.mark.parametrize("made", NOT_USABLE, ids=lambda made: made.__name__)
def test_a_database_that_cannot_be_used_is_told_in_one_line_without_its_password(cluster, tmp_path, made):
    data = tmp_path / "data"
    stores.databases.take(data, made(cluster))
    served, listed = (
        callhouse(*command, data=data, check=False) for command in (("serve", "--port", "0"), ("accounts", "list"))
    )
    assert served.returncode == listed.returncode == 1
    assert NOT_USABLE[made] in one_line(served)
    assert one_line(listed)
    settings = callhouse("config", data=data)
    assert "***" in settings.stdout
    assert PASSWORD not in settings.stdout + settings.stderr
    assert quote(PASSWORD, safe="") not in settings.stdout + settings.stderr


DEFAULTS = {
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "lock_timeout": "10s",
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "client_encoding": "LATIN1",
    "synchronous_commit": "off",
    "jit": "on",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Pacific/Chatham",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "enable_seqscan": "off",
    "row_security": "off",
    "check_function_bodies": "off",
}


@pytest.mark.parametrize("of", ["ROLE", "DATABASE"])
def test_what_a_role_or_database_has_for_defaults_changes_no_answer_and_no_promise(cluster, running, now_seconds, of):
    url = cluster.database()
    name = USER if of == "ROLE" else urlsplit(url).path[1:]
    try:
        cluster.sql(*(f"ALTER {of} {name} SET {key} = '{value}'" for key, value in DEFAULTS.items()))
        server = running(url)
        login = server.account("ops@example.com", "--login", "ops")
        line = "żółw 🐢 it's \\ \\n 100%"
        event = {"timestamp": now_seconds - 5, "class": "error", "line": line, "data": {"ключ": [1, 1.5, line]}}
        record = {
            "session_id": line,
            "start": now_seconds - 60,
            "end": now_seconds - 1,
            "src": "Zoë",
            "events": [event],
        }
        assert send(server, login, [record, record])["accepted"] == 2
        [listed] = get(server, login, f"/api/calls/{now_seconds - 3600}/{now_seconds}").json()["calls"]
        assert (listed["session_id"], listed["src"]) == (line, "Zoë")
        [entry] = get(server, login, f"/api/call/{quote(line)}").json()
        assert entry["event"] == {"line": line, "data": {"ключ": [1, 1.5, line]}}
        assert server.client.get("/readyz").status_code == 200
        assert check_store(url, lambda *_: None).findings == []

        def shown(reader):
            return {key: reader.rows(f"SELECT current_setting('{key}')", {})[0][0] for key in DEFAULTS}

        async def work():
            store = await open_store(url, retention=Retention(), clock=now)
            try:
                return await store._engine.write(shown)
            finally:
                await store.close()

        found = asyncio.run(work())
        assert found["synchronous_commit"] == "on"
        assert found["default_transaction_isolation"] == "read committed"
        assert found["lock_timeout"] == found["statement_timeout"] == "0"
        assert found["idle_in_transaction_session_timeout"] == "1min"
        assert found["client_encoding"] == "UTF8"
    finally:
        cluster.sql(f"ALTER {of} {name} RESET ALL")


def test_a_database_that_becomes_read_only_refuses_senders_serves_readers_and_goes_on_when_it_is_not(
    cluster, running, now_seconds
):
    url = cluster.database()
    server = running(url)
    login = server.account("ops@example.com", "--login", "ops")
    send(server, login, [call(1, now_seconds)])
    name = urlsplit(url).path[1:]
    over = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'callhouse'"
    cluster.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on", over)
    check_refusal(server.client.post("/ingest/calls", json=call(2, now_seconds), auth=login.fuse))
    check_out_of_reach(server)
    assert sessions(server, login, now_seconds) == ["s1"]
    cluster.sql(f"ALTER DATABASE {name} RESET ALL", over)
    check_back(server, login, now_seconds, "s1")


def test_a_full_disk_under_the_database_refuses_senders_serves_readers_and_takes_calls_again_when_there_is_room(
    cluster, running, now_seconds
):
    # Where the server's own user gets to.
    with small_disk(cluster.directory / "disk", 48) as disk:
        place = disk / "tables"
        place.mkdir()
        shutil.chown(place, "postgres", "postgres")
        ballast = disk / "ballast"
        url = cluster.database()
        name = urlsplit(url).path[1:]
        cluster.sql(f"CREATE TABLESPACE small LOCATION '{place}'", f"ALTER DATABASE {name} SET TABLESPACE small")
        server = running(url, "log.level=warning")
        login = server.account("ops@example.com", "--login", "ops")
        try:
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)) and shutil.disk_usage(disk).free > 4_000_000:
                    pass
            kept, refused = [], None
            for number in range(400):
                record = call(number, now_seconds)
                answer = server.client.post("/ingest/calls", json=record, auth=login.fuse)
                if answer.status_code != 200:
                    refused = record
                    break
                kept.append(record["session_id"])
            assert len(kept) > 5
            assert refused is not None
            check_refusal(answer)
            assert sorted(sessions(server, login, now_seconds)) == sorted(kept)
            for session in kept:
                assert get(server, login, f"/api/call/{session}").status_code == 200
            assert server.client.get("/healthz").status_code == 200
            ballast.unlink()
            assert send(server, login, [refused])["accepted"] == 1
            check_back(server, login, now_seconds, *kept, refused["session_id"])
            assert check_store(url, lambda *_: None).findings == []
        finally:
            server.stop()
            cluster.drop(url)
            cluster.sql("DROP TABLESPACE small")
