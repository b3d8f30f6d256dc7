"""What tests start as a fork is as a process of its own would be."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from command import SECONDS, run
from serving import COMMAND, Server, wait_until


def worker_of(server):
    pid = server.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def is_over(pid):
    """Whether it has ended, be it that nobody has asked how yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def inherited(server):
    """What the process has of who started it: open files, what is done about signals, its group."""
    process = Path(f"/proc/{server.process.pid}")
    files = {int(file.name): stat.S_IFMT(file.stat().st_mode) for file in (process / "fd").iterdir()}
    signals = [
        line for line in (process / "status").read_text().splitlines() if line.startswith(("SigB", "SigI", "SigC"))
    ]
    groups = [os.getpgid(pid) == server.process.pid for pid in (server.process.pid, worker_of(server))]
    return files, signals, groups


def test_a_fork_inherits_no_more_than_a_process_of_its_own(tmp_path):
    with Server(tmp_path / "fork") as fork, Server(tmp_path / "own", command=COMMAND) as own:
        assert inherited(fork) == inherited(own)


def test_the_worker_of_a_server_that_was_killed_ends(tmp_path):
    server = Server(tmp_path / "data")
    worker = worker_of(server)
    os.kill(server.process.pid, signal.SIGKILL)
    assert server.process.wait(SECONDS) == -signal.SIGKILL
    wait_until(lambda: is_over(worker), "the end of the worker")
    server.kill()


def test_a_command_is_run_in_the_directory_and_environment_of_the_moment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CALLHOUSE_LOG_LEVEL", "warning")
    Path("here.toml").write_text("[server]\nport = 81\n")
    shown = run(["config", "--json", "--config", "here.toml"]).stdout
    assert '"warning"' in shown
    assert "81" in shown
    monkeypatch.delenv("CALLHOUSE_LOG_LEVEL")
    assert '"warning"' not in run(["config", "--json"]).stdout


@pytest.mark.sqlite_only
def test_what_the_tests_leave_running_ends_with_them(tmp_path):
    program = "import os, serving, sys; print(serving.Server(sys.argv[1]).process.pid, flush=True); os._exit(1)"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "data"],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    wait_until(lambda: is_over(int(done.stdout)), "the end of the server")
