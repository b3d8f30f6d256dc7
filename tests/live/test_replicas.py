"""Reads on replicas are never staler than the bound, and are made on the primary where no replica is near it."""

import time
from urllib.parse import urlsplit

import psycopg
import pytest

from nodes import node
from postgres import Cluster
from serving import get, send, wait_until

pytestmark = pytest.mark.clusters

LAG = 1.0
"""Seconds; the node is told the same."""


class Replicated:
    """A primary with a replica, and a node that may read from it."""

    def __init__(self, directory, primary, replica):
        self.primary, self.replica = primary, replica
        url = urlsplit(primary.database())
        self.database = url.path[1:]
        of_replica = url._replace(netloc=url.netloc.replace(str(primary.port), str(replica.port))).geturl()
        self.server = node(directory / "node", url.geturl(), f"store.replicas={of_replica}", "store.replica_lag=1s")
        self.login = self.server.account()
        self.now = int(time.time())
        self.sent = 0

    def send(self):
        """One more call, which is on the primary now."""
        self.sent += 1
        call = {"session_id": f"call {self.sent}", "start": self.now - 100, "end": self.now - 50, "dest": "1"}
        send(self.server, self.login, [call])

    def total(self):
        """How many calls the node lists."""
        answer = get(self.server, self.login, f"/api/calls/{self.now - 1_000}/{self.now}")
        assert answer.status_code == 200, answer.text
        return len(answer.json()["calls"])

    def is_read_from_the_replica(self):
        """Whether a list is made there, as its own connection tells."""
        with psycopg.connect(f"{self.replica.superuser}/{self.database}", autocommit=True) as admin:
            sql = "SELECT max(query_start) FROM pg_stat_activity WHERE application_name = 'callhouse'"
            before = admin.execute(sql).fetchall()
            self.total()
            return admin.execute(sql).fetchall() != before


def test_one_answer_is_of_one_server_though_replicas_differ(tmp_path):
    late = "recovery_min_apply_delay=800ms"
    with (
        Cluster("wal_level=replica") as primary,
        Cluster(primary=primary) as quick,
        Cluster(late, primary=primary) as slow,
    ):
        url = urlsplit(primary.database())
        replicas = [
            url._replace(netloc=url.netloc.replace(str(primary.port), str(r.port))).geturl() for r in (quick, slow)
        ]
        settings = f"store.replicas={' '.join(replicas)}", "store.replica_lag=3s", "retention.details=forever"
        with node(tmp_path / "node", url.geturl(), *settings) as server:
            login = server.account("ops@example.com", "--login", "ops")
            now = int(time.time())
            for number in range(60):
                event = {"timestamp": now - 90, "class": "error", "line": "Failed", "data": {}}
                call = {"session_id": f"{number}", "start": now - 100, "end": now - 50, "dest": "1", "events": [event]}
                send(server, login, [call])
                answer = get(server, login, f"/api/all_logs/{now - 1_000}/{now}").json()
                assert all(each["detail"] for each in answer["calls"]), number
                listed = server.client.get(f"/ws/calls/logs/{now - 1_000}/{now}", auth=login.dev).json()["result"]
                for each in listed["logs"]:
                    found = server.client.get(f"/ws/calls/log/{each['log_id']}", auth=login.dev)
                    assert found.status_code == 200, found.text


@pytest.fixture
def replicated(tmp_path):
    with Cluster("wal_level=replica") as primary, Cluster("hot_standby=on", primary=primary) as replica:
        made = Replicated(tmp_path, primary, replica)
        yield made
        made.server.stop()


def test_lists_come_from_the_replica_and_are_never_staler_than_the_bound(replicated):
    replicated.send()
    wait_until(replicated.is_read_from_the_replica, "a read on the replica")
    assert replicated.total() == 1

    # A replica that stands still: what it has may be shown for as long as the bound, and not a moment longer.
    replicated.replica.sql("SELECT pg_wal_replay_pause()")
    for _ in range(3):
        replicated.send()
        acknowledged = time.monotonic()
        seen = []
        while time.monotonic() < acknowledged + 2 * LAG:
            asked = time.monotonic()
            total = replicated.total()
            seen.append(total)
            assert total == replicated.sent or asked < acknowledged + LAG
        assert seen[-1] == replicated.sent

    # When it has caught up it is read from again.
    replicated.replica.sql("SELECT pg_wal_replay_resume()")
    wait_until(replicated.is_read_from_the_replica, "a read on the replica")
    assert replicated.total() == replicated.sent


def test_without_its_replica_a_node_reads_from_the_primary_and_returns_to_the_replica_by_itself(replicated):
    replicated.send()
    wait_until(replicated.is_read_from_the_replica, "a read on the replica")
    replicated.replica.stop()
    for _ in range(20):
        assert replicated.total() == 1
    replicated.replica.start()
    wait_until(replicated.is_read_from_the_replica, "a read on the replica")


def test_a_replica_that_is_promoted_is_read_from_no_more(replicated):
    replicated.send()
    wait_until(replicated.is_read_from_the_replica, "a read on the replica")
    replicated.replica.sql("SELECT pg_promote()")
    replicated.send()
    wait_until(lambda: replicated.total() == 2, "the new call")
    for _ in range(20):
        replicated.send()
        assert replicated.total() == replicated.sent
