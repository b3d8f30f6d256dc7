"""A proxy before a vendor that does to requests and answers what networks and busy servers do."""

import asyncio
import random
import threading
from collections import Counter

FAULTS = ("delay", "refuse", "hang up before", "hang up within", "truncate", "repeat", "429", "500", "garble")


class FaultyProxy:
    """Passes HTTP on to *url*; a share of *faults* of the requests meets a fault, drawn from *seed*. A context manager.

    ``answers`` counts what it did, ``url`` is where it listens.
    """

    def __init__(self, url, *, seed, faults=0.2):
        host, _, port = url.removeprefix("http://").partition(":")
        self._vendor = host, int(port)
        self._random = random.Random(seed)
        self.faults = faults
        self.answers = Counter()
        self.requests = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faulty-proxy")

    def __enter__(self):
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._connection, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_):
        async def stop():
            self._server.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._run(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _connection(self, reader, writer):
        try:
            while request := await _head(reader):
                self.requests.append((self._loop.time(), request.split(b" ")[1].decode()))
                fault = self._random.choice(FAULTS) if self._random.random() < self.faults else "none"
                self.answers[fault] += 1
                if not await self._answered(request, fault, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answered(self, request, fault, writer):
        """Answer; False when the connection is to be cut."""
        if fault == "delay":
            await asyncio.sleep(0.2)
        if fault == "refuse":
            return False
        if fault in {"429", "500"}:
            retry = b"Retry-After: 1\r\n" if fault == "429" else b""
            status = {"429": b"429 Too Many Requests", "500": b"500 Internal Server Error"}[fault]
            writer.write(b"HTTP/1.1 %b\r\n%bContent-Length: 2\r\n\r\n{}" % (status, retry))
            await writer.drain()
            return True
        if fault == "repeat":
            await self._asked(request)
        head, body = await self._asked(request)
        if fault == "hang up before":
            return False
        if fault == "hang up within":
            writer.write(_framed(head, len(body)) + body[: self._random.randrange(len(body) + 1)])
            await writer.drain()
            return False
        if fault == "truncate":
            body = body[: self._random.randrange(max(1, len(body)))]
        if fault == "garble":
            body = body.replace(b"{", b"\xff", 1)
        writer.write(_framed(head, len(body)) + body)
        await writer.drain()
        return True

    async def _asked(self, request):
        """Head and body of the vendor's own answer."""
        reader, writer = await asyncio.open_connection(*self._vendor)
        lines = [line for line in request.split(b"\r\n") if not line.lower().startswith((b"accept-encoding", b"conn"))]
        writer.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]))
        await writer.drain()
        head = await _head(reader)
        if b"chunked" in head.lower():
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
        else:
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            body = await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()
        return head, body


async def _head(reader):
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _framed(head, length):
    """The head of an answer of that *length*, which is sent whole."""
    dropped = (b"content-length", b"transfer-encoding", b"connection")
    lines = [line for line in head.rstrip().split(b"\r\n") if not line.lower().startswith(dropped)]
    return b"\r\n".join([*lines, b"Content-Length: %d" % length, b"", b""])
