"""A store that moves to PostgreSQL while senders go on: nothing acknowledged is lost, whatever ends the move."""

import asyncio
import json
import os
import random
import signal
import subprocess
import threading
import time
from contextlib import closing
from itertools import count

import apsw
import httpx
import psycopg
import pytest

import moving
from callhouse.clock import now
from callhouse.errors import MoveError, NoStore, StoreUnavailable
from callhouse.model.account import Retention
from callhouse.model.instant import DAY
from callhouse.store import expiry, move_part, open_store
from callhouse.store import move as moves
from callhouse.store.check import check_store
from callhouse.store.move import _Move, abandon, move
from callhouse.store.move_source import Source
from callhouse.store.move_target import Target
from callhouse.store.postgres import LOCKS
from callhouse.store.postgres_connection import without_password
from command import Started
from contract.test_one_model import records
from everything import answers
from postgres import FAST, Cluster
from serving import Server, callhouse, create_account, ndjson, send, wait_until

pytestmark = pytest.mark.sqlite_only

SETTINGS = ("plivo.max_limit=100", "retention.details=forever")
SECONDS = 60
DEFINED = """
SELECT pg_get_constraintdef(oid) AS sql FROM pg_constraint WHERE connamespace = CAST('public' AS regnamespace)
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT format('%s.%s', table_name, column_name) FROM information_schema.columns WHERE table_schema = 'public'
ORDER BY sql
"""


def quiet(*_):
    """A progress that nobody watches."""


@pytest.fixture(scope="module")
def cluster():
    with Cluster(*FAST) as running:
        yield running


@pytest.fixture
def url(cluster):
    url = cluster.database()
    yield url
    cluster.drop(url)


@pytest.fixture
def data(tmp_path):
    create_account(tmp_path / "data")
    return tmp_path / "data"


def sql_of_file(data, statement):
    with closing(apsw.Connection(str(data / "callhouse.db"))) as database:
        return database.execute(statement).fetchall()


def sql(url, statement):
    with psycopg.connect(url, autocommit=True) as database:
        done = database.execute(statement)
        return done.fetchall() if done.description else done.rowcount


def assert_same_rows(data, url):
    """Every row of the file is in the database, and no other."""
    tables = dict(
        sql(
            url,
            "SELECT table_name, string_agg(column_name, ', ') FROM information_schema.columns "
            "WHERE table_schema = 'public' GROUP BY table_name",
        )
    )
    assert tables.pop("log_words")
    assert tables.pop("schema_version")
    assert len(tables) >= 20
    for table, columns in tables.items():
        kept = set(sql_of_file(data, f"SELECT {columns} FROM {table}"))
        if table == "meta":
            kept = {row for row in kept if "moved" not in row}
        assert set(sql(url, f"SELECT {columns} FROM {table}")) == kept, table


def assert_copied(data, url):
    """All is there, and agrees with itself."""
    assert_same_rows(data, url)
    assert check_store(url, quiet).findings == []


class Switch(threading.Thread):
    """Sends calls, first as they begin and then as they end, and some of them again, until it is told to stop.

    A refusal is met by sending the same again. *acknowledged* has the last that was kept of each call.
    """

    def __init__(self, server, login, name):
        super().__init__(name=name)
        self._url, self._login = server.url, login
        self._stopping = threading.Event()
        self._progressed = threading.Condition()
        self.acknowledged = {}
        self.refused = 0
        self.failure = None

    def run(self):
        try:
            with httpx.Client(base_url=self._url, auth=self._login.fuse, timeout=SECONDS) as client:
                for number in count():
                    for batch in self._batches(number):
                        if not self._sent(client, batch):
                            return
        except Exception as failure:  # noqa: BLE001 — told by the test
            self.failure = failure

    def _batches(self, number):
        at = int(time.time()) - 500
        calls = [{"session_id": f"{self.name} {number} {n}", "start": at, "src": "2125551234"} for n in range(4)]
        events = [{"timestamp": at + 1, "seq": n, "class": "error" if n else "info", "line": f"word{number} {n}",
                   "data": {}} for n in range(2)]  # fmt: skip
        yield [{**call, "events": events[:1]} for call in calls]
        yield [{**call, "end": at + 9, "events": events} for call in calls[1:]]
        yield [{**calls[1], "end": at + 9, "events": events}, {**calls[2], "end": at + 10, "dest": "8009957586"}]

    def _sent(self, client, batch):
        while True:
            answer = client.post("/ingest/calls", content=ndjson(batch))
            if answer.status_code == 200:
                assert answer.json()["rejected"] == []
                with self._progressed:
                    self.acknowledged.update((call["session_id"], call) for call in batch)
                    self._progressed.notify_all()
                return not self._stopping.is_set()
            assert answer.status_code == 503, answer.text
            self.refused += 1
            if self._stopping.wait(0.02):
                return False

    def wait_for_more(self):
        with self._progressed:
            goal = len(self.acknowledged) + 12
            assert self._progressed.wait_for(lambda: len(self.acknowledged) >= goal, SECONDS), self.failure

    def stop(self):
        self._stopping.set()
        self.join(SECONDS)
        assert self.failure is None


