"""The OpenAPI document is valid, says what the server does, and all that it says of a client's failures can happen."""

import gzip
import subprocess
import sys

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from serving import Server

NDJSON = "application/x-ndjson"
OPERATIONS = {
    "fuse_list_calls": ("get", "/api/calls/{start}/{end}"),
    "fuse_list_calls_with_logs": ("get", "/api/all_logs/{start}/{end}"),
    "fuse_get_call_log": ("get", "/api/call/{session_id}"),
    "ingest_calls": ("post", "/ingest/calls"),
    "ingest_events": ("post", "/ingest/events"),
    "ingest_freeswitch": ("post", "/ingest/freeswitch"),
    "ingest_asterisk": ("post", "/ingest/asterisk"),
    "ingest_kamailio": ("post", "/ingest/kamailio"),
    "healthz": ("get", "/healthz"),
    "readyz": ("get", "/readyz"),
    "metrics": ("get", "/metrics"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A server of this module's own: wrong credentials without end make it slow down all who come from here."""
    with Server(tmp_path_factory.mktemp("reference") / "data") as running:
        yield running
        assert '"status":5' not in running.log.read_text()


@pytest.fixture(scope="module")
def login(own):
    return own.account()


@pytest.fixture(scope="module")
def document(own):
    answer = own.client.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def operations(document):
    return [(m, p, operation) for p, item in document["paths"].items() for m, operation in item.items()]


def fits(document, schema, value):
    """Assert that *value* fits *schema*, which may refer to the document's components."""
    OAS31Validator({**schema, "components": document["components"]}).validate(value)


def test_the_document_is_valid(document):
    assert document["openapi"].startswith("3.1")
    validate(document, cls=OpenAPIV31SpecValidator)


def test_every_operation_is_documented_under_a_short_name(document):
    found = {operation["operationId"]: (method, path) for method, path, operation in operations(document)}
    assert found == OPERATIONS


def test_every_tag_of_an_operation_is_described(document):
    used = {tag for _, _, operation in operations(document) for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"] if tag["description"]}


def test_parameters_are_of_one_plain_type(document):
    of_calls = document["paths"]["/api/calls/{start}/{end}"]["get"]["parameters"]
    assert {parameter["name"]: parameter["schema"]["type"] for parameter in of_calls} == {
        "start": "string",
        "end": "string",
        "number": "string",
        "limit": "integer",
        "offset": "integer",
    }
    assert not any(alternatives in parameter["schema"] for parameter in of_calls for alternatives in ("oneOf", "anyOf"))
    [limit] = [parameter["schema"] for parameter in of_calls if parameter["name"] == "limit"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 10_000, 1_000)


def test_every_example_fits_its_schema(document):
    for _, _, operation in operations(document):
        for answer in operation["responses"].values():
            body = answer["content"].get("application/json")
            if body is not None:
                fits(document, body["schema"], body["example"])
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                fits(document, parameter["schema"], parameter["example"])


def test_every_answer_of_fuse_is_documented_in_both_formats(document):
    for _, path, operation in operations(document):
        if path.startswith("/api/"):
            for answer in operation["responses"].values():
                assert set(answer["content"]) == {"application/json", "application/xml"}


@pytest.mark.parametrize("route", ["calls", "events"])
def test_the_examples_of_sending_are_accepted(own, login, document, route):
    content = document["paths"][f"/ingest/{route}"]["post"]["requestBody"]["content"]
    whole, by_line = content["application/json"], content[NDJSON]
    fits(document, whole["schema"], whole["example"])
    for body in ({"json": whole["example"]}, {"json": [whole["example"]]}, {"content": by_line["schema"]["default"]}):
        answer = own.client.post(f"/ingest/{route}", auth=login.fuse, **body)
        assert answer.json() == {"accepted": 1, "rejected": []}


@pytest.mark.parametrize("route", ["freeswitch", "kamailio"])
def test_the_example_of_a_switch_is_accepted(own, login, document, route):
    [example] = [
        media_type["example"]
        for media_type in document["paths"][f"/ingest/{route}"]["post"]["requestBody"]["content"].values()
        if "example" in media_type
    ]
    answer = own.client.post(f"/ingest/{route}", auth=login.fuse, json=example)
    assert answer.json() == {"accepted": 1, "rejected": []}


def test_a_call_record_is_documented_with_all_its_fields(document):
    call = document["components"]["schemas"]["NativeCall"]
    assert call["required"] == ["session_id"]
    assert {"start", "answer", "end", "hangup_cause_code", "amount", "application_version", "events"} <= set(
        call["properties"]
    )
    assert set(call["properties"]["start"]["type"]) == {"number", "string", "null"}


def test_what_the_reference_does_not_load_is_not_served(own):
    page = own.client.get("/docs")
    loaded = {"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "docs.css", "docs.js"}
    assert all(f'"/docs/static/{name}"' in page.text for name in loaded)
    assert "//" not in page.text
    for name in loaded:
        assert own.client.get(f"/docs/static/{name}").status_code == 200
    for name in ("swagger-editor-bundle.js", "oauth2-redirect.html", "..%2Ftemplates%2Fdoc.html", ""):
        assert own.client.get(f"/docs/static/{name}").status_code == 404


def test_the_page_may_load_scripts_of_this_server_alone(own):
    policy = own.client.get("/docs").headers["content-security-policy"]
    directives = dict(directive.split(" ", 1) for directive in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["connect-src"] == "'self'"


def test_every_documented_failure_of_a_client_happens_as_documented(own_server):
    server = own_server()
    login = server.account()
    document = server.client.get("/openapi.json").json()
    too_large = gzip.compress(b" " * (64 * 1024 * 1024 + 1))
    for _, path, operation in operations(document):
        method = {"Fuse": "GET", "Ingest": "POST"}.get(operation["tags"][0])
        if method is None:
            continue
        url = path.format(start=1, end=2, session_id="unknown") if "{" in path else path
        requests = {
            "400": {"content": b""} if method == "POST" else {"params": {"limit": "-1"}},
            "401": {"auth": None},
            "404": {},
            "405": {"method": "DELETE"},
            "413": {"content": too_large, "headers": {"Content-Encoding": "gzip"}},
        }
        failures = {s: a for s, a in operation["responses"].items() if s.startswith("4")}
        for status, request in requests.items():
            if status in failures:
                answer = server.client.request(**{"method": method, "url": url, "auth": login.fuse, **request})
                conforms(document, answer, status, failures[status])
        assert set(failures) == {*requests, "429"} & set(failures)
    while server.client.get("/api/calls/1/2", auth=(login.email, "guess")).status_code == 401:
        pass
    for method, path, operation in operations(document):
        if "429" in operation["responses"]:
            url = path.format(start=1, end=2, session_id="unknown") if "{" in path else path
            answer = server.client.request(method, url, auth=(login.email, "guess"))
            conforms(document, answer, "429", operation["responses"]["429"])
            assert 1 <= int(answer.headers["retry-after"]) <= 60


def conforms(document, answer, status, documented):
    assert str(answer.status_code) == status, (answer.request.url, answer.text)
    fits(document, documented["content"]["application/json"]["schema"], answer.json())
    for name, header in documented.get("headers", {}).items():
        assert name in answer.headers or not header["required"]


# What schemathesis cannot know: a window may end before it starts, which no schema says; unknown parameters are
# ignored; a bad record is refused within an answer of 200, so that it does not block the others; and who sends no
# credentials may have sent wrong ones before.
SCHEMATHESIS = """
seed = 1
checks.missing_required_header.expected-statuses = [401, 429]

[[operations]]
include-path-regex = "^/api/"
checks.positive_data_acceptance.enabled = false
phases.fuzzing.checks.negative_data_rejection.enabled = false

[[operations]]
include-path-regex = "^/ingest/"
checks.negative_data_rejection.enabled = false
"""


def schemathesis(server, directory, *options):
    """Run all checks of schemathesis over the whole document."""
    config = directory / "schemathesis.toml"
    config.write_text(SCHEMATHESIS)
    # Not as pytest tests: schemathesis 4.32 reads an attribute of test items that pytest 9.2 does not have. And with
    # one worker: in several threads CPython 3.11 miscounts the depth of syntax trees, which hypothesis builds.
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", "--workers", "1", *options]
    done = subprocess.run(
        [*command, f"{server.url}/openapi.json"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"[:10_000]
    assert f"Tested: {len(OPERATIONS)}" in done.stdout


def test_schemathesis_finds_nothing_undocumented_for_an_account(own, login, tmp_path):
    schemathesis(own, tmp_path, "--auth", ":".join(login.fuse), "--max-examples", "10")


def test_schemathesis_finds_nothing_undocumented_without_credentials(own, tmp_path):
    schemathesis(own, tmp_path, "--phases", "examples,fuzzing", "--max-examples", "10")
