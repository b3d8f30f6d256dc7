"""Who gets into the console, by what, and what ends it; changes that nobody of the console asked for are refused."""

import re
import ssl
import time
from http.cookies import SimpleCookie
from urllib.parse import quote

import httpx
import pytest
import trustme

import stores
from console.visiting import Visitor
from serving import callhouse, send

ADMIN = "an operator's long token"
NOW = int(time.time())


@pytest.fixture(scope="module")
def login(server):
    login = server.account("console@example.com", "--login", "console user", "--timezone", "America/New_York")
    send(server, login, [{"session_id": "mine", "start": NOW - 60, "end": NOW - 10}])
    return login


@pytest.fixture
def visitor(server):
    with Visitor(server) as somebody:
        yield somebody


@pytest.fixture
def operated(own_server, tmp_path):
    (tmp_path / "token").write_text(f"{ADMIN}\n")
    return own_server(f"console.admin_token_file={tmp_path / 'token'}")


@pytest.mark.parametrize("kind", ["fuse", "dev", "plivo"])
def test_any_credentials_of_an_account_open_its_console_and_lead_to_what_was_asked_for(visitor, login, kind):
    asked = visitor.get("/calls?q=mine")
    assert (asked.status_code, asked.headers["location"]) == (
        303,
        "/console/sign-in?next=%2Fconsole%2Fcalls%3Fq%3Dmine",
    )
    entered = visitor.sign_in(*getattr(login, kind), next="/console/calls?q=mine")
    assert (entered.status_code, entered.headers["location"]) == (303, "/console/calls?q=mine")
    assert visitor.sessions("/calls?q=mine") == ["mine"]


@pytest.mark.parametrize(
    "name", ["console@example.com", "nobody@example.com", "", "a\x00b", "' OR 1=1 --", "é" * 9_000]
)
def test_wrong_credentials_open_nothing_and_do_not_tell_whether_the_account_exists(visitor, login, name):
    refused = visitor.sign_in(name, "guess")
    assert refused.status_code in {401, 429}
    assert "no name and secret of an account" in refused.text or "Too many failed attempts" in refused.text
    assert visitor.get("/calls").status_code == 303


def test_guessing_is_slowed_down_together_with_the_apis(own_server):
    server = own_server()
    login = server.account()
    with Visitor(server) as guesser:
        token = guesser.form_token()
        guess = {"form_token": token, "name": login.email, "secret": "guess"}
        answers = []
        while not answers or answers[-1].status_code == 401:
            answers.append(guesser.client.post("/console/sign-in", data=guess))
        assert 10 < len(answers) < 40
        assert answers[-1].status_code == 429
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert server.client.get("/api/calls/1/2", auth=(login.email, "guess")).status_code == 429
        # The owner, who cannot have guessed it, gets in.
        assert guesser.sign_in(*login.fuse).status_code == 303


def test_the_cookie_is_for_the_console_alone_and_out_of_reach_of_scripts_and_other_sites(visitor, login):
    entered = visitor.sign_in(*login.fuse)
    cookie = SimpleCookie(entered.headers["set-cookie"])["callhouse_console"]
    assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "lax", "/console")
    assert not cookie["secure"]


