"""kill -9 under mixed load: who sends and reads meanwhile, and what must be true when the server is back."""

import json
import random
import threading
import time
from collections import defaultdict
from functools import partial
from itertools import count

import httpx

import stores
from callhouse.store.check import check_store
from callhouse.store.rollups import COMPLETE, END, START, WIDTHS
from serving import callhouse, ndjson

SENDERS = 4
SECONDS = 60
HOUR = 3600
KEPT = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever", "log.level=warning")
PASSING = [word for kind in ("details", "sessions", "plivo") for word in ("--retention", f"{kind}=5s")]
WINDOW = "1600000000/1700000000"


class Line:
    """Where the server is at present; senders wait here while there is none, and tell here what was acknowledged."""

    def __init__(self):
        self._changed = threading.Condition()
        self._url = None
        self._generation = 0
        self.acknowledged = 0
        self.interrupted = 0
        self.over = False
        self.failures = []

    def connect(self, url):
        with self._changed:
            self._url = url
            self._generation += 1
            self._changed.notify_all()

    def cut(self):
        with self._changed:
            self._url = None

    def finish(self):
        """The test is over: nobody need send any more."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def server(self):
        """The address of the server that is up, and its generation."""
        with self._changed:
            self._changed.wait_for(lambda: self._url is not None or self.over, SECONDS)
            assert self._url is not None, "no server came back"
            return self._url, self._generation

    def fail(self, failure):
        with self._changed:
            self.failures.append(failure)
            self._changed.notify_all()

    def look(self):
        """Raise what a client failed with."""
        if self.failures:
            raise self.failures[0]

    def note(self, *, answered):
        with self._changed:
            self.acknowledged += answered
            self.interrupted += not answered
            self._changed.notify_all()

    def wait_for_acknowledgements(self, more):
        with self._changed:
            goal = self.acknowledged + more
            moved = self._changed.wait_for(lambda: self.acknowledged >= goal or self.failures, SECONDS)
            self.look()
            assert moved, "the senders stand still"


class Client(threading.Thread):
    """Does one step after the other until the line is over, each with whatever server there is."""

    def __init__(self, number, seed, line, login):
        super().__init__(name=f"{type(self).__name__} {number}")
        self._number = number
        self._rng = random.Random(f"{seed} {self.name}")
        self._line = line
        self._login = login
        self._client = None
        self._generation = 0

    def run(self):
        try:
            while not self._line.over:
                self.step()
        except BaseException as failure:  # noqa: BLE001 — told by who waits for this thread
            self._line.fail(failure)
        finally:
            if self._client is not None:
                self._client.close()

    def step(self):
        raise NotImplementedError

    def connected(self):
        """A client of the server that is up."""
        url, generation = self._line.server()
        if generation != self._generation:
            if self._client is not None:
                self._client.close()
            self._client = httpx.Client(base_url=url, timeout=SECONDS)
            self._generation = generation
        return self._client

    def is_answer(self, answer):
        """Whether *answer*, which may not be read yet, is to what was asked; what else it may be fails."""
        assert answer.status_code == 200, answer.read()
        return True

    def interrupted(self):
        """The server went away under a request."""
        self._client.close()
        self._generation = 0


class Sender(Client):
    """Sends calls as switches do, each request until it is acknowledged, and remembers what was."""

    def __init__(self, *given):
        super().__init__(*given)
        self._calls = count()
        self._sent = []
        self.expected = {}
        self.complete = set()
        self.under_way = frozenset()

    def step(self):
        ways = [self._one, self._batch, self._in_parts, self._events_first, self._again]
        self._rng.choices(ways, [3, 2, 3, 2, 2])[0]()

    def _one(self):
        call = self._call()
        self._send("calls", [call], whole=[call])

    def _batch(self):
        calls = [self._call() for _ in range(self._rng.randint(2, 25))]
        self._send("calls", calls, whole=calls)

    def _in_parts(self):
        """The call when it starts, its events as they happen, and the call again at its end."""
        call = self._call()
        events = call["events"]
        opened = {key: call[key] for key in ("session_id", "start", "src")}
        first, rest = self._rng.randint(0, len(events)), []
        self._send("calls", [{**opened, "events": events[:first]}])
        for event in events[first:]:
            if self._rng.random() < 0.6:
                self._send("events", [{"session_id": call["session_id"], "events": [event]}])
            else:
                rest.append(event)
        # What was sent already may come again with the end: twice the same event is one event.
        self._send("calls", [{**call, "events": self._rng.choice([events, rest])}], whole=[call])

    def _events_first(self):
        call = self._call()
        if call["events"]:
            self._send("events", [{"session_id": call["session_id"], "events": call["events"]}])
        self._send("calls", [{key: value for key, value in call.items() if key != "events"}], whole=[call])

    def _again(self):
        """A request that was acknowledged before: nothing may change.

        Most calls are never repeated, so that a repeat cannot put back what was lost.
        """
        repeatable = self._sent[::5]
        if repeatable:
            self._send(*self._rng.choice(repeatable), again=True)

    def _call(self):
        rng = self._rng
        number = next(self._calls)
        start = 1_650_000_000 + rng.randrange(90 * 24) * HOUR + rng.randrange(3 * HOUR)
        events = [
            {
                "timestamp": start + step,
                "class": rng.choice(["info", "event", "prompt"]),
                "line": f"step {step} of call {number} of sender {self._number}",
                "data": {"prompt_id": str(rng.randrange(10**6)), "module_type": "menu", "result_variable": "choice"},
            }
            for step in range(rng.randint(0, 8))
        ]
        if events and rng.random() < 0.3:
            events.append({**events[-1], "seq": 7})
        return {
            "session_id": f"{self._number:06d};{number % 1000:03d};{number}",
            "start": start,
            "end": start + 60,
            "src": f"212555{number:04d}",
            "dest": "8009957586",
            "direction": "inbound",
            "events": events,
        }

    def _send(self, route, records, *, whole=(), again=False):
        self.under_way = frozenset(call["session_id"] for call in whole)
        while not self._acknowledged(route, records):
            pass
        self.expected.update((call["session_id"], call) for call in whole)
        self.complete |= self.under_way
        self.under_way = frozenset()
        if not again:
            self._sent.append((route, records))

    def _acknowledged(self, route, records):
        client = self.connected()
        one = len(records) == 1
        body, kind = (json.dumps(records[0]), "application/json") if one else (ndjson(records), "application/x-ndjson")
        try:
            answer = client.post(
                f"/ingest/{route}", content=body, headers={"Content-Type": kind}, auth=self._login.fuse
            )
        except httpx.TransportError:
            self._line.note(answered=False)
            self.interrupted()
            return False
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"accepted": len(records), "rejected": []}
        self._line.note(answered=True)
        return True


class Passing(Client):
    """Sends calls of now to an account that keeps them for seconds, so that there is always something to remove."""

    def step(self):
        now = time.time()
        lines = [
            {
                "session_id": f"{self._number} {self._rng.getrandbits(64)}",
                "start": now - 60,
                "end": now,
                "events": [{"timestamp": now - 1, "class": "error", "line": "passing", "data": {}}],
            }
            for _ in range(20)
        ]
        try:
            answer = self.connected().post(
                "/ingest/calls",
                content=ndjson(lines),
                headers={"Content-Type": "application/x-ndjson"},
                auth=self._login.fuse,
            )
        except httpx.TransportError:
            self.interrupted()
        else:
            self.is_answer(answer)


class Reader(Client):
    """Asks every API, now and then without waiting for the end of the answer; an answer that is whole is right."""

    def step(self):
        path, auth = self._rng.choice(
            [
                (f"/api/calls/{WINDOW}?limit=20", self._login.fuse),
                (f"/api/calls/{WINDOW}?limit=1000&offset=500", self._login.fuse),
                (f"/api/all_logs/{WINDOW}?limit=1000", self._login.fuse),
                (f"/ws/calls/sessions/{WINDOW}?limit=1000", self._login.dev),
                (
                    f"/v1/Account/{self._login.auth_id}/Call/?limit=20&end_time__lt=2023-01-01%2000:00",
                    self._login.plivo,
                ),
            ]
        )
        try:
            with self.connected().stream("GET", path, auth=auth) as answer:
                if not self.is_answer(answer) or self._rng.random() < 0.2:
                    return
                body = json.loads(answer.read())
        except httpx.TransportError:
            self.interrupted()
            return
        if "calls" in body:
            sessions = [call["session_id"] for call in body["calls"]]
            assert len(sessions) == len(set(sessions)) <= body["total_calls"]


def listed(client, path, page):
    """All calls of a list, page by page, and its total, which every page must repeat."""
    calls, totals = [], set()
    while not calls or len(calls) % page == 0:
        body = client.get(f"{path}?limit={page}&offset={len(calls)}").json()
        totals.add(body["total_calls"])
        calls += body["calls"]
        if not body["calls"]:
            break
    [total] = totals
    return calls, total


def check_after_restart(server, login, known, senders):
    """All that was acknowledged before the kill is listed, once; beside it only what was under way."""
    with httpx.Client(base_url=server.url, auth=login.fuse, timeout=SECONDS) as client:
        calls, total = listed(client, f"/api/calls/{WINDOW}", 10_000)
    sessions = [call["session_id"] for call in calls]
    assert total == len(sessions) == len(set(sessions))
    assert known <= set(sessions), "acknowledged and lost"
    assert set(sessions) <= {s for sender in senders for s in (*sender.complete, *sender.under_way)}


def shown(event):
    return {
        "event": {"line": event["line"], "data": event["data"]},
        "class": event["class"],
        "timestamp": event["timestamp"],
    }


def check_counts(data):
    """The counts behind the totals are those of the calls, of every account, whatever is being written meanwhile."""
    rows, rollups = counted(partial(stores.sql, data))
    assert rows == rollups
    return len(rows)


def counted(run):
    """The calls by table of counts, account, width and bucket: as they lie in their own, and as the counts say."""
    rows, rollups = defaultdict(int), {}
    for clock in (START, END):
        # One statement, which is one snapshot.
        for is_counted, account, at, width, calls in run(
            f"SELECT 0, account_id, {clock.column}, 0, 0 FROM calls WHERE {COMPLETE} "
            f"UNION ALL SELECT 1, account_id, bucket, width, calls FROM {clock.table}"
        ):
            if is_counted:
                rollups[clock.table, account, width, at] = calls
                continue
            for each in WIDTHS:
                rows[clock.table, account, each, at // (each * HOUR * 1000)] += 1
    return dict(rows), rollups


def check_answers(server, login, expected):
    """Every call is answered once, with exactly the events that were sent for it."""
    with httpx.Client(base_url=server.url, auth=login.fuse, timeout=SECONDS) as client:
        calls, total = listed(client, f"/api/all_logs/{WINDOW}", 97)
        short, _ = listed(client, f"/api/calls/{WINDOW}", 1_000)
    assert total == len(calls) == len(expected)
    assert [call["session_id"] for call in short] == [call["session_id"] for call in calls]
    assert {call["session_id"] for call in calls} == set(expected)
    for call in calls:
        sent = expected[call["session_id"]]
        assert (call["start"], call["end"]) == (str(sent["start"]), str(sent["end"]))
        assert (call["src"], call["dest"]) == (sent["src"], sent["dest"])
        events = sorted(sent["events"], key=lambda event: (event["timestamp"], event.get("seq", -1)))
        assert call["detail"] == ([shown(event) for event in events] or False), call["session_id"]
        assert call["log"] is bool(events)


def check_tables(data, account, expected):
    """The tables agree with each other and with what was sent for *account*."""

    def number(of, where=""):
        return stores.sql(data, f"SELECT {of} WHERE account_id = {account} {where}")[0][0]

    assert number("sum(calls) FROM call_counts", "AND width = 1") == len(expected)
    assert number("count(*) FROM calls") == len(expected)
    assert number("count(*) FROM waiting_events") == 0
    assert number("count(*) FROM quarantine") == 0
    assert number("count(*) FROM logs") == sum(bool(call["events"]) for call in expected.values())
    assert number("sum(event_count) FROM calls") == sum(len(call["events"]) for call in expected.values())
    assert check_store(stores.location(data), lambda *_: None).findings == []


def killed(server, rounds, seed, readers=2, told=lambda *_: None):
    """Kill *server* under mixed load so many times, and look each time whether it kept its promises; what was done.

    *told* is told the number of each round.
    """
    rng, line = random.Random(seed), Line()
    login = server.account("ops@example.com", "--login", "ops")
    passing = server.account("passing@example.com")
    callhouse("accounts", "set", passing.id, *PASSING, data=server.data)
    senders = [Sender(number, seed, line, login) for number in range(SENDERS)]
    others = [Passing(0, seed, line, passing), *(Reader(number, seed, line, login) for number in range(readers))]
    line.connect(server.url)
    for client in (*senders, *others):
        client.start()
    try:
        for number in range(rounds):
            line.wait_for_acknowledgements(rng.randint(1, 60))
            line.cut()
            # Before the kill, so that what is acknowledged while it happens is not asked for.
            known = {session for sender in senders for session in list(sender.complete)}
            server.kill()
            server.start()
            check_after_restart(server, login, known, senders)
            buckets = check_counts(server.data)
            told(number + 1, line.acknowledged, line.interrupted, len(known), buckets)
            line.connect(server.url)
        line.wait_for_acknowledgements(10)
    finally:
        line.finish()
        for client in (*senders, *others):
            client.join(SECONDS)
    line.look()
    assert not any(client.is_alive() for client in (*senders, *others))
    assert line.interrupted >= rounds, "the kills did not hit requests under way"
    expected = {session: call for sender in senders for session, call in sender.expected.items()}
    check_answers(server, login, expected)
    check_tables(server.data, login.id, expected)
    return {"calls": len(expected), "acknowledged": line.acknowledged, "interrupted": line.interrupted}
