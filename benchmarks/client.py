"""HTTP clients that cost as little as they can, so that what is measured is the server."""

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 "
_LAST_CHUNK = b"\r\n0\r\n\r\n"


def request_bytes(url: str, authorization: str, accept: str = "*/*") -> bytes:
    """A GET of *url* that keeps the connection."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", f"Accept: {accept}", f"Authorization: {authorization}"]
    return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One kept-alive connection to the server of *url*; *first_byte* is when the last answer began, as perf_counter."""

    first_byte = 0.0

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(self, request: bytes) -> int:
        """Send *request* and read the answer to its last byte; how many bytes it had. Raises unless it is a 200."""
        self._socket.sendall(request)
        first = self._socket.recv(1 << 20)
        self.first_byte = time.perf_counter()
        while (head_end := first.find(b"\r\n\r\n")) < 0:
            first += self._more()
        if not first.startswith(_OK):
            raise RuntimeError(first[:200].decode())
        received, tail = len(first), first[-len(_LAST_CHUNK) :]
        if length := _LENGTH.search(first, 0, head_end):
            whole = head_end + 4 + int(length[1])
            while received < whole:
                received += len(self._more())
        else:
            while tail != _LAST_CHUNK:
                part = self._more()
                received += len(part)
                tail = (tail + part[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
        return received

    def _more(self) -> bytes:
        part = self._socket.recv(1 << 20)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part

    def close(self) -> None:
        self._socket.close()


def requests_per_second(url: str, authorization: str, connections: int, seconds: float) -> float:
    """The rate of answers to so many clients that ask again as soon as they are answered.

    The load comes from another process: wrk when it is installed, else this file.
    """
    if shutil.which("wrk"):
        load = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-H", f"Authorization: {authorization}", url]
        told = subprocess.run(load, capture_output=True, text=True, check=True).stdout
        if "Non-2xx" in told or "Socket errors" in told:
            raise RuntimeError(told)
        return float(re.search(r"Requests/sec: *([\d.]+)", told)[1])
    load = [sys.executable, __file__, url, authorization, str(connections), str(seconds)]
    return float(subprocess.run(load, stdout=subprocess.PIPE, check=True).stdout)


class _Asking(asyncio.Protocol):
    """Asks again and again; every answer must have the length of the first, or all come in chunks."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._whole: int | None = 0
        self._received = 0
        self._head = b""
        self._tail = b""
        self.answers = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._tail = (self._tail + data[-len(_LAST_CHUNK) :])[-len(_LAST_CHUNK) :]
        if self._whole == 0:
            self._head += data
            if (end := self._head.find(b"\r\n\r\n")) < 0:
                return
            if not self._head.startswith(_OK):
                raise RuntimeError(self._head[:200].decode())
            length = _LENGTH.search(self._head, 0, end)
            self._whole = end + 4 + int(length[1]) if length else None
        if self._received == self._whole or (self._whole is None and self._tail == _LAST_CHUNK):
            self._received = 0
            self.answers += 1
            self._transport.write(self._request)


async def _load(url: str, authorization: str, connections: int, seconds: float) -> float:
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    request = request_bytes(url, authorization)
    made = [
        await loop.create_connection(lambda: _Asking(request), parts.hostname, parts.port) for _ in range(connections)
    ]
    before, began = sum(asking.answers for _, asking in made), time.perf_counter()
    await asyncio.sleep(seconds)
    return (sum(asking.answers for _, asking in made) - before) / (time.perf_counter() - began)


if __name__ == "__main__":
    asked, credentials, wide, length = sys.argv[1:]
    print(asyncio.run(_load(asked, credentials, int(wide), float(length))))