def test_over_https_the_cookie_never_goes_in_the_clear(own_server, tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    server = own_server(f"server.tls_cert={tmp_path / 'cert'}", f"server.tls_key={tmp_path / 'key'}")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca"))
    url = server.url.replace("127.0.0.1", "localhost")
    with httpx.Client(base_url=url, verify=context) as client:
        shown = client.get("/console/sign-in")
    assert SimpleCookie(shown.headers["set-cookie"])["callhouse_console"]["secure"] is True


def test_signing_in_takes_a_new_session_so_one_planted_before_is_worth_nothing(server, visitor, login):
    visitor.get("/sign-in")
    planted = visitor.cookie
    visitor.sign_in(*login.fuse)
    assert visitor.cookie != planted
    with Visitor(server) as attacker:
        attacker.client.cookies.set("callhouse_console", planted, path="/console")
        assert attacker.get("/calls").status_code == 303


def test_a_forged_cookie_is_no_session(server, visitor, login):
    visitor.sign_in(*login.fuse)
    text, seal = visitor.cookie.split(".")
    other = ("B" if text[0] == "A" else "A") + text[1:]
    for forged in (text, f"{text}.", f".{seal}", f"{other}.{seal}", f"{text}.{'0' * 64}", "a.b", "é.ü", "." * 500):
        with Visitor(server, Cookie=f"callhouse_console={forged}".encode()) as attacker:
            assert attacker.get("/calls").status_code == 303, forged


def test_signing_out_ends_the_session_wherever_its_cookie_is(server, visitor, login):
    visitor.sign_in(*login.fuse)
    kept = visitor.cookie
    left = visitor.send("/sign-out", page="/calls")
    assert (left.status_code, left.headers["location"]) == (303, "/console/sign-in")
    with Visitor(server) as elsewhere:
        elsewhere.client.cookies.set("callhouse_console", kept, path="/console")
        assert elsewhere.get("/calls").status_code == 303


def test_other_credentials_or_a_switched_off_account_end_the_session(own_server):
    server = own_server()
    for number, change in enumerate(("rotate", "deactivate")):
        login = server.account(f"{number}@example.com")
        with Visitor(server) as visitor:
            visitor.sign_in(*login.fuse)
            assert visitor.get("/calls").status_code == 200
            callhouse("accounts", change, login.id, data=server.data)
            assert visitor.get("/calls").status_code == 303
            assert visitor.sign_in(*login.fuse).status_code == 401


def test_the_store_holds_nothing_that_opens_a_session(own_server):
    server = own_server()
    login = server.account()
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        cookie = visitor.cookie
    rows = stores.sql(server.data, "SELECT id, fingerprint FROM sign_ins")
    assert len(rows) == 1
    assert all(part.encode() not in bytes(value) for value in rows[0] for part in cookie.split("."))


CHANGES = ["/sign-in", "/sign-out", "/timezone", "/show"]


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("token", ["", "0" * 64, "é", None, "another's"])
def test_a_change_without_the_token_of_the_visitors_own_form_is_refused(server, visitor, login, path, token):
    visitor.sign_in(*login.fuse)
    with Visitor(server) as other:
        other.sign_in(*login.fuse)
        anothers = other.form_token("/calls")
    fields = {"name": login.email, "secret": login.developer_key, "timezone": "UTC", "account": "1"}
    if token is not None:
        fields["form_token"] = anothers if token == "another's" else token
    refused = visitor.client.post(f"/console{path}", data=fields)
    assert refused.status_code == 403
    assert "none of the console" in refused.text
    assert visitor.get("/calls").status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_a_form_that_another_site_sends_is_refused_even_with_the_token(visitor, login, site):
    visitor.sign_in(*login.fuse)
    token = visitor.form_token("/calls")
    headers = {"Sec-Fetch-Site": site, "Origin": "https://evil.example"}
    refused = visitor.client.post("/console/sign-out", data={"form_token": token}, headers=headers)
    assert refused.status_code == 403
    assert visitor.get("/calls").status_code == 200


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/", "//evil.example/", "/\\evil.example", "/console/\\evil", "javascript:alert(1)", "/api/x",
     "/console/x\r\nSet-Cookie: a=b", "/consolex", "http:/evil"],
)  # fmt: skip
def test_signing_in_leads_nowhere_but_into_the_console(visitor, login, target):
    entered = visitor.sign_in(*login.fuse, next=target)
    assert entered.headers["location"].startswith("/console/")
    assert "evil" not in entered.headers["location"]
    assert "a=b" not in entered.headers.get("set-cookie", "")


def test_an_operator_signs_in_with_the_admin_token_and_sees_whichever_account_he_chooses(operated):
    first, second = operated.account("first@example.com"), operated.account("second@example.com")
    for login in (first, second):
        send(operated, login, [{"session_id": f"of {login.id}", "start": NOW - 60, "end": NOW - 10}])
    with Visitor(operated) as operator:
        assert "Sign in as operator" in operator.get("/sign-in").text
        assert operator.send("/sign-in", secret="guess", as_operator="1").status_code == 401
        assert operator.send("/sign-in", secret=ADMIN, as_operator="1").status_code == 303
        assert operator.sessions() == [f"of%20{first.id}"]
        assert "second@example.com" in operator.get("/accounts").text
        operator.send("/show", page="/accounts", account=str(second.id))
        assert operator.sessions() == [f"of%20{second.id}"]
        assert operator.send("/show", page="/accounts", account="99").status_code == 400


def test_another_admin_token_ends_what_the_old_one_opened(operated, tmp_path):
    operated.account()
    with Visitor(operated) as operator:
        operator.send("/sign-in", secret=ADMIN, as_operator="1")
        kept = operator.cookie
    operated.stop()
    (tmp_path / "token").write_text("another long token of the operator")
    operated.start()
    with Visitor(operated) as operator:
        operator.client.cookies.set("callhouse_console", kept, path="/console")
        assert operator.get("/calls").status_code == 303


def test_who_has_an_account_sees_no_other_one(operated):
    first, second = operated.account("first@example.com"), operated.account("second@example.com")
    with Visitor(operated) as visitor:
        visitor.sign_in(*first.fuse)
        assert visitor.get("/accounts").status_code == 303
        visitor.send("/show", page="/calls", account=str(second.id))
        assert "second@example.com" not in visitor.get("/calls").text


def test_without_an_admin_token_nobody_is_an_operator(visitor, login):
    assert "operator" not in visitor.get("/sign-in").text
    for secret in ("", "None", "null"):
        assert visitor.send("/sign-in", secret=secret, as_operator="1").status_code in {401, 429}


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "cannot be read"), (b"short", "fewer than 20"), (b"\xff\xfe" * 20, "no text")]
)
def test_an_admin_token_that_is_none_keeps_the_server_from_starting_and_says_why(tmp_path, content, problem):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    done = callhouse(
        "serve", "--port", "0", "--set", f"console.admin_token_file={file}", data=tmp_path / "data", check=False
    )
    assert done.returncode == 1
    assert problem in done.stderr
    assert str(file) in done.stderr


