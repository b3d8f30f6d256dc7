"""What goes wrong around a server: a full disk, one that cannot be written, thousands of clients, bytes of any kind."""

import base64
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

import stores
from callhouse.store.check import check_store
from serving import COMMAND, Server, callhouse, create_account, get, ndjson, send, wait_until
from watching import worker

SECONDS = 60
MEGABYTE = 1_000_000


@contextmanager
def small_disk(place, megabytes):
    """A file system of its own at *place*."""
    place.mkdir()
    options = f"size={megabytes}m"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def call(number, now):
    """A call with a log that no compression makes small."""
    line = secrets.token_hex(50_000)
    event = {"timestamp": now - 5, "class": "info", "line": line, "data": {}}
    return {"session_id": f"s{number}", "start": now - 60, "end": now - 1, "events": [event]}


def sessions(server, login, now):
    body = get(server, login, f"/api/calls/{now - 3600}/{now}?limit=10000").json()
    assert body["total_calls"] == len(body["calls"])
    return [each["session_id"] for each in body["calls"]]


class TestDisk:
    @pytest.mark.sqlite_only
    def test_a_full_disk_refuses_senders_serves_readers_and_takes_calls_again_when_there_is_room(
        self, tmp_path, now_seconds
    ):
        with small_disk(tmp_path / "disk", 24) as disk:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(12 * MEGABYTE))
            with Server(disk / "data", "log.level=warning") as server:
                login = server.account()
                kept, refused = [], None
                for number in range(400):
                    record = call(number, now_seconds)
                    answer = server.client.post("/ingest/calls", json=record, auth=login.fuse)
                    if answer.status_code != 200:
                        refused = record
                        break
                    kept.append(record["session_id"])
                assert len(kept) > 10
                assert refused is not None
                assert answer.status_code == 503
                assert list(answer.json()) == ["error"]
                assert int(answer.headers["retry-after"]) > 0
                # All that was kept is read meanwhile, also the logs.
                assert sorted(sessions(server, login, now_seconds)) == sorted(kept)
                for session in kept:
                    assert get(server, login, f"/api/call/{session}").status_code == 200
                assert server.client.get("/readyz").status_code == 503
                assert server.client.get("/healthz").status_code == 200
                ballast.unlink()
                assert send(server, login, [refused])["accepted"] == 1
                assert send(server, login, [refused])["accepted"] == 1
                kept.append(refused["session_id"])
                assert sorted(sessions(server, login, now_seconds)) == sorted(kept)
                assert check_store(stores.location(server.data), lambda *_: None).findings == []

    @pytest.mark.sqlite_only
    def test_a_disk_that_fails_to_write_refuses_senders_until_it_writes_again(self, own_server, now_seconds):
        server = own_server("log.level=warning")
        login = server.account()
        send(server, login, [call(1, now_seconds)])
        before = worker(server)
        process = int(before.name)
        limits = resource.prlimit(process, resource.RLIMIT_FSIZE)
        written = max(file.stat().st_size for file in server.data.iterdir())
        # As if every write from there on were an error of the disk.
        resource.prlimit(process, resource.RLIMIT_FSIZE, (written + 8192, limits[1]))
        answer = server.client.post("/ingest/calls", json=call(2, now_seconds), auth=login.fuse)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert sessions(server, login, now_seconds) == ["s1"]
        assert get(server, login, "/api/call/s1").status_code == 200
        resource.prlimit(process, resource.RLIMIT_FSIZE, limits)
        assert send(server, login, [call(2, now_seconds)])["accepted"] == 1
        assert sorted(sessions(server, login, now_seconds)) == ["s1", "s2"]
        assert worker(server) == before
        assert check_store(stores.location(server.data), lambda *_: None).findings == []

    @pytest.mark.sqlite_only
    def test_commands_on_a_full_disk_say_so_and_change_nothing(self, tmp_path, now_seconds):
        with small_disk(tmp_path / "disk", 8) as disk:
            login = create_account(disk / "data")
            records = tmp_path / "calls.ndjson"
            records.write_bytes(ndjson([call(number, now_seconds) for number in range(20)]))
            ballast = disk / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            for command in (
                ("import", "native", records, "--account", login.id),
                ("accounts", "create", "--email", "other@example.com"),
                ("serve", "--port", "0"),
            ):
                done = callhouse(*command, data=disk / "data", check=False)
                assert done.returncode == 1, command
                assert "full" in done.stderr, done.stderr
                assert "Traceback" not in done.stderr
            ballast.unlink()
            done = callhouse("import", "native", records, "--account", login.id, "--json", data=disk / "data")
            assert json.loads(done.stdout)["accepted"] == 20
            assert check_store(stores.location(disk / "data"), lambda *_: None).findings == []

    @pytest.mark.sqlite_only
    def test_a_backup_to_a_full_disk_fails_and_leaves_nothing(self, tmp_path, now_seconds):
        with small_disk(tmp_path / "disk", 1) as disk, Server(tmp_path / "data") as server:
            login = server.account()
            send(server, login, [call(number, now_seconds) for number in range(30)])
            done = callhouse("backup", disk / "a.db", data=server.data, check=False)
            assert done.returncode == 1
            assert "cannot be written" in done.stderr
            assert list(disk.iterdir()) == []
            callhouse("backup", tmp_path / "a.db", data=server.data)

    @pytest.mark.sqlite_only
    def test_a_disk_that_cannot_be_written_is_named_at_the_start_and_can_be_checked(self, tmp_path):
        with small_disk(tmp_path / "disk", 8) as disk:
            create_account(disk / "data")
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            done = callhouse("serve", "--port", "0", data=disk / "data", check=False)
            assert done.returncode == 1
            assert "Traceback" not in done.stderr
            assert str(disk / "data") in done.stderr
            assert callhouse("check", data=disk / "data").stdout.startswith("Nothing is wrong")