STEPS = [
    ("Source.begin", 0),
    ("Target.copied", 0),
    ("Target.note_copied", 3),
    ("Target.note_copied", 20),
    ("Source.last_change", 0),
    ("Source.forget_changes", 0),
    ("Target.build", 0),
    ("Target.analyze", 0),
    ("_Move._verify", 0),
    ("Source.forget_changes", 1),
    ("Target.set_last_ids", 0),
    ("Source.mark", 0),
    ("Target.release", 0),
]
"""Steps of a move, in order, and how often each comes to pass before the move is killed."""


async def forget_old_calls(data, account_id):
    """Remove a chunk of what began a day ago and before, as the server does when its retention says so."""
    retention = Retention(details=DAY, sessions=DAY, plivo=DAY)
    store = await open_store(data, retention=retention, clock=now)
    try:
        account = next(account for account in await store.accounts.all() if account.id == account_id)
        return await store.expire(account)
    finally:
        await store.close()


def test_a_store_moves_under_load_and_killed_at_every_step_without_losing_anything(
    own_server, url, tmp_path, monkeypatch
):
    monkeypatch.setattr(expiry, "CHUNK", 50)
    server = own_server(*SETTINGS)
    data, began = server.data, int(time.time())
    login = server.account("ops@example.com", "--login", "ops", "--timezone", "America/New_York")
    old, other = server.account("old@example.com"), server.account("other@example.com")
    sent = records(began)
    send(server, login, sent)
    complete = sum("end" in call for call in sent)
    server.client.post("/ingest/calls", json=[{"session_id": ""}], auth=login.fuse)
    for account in (old, other):
        callhouse("generate", "--calls", 1_500, "--days", 2, "--account", account.id, data=data)

    switches = [Switch(server, login, "east"), Switch(server, other, "west")]
    for switch in switches:
        switch.start()
    try:
        for step, after in STEPS:
            moving.killed(data, url, step, after)
            if step == "Target.release":
                break
            with pytest.raises(StoreUnavailable, match=r"a copy of a store that is not finished|holds no store"):
                check_store(url, quiet)
            assert asyncio.run(forget_old_calls(data, old.id)) > 0
            for switch in switches:
                switch.wait_for_more()
        # Marked as moved, and not released: neither is a store that takes calls.
        for options in (["--data", data], ["--store", url]):
            done = callhouse("accounts", "create", "--email", "late@example.com", *options, check=False)
            assert done.returncode == 1
        done = callhouse("move", "--to", url, "--json", data=data)
        moved = json.loads(done.stdout)
    finally:
        for switch in switches:
            switch.stop()
    assert all(switch.refused for switch in switches)
    assert moved["rows"]["calls"] > 2_000
    assert_copied(data, url)
    assert check_store(data, quiet).findings == []

    with Server(tmp_path / "new", *SETTINGS, f"store.url={url}") as new:
        window = (began - 7300, began - 1000)
        assert answers(new, login, *window, calls=complete) == answers(server, login, *window, calls=complete)
        for account, switch in zip((login, other), switches, strict=True):
            recent = f"/api/all_logs/{began - 900}/{int(time.time())}?limit=10000"
            bodies = [each.client.get(recent, auth=account.fuse).content for each in (server, new)]
            assert bodies[0] == bodies[1]
            found = {call["session_id"]: call for call in json.loads(bodies[1])["calls"]}
            for session_id, call in switch.acknowledged.items():
                assert "end" not in call or len(found[session_id]["detail"]) == 2
            # Sent again it is a repeat of what is there.
            before = sql(url, "SELECT max(id) FROM calls")
            assert send(new, account, list(switch.acknowledged.values()))["accepted"] == len(switch.acknowledged)
            assert sql(url, "SELECT max(id) FROM calls") == before
        send(new, login, [{"session_id": "the next", "start": began - 60, "end": began - 50}])
    [(last,)] = sql_of_file(data, "SELECT seq FROM sqlite_sequence WHERE name = 'calls'")
    [(log_id,)] = sql(url, "SELECT id FROM calls WHERE session_id = 'the next'")
    assert log_id > last
    assert check_store(url, quiet).findings == []


