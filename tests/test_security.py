"""The attacks of docs/security.md that no other test makes: on every documented route, parameter and field."""

import base64
import http.client
import json
import re
import statistics
import time
import xml.etree.ElementTree as ET
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import get_args
from urllib.parse import quote, urlencode, urlsplit

import pytest

import stores
from callhouse.model.call import Call
from callhouse.store.check import check_store
from conftest import KEEP_ALL
from serving import Login, Server, callhouse, send

DOCS = Path(__file__).parents[1] / "docs"
NOW = int(time.time())
MARK = "zq7victimzq7"
"""Stands in all that the victim sent, and in nothing else."""

SQL = [
    "' OR '1'='1",
    "1 OR 1=1",
    "1; DROP TABLE calls; --",
    "x' UNION SELECT value, value, value FROM meta --",
    '" OR ""="',
    "%27%20OR%201%3D1",
    "*/ OR 1 /*",
    "{matches}",
    ":account_id",
    "MATCH 'zaccount1z'",
]
SCRIPT = "</script></line>]]><script>alert(1)</script><img src=x onerror=alert(1)>&xxe;\"'`{{7*7}}${7*7}"
HOSTILE = [*SQL, SCRIPT, "../../../../etc/passwd", "..%2f..%2fetc/passwd", "a\r\nSet-Cookie: a=b", "\x00", "\udcff"]
NUMBERS = count()
USUAL = {"start": NOW - 3600, "end": NOW, "session_id": "own", "log_id": 1, "call_uuid": "own"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("security") / "data", *KEEP_ALL, "server.trusted_proxies=127.0.0.1") as running:
        yield running


def records(mark):
    """Calls of every state with *mark* in all that can hold a text."""
    texts = dict.fromkeys(text_fields(), mark)
    event = {"timestamp": NOW - 50, "class": "error", "line": mark, "data": {mark: mark, "module_type": mark}}
    done = {"start": NOW - 60, "end": NOW - 1, "answer": NOW - 40, "events": [event], "other": {mark: mark}}
    return [
        {**texts, **done, "session_id": f"{mark} done", "call_uuid": f"{mark} done"},
        {**texts, "session_id": f"{mark} live", "call_uuid": f"{mark} live", "start": NOW - 30, "events": [event]},
    ]


def text_fields():
    """The fields of a call that take any text."""
    chosen = {"session_id", "direction", "call_uuid", "hangup_original_scheme", "extra", "rate", "amount"}
    return [
        name for name, kind in Call.__annotations__.items() if str in (kind, *get_args(kind)) and name not in chosen
    ]


@pytest.fixture(scope="module")
def victim(server):
    # By a command, so that its password is checked as slowly as any: accounts that tests make themselves are quick.
    options = ("--email", "victim@example.com", "--login", "victim", "--json")
    login = Login(**json.loads(callhouse("accounts", "create", *options, data=server.data).stdout))
    send(server, login, records(MARK))
    server.client.post("/ingest/calls", json={"session_id": "", "what": MARK}, auth=login.fuse)
    return login


@pytest.fixture(scope="module")
def attacker(server, victim):
    login = server.account("attacker@example.com", "--login", "attacker")
    send(server, login, [{"session_id": "own", "call_uuid": "own", "start": NOW - 60, "end": NOW - 1}])
    return login


def reading(server):
    """Every documented GET, with the names of the parameters of its path and of its query."""
    for path, item in server.client.get("/openapi.json").json()["paths"].items():
        if "get" in item:
            given = item["get"].get("parameters", [])
            names = {place: [p["name"] for p in given if p["in"] == place] for place in ("path", "query")}
            yield path, names["path"], names["query"]


def credentials(path, login):
    kinds = {"/api/": login.fuse, "/ws/": login.dev, "/v1/": login.plivo}
    return next((auth for prefix, auth in kinds.items() if path.startswith(prefix)), None)


