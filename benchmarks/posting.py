"""Clients that post bodies from a file, one a line, each as soon as its last one was answered.

A program of its own, so that the load comes from another process; ``posted`` runs it.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import uvloop

_ACCEPTED = b'{"accepted":1,'


class Posted(NamedTuple):
    """Answers a second, and how long one took, in ms."""

    rate: float
    p50: float
    p99: float


def posted(url: str, authorization: str, clients: int, bodies: Path, rate: float = 0.0) -> Posted:
    """Post all of *bodies* from so many clients; with a *rate*, so many a second. Every body must be accepted."""
    command = [sys.executable, __file__, url, authorization, str(clients), str(bodies), str(rate)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return Posted(**json.loads(told))


def request_bytes(url: str, authorization: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: {authorization}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class _Sender(asyncio.Protocol):
    """Sends one request of *requests* after the other; *pause* is the least time between two."""

    def __init__(self, requests: Iterator[bytes], times: list[float], pause: float) -> None:
        self._requests = requests
        self._times = times
        self._pause = pause
        self._began = self._due = 0.0
        self._answer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            return
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, _, body = self._answer.partition(b"\r\n\r\n")
        if not body.endswith(b"}"):
            return
        self._times.append(time.perf_counter() - self._began)
        if not head.startswith(b"HTTP/1.1 200 ") or not body.startswith(_ACCEPTED):
            self.done.set_exception(RuntimeError(self._answer[:500].decode()))
            return
        self._answer = b""
        if self._pause:
            # From the last beginning, so that slow answers are not followed by fewer requests.
            asyncio.get_running_loop().call_later(max(0.0, self._pause - self._times[-1]), self.send)
        else:
            self.send()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed the connection"))


async def _post(url: str, authorization: str, clients: int, bodies: list[bytes], rate: float) -> Posted:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    requests = iter([request_bytes(url, authorization, body) for body in bodies])
    times: list[float] = []
    pause = clients / rate if rate else 0.0
    senders = [
        (await loop.create_connection(lambda: _Sender(requests, times, pause), parts.hostname, parts.port))[1]
        for _ in range(clients)
    ]
    began = time.perf_counter()
    for sender in senders:
        sender.send()
    await asyncio.gather(*(sender.done for sender in senders))
    took = time.perf_counter() - began
    return Posted(len(times) / took, statistics.median(times) * 1000, sorted(times)[len(times) * 99 // 100] * 1000)


if __name__ == "__main__":
    asked, credentials, wide, file, most = sys.argv[1:]
    found = uvloop.run(_post(asked, credentials, int(wide), Path(file).read_bytes().splitlines(), float(most)))
    print(json.dumps(found._asdict()))
