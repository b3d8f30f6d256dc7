"""Mirrors and what is kept, on the page of what comes in: to an account its own, to an operator all."""

import asyncio
import html
import json
import re
import time

import pytest

import stores
from callhouse.model.account import Retention
from callhouse.model.instant import DAY, HOUR, SECOND
from callhouse.model.record import Record
from callhouse.store import open_store
from callhouse.store.mirrors import UNKNOWN
from callhouse.wire import Window
from console.visiting import Visitor
from mirror.followed import followed
from mirror.stand import mirror
from mirror.test_plivo import CALL
from serving import send

ADMIN = "an operator's long token"
NOW = int(time.time()) * SECOND
SECRET_FILE = "/etc/callhouse/plivo.token"


@pytest.fixture
def server(own_server, tmp_path):
    (tmp_path / "token").write_text(ADMIN)
    return own_server(
        f"console.admin_token_file={tmp_path / 'token'}", "mirror.background=false", "retention.details=10d"
    )


@pytest.fixture
def logins(server, tmp_path):
    """Two accounts, three mirrors of the first and one of the other."""
    ours, theirs = server.account("ops@x"), server.account("other@x")

    async def fill():
        store = await open_store(stores.location(tmp_path / "data"), retention=Retention(), clock=lambda: NOW)
        await followed(store, "sales", "plivo", ours.id, had=Window(NOW - 88 * DAY, NOW - 3 * HOUR))
        await followed(store, "logs", "plivo", ours.id, losses={NOW // DAY - 2: 14, NOW // DAY - 1: UNKNOWN})
        await followed(store, "theirs", "dev", theirs.id)
        stopped = await store.mirrors.add(mirror("plivo", "USER", ours.id, NOW, name="stopped"))
        await store.mirrors.set_state(stopped.id, "stopped", f"The file {SECRET_FILE} cannot be read.")
        await store.close()

    asyncio.run(fill())
    return ours, theirs


def text(page):
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page.text)).split())


@pytest.fixture
def visitor(server, logins):
    with Visitor(server) as somebody:
        somebody.sign_in(*logins[0].fuse)
        yield somebody


@pytest.fixture
def operator(server, logins):
    with Visitor(server) as somebody:
        somebody.send("/sign-in", secret=ADMIN, as_operator="1")
        yield somebody


def test_an_account_sees_how_each_of_its_mirrors_fares(visitor):
    for path in ("/ingest", "/ingest/mirrors"):
        page = text(visitor.get(path))
        ages = r"\d+ min( \d+ s)? ago 3 h( \d+ (?:min|s))? 12\.5 2 d \d h of 89 d"
        assert re.search(f"sales plivo active {ages}", page), page
        assert "18,234" in page
        assert "logs plivo active" in page
        assert "(14 calls)" in page
        assert "nobody can tell how many calls" in page
        assert "stopped plivo stopped never" in page
        assert "theirs" not in page
        assert "other@x" not in page


def test_what_stands_in_a_mirrors_way_is_for_an_operator_as_it_names_what_is_on_the_machine(visitor, operator):
    assert "an operator of this server sees what" in text(visitor.get("/ingest"))
    assert SECRET_FILE not in visitor.get("/ingest").text
    assert SECRET_FILE in operator.get("/ingest").text


def test_an_operator_sees_the_mirrors_of_all_accounts(operator):
    page = text(operator.get("/ingest/mirrors"))
    assert "sales plivo ops@x" in page
    assert "theirs dev other@x" in page


def test_where_nothing_is_followed_nothing_is_said_of_mirrors(server):
    login = server.account("none@x")
    with Visitor(server) as somebody:
        somebody.sign_in(*login.fuse)
        assert "Mirrors" not in text(somebody.get("/ingest"))
        assert "Nothing is kept of the last 31 days." in text(somebody.get("/ingest/days"))
    with Visitor(server) as nobody:
        for path in ("/ingest/mirrors", "/ingest/days"):
            assert nobody.get(path).status_code == 303
        assert nobody.get("/ingest/storage").status_code == 404


def calls(day, number, *, logged):
    """Calls of one day, all over within it; so many of them with a log."""
    start = (NOW // DAY - day) * DAY // SECOND
    for n in range(number):
        call = {"session_id": f"day {day} call {n}", "start": start + n, "end": start + n + 1}
        lines = [{"timestamp": start + n, "class": "info", "line": f"Line {at}"} for at in range(20)]
        yield {**call, "events": lines if n < logged else []}


def test_what_is_kept_is_told_by_day(server, logins, visitor):
    send(server, logins[0], [*calls(3, 7, logged=5), *calls(2, 1, logged=0), *calls(40, 2, logged=0)])
    send(server, logins[1], list(calls(1, 3, logged=3)))
    page = text(visitor.get("/ingest/days"))
    days = [time.strftime("%a %-d %b %Y", time.gmtime((NOW // DAY - day) * 86_400)) for day in (2, 3)]
    found = re.search(rf"{days[0]} 1 0 – {days[1]} 7 5 about (\d+) bytes Calls count", page)
    assert found, page
    assert 5 * 50 < int(found[1]) < 5 * 20 * 40


def test_an_operator_sees_the_bytes_of_each_table(server, logins, operator, tmp_path):
    send(server, logins[0], list(calls(3, 200, logged=100)))
    page = text(operator.get("/ingest/storage"))
    sizes = dict(re.findall(r"(calls|logs|log_words the words of the logs|all others) (?:\d+ )?([\d.]+) KiB", page))
    assert set(sizes) == {"calls", "logs", "log_words the words of the logs", "all others"}, page
    assert re.search(r"\bcalls 200 [\d.]+ KiB", page), page
    whole = stores.size(tmp_path / "data") / 1024
    assert 0.2 * whole < sum(map(float, sizes.values())) <= 1.2 * whole


def test_what_a_mirror_could_not_understand_is_tried_again_and_tells_of_the_mirror(server, logins, visitor, tmp_path):
    ended = time.strftime("%Y-%m-%d %H:%M:%S+00:00", time.gmtime(NOW // SECOND - 60))
    call = {**CALL, **dict.fromkeys(("initiation_time", "answer_time", "end_time"), ended), "call_uuid": "once refused"}

    async def refuse():
        store = await open_store(stores.location(tmp_path / "data"), retention=Retention(), clock=lambda: NOW)
        account = await store.accounts.get(logins[0].id)
        raw = json.dumps(call).encode()
        await store.load([Record(account=account, source="mirror:plivo", raw=raw, read="was odd", origin="sales")])
        await store.close()

    asyncio.run(refuse())
    assert re.search(r"was odd .* mirrors of plivo · sales", text(visitor.get("/ingest")))
    told = visitor.send("/quarantine", page="/ingest", what="replay")
    assert told.headers["location"] == "/console/ingest?told=replayed-1-0"
    [name] = visitor.sessions()
    assert "Source mirror sales First received" in text(visitor.get(f"/call/{name}"))
