"""What stands in deploy/ is valid, and the server does all its work within what the service is allowed."""

import ctypes.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import stores
from callhouse.settings import load
from callhouse.store.check import check_store
from postgres import Cluster
from serving import COMMAND, Server, create_account, get, send

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "callhouse.service"
COMPOSE = ROOT / "deploy" / "compose.yaml"
EXPOSURE = 20
"""Tenths on the scale of ``systemd-analyze security``, on which 100 is anything goes."""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
needs_seccomp = pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="libseccomp is not installed")


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_service(tmp_path):
    unit = tmp_path / "callhouse.service"
    # Where it will be installed there is nothing here.
    unit.write_text(UNIT.read_text().replace("/opt/callhouse/bin/callhouse", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_systemd_takes_the_service_for_well_confined():
    rated = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", UNIT]
    done = subprocess.run(rated, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@needs_systemd
@needs_seccomp
def test_the_server_works_as_no_root_and_with_no_more_than_the_service_allows(tmp_path, now_seconds):
    data = tmp_path / "data"
    login = create_account(data, "a@example.com", "--login", "a")
    # To the server its user is another one; the files of these tests are still its own.
    as_another = ["unshare", "--user", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    confined = [*as_another, sys.executable, str(ROOT / "tests" / "confined.py"), str(UNIT)]
    tried = subprocess.run([*confined, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"nothing can be confined here: {tried.stderr.strip()}")
    with Server(data, command=[*confined, *COMMAND]) as server:
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        assert "Seccomp:\t2" in status
        assert "CapEff:\t0000000000000000" in status
        event = {"timestamp": now_seconds - 30, "class": "info", "line": "x", "data": {}}
        call = {"session_id": "s", "start": now_seconds - 60, "end": now_seconds - 1, "events": [event]}
        send(server, login, [call])
        for path in (f"/api/all_logs/1/{now_seconds}", "/metrics", "/readyz", "/docs", "/openapi.json"):
            assert get(server, login, path).status_code == 200
        # The slow hash has threads of its own.
        assert (
            server.client.get(f"/ws/calls/sessions/{now_seconds - 3600}/{now_seconds}", auth=login.dev).status_code
            == 200
        )
        assert server.stop() == 0
    assert check_store(stores.location(data), lambda *_: None).findings == []


def test_the_image_runs_as_another_user_than_root_and_holds_no_build():
    *_, final = (ROOT / "deploy" / "Dockerfile").read_text().split("\nFROM ")
    assert "\nUSER callhouse\n" in final
    assert final.rindex("\nUSER ") < final.index("\nENTRYPOINT ")
    assert "pip install" not in final
    assert "apt-get" not in final


@pytest.fixture
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_the_services_together_name_nothing_that_is_not_there_and_hold_no_password(services):
    whole = yaml.safe_load(COMPOSE.read_text())
    database, node = services["database"], services["node"]
    for service in (database, node):
        assert set(service["secrets"]) == set(whole["secrets"])
    assert {mount.partition(":")[0] for mount in database["volumes"]} == set(whole["volumes"])
    assert (COMPOSE.parent / node["build"]["context"] / node["build"]["dockerfile"]).samefile(
        ROOT / "deploy" / "Dockerfile"
    )
    assert set(node["depends_on"]) <= set(services)
    assert f"@database/{database['environment']['POSTGRES_DB']}" in node["environment"]["CALLHOUSE_STORE_URL"]
    settings, _ = load(None, node["environment"], {})
    assert settings.store.shown() == settings.store.url
    assert "***" not in settings.store.shown()
    # The secret's file lies where git leaves it out.
    [secret] = whole["secrets"].values()
    ignored = subprocess.run(["git", "-C", ROOT / "deploy", "check-ignore", "-q", secret["file"]], check=False)
    assert ignored.returncode == 0 or not (ROOT / ".git").exists()


@pytest.mark.clusters
def test_the_services_node_finds_its_password_in_the_secret(services, tmp_path):
    node = services["node"]
    secret, password = tmp_path / "password", "f00d" * 12
    secret.write_text(f"{password}\n")
    program = tmp_path / "callhouse"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m callhouse "$@"\n')
    program.chmod(0o755)
    with Cluster(auth="scram-sha-256", password=password) as cluster:
        cluster.sql("CREATE DATABASE callhouse OWNER callhouse")
        url = node["environment"]["CALLHOUSE_STORE_URL"].replace("@database", "@127.0.0.1")
        environment = {"CALLHOUSE_STORE_URL": url, "PGPORT": str(cluster.port)}
        entry = [
            word.replace("$$", "$").replace("/run/secrets/database_password", str(secret))
            for word in node["entrypoint"]
        ]
        for command in ("accounts create --email ops@example.com", "accounts list", "check"):
            done = subprocess.run(
                [*entry, *command.split()], capture_output=True, text=True, check=False,
                env={**os.environ, **environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
        assert "Nothing is wrong" in done.stdout
