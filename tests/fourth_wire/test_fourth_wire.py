"""A wire API is one folder: put on the package's path it is served, documented, and answers failures in its words."""

import sys
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from serving import Server, get, send

COMMAND = [sys.executable, str(Path(__file__).parent / "with_tiny.py")]
STEP = {"timestamp": 1_600_000_000, "class": "info", "line": "x"}
CALL = {"session_id": "s", "start": 1_600_000_000, "end": 1_600_000_001, "events": [STEP, STEP]}
FOREVER = ("retention.details=forever", "retention.sessions=forever")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("fourth") / "data", *FOREVER, command=COMMAND) as running:
        yield running


@pytest.fixture(scope="module")
def login(server):
    login = server.account()
    send(server, login, [CALL])
    return login


def test_it_is_served_beside_the_others(server, login):
    assert get(server, login, "/tiny/s").json() == {"n": 2}
    assert get(server, login, "/api/calls/1600000000/1600000001").json()["total_calls"] == 1


def test_its_failures_are_in_its_own_words_and_the_others_keep_theirs(server, login):
    refused = server.client.get("/tiny/s")
    assert (refused.status_code, refused.json()) == (401, {"oops": "who are you?"})
    assert refused.headers["www-authenticate"] == 'Basic realm="Tiny"'
    for path in ("/tiny/unknown", "/tiny/s/t/u"):
        missing = get(server, login, path)
        assert (missing.status_code, missing.json()) == (404, {"oops": "no such thing"})
    wrong = server.client.post("/tiny/s", auth=login.fuse)
    assert (wrong.status_code, wrong.json(), wrong.headers["allow"]) == (405, {"oops": "not like that"}, "GET")
    assert get(server, login, "/api/call/unknown").json() == {"error": "No call log was found."}


def test_it_is_documented_in_the_whole_and_in_a_reference_of_its_own(server):
    whole = server.client.get("/openapi.json").json()
    validate(whole, cls=OpenAPIV31SpecValidator)
    operation = whole["paths"]["/tiny/{session_id}"]["get"]
    assert (operation["operationId"], operation["security"]) == ("tiny_steps", [{"tiny": []}])
    assert "developer key" in whole["components"]["securitySchemes"]["tiny"]["description"]
    part = server.client.get("/openapi/tiny.json").json()
    validate(part, cls=OpenAPIV31SpecValidator)
    assert part["paths"] == {"/tiny/{session_id}": whole["paths"]["/tiny/{session_id}"]}
    assert set(part["components"]["schemas"]) == {"Steps", "TinyError"}
    for page in ("/docs", "/docs/fuse", "/docs/tiny"):
        assert '<a href="/docs/tiny"' in server.client.get(page).text
    assert 'data-document="/openapi/tiny.json"' in server.client.get("/docs/tiny").text


def test_it_says_in_its_own_words_that_too_much_is_asked(server, login):
    while server.client.get("/tiny/s", auth=(login.email, "guess")).status_code == 401:
        pass
    slowed = server.client.get("/tiny/s", auth=(login.email, "guess"))
    assert (slowed.status_code, slowed.json()) == (429, {"oops": "not so fast"})
    assert slowed.headers["retry-after"] == "1"


def test_without_its_folder_nothing_of_it_is_left(tmp_path):
    with Server(tmp_path / "data") as server:
        assert server.client.get("/tiny/s").json() == {"error": "Not found."}
        assert "tiny" not in server.client.get("/openapi.json").text
        assert "tiny" not in server.client.get("/docs").text
