"""Every command does what its help says, ends with the right status, and says what to do when it cannot."""

import asyncio
import errno
import json
import os
import re
import signal
import socket
import subprocess
import time
import tracemalloc
from collections import Counter
from types import SimpleNamespace

import httpx
import pytest
import typer.main
from typer.testing import CliRunner

import stores
from callhouse import __version__, simulation
from callhouse.cli import app
from callhouse.cli.quarantine import SHOWN
from callhouse.cli.serve import _reserved
from callhouse.clock import now
from callhouse.errors import CallhouseError
from callhouse.model.account import Retention
from callhouse.model.record import Part, Record
from callhouse.sources.native import read_call, written
from callhouse.store import open_store
from callhouse.store.sqlite import FILE_NAME
from console.visiting import Visitor
from serving import COMMAND, SECONDS, Login, Server, callhouse, create_account, get, ndjson, send, wait_until

INACTIVE = {"error": "This account is inactive."}
INVALID = {"error": "Invalid email or developer key."}


def flat(text):
    """*text* on one line, without the frames that Rich draws."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", text).split())


def in_process(*arguments, data=None, env=None):
    """The command line without a process of its own, which saves most of the time."""
    where = [] if data is None else stores.options(data)
    return CliRunner().invoke(app, list(map(str, (*arguments, *where))), env={"TERM": "dumb", **(env or {})})


def refused(status, *arguments, **options):
    """What a command that must end with *status* says on standard error."""
    done = in_process(*arguments, **options)
    assert done.exit_code == status, done.output
    return flat(done.stderr)


def printed(*arguments, **options):
    """What a command prints with --json."""
    done = in_process(*arguments, "--json", **options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def leaves(command, path=()):
    """Every command that does something, with the words that call it."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


COMMANDS = list(leaves(typer.main.get_command(app)))


@pytest.mark.parametrize("line", ['url = ["{}"]', 'replicas = ["{}"]', '"{}" = 1'])
def test_a_setting_of_another_kind_shows_no_password(tmp_path, line):
    file = tmp_path / "callhouse.toml"
    file.write_text("[store]\n" + line.format("postgresql://callhouse:S3CRET@db/calls"))
    done = callhouse("config", "--config", file, check=False)
    assert done.returncode == 1
    assert "store." in done.stderr
    assert "S3CRET" not in done.stderr + done.stdout


def test_these_are_all_the_commands():
    assert {" ".join(path) for path in COMMANDS} == {
        "demo", "serve", "config", "generate", "import", "search", "backup", "restore", "check", "move",
        "accounts create", "accounts list", "accounts show", "accounts set", "accounts deactivate",
        "accounts activate", "accounts rotate", "accounts password",
        "quarantine list", "quarantine replay", "quarantine drop",
        "mirror add", "mirror list", "mirror show", "mirror pause", "mirror resume", "mirror remove", "mirror run",
        "mirror check",
    }  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_calls_it(path):
    shown = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert shown.exit_code == 0
    assert re.search(rf"Example:.*callhouse {' '.join(path)}", flat(shown.stdout))


def test_the_version_is_printed():
    assert callhouse("--version").stdout == f"callhouse {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("accounts", "nonsense"),
        ("accounts", "show", "one"),
        ("accounts", "show", "99999999999999999999"),
        ("quarantine", "drop", "99999999999999999999"),
        ("quarantine", "list", "--account", "99999999999999999999"),
        ("accounts", "create"),
        ("generate", "--account", "1"),
        ("generate", "--account", "1", "--calls", "0"),
        ("search", "--account", "1"),
        ("backup",),
        ("restore",),
        ("serve", "--port", "http"),
        ("serve", "--set", "retention.details"),
        ("quarantine", "drop", "--nonsense"),
    ],
    ids=" ".join,
)
def test_a_command_that_is_used_wrongly_ends_with_status_2(arguments):
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 2


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """A store with an account and a subaccount."""
    data = tmp_path_factory.mktemp("crowded")
    create_account(data, "a@example.com", "--login", "ay", "--timezone", "Europe/Berlin")
    create_account(data, "b@example.com", "--parent", 1, "--plan", "demo")
    return data


