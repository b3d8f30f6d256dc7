"""A server whose file lost pages answers all that is not hit, fails clearly where it is, and does not fall."""

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import httpx
import pytest

from callhouse.store import backup as backups
from callhouse.store.check import check_store
from callhouse.store.sqlite import FILE_NAME
from damage import leaves, spoil
from serving import Server, callhouse, create_account, get, send, wait_until

pytestmark = pytest.mark.sqlite_only

CALLS = 400
KEEP = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever")
SECONDS = 30


def quiet(*_):
    """A progress that nobody watches."""


def call(number, start):
    events = [{"timestamp": start + at, "class": "info", "line": f"step {number} {at}", "data": {}} for at in range(4)]
    return {"session_id": f"s{number}", "start": start, "end": start + 60, "src": "1", "dest": "2", "events": events,
            "extra": "x" * 200}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of two accounts, its logins, and a backup of it."""
    directory = tmp_path_factory.mktemp("whole")
    data, now = directory / "data", int(time.time())
    logins = [create_account(data, f"{name}@example.com", "--login", name) for name in "ab"]
    with Server(data, *KEEP) as server:
        for login in logins:
            send(server, login, [call(number, now - 80_000 + number * 100) for number in range(CALLS)])
    callhouse("backup", directory / "backup.db", data=data)
    return data, logins, directory / "backup.db"


@pytest.fixture
def copy(whole, tmp_path):
    data, logins, _ = whole
    shutil.copytree(data, tmp_path / "data")
    return tmp_path / "data", *logins


def failures(server):
    """What the log says of the requests that failed: account, path and cause."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [(x["account"], x["path"], x["exception"]) for x in lines if x["event"] == "request.failed"]


def worker(server):
    return Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()


def answer(server, auth, path):
    """The status and body; None instead of a body that broke off, which a client cannot take for a whole one."""
    try:
        got = server.client.get(path, auth=auth)
    except httpx.RemoteProtocolError:
        return 200, None
    return got.status_code, got.text


def questions(login):
    """One of every kind, by path, with its credentials and the shape of its failure."""
    failed = {"error": "Database error."}
    dev_failed = {"status": "failure", "error": "Database error."}
    yield from ((f"/api/call/s{number}", login.fuse, failed) for number in range(CALLS))
    for offset in range(0, CALLS, 20):
        yield f"/api/calls/1/9999999999?limit=20&offset={offset}", login.fuse, failed
        yield f"/api/all_logs/1/9999999999?limit=20&offset={offset}", login.fuse, failed
        yield f"/ws/calls/logs/1/9999999999?limit=20&offset={offset}", login.dev, dev_failed
        yield f"/ws/calls/sessions/1/9999999999?limit=20&offset={offset}", login.dev, dev_failed
    yield "/ws/calls/errors/1/9999999999", login.dev, dev_failed


@pytest.fixture(scope="module")
def right(whole):
    """The answer to every question, of a store that is whole."""
    data, logins, _ = whole
    with Server(data, *KEEP) as server:
        return {(path, auth): answer(server, auth, path) for login in logins for path, auth, _ in questions(login)}


