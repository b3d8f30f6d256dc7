"""The machine's clock is stepped back and forth over the hours in which New York changes its own."""

import re
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

import stores
from callhouse.store.check import check_store
from serving import COMMAND, Server, create_account, get, send

ZONE = ZoneInfo("America/New_York")
MINUTE, HOUR, DAY = 60, 3600, 86_400

# 01:59:59 is followed by 03:00:00, and 01:59:59 by 01:00:00.
CHANGES = {
    "to daylight saving": datetime(2026, 3, 8, 7, tzinfo=UTC),
    "from daylight saving": datetime(2026, 11, 1, 6, tzinfo=UTC),
}
STEPS = (-30 * MINUTE, HOUR, -HOUR, 2 * HOUR, -3 * HOUR, -DAY, DAY + 90 * MINUTE)
"""What each step adds to the time of the change."""


class WallClock:
    """The wall clock of the processes that run with *environment*; their monotonic clock is the real one."""

    def __init__(self, directory):
        self._file = directory / "clock"
        self.set(0)
        preloaded = subprocess.run(
            ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
        )
        self.environment = {
            "LD_PRELOAD": preloaded.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds):
        """Step it to *seconds*, from where it stands still."""
        being_written = self._file.with_suffix(".new")
        being_written.write_text(f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}")
        being_written.replace(self._file)
        self.now = seconds


@contextmanager
def running(data, clock):
    """A server that lives by *clock*."""
    command = ["env", "TZ=UTC", *(f"{name}={value}" for name, value in clock.environment.items()), *COMMAND]
    with Server(data, "log.level=warning", command=command) as server:
        yield server


def call(number, now):
    """A call that a switch with the same clock sends at its end."""
    start = now - 60 - number % 7
    event = {"timestamp": start, "class": "error", "line": f"errno: {number}", "data": {}}
    return {"session_id": f"s{number}", "start": start, "end": now, "src": "1", "dest": "2", "events": [event]}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_clock_that_is_stepped_back_and_forth_loses_doubles_and_misplaces_no_call(tmp_path, change):
    turn = int(change.timestamp())
    clock = WallClock(tmp_path)
    data = tmp_path / "data"
    login = create_account(data, "ops@example.com", "--login", "ops", "--timezone", "America/New_York")
    clock.set(turn - HOUR)
    sent = {}
    with running(data, clock) as server:
        for step in STEPS:
            clock.set(turn + step)
            fresh = [call(len(sent) + n, clock.now) for n in range(20)]
            assert send(server, login, fresh)["accepted"] == 20
            sent.update((each["session_id"], each) for each in fresh)
            # By a clock that was set back all that was sent before is of the future; sent again it changes nothing.
            assert send(server, login, list(sent.values()))["accepted"] == len(sent)
            assert server.client.get("/readyz").status_code == 200
            assert abs(clock_of(server, login) - clock.now) <= 1
            check(server, login, sent, turn)
        hours = range(turn - 26 * HOUR, turn + 28 * HOUR, HOUR)
        totals = [get(server, login, f"/api/calls/{hour}/{hour + HOUR}").json()["total_calls"] for hour in hours]
        assert totals == [sum(hour <= each["start"] < hour + HOUR for each in sent.values()) for hour in hours]
        assert sum(totals) == len(sent)
    assert check_store(stores.location(data), lambda *_: None).findings == []


def clock_of(server, login):
    """The server's own idea of the time: how far back it shows sessions is told from now."""
    refused = server.client.get("/ws/calls/sessions/1/2", auth=login.dev)
    return int(re.search(r"(\d+) or later", refused.json()["error"])[1]) + 365 * DAY


def check(server, login, sent, turn):
    """Every call is listed once, in each API, with its log and with the local time of its instant."""
    window = f"{turn - 2 * DAY}/{turn + 2 * DAY}?limit=10000"
    newest_first = sorted(sent.values(), key=lambda call: (call["start"], call["session_id"]), reverse=True)
    body = get(server, login, f"/api/all_logs/{window}").json()
    assert body["total_calls"] == len(sent)
    assert [each["session_id"] for each in body["calls"]] == [each["session_id"] for each in newest_first]
    assert all(len(each["detail"]) == 1 for each in body["calls"])
    listed = {
        service: server.client.get(f"/ws/calls/{service}/{window}", auth=login.dev).json()["result"][service]
        for service in ("sessions", "errors")
    }
    assert len(listed["errors"]) == len(sent)
    for line, each in zip(listed["sessions"], reversed(newest_first), strict=True):
        assert f"{datetime.fromtimestamp(each['start'], ZONE):[%d/%b/%Y:%H:%M:%S %z]}" in line