def ask(server, path, auth, usual, **given):
    """The answer to *path* with *given* for some of its parameters, percent-encoded."""
    values = {**usual, **{name: value for name, value in given.items() if f"{{{name}}}" in path}}
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", quote(str(value), safe="", errors="surrogateescape"))
    query = {name: value for name, value in given.items() if name not in values}
    encoded = urlencode(query, errors="surrogateescape")
    return server.client.get(f"{path}?{encoded}" if query else path, auth=auth)


def test_no_parameter_of_any_route_reaches_the_database_as_sql_or_another_accounts_calls(server, victim, attacker):
    usual = {**USUAL, "auth_id": attacker.auth_id}
    asked = 0
    for path, in_path, in_query in reading(server):
        auth = credentials(path, attacker)
        assert ask(server, path, auth, usual).status_code in {200, 404}, path
        for name in (*in_path, *in_query, "unknown"):
            for value in HOSTILE:
                answer = ask(server, path, auth, usual, **{name: value})
                assert answer.status_code < 500, (path, name, value)
                assert MARK not in answer.text, (path, name, value)
                assert not re.search("sqlite|syntax error|no such", answer.text), (path, name, value)
                asked += 1
    assert asked > 300
    assert check_store(stores.location(server.data), lambda *_: None).findings == []


def test_no_name_or_secret_of_credentials_reaches_the_database_as_sql(server, victim):
    addresses = count(1)
    for hostile in SQL:
        for name, secret in ((hostile, "x"), (f"{victim.email}{hostile}", hostile), (victim.email, hostile)):
            basic = base64.b64encode(f"{name}:{secret}".encode()).decode()
            for path in (f"/api/calls/{NOW - 99}/{NOW}", f"/ws/calls/logs/{NOW - 99}/{NOW}", "/ingest/calls"):
                headers = {"Authorization": f"Basic {basic}", "X-Forwarded-For": f"192.0.2.{next(addresses) % 250}"}
                answer = server.client.request("POST" if "ingest" in path else "GET", path, headers=headers)
                assert answer.status_code in {401, 429}, (path, name, secret)
                assert MARK not in answer.text


