"""Vendors that answer what they should not: a mirror says so, ends no other work for it, and keeps nothing wrong."""

import asyncio
import json

import aiohttp
import httpx
import pytest

from callhouse.errors import VendorUnavailable
from callhouse.mirror import vendor as vendors
from callhouse.mirror.vendor import Vendor
from mirror.stand import standing
from mirror.test_fuse import LISTED, recorded
from mirror.test_plivo import NOW, PLACE, SAMPLE, at
from mirror.test_plivo import recorded as recorded_plivo

HOUR = 3_600_000


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(vendors, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(vendors, "JITTER", 0.001)


def ended(number, time):
    sample = SAMPLE["objects"][0]
    times = {"initiation_time": f"2022-10-12 {time}+00:00", "answer_time": None, "end_time": f"2022-10-12 {time}+00:00"}
    return {**sample, **times, "call_uuid": f"call {number}"}


def test_a_second_that_cannot_be_had_keeps_no_other_one_waiting_and_is_had_when_it_can_be(tmp_path, clock):
    clock.now = NOW
    there = [ended(number, f"{number:02}:00:00") for number in range(12)]
    bad = "2022-10-12 07:00:00"
    broken = [True]

    def listed(since, until):
        found = [call for call in there if since <= at(call) < until]
        # One call comes on two pages, so that the list is none.
        return [*found, *20 * [there[7]]] if broken and since <= bad < until else found

    async def work(stand):
        await stand.follow("plivo")
        with pytest.raises(VendorUnavailable, match="changes faster than it can be read") as raised:
            await stand.once()
        assert (await stand.store.mirrors.get("followed")).trouble == str(raised.value)
        [_, (_, body)] = await stand.both("plivo", PLACE)
        assert '"total_count":11' in body
        broken.clear()
        await stand.once()
        assert (await stand.store.mirrors.get("followed")).trouble == ""
        [_, (_, body)] = await stand.both("plivo", PLACE)
        assert '"total_count":12' in body

    standing(tmp_path, clock, work, transport=recorded_plivo(listed))


ENDLESS = {"meta": {"total_count": 10**9}, "objects": [ended(number, "10:00:00") for number in range(20)]}


NO_ANSWERS = {
    "html": b"<html>Maintenance</html>",
    "nothing": b"",
    "a list": b"[]",
    "null": b"null",
    "a total that is text": b'{"meta": {"total_count": "5"}, "objects": []}',
    "calls that are no list": b'{"meta": {"total_count": 5}, "objects": {}}',
    "a negative total": b'{"meta": {"total_count": -5}, "objects": []}',
    "fewer calls than the total": b'{"meta": {"total_count": 5}, "objects": []}',
    "more calls than the total": b'{"meta": {"total_count": 1}, "objects": [1, 2]}',
    "deep": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "an endless total": json.dumps(ENDLESS).encode(),
    "the same page again and again": json.dumps({**ENDLESS, "meta": {"total_count": 400}}).encode(),
}


def test_an_answer_that_is_none_is_told_and_nothing_is_kept(tmp_path, clock):
    clock.now = NOW
    told = []

    async def work(stand):
        await stand.follow("plivo", since=NOW - HOUR)
        for kind, body in NO_ANSWERS.items():
            told.append(body)
            with pytest.raises(VendorUnavailable, match=r"another kind|changes faster"):
                await stand.once()
            mirror = await stand.store.mirrors.get("followed")
            assert (mirror.calls, mirror.place) == (0, "[]"), kind
            assert await stand.store.quarantine.count() == 0, kind

    standing(tmp_path, clock, work, transport=httpx.MockTransport(lambda _: httpx.Response(200, content=told[-1])))


def test_what_is_too_long_for_one_answer_is_asked_for_in_narrower_windows(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(vendors, "MAX_ANSWER", 10_000)
    first = {**LISTED["calls"][0], "detail": False}
    calls = [{**first, "session_id": f"{n:06};1;1", "start": str(1529552000 + 60 * n), "end": str(1529552010 + 60 * n)}
             for n in range(120)]  # fmt: skip
    clock.now = 1529570000_000

    async def work(stand):
        await stand.follow("fuse")
        await stand.once()
        [_, (_, body)] = await stand.both("fuse", "/api/calls/1529550000/1529570000", limit=1)
        assert json.loads(body)["total_calls"] == 120

    standing(tmp_path, clock, work, transport=recorded(*calls))


def test_a_vendor_that_never_comes_to_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr(vendors, "TIMEOUT", aiohttp.ClientTimeout(total=0.5))
    monkeypatch.setattr(vendors, "ATTEMPTS", 2)

    async def drip(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.01)
        finally:
            writer.close()

    async def ask():
        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Vendor("m", f"http://127.0.0.1:{port}", ("a", "b"), 1000) as vendor:
                await vendor(dict, "/")

    with pytest.raises(VendorUnavailable, match="it takes too long"):
        asyncio.run(ask())
