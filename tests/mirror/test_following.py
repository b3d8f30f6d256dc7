"""Mirrors as they are run: who follows, what stops one, what a vendor's limits are, and where secrets are not."""

import json
import re
import subprocess
import time

import httpx
import pytest
from typer.testing import CliRunner

import stores
from callhouse.cli import app
from callhouse.errors import MirrorError, SecretUnavailable, VendorRefusal, VendorUnavailable
from callhouse.mirror import lease, secret
from callhouse.mirror.vendor import Vendor
from command import Started, kill_group
from mirror.faulty_proxy import FaultyProxy
from mirror.stand import served, standing
from serving import COMMAND, callhouse, send, wait_until

MINUTE = 60_000
KEPT = ("retention.details=forever", "retention.plivo=forever", "mirror.every=1s")


def call(number, end, **more):
    return {"session_id": f"s{number}", "call_uuid": f"s{number}", "start": end - 60, "end": end, "src": "1", **more}


@pytest.fixture(scope="module")
def vendor(tmp_path_factory):
    from serving import Server

    with Server(tmp_path_factory.mktemp("vendor") / "vendor", *KEPT) as running:
        yield running


@pytest.fixture(scope="module")
def there(vendor):
    """An account at the vendor with three calls."""
    login = vendor.account("there@example.com", "--login", "there")
    ended = int(time.time()) - 600
    send(vendor, login, [call(number, ended + number) for number in range(3)])
    return login


@pytest.fixture
def add(tmp_path, own_server, there):
    """Starts a server here and adds a mirror to it; *env* may hold the secret. The server, and the account's login."""

    def added(url, *options, settings=KEPT, env=None, secret_of=there):
        server = own_server(*settings)
        login = server.account()
        token = tmp_path / "token"
        token.write_text(secret_of.plivo[1] + "\n")
        where = ["--secret-file", token] if env is None else ["--secret-variable", next(iter(env))]
        callhouse(
            "mirror", "add", "plivo", "--name", "sales", "--account", login.id, "--user", there.auth_id, *where,
            "--url", url, "--rate", "1000", *options, data=server.data, env=env,
        )  # fmt: skip
        return server, login

    return added


def shown(server):
    return json.loads(callhouse("mirror", "show", "sales", "--json", data=server.data).stdout)


def listed(server, login):
    answer = server.client.get(f"/v1/Account/{login.auth_id}/Call/", auth=login.plivo).json()
    return {each["call_uuid"] for each in answer["objects"]}


def test_the_server_follows_by_itself_and_leaves_off_while_paused_and_when_removed(vendor, there, add):
    server, login = add(vendor.url)
    wait_until(lambda: listed(server, login) >= {"s0", "s1", "s2"}, "the first calls come")
    callhouse("mirror", "pause", "sales", data=server.data)
    wait_until(lambda: "mirror.paused" in server.log.read_text(), "the server notices")
    now = int(time.time())
    send(vendor, there, [call("later", now - 1)])
    assert shown(server)["state"] == "paused"
    assert "slater" not in listed(server, login)
    callhouse("mirror", "resume", "sales", data=server.data)
    wait_until(lambda: "slater" in listed(server, login), "it goes on")
    metrics = server.client.get("/metrics").text
    for name in ("calls", "lag_seconds", "backlog_seconds", "days_until_loss", "last_success_timestamp_seconds", "up",
                 "lost_calls", "calls_per_second"):  # fmt: skip
        assert f'callhouse_mirror_{name}{{mirror="sales"}}' in metrics
    [days] = [line for line in metrics.splitlines() if line.startswith("callhouse_mirror_days_until_loss{")]
    assert 89 < float(days.split()[1]) <= 90
    assert "sales" in callhouse("mirror", "list", data=server.data).stdout
    callhouse("mirror", "remove", "sales", data=server.data)
    assert json.loads(callhouse("mirror", "list", "--json", data=server.data).stdout) == []
    assert "slater" in listed(server, login)
    assert 'callhouse_mirror_up{mirror="sales"}' not in server.client.get("/metrics").text