def test_a_move_that_is_killed_at_any_moment_goes_on(data, url):
    login = create_account(data, "other@example.com")
    callhouse("generate", "--calls", 6_000, "--days", 2, "--account", login.id, data=data)
    moments = random.Random(1)
    for _ in range(6):
        process = moving.started(data, url)
        process.join(moments.uniform(0.05, 1.2))
        process.kill()
        process.join(SECONDS)
    # One of them may have come to the end.
    done = callhouse("move", "--to", url, data=data, check=False)
    assert done.returncode == 0 or "was moved already" in done.stderr
    assert_copied(data, url)


def fill(data):
    """Put rows into every table but that of logs, with values that are hard to carry."""
    odd = ("\"a\\b'\t\n☎\U0001f4de", "", "\\N", "NULL")
    with closing(apsw.Connection(str(data / "callhouse.db"))) as database:
        tables = database.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
        own = {name for (name,) in tables if not name.startswith(("sqlite_", "log"))}
        for table in sorted(own):
            columns = database.execute(f"SELECT name, type, pk FROM pragma_table_info('{table}')").fetchall()
            references = {row[0] for row in database.execute(f'SELECT "from" FROM pragma_foreign_key_list("{table}")')}
            for n in range(len(odd)):
                values = {
                    "INTEGER": 2**63 - 1 - n,
                    "REAL": 0.1 + n,
                    "TEXT": f"{n}{odd[n]}" if n else odd[0],
                    "BLOB": bytes([n, 0, 255]),
                }
                given = [10 if name in references else 10 + n if name == "id" and kind == "INTEGER" else values[kind]
                         for name, kind, _ in columns]  # fmt: skip
                database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(given))})", given)
    return own


def test_every_value_of_every_table_is_carried_also_when_it_is_killed_between(data, url, monkeypatch):
    tables = fill(data)
    for _ in range(10):
        moving.killed(data, url, "Target.note_copied", 7, rows=1)
    monkeypatch.setattr(move_part, "ROWS", 1)
    monkeypatch.setattr(move_part, "ROWS_WITH_BLOBS", 1)
    move(data, url, quiet)
    assert_same_rows(data, url)
    assert all(sql(url, f"SELECT count(*) FROM {table}")[0][0] >= 4 for table in tables)


def test_the_database_is_as_one_that_was_made_for_a_store(data, cluster, url):
    fresh = cluster.database()
    callhouse("accounts", "create", "--email", "a@example.com", "--store", fresh)
    move(data, url, quiet)
    assert sql(url, DEFINED) == sql(fresh, DEFINED)
    assert sql(url, "SELECT number FROM schema_version") == sql(fresh, "SELECT number FROM schema_version")


@pytest.mark.parametrize(
    ("change", "table"),
    [
        ("UPDATE calls SET started = 1.5 WHERE id = 2", "calls"),
        ("UPDATE calls SET started = 'x' WHERE id = 2", "calls"),
        ("UPDATE calls SET src = CAST(x'ff' AS TEXT) WHERE id = 2", "calls"),
        ("UPDATE calls SET src = x'ff' WHERE id = 2", "calls"),
        ("UPDATE logs SET dictionary = 7 WHERE call_id = 2", "logs"),
        ("UPDATE logs SET document = x'ff' WHERE call_id = 2", "logs"),
        ("UPDATE logs SET size = 'x' WHERE call_id = 2", "logs"),
    ],
)
def test_a_damaged_row_is_told_with_its_table(data, url, change, table):
    callhouse("generate", "--calls", 20, "--days", 2, "--account", 1, data=data)
    sql_of_file(data, change)
    with pytest.raises(MoveError, match=f"^{table} holds what cannot be carried: .*`callhouse check`"):
        move(data, url, quiet)


