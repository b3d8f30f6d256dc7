"""What a real Asterisk wrote, through the real ingest and back out of the API; and calls that a crash cut off."""

from urllib.parse import quote

import pytest

from conftest import KEEP_ALL
from serving import callhouse, get, wait_until
from sources.asterisk_rows import CDR, CDR_CUSTOM, CEL, CEL_20, SAMPLES, cel, joined, rows_of
from sources.switch_calls import post, stored_calls
from sources.test_asterisk_calls import SCENARIOS

WINDOW = "1795213000/1795215000"


def body(*files):
    return b"".join((SAMPLES / file).read_bytes() for file in files)


@pytest.mark.parametrize("files", [(CEL, CDR), (CDR_CUSTOM, CEL_20), (CEL,)], ids=str)
def test_files_of_cdrs_and_cel_become_the_calls_that_were_made(server, files):
    sent = body(*files)
    login = server.account(f"asterisk{len(sent)}@example.com")
    reply = post(server, login, "asterisk", sent, "text/csv")
    assert reply == {"accepted": len(rows_of(*files)), "rejected": []}
    expected = {session: part.call for session, part in joined(rows_of(*files)).items()}
    listed = get(server, login, f"/api/calls/{WINDOW}").json()
    assert listed["total_calls"] == len(expected)
    roots = [call for call in listed["calls"] if call["type"] == "inbound"]
    assert {call["src"] for call in roots} == set(SCENARIOS)
    dialled = {call["src"]: call["dest"] for call in roots}
    assert all(dialled[caller] in {dest, None, ""} for caller, (dest, *_) in SCENARIOS.items())
    stored = stored_calls(server, login)
    assert stored.keys() == expected.keys()
    for session, call in expected.items():
        row = stored[session]
        assert (row["started"], row["answered"], row["ended"]) == (call.start, call.answer, call.end)
        assert (row["hangup_source"], row["hangup_original_code"]) == (call.hangup_source, call.hangup_original_code)
        assert (row["parent_call_uuid"], row["extra"]) == (call.parent_call_uuid, call.extra)
    assert post(server, login, "asterisk", sent, "text/csv") == reply
    assert get(server, login, f"/api/calls/{WINDOW}").json() == listed


def test_the_log_of_a_call_shows_what_was_pressed(server):
    login = server.account("asterisk-log@example.com")
    post(server, login, "asterisk", body(CEL))
    log = get(server, login, f"/api/call/{quote('lab1-1795213277.10')}").json()
    digits = [entry["event"]["data"] for entry in log if "digit" in entry["event"]["data"]]
    assert "".join(data["digit"] for data in digits if data["result_variable"] == "choice") == "2"
    assert "".join(data["digit"] for data in digits if data["result_variable"] == "acct") == "4711"
    assert {data["module_type"] for data in digits} == {"Read"}


def test_odd_records_are_calls_and_broken_ones_are_quarantined_alone(server):
    login = server.account("asterisk-odd@example.com")
    lines = [
        body("odd/Master_quote_in_name.csv").strip(),
        b'"lab1","cut off in the mid',
        body("odd/cdr_json_invalid_backslash_quote.json").strip(),
        b"just,four,values,here",
        *rows_of("odd/cel_of_call_lost_by_kill9.csv"),
    ]
    reply = post(server, login, "asterisk", b"\n".join(lines))
    assert [rejection["index"] for rejection in reply["rejected"]] == [1, 3]
    assert reply["accepted"] == len(lines) - 2
    listed = get(server, login, f"/api/calls/{WINDOW}").json()
    assert [(call["src"], call["dest"]) for call in listed["calls"]] == [("14155559003", "810")]
    refused = callhouse("quarantine", "list", "--account", login.id, data=server.data).stdout
    assert "no row of CSV" in refused
    assert "4 columns" in refused


def test_a_log_of_queues_is_no_record_of_calls(server):
    login = server.account("asterisk-queue-log@example.com")
    lines = body("local-ivr/queue_log").splitlines()
    reply = post(server, login, "asterisk", b"\n".join(lines))
    assert (reply["accepted"], len(reply["rejected"])) == (0, len(lines))
    assert all("no row of a CDR or CEL file" in rejected["error"] for rejected in reply["rejected"])


def test_an_empty_body_is_refused(server):
    login = server.account("asterisk-empty@example.com")
    answer = server.client.post("/ingest/asterisk", content=b" \n", auth=login.fuse)
    assert (answer.status_code, answer.json()) == (400, {"error": "The body is empty."})


def test_a_call_cut_off_by_a_crash_is_closed_after_the_silence_that_is_set(own_server):
    server = own_server(*KEEP_ALL, "sources.asterisk.lost_after=0s")
    login = server.account()
    post(server, login, "asterisk", body("odd/cel_of_call_lost_by_kill9.csv"))
    # The upkeep of a server that starts does not wait for its next round.
    server.stop()
    server.start()
    wait_until(lambda: get(server, login, f"/api/calls/{WINDOW}").json()["total_calls"] == 1, "closing the call")
    [call] = stored_calls(server, login).values()
    assert (call["hangup_cause_name"], call["ended"]) == ("Unknown", 1795214137219)
    channel, uniqueid = "SIP/127.0.0.1-0000001a", "lab1-1795214136.134"
    late = [
        cel("HANGUP", 214_200, channel, uniqueid, uniqueid, extra={"hangupcause": 16, "hangupsource": channel}),
        cel("LINKEDID_END", 214_200, channel, uniqueid, uniqueid),
    ]
    post(server, login, "asterisk", b"\n".join(late))
    [call] = stored_calls(server, login).values()
    assert (call["hangup_cause_name"], call["hangup_source"], call["ended"]) == (None, "caller", 1795214200000)


def test_settings_say_how_rows_are_to_be_read(own_server):
    server = own_server(
        *KEEP_ALL,
        "sources.asterisk.timezone=Europe/Berlin",
        "sources.asterisk.inbound=",
        "sources.asterisk.outbound=from-c*",
        "sources.asterisk.cdr_columns=calldate,src,dst,dcontext,disposition,duration,uniqueid",
    )
    login = server.account()
    row = b'"2026-11-20 10:00:00","100","200","from-cell","BUSY","4","pbx-1795165200.1"'
    post(server, login, "asterisk", row)
    [call] = stored_calls(server, login).values()
    assert (call["direction"], call["started"], call["ended"]) == ("outbound", 1795165200000, 1795165204000)


def test_a_quarantined_row_is_joined_when_it_is_replayed(own_server):
    """Rows whose columns nobody had named are read once somebody has."""
    server = own_server(*KEEP_ALL)
    login = server.account()
    row = b'"2026-11-20 10:00:00","100","200","BUSY","4","pbx-1795165200.1"'
    assert post(server, login, "asterisk", row)["accepted"] == 0
    server.stop()
    columns = "sources.asterisk.cdr_columns=calldate,src,dst,disposition,duration,uniqueid"
    chosen = [word for setting in (*KEEP_ALL, columns) for word in ("--set", setting)]
    callhouse("quarantine", "replay", "--all", *chosen, data=server.data)
    server.start()
    [call] = stored_calls(server, login).values()
    assert (call["session_id"], call["hangup_original_code"]) == ("pbx-1795165200.1", "17")
