"""Three accounts of a vendor, followed through a bad network by a process that is killed again and again."""

import asyncio
import json
import os
import random
import threading
import time
from contextlib import ExitStack
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
import pytest
from yarl import URL

import stores
from callhouse import simulation
from callhouse.sources import native
from command import Started, kill_group
from mirror.faulty_proxy import FAULTS, FaultyProxy
from serving import Server, callhouse, send, wait_until

KILLS = 20
LATEST = 5
"""Seconds by which a call, or a change to one, comes late at most. It is found when it is twice as late."""

KEPT = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever", "log.level=warning")
APIS = ("fuse", "dev", "plivo")
DAY = 86_400


@pytest.fixture
def seed():
    chosen = int(os.environ.get("CALLHOUSE_TEST_SEED") or random.randrange(2**32))
    print(f"CALLHOUSE_TEST_SEED={chosen}")
    return chosen


def records(api, seed, count, since, until):
    """Simulated calls of whole seconds: the vendors tell no fractions, which decide what stands first in a list."""
    for call, events in simulation.calls(seed, count, since * 1000, until * 1000):
        record = json.loads(native.written(call, events))
        record["start"] = int(record["start"])
        # Plivo knows a call by its uuid alone.
        record["session_id"] = record["call_uuid"] if api == "plivo" else record["session_id"]
        if len(events) > 3 and len(record["session_id"]) % 2:
            at = int(events[2].timestamp // 1000)
            record["events"].append({"timestamp": at, "class": "error", "line": f"errno: {at % 300}", "data": {}})
        yield record


class Traffic(threading.Thread):
    """Lets calls end at the vendor, late ones and changed ones among them, until it is over."""

    def __init__(self, vendor, logins, seed):
        super().__init__(name="traffic")
        self._vendor = vendor
        self._logins = logins
        self._random = random.Random(seed)
        self._recent = {api: [] for api in APIS}
        self._numbers = iter(range(10**9))
        self.over = threading.Event()
        self.calls = self.changes = 0
        self.failure = None

    def run(self):
        try:
            while not self.over.wait(0.25):
                for api, login in self._logins.items():
                    send(self._vendor, login, [self._call(api), self._call(api), *self._changed(api)])
        except BaseException as failure:  # noqa: BLE001 — told by the test
            self.failure = failure

    def _call(self, api):
        """A call of one second or two that ended up to LATEST seconds ago."""
        number, now = next(self._numbers), int(time.time())
        start = now - self._random.randint(1, LATEST)
        call = {
            "session_id": f"7{number:05d};{number % 1000:03d};{start - 9}", "start": start,
            "end": start + self._random.choice([1, 1.25]), "src": f"212555{number % 10_000:04}", "dest": "8005550100",
            "direction": self._random.choice(["inbound", "outbound", "transfer"]), "channel": str(number % 1000),
            "location": "Omaha", "call_uuid": f"{number:08x}-0000-4000-a000-000000000000", "answer": start,
            "rate": "0.0085", "billed_duration": 60, "hangup_cause_code": 4000, "hangup_source": "Caller",
            "events": [
                {"timestamp": start + step / 3, "class": kind, "line": f"step {step} of {number}", "data": {"n": step}}
                for step, kind in enumerate(self._random.choices(["info", "event", "debug", "prompt"], k=3))
            ],
        }  # fmt: skip
        if api == "plivo":
            call["session_id"] = call["call_uuid"]
        self._recent[api].append(call)
        self.calls += 1
        return call

    def _changed(self, api):
        """A call that is told of again, fuller or otherwise, if one is young enough to be found soon."""
        young = [call for call in self._recent[api] if time.time() - call["start"] < LATEST - 1]
        self._recent[api] = young
        for call in young[:1]:
            change = self._random.choice(["dest", "amount", "event", "error"])
            at = call["start"] + self._random.choice([0, 1])
            if change in {"event", "error"}:
                kind = "error" if change == "error" else "info"
                call["events"].append(
                    {"timestamp": at, "class": kind, "line": f"late {len(call['events'])}", "data": {}}
                )
            else:
                call[change] = {"dest": "8005550199", "amount": f"0.{self._random.randrange(10**5):05}"}[change]
            self.changes += 1
            yield call


def progress(data):
    """How many calls the mirrors were told of so far."""
    [(calls,)] = stores.sql(data, "SELECT coalesce(sum(calls), 0) FROM mirrors")
    return calls


def test_every_answer_is_the_vendors_however_bad_the_network_and_however_often_the_mirror_is_killed(tmp_path, seed):
    rng = random.Random(seed)
    with ExitStack() as stack:
        vendor = stack.enter_context(Server(tmp_path / "vendor", *KEPT))
        here = stack.enter_context(Server(tmp_path / "here", *KEPT, "mirror.background=false"))
        proxy = stack.enter_context(FaultyProxy(vendor.url, seed=seed, faults=0.1))
        since = int(time.time()) - 2 * DAY
        there, mine = {}, {}
        for api in APIS:
            options = (f"{api}@example.com", "--login", api, "--timezone", "America/New_York")
            there[api], mine[api] = vendor.account(*options), here.account(*options)
            send(vendor, there[api], list(records(api, seed, 250, since, int(time.time()) - 3600)))
            add(api, proxy.url, there[api], mine[api], here, tmp_path)
        traffic = Traffic(vendor, there, seed)
        traffic.start()
        try:
            for _ in range(KILLS):
                follow_for_a_while(here.data, rng)
        finally:
            traffic.over.set()
            traffic.join()
        assert traffic.failure is None
        # What came last is twice as late by then.
        settled = time.monotonic() + 2 * LATEST + 2
        wait_until(lambda: time.monotonic() > settled, "the time passes")
        done = callhouse("mirror", "run", "--once", "--set", "mirror.every=1s", data=here.data, check=False)
        while done.returncode:
            assert "vendor" in done.stderr, done.stderr
            done = callhouse("mirror", "run", "--once", "--set", "mirror.every=1s", data=here.data, check=False)
        print(f"{traffic.calls} calls, {traffic.changes} changes, {proxy.answers}")
        assert traffic.calls > 100
        assert traffic.changes > 30
        assert set(FAULTS) <= set(proxy.answers)
        for api in APIS:
            compare(api, (vendor, there[api]), (here, mine[api]), since)
        quarantined = callhouse("quarantine", "list", "--json", data=here.data)
        assert json.loads(quarantined.stdout) == []


def add(api, url, there, mine, here, tmp_path):
    user, secret = getattr(there, api)
    (tmp_path / f"{api}.secret").write_text(secret)
    words = ["mirror", "add", api, "--name", api, "--account", mine.id, "--user", user, "--url", url,
             "--secret-file", tmp_path / f"{api}.secret", "--rate", 100_000]  # fmt: skip
    # The network is bad from the start.
    wait_until(lambda: callhouse(*words, data=here.data, check=False).returncode == 0, "the mirror is added")


def follow_for_a_while(data, rng):
    """Follow until something came, and a little longer; then kill the process in whatever it does."""
    before = progress(data)
    with (data.parent / "mirror.log").open("ab") as log:
        process = Started(["mirror", "run", *stores.options(data), "--set", "mirror.every=1s"], stdout=log, stderr=log)
    try:
        wait_until(lambda: progress(data) > before or process.poll() is not None, "the mirror makes progress")
        assert process.poll() is None, (data.parent / "mirror.log").read_text()
        time.sleep(rng.random() * 0.4)
    finally:
        kill_group(process)


def compare(api, there, here, since):
    """Ask both for everything in every window, and in every form."""
    now = int(time.time())
    middle = (since + now) // 2
    windows = [(since, now), (since, middle), (middle, now), (now - 300, now), (now - 30, now - 20)]
    windows += [(start, start + 6 * 3600) for start in range(since, now, 6 * 3600)]
    forms = ("application/json",) if api == "plivo" else ("application/json", "application/xml")
    cases = [(*question, accept) for question in questions(api, windows, there) for accept in forms]
    assert len(cases) > 400
    answers = [asyncio.run(answered(server.url, login, api, cases)) for server, login in (there, here)]
    for case, *found in zip(cases, *answers, strict=True):
        assert found[0] == found[1], case


async def answered(url, login, api, cases):
    """What the server answers in each case; a few are asked at once, as one by one they would take a minute."""
    left, found = iter(range(len(cases))), [None] * len(cases)
    authorization = aiohttp.encode_basic_auth(*getattr(login, api))

    async def work(client):
        for number in left:
            path, parameters, accept = cases[number]
            query = f"?{urlencode(parameters)}" if parameters else ""
            address = URL(url + path.replace("AUTH_ID", login.auth_id) + query, encoded=True)
            async with client.get(address, headers={"Accept": accept}) as answer:
                found[number] = answer.status, plain(await answer.text(), login)

    async with aiohttp.ClientSession(headers={"Authorization": authorization}) as client:
        await asyncio.gather(*(work(client) for _ in range(8)))
    return found


PAGES = ({"limit": 10_000}, {"limit": 7, "offset": 3}, {"number": "8005550199"})


def questions(api, windows, there):
    if api == "fuse":
        yield from listed("/api/{}/{}/{}", ("calls", "all_logs"), windows)
        for call in ask(there, "fuse", "/api/calls/{}/{}".format(*windows[0]))["calls"]:
            yield f"/api/call/{quote(call['session_id'], safe='')}", {}
    elif api == "dev":
        yield from listed("/ws/calls/{}/{}/{}", ("logs", "sessions", "errors"), windows)
        for call in ask(there, "dev", "/ws/calls/logs/{}/{}".format(*windows[0]))["result"]["logs"]:
            yield f"/ws/calls/log/{call['log_id']}", {}
    else:
        times = [
            {f"end_time__{form}": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
             for form, at in zip(("gte", "lt"), window, strict=True)}
            for window in windows
        ]  # fmt: skip
        filters = [{}, {"call_direction": "inbound"}, {"to_number": "800"}, {"bill_duration__gt": 30},
                   {"hangup_cause_code": 4010}, {"hangup_source": "Caller"}, {"offset": 40, "limit": 5}]  # fmt: skip
        for window in times:
            yield from (("/v1/Account/AUTH_ID/Call/", {**window, **each}) for each in filters)
        total = ask(there, "plivo", f"/v1/Account/{there[1].auth_id}/Call/")["meta"]["total_count"]
        for offset in range(0, total, 20):
            yield "/v1/Account/AUTH_ID/Call/", {"offset": offset}
            page = ask(there, "plivo", f"/v1/Account/{there[1].auth_id}/Call/?offset={offset}")
            yield from ((f"/v1/Account/AUTH_ID/Call/{call['call_uuid']}/", {}) for call in page["objects"])


def listed(path, names, windows):
    for window in windows:
        for name in names:
            yield from ((path.format(name, *window), page) for page in PAGES)


def ask(place, api, path):
    server, login = place
    return server.client.get(path, params={"limit": 10_000} if api != "plivo" else {}, auth=getattr(login, api)).json()


def plain(body, login):
    """What was answered, without the ids of the account and of the request."""
    body = body.replace(login.auth_id, "AUTH_ID")
    if body.startswith('{"api_id"') and "meta" in body:
        body = msgspec.json.encode({**json.loads(body), "api_id": ""}).decode()
    return body
