"""Fixtures: a store in a temporary directory, and a real server."""

import asyncio
import time

import argon2
import pytest
from hypothesis import settings

from callhouse.model.account import Retention
from callhouse.store import accounts, open_store
from serving import Server

# How long an example takes says more of the machine than of the code.
settings.register_profile("callhouse", deadline=None)
settings.load_profile("callhouse")

# Accounts that tests make in their own process have passwords that are checked at once; those of commands do not.
accounts.slow_hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

KEEP_ALL = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A server shared by the tests that only add to it; it keeps everything for ever."""
    with Server(tmp_path_factory.mktemp("shared") / "data", *KEEP_ALL) as running:
        yield running


@pytest.fixture
def own_server(tmp_path):
    """Starts servers over this test's own store, with the settings that it asks for; all are stopped at its end."""
    running = []

    def start(*settings):
        running.append(Server(tmp_path / "data", *settings))
        return running[-1]

    yield start
    for each in running:
        if each.process.poll() is None:
            each.stop()


@pytest.fixture
def now_seconds():
    return int(time.time())


class Clock:
    """A clock that stands still until it is set; milliseconds."""

    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock(1_700_000_000_000)


@pytest.fixture
def stored(tmp_path, clock):
    """Runs a coroutine function with a fresh store of the given retention, then closes the store."""
    stores = iter(range(10_000))

    def run(work, retention=None, **options):
        async def opened():
            directory = tmp_path / f"store{next(stores)}"
            store = await open_store(directory, retention=retention or Retention(), clock=clock, **options)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(opened())

    return run
