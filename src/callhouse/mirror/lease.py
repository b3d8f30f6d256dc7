"""One process at a time follows a mirror: who, stands in the store, and for how long that holds."""

import functools
import os
import secrets
import socket
from pathlib import Path

SECONDS = 15
"""For how long a process that says nothing more keeps a mirror."""

BEAT_SECONDS = 3.0
"""How often it says so."""


def new_owner() -> str:
    """A name for this process, which tells others on the machine whether it still runs."""
    return f"{_place()}/{os.getpid()}/{secrets.token_hex(8)}"


@functools.cache
def _place() -> str:
    """Where ids of processes mean what they mean here: this machine since it was started, or a container of it.

    Machines that share a database may well have the same name.
    """
    started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()}:{started}:{Path('/proc/self/ns/pid').readlink().name}"


def is_gone(owner: str | None, ours: str) -> bool:
    """Whether *owner* surely runs no longer: a process of this machine that has ended, or was what this one is now."""
    if owner is None or owner == ours:
        return False
    place, _, rest = owner.rpartition("/")[0].rpartition("/")
    if place != _place():
        return False
    pid = int(rest)
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
