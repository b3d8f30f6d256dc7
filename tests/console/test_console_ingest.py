"""What came in, what was refused and its second try, and the account's own settings, as a browser gets them."""

import html
import os
import re
import subprocess
import time

import pytest

from console.visiting import Visitor
from serving import send

NOW = int(time.time())
ADMIN = "an operator's long token"
REFUSED = [
    {"session_id": "backwards", "start": NOW, "end": NOW - 10},
    {"session_id": "", "start": NOW},
    {"session_id": "ancient", "start": NOW - 40 * 86_400, "end": NOW - 40 * 86_400 + 1},
    {"session_id": "<script>alert(1)</script>", "start": "yesterday"},
]


@pytest.fixture
def server(own_server, tmp_path):
    (tmp_path / "token").write_text(ADMIN)
    return own_server(f"console.admin_token_file={tmp_path / 'token'}", "retention.sessions=30d", "retention.plivo=30d")


@pytest.fixture
def login(server):
    login = server.account("ops@x", "--login", "ops")
    send(server, login, [{"session_id": "fine", "start": NOW - 9, "end": NOW - 1}])
    server.client.post("/ingest/calls", json=REFUSED, auth=login.fuse)
    return login


@pytest.fixture
def visitor(server, login):
    with Visitor(server) as somebody:
        somebody.sign_in(*login.fuse)
        yield somebody


@pytest.fixture
def operator(server, login):
    with Visitor(server) as somebody:
        somebody.send("/sign-in", secret=ADMIN, as_operator="1")
        yield somebody


def text(page):
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", page.text)).split())


def entries(visitor):
    return re.findall(r'href="/console/quarantine/(\d+)"', visitor.get("/ingest").text)


def test_every_source_tells_its_last_record_its_rate_and_its_delay(visitor):
    page = text(visitor.get("/ingest"))
    assert "/ingest/calls" in page
    assert "ago" in page
    assert re.search(r"[\d.]+ 5 4 [\d.]+ (ms|s|min)\b.* up to [\d.]+", page), page
    assert "/ingest/calls" in text(visitor.get("/ingest/sources"))


def test_refused_records_are_shown_with_their_reasons_and_as_they_were_sent(visitor):
    page = text(visitor.get("/ingest"))
    assert "4 refused records" in page
    for reason in ("end is before start", "session_id must have 1 to", "older than its retention", "RFC 3339"):
        assert reason in page
    [newest, *_] = entries(visitor)
    shown = visitor.get(f"/quarantine/{newest}")
    assert "<script>alert" not in shown.text
    assert '{"session_id":"<script>alert(1)</script>","start":"yesterday"}' in html.unescape(shown.text)
    one = visitor.get("/ingest?reason=end+is+before+start").text
    assert len(re.findall(r'href="/console/quarantine/', one)) == 1


def test_a_refused_record_is_kept_when_it_is_tried_again_after_what_kept_it_out_was_changed(visitor, operator, login):
    page = operator.get("/account").text
    assert 'name="details"' in page
    changed = operator.send("/account/retention", page="/account", sessions="forever", details="", plivo="")
    assert changed.status_code == 303
    assert 'value="forever"' in operator.get("/account").text
    told = visitor.send("/quarantine", page="/ingest", what="replay")
    assert told.headers["location"] == "/console/ingest?told=replayed-1-3"
    assert "1 accepted, 3 refused again." in text(visitor.client.get(told.headers["location"]))
    assert visitor.sessions() == ["fine", "ancient"]
    assert len(entries(visitor)) == 3


def test_one_record_those_of_a_reason_or_all_are_dropped(visitor):
    first, *_ = entries(visitor)
    assert visitor.send("/quarantine", page="/ingest", what="drop", id=first).status_code == 303
    assert len(entries(visitor)) == 3
    visitor.send("/quarantine", page="/ingest", what="drop", reason="end is before start")
    assert len(entries(visitor)) == 2
    assert visitor.send("/quarantine", page="/ingest", what="burn").status_code == 400
    visitor.send("/quarantine", page="/ingest", what="drop", reason="")
    assert entries(visitor) == []
    assert "Nothing has been refused" in text(visitor.get("/ingest"))


def test_another_accounts_refused_records_and_sources_are_out_of_reach(server, visitor, login):
    theirs, *_ = entries(visitor)
    stranger = server.account("stranger@x")
    with Visitor(server) as other:
        other.sign_in(*stranger.fuse)
        assert "Nothing has come in yet" in text(other.get("/ingest"))
        assert entries(other) == []
        assert other.get(f"/quarantine/{theirs}").status_code == 404
        for what in ("replay", "drop"):
            assert other.send("/quarantine", page="/account", what=what, id=theirs).status_code == 404
            other.send("/quarantine", page="/account", what=what)
        assert other.get("/ingest/storage").status_code == 404
    assert len(entries(visitor)) == 4


@pytest.mark.parametrize("path", ["/quarantine", "/account/rotate", "/account/timezone", "/account/retention"])
def test_these_changes_too_take_the_visitors_own_token(server, visitor, path):
    refused = visitor.client.post(f"/console{path}", data={"what": "drop", "sure": "1", "timezone": "UTC"})
    assert refused.status_code == 403
    assert len(entries(visitor)) == 4
    with Visitor(server) as nobody:
        assert nobody.send(path, what="drop").status_code == 303
    assert len(entries(visitor)) == 4


def test_only_an_operator_sees_what_the_whole_store_holds(visitor, operator):
    assert visitor.get("/ingest/storage").status_code == 404
    assert "calls" in text(operator.get("/ingest/storage"))
    assert "storage" not in visitor.get("/ingest").text


