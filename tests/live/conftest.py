"""Fixtures of the tests with real switches."""

import os
import signal
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def processes():
    """Starts programs and ends them again."""
    running = []

    def start(command, cwd):
        log = (cwd / f"{len(running)}-{Path(command[0]).name}.log").open("wb")
        process = subprocess.Popen(
            list(map(str, command)), cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        )
        running.append((process, log))
        return process

    yield start
    for process, log in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.close()
