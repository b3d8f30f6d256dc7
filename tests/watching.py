"""Watching a real server from outside: its metrics, its memory, its processor time."""

import base64
import re
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from serving import SECONDS, wait_until

MEGABYTE = 1024
"""In the kilobytes that Linux counts in."""


def metrics(server):
    """The values by sample name and labels."""
    answer = server.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(server, name, **labels):
    return metrics(server).get((name, *sorted(labels.items())), 0)


def is_idle(server):
    # The request for the metrics is itself one.
    return value(server, "callhouse_requests_in_flight") == 1


def worker(server):
    """The process that answers requests: the only child of the one that was started."""
    [child] = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return Path("/proc") / child


def raw_get(server, login, path):
    """The socket of a request of which nothing was read yet."""
    address = urlsplit(server.url)
    credentials = base64.b64encode(":".join(login.fuse).encode()).decode()
    connection = socket.create_connection((address.hostname, address.port), timeout=SECONDS)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {credentials}\r\n\r\n".encode())
    return connection


class Memory:
    """The peak of the memory of a process from now on, in kilobytes beyond what it had when this was made."""

    def __init__(self, process):
        self._process = process
        # 5 resets the peak; see proc(5).
        (process / "clear_refs").write_text("5")
        self._before = self._status("VmRSS")

    def _status(self, field):
        return int(re.search(rf"{field}:\s+(\d+) kB", (self._process / "status").read_text())[1])

    def grown(self):
        return self._status("VmHWM") - self._before

    def kept(self):
        """What of that it has now."""
        return self._status("VmRSS") - self._before


def processor_ticks(process):
    return sum(map(int, (process / "stat").read_text().rpartition(") ")[2].split()[11:13]))


def wait_until_still(process):
    """Return when the process has not computed for a while: it waits for the client to read on."""
    since, ticks = time.monotonic(), processor_ticks(process)

    def is_still():
        nonlocal since, ticks
        if (now := processor_ticks(process)) != ticks:
            since, ticks = time.monotonic(), now
        return time.monotonic() - since > 0.5

    wait_until(is_still, "standing still")