def test_a_backup_that_is_made_during_a_move_is_restored_as_a_store_that_is_not_moved(data, url, tmp_path):
    made = "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"
    before = sql_of_file(data, made)
    moving.killed(data, url, "Target.build", 0)
    callhouse("backup", tmp_path / "backup.db", data=data)
    callhouse("restore", tmp_path / "backup.db", data=tmp_path / "restored")
    assert [file.name for file in (tmp_path / "restored").iterdir()] == ["callhouse.db"]
    assert sql_of_file(tmp_path / "restored", made) == before
    create_account(tmp_path / "restored", "later@example.com")


def test_rows_are_read_as_many_at_once_as_fit(data, url, monkeypatch):
    monkeypatch.setattr(move_part, "BYTES", 1_000)
    sizes = [10, 990, 1, 5_000, 400, 400, 400, 0]
    with closing(apsw.Connection(str(data / "callhouse.db"))) as database:
        database.executemany("INSERT INTO dictionaries VALUES (?, zeroblob(?))", enumerate(sizes, 1))
    move(data, url, quiet)
    assert_same_rows(data, url)
    with Source(data) as source, Target(url) as target:
        part = next(part for part in target.parts() if part.name == "dictionaries")
        for reader in (source.reader, target.reader):
            for chunks in (part.chunks(reader, ["number"]), part.those(reader, [(n,) for n in range(12)])):
                assert [[len(blob) for _, blob in rows] for rows in chunks] == [
                    [10, 990], [1], [5_000], [400, 400], [400, 0],
                ]  # fmt: skip


def test_the_database_ends_no_transaction_in_which_logs_are_unpacked(url):
    with Target(url) as target:
        assert target.reader.rows("SELECT current_setting('idle_in_transaction_session_timeout')", {}) == [("0",)]


@pytest.mark.parametrize(("step", "told"), [("set_last_ids", "takes calls again"), ("release", "takes nothing more")])
def test_a_database_that_stands_still_in_the_end_is_not_waited_for(data, url, monkeypatch, step, told):
    monkeypatch.setattr(moves, "STOP_SECONDS", 0.5)
    do, stopped = getattr(Target, step), []

    def standing_still(self, *arguments):
        stopped.append(self._connection.info.backend_pid)
        os.kill(stopped[0], signal.SIGSTOP)
        return do(self, *arguments)

    try:
        monkeypatch.setattr(Target, step, standing_still)
        with pytest.raises(MoveError, match=f"{told}.* run the same command again"):
            move(data, url, quiet)
        added = callhouse("accounts", "create", "--email", "later@example.com", data=data, check=False)
        assert added.returncode == (step == "release")
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    wait_until(lambda: not sql(url, f"SELECT 1 FROM pg_stat_activity WHERE pid = {stopped[0]}"), "its end")
    monkeypatch.undo()
    move(data, url, quiet)
    assert_copied(data, url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:s%2Fcret@h:1/x?sslmode=verify-full", "postgresql://me@h:1/x?sslmode=verify-full"),
        ("postgres://h/x?password=s&options=-csearch_path%3Da", "postgres://h/x?options=-csearch_path%3Da"),
        ("postgresql://a,[::1]:5/x?user=me&sslpassword=s&p%61ssword=s", "postgresql://a,[::1]:5/x?user=me"),
        ("postgresql://me@%2Frun/x?password=s", "postgresql://me@%2Frun/x"),
        ("postgresql://h?password=s", "postgresql://h"),
        ("postgresql://me:s?c#r:t@h/x", "postgresql://me@h/x"),
        ("postgresql:///x?host=/run", "postgresql:///x?host=/run"),
    ],
)
def test_the_url_that_is_told_has_all_but_the_password(url, shown):
    assert without_password(url) == shown


