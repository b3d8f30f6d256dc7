"""What a real FreeSWITCH sent, through the real ingest: the calls that the test calls were, told by their scenario."""

import base64
import json
from dataclasses import dataclass

import pytest

from serving import callhouse, get
from sources.switch_calls import OF_ARRIVAL, SAMPLES, post, stored_calls

FREESWITCH = SAMPLES / "freeswitch"
POSTS = sorted((FREESWITCH / "posts").glob("*.json"))
WINDOW = "1795213000/1795215000"


@dataclass
class Scenario:
    """One test call. *leg* is whom the dialplan dialled, if anybody; *leg_cause* why that leg ended, if otherwise."""

    dest: str
    answered: bool
    ended_by: str
    cause: str
    code: str
    leg: str | None = None
    leg_ended_by: str | None = None


SCENARIOS = {
    # 800 is a menu: 2 asks for an account number, 1 is sales (1000 answers, and hangs up), 3 is support (2000, busy).
    "14155561001": Scenario("800", True, "switch", "NORMAL_CLEARING", "q850 16"),
    "14155561002": Scenario("800", True, "callee", "NORMAL_CLEARING", "q850 16", "1000"),
    "14155561003": Scenario("800", True, "switch", "USER_BUSY", "q850 17", "2000", "callee"),
    "14155561004": Scenario("800", True, "switch", "NO_USER_RESPONSE", "q850 18"),
    # 804, the far end, and the extension: 0 answers, 1 is busy, 3 answers and hangs up, 4 says 480, 5 rings, 9 is dead.
    "14155561005": Scenario("8040200", True, "caller", "NORMAL_CLEARING", "q850 16", "200"),
    "14155561006": Scenario("8041200", False, "callee", "USER_BUSY", "q850 17", "200"),
    "14155561007": Scenario("8045200", False, "timeout", "NO_ANSWER", "q850 19", "200"),
    "14155561008": Scenario("8044200", False, "callee", "NO_ANSWER", "q850 19", "200"),
    "14155561009": Scenario("8043200", True, "callee", "NORMAL_CLEARING", "q850 16", "200"),
    "14155561010": Scenario("8045201", False, "caller", "ORIGINATOR_CANCEL", "sip 487", "201"),
    "14155561011": Scenario("9999", False, "switch", "NO_ROUTE_DESTINATION", "q850 3"),
    "14155561012": Scenario("810", True, "caller", "NORMAL_CLEARING", "q850 16"),
    "14155561013": Scenario("8049200", False, "callee", "NORMAL_TEMPORARY_FAILURE", "q850 41", "200"),
    "14155561014": Scenario("601", True, "caller", "NORMAL_CLEARING", "q850 16"),
}


def send(server, login, file):
    sample = json.loads(file.read_text())
    return post(server, login, "freeswitch", sample["body"].encode(), sample["content_type"])


@pytest.fixture(scope="module")
def login(server):
    account = server.account("freeswitch@example.com")
    for file in POSTS:
        assert send(server, account, file) == {"accepted": 1, "rejected": []}, file.name
    return account


def legs_of(calls, caller):
    legs = [call for call in calls.values() if call["src"] == caller]
    return [leg for leg in legs if not leg["parent_call_uuid"]], [leg for leg in legs if leg["parent_call_uuid"]]


def test_each_leg_is_one_call_however_many_modules_sent_it(server, login):
    listed = get(server, login, f"/api/calls/{WINDOW}").json()
    legs = len(SCENARIOS) + sum(scenario.leg is not None for scenario in SCENARIOS.values())
    assert listed["total_calls"] == len(listed["calls"]) == legs == 23
    assert sorted(c["src"] for c in listed["calls"] if c["type"] == "inbound") == sorted(SCENARIOS)
    assert {c["src"] for c in listed["calls"] if c["type"] != "inbound"} == {"Outbound"}
    assert {c["type"] for c in listed["calls"]} == {"inbound", "outbound"}


@pytest.mark.parametrize("caller", SCENARIOS)
def test_the_caller_s_leg_says_who_called_whom_and_how_it_ended(server, login, caller):
    scenario = SCENARIOS[caller]
    [call], _ = legs_of(stored_calls(server, login), caller)
    assert call["dest"] == scenario.dest
    assert (call["answered"] is not None) == scenario.answered
    assert call["hangup_source"] == scenario.ended_by
    assert call["hangup_cause_name"] == scenario.cause
    assert f"{call['hangup_original_scheme']} {call['hangup_original_code']}" == scenario.code
    assert call["hangup_cause_code"] is None
    assert call["call_uuid"] == call["session_id"]
    assert call["source_ip"] == "127.0.0.1"
    assert call["sip_call_id"].endswith("@127.0.0.1")
    assert call["duration"] == (call["ended"] - call["answered"] if scenario.answered else 0)


