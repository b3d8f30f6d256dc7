"""A real Callhouse server in a process of its own, for tests and benchmarks."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

import command
import stores
from callhouse.clock import now
from callhouse.model.account import Retention
from callhouse.store import open_store
from command import Started, kill_group

COMMAND = [sys.executable, "-m", "callhouse"]
SECONDS = 60


def callhouse(*arguments, data=None, check=True, env=None, typed=None):
    """Run the command line, with *typed* on its standard input; the finished process, with its output as text."""
    words = [*map(str, arguments), *([] if data is None else stores.options(data))]
    if env is None and typed is None:
        done = command.run(words)
    else:
        done = subprocess.run(
            [*COMMAND, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **command.ENVIRONMENT, **(env or {})},
            input=typed,
            timeout=command.SECONDS,
        )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@dataclass
class Login:
    """An account's id and credentials, as ``accounts create --json`` prints them."""

    id: int
    email: str
    developer_key: str
    login: str | None
    password: str | None
    auth_id: str
    auth_token: str

    @property
    def fuse(self):
        return (self.email, self.developer_key)

    @property
    def dev(self):
        return (self.login, self.password)

    @property
    def plivo(self):
        return (self.auth_id, self.auth_token)


class Server:
    """``callhouse serve`` on a free port over *data*; ``stop()`` it, or use it as a context manager.

    It is a fork that has loaded the server, or a process of its own of *command*, as ``COMMAND``.
    """

    def __init__(self, data: Path, *settings: str, command=None):
        self._command = command
        self.data = Path(data)
        self.log = self.data.parent / f"{self.data.name}.log"
        self._settings = [word for setting in settings for word in ("--set", setting)]
        self.process = None
        self.start()

    def start(self):
        words = ["serve", *stores.options(self.data), "--port", "0", "--set", "log.format=json", *self._settings]
        with self.log.open("ab") as log:
            if self._command is None:
                self.process = Started(words, stdout=subprocess.PIPE, stderr=log)
            else:
                self.process = subprocess.Popen(
                    [*self._command, *words], stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
                )
        ready = self.process.stdout.readline()
        if " on " not in ready:
            kill_group(self.process)
            self.process.stdout.close()
            raise AssertionError(self.log.read_text())
        self.url = ready.rpartition(" on ")[2].strip()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def stop(self):
        """SIGTERM, and wait; the exit status."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        return status

    def kill(self):
        """SIGKILL to every process of the server at once, as a power cut would stop it."""
        self.client.close()
        kill_group(self.process)
        self.process.stdout.close()

    def account(self, email="ops@example.com", *options) -> Login:
        """A new account in the server's store, made while the server runs."""
        return create_account(self.data, email, *options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


def create_account(data, email="ops@example.com", *options) -> Login:
    """An account with the *options* of ``accounts create``, made in this process, which is quicker than a command."""
    given = dict(zip([name.removeprefix("--") for name in options[::2]], options[1::2], strict=True))

    async def create():
        store = await open_store(stores.location(data), retention=Retention(), clock=now)
        try:
            return await store.accounts.create(
                email=email,
                login=given.get("login"),
                plan=given.get("plan", "standard"),
                timezone=given.get("timezone", "UTC"),
                parent_id=None if "parent" not in given else int(given["parent"]),
            )
        finally:
            await store.close()

    account, new = asyncio.run(create())
    return Login(
        id=account.id,
        email=account.email,
        developer_key=new.developer_key,
        login=account.login,
        password=new.password,
        auth_id=account.auth_id,
        auth_token=new.auth_token,
    )


def wait_until(condition, what):
    """What *condition* gives once that is true, which another process or task brings about; fails after a minute."""
    deadline = time.monotonic() + SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)
    return value


def ndjson(records):
    return b"\n".join(json.dumps(record).encode() for record in records)


def send(server, login, records, route="calls"):
    """POST *records* and assert that all were accepted."""
    answer = server.client.post(
        f"/ingest/{route}", content=ndjson(records), headers={"Content-Type": "application/x-ndjson"}, auth=login.fuse
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["rejected"] == [], answer.text
    return answer.json()


def get(server, login, path, **options):
    return server.client.get(path, auth=login.fuse, **options)