@pytest.mark.parametrize("hostile", [*SQL, SCRIPT, "a\r\nSet-Cookie: a=b", "<!ENTITY x SYSTEM 'file:///etc/passwd'>"])
def test_whatever_stands_in_a_field_comes_back_as_text_and_nothing_else_changes(server, victim, hostile):
    number = next(NUMBERS)
    login = server.account(f"{number}@example.com", "--login", f"login{number}")
    send(server, login, records(hostile))
    window = f"{NOW - 3600}/{NOW}"
    plivo = f"/v1/Account/{login.auth_id}/Call/"
    [shown] = server.client.get(f"/api/all_logs/{window}", auth=login.fuse).json()["calls"]
    [step] = shown["detail"]
    assert (shown["src"], shown["dest"], step["event"]["line"]) == (hostile, hostile, hostile)
    assert step["event"]["data"] == {hostile: hostile, "module_type": hostile}
    uuid = quote(f"{hostile} done", safe="")
    one = server.client.get(f"{plivo}{uuid}/", auth=login.plivo).json()
    assert (one["hangup_cause_name"], one["source_ip"]) == (hostile, hostile)
    answers = [
        server.client.get(path, auth=credentials(path, login), headers={"Accept": accept})
        for accept in ("application/json", "application/xml")
        for path in (f"/api/calls/{window}", f"/api/all_logs/{window}", f"/ws/calls/logs/{window}",
                     f"/ws/calls/sessions/{window}", f"/ws/calls/errors/{window}", plivo)
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    for answer in answers:
        assert set(answer.headers) <= HEADERS
        if answer.headers["content-type"].startswith("application/xml"):
            # No element has an attribute or a namespace, so a browser that shows it runs nothing.
            assert all(not e.attrib and "}" not in e.tag for e in ET.fromstring(answer.content).iter())
        else:
            assert answer.headers["content-type"] == "application/json"
            json.loads(answer.content)
    report = check_store(stores.location(server.data), lambda *_: None)
    assert report.findings == []


def test_what_one_account_sends_under_anothers_ids_changes_nothing_of_it(server, victim, attacker):
    def seen():
        return [
            server.client.get(path, auth=credentials(path, victim)).json()
            for path in (f"/api/all_logs/{NOW - 3600}/{NOW}", f"/ws/calls/logs/{NOW - 3600}/{NOW}")
        ]

    before = seen()
    theirs = records(MARK)
    for call in theirs:
        call.update(src="stolen", dest="stolen", account=victim.id, account_id=victim.id, auth_id=victim.auth_id)
    # It is the attacker's own call, in the attacker's own list.
    stranger = server.account("stranger@example.com", "--login", "stranger")
    send(server, stranger, theirs)
    send(server, stranger, [{"session_id": theirs[1]["session_id"], "events": theirs[1]["events"]}], "events")
    assert seen() == before


def test_no_route_and_no_id_shows_another_accounts_calls(server, victim, attacker):
    log_ids = [
        log["log_id"]
        for log in server.client.get(f"/ws/calls/logs/{NOW - 3600}/{NOW}", auth=victim.dev).json()["result"]["logs"]
    ]
    ids = {
        "session_id": [f"{MARK} done", f"{MARK} live"],
        "call_uuid": [f"{MARK} done", f"{MARK} live"],
        "log_id": [*log_ids, *range(1, 9)],
        "auth_id": [victim.auth_id, attacker.auth_id],
        "subaccount": [victim.auth_id, f"SA{victim.auth_id[2:]}"],
        "status": ["live", "queued"],
    }
    usual = {**USUAL, "auth_id": attacker.auth_id}
    own = {**USUAL, "auth_id": victim.auth_id}
    one_call = {"session_id", "log_id", "call_uuid"}
    shown_to_the_victim = set()
    for path, in_path, in_query in reading(server):
        auth = credentials(path, attacker)
        unknown = ask(server, path, auth, usual, **{name: "987654" for name in in_path if name in one_call})
        for name in {*in_path, *in_query} & ids.keys():
            for value in ids[name]:
                answer = ask(server, path, auth, usual, **{name: value})
                assert MARK not in answer.text, (path, name, value)
                if name in one_call:
                    assert without_id(answer) == without_id(unknown), (path, name, value)
                if MARK in ask(server, path, credentials(path, victim), own, **{name: value}).text:
                    shown_to_the_victim.add(path)
    assert len(shown_to_the_victim) == 4, "the ids are those of calls that there are"


def without_id(answer):
    body = answer.json()
    body.pop("api_id", None)
    return answer.status_code, body


HEADERS = {
    "content-type", "content-length", "date", "server", "transfer-encoding", "x-ignored-parameters", "www-authenticate",
    "retry-after", "allow", "vary", "content-encoding", "cache-control", "content-security-policy", "referrer-policy",
    "x-content-type-options", "content-disposition", "last-modified", "etag", "accept-ranges",
}  # fmt: skip


def test_nothing_that_a_client_sends_becomes_a_header(server, attacker):
    usual = {**USUAL, "auth_id": attacker.auth_id}
    split = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\u560d\u560aX-Evil: 1", "\r\n\r\n<script>"]
    for path, in_path, in_query in reading(server):
        for value in split:
            given = [{name: value} for name in (*in_path, *in_query)] + [{value: "x"}, {"x": value}]
            for parameters in given:
                answer = ask(server, path, credentials(path, attacker), usual, **parameters)
                assert set(answer.headers) <= HEADERS, (path, parameters)
                assert "evil" not in " ".join(answer.headers).lower()
                assert not re.search("[\r\n]", " ".join(answer.headers.values()))


@pytest.mark.parametrize("start", ["/docs/static/", "/docs/", "/openapi/", "/", "/api/call/", "/ingest/"])
@pytest.mark.parametrize(
    "way", ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..%252f", "....//", "/", "%2f", "file:///", "%00/"]
)
def test_no_path_leads_to_a_file_of_the_machine(server, attacker, start, way):
    address = urlsplit(server.url)
    basic = base64.b64encode(":".join(attacker.fuse).encode()).decode()
    for target in ("etc/passwd", "callhouse.db", "pyproject.toml"):
        # A client of HTTP would tidy the path up before it sends it.
        with closing(http.client.HTTPConnection(address.hostname, address.port, timeout=60)) as connection:
            connection.putrequest("GET", start + way * 12 + target, skip_accept_encoding=True)
            connection.putheader("Authorization", f"Basic {basic}")
            connection.endheaders()
            answer = connection.getresponse()
            body = answer.read()
        assert answer.status in {400, 404}, body
        assert b"root:" not in body
        assert b"SQLite format" not in body


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml", "application/x-www-form-urlencoded"])
def test_no_entity_of_xml_is_expanded_or_fetched(server, attacker, content_type):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    for declarations in (
        f'<!ENTITY l0 "lol">{laughs}',
        '<!ENTITY l11 SYSTEM "file:///etc/passwd">',
        f'<!ENTITY l11 SYSTEM "{server.url}/healthz">',
        '<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;',
    ):
        body = (
            f'<?xml version="1.0"?><!DOCTYPE cdr [{declarations}]><cdr><variables><uuid>&l11;</uuid>'
            f"<start_epoch>{NOW - 9}</start_epoch><end_epoch>{NOW}</end_epoch></variables></cdr>"
        )
        sent = f"cdr={quote(body)}" if "urlencoded" in content_type else body
        began = time.monotonic()
        answer = server.client.post(
            "/ingest/freeswitch", content=sent, headers={"Content-Type": content_type}, auth=attacker.fuse
        )
        assert time.monotonic() - began < 5
        assert answer.json()["accepted"] == 0
        assert "declarations" in answer.json()["rejected"][0]["error"]
        assert "root:" not in answer.text


@pytest.mark.parametrize(("kind", "tries"), [("fuse", 300), ("plivo", 300), ("dev", 20)])
def test_the_time_of_a_refusal_does_not_tell_whether_the_account_exists(server, victim, kind, tries):
    known = {"fuse": victim.email, "plivo": victim.auth_id, "dev": victim.login}[kind]
    unknown = {"fuse": "nobody@example.com", "plivo": "MA" + "0" * 18, "dev": "nobody"}[kind]
    times = {known: [], unknown: []}
    addresses = count(1)
    for name in [known, unknown] * tries:
        path = {
            "fuse": f"/api/calls/{NOW - 99}/{NOW}",
            "plivo": f"/v1/Account/{name}/Call/",
            "dev": f"/ws/calls/logs/{NOW - 99}/{NOW}",
        }[kind]
        number = next(addresses)
        headers = {"X-Forwarded-For": f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}"}
        began = time.perf_counter()
        answer = server.client.get(path, auth=(name, f"guess{number}"), headers=headers)
        times[name].append(time.perf_counter() - began)
        assert answer.status_code == 401
    # The slow hash takes a tenth of a second, so leaving it out would be a factor of ten and more.
    ratio = statistics.median(times[known]) / statistics.median(times[unknown])
    assert 0.6 < ratio < 1.7


def test_every_test_that_the_page_of_security_names_exists():
    page = (DOCS / "security.md").read_text()
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", page)
    assert len(named) > 25
    for test, file in named:
        assert f"def {test}(" in (DOCS.parent / file).read_text(), f"{file}: {test}"
    # No line of the table goes without one.
    lines = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert len(lines) > 12
    assert all("](../tests/" in line for line in lines)
