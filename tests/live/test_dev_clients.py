"""DEV through curl exactly as it is published, and through PHP scripts with php-curl."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving import Server, send

SCRIPTS = Path(__file__).parent / "php"
START = 1_509_681_600
WINDOW = (START, START + 86_400)


def event(at, class_, line):
    return {"timestamp": at, "class": class_, "line": line, "data": {}}


def call(number):
    start = START + 60 * number
    return {
        "session_id": f"3000{number:02d};0{number:02d};{start - 9}",
        "start": start,
        "end": start + 37,
        "src": f"212555{number:04d}",
        "dest": ("6177123000", "8009957586")[number % 2],
        "direction": ("inbound", "outbound", "transfer")[number % 3],
        "events": [event(start, "prompt", "Grüße <&> 24/7"), event(start + 5, "error", f"errno: {number}")],
    }


CALLS = [call(number) for number in range(25)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own: they send wrong passwords, which slows an address down."""
    keep = ("retention.details=forever", "retention.sessions=forever")
    with Server(tmp_path_factory.mktemp("dev") / "data", *keep) as running:
        yield running


@pytest.fixture(scope="module")
def login(server):
    login = server.account("ops@example.com", "--login", "test@login.com")
    send(server, login, CALLS)
    return login


def session_line(call):
    ani, dnis = (call["dest"], "test@login.com") if call["direction"] == "outbound" else (call["src"], call["dest"])
    channel = int(call["session_id"].split(";")[1])
    at = datetime.fromtimestamp(call["start"], UTC).strftime("%d/%b/%Y:%H:%M:%S %z")
    return (
        f"{call['direction']} {ani} {channel} [{at}] {dnis} {call['session_id']} {call['start']} {call['end']} 00:00:37"
    )


def error_line(call):
    line = session_line({**call, "start": call["start"] + 5}).split(" ")
    return " ".join(["error", *line[1:7], call["events"][1]["line"]])


def curl(*arguments):
    """The body that curl prints, and the status."""
    path = shutil.which("curl")
    assert path, "curl is missing: `make test` installs it"
    done = subprocess.run(
        [path, "--silent", "--show-error", "--write-out", "\n%{http_code}", *arguments],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    body, _, status = done.stdout.rpartition("\n")
    return body, int(status)


def url(server, service, parameters="", window=WINDOW):
    return f"{server.url}/ws/calls/{service}/{window[0]}/{window[1]}{parameters}"


def test_curl_as_published_gets_json(server, login):
    body, status = curl("-u", ":".join(login.dev), url(server, "sessions", "?number=6177123000&limit=2&offset=1"))
    assert status == 200
    matching = [call for call in CALLS if call["dest"] == "6177123000"]
    assert json.loads(body) == {
        "status": "success",
        "error": "",
        "result": {"total_sessions": "13", "sessions": [session_line(call) for call in matching[1:3]]},
    }


def test_curl_as_published_gets_xml(server, login):
    accept = ("-H", "Accept: application/xml")
    body, status = curl("-u", ":".join(login.dev), *accept, url(server, "errors", "?limit=3"))
    assert status == 200
    tree = ET.fromstring(body)
    assert [error.text for error in tree.findall("result/errors/error")] == [error_line(call) for call in CALLS[:3]]
    assert tree.findtext("result/total_errors") == "25"
    body, status = curl("-u", "test@login.com:wrong", *accept, url(server, "errors"))
    assert status == 401
    assert ET.fromstring(body).findtext("error") == "Unauthorized access to errors service"
    body, status = curl("-u", ":".join(login.dev), *accept, url(server, "logs", window=(2, 1)))
    assert status == 400
    assert ET.fromstring(body).findtext("error") == "Parameter end is '1'; expected a time after start (2)."


def php(server, login, script, *arguments, password=None):
    """What a script prints, decoded."""
    path = shutil.which("php")
    assert path, "php is missing: `make test` installs it"
    done = subprocess.run(
        [
            *(path, "-d", "display_errors=stderr", "-d", "error_reporting=-1", SCRIPTS / script),
            *(server.url, login.login, password or login.password, *map(str, arguments)),
        ],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("sessions", [session_line(call) for call in CALLS]),
        ("errors", [error_line(call) for call in CALLS]),
    ],
)
def test_a_php_script_lists_lines_oldest_first(server, login, service, expected):
    answer = php(server, login, "dev_list.php", service, *WINDOW, "limit=1000&offset=0")
    assert answer["status"] == 200
    assert answer["body"] == {
        "status": "success",
        "error": "",
        "result": {f"total_{service}": "25", service: expected},
    }


def test_a_php_script_finds_the_reason_in_the_body(server, login):
    answer = php(server, login, "dev_list.php", "logs", *WINDOW, "", password="wrong")
    assert answer == {"status": 401, "body": {"status": "failure", "error": "Unauthorized access to logs service"}}
    answer = php(server, login, "dev_list.php", "logs", *WINDOW, "limit=0")
    assert answer["status"] == 400
    assert answer["body"]["status"] == "failure"
    assert "limit" in answer["body"]["error"]


@pytest.mark.parametrize("limit", [7, 25])
def test_a_php_script_exports_every_log_newest_first(server, login, limit):
    answer = php(server, login, "dev_export.php", *WINDOW, limit)
    assert answer["total"] == "25"
    assert answer["same"] is True
    assert [call["session"] for call in answer["found"]] == [call["session_id"] for call in CALLS[::-1]]
    for shown, sent in zip(answer["found"], CALLS[::-1], strict=True):
        assert (shown["src"], shown["timestamp"]) == (sent["src"], str(sent["start"]))
        at = [
            datetime.fromtimestamp(e["timestamp"], UTC).strftime("%a %d %b %Y %I:%M:%S %p UTC") for e in sent["events"]
        ]
        assert shown["lines"] == [
            f"{at[0]} [prompt] ({sent['session_id']}) EVENT: Grüße <&> 24/7",
            f"{at[1]} [vxi] ({sent['session_id']}) ERROR: {sent['events'][1]['line']}",
        ]