class TestAccounts:
    def test_create_prints_the_credentials_as_json_null_for_an_api_that_is_not_used(self, tmp_path):
        plain = printed("accounts", "create", "--email", "a@example.com", data=tmp_path)
        assert list(plain) == ["id", "email", "developer_key", "login", "password", "auth_id", "auth_token"]
        assert (plain["id"], plain["email"], plain["login"], plain["password"]) == (1, "a@example.com", None, None)
        assert len(plain["developer_key"]) >= 32
        assert len(plain["auth_token"]) >= 32
        with_login = printed("accounts", "create", "--email", "b@example.com", "--login", "bee", data=tmp_path)
        assert (with_login["id"], with_login["login"]) == (2, "bee")
        assert len(with_login["password"]) >= 16
        below = printed("accounts", "create", "--email", "c@example.com", "--parent", 1, data=tmp_path)
        assert (plain["auth_id"][:2], below["auth_id"][:2]) == ("MA", "SA")

    def test_secrets_are_shown_once_and_lie_nowhere_in_the_store(self, tmp_path):
        made = create_account(tmp_path, "a@example.com", "--login", "ay")
        secrets = (made.developer_key, made.password, made.auth_token)
        again = "".join(
            callhouse("accounts", *command, *form, data=tmp_path).stdout
            for command in (("list",), ("show", made.id))
            for form in ((), ("--json",))
        )
        stored = stores.content(tmp_path)
        assert b"a@example.com" in stored
        for secret in secrets:
            assert secret not in again
            assert secret.encode() not in stored

    def test_create_shows_each_secret_with_its_user_name(self, tmp_path):
        shown = callhouse("accounts", "create", "--email", "a@example.com", "--login", "ay", data=tmp_path).stdout
        assert re.search(r"Fuse +user name +a@example\.com\n +developer key +\w{32}\n", shown)
        assert re.search(r"DEV +login +ay\n +password +\w{20}\n", shown)
        assert re.search(r"Plivo +auth id +MA\w{18}\n +auth token +\w{40}\n", shown)
        assert "not shown again" in flat(shown)

    @pytest.mark.parametrize(
        ("options", "status", "reason"),
        [
            (("--email", "A@example.com"), 1, "a@example.com is taken by another account"),
            (("--email", "new@example.com", "--login", "ay"), 1, "ay is taken by another account"),
            (("--email", "new@example.com", "--parent", "9"), 1, "no account 9"),
            (("--email", "new@example.com", "--parent", "2"), 1, "itself a subaccount"),
            (("--email", "nobody"), 2, "no e-mail address"),
            (("--email", "a:b@example.com"), 2, "no e-mail address"),
            (("--email", "new@example.com", "--login", "a:b"), 2, "no colon"),
            (("--email", "new@example.com", "--timezone", "Mars/Olympus"), 2, "no IANA time zone"),
            (("--email", "new@example.com", "--plan", "golden"), 2, "'standard', 'demo'"),
        ],
    )
    def test_create_says_what_is_wrong_and_makes_nothing(self, crowded, options, status, reason):
        assert reason in refused(status, "accounts", "create", *options, data=crowded)
        assert [account["id"] for account in printed("accounts", "list", data=crowded)] == [1, 2]

    def test_list_and_show_tell_what_was_set(self, crowded):
        first, second = printed("accounts", "list", data=crowded)
        assert {key: first[key] for key in ("email", "login", "plan", "active", "timezone", "parent")} == {
            "email": "a@example.com", "login": "ay", "plan": "standard", "active": True,
            "timezone": "Europe/Berlin", "parent": None,
        }  # fmt: skip
        assert (second["plan"], second["parent"]) == ("demo", 1)
        assert abs(first["created"] - time.time()) < 3600
        assert first["retention"] == {"details": "5d", "sessions": "1y", "plivo": "90d"}
        assert printed("accounts", "show", 2, data=crowded) == second
        table = callhouse("accounts", "list", data=crowded).stdout
        assert re.search(r"1 .*a@example\.com .*ay .*MA\w{18} .*standard .*active .*Europe/Berlin", table)
        assert re.search(r"timezone +Europe/Berlin", callhouse("accounts", "show", 1, data=crowded).stdout)

    def test_list_of_an_empty_store_says_how_to_make_one(self, tmp_path, stored):
        stored(lambda store: store.accounts.all())
        tmp_path /= "store0"
        assert "callhouse accounts create" in flat(callhouse("accounts", "list", data=tmp_path).stdout)

    @pytest.mark.parametrize("width", [60, 80])
    def test_a_list_is_not_cut_off_on_a_narrow_terminal(self, tmp_path, width):
        made = create_account(tmp_path, "somebody.with.a.long.name@example.com", "--login", "ay")
        listed = callhouse("accounts", "list", data=tmp_path, env={"COLUMNS": str(width)}).stdout
        rows = [re.split("[│┃]", line) for line in listed.splitlines()]
        for column, value in (2, made.email), (4, made.auth_id):
            assert "".join(cells[column].strip() for cells in rows if len(cells) > column).endswith(value)

    def test_an_account_in_utc_needs_no_time_zone_database(self, tmp_path):
        made = callhouse("accounts", "create", "--email", "a@example.com", data=tmp_path, env={"PYTHONTZPATH": ""})
        assert "developer key" in made.stdout

    @pytest.mark.parametrize(
        ("options", "replaced"),
        [
            ((), "the developer key, the auth token"),
            (("--login", "ay"), "the developer key, the DEV password, the auth token"),
        ],
    )
    def test_rotate_names_all_that_it_replaced_a_chosen_password_too(self, tmp_path, options, replaced):
        made = create_account(tmp_path, "a@example.com", *options)
        if made.login:
            callhouse("accounts", "password", made.id, data=tmp_path, typed="chosen by its owner")
        shown = callhouse("accounts", "rotate", made.id, data=tmp_path).stdout
        assert f"All are new: {replaced}. Those before no longer work." in flat(shown)
        assert ("password" in shown) is bool(made.login)

    @pytest.mark.parametrize("command", ["show", "set", "deactivate", "activate", "rotate"])
    def test_an_unknown_account_ends_with_status_1_and_says_where_to_look(self, crowded, command):
        assert "no account 7; `callhouse accounts list`" in refused(1, "accounts", command, 7, data=crowded)

    def test_set_changes_what_is_named_and_nothing_else(self, tmp_path):
        create_account(tmp_path)
        changed = printed(
            "accounts", "set", 1, "--timezone", "Asia/Tokyo", "--retention", "details=30d", "--retention",
            "plivo=forever", data=tmp_path,
        )  # fmt: skip
        assert changed["timezone"] == "Asia/Tokyo"
        assert changed["retention"] == {"details": "30d", "sessions": "1y", "plivo": "forever"}
        changed = printed("accounts", "set", 1, "--retention", "plivo=server", data=tmp_path)
        assert changed["timezone"] == "Asia/Tokyo"
        assert changed["retention"] == {"details": "30d", "sessions": "1y", "plivo": "90d"}
        shown = callhouse("accounts", "show", 1, data=tmp_path).stdout
        assert re.search(r"retention of details +30d \(this account\)", shown)
        assert re.search(r"retention of plivo +90d \(server\)", shown)
        assert "details, sessions, plivo" in refused(
            2, "accounts", "set", 1, "--retention", "quarantine=1d", data=tmp_path
        )
        assert "no duration" in refused(2, "accounts", "set", 1, "--retention", "details=soon", data=tmp_path)
        assert "write forever" in refused(2, "accounts", "set", 1, "--retention", "plivo=101y", data=tmp_path)

    def test_deactivation_takes_effect_on_a_running_server_at_once_and_activation_undoes_it(self, own_server):
        server = own_server()
        login = server.account("ops@example.com", "--login", "ops")
        path = "/api/calls/1/2"
        below = server.account("sub@example.com", "--parent", str(login.id))
        assert get(server, login, path).status_code == 200
        assert send(server, login, [{"session_id": "s"}])["accepted"] == 1

        assert printed("accounts", "deactivate", login.id, data=server.data)["active"] is False
        answer = get(server, login, path)
        assert (answer.status_code, answer.json()) == (401, INACTIVE)
        assert answer.headers["www-authenticate"].startswith("Basic ")
        for credentials in (login.fuse, (login.login, login.password), (login.auth_id, login.auth_token)):
            answer = server.client.post("/ingest/calls", json={"session_id": "t"}, auth=credentials)
            assert (answer.status_code, answer.json()) == (401, INACTIVE)
        assert get(server, below, path).status_code == 200
        # Who does not know the key does not learn that the account is off.
        answer = server.client.get(path, auth=(login.email, "wrong"))
        assert (answer.status_code, answer.json()) == (401, INVALID)

        assert printed("accounts", "activate", login.id, data=server.data)["active"] is True
        assert get(server, login, path).status_code == 200

    def test_rotation_takes_effect_on_a_running_server_at_once_for_every_secret(self, own_server):
        server = own_server()
        old = server.account("ops@example.com", "--login", "ops")
        chosen = "chosen by its owner"
        callhouse("accounts", "password", old.id, data=server.data, typed=chosen)
        before = [old.fuse, (old.login, chosen), (old.auth_id, old.auth_token)]
        for credentials in before:
            # A password that was right a moment ago must not be remembered as right.
            assert server.client.post("/ingest/calls", json={"session_id": "s"}, auth=credentials).status_code == 200

        new = Login(**printed("accounts", "rotate", old.id, data=server.data))
        assert (new.id, new.email, new.login, new.auth_id) == (old.id, old.email, old.login, old.auth_id)
        for credentials in before:
            answer = server.client.post("/ingest/calls", json={"session_id": "s"}, auth=credentials)
            assert (answer.status_code, answer.json()) == (401, {"error": "Invalid credentials."})
        answer = get(server, old, "/api/calls/1/2")
        assert (answer.status_code, answer.json()) == (401, INVALID)
        for credentials in (new.fuse, (new.login, new.password), (new.auth_id, new.auth_token)):
            assert server.client.post("/ingest/calls", json={"session_id": "s"}, auth=credentials).status_code == 200
        assert get(server, new, "/api/calls/1/2").status_code == 200

    def test_a_password_that_its_owner_chose_opens_at_once_and_the_one_before_no_longer(self, own_server):
        server = own_server()
        login = server.account("ops@example.com")

        def status(name, secret):
            return server.client.post("/ingest/calls", json={"session_id": "s"}, auth=(name, secret)).status_code

        def choose(new, *options):
            return callhouse("accounts", "password", login.id, *options, "--json", data=server.data, typed=new)

        assert json.loads(choose("pass wörd: 1\r\n", "--login", "ops").stdout)["login"] == "ops"
        assert status("ops", "pass wörd: 1") == 200
        choose("pass wörd: 2")
        assert (status("ops", "pass wörd: 1"), status("ops", "pass wörd: 2")) == (401, 200)
        choose("pass wörd: 2", "--login", "operators")
        assert (status("ops", "pass wörd: 2"), status("operators", "pass wörd: 2")) == (401, 200)
        assert get(server, login, "/api/calls/1/2").status_code == 200

    def test_a_password_is_refused_when_it_is_short_or_the_login_missing_or_taken(self, crowded):
        def refusal(*arguments, typed="long enough", status=1):
            shown = callhouse("accounts", "password", *arguments, data=crowded, check=False, typed=typed)
            assert shown.returncode == status
            assert typed not in shown.stderr
            return flat(shown.stderr)

        assert "8 to 256 printable characters" in refusal(1, typed="2 short")
        assert "8 to 256 printable characters" in refusal(1, typed="tab\tulator")
        assert "has no login yet; choose one with --login" in refusal(2)
        assert "ay is taken by another account" in refusal(2, "--login", "ay")
        assert "no colon" in refusal(2, "--login", "a:b", status=2)
        assert "no account 7" in refusal(7)


