"""A backup that is made while the server takes in calls gives back every answer, and nothing in half."""

import asyncio
import json
import sqlite3
import stat
import threading
import time
from itertools import count
from pathlib import Path

import httpx
import pytest

from callhouse.model.account import Retention
from callhouse.store import backup as backups
from callhouse.store import open_store, sqlite_copy
from callhouse.store.check import check_store
from contract.test_one_model import records
from everything import answers
from serving import Server, callhouse, create_account, ndjson, send

pytestmark = pytest.mark.sqlite_only

SETTINGS = ("plivo.max_limit=100", "retention.details=forever")
EVENTS = 3
SECONDS = 60


def quiet(*_):
    """A progress that nobody watches."""


def during(number, now):
    """A call that a switch sends while the backup is being made."""
    event = {"class": "info", "line": f"word{number}", "data": {}}
    return {
        "session_id": f"during {number}",
        "start": now - 600 - number % 60,
        "end": now - 500,
        "events": [{**event, "timestamp": now - 550, "seq": seq} for seq in range(EVENTS)],
    }


class Switch(threading.Thread):
    """Sends calls one after the other until it is told to stop; *acknowledged* grows."""

    def __init__(self, server, login, now):
        super().__init__(name="switch")
        self._server, self._login, self._now = server, login, now
        self._stop_sending = threading.Event()
        self._progressed = threading.Condition()
        self.acknowledged = []
        self.failure = None

    def run(self):
        try:
            with httpx.Client(base_url=self._server.url, auth=self._login.fuse, timeout=SECONDS) as client:
                for first in count(0, 5):
                    calls = [during(number, self._now) for number in range(first, first + 5)]
                    answer = client.post("/ingest/calls", content=ndjson(calls))
                    assert answer.json() == {"accepted": 5, "rejected": []}
                    with self._progressed:
                        self.acknowledged += [call["session_id"] for call in calls]
                        self._progressed.notify_all()
                    if self._stop_sending.is_set():
                        return
        except Exception as failure:  # noqa: BLE001 — told by the test
            self.failure = failure

    def wait_for_more(self):
        with self._progressed:
            goal = len(self.acknowledged) + 20
            assert self._progressed.wait_for(lambda: len(self.acknowledged) >= goal, SECONDS), self.failure

    def stop(self):
        self._stop_sending.set()
        self.join(SECONDS)
        assert self.failure is None


def test_a_backup_made_during_ingest_gives_every_answer_back_and_holds_nothing_in_half(own_server, tmp_path):
    now = int(time.time())
    server = own_server(*SETTINGS)
    login = server.account("ops@example.com", "--login", "ops", "--timezone", "America/New_York")
    other = server.account("other@example.com")
    sent = records(now)
    send(server, login, sent)
    complete = sum("end" in call for call in sent)
    server.client.post("/ingest/calls", json=[{"session_id": ""}], auth=login.fuse)
    callhouse("generate", "--calls", 2_000, "--days", 2, "--account", other.id, data=server.data)

    switch = Switch(server, login, now)
    switch.start()
    try:
        switch.wait_for_more()
        before = list(switch.acknowledged)
        done = callhouse("backup", tmp_path / "backup.db", "--json", data=server.data)
        switch.wait_for_more()
    finally:
        switch.stop()
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "backup.db").stat().st_size

    restored = tmp_path / "restored"
    callhouse("restore", tmp_path / "backup.db", data=restored)
    assert [file.name for file in restored.iterdir()] == ["callhouse.db"]
    assert check_store(restored, quiet).findings == []
    with Server(restored, *SETTINGS) as copy:
        window = (now - 7300, now - 1000)
        assert answers(copy, login, *window, calls=complete) == answers(server, login, *window, calls=complete)
        everything = f"/api/all_logs/{now - 3 * 86400}/{now}?limit=10000"
        restored_bodies, bodies = (s.client.get(everything, auth=other.fuse).content for s in (copy, server))
        assert len(bodies) > 1_000_000
        assert restored_bodies == bodies
        found = copy.client.get(f"/api/all_logs/{now - 1000}/{now}?limit=10000", auth=login.fuse).json()
        sessions = {call["session_id"] for call in found["calls"]}
        assert found["total_calls"] == len(sessions) == len(found["calls"])
        assert set(before) <= sessions <= set(switch.acknowledged)
        assert all(len(call["detail"]) == EVENTS for call in found["calls"])
        # It is a store like any other: it takes calls, and what was sent before is a repeat.
        assert send(copy, login, [sent[0]])["accepted"] == 1
        assert answers(copy, login, now - 7300, now - 1000, calls=complete)
    refusals = [json.loads(callhouse("quarantine", "list", "--json", data=d).stdout) for d in (server.data, restored)]
    assert refusals[0] == refusals[1]
    assert len(refusals[0]) == 1


