"""Fixtures: what a server would have to send 100 MB of."""

import time

import pytest

from serving import Server, create_account, send

CALLS = 4_000
LINE = f"{'x' * 1_000} " * 26
"""As many kilobytes that take next to no room on the disk."""


class Large:
    """A store of CALLS calls with logs that make 100 MB, and how to ask for all of them."""

    def __init__(self, data):
        self.data = data
        self.login = create_account(data, "ops@example.com", "--login", "ops")
        self.now = int(time.time())
        self.everything = f"/api/all_logs/{self.now - 90_000}/{self.now}?limit={CALLS}"

    def call(self, number):
        start = self.now - 80_000 + number * 7
        event = {"timestamp": start, "class": "info", "line": LINE, "data": {}}
        return {"session_id": f"large {number}", "start": start, "end": start + 5, "dest": "1", "events": [event]}


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    made = Large(tmp_path_factory.mktemp("large") / "data")
    with Server(made.data, "log.level=warning") as server:
        for first in range(0, CALLS, 1_000):
            send(server, made.login, [made.call(number) for number in range(first, first + 1_000)])
    return made