@pytest.mark.parametrize(
    ("name", "part", "least", "most"),
    # Not a page where the next call of an account would stand.
    [("logs", 2, 5, 100), ("calls", 2, 5, 150), ("calls_by_start", 4, 1, 100), ("calls_by_session", 2, 20, 300)],
)
def test_a_lost_page_fails_what_it_held_and_nothing_else_and_a_restored_backup_mends_it(
    copy, whole, right, tmp_path, name, part, least, most
):
    data, *logins = copy
    pages = leaves(data, name)
    spoil(data, pages[len(pages) // part])
    with Server(data, *KEEP) as server:
        before = worker(server)
        hit = set()
        for login in logins:
            for path, auth, shape in questions(login):
                status, body = answer(server, auth, path)
                if (status, body) == right[path, auth]:
                    continue
                hit.add((login.id, path.partition("?")[0]))
                # A list that has begun breaks off; it is never a shorter list.
                assert body is None or (status, json.loads(body)) == (500, shape), path
        assert least <= len(hit) <= most
        assert {(account, path) for account, path, _ in failures(server)} == hit
        assert all("`callhouse check` tells" in cause for _, _, cause in failures(server))
        # Others go on sending, and the process is the same.
        new = {"session_id": "new", "start": int(time.time()) - 5, "end": int(time.time())}
        assert send(server, logins[0], [new])["accepted"] == 1
        assert get(server, logins[0], f"/api/calls/{new['start']}/{new['end'] + 1}").json()["total_calls"] == 1
        assert server.client.get("/healthz").status_code == 200
        assert worker(server) == before
    assert check_store(data, quiet).findings

    backups.restore(whole[2], tmp_path / "restored", quiet)
    assert check_store(tmp_path / "restored", quiet).findings == []
    with Server(tmp_path / "restored", *KEEP) as server:
        assert right == {
            (path, auth): answer(server, auth, path) for login in logins for path, auth, _ in questions(login)
        }


def test_a_file_that_is_cut_short_under_a_server_fails_requests_and_not_the_process(copy, whole, tmp_path):
    data, a, _ = copy
    with Server(data, *KEEP) as server, ThreadPoolExecutor(8) as pool:
        before = worker(server)
        new = {"session_id": "new", "start": int(time.time()) - 5, "end": int(time.time())}
        # What is in the write-ahead log says how long the file should be, and every thread has it open by now.
        send(server, a, [new])
        everything = "/api/all_logs/1/9999999999?limit=400"
        first = list(pool.map(lambda _: answer(server, a.fuse, everything)[0], range(32)))
        assert first == [200] * 32
        size = (data / FILE_NAME).stat().st_size
        with (data / FILE_NAME).open("r+b") as file:
            file.truncate(size // 4)
        statuses = {answer(server, auth, path)[0] for path, auth, _ in [*questions(a)][::9]}
        assert 500 in statuses <= {200, 500}
        assert {status for status, _ in pool.map(lambda _: answer(server, a.fuse, everything), range(32))} <= {200, 500}
        assert server.client.get("/healthz").status_code == 200
        assert worker(server) == before
    assert check_store(data, quiet).findings
    backups.restore(whole[2], tmp_path / "restored", quiet)
    assert check_store(tmp_path / "restored", quiet).findings == []


def test_a_sender_whose_call_lies_on_a_lost_page_costs_no_other_sender_of_the_same_batch(copy):
    data, a, b = copy
    spoil(data, leaves(data, "calls")[1])
    with Server(data, *KEEP) as server, ThreadPoolExecutor(8) as pool:
        now = int(time.time())

        def resend(number):
            body = {**call(number, now - 80_000 + number * 100), "end": now}
            return server.client.post("/ingest/calls", json=body, auth=a.fuse)

        def send_new(number):
            return server.client.post("/ingest/calls", json={"session_id": f"new{number}"}, auth=b.fuse)

        hit = [pool.submit(resend, number) for number in range(100)]
        others = [pool.submit(send_new, number) for number in range(100)]
        statuses = {future.result(SECONDS).status_code for future in hit}
        assert statuses == {200, 503}
        assert {future.result(SECONDS).status_code for future in others} == {200}


def test_what_has_expired_is_removed_for_every_account_but_the_one_that_is_hit(copy):
    data, a, b = copy
    spoil(data, leaves(data, "logs")[0])
    with Server(data, "retention.details=1h") as server:
        db = apsw.Connection(str(data / FILE_NAME))
        deadline = time.monotonic() + SECONDS
        while left := db.execute("SELECT count(*) FROM logs WHERE account_id = ?", (b.id,)).get:
            assert time.monotonic() < deadline, f"{left} logs of the account that is whole are left"
            time.sleep(0.05)
        db.close()
        told = f'"account":{a.id},"error":"database disk image is malformed'
        wait_until(lambda: told in server.log.read_text(), "a line with the cause")


def test_a_server_does_not_start_on_a_file_without_its_header_and_says_what_to_do(copy):
    data, *_ = copy
    with (data / FILE_NAME).open("r+b") as file:
        file.write(b"\xff" * 100)
    done = callhouse("serve", "--port", "0", data=data, check=False)
    assert done.returncode == 1
    assert "file is not a database" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_backup_is_made_of_a_damaged_store_and_the_one_before_stays(copy, whole, tmp_path):
    data, *_ = copy
    shutil.copy(whole[2], tmp_path / "backup.db")
    before = (tmp_path / "backup.db").read_bytes()
    spoil(data, leaves(data, "logs")[0])
    done = callhouse("backup", tmp_path / "backup.db", "--force", data=data, check=False)
    assert done.returncode == 1
    assert "There is no backup, as the store is damaged: logs: " in done.stderr
    assert "callhouse check" in done.stderr
    assert (tmp_path / "backup.db").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "backup" in file.name] == ["backup.db"]