class TestQuarantine:
    @pytest.fixture
    def refusals(self, own_server, now_seconds):
        """A server that refused a record for its size, one for its age and one that is no call; and the account."""
        server = own_server("ingest.max_record=600")
        login = server.account()
        recent = {"start": now_seconds - 100, "end": now_seconds - 90}
        event = {"timestamp": now_seconds - 95, "class": "info", "line": "x" * 600, "data": {}}
        old = {"start": now_seconds - 400 * 86_400, "end": now_seconds - 400 * 86_400 + 9}
        records = [
            {"session_id": "good", **recent},
            {"session_id": "large", **recent, "events": [event]},
            {"session_id": "old", **old},
            {"session_id": "bad", "start": "[red]yesterday[/]"},
        ]
        answer = server.client.post("/ingest/calls", json=records, auth=login.fuse)
        assert answer.status_code == 200
        assert answer.json()["accepted"] == 1
        return server, login

    def test_list_tells_each_record_as_it_was_sent_with_its_reason(self, refusals):
        server, login = refusals
        entries = printed("quarantine", "list", data=server.data)
        assert [entry["id"] for entry in entries] == [1, 2, 3]
        assert [json.loads(entry["record"])["session_id"] for entry in entries] == ["large", "old", "bad"]
        reasons = [entry["reason"] for entry in entries]
        assert reasons[0] == "has more than 600 bytes"
        assert "older than its retention of 1y" in reasons[1]
        assert "neither epoch seconds nor an RFC 3339 time" in reasons[2]
        assert {(entry["account"], entry["source"]) for entry in entries} == {(login.id, "calls")}
        assert all(abs(entry["received"] - time.time()) < 3600 for entry in entries)
        table = callhouse("quarantine", "list", data=server.data).stdout
        assert "has more than 600 bytes" in flat(table)
        # What senders send is text, never markup.
        assert "[red]yesterday[/]" in table
        assert "3 records" in table
        other = server.account("other@example.com")
        assert printed("quarantine", "list", "--account", other.id, data=server.data) == []

    @pytest.mark.parametrize("command", [("list",), ("list", "--json"), ("replay", "--all"), ("drop", "--all")])
    def test_an_unknown_account_ends_with_status_1_instead_of_an_empty_quarantine(self, crowded, command):
        assert "no account 99; `callhouse acc" in refused(1, "quarantine", *command, "--account", 99, data=crowded)

    def test_what_was_refused_for_its_size_or_age_is_kept_after_the_setting_was_raised(self, refusals, now_seconds):
        server, login = refusals
        small = ("--set", "ingest.max_record=600")
        done = callhouse("quarantine", "replay", "--all", *small, data=server.data, check=False)
        assert done.returncode == 1
        assert "0 accepted, 3 refused again." in done.stdout
        assert get(server, login, "/api/call/large").status_code == 404

        result = printed("quarantine", "replay", 1, data=server.data)
        assert result == {"accepted": 1, "still_refused": {}}
        [entry] = get(server, login, "/api/call/large").json()
        assert entry["event"]["line"] == "x" * 600

        callhouse("accounts", "set", login.id, "--retention", "plivo=forever", data=server.data)
        done = callhouse("quarantine", "replay", "--all", "--json", data=server.data, check=False)
        assert done.returncode == 1
        result = json.loads(done.stdout)
        assert result["accepted"] == 1
        assert list(result["still_refused"]) == ["3"]
        body = get(server, login, f"/api/calls/0/{now_seconds}").json()
        assert {call["session_id"] for call in body["calls"]} == {"good", "large", "old"}
        assert body["total_calls"] == 3
        assert [entry["id"] for entry in printed("quarantine", "list", data=server.data)] == [3]

    def test_drop_forgets_the_records_that_are_named(self, refusals):
        server, _ = refusals
        assert printed("quarantine", "drop", 1, 3, data=server.data) == {"dropped": 2}
        assert [entry["id"] for entry in printed("quarantine", "list", data=server.data)] == [2]
        # One unknown number, and nothing is dropped.
        assert "Not in the quarantine: 1, 9" in refused(1, "quarantine", "drop", 1, 2, 9, data=server.data)
        assert "--all" in refused(2, "quarantine", "drop", data=server.data)
        assert "--all" in refused(2, "quarantine", "drop", 2, "--all", data=server.data)
        other = server.account("other@example.com")
        dropped = callhouse("quarantine", "drop", "--all", "--account", other.id, data=server.data).stdout
        assert dropped == "0 dropped.\n"
        assert callhouse("quarantine", "drop", "--all", data=server.data).stdout == "1 dropped.\n"
        assert callhouse("quarantine", "list", data=server.data).stdout == "The quarantine is empty.\n"

    @pytest.fixture
    def keep(self, tmp_path):
        """Puts records into the quarantine of a store with an account, straight; gives the store's directory."""
        create_account(tmp_path)

        def kept(records):
            async def work():
                store = await open_store(stores.location(tmp_path), retention=Retention(), clock=now)
                account = await store.accounts.get(1)
                for raw in records:
                    await store.load([Record(account=account, source="calls", raw=raw, read=f"reason {raw[-1:]}")])
                await store.close()

            asyncio.run(work())
            return tmp_path

        return kept

    def test_a_long_quarantine_is_listed_in_part_and_says_so_and_whole_for_a_program(self, keep):
        data = keep(b"record %d" % n for n in range(1130))
        shown = in_process("quarantine", "list", data=data).stdout
        assert len(re.findall(r"record \d+", shown)) == SHOWN
        assert "100 of 1,130 records; `--limit` shows more. Most frequent: reason b'0' (113) reason" in flat(shown)
        shown = in_process("quarantine", "list", "--limit", 2000, data=data).stdout
        assert [int(n) for n in re.findall(r"record (\d+)", shown)] == list(range(1130))
        assert "1,130 records. Most" in flat(shown)
        assert [e["record"] for e in printed("quarantine", "list", data=data)] == [f"record {n}" for n in range(1130)]
        assert len(printed("quarantine", "list", "--limit", 1001, data=data)) == 1001
        assert printed("quarantine", "drop", "--all", data=data) == {"dropped": 1130}

    @pytest.mark.parametrize("columns", [40, 80])
    def test_nothing_is_cut_off_on_a_narrow_terminal(self, keep, columns):
        record = "x" * 150 + "1"
        shown = callhouse("quarantine", "list", data=keep([record.encode()]), env={"COLUMNS": str(columns)}).stdout
        assert max(map(len, shown.splitlines())) <= columns
        assert re.search(r"1 \d{4}-\d\d-\d\d [\d:]+ UTC, calls, account 1, 151 bytes reason b'1' x", flat(shown))
        assert record in re.sub(r"\s", "", shown)

    def test_a_record_is_previewed_with_its_size_and_told_whole_to_a_program(self, keep):
        record = ("[red]\n" + "\u00e9\u001b" * 5_000).encode()
        data = keep([record, b"\xff\xfe short"])
        first, second = printed("quarantine", "list", data=data)
        assert (first["record"].encode(), first["size"]) == (record, len(record))
        assert (second["record"], second["size"]) == ("\ufffd\ufffd short", 8)
        table = callhouse("quarantine", "list", data=data, env={"COLUMNS": "400"}).stdout
        assert "[red] \u00e9\ufffd" in table
        assert (table.count("\u00e9"), table.count("\u2026"), "15,006" in table) == (97, 1, True)

    def test_no_more_than_a_few_records_are_in_memory_at_a_time(self, keep):
        size = 2_000_000
        data = keep(os.urandom(size) for _ in range(40))
        for command, records in (("list",), 0), (("replay", "--all"), 10):
            tracemalloc.start()
            try:
                done = in_process("quarantine", *command, data=data)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert "40 " in done.stdout
            assert peak < records * size + 2_000_000

    def test_records_are_kept_compressed(self, keep):
        data = keep([b'{"session_id": "s", "note": "' + b"again and again " * 10_000 + b'"'])
        [(size,)] = stores.sql(data, "SELECT length(record) FROM quarantine")
        assert size < 1_000


