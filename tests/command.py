"""The command line in a fork of a process that has loaded it already: most of a command's time is loading it."""

import functools
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

SECONDS = 120
ENVIRONMENT = {"NO_COLOR": "1", "COLUMNS": "200"}

_loaded = multiprocessing.get_context("forkserver")
_loaded.set_forkserver_preload(["command", "callhouse.cli", "callhouse.cli.following"])


@functools.cache
def _load():
    # What is loaded looks at the environment once.
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)


def run(arguments):
    """Run the command line; the finished process, with its output as text."""
    _load()
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory, "output"), Path(directory, "errors")
        environment = {**os.environ, **ENVIRONMENT}
        process = _loaded.Process(target=_run, args=(arguments, environment, Path.cwd(), output, errors))
        process.start()
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, SECONDS)
        done = subprocess.CompletedProcess(arguments, process.exitcode, output.read_text(), errors.read_text())
        process.close()
        return done


def _run(arguments, environment, directory, output, errors):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    for number, file in ((1, output), (2, errors)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    sys.argv = ["callhouse", *arguments]
    runpy.run_module("callhouse", run_name="__main__", alter_sys=True)
