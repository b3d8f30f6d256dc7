"""Who is let in, and how those who guess are slowed down without harm to the owner."""

import asyncio
import base64

import pytest
from litestar import Request

import stores
from callhouse.auth import FREE_FAILURES, KNOWN_SECONDS, SECONDS_A_FAILURE, Authenticator, Throttle, parse_basic
from callhouse.clock import now
from callhouse.errors import NotAuthenticated, RequestError, TooManyFailures
from callhouse.model.account import Retention
from callhouse.store import open_store
from serving import callhouse, create_account, get, wait_until

WINDOW = "/api/calls/1/2"


class Ticks:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_an_address_may_fail_a_few_times_and_then_waits():
    clock = Ticks()
    throttle = Throttle(clock)
    for _ in range(FREE_FAILURES):
        assert throttle.wait("192.0.2.1") == 0
        throttle.failed("192.0.2.1")
    assert throttle.wait("192.0.2.1") == round(SECONDS_A_FAILURE)
    assert throttle.wait("192.0.2.2") == 0
    clock.now += SECONDS_A_FAILURE + 0.001
    assert throttle.wait("192.0.2.1") == 0


def test_the_wait_stays_short_however_often_an_address_fails():
    throttle = Throttle(Ticks())
    for _ in range(1000):
        throttle.failed("192.0.2.1")
    assert throttle.wait("192.0.2.1") <= 60


def test_the_addresses_of_one_ipv6_network_count_as_one():
    throttle = Throttle(Ticks())
    for n in range(FREE_FAILURES):
        throttle.failed(f"2001:db8:1:2::{n:x}")
    assert throttle.wait("2001:db8:1:2:ffff::1") > 0
    assert throttle.wait("2001:db8:1:3::1") == 0


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "parsed"),
    [
        (basic("a@example.com:key"), ("a@example.com", "key")),
        (basic("a@example.com:key").replace("Basic", "bAsIc"), ("a@example.com", "key")),
        (basic("ä:k:e:y"), ("ä", "k:e:y")),
        (basic(":"), ("", "")),
        (basic("no colon"), None),
        ("Basic", None),
        ("Basic !!!", None),
        ("Basic /w==", None),
        ("Bearer abc", None),
        ("", None),
        (None, None),
    ],
)
def test_a_basic_header_is_parsed_or_taken_for_none(header, parsed):
    assert parse_basic(header) == parsed


@pytest.fixture
def running(own_server):
    server = own_server()
    return server, server.account("owner@example.com", "--login", "owner")


INVALID = {"error": "Invalid email or developer key."}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": basic("owner@example.com:wrong")},
        {"Authorization": basic("nobody@example.com:wrong")},
        {"Authorization": "Basic ???"},
        {"Authorization": "Bearer token"},
    ],
)
def test_missing_malformed_and_wrong_credentials_give_the_same_401(running, headers):
    server, _ = running
    answer = server.client.get(WINDOW, headers=headers)
    assert answer.status_code == 401
    assert answer.json() == INVALID
    assert answer.headers["www-authenticate"].startswith('Basic realm="Fuse"')
    xml = server.client.get(WINDOW, headers={**headers, "Accept": "application/xml"})
    assert xml.status_code == 401
    assert xml.text == '<?xml version="1.0"?>\n<result><error>Invalid email or developer key.</error></result>'


def test_fuse_takes_the_developer_key_alone_and_ingest_takes_any_credential(running):
    server, login = running
    credentials = [login.fuse, (login.login, login.password), (login.auth_id, login.auth_token)]
    assert [server.client.get(WINDOW, auth=auth).status_code for auth in credentials] == [200, 401, 401]
    for auth in credentials:
        assert server.client.post("/ingest/calls", json=[], auth=auth).status_code == 200
    wrong = server.client.post("/ingest/calls", json=[], auth=("owner", "wrong"))
    assert (wrong.status_code, wrong.json()) == (401, {"error": "Invalid credentials."})


def test_the_case_of_an_e_mail_address_does_not_matter_and_authentication_is_taken_for_authorization(running):
    server, login = running
    assert server.client.get(WINDOW, auth=("Owner@Example.COM", login.developer_key)).status_code == 200
    header = basic(f"{login.email}:{login.developer_key}")
    assert server.client.get(WINDOW, headers={"Authentication": header}).status_code == 200


def test_an_inactive_account_is_told_so_only_with_the_right_credentials(running):
    server, login = running
    callhouse("accounts", "deactivate", login.id, data=server.data)
    assert get(server, login, WINDOW).json() == {"error": "This account is inactive."}
    assert get(server, login, WINDOW).status_code == 401
    assert server.client.get(WINDOW, auth=(login.email, "wrong")).json() == INVALID
    assert server.client.post("/ingest/calls", json=[], auth=login.fuse).status_code == 401
    callhouse("accounts", "activate", login.id, data=server.data)
    assert get(server, login, WINDOW).status_code == 200