def test_times_are_shown_in_the_accounts_zone_or_in_the_one_that_was_chosen(visitor, login):
    visitor.sign_in(*login.fuse)
    assert '<option value="America/New_York" selected>' in visitor.get("/calls").text
    assert visitor.send("/timezone", page="/calls", timezone="Asia/Kolkata").status_code == 303
    shown = visitor.get("/call/mine").text
    assert '<option value="Asia/Kolkata" selected>' in shown
    assert visitor.send("/timezone", page="/calls", timezone="Mars/Olympus").status_code == 400
    visitor.send("/timezone", page="/calls", timezone="")
    assert '<option value="America/New_York" selected>' in visitor.get("/calls").text


def test_every_answer_forbids_scripts_of_others_frames_and_caches(visitor, login):
    visitor.sign_in(*login.fuse)
    for path in ("/sign-in", "/calls", "/call/mine", "/call/none", "/calls/count", "/export/csv", "/calls?cause=x"):
        headers = visitor.get(path).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert set(policy.values()) <= {"'none'", "'self'"}, path
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_a_sign_in_that_is_not_used_is_over(stored, clock):
    async def work(store):
        hour = 3_600_000
        await store.sign_ins.put(b"a", account_id=None, is_operator=True, fingerprint=b"x")
        clock.now += 11 * hour
        assert await store.sign_ins.get(b"a") is not None
        clock.now += 11 * hour
        assert (await store.sign_ins.get(b"a")).is_operator
        clock.now += 13 * hour
        assert await store.sign_ins.get(b"a") is None
        await store.sign_ins.put(b"b", account_id=None, is_operator=True, fingerprint=b"x")
        for _ in range(7 * 3):
            clock.now += 8 * hour
            found = await store.sign_ins.get(b"b")
        assert found is None, "a week is the longest"

    stored(work)


@pytest.mark.parametrize("target", ["//[", "//\u2100", "/console//[", "//[::1"])
def test_a_target_that_is_no_address_leads_to_the_calls(visitor, login, target):
    assert visitor.get(f"/sign-in?next={quote(target)}").status_code == 200
    assert visitor.sign_in(*login.fuse, next=target).status_code == 303
    changed = visitor.send("/timezone", page="/calls", timezone="Europe/Berlin", next=target)
    assert (changed.status_code, changed.headers["location"].startswith("/console/")) == (303, True)


PARTS = ["/ingest/sources", "/ingest/days", "/events/mine", "/calls/count", "/calls/live", "/export/progress?id=x"]


@pytest.mark.parametrize("path", PARTS)
def test_a_part_of_a_page_that_is_asked_for_after_the_sign_in_ended_sends_the_page_itself_to_the_form(visitor, path):
    page = "https://calls.example/console/calls?q=a%20b&live=1"
    answer = visitor.get(path, headers={"HX-Request": "true", "HX-Current-URL": page})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["hx-redirect"] == "/console/sign-in?next=%2Fconsole%2Fcalls%3Fq%3Da%2520b%26live%3D1"
    for elsewhere in ("https://evil.example/", "//evil.example", "https://x//evil.example/console/", "\xe9", ""):
        headers = {"HX-Request": "true", "HX-Current-URL": elsewhere.encode("latin-1")}
        assert visitor.get(path, headers=headers).headers["hx-redirect"] == "/console/sign-in?next=%2Fconsole%2Fcalls"


def test_a_part_of_a_page_that_fails_says_so_and_leaves_the_page_as_it_is(visitor, login):
    visitor.sign_in(*login.fuse)
    answer = visitor.get("/events/none", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-reswap"]) == (404, "none")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "no such call in this account" in answer.text


@pytest.mark.parametrize("name", ["posixrules", "Factory", "localtime", "right/Europe/Berlin"])
def test_what_is_no_places_time_zone_is_refused(visitor, login, name):
    visitor.sign_in(*login.fuse)
    assert visitor.send("/timezone", page="/calls", timezone=name).status_code == 400


def test_after_a_wrong_secret_the_secret_is_what_is_typed_next(visitor, login):
    focused = r'<input name="(\w+)"[^>]* autofocus>'
    assert re.findall(focused, visitor.get("/sign-in").text) == ["name"]
    assert re.findall(focused, visitor.sign_in(login.email, "wrong").text) == ["secret"]


def test_a_page_tells_its_headers_alone_to_who_asks_for_no_more(visitor, login):
    refused = visitor.client.head("/console/calls?q=1")
    assert (refused.status_code, refused.headers["location"]) == (
        303,
        "/console/sign-in?next=%2Fconsole%2Fcalls%3Fq%3D1",
    )
    visitor.sign_in(*login.fuse)
    for path in ("/calls", "/call/mine", "/dashboard", "/ingest", "/account", "/record/mine", "/static/console.css"):
        told = visitor.client.head(f"/console{path}")
        assert (told.status_code, told.content) == (200, b""), path
        assert told.headers["content-type"].count("charset") <= 1
    assert visitor.client.head("/console/call/nothing").status_code == 404