def count(data, table):
    [(rows,)] = stores.sql(data, f"SELECT count(*) FROM {table}")
    return rows


class TestConfig:
    def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(self, tmp_path):
        file = tmp_path / "callhouse.toml"
        file.write_text('[retention]\ndetails = "10d"\nsessions = "2y"\nplivo = "10d"\n[server]\nmax_in_flight = 7\n')
        env = {"CALLHOUSE_RETENTION_SESSIONS": "3y", "CALLHOUSE_RETENTION_PLIVO": "30d", "CALLHOUSE_LOG_LEVEL": "error"}
        shown = printed(
            "config", "--config", file, "--set", "retention.plivo=forever", "--data", tmp_path / "d", env=env
        )
        assert {key: (entry["value"], entry["origin"]) for key, entry in shown.items()} == {
            **{key: (entry["value"], "default") for key, entry in shown.items()},
            "retention.details": ("10d", str(file)),
            "server.max_in_flight": ("7", str(file)),
            "retention.sessions": ("3y", "CALLHOUSE_RETENTION_SESSIONS"),
            "log.level": ("error", "CALLHOUSE_LOG_LEVEL"),
            "retention.plivo": ("forever", "command line"),
            "store.data": (str(tmp_path / "d"), "command line"),
        }
        assert shown["server.port"]["value"] == "8080"
        table = callhouse("config", "--config", file, env=env).stdout
        assert re.search(r"retention\.sessions .*3y .*CALLHOUSE_RETENTION_SESSIONS", table)

    def test_the_file_may_be_named_by_the_environment(self, tmp_path):
        file = tmp_path / "callhouse.toml"
        file.write_text('[log]\nlevel = "warning"\n')
        shown = printed("config", env={"CALLHOUSE_CONFIG": str(file)})
        assert (shown["log.level"]["value"], shown["log.level"]["origin"]) == ("warning", str(file))

    @pytest.mark.parametrize(
        ("toml", "env", "flag", "named"),
        [
            ('[retention]\nlogs = "1d"\n', {}, None, "retention.logs"),
            ("[server]\nport = 1\n[sever]\nport = 1\n", {}, None, "sever.port"),
            ("port = 1\n", {}, None, "port stands outside any section"),
            ("[server\n", {}, None, "is no TOML"),
            (None, {"CALLHOUSE_SERVER_PROT": "1"}, None, "CALLHOUSE_SERVER_PROT"),
            (None, {}, "retention.logs=1d", "retention.logs"),
            (None, {}, "server.port=http", "server.port is 'http' (command line): int expected"),
            (None, {}, "server.port=70000", "server.port"),
            (None, {}, "ingest.max_events=0", "ingest.max_events is '0' (command line): a positive number expected"),
            (None, {"CALLHOUSE_RETENTION_DETAILS": "soon"}, None, "retention.details: 'soon' is no duration"),
            (None, {}, "retention.sessions=9999y", "retention.sessions: '9999y' is longer than 100y: write forever"),
            (None, {"CALLHOUSE_LOG_LEVEL": "loud"}, None, "log.level is 'loud' (CALLHOUSE_LOG_LEVEL): one of debug"),
        ],
    )
    def test_an_unknown_key_or_a_wrong_value_is_an_error_that_names_it_and_where_it_stands(
        self, tmp_path, toml, env, flag, named
    ):
        file = tmp_path / "callhouse.toml"
        options = []
        if toml is not None:
            file.write_text(toml)
            options += ["--config", file]
        if flag is not None:
            options += ["--set", flag]
        message = refused(1, "config", *options, env=env)
        assert named in message
        if toml is not None:
            assert str(file) in message.replace(" ", "")

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path):
        assert "cannot be read" in refused(1, "config", "--config", tmp_path / "none.toml")

    def test_every_command_refuses_unknown_settings(self, tmp_path):
        for command in (("serve",), ("accounts", "list"), ("quarantine", "list"), ("search", "--account", "1", "word")):
            assert "there is no setting no.such" in refused(1, *command, "--set", "no.such=1", data=tmp_path)

    def test_the_reference_names_every_setting_in_force(self):
        reference = callhouse("config", "--reference").stdout
        for key in printed("config"):
            assert f"| `{key}` | `CALLHOUSE_{key.replace('.', '_').upper()}` |" in reference


