"""A call that a vendor cannot show costs the mirror that call, or its second, and no other one."""

import asyncio
import dataclasses
import json
from collections import Counter

import httpx
import msgspec
import pytest

from callhouse.errors import VendorRefusal, VendorUnavailable
from callhouse.mirror import runner as runners
from callhouse.mirror import service as services
from callhouse.mirror import vendor as vendors
from callhouse.mirror.upstreams import upstreams
from callhouse.model import halves
from mirror.stand import standing
from mirror.test_fuse import LISTED

NOW = 1_529_570_000_000
FIRST = 1_529_000_000
MINUTE = 60_000


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(vendors, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(vendors, "JITTER", 0.001)
    monkeypatch.setattr(runners, "JITTER", 0.001)
    monkeypatch.setattr(runners, "FIRST_PAUSE", 0.01)


def calls(number):
    first = {**LISTED["calls"][0], "detail": False}
    times = [FIRST + 600 * n for n in range(number)]
    return [{**first, "session_id": f"s{n}", "start": str(at), "end": str(at + 10)} for n, at in enumerate(times)]


class Vendor:
    """A Fuse with *calls*; *spoil* makes its answer for a window of what it would answer, as text."""

    def __init__(self, calls, spoil=lambda window, found, text: None):
        self.calls, self.spoil = calls, spoil
        self.asked = []
        self.transport = httpx.MockTransport(self.answer)

    def answer(self, request):
        *_, since, until = request.url.path.split("/")
        window = int(since), int(until)
        self.asked.append(window)
        if window[0] >= window[1]:
            return httpx.Response(400)
        found = [call for call in self.calls if window[0] <= int(call["start"]) < window[1]]
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        text = json.dumps({"calls": found[offset:][:limit], "total_calls": len(found)})
        return self.spoil(window, found, text) or httpx.Response(200, text=text)


def has_bad(found):
    return any(call["session_id"] == "s200" for call in found)


POISON = {
    "500": lambda _, found, __: httpx.Response(500) if has_bad(found) else None,
    "html": lambda _, found, __: httpx.Response(200, text="<html>") if has_bad(found) else None,
    "no JSON": lambda _, found, text: (
        httpx.Response(200, text=text.replace('"s200"', '"\\q"')) if has_bad(found) else 0
    ),
}


async def here(stand):
    [_, (_, body)] = await stand.both("fuse", "/api/calls/1528000000/1530000000", limit=1)
    return json.loads(body)["total_calls"]


async def once_but_for(stand, trouble):
    """Have all that can be had, where *trouble* stands in the way of the rest."""
    with pytest.raises(VendorUnavailable, match=trouble):
        await stand.once()


@pytest.mark.parametrize("kind", POISON)
def test_a_call_that_the_vendor_cannot_show_keeps_only_its_second_away_and_is_had_when_it_can_be(tmp_path, clock, kind):
    clock.now = NOW
    vendor = Vendor(calls(400), POISON[kind])

    async def work(stand):
        await stand.follow("fuse")
        bad = "between 2018-06-16 03:33:20 and 2018-06-16 03:33:21 .UTC. cannot be had"
        await once_but_for(stand, bad)
        assert await here(stand) == 399
        assert len(vendor.asked) < 300
        # What is new comes, and the second alone is asked for again.
        vendor.asked.clear()
        clock.now += 10 * MINUTE
        vendor.calls.append({**vendor.calls[0], "session_id": "new", "start": str(NOW // 1000 + 60)})
        vendor.calls[-1]["end"] = str(NOW // 1000 + 70)
        await once_but_for(stand, bad)
        assert await here(stand) == 400
        assert len(vendor.asked) < 40
        vendor.spoil = lambda *_: None
        await stand.once()
        assert await here(stand) == 401

    standing(tmp_path, clock, work, transport=vendor.transport)


def test_an_outage_narrows_no_window_and_multiplies_no_request(tmp_path, clock):
    clock.now = NOW
    vendor = Vendor(calls(400), lambda *_: httpx.Response(500))

    async def work(stand):
        await stand.follow("fuse")
        await once_but_for(stand, "status 500")

    standing(tmp_path, clock, work, transport=vendor.transport)
    asked = Counter(vendor.asked)
    probes = asked.pop((NOW // 1000 - 1, NOW // 1000))
    assert set(asked.values()) == {vendors.ATTEMPTS}
    assert probes == runners.FEW * len(asked)
    assert min(until - since for since, until in asked) >= 12 * 3600
    assert len(asked) < runners.UNDER_WAY


def is_part(part, whole):
    return part != whole and whole[0] <= part[0] and part[1] <= whole[1]


def test_an_outage_in_which_only_empty_windows_are_answered_costs_a_bounded_number_of_requests(
    tmp_path, clock, monkeypatch
):
    monkeypatch.setattr(runners, "MOST_PARTED", 8)
    clock.now = NOW
    vendor = Vendor(calls(400), lambda _, found, __: httpx.Response(500) if found else None)

    async def work(stand):
        await stand.follow("fuse")
        await once_but_for(stand, "status 500")

    standing(tmp_path, clock, work, transport=vendor.transport)
    asked = Counter(vendor.asked)
    # Each window that fails is followed by one request for the last second, which is answered.
    assert asked.pop((NOW // 1000 - 1, NOW // 1000)) == sum(times > 1 for times in asked.values())
    parts = {part for part in asked for whole in asked if is_part(part, whole)}
    assert len(parts) == 2 * runners.MOST_PARTED
    assert max(asked[part] for part in parts) == runners.FEW
    assert max(asked.values()) == vendors.ATTEMPTS
    assert len(asked) - len(parts) <= runners.UNDER_WAY


def test_half_a_surrogate_pair_costs_its_record_alone_which_is_kept_aside_as_it_came(tmp_path, clock):
    clock.now = NOW
    there = calls(5)
    there[2]["src"] = "half \ud800 of it"
    there[3]["src"] = "whole \U0001f600 \\ud800"
    vendor = Vendor(there)

    async def work(stand):
        await stand.follow("fuse")
        await stand.once()
        assert await here(stand) == 4
        [entry] = await stand.store.quarantine.list(limit=10)
        assert "half a surrogate pair" in entry.reason
        assert await stand.store.quarantine.record(entry) == json.dumps(there[2]).encode()
        [_, (_, body)] = await stand.both("fuse", "/api/calls/1528000000/1530000000")
        assert there[3]["src"] in {call["src"] for call in json.loads(body)["calls"]}

    standing(tmp_path, clock, work, transport=vendor.transport)


@pytest.mark.parametrize(
    ("text", "is_half"),
    [(r'"\ud800"', True), (r'"\udc00\ud800"', True), (r'"\ud83d\ude00"', False), (r'"\\ud800"', False),
     (r'"\\\ud800"', True), (r'"\ud83d\ude00\ude00"', True), ('"plain"', False)],
)  # fmt: skip
def test_a_half_is_told_from_a_pair_and_from_what_only_looks_like_one(text, is_half):
    assert halves.are_in(text.encode()) == is_half
    covered = halves.covered(text.encode())
    json.loads(covered).encode()
    assert halves.as_it_came(msgspec.Raw(covered)) == text.encode()


def test_calls_outside_the_window_are_not_taken_and_the_window_is_not_had(tmp_path, clock):
    clock.now = NOW
    vendor = Vendor(calls(5))
    everything = json.dumps({"calls": vendor.calls, "total_calls": 5})
    vendor.spoil = lambda *_: httpx.Response(200, text=everything)

    async def work(stand):
        await stand.follow("fuse", since=NOW - 60 * MINUTE)
        await once_but_for(stand, "outside the window")
        mirror = await stand.store.mirrors.get("followed")
        assert (mirror.calls, mirror.place, await here(stand)) == (0, "[]", 0)

    standing(tmp_path, clock, work, transport=vendor.transport)


def test_with_a_short_interval_what_failed_is_tried_again_told_meanwhile_and_the_secret_is_read_again(
    tmp_path, clock, monkeypatch
):
    monkeypatch.setattr(runners, "SEEN_TO", 50)
    clock.now = NOW
    vendor = Vendor(calls(400), POISON["500"])

    async def work(stand):
        await stand.follow("fuse")
        stand._service.every = 1
        await stand.store.mirrors.take(1, stand._service.owner, NOW + 10**7)
        runner = await stand._service.runner("followed")
        following = asyncio.create_task(runner.run())

        async def until(holds):
            for _ in range(3_000):
                if holds():
                    return
                clock.now += 37
                await asyncio.sleep(0.005)
            raise AssertionError(runner.trouble)

        bad = FIRST + 120_000, FIRST + 120_001
        try:
            await until(lambda: vendor.asked.count(bad) > 2 * vendors.ATTEMPTS + runners.FEW)
            told = set()
            for _ in range(50):
                clock.now += 37
                await asyncio.sleep(0.002)
                told.add(runner.trouble)
            assert "" not in told
            stand._service.environment["SECRET"] = ""
            await until(lambda: "SECRET" in runner.trouble)
            stand._service.environment["SECRET"] = "new"
            vendor.spoil = lambda *_: None
            await until(lambda: runner.trouble == "" and runner.calls >= 400)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    standing(tmp_path, clock, work, transport=vendor.transport)
    assert all(since < until for since, until in vendor.asked)


def test_a_call_outside_its_window_keeps_only_the_second_away_in_which_it_is_listed(tmp_path, clock):
    clock.now = NOW
    vendor = Vendor(calls(40))
    early = {**vendor.calls[20], "session_id": "early", "start": str(FIRST - 30 * 86_400)}
    listed = FIRST + 600 * 20

    def spoil(window, found, _):
        if window[0] <= listed < window[1]:
            return httpx.Response(200, text=json.dumps({"calls": [*found, early], "total_calls": len(found) + 1}))
        return None

    vendor.spoil = spoil

    async def work(stand):
        await stand.follow("fuse", since=(FIRST - 3_600) * 1000)
        await once_but_for(stand, "outside the window")
        assert await here(stand) == 39
        vendor.spoil = lambda *_: None
        await stand.once()
        assert await here(stand) == 40

    standing(tmp_path, clock, work, transport=vendor.transport)


def test_what_the_vendor_has_twice_in_one_answer_is_taken_once(tmp_path, clock):
    clock.now = NOW
    vendor = Vendor([*calls(5), calls(5)[3]])

    async def work(stand):
        await stand.follow("fuse")
        await stand.once()
        assert await here(stand) == 5

    standing(tmp_path, clock, work, transport=vendor.transport)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refused_request_for_one_call_keeps_only_its_second_away(tmp_path, clock, status):
    clock.now = NOW
    vendor = Vendor(calls(400), lambda _, found, __: httpx.Response(status) if has_bad(found) else None)

    async def work(stand):
        await stand.follow("fuse")
        await once_but_for(stand, f"status {status}")
        assert await here(stand) == 399

    standing(tmp_path, clock, work, transport=vendor.transport)


def test_a_record_at_which_reading_fails_keeps_no_other_away(tmp_path, clock, monkeypatch):
    clock.now = NOW
    vendor = Vendor(calls(5))
    fuse = upstreams()["fuse"]

    def read(record, account, max_depth):
        if b'"s3"' in record:
            raise ZeroDivisionError
        return fuse.read(record, account, max_depth)

    async def work(stand):
        monkeypatch.setattr(services, "upstreams", lambda: {"fuse": dataclasses.replace(fuse, read=read)})
        await stand.follow("fuse")
        await stand.once()
        assert await here(stand) == 4
        [entry] = await stand.store.quarantine.list(limit=10)
        assert "internal error" in entry.reason

    standing(tmp_path, clock, work, transport=vendor.transport)


def test_a_vendor_that_only_deleted_has_told_nothing(tmp_path, clock):
    clock.now = NOW
    vendor = Vendor([], lambda *_: httpx.Response(500))

    async def work(stand):
        followed = await stand.follow("fuse")
        clock.now += 30 * 24 * 60 * MINUTE
        await once_but_for(stand, "status 500")
        assert await stand.store.mirrors.losses(followed.id) != []
        mirror = await stand.store.mirrors.get("followed")
        assert mirror.succeeded is None
        assert "status 500" in mirror.trouble

    standing(tmp_path, clock, work, transport=vendor.transport)


def test_once_the_credentials_are_taken_again_a_stopped_mirror_goes_on(tmp_path, clock):
    clock.now = NOW
    vendor = Vendor(calls(5), lambda *_: httpx.Response(401))

    async def work(stand):
        await stand.follow("fuse")
        with pytest.raises(VendorRefusal):
            await stand.once()
        stopped = await stand.store.mirrors.get("followed")
        assert stopped.state == "stopped"
        assert "refuses the credentials (status 401)" in stopped.trouble
        vendor.spoil = lambda *_: None
        await stand.once()
        mirror = await stand.store.mirrors.get("followed")
        assert (mirror.state, mirror.trouble) == ("active", "")

    standing(tmp_path, clock, work, transport=vendor.transport)
