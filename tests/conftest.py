"""The engine that holds the tests' stores, and fixtures: a store in a temporary directory, and a real server."""

import asyncio
import functools
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import argon2
import pytest
from hypothesis import settings

import stores
from callhouse.model.account import Retention
from callhouse.store import accounts, open_store
from callhouse.store.sqlite import FILE_NAME
from serving import Server

# How long an example takes says more of the machine than of the code.
settings.register_profile("callhouse", deadline=None)
settings.load_profile("callhouse")

# Accounts that tests make in their own process have passwords that are checked at once; those of commands do not.
accounts.slow_hasher = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

TESTS = Path(__file__).parent
OF_SQLITE_ALONE = {"sqlite_only": "is about SQLite", "look": "looks the same with every engine"}
OF_POSTGRESQL_ALONE = {"clusters": "has PostgreSQL clusters of its own; runs with --store postgresql"}
OPENING = {"server", "own_server", "stored"}
"""The fixtures here that open a store."""

KEEP_ALL = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever")


def pytest_addoption(parser):
    parser.addoption("--store", choices=stores.ENGINES, default="sqlite", help="the engine that holds the stores")


def pytest_configure(config):
    # What a script starts in the background ignores Ctrl-C, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stores.choose(config.getoption("store"))


def pytest_unconfigure():
    if stores.databases is not None:
        stores.databases.remove()


@functools.cache
def knows_stores(module):
    """Whether a module has something of tests/stores.py, by way of other modules of the tests or not."""
    if module is stores:
        return True
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_relative_to(TESTS):
        return False
    had = vars(module).values()
    names = {each.__name__ if isinstance(each, ModuleType) else getattr(each, "__module__", None) for each in had}
    return any(knows_stores(sys.modules[name]) for name in names - {module.__name__} if name in sys.modules)


def opens_stores(item):
    return not OPENING.isdisjoint(item.fixturenames) or knows_stores(item.module)


def pytest_collection_modifyitems(config, items):
    """On another engine than SQLite leave out what has no store; skip what is about an engine that was not chosen."""
    others = OF_POSTGRESQL_ALONE
    if stores.databases is not None:
        others = OF_SQLITE_ALONE
        config.hook.pytest_deselected(items=[item for item in items if not opens_stores(item)])
        items[:] = [item for item in items if opens_stores(item)]
    for item in items:
        for name, reason in others.items():
            if item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    """Forget the databases of a test, and tell if it had a store that is not of the engine that was chosen."""
    result = yield
    directory = item.funcargs.get("tmp_path")
    if directory is not None:
        files = list(directory.rglob(FILE_NAME))
        if stores.databases is not None:
            stores.databases.forget(directory)
            assert not files, f"made {files[0]} and not a database"
        assert not files or opens_stores(item), "has a store, which the choice of tests for other engines does not see"
    return result


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
    made = iter(range(10_000))

    def run(work, retention=None, **options):
        async def opened():
            where = stores.location(tmp_path / f"store{next(made)}")
            store = await open_store(where, retention=retention or Retention(), clock=clock, **options)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(opened())

    return run
