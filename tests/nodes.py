"""Several nodes on one database: servers over it, and who sends the same to several of them at once."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

import stores
from killing import KEPT, WINDOW, Line, Passing, Reader, Sender, check_answers, check_counts, check_tables
from serving import Server, ndjson, wait_until

SECONDS = 60
SENDERS = 2


def node(directory, url, *settings):
    """A server over the database at *url*, with its log in *directory*."""
    data = Path(directory) / "data"
    stores.databases.take(data, url)
    return Server(data, *KEPT, *settings)


def is_ready(server):
    try:
        return server.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def wait_until_ready(*servers):
    for server in servers:
        wait_until(lambda server=server: is_ready(server), f"the recovery of {server.url}")


def check_refusal(answer):
    """*answer* says in the words of its API that the store is out of reach, and nothing of why."""
    path, said = answer.request.url.path, answer.json()
    if path.startswith("/ingest/"):
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert said.keys() == {"error"}
    elif path.startswith("/v1/"):
        assert answer.status_code == 500, answer.text
        assert said.pop("api_id")
        assert said == {"error": "internal error", "objects": []}
    elif path.startswith("/ws/"):
        assert answer.status_code == 500, answer.text
        assert said == {"status": "failure", "error": "Database error."}
    else:
        assert answer.status_code == 500, answer.text
        assert said.keys() == {"error"}


class Ways:
    """Where the nodes are at present, and what came of the requests to them."""

    def __init__(self, line, *urls):
        self.line = line
        self.urls = list(urls)
        self.refused = 0


class _Asking:
    """A client of several nodes, of which any may be gone or refuse."""

    def __init__(self, number, seed, ways, login):
        super().__init__(number, seed, ways.line, login)
        self._ways = ways
        self._clients = {}

    def run(self):
        try:
            super().run()
        finally:
            for client in self._clients.values():
                client.close()

    def client_of(self, url):
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = httpx.Client(base_url=url, timeout=SECONDS)
        return client

    def connected(self):
        self._at = self._rng.choice(self._ways.urls)
        return self.client_of(self._at)

    def is_answer(self, answer):
        if answer.status_code == 200:
            return True
        answer.read()
        check_refusal(answer)
        self._ways.refused += 1
        return False

    def interrupted(self):
        self._clients.pop(self._at).close()


class Spread(_Asking, Sender):
    """Sends each request to one node or to several at once, until one of them acknowledges it."""

    def run(self):
        with ThreadPoolExecutor(3) as self._pool:
            super().run()

    def step(self):
        if self._rng.random() < 0.15:
            self._contradiction()
        else:
            super().step()

    def _contradiction(self):
        """Two that say different things of one call at the same time; whoever says more afterwards is right."""
        call = self._call()
        others = [{**call, "dest": f"80055501{number:02}", "end": call["start"] + number} for number in (31, 32, 33)]
        self.under_way = frozenset([call["session_id"]])
        at = self._some(len(others))
        list(self._pool.map(lambda url, said: self._answered(url, "calls", [said]), at, others[: len(at)]))
        self._send("calls", [call], whole=[call])

    def _some(self, many):
        urls = list(self._ways.urls)
        return self._rng.sample(urls, min(many, len(urls)))

    def _acknowledged(self, route, records):
        urls = self._some(self._rng.choice([1, 1, 2, 3]))
        return any(list(self._pool.map(lambda url: self._answered(url, route, records), urls)))

    def _answered(self, url, route, records):
        """Whether the node at *url* acknowledged *records*."""
        one = len(records) == 1
        body, kind = (json.dumps(records[0]), "application/json") if one else (ndjson(records), "application/x-ndjson")
        try:
            answer = self.client_of(url).post(
                f"/ingest/{route}", content=body, headers={"Content-Type": kind}, auth=self._login.fuse
            )
        except httpx.TransportError:
            self._line.note(answered=False)
            if url in self._clients:
                self._clients.pop(url).close()
            return False
        if not self.is_answer(answer):
            return False
        assert answer.json() == {"accepted": len(records), "rejected": []}
        self._line.note(answered=True)
        return True


class SpreadPassing(_Asking, Passing):
    """Has each node in turn something to remove."""


class SpreadReader(_Asking, Reader):
    """Asks each node."""


class Load:
    """Senders for each of the *logins*, readers, and calls that pass of another account, all over *servers*."""

    def __init__(self, seed, servers, logins, passing):
        self._line = Line()
        self.ways = Ways(self._line, *(server.url for server in servers))
        self._senders = {
            login.id: [Spread(10 * place + n, seed, self.ways, login) for n in range(SENDERS)]
            for place, login in enumerate(logins)
        }
        readers = [SpreadReader(0, seed, self.ways, login) for login in logins]
        others = [SpreadPassing(0, seed, self.ways, passing), *readers]
        self._clients = [*(each for senders in self._senders.values() for each in senders), *others]

    def __enter__(self):
        for client in self._clients:
            client.start()
        return self

    def goes_on(self, requests=40):
        """Return when so many more requests were acknowledged."""
        self._line.wait_for_acknowledgements(requests)

    def known(self, login):
        """The calls of *login* that were acknowledged by now."""
        return {session for sender in self._senders[login.id] for session in list(sender.complete)}

    def expected(self, login):
        """The calls of *login* by session, as they were sent."""
        return {session: call for sender in self._senders[login.id] for session, call in sender.expected.items()}

    @property
    def told(self):
        return (
            f"{self._line.acknowledged} acknowledged, {self._line.interrupted} interrupted, {self.ways.refused} refused"
        )

    def __exit__(self, *_):
        self._line.finish()
        for client in self._clients:
            client.join(SECONDS)
        self._line.look()
        assert not any(client.is_alive() for client in self._clients)


def check_nodes(servers, load, logins):
    """What was acknowledged is there, once and as it was sent, and every node says so; the store is whole."""
    for login in logins:
        expected = load.expected(login)
        check_tables(servers[0].data, login.id, expected)
        for server in servers:
            check_answers(server, login, expected)
    check_counts(servers[0].data)


def check_listed(servers, login, known):
    """Each node lists all that is *known*, and nothing twice."""
    for server in servers:
        calls = server.client.get(f"/api/calls/{WINDOW}?limit=10000", auth=login.fuse).json()["calls"]
        sessions = [call["session_id"] for call in calls]
        assert len(sessions) == len(set(sessions))
        assert known <= set(sessions), "acknowledged and lost"


def check_log(cluster):
    """The server never had to end one of two transactions that waited for each other, and never failed by itself."""
    log = (cluster.directory / "log").read_text()
    assert "deadlock detected" not in log
    assert "PANIC" not in log