class TestGenerate:
    def made(self, data, *options):
        """What ``generate --json`` printed, and the calls that are in the store without what the clock decides."""
        create_account(data)
        shown = printed("generate", "--account", 1, *options, data=data)
        rows = stores.sql(data, "SELECT direction, src, dest, application_name, event_count, call_uuid FROM calls")
        return shown, Counter(rows)

    def test_the_same_seed_makes_the_same_calls_and_another_seed_others(self, tmp_path):
        first, calls = self.made(tmp_path / "a", "--calls", 300, "--seed", 5)
        again, same = self.made(tmp_path / "b", "--calls", 300, "--seed", 5)
        _, others = self.made(tmp_path / "c", "--calls", 300, "--seed", 6)
        assert (first["calls"], first["refused"]) == (again["calls"], again["refused"]) == (300, 0)
        assert first["seconds"] > 0
        assert calls.total() == 300
        # The first two were made at different instants, which may decide about the last call of the window alone.
        assert (calls & same).total() >= 298
        assert (calls & others).total() < 30

    def test_logs_can_be_for_the_newest_calls_alone(self, tmp_path):
        create_account(tmp_path)
        printed("generate", "--calls", 200, "--days", 4, "--log-days", 1, "--account", 1, data=tmp_path)
        [(logged,)] = stores.sql(tmp_path, "SELECT min(started) / 1000 FROM calls WHERE event_count > 0")
        assert time.time() - 86_400 - 3_600 < logged < time.time()
        assert count(tmp_path, "calls WHERE event_count = 0") > 100
        assert count(tmp_path, "logs") > 10

    def test_it_adds_to_what_is_there_and_says_how_many(self, tmp_path):
        create_account(tmp_path)
        assert callhouse("generate", "--calls", 20, "--account", 1, data=tmp_path).stdout.startswith("20 calls in ")
        printed("generate", "--calls", 30, "--account", 1, "--days", 2, "--seed", 2, data=tmp_path)
        assert count(tmp_path, "calls") == 50
        assert stores.sql(tmp_path, "SELECT sum(calls) FROM call_counts WHERE width = 1") == [(50,)]

    def test_calls_older_than_their_retention_are_told_and_end_with_status_1(self, tmp_path):
        create_account(tmp_path)
        done = callhouse(
            "generate", "--calls", 100, "--days", 800, "--account", 1, "--json", data=tmp_path, check=False
        )
        assert done.returncode == 1
        shown = json.loads(done.stdout)
        assert shown["calls"] + shown["refused"] == 100
        assert shown["refused"] > 30
        assert "older than their retention" in done.stderr
        assert len(printed("quarantine", "list", data=tmp_path)) == shown["refused"]
        printed("accounts", "set", 1, "--retention", "sessions=forever", data=tmp_path)
        assert printed("quarantine", "replay", "--all", data=tmp_path) == {
            "accepted": shown["refused"], "still_refused": {},
        }  # fmt: skip
        counted = "SELECT count(*), count(started), count(ended), count(amount) FROM calls"
        assert stores.sql(tmp_path, counted) == [(100,) * 4]

    def test_a_refused_call_is_kept_as_the_record_that_ingest_would_read_as_the_same(self):
        for call, events in simulation.calls(1, 500, 1_700_000_000_000, 1_700_100_000_000):
            assert read_call(written(call, events), 32) == Part(session_id=call.session_id, call=call, events=events)

    def test_an_unknown_account_ends_with_status_1(self, tmp_path):
        assert "no account 3" in refused(1, "generate", "--calls", 1, "--account", 3, data=tmp_path)