def test_whoever_writes_during_the_copy_neither_waits_for_it_nor_gets_into_it(tmp_path, monkeypatch):
    """Every step of the copy has a commit between it and the next one; each is on disk before the copy goes on."""
    monkeypatch.setattr(sqlite_copy, "STEP_PAGES", 4)
    login = create_account(tmp_path / "data")
    now = int(time.time())
    with Server(tmp_path / "data", *SETTINGS) as server:
        send(server, login, [during(number, now) for number in range(500)])
        numbers = count(500)
        steps = []

        def commit(step, done, total):
            if step == "Copying":
                steps.append((done, total))
                send(server, login, [during(next(numbers), now)])

        async def work():
            store = await open_store(server.data, retention=Retention(), clock=lambda: now * 1000)
            try:
                return await store.backup(tmp_path / "copy.db", commit, force=False)
            finally:
                await store.close()

        path = asyncio.run(work())
    assert len(steps) > 20
    assert [done for done, _ in steps] == sorted({done for done, _ in steps}), "it began again"
    assert len({total for _, total in steps}) == 1
    backups.restore(path, tmp_path / "restored", quiet)
    report = check_store(tmp_path / "restored", quiet)
    assert (report.findings, report.checked["calls"], report.checked["logs"]) == ([], 500, 500)
    assert check_store(tmp_path / "data", quiet).checked["calls"] == 500 + len(steps)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    data = tmp_path_factory.mktemp("kept") / "data"
    create_account(data)
    return data


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    directory = tmp_path_factory.mktemp("backup")
    create_account(directory / "data")
    callhouse("backup", directory / "backup.db", data=directory / "data")
    return directory / "backup.db"


def test_a_backup_that_is_given_up_leaves_nothing(data, tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_copy, "STEP_PAGES", 1)

    async def work():
        store = await open_store(data, retention=Retention(), clock=lambda: 1)
        loop, steps = asyncio.get_running_loop(), []

        def give_up(step, done, total):
            steps.append(step)
            loop.call_soon_threadsafe(task.cancel)

        task = asyncio.create_task(store.backup(tmp_path / "a.db", give_up, force=False))
        await asyncio.wait([task])
        await store.close()
        assert task.cancelled()
        assert set(steps) == {"Copying"}

    asyncio.run(work())
    assert list(tmp_path.iterdir()) == []