def test_a_wrong_secret_is_refused_at_once_and_one_that_becomes_wrong_stops_the_mirror(vendor, there, add, tmp_path):
    server, _ = add(vendor.url)
    refused = callhouse(
        "mirror", "add", "plivo", "--name", "other", "--account", "1", "--user", there.auth_id,
        "--secret-variable", "WRONG", "--url", vendor.url, data=server.data, env={"WRONG": "guess"}, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "refuses the credentials" in refused.stderr
    assert "guess" not in refused.stderr
    (tmp_path / "token").write_text("rotated")
    wait_until(lambda: shown(server)["state"] == "stopped", "the mirror stops")
    assert "refuses the credentials (status 401)" in shown(server)["trouble"]
    once = callhouse("mirror", "run", "--once", "sales", data=server.data, check=False)
    assert once.returncode == 1
    (tmp_path / "token").write_text(there.plivo[1])
    callhouse("mirror", "resume", "sales", data=server.data)
    wait_until(lambda: shown(server)["state"] == "active" and not shown(server)["trouble"], "it goes on")


def test_the_secret_is_in_no_file_no_log_and_no_output(vendor, there, add):
    token = there.plivo[1]
    server, login = add(vendor.url, settings=(*KEPT, "mirror.background=false"), env={"PLIVO_TOKEN": there.plivo[1]})
    run = callhouse("mirror", "run", "--once", data=server.data, env={"PLIVO_TOKEN": token})
    assert listed(server, login) >= {"s0", "s1", "s2"}
    missing = callhouse("mirror", "run", "--once", data=server.data, check=False)
    assert missing.returncode == 1
    assert "PLIVO_TOKEN" in missing.stderr
    show = callhouse("mirror", "show", "sales", data=server.data)
    assert "variable PLIVO_TOKEN" in show.stdout
    told = [server.log.read_text(), run.stdout, run.stderr, show.stdout, missing.stderr, json.dumps(shown(server)),
            server.client.get("/metrics").text]  # fmt: skip
    assert not any(token in text for text in told)
    assert token.encode() not in stores.content(server.data)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read"), ("", "is empty"), ("a\nb", "can be no secret")]
)
def test_a_secret_that_cannot_be_had_is_named_by_its_place_alone(tmp_path, content, problem):
    place = tmp_path / "secret"
    if content is not None:
        place.write_text(content)
    with pytest.raises(SecretUnavailable, match=problem):
        secret.read(f"file:{place}", {})
    place.write_text("word\r\n")
    assert secret.read(f"file:{place}", {}) == "word"
    with pytest.raises(SecretUnavailable, match="NAME"):
        secret.read("variable:NAME", {})


def test_two_processes_never_follow_one_mirror_and_a_dead_one_keeps_nobody_waiting(vendor, there, add):
    server, _ = add(vendor.url, settings=(*KEPT, "mirror.background=false"))
    first = Started(["mirror", "run", *stores.options(server.data)])
    try:
        wait_until(lambda: shown(server)["last_success"], "the first process follows")
        second = callhouse("mirror", "run", "--once", data=server.data, check=False)
        assert second.returncode == 1
        assert "Another process follows sales now" in second.stderr
        kill_group(first)
        # Who is dead is not waited for.
        stores.sql(server.data, "UPDATE mirrors SET owned_until = owned_until + 3600000")
        callhouse("mirror", "run", "--once", data=server.data)
    finally:
        kill_group(first)


def test_a_process_of_another_machine_of_the_same_name_is_not_taken_for_a_dead_one_of_this():
    ours, other = lease.new_owner(), lease.new_owner()
    assert lease.is_gone(other, ours)
    for elsewhere in (other.replace(":", ":0", 1), other.replace("[", "[0"), "x" + other):
        assert not lease.is_gone(elsewhere, ours)


def test_who_lost_a_mirror_to_another_process_writes_nothing_more(tmp_path, clock):
    async def work(stand):
        await stand.send(call(1, clock.now / 1000 - 600))
        followed = await stand.follow("plivo")
        until = clock.now + lease.SECONDS * 1000
        assert await stand.store.mirrors.take(followed.id, "elsewhere/1/abc", until)
        with pytest.raises(MirrorError, match="Another process"):
            await stand.once()
        assert (await stand.store.mirrors.get("followed")).calls == 0
        # What that process says no more for long enough, it is not doing.
        clock.now = until + 1
        await stand.once()
        assert (await stand.store.mirrors.get("followed")).calls == 1
        assert await stand.store.mirrors.keep(followed.id, "elsewhere/1/abc", until, "") is False

    standing(tmp_path, clock, work)