def test_new_secrets_are_shown_once_and_whoever_made_them_stays_signed_in(server, visitor, login):
    assert visitor.send("/account/rotate", page="/account").status_code == 400
    before = visitor.cookie
    shown = visitor.send("/account/rotate", page="/account", sure="1")
    developer_key, password, auth_token = re.findall(r"<dd><code>(\w{20,})</code></dd>", shown.text)
    for auth in (login.fuse, login.dev, login.plivo):
        assert server.client.post("/ingest/calls", json={"session_id": "x"}, auth=auth).status_code == 401
    for auth in ((login.email, developer_key), (login.login, password), (login.auth_id, auth_token)):
        assert server.client.post("/ingest/calls", json={"session_id": "x"}, auth=auth).status_code == 200
    assert visitor.cookie != before
    again = visitor.get("/account")
    assert again.status_code == 200
    for secret in (developer_key, password, auth_token):
        assert secret not in again.text
        assert secret not in server.log.read_text()
    assert visitor.send("/account/timezone", page="/account", timezone="UTC").status_code == 303


def test_an_account_changes_its_time_zone_but_not_its_retention(visitor):
    assert visitor.send("/account/timezone", page="/account", timezone="Asia/Tokyo").status_code == 303
    assert 'value="Asia/Tokyo"' in visitor.get("/account").text
    assert "Asia/Tokyo (account)" in visitor.get("/calls").text
    assert visitor.send("/account/timezone", page="/account", timezone="Nowhere").status_code == 400
    assert visitor.send("/account/retention", page="/account", details="1d").status_code == 400
    assert "Logs are kept 5d" in text(visitor.get("/account"))


def test_what_was_opened_of_one_account_changes_and_exports_nothing_of_another_that_is_shown_by_now(
    server, operator, login
):
    other = server.account("second@x")
    server.client.post("/ingest/calls", json=REFUSED, auth=other.fuse)
    pages = ("/account", "/ingest", f"/quarantine/{entries(operator)[0]}")
    opened = {page: operator.form(page) for page in pages}
    export = html.unescape(re.search(r'href="/console(/export/csv[^"]*)"', operator.get("/calls").text)[1])
    assert operator.get(export).status_code == 200
    operator.send("/show", page="/accounts", account=str(other.id))
    before = [operator.get("/account").text, *entries(operator)]
    for path, page, fields in (
        ("/account/rotate", "/account", {"sure": "1"}),
        ("/account/timezone", "/account", {"timezone": "Asia/Tokyo"}),
        ("/account/retention", "/account", {"details": "1d"}),
        ("/quarantine", "/ingest", {"what": "drop", "reason": ""}),
        ("/quarantine", "/ingest", {"what": "replay", "reason": ""}),
        ("/quarantine", pages[2], {"what": "drop", "id": entries(operator)[0]}),
    ):
        for form in (opened[page], {"form_token": opened[page]["form_token"]}):
            refused = operator.client.post(f"/console{path}", data={**form, **fields})
            assert (refused.status_code, "Nothing was changed" in refused.text) == (409, True), path
    assert operator.get(export).status_code == 409
    assert operator.get("/ingest/sources", headers={"X-Account": str(login.id)}).status_code == 409
    assert [operator.get("/account").text, *entries(operator)] == before
    assert server.client.post("/ingest/calls", json={"session_id": "x"}, auth=other.fuse).status_code == 200
    assert operator.send("/account/timezone", page="/account", timezone="Asia/Tokyo").status_code == 303


def test_an_operator_is_told_which_retention_is_none(operator):
    for wrong in ("5", "5 days", "-1d", "nonsense"):
        assert operator.send("/account/retention", page="/account", details=wrong).status_code == 400


def test_the_commands_to_begin_with_work_as_they_stand(server, visitor, login):
    page = html.unescape(visitor.get("/account").text)
    secrets = {"DEVELOPER_KEY": login.developer_key, "PASSWORD": login.password, "AUTH_TOKEN": login.auth_token}
    commands = re.findall(r"<code>(curl [^<]+)</code>", page)
    assert len(commands) == 4
    answers = [
        subprocess.run(c, shell=True, env={**os.environ, **secrets}, capture_output=True, text=True, check=True).stdout
        for c in commands
    ]
    assert '"accepted":1' in answers[0]
    assert "test-1" in answers[1]
    assert '"status":"success"' in answers[2]
    assert '"total_count":2' in answers[3]


@pytest.mark.parametrize("wrong", ["101y", "9999y", "999999999y"])
def test_a_retention_that_is_longer_than_any_calendar_is_refused_and_the_longest_shows_every_page(
    server, operator, login, wrong
):
    wishes = dict.fromkeys(("details", "sessions", "plivo"), wrong)
    refused = operator.send("/account/retention", page="/account", **wishes)
    assert (refused.status_code, "up to 100y, or forever" in refused.text) == (400, True)
    wishes = dict.fromkeys(wishes, "100y")
    assert operator.send("/account/retention", page="/account", **wishes).status_code == 303
    for page in ("/calls", "/dashboard", "/ingest", "/account", "/export/csv", "/call/fine"):
        assert operator.get(page).status_code == 200, page
    listed = server.client.get(f"/v1/Account/{login.auth_id}/Call/", auth=login.plivo)
    assert (listed.status_code, listed.json()["meta"]["total_count"]) == (200, 1)


def test_a_link_cannot_put_its_own_words_into_a_page(operator):
    foreign = ("Call+us:+555", "replayed-1", "replayed-1-x", "dropped-1-2", f"dropped-{'9' * 10}", "{0}", "dropped-")
    for page in ("/ingest", "/account"):
        for told in foreign:
            assert 'class="told"' not in operator.get(f"{page}?told={told}").text
        assert '<p class="told" role="status">12 dropped.</p>' in operator.get(f"{page}?told=dropped-12").text