class TestMoved:
    def test_the_directory_is_read_and_takes_nothing_more(self, own_server, url):
        server = own_server(*SETTINGS)
        login = server.account()
        call = {"session_id": "a", "start": int(time.time()) - 60, "end": int(time.time()) - 50}
        send(server, login, [call])
        done = callhouse("move", "--to", url, data=server.data)
        place = url.replace(":unsaid", "")
        assert f"--store {place}" in done.stdout
        answer = server.client.post("/ingest/calls", json={**call, "session_id": "b"}, auth=login.fuse)
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        assert server.client.get("/readyz").status_code == 503
        listed = server.client.get(f"/api/calls/{call['start'] - 9}/{call['end'] + 9}", auth=login.fuse)
        assert listed.json()["total_calls"] == 1
        server.stop()
        for command in (["serve", "--port", "0"], ["accounts", "create", "--email", "x@example.com"]):
            done = callhouse(*command, data=server.data, check=False)
            assert (done.returncode, f"--store {place}" in done.stderr) == (1, True)

    def test_it_is_not_moved_again_nor_back(self, data, cluster, url):
        move(data, url, quiet)
        for to in (url, cluster.database()):
            with pytest.raises(MoveError, match="was moved already: start with --store postgresql://callhouse@"):
                move(data, to, quiet)
        with pytest.raises(MoveError, match="cannot be undone"):
            abandon(data)

    def test_credentials_and_sign_ins_hold_there(self, tmp_path, url):
        login = create_account(tmp_path / "data")
        move(tmp_path / "data", url, quiet)
        with Server(tmp_path / "new", f"store.url={url}") as server:
            assert server.client.get("/api/calls/0/9", auth=login.fuse).status_code == 200


class TestVerification:
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("UPDATE calls SET src = 'x' WHERE id = 2", "rows that are not alike in the copy"),
            ("DELETE FROM calls WHERE id = 3", "rows, and .* in the copy"),
            ("UPDATE logs SET document = document || '\\x00' WHERE call_id = 2", "logs of account 1 on "),
            ("DELETE FROM log_words WHERE call_id = 2", "log_words of account 1: "),
            ("UPDATE totals SET calls = calls + 1", "totals of account 1: "),
            ("UPDATE meta SET value = 'x'", "meta: "),
        ],
    )
    def test_what_is_not_as_it_is_here_is_told_and_the_store_goes_on(self, data, url, monkeypatch, change, told):
        callhouse("generate", "--calls", 20, "--days", 2, "--account", 1, data=data)
        analyze = Target.analyze

        def changed(self, parts):
            analyze(self, parts)
            assert sql(url, change) > 0

        monkeypatch.setattr(Target, "analyze", changed)
        with pytest.raises(MoveError, match=f"The copy is not what the store is.*{told}"):
            move(data, url, quiet)
        create_account(data, "later@example.com")

    def test_what_comes_to_be_copied_otherwise_for_the_last_time_is_told(self, data, url, monkeypatch):
        finish = _Move._finish

        def after_a_change(self):
            create_account(data, "later@example.com")
            sql(
                url,
                "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql "
                "AS 'BEGIN NEW.plan = ''other''; RETURN NEW; END'",
            )
            sql(url, "CREATE TRIGGER spoil BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION spoil()")
            return finish(self)

        monkeypatch.setattr(_Move, "_finish", after_a_change)
        with pytest.raises(MoveError, match="accounts: 1 rows that are not alike"):
            move(data, url, quiet)
        create_account(data, "latest@example.com")


class TestRefusals:
    def refused(self, data, url, reason):
        with pytest.raises(MoveError, match=reason):
            move(data, url, quiet)
        create_account(data, f"{time.time_ns()}@example.com")

    def test_a_database_of_another_program(self, data, url):
        sql(url, "CREATE TABLE calls (id BIGINT)")
        self.refused(data, url, "what another program put there")
        assert sql(url, "SELECT * FROM calls") == []

    def test_no_database_with_what_an_extension_brought(self, data, cluster, url):
        superuser = f"{cluster.superuser}/{url.rpartition('/')[2]}"
        sql(superuser, "CREATE EXTENSION pg_stat_statements SCHEMA public")
        sql(superuser, "CREATE TABLE public.theirs (id BIGINT UNIQUE); "
                       "ALTER EXTENSION pg_stat_statements ADD TABLE public.theirs")  # fmt: skip
        assert "theirs" not in move(data, url, quiet).rows
        assert sql(url, "SELECT 1 FROM pg_indexes WHERE indexname = 'theirs_id_key'")

    def test_a_database_with_a_store(self, data, url):
        callhouse("accounts", "create", "--email", "theirs@example.com", "--store", url)
        self.refused(data, url, "holds a store already")
        assert sql(url, "SELECT email FROM accounts") == [("theirs@example.com",)]

    def test_a_database_with_the_unfinished_copy_of_another_store(self, data, url, tmp_path):
        create_account(tmp_path / "other")
        moving.killed(tmp_path / "other", url, "Target.build", 0)
        self.refused(data, url, "an unfinished copy of another store")
        callhouse("move", "--to", url, data=tmp_path / "other")
        assert_copied(tmp_path / "other", url)

    def test_another_database_than_that_of_the_move_under_way(self, data, cluster, url):
        moving.killed(data, url, "Target.build", 0)
        self.refused(data, cluster.database(), "is being moved to 127.0.0.1:.* already")

    def test_a_second_move_at_the_same_time(self, data, cluster, url, tmp_path):
        create_account(tmp_path / "other")
        with Source(data):
            self.refused(data, url, "is being moved by another command")
        with Target(url):
            self.refused(tmp_path / "other", url, "Another command is moving a store to")

    def test_an_unfinished_copy_is_no_store(self, data, url):
        moving.killed(data, url, "Source.mark", 0)
        done = callhouse("serve", "--store", url, "--port", "0", check=False)
        assert done.returncode == 1
        assert "a copy of a store that is not finished yet" in done.stderr

    def test_a_database_that_cannot_be_reached_is_told_without_the_password(self, data):
        done = callhouse("move", "--to", "postgresql://me:s3cret@127.0.0.1:1/x", data=data, check=False)
        assert (done.returncode, "s3cret" in done.stderr + done.stdout) == (1, False)
        assert "run the same command again" in done.stderr

    def test_no_store_is_told(self, tmp_path, url):
        with pytest.raises(NoStore):
            move(tmp_path, url, quiet)
        assert callhouse("move", data=tmp_path, check=False).returncode == 2
        done = callhouse("move", "--to", url, "--set", f"store.url={url}", check=False)
        assert "Only the store of a directory can be moved" in done.stderr