def test_a_vendor_that_asks_to_be_left_alone_is_left_alone_as_long_as_it_wants(vendor, there):
    """429 with Retry-After: 1 holds for all requests, not only for the one that was refused."""
    import asyncio

    with FaultyProxy(vendor.url, seed=1, faults=0) as proxy:
        answers = iter(["429"])
        answered = proxy._answered
        proxy._answered = lambda request, _, writer: answered(request, next(answers, "none"), writer)

        async def ask():
            async with Vendor("sales", proxy.url, there.plivo, 1000) as asked:
                path = f"/v1/Account/{there.auth_id}/Call/"
                await asyncio.gather(asked(dict, path), _later(asked, path))

        async def _later(asked, path):
            await asyncio.to_thread(wait_until, lambda: proxy.requests, "the first request")
            await asyncio.sleep(0.1)
            await asked(dict, path)

        asyncio.run(ask())
        first, *others = [at for at, _ in proxy.requests]
    assert len(others) == 2
    assert min(others) - first >= 1


def test_requests_are_no_more_than_the_vendor_takes():
    import asyncio

    times = []

    def answer(_):
        times.append(time.monotonic())
        return httpx.Response(200, json={})

    async def ask():
        async with served(httpx.MockTransport(answer)) as url, Vendor("m", url, ("a", "b"), 50) as vendor:
            await asyncio.gather(*(vendor(dict, "/") for _ in range(60)))

    asyncio.run(ask())
    assert len(times) == 60
    # A second holds fifty, and a few that were on their way for longer than others.
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= 55


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, VendorRefusal), (403, VendorRefusal), (302, VendorUnavailable), (400, VendorUnavailable),
     (404, VendorUnavailable)],
)  # fmt: skip
def test_what_trying_again_does_not_mend_is_not_tried_again(status, error):
    import asyncio

    asked = []

    def answer(request):
        asked.append(request)
        return httpx.Response(status, headers={"Location": "/elsewhere"})

    async def ask():
        async with served(httpx.MockTransport(answer)) as url, Vendor("m", url, ("a", "b"), 1000) as vendor:
            await vendor(dict, "/")

    with pytest.raises(error):
        asyncio.run(ask())
    # A redirect is not followed: the credentials are for this vendor alone.
    assert [request.url.path for request in asked] == ["/"]


def delete(server, session):
    """Let a call be gone from the store, and from what it counts."""
    [(ended,)] = stores.sql(server.data, "SELECT ended FROM calls WHERE session_id = ?", session)
    stores.sql(server.data, "DELETE FROM calls WHERE session_id = ?", session)
    for width, hours in (("1", 1), ("24", 24), ("768", 768)):
        for table, clock in (("end_counts", ended), ("call_counts", ended - 60_000)):
            stores.sql(
                server.data,
                f"UPDATE {table} SET calls = calls - 1 WHERE width = {width} AND bucket = ?",
                clock // (hours * 3_600_000),
            )


def test_check_tells_the_days_that_lack_calls_and_fills_them(vendor, there, add):
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * 86_400))
    server, login = add(vendor.url, "--since", since, settings=(*KEPT, "mirror.background=false"))
    callhouse("mirror", "run", "--once", data=server.data)
    before = listed(server, login)
    delete(server, "s1")
    assert "s1" not in listed(server, login)
    days = json.loads(callhouse("mirror", "check", "sales", "--json", data=server.data).stdout)
    assert listed(server, login) == before
    assert sum(day["filled"] for day in days) == 1
    assert all(day["here"] == day["vendor"] for day in days)
    assert days[-1]["day"] == since
    assert len(days) == 4


def test_check_beside_a_server_tells_the_days_and_the_server_fills_them(vendor, there, add):
    since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 3 * 86_400))
    server, login = add(vendor.url, "--since", since)
    wait_until(lambda: listed(server, login) >= {"s0", "s1", "s2"} and not shown(server)["backlog"] > 60, "all is had")
    delete(server, "s1")
    assert "s1" not in listed(server, login)
    told = callhouse("mirror", "check", "sales", "--json", data=server.data, check=False)
    assert told.returncode == 1
    assert "1 call of the vendor's are not here. Another process follows sales" in told.stderr
    days = json.loads(told.stdout)
    assert sum(day["vendor"] - day["here"] for day in days) == 1
    wait_until(lambda: "s1" in listed(server, login), "the server fills the gap")
    callhouse("mirror", "check", "sales", data=server.data)