@pytest.mark.parametrize("caller", [caller for caller, scenario in SCENARIOS.items() if scenario.leg])
def test_the_leg_that_the_dialplan_dialled_hangs_below_the_caller_s(server, login, caller):
    scenario = SCENARIOS[caller]
    [parent], [leg] = legs_of(stored_calls(server, login), caller)
    assert leg["parent_call_uuid"] == parent["call_uuid"]
    assert (leg["direction"], leg["dest"]) == ("outbound", scenario.leg)
    assert leg["hangup_source"] == (scenario.leg_ended_by or scenario.ended_by)
    assert leg["hangup_cause_name"] == scenario.cause
    assert leg["event_count"] == 0
    assert leg["started"] >= parent["started"]
    assert leg["sip_call_id"] != parent["sip_call_id"]


def test_instants_are_those_of_the_switch_to_the_millisecond(server, login):
    [call], _ = legs_of(stored_calls(server, login), "14155561001")
    assert (call["started"], call["answered"], call["ended"]) == (1795213956991, 1795213957011, 1795213960811)


PLIVO = {"USER_BUSY": 3010, "NO_ANSWER": 3000, "ORIGINATOR_CANCEL": 1000, "NORMAL_CLEARING": 4000}


def test_plivo_s_api_shows_a_leg_below_its_parent_and_the_cause_in_plivo_s_numbers(server, login):
    path, auth = f"/v1/Account/{login.auth_id}/Call/", (login.auth_id, login.auth_token)
    for caller in (f"1415556100{digit}" for digit in range(1, 10)):
        [call], legs = legs_of(stored_calls(server, login), caller)
        shown = server.client.get(f"{path}{call['call_uuid']}/", auth=auth).json()
        assert (shown["from_number"], shown["to_number"]) == (caller, SCENARIOS[caller].dest)
        assert shown["hangup_cause_name"] == SCENARIOS[caller].cause
        assert shown["hangup_cause_code"] == PLIVO.get(SCENARIOS[caller].cause, shown["hangup_cause_code"])
        assert shown["hangup_source"] == SCENARIOS[caller].ended_by
        for leg in legs:
            below = server.client.get(f"{path}{leg['call_uuid']}/", auth=auth).json()
            assert below["parent_call_uuid"] == call["call_uuid"]


def log_of(server, login, caller):
    [call], _ = legs_of(stored_calls(server, login), caller)
    return get(server, login, f"/api/call/{call['session_id']}").json()


def test_the_log_of_a_call_shows_what_was_played_and_which_digits_were_pressed(server, login):
    log = log_of(server, login, "14155561001")
    assert [(entry["class"], entry["event"]["data"]["module_type"]) for entry in log] == [
        ("debug", "set"),
        ("info", "answer"),
        ("prompt", "playback"),
        ("prompt", "play_and_get_digits"),
        ("info", "menu"),
        ("info", "transfer"),
        ("prompt", "read"),
        ("info", "account"),
        ("prompt", "playback"),
        ("info", "hangup"),
    ]
    pressed = {
        entry["event"]["data"]["result_variable"]: entry["event"]["data"].get("value")
        for entry in log
        if entry["event"]["data"]["module_type"] in {"play_and_get_digits", "read"}
    }
    assert pressed == {"choice": "2", "acct": "4711"}
    assert log[0]["event"]["line"] == "set(ivr_name=main)"
    assert log[2]["event"]["line"] == "playback(tone_stream://%(1000,0,440))"
    assert 0.9 < log[2]["event"]["data"]["duration"] < 1.1
    assert log[7]["event"]["data"]["acct"] == "4711"
    assert all(list(entry["event"]["data"])[-2:] == ["module_type", "result_variable"] for entry in log)


@pytest.mark.parametrize(
    ("caller", "line", "class_"),
    [
        ("14155561003", "bridge(sofia/lab/2000@127.0.0.1:5091)", "error"),
        ("14155561004", "log(ERR no input)", "error"),
        ("14155561002", "bridge(sofia/lab/1000@127.0.0.1:5093)", "info"),
        ("14155561010", "bridge(sofia/lab/201@127.0.0.1:5095)", "info"),
        ("14155561003", "log(WARNING support busy USER_BUSY)", "info"),
    ],
)
def test_what_failed_is_an_error_and_nothing_else_is(server, login, caller, line, class_):
    assert [entry["class"] for entry in log_of(server, login, caller) if entry["event"]["line"] == line] == [class_]


def test_a_caller_who_pressed_nothing_leaves_no_value(server, login):
    [asked] = [
        entry["event"]["data"]
        for entry in log_of(server, login, "14155561004")
        if entry["event"]["data"]["module_type"] == "play_and_get_digits"
    ]
    assert asked["result_variable"] == "choice"
    assert "value" not in asked


