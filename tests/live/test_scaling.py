"""The commands of docs/scaling.md do what the page says, and the password of the database stands in no output."""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme

import stores
from postgres import Cluster, binaries, free_port
from serving import COMMAND, Server, callhouse, get, send, wait_until
from watching import worker

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
OTHERS = ("serve", "generate", "docker")
"""Commands that end not at once, or that others try."""
PASSWORD = "Sesame/open@12:3"
"""With signs that a URL must hold percent-encoded."""
ENCODED = quote(PASSWORD, safe="")


def commands(section):
    """The blocks of commands below a heading of the page, those of its subsections left out."""
    text = re.split(r"\n##+ ", PAGE.partition(f"\n## {section}\n")[2])[0]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert blocks, section
    return [block for block in blocks if not re.search(rf"^(callhouse )?({'|'.join(OTHERS)})\b", block, re.MULTILINE)]


@pytest.fixture
def cluster(tmp_path):
    """A server that takes connections over TLS with a password, and its authority's certificate."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    with Cluster(auth="scram-sha-256", password=PASSWORD) as server:
        # Only there may its user read them.
        for name, pems in (("server.crt", issued.cert_chain_pems), ("server.key", [issued.private_key_pem])):
            (server.data / name).write_bytes(b"".join(pem.bytes() for pem in pems))
            (server.data / name).chmod(0o600)
            os.chown(server.data / name, server.data.stat().st_uid, server.data.stat().st_gid)
        hba = server.data / "pg_hba.conf"
        hba.write_text("host all postgres 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        server.sql("DROP ROLE callhouse", "ALTER SYSTEM SET ssl = on")
        server.restart()
        (tmp_path / ".postgresql").mkdir()
        authority.cert_pem.write_to_path(tmp_path / ".postgresql" / "root.crt")
        yield server


@pytest.fixture
def shell(cluster, tmp_path):
    """Runs commands of the page as somebody whose home is *tmp_path*, with the server's names for the page's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    superuser = f'PGUSER=postgres PGDATABASE=postgres PGHOST=127.0.0.1 PGPASSWORD="{PASSWORD}"'
    for name, line in {
        "sudo": f'shift 2; {superuser} exec "$@"',
        "callhouse": f'exec {sys.executable} -m callhouse "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PGPORT": str(cluster.port),
        "PATH": f"{programs}:{binaries()}:{os.environ['PATH']}",
    }

    def run(*blocks, typed=""):
        script = "\n".join(["set -eu", *blocks]).replace("db.example.com", "localhost")
        script = script.replace("PASSWORD", PASSWORD.replace(":", "\\:"))
        # Without a terminal psql asks for a password on the standard input.
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, input=typed, capture_output=True, text=True,
            start_new_session=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.clusters
def test_the_commands_of_the_page_set_up_back_up_restore_and_check_a_store(shell, cluster, tmp_path):
    database, node = commands("Set up a database")
    shell(database, typed=f"{PASSWORD}\n{PASSWORD}\n")
    assert "Nothing is wrong" in shell(node)
    assert stat.S_IMODE((tmp_path / ".pgpass").stat().st_mode) == 0o600
    url = re.search(r"CALLHOUSE_STORE_URL='(\S+)'", node)[1]
    listed = shell(f"psql '{url}' --tuples-only --command 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'")
    assert listed.strip() == "t"
    shell(f"export CALLHOUSE_STORE_URL='{url}'", "callhouse generate --calls 50 --account 1")

    dump, restore = commands("Backup")
    shell(dump)
    assert stat.S_IMODE((tmp_path / "callhouse.dump").stat().st_mode) == 0o600
    assert re.search(r"Nothing is wrong; .*\b50 calls\b", shell(restore))

    [check] = commands("Check")
    assert "Nothing is wrong" in shell(f"export CALLHOUSE_STORE_URL='{url}'", check)


@pytest.mark.clusters
def test_the_password_of_the_database_stands_in_no_output_and_no_log(cluster, tmp_path, monkeypatch, now_seconds):
    monkeypatch.setenv("PGSSLROOTCERT", str(tmp_path / ".postgresql" / "root.crt"))
    cluster.sql(f"CREATE ROLE callhouse LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE callhouse OWNER callhouse")
    url = f"postgresql://callhouse:{ENCODED}@localhost:{cluster.port}/callhouse?sslmode=verify-full"
    monkeypatch.setenv("CALLHOUSE_STORE_URL", url)
    # A replica where nobody listens.
    monkeypatch.setenv("CALLHOUSE_STORE_REPLICAS", url.replace(str(cluster.port), str(free_port())))
    shown = []

    def told(*arguments, status=0):
        done = callhouse(*arguments, check=False)
        assert done.returncode == status, done.stderr
        shown.append(done.stdout + done.stderr)

    data = tmp_path / "data"
    stores.databases.take(data, url)
    with Server(data, "log.level=debug", command=COMMAND) as server:
        # It was told on the command line, which everybody can read.
        shown += [(each / "cmdline").read_text() for each in (Path(f"/proc/{server.process.pid}"), worker(server))]
        login = server.account()
        for arguments in (("config",), ("config", "--json"), ("accounts", "list"), ("check",), ("check", "--json")):
            told(*arguments)
        unreadable = url.replace(ENCODED, PASSWORD)
        told("serve", "--port", "0", "--set", f"store.replicas={unreadable}", status=1)
        assert "The URL of the database cannot be read" in shown[-1]
        send(server, login, [{"session_id": "s", "start": now_seconds - 60, "end": now_seconds - 1}])

        def ask():
            answers = [get(server, login, f"/api/calls/1/{now_seconds}")]
            answers += [server.client.get(path) for path in ("/metrics", "/readyz", "/openapi.json", "/console")]
            shown.extend(f"{answer.headers} {answer.text}" for answer in answers)
            return answers[0].status_code

        assert ask() == 200
        cluster.stop(signal.SIGQUIT)
        wait_until(lambda: ask() == 500, "a failure")
        told("accounts", "list", status=1)
        told("check", status=1)
        told("serve", "--port", "0", status=1)
    shown.append(server.log.read_text())
    assert all("***" in text for text in (shown[0], shown[2]))
    assert "store.not_ready" in shown[-1]
    assert "store.replica_failed" in shown[-1]
    for secret in (PASSWORD, ENCODED):
        assert not [text for text in shown if secret in text]


@pytest.mark.parametrize("setting", ["store.url", "store.replicas"])
@pytest.mark.parametrize(
    "password",
    ["open/sesame", "12/sesame", "/sesame", "@sesame", "sesame@open", "sesame:open@", "sesame%zz", "sesame open"],
)
def test_a_password_that_was_not_percent_encoded_stands_in_no_output_either(password, setting):
    chosen = {"store.url": "postgresql:///none", setting: f"postgresql://callhouse:{password}@127.0.0.1:1/callhouse"}
    words = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    for command in (["config"], ["accounts", "list"], ["check"]):
        done = callhouse(*command, *words, check=False)
        assert done.returncode == 1 or command == ["config"]
        assert "sesame" not in done.stdout + done.stderr