def test_what_was_asked_for_again_while_nobody_followed_is_asked_for_later(tmp_path, clock):
    async def work(stand):
        await stand.send(call(1, clock.now / 1000 - 600))
        followed = await stand.follow("plivo")
        await stand.once()
        gap = clock.now - 700_000, clock.now - 500_000
        await stand.store.mirrors.ask_again(followed.id, [gap])
        await stand.store.mirrors.ask_again(followed.id, [(gap[0] - 10_000, gap[0] - 5_000)])
        assert (await stand.store.mirrors.get("followed")).calls == 1
        await stand.once()
        assert (await stand.store.mirrors.get("followed")).calls == 2
        await stand.once()
        assert (await stand.store.mirrors.get("followed")).calls == 2

    standing(tmp_path, clock, work)


def test_whoever_follows_into_an_inactive_account_is_told(vendor, there, add):
    server, login = add(vendor.url, settings=(*KEPT, "mirror.background=false"))
    callhouse("accounts", "deactivate", login.id, data=server.data)
    run = callhouse("mirror", "run", "--once", data=server.data)
    assert f"Account {login.id} is inactive: its calls are kept" in run.stderr
    callhouse("accounts", "activate", login.id, data=server.data)
    assert listed(server, login) >= {"s0", "s1", "s2"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["plivo", "--user", "MA"], "name a file or a variable"),
        (["telex", "--user", "MA", "--secret-variable", "A"], "plivo"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--url", "ftp://x"], "https://HOST"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--url", "https://u:p@x"], "without credentials"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--url", "https://"], "https://HOST"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--url", "http://x:port"], "https://HOST"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--url", "http://x y"], "https://HOST"),
        (["plivo", "--user", "MA:x", "--secret-variable", "A"], "without a colon"),
        (["plivo", "--user", " ", "--secret-variable", "A"], "printable characters"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--since", "2999-01-01"], "a day that has begun"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--overlap", "1y"], "below 90d"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--overlap", "long"], "is no duration"),
        (["plivo", "--user", "MA", "--secret-variable", "A", "--since", "yesterday"], "yesterday"),
    ],
)
def test_what_makes_no_mirror_is_told(tmp_path, options, problem):
    # Two hundred columns, so that no line is folded.
    words = ["mirror", "add", *options, "--name", "n", "--account", "1", *stores.options(tmp_path)]
    told = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, words)
    assert told.exit_code == 2
    assert re.search(problem, told.stderr)


def test_what_cannot_be_an_argument_is_told_in_one_line(vendor, add):
    server, _ = add(vendor.url, settings=(*KEPT, "mirror.background=false"))
    for command in (("show",), ("run", "--once"), ("pause",)):
        done = subprocess.run(
            [*COMMAND, "mirror", *command, b"\xff", *stores.options(server.data)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, "Error: An argument is not UTF-8.\n")
    for url in ("http://a..b/", f"http://{'a' * 64}.example"):
        done = callhouse(
            "mirror", "add", "plivo", "--name", "x", "--account", "1", "--user", "u", "--secret-variable", "S",
            "--url", url, data=server.data, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "https://HOST" in done.stderr


def test_trouble_stands_below_the_list_and_where_there_is_nothing_to_follow_that_is_said(vendor, there, add, tmp_path):
    server, _ = add(vendor.url, settings=(*KEPT, "mirror.background=false"))
    (tmp_path / "token").unlink()
    callhouse("mirror", "run", "--once", data=server.data, check=False)
    told = callhouse("mirror", "list", data=server.data, env={"COLUMNS": "80"}).stdout
    [line] = [line for line in told.splitlines() if line.startswith("sales: ")]
    assert str(tmp_path / "token") in line
    callhouse("mirror", "pause", "sales", data=server.data)
    done = callhouse("mirror", "run", "--once", data=server.data)
    assert "No mirror is active; `callhouse mirror resume` lets one go on." in done.stderr