def test_guessing_is_slowed_down_while_the_owner_at_the_same_address_gets_in(running):
    server, login = running
    # Checked once, so that the slow hash's verdict is known when the address is slowed down.
    assert server.client.post("/ingest/calls", json=[], auth=(login.login, login.password)).status_code == 200
    statuses = [server.client.get(WINDOW, auth=(login.email, f"guess{n}")).status_code for n in range(30)]
    assert statuses[:FREE_FAILURES] == [401] * FREE_FAILURES
    assert statuses[-5:] == [429] * 5
    slowed = server.client.get(WINDOW, auth=(login.email, "guess"))
    assert int(slowed.headers["retry-after"]) >= 1
    assert "error" in slowed.json()
    assert get(server, login, WINDOW).status_code == 200
    assert server.client.post("/ingest/calls", json=[], auth=(login.login, login.password)).status_code == 200
    other = create_account(server.data, "other@example.com")
    assert get(server, other, WINDOW).status_code == 200


def test_a_password_that_was_right_within_a_day_is_taken_from_an_address_that_is_slowed_down(running):
    server, login = running
    clock = Ticks()

    async def status(authenticator, password):
        headers = [(b"authorization", basic(f"{login.login}:{password}").encode())]
        scope = {"type": "http", "client": ("192.0.2.1", 1), "headers": headers}
        try:
            return (await authenticator.account(Request(scope), ["dev"])).id
        except RequestError as error:
            return type(error)

    async def work():
        store = await open_store(stores.location(server.data), retention=Retention(), clock=now)
        authenticator = Authenticator(store, clock)
        assert await status(authenticator, login.password) == login.id
        for _ in range(2):
            clock.now += KNOWN_SECONDS - 1
            guesses = [await status(authenticator, f"guess{n}") for n in range(FREE_FAILURES + 1)]
            assert guesses == [NotAuthenticated] * FREE_FAILURES + [TooManyFailures]
            assert await status(authenticator, login.password) == login.id
        clock.now += KNOWN_SECONDS + 1
        for n in range(FREE_FAILURES):
            await status(authenticator, f"guess{n}")
        assert await status(authenticator, login.password) is TooManyFailures
        await store.close()

    asyncio.run(work())


def test_guesses_made_all_at_once_are_no_more_than_those_made_one_by_one(running):
    server, login = running

    async def work():
        store = await open_store(stores.location(server.data), retention=Retention(), clock=now)
        authenticator = Authenticator(store, Ticks())

        async def status(password):
            headers = [(b"authorization", basic(f"{login.login}:{password}").encode())]
            try:
                scope = {"type": "http", "client": ("192.0.2.1", 1), "headers": headers}
                return (await authenticator.account(Request(scope), ["dev"])).id
            except RequestError as error:
                return type(error)

        # The same password sent many times at once is one try, and it is right.
        assert set(await asyncio.gather(*(status(login.password) for _ in range(30)))) == {login.id}
        authenticator = Authenticator(store, Ticks())
        guesses = [f"guess{n}" for n in range(40)]
        outcomes = await asyncio.gather(*map(status, [*guesses, login.password]))
        assert outcomes.count(TooManyFailures) >= len(guesses) + 1 - FREE_FAILURES
        assert login.id not in outcomes
        await store.close()

    asyncio.run(work())


def test_a_request_without_credentials_is_asked_for_them_however_others_guessed(running):
    server, login = running
    while server.client.get(WINDOW, auth=(login.email, "guess")).status_code == 401:
        pass
    asked = server.client.get(WINDOW)
    assert (asked.status_code, asked.json()) == (401, INVALID)
    assert asked.headers["www-authenticate"].startswith("Basic ")


def test_those_who_guess_through_a_proxy_slow_down_nobody_else_there(own_server):
    server = own_server("server.trusted_proxies=127.0.0.1")
    login = server.account()

    def status(address, key):
        answer = server.client.get(WINDOW, auth=(login.email, key), headers={"X-Forwarded-For": address})
        return answer.status_code

    while status("192.0.2.1", "guess") == 401:
        pass
    assert status("192.0.2.1", "guess") == 429
    assert status("192.0.2.2", "guess") == 401
    # The line of a request is written after its answer.
    wait_until(lambda: '"client":"192.0.2.2"' in server.log.read_text(), "a line of the other client")


def test_a_rotated_key_stops_at_once(running):
    server, login = running
    assert get(server, login, WINDOW).status_code == 200
    callhouse("accounts", "rotate", login.id, data=server.data)
    assert get(server, login, WINDOW).status_code == 401
    assert server.client.post("/ingest/calls", json=[], auth=(login.login, login.password)).status_code == 401


def test_the_store_holds_no_secret_in_the_clear(running):
    server, login = running
    server.stop()
    content = stores.content(server.data)
    assert login.email.encode() in content
    for secret in (login.developer_key, login.password, login.auth_token):
        assert secret.encode() not in content
