"""The database's server dies, its replica takes over: nothing acknowledged is lost, and nodes find it by themselves."""

import os
import random
import signal
from urllib.parse import urlsplit

import pytest

from killing import PASSING
from nodes import Load, check_listed, check_log, check_nodes, node, wait_until_ready
from postgres import Cluster
from serving import callhouse, wait_until

pytestmark = pytest.mark.clusters


@pytest.fixture
def seed():
    chosen = int(os.environ.get("CALLHOUSE_TEST_SEED") or random.randrange(2**32))
    print(f"CALLHOUSE_TEST_SEED={chosen}")
    return chosen


def test_nothing_acknowledged_is_lost_when_the_server_is_killed_and_its_synchronous_replica_is_promoted(tmp_path, seed):
    with Cluster() as primary:
        only = urlsplit(primary.database())
        with Cluster(primary=primary) as replica:
            primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
            wait_until(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)], "replication")
            both = only._replace(
                netloc=f"{only.username}:{only.password}@127.0.0.1:{replica.port},127.0.0.1:{primary.port}",
                query="target_session_attrs=read-write",
            ).geturl()
            servers = [node(tmp_path / str(number), both) for number in range(2)]
            try:
                failed_over(servers, primary, replica, seed)
            finally:
                for server in servers:
                    server.stop()
            check_log(replica)


def failed_over(servers, primary, replica, seed):
    login = servers[0].account("ops@example.com", "--login", "ops")
    passing = servers[0].account("passing@example.com")
    callhouse("accounts", "set", passing.id, *PASSING, data=servers[0].data)
    processes = [server.process.pid for server in servers]
    with Load(seed, servers, [login], passing) as load:
        load.goes_on(60)
        primary.stop(signal.SIGKILL)
        known = load.known(login)
        refused = load.ways.refused
        wait_until(lambda: load.ways.refused > refused, "a refusal")
        replica.sql("SELECT pg_promote()")
        wait_until_ready(*servers)
        check_listed(servers, login, known)
        load.goes_on(60)
    print(load.told)
    assert [server.process.pid for server in servers] == processes
    check_nodes(servers, load, [login])
    assert "Nothing is wrong" in callhouse("check", data=servers[0].data).stdout
    # A command finds it, too.
    callhouse("accounts", "create", "--email", "new@example.com", data=servers[1].data)