class TestFile:
    def test_only_its_owner_may_read_it_and_nothing_else_is_left(self, data, tmp_path):
        callhouse("backup", tmp_path / "a.db", data=data)
        assert [file.name for file in tmp_path.iterdir()] == ["a.db"]
        assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o600

    def test_in_a_directory_it_is_named_after_the_time(self, data, tmp_path):
        path = Path(json.loads(callhouse("backup", tmp_path, "--json", data=data).stdout)["path"])
        assert path.parent == tmp_path
        assert path.match("callhouse-????????T??????Z.db")

    def test_a_file_that_exists_is_overwritten_by_force_alone(self, data, tmp_path):
        target = tmp_path / "a.db"
        target.write_text("precious")
        done = callhouse("backup", target, data=data, check=False)
        assert (done.returncode, "exists already" in done.stderr) == (1, True)
        assert target.read_text() == "precious"
        callhouse("backup", target, "--force", data=data)
        assert [file.name for file in tmp_path.iterdir()] == ["a.db"]
        backups.restore(target, tmp_path / "restored", quiet)

    def test_a_file_that_somebody_else_made_meanwhile_is_left_alone(self, data, tmp_path):
        target = tmp_path / "a.db"

        async def work():
            store = await open_store(data, retention=Retention(), clock=lambda: 1)
            try:
                await store.backup(target, lambda *_: target.write_text("theirs"), force=False)
            finally:
                await store.close()

        with pytest.raises(backups.BackupError, match="made by somebody else"):
            asyncio.run(work())
        assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.db", "theirs")]

    def test_it_does_not_lie_in_the_stores_own_directory(self, data):
        for target in (data, data / "callhouse.db", data / "copy.db"):
            done = callhouse("backup", target, "--force", data=data, check=False)
            assert (done.returncode, "own directory" in done.stderr) == (1, True)
        assert [file.name for file in data.iterdir()] == ["callhouse.db"]

    def test_a_place_that_cannot_be_written_is_named(self, data, tmp_path):
        done = callhouse("backup", tmp_path / "none" / "a.db", data=data, check=False)
        assert done.returncode == 1
        assert "cannot be written: No such file or directory." in done.stderr


class TestRestore:
    def refused(self, backup, directory):
        with pytest.raises(backups.BackupError) as raised:
            backups.restore(backup, directory, quiet)
        return str(raised.value)

    def test_an_empty_directory_and_one_that_is_not_there_are_restored_to(self, backup, tmp_path):
        (tmp_path / "empty").mkdir()
        for directory in (tmp_path / "empty", tmp_path / "absent" / "below"):
            callhouse("restore", backup, data=directory)
            assert stat.S_IMODE((directory / "callhouse.db").stat().st_mode) == 0o600
            assert "ops@example.com" in callhouse("accounts", "list", data=directory).stdout

    def test_a_directory_that_holds_anything_is_left_as_it_is(self, backup, tmp_path):
        (tmp_path / "precious").write_text("x")
        assert f"{tmp_path} is not empty: it holds precious." in self.refused(backup, tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["precious"]

    def spoilt(self, backup, tmp_path, change):
        spoilt = tmp_path / "spoilt.db"
        spoilt.write_bytes(change(bytearray(backup.read_bytes())))
        return spoilt

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            (lambda _: b"", "not one of Callhouse"),
            (lambda _: b"no database at all, whatever its name says" * 100, "file is not a database"),
            (lambda whole: whole[: len(whole) // 2], "is not whole"),
            (lambda whole: whole[:8192] + bytes(4096) + whole[12288:], "is not whole"),
            # user_version, see sqlite.org/fileformat.html
            (lambda whole: whole[:60] + (99).to_bytes(4, "big") + whole[64:], "newer than this program's"),
        ],
        ids=["empty", "text", "cut off", "a page lost", "newer"],
    )
    def test_what_is_no_whole_backup_is_refused_and_nothing_is_left(self, backup, tmp_path, change, reason):
        spoilt = self.spoilt(backup, tmp_path, change)
        assert reason in self.refused(spoilt, tmp_path / "restored")
        assert not (tmp_path / "restored").exists()
        (tmp_path / "empty").mkdir()
        self.refused(spoilt, tmp_path / "empty")
        assert list((tmp_path / "empty").iterdir()) == []

    def test_another_programs_database_is_refused(self, tmp_path):
        other = sqlite3.connect(tmp_path / "other.db")
        other.execute("CREATE TABLE calls (id)")
        other.close()
        assert "not one of Callhouse" in self.refused(tmp_path / "other.db", tmp_path / "restored")

    def test_a_store_in_use_is_no_backup(self, own_server, tmp_path):
        server = own_server()
        server.account()
        assert "is in use" in self.refused(server.data / "callhouse.db", tmp_path / "restored")

    def test_a_backup_that_is_not_there_is_an_error(self, tmp_path):
        done = callhouse("restore", tmp_path / "none.db", data=tmp_path / "restored", check=False)
        assert (done.returncode, "No such file or directory" in done.stderr) == (1, True)
        assert not (tmp_path / "restored").exists()
