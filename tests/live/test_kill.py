"""What a sender was told is kept is there after kill -9, once, whatever was under way."""

import json
import os
import random
import threading
from collections import defaultdict
from itertools import count

import apsw
import httpx
import pytest

from callhouse.store.rollups import WIDTHS
from callhouse.store.sqlite import FILE_NAME
from serving import ndjson

ROUNDS = 22
SENDERS = 4
SECONDS = 60
HOUR = 3600
KEPT = ("retention.details=forever", "log.level=warning")
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

    def note(self, *, answered):
        with self._changed:
            self.acknowledged += answered
            self.interrupted += not answered
            self._changed.notify_all()

    def wait_for_acknowledgements(self, more):
        with self._changed:
            goal = self.acknowledged + more
            moved = self._changed.wait_for(lambda: self.acknowledged >= goal or self.failures, SECONDS)
            assert self.failures == []
            assert moved, "the senders stand still"


class Sender(threading.Thread):
    """Sends calls as switches do, each request until it is acknowledged, and remembers what was."""

    def __init__(self, number, seed, line, login):
        super().__init__(name=f"sender-{number}")
        self._number = number
        self._rng = random.Random(f"{seed} {number}")
        self._line = line
        self._login = login
        self._client = None
        self._generation = 0
        self._calls = count()
        self._sent = []
        self.expected = {}
        self.complete = set()
        self.under_way = frozenset()

    def run(self):
        try:
            while not self._line.over:
                self._rng.choices(
                    [self._one, self._batch, self._in_parts, self._events_first, self._again], [3, 2, 3, 2, 2]
                )[0]()
        except BaseException as failure:  # noqa: BLE001 — told by the test
            self._line.fail(failure)
        finally:
            if self._client is not None:
                self._client.close()

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
        url, generation = self._line.server()
        if generation != self._generation:
            if self._client is not None:
                self._client.close()
            self._client = httpx.Client(base_url=url, auth=self._login.fuse, timeout=SECONDS)
            self._generation = generation
        one = len(records) == 1
        body, kind = (json.dumps(records[0]), "application/json") if one else (ndjson(records), "application/x-ndjson")
        try:
            answer = self._client.post(f"/ingest/{route}", content=body, headers={"Content-Type": kind})
        except httpx.TransportError:
            self._line.note(answered=False)
            self._client.close()
            self._generation = 0
            return False
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"accepted": len(records), "rejected": []}
        self._line.note(answered=True)
        return True


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


def counted(db):
    """The calls by account, width and bucket: as they lie in the table, and as the rollups say."""
    rows = defaultdict(int)
    for account, started in db.execute(
        "SELECT account_id, started FROM calls WHERE started IS NOT NULL AND ended IS NOT NULL"
    ):
        for width in WIDTHS:
            rows[account, width, started // (width * HOUR * 1000)] += 1
    rollups = {row[:3]: row[3] for row in db.execute("SELECT account_id, width, bucket, calls FROM call_counts")}
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


def check_file(path, expected):
    """The tables agree with each other and with what was sent."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows, rollups = counted(db)
        assert rows == rollups
        assert sum(calls for (_, width, _), calls in rollups.items() if width == 1) == len(expected)
        assert db.execute("SELECT count(*) FROM calls").get == len(expected)
        assert db.execute("SELECT count(*) FROM waiting_events").get == 0
        assert db.execute("SELECT count(*) FROM quarantine").get == 0
        with_log = sum(bool(call["events"]) for call in expected.values())
        assert db.execute("SELECT count(*) FROM logs").get == with_log
        assert db.execute("SELECT count(*) FROM log_words").get == with_log
        events = sum(len(call["events"]) for call in expected.values())
        assert db.execute("SELECT sum(event_count) FROM calls").get == events
        assert db.pragma("integrity_check") == "ok"
    finally:
        db.close()


@pytest.fixture
def seed():
    chosen = int(os.environ.get("CALLHOUSE_TEST_SEED") or random.randrange(2**32))
    print(f"CALLHOUSE_TEST_SEED={chosen}")
    return chosen


def test_nothing_acknowledged_is_lost_and_nothing_doubled_by_killing_the_server_during_ingest(own_server, seed):
    rng = random.Random(seed)
    server = own_server(*KEPT)
    login = server.account()
    line = Line()
    senders = [Sender(number, seed, line, login) for number in range(SENDERS)]
    line.connect(server.url)
    for sender in senders:
        sender.start()
    try:
        for _ in range(ROUNDS):
            line.wait_for_acknowledgements(rng.randint(1, 60))
            line.cut()
            # Before the kill, so that what is acknowledged while it happens is not asked for.
            known = {session for sender in senders for session in list(sender.complete)}
            server.kill()
            server.start()
            check_after_restart(server, login, known, senders)
            line.connect(server.url)
        line.wait_for_acknowledgements(10)
    finally:
        line.finish()
        for sender in senders:
            sender.join(SECONDS)
    assert line.failures == []
    assert not any(sender.is_alive() for sender in senders)
    assert line.interrupted >= ROUNDS, "the kills did not hit requests under way"

    expected = {session: call for sender in senders for session, call in sender.expected.items()}
    print(f"{len(expected)} calls, {line.acknowledged} requests acknowledged, {line.interrupted} interrupted")
    check_answers(server, login, expected)
    check_file(server.data / FILE_NAME, expected)
    assert server.stop() == 0
