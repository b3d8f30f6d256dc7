"""Real PostgreSQL servers for tests: each a cluster of its own, on a free port, gone afterwards."""

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote, urlsplit

import psycopg

USER = "callhouse"
FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off", "autovacuum=off", "max_wal_size=256MB")
"""For tests that no crash of the server is part of."""


def binaries():
    """Where Debian keeps the programs of the newest PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    assert found, "PostgreSQL is not installed: apt-get install postgresql"
    return found[-1].parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """A server of its own, or a streaming replica of *primary*; ``stop()`` it, or use it as a context manager."""

    def __init__(self, *settings, auth="trust", password="unsaid", primary=None):
        self.directory = Path(tempfile.mkdtemp(prefix="callhouse-postgres-"))
        self.port = free_port()
        self._settings = settings
        self._databases = (f"test{n}" for n in itertools.count())
        # The server refuses to run as root.
        self._as = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.directory, "postgres", "postgres")
        self.data = self.directory / "data"
        self.superuser = f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{self.port}"
        self.password = password
        self.process = None
        try:
            self._make(auth) if primary is None else self._copy(primary)
        except BaseException:
            self.remove()
            raise

    def _copy(self, primary):
        self.run("pg_basebackup", "--pgdata", self.data, "--dbname", primary.superuser, "--write-recovery-conf",
                 "--checkpoint", "fast", "--no-sync")  # fmt: skip
        self.start()

    def _make(self, auth):
        secret = self.directory / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self.run("initdb", "--pgdata", self.data, "--username", "postgres", "--pwfile", secret, "--auth", auth,
                 "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--data-checksums")  # fmt: skip
        self.start()
        self.sql(f"CREATE ROLE {USER} LOGIN PASSWORD '{self.password}'")

    def run(self, program, *arguments):
        """Run one of PostgreSQL's own programs to its end."""
        command = [str(binaries() / program), *map(str, arguments)]
        done = subprocess.run(command, cwd="/", check=False, capture_output=True, text=True, **self._as)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, *statements):
        """Run *statements* as superuser; what the last gives."""
        with psycopg.connect(f"{self.superuser}/postgres", autocommit=True) as admin:
            for statement in statements:
                done = admin.execute(statement)
            return done.fetchall() if done.description else []

    def start(self):
        settings = ("listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.directory}",
                    "max_connections=200", *self._settings)  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.data, *(word for each in settings for word in ("-c", each))],
                cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, **self._as,
            )  # fmt: skip
        self._wait()

    def _wait(self):
        from serving import wait_until

        def answers():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            try:
                psycopg.connect(f"{self.superuser}/postgres", connect_timeout=5).close()
            except psycopg.OperationalError:
                return False
            return True

        wait_until(answers, "the start of PostgreSQL")

    def stop(self, how=signal.SIGINT):
        """SIGINT ends sessions and writes all to disk; SIGQUIT is a crash."""
        self.process.send_signal(how)
        self.process.wait(timeout=60)

    def restart(self, how=signal.SIGINT):
        self.stop(how)
        self.start()

    def database(self, template="template0"):
        """The URL of a new database."""
        name = next(self._databases)
        with psycopg.connect(f"{self.superuser}/postgres", autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE {template} STRATEGY wal_log")
        return f"postgresql://{USER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{name}"

    def drop(self, *urls):
        """Drop the databases with these URLs, whoever is connected to them."""
        with psycopg.connect(f"{self.superuser}/postgres", autocommit=True) as admin:
            for url in urls:
                admin.execute(f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")

    def remove(self):
        if self.process is not None and self.process.poll() is None:
            # Nothing of it need be on the disk any more.
            self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()
