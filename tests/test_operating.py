"""What an operator relies on: probes, metrics, the request log, limits, and memory that an answer does not fill."""

import asyncio
import base64
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from math import isnan
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest

import stores
from callhouse.app import create_app
from callhouse.settings import Settings, StoreSettings
from callhouse.store import LEAST_FREE
from callhouse.store.sqlite import FILE_NAME
from serving import SECONDS, Server, callhouse, get, send, wait_until
from watching import MEGABYTE, Memory, is_idle, metrics, raw_get, value, wait_until_still, worker


@asynccontextmanager
async def started(app):
    """*app*, told to start and to stop as a server tells it, but in this process."""
    told, says = asyncio.Queue(), asyncio.Queue()
    running = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, told.get, says.put))
    for step in ("startup", "shutdown"):
        told.put_nowait({"type": f"lifespan.{step}"})
        assert await says.get() == {"type": f"lifespan.{step}.complete"}
        if step == "startup":
            yield
    await running


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A server with 10,000 calls and their logs, and the account whose they are."""
    with Server(tmp_path_factory.mktemp("filled") / "data", "retention.details=forever") as server:
        login = server.account()
        callhouse("generate", "--calls", 10_000, "--account", login.id, data=server.data)
        yield server, login


def all_logs(limit):
    return f"/api/all_logs/0/{int(time.time())}?limit={limit}"


class TestProbes:
    def test_a_server_that_runs_is_alive_and_ready(self, server):
        for path in ("/healthz", "/readyz"):
            answer = server.client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    @pytest.mark.parametrize(
        "path", ["/healthz", "/readyz", "/metrics", "/docs", "/docs/static/docs.js", "/openapi.json", "/nowhere"]
    )
    def test_head_answers_as_get_without_a_body(self, server, path):
        whole, head = server.client.get(path), server.client.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b"")
        varying = {"date"} if path != "/metrics" else {"date", "content-length"}
        assert {k: v for k, v in head.headers.items() if k not in varying} == {
            k: v for k, v in whole.headers.items() if k not in varying
        }
        assert (path == "/nowhere") == (head.status_code == 404)
        assert int(head.headers["content-length"]) > 0
        # The connection is in order after it.
        assert server.client.get("/healthz").status_code == 200

    def test_a_store_that_cannot_be_written_is_not_ready_while_reading_goes_on(self, own_server):
        server = own_server()
        login = server.account()
        with stores.no_writing(server.data):
            answer = server.client.get("/readyz")
            assert (answer.status_code, answer.json()) == (503, {"status": "the store cannot be written"})
            assert server.client.get("/healthz").status_code == 200
            assert get(server, login, "/api/calls/1/2").json() == {"calls": [], "total_calls": 0}
            assert get(server, login, all_logs(10)).status_code == 200
        answer = wait_until(lambda: (a := server.client.get("/readyz")).status_code == 200 and a, "recovery")
        assert answer.json() == {"status": "ok"}
        assert send(server, login, [{"session_id": "s"}])["accepted"] == 1

    def test_a_record_that_waits_for_the_store_is_accepted_when_it_can_be_written_again(self, own_server):
        server = own_server()
        login = server.account()
        with ThreadPoolExecutor(1) as pool:
            with stores.no_writing(server.data):
                sent = pool.submit(send, server, login, [{"session_id": "s"}])
                wait_until(lambda: value(server, "callhouse_requests_in_flight") == 2, "sending")
                wait_until(lambda: value(server, "callhouse_ingest_queue_records") == 1, "waiting")
                assert not sent.done()
            assert sent.result(SECONDS) == {"accepted": 1, "rejected": []}
        wait_until(lambda: value(server, "callhouse_ingest_queue_records") == 0, "an empty queue")

    @pytest.mark.sqlite_only
    def test_a_disk_that_is_nearly_full_is_not_ready_though_a_little_can_be_written(self, tmp_path, monkeypatch):
        free = LEAST_FREE

        def disk_usage(path):
            assert path == tmp_path
            return SimpleNamespace(free=free)

        # No disk can be filled here, so what the system says of it is made up.
        monkeypatch.setattr(shutil, "disk_usage", disk_usage)

        async def work():
            nonlocal free
            app = create_app(Settings(store=StoreSettings(data=str(tmp_path))))
            async with (
                started(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
            ):
                assert (await client.get("/readyz")).status_code == 200
                free -= 1
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.json()) == (503, {"status": "the disk is nearly full"})

        asyncio.run(work())

    @pytest.mark.sqlite_only
    def test_a_store_whose_file_is_spoilt_is_not_ready(self, own_server):
        server = own_server()
        server.account()
        server.stop()
        server.start()
        file = server.data / FILE_NAME
        size = file.stat().st_size
        with file.open("r+b") as store:
            store.write(bytes(size))
        answer = server.client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "the store cannot be written"})
        assert server.client.get("/healthz").status_code == 200


class TestMetrics:
    def test_requests_are_counted_by_method_route_and_status_and_timed(self, own_server):
        server = own_server()
        login = server.account()
        for path in ("/api/calls/1/2", "/api/calls/3/4", "/api/calls/2/1", "/api/call/none"):
            get(server, login, path)
        server.client.get("/api/calls/1/2")
        server.client.delete("/api/calls/1/2", auth=login.fuse)
        server.client.get("/one/of/many/unknown/paths")
        server.client.get("/another/unknown/path")
        found = metrics(server)

        def count(method, route, status):
            labels = (("method", method), ("route", route), ("status", str(status)))
            return found.get(("callhouse_requests_total", *labels), 0)

        calls = "/api/calls/{start}/{end}"
        assert count("GET", calls, 200) == 2
        assert count("GET", calls, 400) == 1
        assert count("GET", calls, 401) == 1
        assert count("GET", "/api/call/{session_id}", 404) == 1
        # What a scanner asks for must not grow the metrics.
        assert not any("unknown" in str(key) for key in found)
        assert found["callhouse_authentication_failures_total",] == 1
        assert found["callhouse_request_seconds_count", ("route", calls)] >= 4
        assert 0 < found["callhouse_request_seconds_sum", ("route", calls)] < SECONDS
        assert found["callhouse_request_seconds_bucket", ("le", "+Inf"), ("route", calls)] >= 4

    def test_records_are_counted_by_what_became_of_them(self, own_server, now_seconds):
        server = own_server()
        login = server.account()
        call = {"session_id": "s", "start": now_seconds, "end": now_seconds + 1}
        send(server, login, [call, {"session_id": "t"}])
        send(server, login, [call])
        answer = server.client.post("/ingest/calls", json=[{"session_id": ""}, {"nothing": 1}], auth=login.fuse)
        assert answer.json()["accepted"] == 0
        event = {"timestamp": now_seconds, "class": "info", "line": "x", "data": {}}
        send(server, login, [{"session_id": "t", "events": [event]}], "events")
        old = {**event, "timestamp": now_seconds - 30 * 86_400}
        answer = server.client.post("/ingest/calls", json={"session_id": "u", "events": [old]}, auth=login.fuse)
        assert answer.json() == {"accepted": 1, "rejected": [], "expired_events": 1}

        found = metrics(server)
        records = "callhouse_ingest_records_total"
        assert found[records, ("outcome", "accepted"), ("source", "calls")] == 3
        assert found[records, ("outcome", "repeated"), ("source", "calls")] == 1
        assert found[records, ("outcome", "rejected"), ("source", "calls")] == 2
        assert found[records, ("outcome", "accepted"), ("source", "events")] == 1
        assert found["callhouse_ingest_expired_events_total",] == 1
        # Five bodies, one after the other, were five commits.
        assert found["callhouse_store_batch_records_count",] == 5
        assert found["callhouse_store_batch_records_sum",] == 7
        assert found["callhouse_store_batch_records_bucket", ("le", "1.0")] == 3
        assert found["callhouse_store_batch_records_bucket", ("le", "2.0")] == 5
        assert found["callhouse_ingest_queue_records",] == 0
        assert {key[1][1]: n for key, n in found.items() if key[0] == "callhouse_store_rows"} == {
            "calls": 1, "logs": 0, "call_errors": 0, "waiting_events": 1, "fragments": 0, "quarantine": 2,
        }  # fmt: skip

    def test_the_store_tells_its_size_its_times_and_how_far_back_it_reaches(self, filled):
        server, login = filled
        get(server, login, all_logs(1000))
        get(server, login, "/api/call/none")
        found = metrics(server)
        for operation in ("quick", "read"):
            assert found["callhouse_store_seconds_count", ("operation", operation)] > 0
            assert found["callhouse_store_seconds_sum", ("operation", operation)] > 0
        assert found["callhouse_store_rows", ("table", "calls")] == 10_000
        assert 9_000 < found["callhouse_store_rows", ("table", "logs")] <= 10_000
        if stores.databases is None:
            size = sum(file.stat().st_size for file in server.data.iterdir() if not file.name.endswith("-shm"))
            assert found["callhouse_store_bytes",] == size
            assert abs(found["callhouse_store_free_bytes",] - shutil.disk_usage(server.data).free) < 2**30
        else:
            assert found["callhouse_store_bytes",] > 2**20
            # Only the database's server knows.
            assert isnan(found["callhouse_store_free_bytes",])
        oldest = get(server, login, f"/api/calls/0/{int(time.time())}?limit=1&offset=9999").json()["calls"][0]
        horizon = "callhouse_retention_horizon_timestamp_seconds"
        # The calls are counted by the hour.
        assert found[horizon, ("kind", "calls")] == oldest["start"] // 3600 * 3600
        assert oldest["start"] <= found[horizon, ("kind", "logs")] <= oldest["start"] + 86_400

    def test_what_is_written_is_timed(self, own_server):
        server = own_server()
        send(server, server.account(), [{"session_id": "s"}])
        assert value(server, "callhouse_store_seconds_count", operation="write") >= 1


class TestLog:
    def lines(self, server):
        return [json.loads(line) for line in server.log.read_text().splitlines()]

    def requests(self, server):
        return [line for line in self.lines(server) if line["event"] == "http.request"]

    def test_each_request_is_one_json_line_without_any_secret(self, own_server, now_seconds):
        server = own_server()
        login = server.account("ops@example.com", "--login", "ops")
        wrong = "a-wrong-secret-0123456789"
        basic = base64.b64encode(":".join(login.fuse).encode()).decode()
        asked = [
            ("GET", "/api/calls/1/2", login.fuse, 200),
            ("GET", "/api/calls/2/1", login.fuse, 400),
            ("HEAD", "/api/calls/1/2", login.fuse, 200),
            ("GET", f"/api/call/{login.developer_key[:4]}", login.fuse, 404),
            ("GET", "/api/calls/1/2", (login.email, wrong), 401),
            ("GET", "/api/calls/1/2", None, 401),
            ("POST", "/ingest/calls", (login.login, login.password), 400),
            ("POST", "/ingest/calls", (login.auth_id, login.auth_token), 400),
            ("DELETE", "/api/calls/1/2", login.fuse, 405),
            ("GET", "/nowhere", None, 404),
            ("GET", "/healthz", None, 200),
        ]
        for method, path, credentials, status in asked:
            answer = server.client.request(method, path, params={"secret": login.auth_token}, auth=credentials)
            assert answer.status_code == status, (method, path)
        record = {"session_id": "s", "start": "x", "developer_key": login.developer_key}
        server.client.post("/ingest/calls", json=record, auth=login.fuse)
        assert server.client.get("/api/calls/1/2", headers={"Authorization": f"Bearer {basic}"}).status_code == 401
        assert server.client.get("/api/calls/1/2", headers={"Authentication": f"Basic {basic}"}).status_code == 200

        wait_until(lambda: len(self.requests(server)) >= len(asked) + 3, "the last line")
        lines = self.requests(server)
        assert [(line["method"], line["path"], line["status"]) for line in lines] == [
            *((method, path, status) for method, path, _, status in asked),
            ("POST", "/ingest/calls", 200),
            ("GET", "/api/calls/1/2", 401),
            ("GET", "/api/calls/1/2", 200),
        ]
        for line in lines:
            assert line["client"] == "127.0.0.1"
            assert line["ms"] >= 0
            assert line["level"] == "info"
            assert line["timestamp"].endswith("Z")
        accounts = [line["account"] for line in lines[:4]]
        assert accounts == [login.id] * 4
        assert lines[4]["account"] is None
        written = server.log.read_text()
        for secret in (login.developer_key, login.password, login.auth_token, wrong, basic, "Basic"):
            assert secret not in written

    def test_a_failure_is_logged_with_its_cause_which_the_answer_does_not_tell(self, own_server):
        server = own_server()
        login = server.account()
        stores.sql(server.data, "ALTER TABLE calls RENAME TO elsewhere")
        answer = get(server, login, "/api/calls/1/1000000")
        stores.sql(server.data, "ALTER TABLE elsewhere RENAME TO calls")
        assert (answer.status_code, answer.json()) == (500, {"error": "Database error."})
        [failure] = wait_until(lambda: [x for x in self.lines(server) if x["event"] == "request.failed"], "logging")
        assert failure["level"] == "error"
        assert re.search("no such table|does not exist", failure["exception"])
        assert get(server, login, "/api/calls/1/1000000").status_code == 200

    def test_the_level_warning_logs_no_requests(self, own_server):
        server = own_server("log.level=warning")
        get(server, server.account(), "/api/calls/1/2")
        assert server.stop() == 0
        assert server.log.read_text() == ""


class TestLimits:
    def test_one_request_too_many_gets_429_with_retry_after_and_nothing_is_kept(self, own_server):
        server = own_server("server.max_in_flight=1")
        login = server.account()

        def send_until_taken():
            # The request that looks whether the server is busy may be the one too many for this one.
            url = f"{server.url}/ingest/calls"
            while (
                sent := httpx.post(url, json={"session_id": "held"}, auth=login.fuse, timeout=SECONDS)
            ).status_code == 429:
                pass
            return sent

        with ThreadPoolExecutor(1) as pool:
            with stores.no_writing(server.data):
                held = pool.submit(send_until_taken)
                answer = wait_until(
                    lambda: (a := get(server, login, "/api/calls/1/2")).status_code == 429 and a, "being busy"
                )
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.headers["content-type"] == "application/json"
                assert list(answer.json()) == ["error"]
                answer = get(server, login, "/api/calls/1/2", headers={"Accept": "application/xml"})
                assert answer.status_code == 429
                assert ET.fromstring(answer.text).find("error").text
                answer = server.client.post("/ingest/calls", json={"session_id": "refused"}, auth=login.fuse)
                assert answer.status_code == 429
                assert int(answer.headers["retry-after"]) >= 1
                # An operator must be able to look at a server that has much to do.
                assert server.client.get("/healthz").status_code == 200
                assert value(server, "callhouse_requests_in_flight") == 2
            assert held.result(SECONDS).status_code == 200
        wait_until(lambda: get(server, login, "/api/calls/1/2").status_code == 200, "being idle")
        assert stores.sql(server.data, "SELECT session_id FROM calls") == [("held",)]


class TestMemory:
    @pytest.mark.parametrize("accept", ["application/json", "application/xml"])
    def test_a_long_answer_takes_no_more_memory_than_a_short_one(self, filled, accept):
        server, login = filled
        sizes, grown = {}, {}
        # The first round warms up what stays: the modules' own, and the pages of the file that are mapped.
        for limit in (10_000, 1_000, 10_000):
            memory = Memory(worker(server))
            with server.client.stream("GET", all_logs(limit), auth=login.fuse, headers={"Accept": accept}) as answer:
                assert answer.status_code == 200
                sizes[limit] = sum(map(len, answer.iter_raw()))
            grown[limit] = memory.grown()
        assert sizes[10_000] > 9 * sizes[1_000] > 20_000_000
        assert grown[10_000] < grown[1_000] + 20 * MEGABYTE

    def test_a_reader_that_stops_reading_fills_no_memory(self, filled):
        server, login = filled
        get(server, login, all_logs(1_000))
        memory = Memory(worker(server))
        with raw_get(server, login, all_logs(10_000)) as connection:
            first = connection.recv(4096)
            assert first.startswith(b"HTTP/1.1 200")
            wait_until_still(worker(server))
            assert memory.grown() < 20 * MEGABYTE
            # Others are served meanwhile.
            assert get(server, login, "/api/calls/1/2").status_code == 200
            assert not is_idle(server)
            # And it gets the rest when it reads on.
            tail = first
            while not tail.endswith(b'"total_calls":10000}\r\n0\r\n\r\n'):
                more = connection.recv(2**20)
                assert more, "the answer ended early"
                tail = tail[-100:] + more
        assert memory.grown() < 20 * MEGABYTE
        wait_until(lambda: is_idle(server), "being idle")

    def test_each_reader_that_stops_reading_takes_little_memory(self, filled):
        server, login = filled
        get(server, login, all_logs(10_000))
        memory = Memory(worker(server))
        connections = [raw_get(server, login, all_logs(10_000)) for _ in range(10)]
        try:
            for connection in connections:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            wait_until_still(worker(server))
            # An answer is 26 MB; what is held of each is a few chunks on their way.
            assert memory.grown() < 10 * 10 * MEGABYTE
        finally:
            for connection in connections:
                connection.close()
        wait_until(lambda: is_idle(server), "being idle")


class TestHangUp:
    def test_a_client_that_hangs_up_during_a_download_leaves_nothing_under_way(self, filled):
        server, login = filled
        connections = [raw_get(server, login, all_logs(10_000)) for _ in range(5)]
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        wait_until(lambda: value(server, "callhouse_requests_in_flight") == 6, "five downloads")
        wait_until_still(worker(server))
        for connection in connections:
            connection.close()
        wait_until(lambda: is_idle(server), "being idle")
        assert get(server, login, all_logs(1_000)).status_code == 200

    def test_a_client_that_hangs_up_during_an_upload_leaves_nothing_under_way(self, filled):
        server, login = filled
        address = urlsplit(server.url)
        credentials = base64.b64encode(":".join(login.fuse).encode()).decode()
        connection = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
        connection.sendall(
            f"POST /ingest/calls HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {credentials}\r\n"
            'Content-Length: 100000\r\n\r\n{"session_id": "never", "src": "'.encode()
        )
        wait_until(lambda: value(server, "callhouse_requests_in_flight") == 2, "the upload")
        connection.close()
        wait_until(lambda: is_idle(server), "being idle")

    def test_a_sender_that_hangs_up_before_the_answer_harms_nobody(self, own_server):
        server = own_server()
        login = server.account()
        gone = threading.Event()

        def impatient():
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/ingest/calls", json={"session_id": "gone"}, auth=login.fuse, timeout=1)
            gone.set()

        with stores.no_writing(server.data):
            thread = threading.Thread(target=impatient)
            thread.start()
            assert gone.wait(SECONDS)
            thread.join()
        assert send(server, login, [{"session_id": "next"}])["accepted"] == 1
        # It may have been kept: it was never told. Sending it again makes that certain, and changes nothing else.
        assert send(server, login, [{"session_id": "gone"}])["accepted"] == 1
        wait_until(lambda: is_idle(server), "being idle")
        assert sorted(stores.sql(server.data, "SELECT session_id FROM calls")) == [("gone",), ("next",)]


@pytest.mark.parametrize("form", ["console", "json"])
def test_the_log_of_an_internal_error_shows_no_values(form):
    program = f"""
from callhouse.observability import configure_logging, log
configure_logging("{form}", "info")
def ask(secret):
    raise RuntimeError("it broke")
try:
    ask("un" + "said")
except RuntimeError as error:
    log.error("mirror.failed", exc_info=error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "it broke" in done.stderr
    assert "unsaid" not in done.stderr