@contextmanager
def connections(server, number):
    address = urlsplit(server.url)
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=SECONDS))
            for _ in range(number)
        ]


@contextmanager
def open_files(limit):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class TestClients:
    def test_two_thousand_connections_that_say_nothing_keep_nobody_waiting(self, own_server, now_seconds):
        # The usual limit of a shell and of systemd, which the server raises for itself.
        with open_files(1024):
            server = own_server()
        login = server.account()
        with open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1]), connections(server, 2_000):
            for number in range(20):
                record = {"session_id": f"s{number}", "start": now_seconds - 60, "end": now_seconds - 1}
                assert send(server, login, [record])["accepted"] == 1
            assert len(sessions(server, login, now_seconds)) == 20
        assert server.stop() == 0

    def test_when_no_file_can_be_opened_any_more_it_goes_on_once_the_clients_have_gone(self, tmp_path, now_seconds):
        with Server(tmp_path / "data", command=["prlimit", "--nofile=128:128", *COMMAND]) as server:
            login = server.account()
            before = worker(server)
            with connections(server, 200):
                wait_until(lambda: len(list((before / "fd").iterdir())) == 128, "using up the files")
            # The first long read opens the file anew.
            send(server, login, [{"session_id": "s", "start": now_seconds - 60, "end": now_seconds - 1}])
            assert sessions(server, login, now_seconds) == ["s"]
            assert worker(server) == before

    def test_a_process_that_dies_by_itself_is_started_again_and_has_lost_nothing(self, own_server, now_seconds):
        server = own_server()
        login = server.account()
        send(server, login, [call(number, now_seconds) for number in range(20)])
        before = worker(server)
        os.kill(int(before.name), signal.SIGKILL)

        def healthy():
            with suppress(httpx.TransportError):
                return httpx.get(f"{server.url}/healthz", timeout=SECONDS).status_code == 200

        wait_until(lambda: not before.exists() and healthy(), "starting again")
        assert len(sessions(server, login, now_seconds)) == 20
        assert send(server, login, [call(20, now_seconds)])["accepted"] == 1

    @pytest.mark.parametrize("size", [10_000, 60_000, 1_000_000])
    @pytest.mark.parametrize("where", ["path", "query", "header", "credentials"])
    def test_a_long_request_line_or_header_is_answered_or_refused_and_harms_nobody(self, server, size, where):
        login = server.account(f"{where}{size}@example.com")
        address = urlsplit(server.url)
        long = "x" * size
        basic = base64.b64encode(":".join(login.fuse).encode()).decode()
        path = {"path": f"/api/call/{long}", "query": f"/api/calls/1/2?number={long}"}.get(where, "/api/calls/1/2")
        headers = [f"Authorization: Basic {long if where == 'credentials' else basic}"]
        headers += [f"X-Long: {long}"] if where == "header" else []
        with socket.create_connection((address.hostname, address.port), timeout=SECONDS) as connection:
            try:
                connection.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
                status = connection.recv(4096).partition(b"\r\n")[0].split()[1:2]
            except ConnectionError:
                status = []
        # What is longer than granian's buffer is cut off.
        assert status in ([b"200"], [b"401"], [b"404"], [b"400"], [b"414"], [b"431"], []), status
        assert size > 60_000 or status, "refused without a word"
        assert get(server, login, "/api/calls/1/2").status_code == 200


class TestBytes:
    def test_bytes_of_any_kind_cost_no_other_record_and_nothing_is_kept_in_part(self, own_server, now_seconds):
        server = own_server()
        login = server.account()
        times = f'"start": {now_seconds - 60}, "end": {now_seconds - 1}'
        odd = {
            "nul in a text": b'{"session_id": "nul", "src": "a\\u0000b", %s}' % times.encode(),
            "raw nul": b'{"session_id": "rawnul\x00", %s}' % times.encode(),
            "lone surrogate": b'{"session_id": "surrogate", "src": "\\ud800", %s}' % times.encode(),
            "invalid utf-8": b'{"session_id": "bytes", "src": "\xff\xfe", %s}' % times.encode(),
            "a line of 10 MB": b'{"session_id": "long", "src": "%s", %s}' % (b"x" * 10 * MEGABYTE, times.encode()),
            "brackets": b'{"session_id": "deep", "x": %s%s}' % (b"[" * 100_000, b"]" * 100_000),
            "open brackets": b'{"session_id": "open", "x": ' + b"[" * 100_000,
        }
        good = b'{"session_id": "good %d", %s}'
        lines = []
        for number, record in enumerate(odd.values()):
            lines += [record, good % (number, times.encode())]
        answer = server.client.post(
            "/ingest/calls", content=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"},
            auth=login.fuse,
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        rejected = {rejection["index"] // 2: rejection["error"] for rejection in answer.json()["rejected"]}
        assert list(rejected) == list(range(len(odd)))
        assert all(rejected.values())
        listed = sessions(server, login, now_seconds)
        assert sorted(listed) == sorted(f"good {number}" for number in range(len(odd)))
        # Each is kept aside once, however often it is sent.
        for record in odd.values():
            server.client.post("/ingest/calls", content=record + b"\n" + good % (0, times.encode()),
                               headers={"Content-Type": "application/x-ndjson"}, auth=login.fuse)  # fmt: skip
        entries = json.loads(callhouse("quarantine", "list", "--json", data=server.data).stdout)
        assert len(entries) == len(rejected)
        assert check_store(stores.location(server.data), lambda *_: None).findings == []
