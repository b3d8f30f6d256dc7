"""The command line in a fork of a process that has loaded it already: most of a command's time is loading it."""

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import PIPE

SECONDS = 120
ENVIRONMENT = {"NO_COLOR": "1", "COLUMNS": "200"}

_one_at_a_time = threading.Lock()


@functools.cache
def _channel():
    """To ``loaded.py``, which ends with this process."""
    channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("loaded.py"), str(its.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # What is loaded looks at the environment once.
            env={**os.environ, **ENVIRONMENT},
            pass_fds=[its.fileno()],
            # Ctrl-C is for the tests, which end what they started.
            process_group=0,
        )
    atexit.register(_end, channel, process)
    return channel


def _end(channel, process):
    channel.close()
    process.wait(SECONDS)


class Started:
    """``callhouse ARGUMENTS`` running in a group of its own, with the parts of ``subprocess.Popen`` that tests use.

    It has this process's environment with *environment*, its directory, and its standard streams but for those given.
    """

    def __init__(self, arguments, *, stdout=None, stderr=None, environment=None):
        self.args = arguments
        self.returncode = None
        message = {
            "arguments": list(map(str, arguments)),
            "environment": {**os.environ, **(environment or {})},
            "directory": str(Path.cwd()),
        }
        self._told, teller = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as its:
            its.enter_context(teller)
            self.stdout, output = _stream(stdout, 1, its)
            self.stderr, errors = _stream(stderr, 2, its)
            with _one_at_a_time:
                socket.send_fds(_channel(), [json.dumps(message).encode()], [teller.fileno(), 0, output, errors])
        self.pid = self._next()

    def _next(self):
        told = self._told.recv(64)
        assert told, "the process that had loaded the command line is gone"
        return int(told)

    def poll(self):
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = self._next()
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout) from None
            self._told.close()
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout=None):
        """Wait for its end; what it wrote to each pipe, where it must have had room."""
        self.wait(timeout)
        return tuple(stream and _rest(stream) for stream in (self.stdout, self.stderr))


def _stream(given, number, its):
    """The end of a pipe to read from, if that was asked for, and the descriptor that the process is to have."""
    if given != PIPE:
        return None, number if given is None else given.fileno()
    reader, writer = os.pipe()
    its.callback(os.close, writer)
    return os.fdopen(reader, encoding="utf-8"), writer


def _rest(stream):
    with stream:
        return stream.read()


def kill_group(process):
    """SIGKILL to *process* and all that it started, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(SECONDS)


def run(arguments):
    """Run the command line; the finished process, with its output as text."""
    with tempfile.TemporaryDirectory() as directory:
        output, errors = Path(directory, "output"), Path(directory, "errors")
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            process = Started(arguments, stdout=stdout, stderr=stderr, environment=ENVIRONMENT)
        try:
            process.wait(SECONDS)
        finally:
            if process.returncode is None:
                kill_group(process)
        return subprocess.CompletedProcess(
            arguments, process.returncode, output.read_text("utf-8"), errors.read_text("utf-8")
        )
