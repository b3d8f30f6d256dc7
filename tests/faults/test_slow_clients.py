"""Clients that take for ever, hang up, or send what unfolds without end cost the others nothing and leave nothing."""

import base64
import gzip
import json
import random
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import zstandard

import stores
from callhouse.ingest.limits import IngestLimits
from callhouse.store.sqlite import FILE_NAME
from serving import SECONDS, Server, get, send, wait_until
from watching import MEGABYTE, Memory, is_idle, raw_get, value, wait_until_still, worker

DRIPPING = 40


@pytest.fixture(scope="module")
def server(large):
    with Server(large.data, "log.level=warning") as running:
        yield running


class Drips(threading.Thread):
    """Connections that send a byte a second, half of them of the headers and half of a body."""

    def __init__(self, server, login):
        super().__init__(name="drips", daemon=True)
        address = urlsplit(server.url)
        secret = base64.b64encode(":".join(login.fuse).encode()).decode()
        head = (
            f"POST /ingest/calls HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {secret}\r\nContent-Length: 100000\r\n"
        )
        self._over = threading.Event()
        self._open = []
        self.answers = []
        for number in range(DRIPPING):
            connection = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
            connection.sendall(f"{head}X-Slow: ".encode() if number % 2 else f"{head}\r\n".encode())
            self._open.append(connection)

    def run(self):
        while self._open and not self._over.wait(1):
            for connection in list(self._open):
                try:
                    connection.setblocking(False)
                    said = connection.recv(4096)
                except BlockingIOError:
                    connection.setblocking(True)
                    connection.sendall(b"x")
                except ConnectionError:
                    self._done(connection, b"")
                else:
                    self._done(connection, said)

    def _done(self, connection, said):
        self.answers.append(said.partition(b"\r\n")[0])
        connection.close()
        self._open.remove(connection)

    def stop(self):
        self._over.set()
        self.join(SECONDS)
        for connection in self._open:
            connection.close()


@pytest.fixture(scope="module", autouse=True)
def drips(server, large):
    """They drip while the other tests of this file run."""
    dripping = Drips(server, large.login)
    dripping.start()
    yield dripping
    dripping.stop()


def needs_no_snapshot(data):
    """Whether nobody reads the store as it was: all of SQLite's write-ahead log could go into the file."""
    if stores.databases is not None:
        old = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        return not stores.sql(data, old + "AND (backend_xmin IS NOT NULL OR state LIKE 'idle in transaction%')")
    [(blocked, _, _)] = stores.sql(data, "PRAGMA wal_checkpoint(TRUNCATE)")
    return not blocked and (data / f"{FILE_NAME}-wal").stat().st_size == 0


def test_readers_that_stand_still_in_a_long_answer_hold_no_snapshot_and_get_it_whole_in_the_end(server, large):
    readers = [raw_get(server, large.login, large.everything) for _ in range(3)]
    try:
        for reader in readers:
            assert reader.recv(4096).startswith(b"HTTP/1.1 200")
        wait_until_still(worker(server))
        assert value(server, "callhouse_requests_in_flight") >= 1 + len(readers)
        for number in range(3):
            record = {"session_id": f"during {number}", "start": large.now - 9, "end": large.now - 1}
            assert send(server, large.login, [record])["accepted"] == 1
            wait_until(lambda: needs_no_snapshot(large.data), "letting go of all snapshots")
        size, tail = 0, b""
        while not tail.endswith(b"\r\n0\r\n\r\n"):
            more = readers[0].recv(2**20)
            assert more, "the answer ended early"
            size += len(more)
            tail = tail[-100:] + more
        assert size > 100_000_000
        assert b'"total_calls":' in tail
    finally:
        for reader in readers:
            reader.close()


def test_a_client_that_takes_nothing_for_too_long_is_cut_off_and_not_told_that_this_was_all(large):
    command = [sys.executable, Path(__file__).with_name("with_little_patience.py")]
    with Server(large.data, command=command) as impatient:
        client = raw_get(impatient, large.login, large.everything)
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        wait_until(lambda: '"outcome":"client_gone"' in impatient.log.read_text(), "cutting the client off")
        assert is_idle(impatient)
        tail = b""
        with suppress(ConnectionError):
            while more := client.recv(2**20):
                tail = tail[-100:] + more
        assert not tail.endswith(b"0\r\n\r\n")
        client.close()
        assert get(impatient, large.login, f"/api/call/{large.call(7)['session_id']}").status_code == 200


def test_clients_that_hang_up_in_the_middle_of_100_megabytes_end_the_reading_and_give_the_memory_back(server, large):
    wait_until(lambda: value(server, "callhouse_requests_in_flight") <= 1 + DRIPPING, "the readers before to be gone")

    def reads():
        return value(server, "callhouse_store_seconds_count", operation="read")

    before, rng = reads(), random.Random(1)
    sizes = [rng.randrange(1, 8) for _ in range(24)]
    memory = Memory(worker(server))
    for megabytes in sizes:
        with raw_get(server, large.login, large.everything) as client:
            left = megabytes * 1_000_000
            while left > 0:
                left -= len(client.recv(left))
    wait_until(lambda: value(server, "callhouse_requests_in_flight") <= 1 + DRIPPING, "the clients to be gone")
    wait_until_still(worker(server))
    made = reads() - before
    # Each read gives a quarter of a megabyte; whole, the answers would have taken 24 times 400 of them.
    assert made < 24 * 100
    assert memory.grown() < 60 * MEGABYTE
    assert memory.kept() < 20 * MEGABYTE
    assert get(server, large.login, f"/api/calls/{large.now - 90_000}/{large.now}?limit=1").status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_bomb_is_refused_and_takes_no_more_memory_than_the_limit(server, large, coding):
    pack = zstandard.compress if coding == "zstd" else gzip.compress
    bomb = 32 * pack(bytes(2**26))
    assert len(bomb) < 3_000_000
    memory = Memory(worker(server))
    for _ in range(3):
        answer = server.client.post(
            "/ingest/calls", content=bomb, headers={"Content-Encoding": coding}, auth=large.login.fuse
        )
        assert answer.status_code == 413
        assert "after decompression" in answer.json()["error"]
    assert memory.grown() * 1024 < 2.5 * IngestLimits().max_body
    assert json.loads(server.client.get("/healthz").text) == {"status": "ok"}


def test_who_sends_a_byte_a_second_is_cut_off_and_told_so_where_there_is_somebody_to_tell(server, large, drips):
    assert get(server, large.login, f"/api/calls/{large.now - 90_000}/{large.now}?limit=1").status_code == 200
    wait_until(lambda: len(drips.answers) == DRIPPING, "cutting off all that drip")
    # Those whose headers were whole get an answer.
    assert drips.answers.count(b"HTTP/1.1 400 Bad Request") >= DRIPPING // 2
    assert {*drips.answers} <= {b"HTTP/1.1 400 Bad Request", b"HTTP/1.1 408 Request Timeout", b""}
    wait_until(lambda: is_idle(server), "being idle")
