"""PHP scripts that read the Fuse API as its published samples do work here unchanged."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from serving import Server, send

SCRIPTS = Path(__file__).parent / "php"
START = 1_575_898_386
WINDOW = (START, START + 1_000)
MODULES = ("curl", "SimpleXML")


@pytest.fixture(scope="session")
def interpreter():
    """Debian's PHP with the modules that the scripts use; without it these tests fail, they are not skipped."""
    path = shutil.which("php")
    if path is None:
        pytest.fail("php is missing: `make test` installs it, or `apt-get install php-cli php-curl php-xml`")
    modules = subprocess.run([path, "-m"], capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    if missing := [module for module in MODULES if module not in modules]:
        pytest.fail(f"php has no module {', '.join(missing)}: `apt-get install php-curl php-xml`")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of these tests' own: they send wrong keys, which slows an address down."""
    with Server(tmp_path_factory.mktemp("php") / "data", "retention.details=forever") as running:
        yield running


@pytest.fixture
def php(interpreter, server, login):
    """Runs a script against the server; what it prints, decoded."""

    def run(script, *arguments, password=login.developer_key):
        done = subprocess.run(
            [
                *(interpreter, "-d", "display_errors=stderr", "-d", "error_reporting=-1", SCRIPTS / script),
                *(server.url, login.email, password, *map(str, arguments)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    return run


def event(timestamp, class_, line, **data):
    return {"timestamp": timestamp, "class": class_, "line": line, "data": data}


def call(number):
    start = START + number
    log = [
        event(
            start, "info", f'Executing application "app {number}" version "1.0"',
            module_type="start", result_variable="start",
        ),
        event(
            start + 1, "prompt", "Grüße  <&> X plus Y equals: ",
            type="static", has_audio=False, prompt_id="598801", module_type="prompt", result_variable="welcome",
        ),
        event(start + 2, "event", "User input: 6 (dtmf)", module_type="number", result_variable="x"),
    ]  # fmt: skip
    return {
        "session_id": f"1000{number:02d};000;{start - 9}",
        "start": start,
        "end": start + 37,
        "src": "6177123000",
        "dest": "6177123001",
        "direction": ("inbound", "outbound", "transfer")[number % 3],
        # One in seven comes without a log.
        "events": log if number % 7 else [],
    }


CALLS = [call(number) for number in range(25)]
NEWEST_FIRST = CALLS[::-1]


@pytest.fixture(scope="module")
def login(server):
    login = server.account("php@example.com")
    send(server, login, CALLS)
    return login


def listed(call):
    return {
        "dest": call["dest"],
        "src": "Outbound" if call["direction"] == "outbound" else call["src"],
        "start": call["start"],
        "end": call["end"],
        "session_id": call["session_id"],
        "type": call["direction"],
        "log": bool(call["events"]),
    }


@pytest.mark.parametrize("limit", [4, 5, 1000, 10000])
def test_a_script_that_lists_calls_in_a_loop_meets_every_call_once_newest_first(php, limit):
    answer = php("list_calls.php", *WINDOW, limit)
    assert answer == {"calls": [listed(call) for call in NEWEST_FIRST], "total_calls": len(CALLS)}


def test_a_script_that_fetches_all_logs_finds_each_line_of_each_call(php):
    answer = php("all_logs.php", *WINDOW)
    assert answer["type"] == "application/json"
    assert answer["total"] == len(CALLS)
    assert answer["report"] == [
        {
            "session": call["session_id"],
            "seconds": 37,
            "log": bool(call["events"]),
            "lines": [
                f"{datetime.fromtimestamp(e['timestamp'], UTC):%H:%M:%S} {e['class']} {e['data']['module_type']}: "
                f"{e['line']}"
                for e in call["events"]
            ],
        }
        for call in NEWEST_FIRST
    ]


def test_a_script_that_urlencodes_the_session_id_gets_that_calls_log(php):
    sent = CALLS[3]
    answer = php("call_log.php", sent["session_id"])
    assert answer["status"] == 200
    assert answer["body"] == [
        {"event": {"line": e["line"], "data": e["data"]}, "class": e["class"], "timestamp": e["timestamp"]}
        for e in sent["events"]
    ]


@pytest.mark.parametrize(
    ("session_id", "error"),
    [
        ("999999;000;1", "No call log was found."),
        (CALLS[7]["session_id"], "There are no call log details available for this call."),
    ],
)
def test_a_script_finds_the_reason_in_the_body_when_there_is_no_log(php, session_id, error):
    assert php("call_log.php", session_id) == {"status": 404, "body": {"error": error}}


def test_a_script_with_a_wrong_key_finds_the_reason_in_the_body(php):
    answer = php("call_log.php", CALLS[3]["session_id"], password="wrong")
    assert answer == {"status": 401, "body": {"error": "Invalid email or developer key."}}


def test_a_script_that_asks_for_xml_reads_it_with_simplexml(php):
    answer = php("all_logs_xml.php", *WINDOW)
    assert answer["status"] == 200
    assert answer["total_calls"] == str(len(CALLS))
    assert answer["calls"] == [
        {
            **{key: in_xml(value) for key, value in listed(call).items()},
            "detail": [
                {
                    "line": e["line"],
                    "data": {key: in_xml(value) for key, value in e["data"].items()},
                    "class": e["class"],
                    "timestamp": str(e["timestamp"]),
                }
                for e in call["events"]
            ],
        }
        for call in NEWEST_FIRST
    ]


def test_a_script_that_asks_for_xml_gets_errors_as_xml(php):
    answer = php("all_logs_xml.php", *WINDOW, password="wrong")
    assert answer == {"status": 401, "error": "Invalid email or developer key."}


def in_xml(value):
    """A JSON value as the text of an element."""
    return str(value).lower() if isinstance(value, bool) else str(value)