@pytest.fixture(scope="module")
def searchable(server):
    """A server's store with calls, and the account whose they are."""
    login = server.account("search@example.com")
    other = server.account("search2@example.com")
    now = int(time.time())

    def call(session_id, age, *lines):
        start = now - age
        events = [{"timestamp": start + n, "class": "info", "line": t, "data": {}} for n, t in enumerate(lines)]
        return {
            "session_id": session_id, "start": start, "end": start + 60, "src": "2125551234",
            "dest": "6177123001", "application_name": "Pizza", "events": events,
        }  # fmt: skip

    send(server, login, [
        call("one", 100, "Welcome to the pizza line", "Goodbye"),
        call("two", 3 * 86_400, "Welcome to the Grüne Pizza line"),
    ])  # fmt: skip
    send(server, other, [call("three", 100, "Welcome to the pizza line")])
    return server.data, login.id


class TestSearch:
    def found(self, data, account, *words):
        return [call["session_id"] for call in printed("search", "--account", account, *words, data=data)]

    def test_it_finds_the_calls_of_one_account_whose_log_holds_all_words_newest_first(self, searchable):
        assert self.found(*searchable, "pizza", "WELCOME") == ["one", "two"]
        assert self.found(*searchable, "pizza", "goodbye") == ["one"]
        assert self.found(*searchable, "grune") == ["two"]
        assert self.found(*searchable, "--last", "1d", "pizza") == ["one"]
        assert self.found(*searchable, "--limit", "1", "pizza") == ["one"]
        assert self.found(*searchable, "sausage") == []

    def test_it_shows_what_identifies_the_call(self, searchable):
        data, account = searchable
        [call] = printed("search", "--account", account, "goodbye", data=data)
        assert call["end"] - call["start"] == 60
        assert {key: call[key] for key in ("session_id", "src", "dest", "application_name")} == {
            "session_id": "one", "src": "2125551234", "dest": "6177123001", "application_name": "Pizza",
        }  # fmt: skip
        table = callhouse("search", "--account", account, "goodbye", data=data).stdout
        assert re.search(r"one .*2125551234 .*6177123001 .*Pizza .*60", table)
        assert "No call's log holds" in callhouse("search", "--account", account, "sausage", data=data).stdout

    @pytest.mark.parametrize(
        ("word", "sessions"),
        [
            ("piz*", []),
            ("pizza:line", ["one", "two"]),
            ("the pizza", ["one", "two"]),
            ('"Pizza"', ["one", "two"]),
            ("OR", []),
            ("NEAR(pizza line)", []),
            ("NOT", []),
            ("words:pizza", []),
            ("^welcome", ["one", "two"]),
        ],
    )
    def test_words_are_words_whatever_signs_they_hold(self, searchable, word, sessions):
        assert self.found(*searchable, word) == sessions

    @pytest.mark.parametrize("word", ['"', "-", "*", "'"])
    def test_signs_alone_are_no_words(self, searchable, word):
        data, account = searchable
        done = in_process("search", "--account", account, *stores.options(data), "--", word)
        assert done.exit_code == 2

    def test_no_word_leads_to_another_accounts_calls(self, searchable):
        data, account = searchable
        for other in range(1, 20):
            assert self.found(data, account, f"zaccount{other}z", "pizza") == (
                ["one", "two"] if other == account else []
            )

    def test_a_wrong_duration_ends_with_status_2_and_an_unknown_account_with_1(self, searchable):
        data, account = searchable
        assert "no duration" in refused(2, "search", "--account", account, "--last", "soon", "pizza", data=data)
        assert "no account 999" in refused(1, "search", "--account", 999, "pizza", data=data)