def test_what_the_model_has_no_place_for_is_kept_as_plain_text(server, login):
    [call], _ = legs_of(stored_calls(server, login), "14155561006")
    variables = call["extra"]["variables"]
    assert variables["DP_MATCH"] == ["8041200", "1", "200"]
    assert "14155561006@127.0.0.1" in variables["sip_full_from"]
    assert variables["nolocal:lab_leg"] == "b"
    assert call["extra"]["switchname"] == "fslab"
    assert call["extra"]["channel_data"]["direction"] == "inbound"
    assert [profile["caller_profile"]["destination_number"] for profile in call["extra"]["callflow"]] == ["8041200"]


def test_the_order_of_arrival_and_repeats_make_no_difference(server, login):
    other = server.account("freeswitch-backwards@example.com")
    for file in [*reversed(POSTS), *POSTS[::3]]:
        assert send(server, other, file)["rejected"] == []
    # Of JSON and XML the later one's own words are kept, and the two spell their statistics differently.
    left_out = {*OF_ARRIVAL, "replaced", "extra"}

    def comparable(account):
        return {
            session: {name: value for name, value in call.items() if name not in left_out}
            for session, call in stored_calls(server, account).items()
        }

    assert comparable(other) == comparable(login)
    for session in comparable(login):
        one, two = (server.client.get(f"/api/call/{session}", auth=each.fuse) for each in (login, other))
        assert (one.status_code, one.content) == (two.status_code, two.content)


ENCODED = {
    "textxml": ("1415556701", ["vB/003", "vB/004"]),
    "json under a form's content type and base64 XML": ("1415556702", ["vC/001", "vC/002", "vC/003", "vC/004"]),
    "base64 JSON and plain text XML": ("1415556703", ["vD/001", "vD/002", "vD/003", "vD/004"]),
    "retries": ("1415556704", [f"vE/{number:03}" for number in range(1, 13)]),
    "files of what was refused": ("1415556704", None),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_every_encoding_gives_the_same_call(server, encoding):
    """In all of them extension 200 answers, and the caller, who is called Var é, hangs up half a second later."""
    caller, files = ENCODED[encoding]
    login = server.account(f"{abs(hash(encoding))}@example.com")
    if files is None:
        for file in (FREESWITCH / "err-dir").iterdir():
            assert post(server, login, "freeswitch", file.read_bytes(), "application/octet-stream")["accepted"] == 1
    for name in files or []:
        assert send(server, login, FREESWITCH / f"encodings/{name}.json")["accepted"] == 1
    [call], [leg] = legs_of(stored_calls(server, login), caller)
    assert (call["direction"], call["dest"], leg["dest"]) == ("inbound", "8040200", "200")
    assert leg["parent_call_uuid"] == call["session_id"]
    assert (call["hangup_source"], leg["hangup_source"]) == ("caller", "caller")
    assert 400 < call["duration"] < 700
    assert call["event_count"] == 4
    assert call["extra"]["variables"]["sip_from_display"] == "Var é"
    assert call["extra"]["variables"]["caller_id"] == f'"Var é" <{caller}>'


@pytest.mark.parametrize("number", [1, 2])
def test_json_that_freeswitch_itself_spoils_is_quarantined_and_the_operator_told_what_to_set(own_server, number):
    server = own_server()
    login = server.account()
    sample = json.loads((FREESWITCH / f"encodings/vB/{number:03}.json").read_text())
    reply = post(server, login, "freeswitch", sample["body"].encode(), sample["content_type"])
    assert reply["accepted"] == 0
    [rejection] = reply["rejected"]
    assert "set encode-values to false" in rejection["error"]
    [kept] = json.loads(callhouse("quarantine", "list", "--json", data=server.data).stdout)
    assert (kept["source"], kept["record"], kept["reason"]) == ("freeswitch", sample["body"], rejection["error"])
    again = callhouse("quarantine", "replay", "--all", data=server.data, check=False)
    assert again.returncode == 1
    assert "encode-values" in again.stdout


def test_what_was_quarantined_for_a_limit_is_read_on_replay(own_server):
    server = own_server("ingest.max_depth=3")
    login = server.account()
    sample = json.loads(POSTS[0].read_text())
    body = b"cdr=" + base64.b64encode(sample["body"].encode())
    assert post(server, login, "freeswitch", body)["rejected"][0]["error"] == "nests deeper than 3"
    callhouse("quarantine", "replay", "--all", data=server.data)
    assert list(stored_calls(server, login)) == ["4086b655-5f15-440c-826a-618a93117f19"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x00\xff nonsense", "neither JSON nor XML"),
        (b"cdr=????", "base64"),
        (b"cdr=%7B%22", "no JSON object"),
        (b"<cdr><variables>", "cut off"),
        (b"{}", "no variables"),
    ],
)
def test_no_body_makes_freeswitch_retry(server, login, body, reason):
    reply = post(server, login, "freeswitch", body, "application/x-www-form-urlencoded")
    assert reply["accepted"] == 0
    assert reason in reply["rejected"][0]["error"]


def test_an_empty_body_is_nobody_s_record(server, login):
    assert server.client.post("/ingest/freeswitch", content=b" \n", auth=login.fuse).status_code == 400
