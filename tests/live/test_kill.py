"""What a sender was told is kept is there after kill -9, once, whatever was under way."""

import os
import random

import pytest

from killing import KEPT, killed

ROUNDS = 22
"""`make faults` does a hundred."""


@pytest.fixture
def seed():
    chosen = int(os.environ.get("CALLHOUSE_TEST_SEED") or random.randrange(2**32))
    print(f"CALLHOUSE_TEST_SEED={chosen}")
    return chosen


def test_nothing_acknowledged_is_lost_and_nothing_doubled_by_killing_the_server_under_load(own_server, seed):
    server = own_server(*KEPT)
    print(killed(server, ROUNDS, seed, readers=1))
    assert server.stop() == 0
