"""What a real Kamailio sent, through the real ingest: the calls that the test calls were, told by their scenario."""

import json
from dataclasses import dataclass

import pytest

from serving import callhouse, get
from sources.switch_calls import SAMPLES, post, stored_calls

KAMAILIO = SAMPLES / "kamailio"
WINDOW = "1795213000/1795215000"


@dataclass
class Scenario:
    """One test call. *rang* and *talked* are in seconds as the far end's script waits, None for never."""

    caller: str
    dest: str
    ended_by: str
    cause: str
    direction: str = "outbound"
    rang: float | None = None
    talked: float | None = None
    events: int = 4
    error: bool = False


SCENARIOS = {
    "answered_caller_bye": Scenario("14155550101", "1000", "caller", "q850 16", "inbound", 0.7, 2.3),
    "answered_callee_bye": Scenario("14155550105", "4000", "callee", "q850 16", rang=0.5, talked=1.5),
    "answered_long": Scenario("14155550110", "1500", "caller", "q850 16", rang=0.7, talked=9),
    "answered_utf8_name": Scenario("1000", "14155550199", "caller", "q850 16", rang=0.7, talked=1),
    "busy_486": Scenario("14155550102", "2000", "callee", "q850 17", rang=0, events=2, error=True),
    "cancelled_487": Scenario("14155550103", "3000", "caller", "sip 487", rang=1.5, events=3),
    "ring_timeout_408": Scenario("14155550104", "3001", "timeout", "sip 408", rang=6, events=3, error=True),
    "no_reply_408": Scenario("14155550107", "6000", "timeout", "sip 408", rang=5, events=2, error=True),
    "unavailable_480": Scenario("14155550106", "5000", "callee", "q850 19", rang=2, events=3, error=True),
    "not_found_404": Scenario("14155550108", "9999", "switch", "sip 404", "inbound", 0, events=2, error=True),
    # The dialog's time ran out after five seconds; the switch ended it and set no final_time.
    "expired": Scenario("14155553002", "1500", "switch", "q850 16", rang=0.7, talked=5.2),
    # An IVR on 800 answers at once and hangs up at its end.
    "chain_ivr_via_asterisk": Scenario("14155553001", "800", "callee", "q850 16", rang=0, talked=4.1, events=3),
}


@pytest.fixture(scope="module")
def login(server):
    account = server.account("kamailio@example.com")
    for name in SCENARIOS:
        reply = post(server, account, "kamailio", (KAMAILIO / f"{name}.json").read_bytes())
        assert reply == {"accepted": 1, "rejected": []}, name
    return account


def test_every_outcome_is_one_listed_call(server, login):
    listed = get(server, login, f"/api/calls/{WINDOW}").json()
    assert listed["total_calls"] == len(SCENARIOS)
    assert {name.stem for name in KAMAILIO.glob("*.json")} == set(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_record_says_who_called_whom_and_how_it_ended(server, login, name):
    scenario = SCENARIOS[name]
    [call] = [
        c for c in stored_calls(server, login).values() if (c["src"], c["dest"]) == (scenario.caller, scenario.dest)
    ]
    assert call["direction"] == scenario.direction
    assert call["hangup_source"] == scenario.ended_by
    assert f"{call['hangup_original_scheme']} {call['hangup_original_code']}" == scenario.cause
    assert call["sip_call_id"] == call["session_id"] == call["extra"]["call_id"]
    assert call["source_ip"] == "127.0.0.1"
    assert (call["answered"] is not None) == (scenario.talked is not None)
    ringing = (call["answered"] or call["ended"]) - call["started"]
    assert ringing / 1000 == pytest.approx(scenario.rang, abs=0.1)
    assert call["duration"] / 1000 == pytest.approx(scenario.talked or 0, abs=0.1)
    log = get(server, login, f"/api/call/{call['session_id']}").json()
    assert len(log) == scenario.events
    assert [entry["class"] for entry in log].count("error") == scenario.error
    assert all(list(entry["event"]["data"])[-2:] == ["module_type", "result_variable"] for entry in log)


def test_a_caller_s_name_is_freed_of_the_quotes_of_sip(server, login):
    [call] = [c for c in stored_calls(server, login).values() if c["dest"] == "14155550199"]
    assert call["extra"]["from_name"] == '"Ext \\"Q\\" é"'
    log = get(server, login, f"/api/call/{call['session_id']}").json()
    assert log[0]["event"]["data"]["name"] == 'Ext "Q" é'


def test_what_was_posted_again_after_a_failure_is_one_call(server):
    """The receiver was down, answered 500 three times, and stored a record but answered too late: five calls."""
    login = server.account("kamailio-durability@example.com")
    for file in sorted((KAMAILIO / "durability").iterdir()):
        assert post(server, login, "kamailio", file.read_bytes())["accepted"] == 1
    calls = stored_calls(server, login)
    assert sorted(call["src"] for call in calls.values()) == ["301", "302", "303", "304", "305"]
    assert {call["dest"] for call in calls.values()} == {"1000"}
    assert get(server, login, f"/api/calls/{WINDOW}").json()["total_calls"] == 5


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b"\xff\x00", b'{"call_id": ""}', json.dumps({"call_id": "x"}).encode()]
)
def test_no_body_is_refused_with_a_status_that_kamailio_would_answer_by_dropping_it(server, login, body):
    reply = post(server, login, "kamailio", body)
    assert (reply["accepted"], len(reply["rejected"])) == (0, 1)


def test_an_sbc_s_record_and_the_pbx_s_behind_it_are_found_by_their_call_id(server):
    login = server.account("sbc@example.com")
    record = json.loads((KAMAILIO / "chain_ivr_via_asterisk.json").read_text())
    post(server, login, "kamailio", json.dumps(record).encode())
    leg = {"uuid": "4fb1e8a5", "sip_call_id": record["call_id"], "start_epoch": "1795213687", "end_epoch": "1795213691"}
    post(server, login, "freeswitch", json.dumps({"variables": leg}).encode())
    search = ("search", "--account", login.id, "--sip-call-id", record["call_id"])
    found = json.loads(callhouse(*search, "--json", data=server.data).stdout)
    assert [call["session_id"] for call in found] == [record["call_id"], "4fb1e8a5"]
    assert "No call has this Call-ID." in callhouse(*search[:-1], "other", data=server.data).stdout
    assert callhouse(*search, "word", data=server.data, check=False).returncode == 2