class TestAbandon:
    def test_nothing_is_left_of_a_move_that_is_given_up(self, data, cluster, url):
        made = "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"
        before = sql_of_file(data, made)
        moving.killed(data, url, "Target.build", 0)
        assert sql_of_file(data, made) != before
        assert url.rpartition("@")[2] in callhouse("move", "--abandon", data=data).stdout
        assert sql_of_file(data, made) == before
        other = cluster.database()
        with pytest.raises(MoveError, match="a move that was given up"):
            move(data, url, quiet)
        move(data, other, quiet)
        assert_copied(data, other)

    def test_what_was_not_begun_cannot_be_given_up(self, data):
        done = callhouse("move", "--abandon", data=data, check=False)
        assert (done.returncode, "is not being moved" in done.stderr) == (1, True)

    def test_a_database_that_was_made_anew_is_copied_to_from_the_beginning(self, data, cluster, url):
        moving.killed(data, url, "Target.build", 0)
        sql(url, "DROP SCHEMA public CASCADE")
        sql(url, "CREATE SCHEMA public")
        move(data, url, quiet)
        assert_copied(data, url)


def test_a_connection_that_is_lost_is_told_and_the_next_run_goes_on(data, url, monkeypatch):
    callhouse("generate", "--calls", 50, "--days", 1, "--account", 1, data=data)
    build = Target.build

    def lost(self, stage):
        sql(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                 "AND datname = current_database()")  # fmt: skip
        return build(self, stage)

    with monkeypatch.context() as patch:
        patch.setattr(Target, "build", lost)
        with pytest.raises(MoveError, match=r"The database says: .* run the same command again"):
            move(data, url, quiet)
    move(data, url, quiet)
    assert_copied(data, url)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_it_tidily(data, url, number):
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"
    with psycopg.connect(url, autocommit=True) as blocking:
        blocking.execute(f"SELECT pg_advisory_lock({LOCKS}, 0)")
        process = Started(["move", "--data", data, "--to", url], stderr=subprocess.PIPE)
        wait_until(lambda: sql(url, waiting), "the wait of the move")
        process.send_signal(number)
        assert process.wait(SECONDS) == 1
        with process.stderr:
            assert "Interrupted. Nothing is lost: run the same command again" in process.stderr.read()
    create_account(data, "later@example.com")
    move(data, url, quiet)
    assert_copied(data, url)


def test_a_store_that_changes_too_quickly_is_told_and_goes_on_later(data, url, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(moves, "FEW_CHANGES", -1)
        patch.setattr(moves, "MOMENT_SECONDS", 0)
        patch.setattr(moves, "TRIES", 2)
        with pytest.raises(MoveError, match="as quickly as it can be copied"):
            move(data, url, quiet)
    create_account(data, "later@example.com")
    move(data, url, quiet)
    assert_copied(data, url)