def serve_refused(*arguments, data):
    """What ``serve`` says when it cannot start, which must be with status 1."""
    done = callhouse("serve", *arguments, data=data, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    return flat(done.stderr)


class TestServe:
    def run(self, *arguments):
        return subprocess.Popen(
            [*COMMAND, "serve", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
        )  # fmt: skip

    def test_port_0_takes_a_free_port_and_the_ready_line_names_it(self, tmp_path):
        with self.run(*stores.options(tmp_path / "data"), "--port", 0, "--host", "127.0.0.1") as process:
            try:
                match = re.fullmatch(r"Callhouse is ready on (http://127\.0\.0\.1:(\d+))\n", process.stdout.readline())
                assert int(match[2]) > 0
                assert httpx.get(f"{match[1]}/readyz", timeout=SECONDS).status_code == 200
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            assert process.stdout.read() == ""

    def test_a_port_in_use_ends_with_status_1_and_says_so(self, tmp_path, server):
        port = server.url.rpartition(":")[2]
        message = serve_refused("--port", port, data=tmp_path)
        assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use. Try another --port." in message
        assert server.client.get("/healthz").status_code == 200

    def test_a_port_that_another_program_listens_on_ends_with_status_1(self, tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert "Cannot listen" in serve_refused("--port", other.getsockname()[1], data=tmp_path)

    @pytest.mark.parametrize("host", ["192.0.2.1", "nosuchhost.invalid", "a" * 70])
    def test_a_host_that_is_not_this_machines_ends_with_status_1_and_is_named_as_what_is_wrong(self, tmp_path, host):
        message = serve_refused("--port", 0, "--host", host, data=tmp_path)
        assert f"Cannot listen on {host}" in message
        assert "--host takes an address of this machine" in message
        assert "--port" not in message

    def test_a_port_that_takes_a_privilege_is_refused_with_that_reason(self, monkeypatch):
        def bind(*_):
            raise PermissionError(errno.EACCES, "Permission denied")

        # Who runs the tests may have the privilege.
        monkeypatch.setattr(socket, "socket", type("Forbidden", (socket.socket,), {"bind": bind}))
        with pytest.raises(CallhouseError, match=r"port 443: Permission denied\. Ports below 1024 take a privilege"):
            _reserved("127.0.0.1", 443)

    @pytest.mark.sqlite_only
    def test_an_unusable_data_directory_ends_with_status_1_and_names_it(self, tmp_path):
        file = tmp_path / "file"
        file.write_text("no directory")
        assert f"The data directory {file} cannot be used: it is a file." in serve_refused("--port", 0, data=file)
        assert f"{file / 'below'}" in serve_refused("--port", 0, data=file / "below")
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / FILE_NAME).write_bytes(b"this is no SQLite database at all" * 200)
        assert f"{foreign / FILE_NAME} cannot be opened" in serve_refused("--port", 0, data=foreign)
        # Nothing was destroyed.
        assert (foreign / FILE_NAME).read_bytes().startswith(b"this is no SQLite")

    @pytest.mark.sqlite_only
    def test_a_store_of_a_newer_program_ends_with_status_1(self, tmp_path):
        create_account(tmp_path)
        stores.sql(tmp_path, "PRAGMA user_version = 999")
        assert "newer than this program" in serve_refused("--port", 0, data=tmp_path)


@pytest.mark.sqlite_only
class TestDemo:
    def start(self, tmp_path, *arguments):
        return subprocess.Popen(
            # As a shell lets what it runs in the background ignore Ctrl-C.
            ["env", "--ignore-signal=INT", *COMMAND, "demo", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0,
            env={**os.environ, "TMPDIR": str(tmp_path)},
        )  # fmt: skip

    def test_the_printed_commands_work_and_live_calls_come_in_until_sigterm_ends_it_all(self, tmp_path):
        with self.start(tmp_path, "--calls", 300, "--port", 0) as process:
            try:
                commands, lines = [], []
                while "Ctrl-C" not in (line := process.stdout.readline()):
                    assert line, process.stderr.read()
                    lines.append(line)
                    if line.startswith("curl "):
                        commands.append(line)
                lines.append(line)
                address = re.search(r"http://127\.0\.0\.1:\d+", lines[0])[0]
                self.check_printed(commands, address)
                user, password = re.search(r"for Fuse with user (\S+), password (\w+)", "".join(lines[-3:])).groups()
                assert httpx.get(f"{address}/docs", timeout=SECONDS).status_code == 200
                console = re.search(r"console is at (\S+)/console: sign in as (\S+) with (\w+)", "".join(lines))
                with Visitor(SimpleNamespace(url=console[1])) as visitor:
                    assert visitor.sign_in(console[2], console[3]).status_code == 303
                    assert len(visitor.sessions("/calls?live=1")) == 50
                assert httpx.get(f"{address}/api/calls/1/2", auth=(user, password), timeout=SECONDS).status_code == 200

                [directory] = tmp_path.iterdir()
                wait_until(lambda: count(directory, "calls") >= 302, "live calls coming in")
                wait_until(lambda: count(directory, "waiting_events"), "events of live calls")
            finally:
                process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            assert process.stdout.read() == ""
            assert process.stderr.read().strip() == "Stopped."
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/healthz")

    def check_printed(self, commands, address):
        assert len(commands) == 5
        newest, one, xml, dev, live = (
            subprocess.run(["bash", "-c", c], capture_output=True, text=True, check=True, timeout=60).stdout
            for c in commands
        )
        body = json.loads(newest)
        assert len(body["calls"]) == 3
        assert body["total_calls"] > 3
        assert list(json.loads(live)) == ["api_id", "calls"]
        log = json.loads(one)
        assert log[0]["event"]["data"]["module_type"] == "start"
        assert len(log) > 5
        assert xml.startswith('<?xml version="1.0"?>\n<result><calls><item>')
        assert xml.count("<session_id>") == 2
        sessions = json.loads(dev)
        assert (sessions["status"], len(sessions["result"]["sessions"])) == ("success", 3)
        assert all(address in command for command in commands)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
    def test_a_signal_while_the_calls_are_being_made_leaves_nothing_behind(self, tmp_path, number):
        with self.start(tmp_path, "--calls", 200_000, "--port", 0) as process:
            wait_until(lambda: list(tmp_path.glob(f"*/{FILE_NAME}")), "making calls")
            process.send_signal(number)
            process.wait(SECONDS)
            assert "Traceback" not in process.stderr.read()
            assert process.stdout.read() == ""
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_is_named_is_kept_and_used_again(self, tmp_path):
        data = tmp_path / "kept"
        for calls in (50, 70):
            with self.start(tmp_path, "--data", data, "--calls", calls, "--port", 0) as process:
                assert "Callhouse runs on" in process.stdout.readline()
                process.send_signal(signal.SIGINT)
                assert process.wait(SECONDS) == 0
        assert len(printed("accounts", "list", data=data)) == 1
        assert 50 <= count(data, "calls") < 70

    def test_a_port_in_use_ends_with_status_1(self, tmp_path, server):
        with self.start(tmp_path, "--calls", 10, "--port", server.url.rpartition(":")[2]) as process:
            assert process.wait(SECONDS) == 1
            message = flat(process.stderr.read())
            assert "Cannot listen on" in message
            assert "The server did not start" in message
        assert list(tmp_path.iterdir()) == []


READING = [
    ("accounts", "list"),
    ("accounts", "show", "1"),
    ("accounts", "set", "1", "--timezone", "UTC"),
    ("accounts", "deactivate", "1"),
    ("accounts", "activate", "1"),
    ("accounts", "rotate", "1"),
    ("quarantine", "list"),
    ("quarantine", "replay", "--all"),
    ("quarantine", "drop", "--all"),
    ("search", "--account", "1", "word"),
    ("backup", "/nowhere/backup.db"),
    ("check",),
]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("command", READING, ids=lambda command: " ".join(command[:2]))
def test_a_command_that_needs_a_store_makes_none_where_there_is_none_and_says_what_does(tmp_path, command):
    (tmp_path / "empty").mkdir()
    for data in (tmp_path / "nowhere" / "below", tmp_path / "empty"):
        message = refused(1, *command, data=data)
        assert f"The directory {data} holds no store." in message
        assert "`callhouse serve` and `callhouse accounts create` make a store" in message
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    file = tmp_path / "empty" / "file"
    file.touch()
    assert f"The data directory {file} cannot be used: it is a file." in refused(1, *command, data=file)


@pytest.mark.sqlite_only
def test_commands_that_fill_a_store_make_one_where_there_is_none(tmp_path):
    assert "no account 1" in refused(1, "generate", "--calls", 1, "--account", 1, data=tmp_path / "generated")
    printed("accounts", "create", "--email", "a@example.com", data=tmp_path / "accounts")
    for directory in ("generated", "accounts"):
        assert (tmp_path / directory / FILE_NAME).exists()


def test_commands_work_beside_a_running_server_and_see_what_it_keeps(own_server):
    server = own_server("retention.details=forever")
    login = server.account()
    assert server.client.post(
        "/ingest/calls",
        content=ndjson([{"session_id": "s", "start": 1_600_000_000, "end": 1_600_000_001}, {"session_id": ""}]),
        headers={"Content-Type": "application/x-ndjson"},
        auth=login.fuse,
    ).json()["accepted"] == 1  # fmt: skip
    assert len(printed("quarantine", "list", data=server.data)) == 1
    printed("generate", "--calls", 10, "--account", login.id, data=server.data)
    assert get(server, login, f"/api/calls/1/{int(time.time())}").json()["total_calls"] == 11


def test_text_from_outside_is_shown_as_text_however_it_looks_and_secrets_are_never_cut_off(tmp_path, now_seconds):
    data = tmp_path / "data"
    made = callhouse(
        "accounts", "create", "--email", "firstname.lastname[/red]@x.example", data=data, env={"COLUMNS": "40"}
    )
    assert "firstname.lastname[/red]@x.example" in made.stdout
    login = re.search(r"developer key +(\w{32})\b", made.stdout)
    assert login
    # Lines that a file gets are not broken for a terminal.
    assert made.stdout.splitlines()[-1].endswith("makes new ones.")
    assert made.stdout.splitlines()[-1].startswith("Any of them sends calls.")
    assert "[/red]" in callhouse("accounts", "list", data=data).stdout
    with Server(data) as server:
        call = {
            "session_id": "esc[/red]",
            "src": "\u001b]0;pwned\u0007[bold]x",
            "start": now_seconds - 9,
            "end": now_seconds - 1,
            "events": [{"timestamp": now_seconds - 5, "class": "info", "line": "findme"}],
        }
        auth = ("firstname.lastname[/red]@x.example", login[1])
        assert server.client.post("/ingest/calls", json=call, auth=auth).json()["accepted"] == 1
        found = callhouse("search", "--account", "1", "findme", data=data).stdout
    assert "esc[/red]" in found
    assert "[bold]x" in found
    assert "\u001b" not in found
    failed = callhouse("serve", "--data", "/proc/[/x]", check=False)
    assert (failed.returncode, "/proc/[/x]" in failed.stderr) == (1, True)
