"""Loads the server once, and becomes the command line in a fork whenever it is asked: ``loaded.py CHANNEL``.

The channel is a socket that keeps messages apart. A message has the arguments, environment and directory of a command
as JSON, and four descriptors: a socket on which to tell its process id and then how it ended, and what it is to have as
standard input, output and error. When the channel is closed, all that still runs is killed.
"""

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module

LONGEST = 2**18

# The last two are what Litestar imports when it makes an application or answers.
MODULES = (
    "callhouse.app",
    "callhouse.cli",
    "callhouse.cli.following",
    "anyio._backends._asyncio",
    "litestar.plugins.pydantic",
)


def load():
    for name in MODULES:
        # What is not there is loaded by whoever needs it.
        with suppress(ImportError):
            import_module(name)
    from callhouse import wire
    from callhouse.discovery import discover

    discover(wire, wire.Wire)
    # What all forks have is nobody's garbage.
    gc.collect()
    gc.freeze()


def next_command(channel):
    """The message of the next command, in a fork that has its standard streams; SystemExit when there is none."""
    running = {}
    with channel, selectors.DefaultSelector() as ready:
        ready.register(channel, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not channel:
                    ready.unregister(key.fd)
                    os.close(key.fd)
                    tell_end(*running.pop(key.fd))
                    continue
                message, given, _, _ = socket.recv_fds(channel, LONGEST, 4)
                if not message:
                    kill_groups(pid for pid, _ in running.values())
                    sys.exit(0)
                teller = socket.socket(fileno=given[0])
                pid = os.fork()
                if not pid:
                    # None of this is the command's.
                    teller.close()
                    for descriptor, (_, other) in running.items():
                        os.close(descriptor)
                        other.close()
                    take(given[1:])
                    return json.loads(message)
                # Before anybody knows of it, and so may end its group.
                os.setpgid(pid, pid)
                for descriptor in given[1:]:
                    os.close(descriptor)
                ended = os.pidfd_open(pid)
                running[ended] = pid, teller
                ready.register(ended, selectors.EVENT_READ)
                tell(teller, pid)


def take(streams):
    """Have *streams* as standard streams, in a group of one's own."""
    os.setpgid(0, 0)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)


def tell_end(pid, teller):
    _, status = os.waitpid(pid, 0)
    tell(teller, os.waitstatus_to_exitcode(status))
    teller.close()


def tell(teller, number):
    # Who asked may have gone.
    with suppress(BrokenPipeError):
        teller.send(str(number).encode())


def kill_groups(groups):
    for group in groups:
        os.killpg(group, signal.SIGKILL)
        os.waitpid(group, 0)


def run(command, statuses):
    os.environ.clear()
    os.environ.update(command["environment"])
    time.tzset()
    os.chdir(command["directory"])
    sys.argv = ["callhouse", *command["arguments"]]
    try:
        runpy.run_module("callhouse", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        statuses.append(end.code)
        raise


def leave(statuses):
    """End, as the last thing that an interpreter does but for taking all modules apart, which is slow."""
    for status in statuses:
        if isinstance(status, int):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def main():
    statuses = []
    # What is registered first is called last.
    atexit.register(leave, statuses)
    load()
    run(next_command(socket.socket(fileno=int(sys.argv[1]))), statuses)


if __name__ == "__main__":
    main()
