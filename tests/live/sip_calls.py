"""What the tests with real switches share: the calls that sipp makes and takes, and what all three APIs say of each."""

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from serving import get
from sources.switch_calls import stored_calls

SIPP = Path(__file__).parent / "sipp"

FAR_ENDS = {"1": "uas_answer", "2": "uas_busy", "3": "uas_ring1", "4": "uas_bye", "5": "uas_480"}
"""What becomes of a call to a number that begins with that digit, where a PBX stands between."""

# Everything that a test waits for happens within this; what does not is a failure.
PATIENCE = 60


@dataclass
class Scenario:
    """One call: what the caller's script is and does, and what is to be known of it then."""

    dest: str
    script: str
    ended_by: str
    cause: str
    answered: bool = False
    talks: int = 1000
    direction: str = "outbound"
    name: str = "Alice Smith"
    length: tuple[float, float] = (0, 0.5)
    plivo: int = 4000


def free_port(kind=socket.SOCK_DGRAM):
    with socket.socket(socket.AF_INET, kind) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def sipp(script, port, *options):
    return ["sipp", "-sf", script, "-i", "127.0.0.1", "-p", port, "-ci", "127.0.0.1", "-nostdin", *options]


def call_all(processes, directory, port, scenarios):
    """Let each of *scenarios* call the switch on *port*; the numbers that they call from, by their names."""
    callers = {}
    for number, (name, scenario) in enumerate(scenarios.items()):
        callers[name] = f"141555501{number:02}"
        fields = directory / f"{number}.csv"
        fields.write_text(f"SEQUENTIAL\n{callers[name]};{scenario.dest};{scenario.name}\n")
        script = SIPP / f"{scenario.script}.xml"
        options = ["-inf", fields, "-m", "1", "-d", scenario.talks, "-timeout", "30s", f"127.0.0.1:{port}"]
        processes(sipp(script, free_port(), *options), directory)
    return callers


def eventually(what):
    deadline = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def listed(server, login):
    """The Fuse API's calls of these minutes."""
    now = int(time.time())
    return get(server, login, f"/api/calls/{now - 600}/{now + 600}").json()["calls"]


def check_all(server, login, scenarios, callers):
    """Hold what the store and every API say of the calls of *scenarios* against them; their logs by name.

    The legs that they dialled are calls below them, which the lists have too.
    """
    stored = stored_calls(server, login)
    shown = {call["session_id"]: call for call in listed(server, login)}
    plivo = plivo_calls(server, login)
    sessions = dev_sessions(server, login)
    assert len(shown) == len(stored) == len(plivo) == len(sessions)
    by_caller = {call["src"]: call for call in stored.values() if call["parent_call_uuid"] is None}
    assert sorted(by_caller) == sorted(callers.values())
    logs = {}
    for name, scenario in scenarios.items():
        call = by_caller[callers[name]]
        session_id = call["session_id"]
        _check(name, scenario, call, shown[session_id])
        _check_plivo(name, scenario, plivo[call["call_uuid"]], callers[name])
        session = sessions[session_id]
        # An outbound call shows the dialled number in the place of the caller's.
        assert (session[0], session[1 if scenario.direction == "outbound" else 5]) == (
            scenario.direction,
            scenario.dest,
        )
        assert (int(session[7]), int(session[8])) == (call["started"] // 1000, call["ended"] // 1000), name
        logs[name] = get(server, login, f"/api/call/{session_id}").json()
    return logs


def _check(name, scenario, call, shown):
    assert (call["dest"], call["direction"]) == (scenario.dest, scenario.direction), name
    assert shown["type"] == scenario.direction
    assert shown["dest"] == scenario.dest
    assert shown["log"] is True
    assert call["hangup_source"] == scenario.ended_by, name
    assert f"{call['hangup_original_scheme']} {call['hangup_original_code']}" == scenario.cause, name
    assert (call["answered"] is not None) == scenario.answered, name
    shortest, longest = scenario.length
    assert shortest <= (call["ended"] - call["started"]) / 1000 <= longest, name


def plivo_calls(server, login):
    """The Plivo API's calls by call_uuid."""
    path = f"/v1/Account/{login.auth_id}/Call/"
    pages = [{"meta": {"next": path}, "objects": []}]
    while path := pages[-1]["meta"]["next"]:
        pages.append(server.client.get(path, auth=(login.auth_id, login.auth_token)).json())
    calls = {call["call_uuid"]: call for page in pages for call in page["objects"]}
    assert pages[-1]["meta"]["total_count"] == len(calls)
    return calls


def _check_plivo(name, scenario, call, caller):
    assert (call["from_number"], call["to_number"]) == (caller, scenario.dest), name
    assert call["call_direction"] == scenario.direction, name
    assert (call["hangup_source"], call["hangup_cause_code"]) == (scenario.ended_by, scenario.plivo), name
    assert (call["answer_time"] is not None) == (call["bill_duration"] > 0) == scenario.answered, name


def dev_sessions(server, login):
    """The columns of each line of the DEV API's sessions, by the session's id."""
    now = int(time.time())
    path = f"/ws/calls/sessions/{now - 600}/{now + 600}"
    result = server.client.get(path, auth=(login.login, login.password)).json()["result"]
    assert int(result["total_sessions"]) == len(result["sessions"])
    # The time in brackets holds a blank.
    return {line.split()[6]: line.split() for line in result["sessions"]}
