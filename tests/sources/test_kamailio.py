"""Kamailio's records: names that the operator chose, rows of acc, and what is malformed."""

import contextlib
import itertools
import json
import time

import pytest

from callhouse.errors import RecordError
from callhouse.sources import cuts
from callhouse.sources.kamailio import Options, plugin, readers, silence
from conftest import KEEP_ALL
from serving import wait_until
from sources.switch_calls import SAMPLES, post, stored_calls

RECORD = {"call_id": "c1", "start_time": "1795213752.988", "end_time": "1795213752.988", "duration": "0"}
HEADER = (
    "id,method,from_tag,to_tag,callid,sip_code,sip_reason,time,src_user,src_domain,src_ip,dst_ouser,dst_user,dst_domain"
)


def split(body):
    return [record for _, record in cuts(plugin.splitter(), body)]


def read(record, **options):
    raw = json.dumps(record).encode() if isinstance(record, dict) else record.encode()
    fragment = readers(Options(**options))["kamailio"](raw, 32)
    [part] = fragment.join(fragment.group, [fragment.content])
    return part


def post_rows(server, name, *rows, header=HEADER):
    """The calls that *rows* of acc, below *header*, make in an account of their own; all must be accepted."""
    login = server.account(f"{name}@example.com")
    reply = post(server, login, "kamailio", "\n".join([header, *rows]).encode(), "text/csv")
    assert reply["rejected"] == []
    return stored_calls(server, login)


def acc(method, code, time, tags="a,b", parties="100,x,192.0.2.1,200,200,x"):
    """A row of acc as its tables have it, of a call at half past ten; *tags* are those of From and To."""
    return f"1,{method},{tags},c1@x,{code},Reason,2026-11-20 22:{time},{parties}"


T0 = 1795213800_000
"""22:30:00 of that day."""


def test_what_the_operator_named_otherwise_is_found_by_the_settings():
    record = {"id": "c2", "caller": "1", "callee": "2", "start_time": 1795213752.5, "end_time": 1795213753}
    call = read(record, call_id="id", src="caller", dest="callee").call
    assert (call.session_id, call.src, call.dest) == ("c2", "1", "2")
    assert (call.start, call.end) == (1795213752500, 1795213753000)
    assert call.extra == record


def test_a_direction_in_words_of_its_own_is_kept_but_not_believed():
    call = read({**RECORD, "direction": "from-carrier"}).call
    assert call.direction is None
    assert call.extra["direction"] == "from-carrier"


def test_a_long_call_id_is_shortened_to_an_id_of_its_own():
    one, two = (read({**RECORD, "call_id": "x" * 300 + end}).call for end in "ab")
    assert len(one.session_id) == 256
    assert one.session_id != two.session_id
    assert one.sip_call_id == "x" * 300 + "a"


def test_an_attempt_that_was_challenged_is_not_taken_for_the_call_that_it_led_to(server):
    login = server.account("challenged@example.com")
    challenged = {**RECORD, "sip_code": "407", "sip_reason": "Proxy Authentication Required"}
    begun = {**RECORD, "start_time": "1795213753.1", "answer_time": "1795213754", "end_time": "1795213760"}
    for record in (begun, challenged, begun, challenged):
        post(server, login, "kamailio", json.dumps({**record, "sip_code": record.get("sip_code", "200")}).encode())
    calls = stored_calls(server, login)
    assert set(calls) == {"c1", "c1;1795213752.988"}
    assert {call["sip_call_id"] for call in calls.values()} == {"c1"}
    assert calls["c1;1795213752.988"]["hangup_original_code"] == "407"
    assert (calls["c1"]["started"], calls["c1"]["ended"]) == (1795213753100, 1795213760000)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ('Q.850;cause=31;text="x"', "q850 31"),
        ('SIP;cause=200;text="Call completed elsewhere"', "sip 487"),
        ('SIP;cause=200, Q.850 ;text="y;";cause=26', "q850 26"),
        ("q.850;CAUSE=17", "q850 17"),
        ("Q.850;cause=", "sip 487"),
        ("", "sip 487"),
    ],
)
def test_a_reason_header_gives_its_cause_of_q850(header, code):
    call = read({**RECORD, "sip_code": "487", "reason_hdr": header}).call
    assert f"{call.hangup_original_scheme} {call.hangup_original_code}" == code


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "has no call_id"),
        ({**RECORD, "call_id": 7.5, "start_time": ""}, "has no start_time"),
        ({**RECORD, "end_time": ""}, "neither final_time nor end_time"),
        ({**RECORD, "answer_time": "soon"}, "answer_time is 'soon'"),
        ({**RECORD, "end_time": "9999-12-31 23:59:59"}, "end_time is '9999"),
        ({**RECORD, "start_time": "1795213752988"}, "start_time is '1795213752988'"),
        ("{", "no JSON object"),
        ("", "row of 14 columns"),
        ('a,"b\0', "row of 14 columns"),
        (HEADER + "\n1,2", "row of 14 columns"),
        (HEADER + "\n1,ACK,,,c,200,OK,2026-11-20 22:32:36,,,,,,", "INVITE or a BYE"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_reason(record, reason):
    with pytest.raises(RecordError, match=reason):
        read(record)


ROWS = f"""{HEADER}
1,INVITE,a,b,c1@x,200,OK,2026-11-20 22:32:36,14155550101,x,192.0.2.1,1000,1000,x
2,BYE,a,b,c1@x,200,OK,2026-11-20 22:33:06,14155550101,x,192.0.2.1,1000,1000,x
3,INVITE,a,b,c2@x,486,"Busy, here",2026-11-20 22:34:00,14155550102,x,192.0.2.1,2000,2000,x
"""


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("with_header", [False, True])
def test_rows_of_acc_become_calls_in_any_order(server, backwards, with_header):
    login = server.account(f"acc-{backwards}-{with_header}@example.com")
    header, *rows = ROWS.splitlines()
    rows = rows[::-1] if backwards else rows
    if with_header:
        assert post(server, login, "kamailio", "\r\n".join([header, *rows]).encode(), "text/csv")["accepted"] == 3
    else:
        for row in rows:
            assert post(server, login, "kamailio", row.encode(), "text/csv")["accepted"] == 1
    calls = stored_calls(server, login)
    assert set(calls) == {"c1@x", "c2@x"}
    talked, busy = calls["c1@x"], calls["c2@x"]
    assert (talked["src"], talked["dest"], talked["sip_call_id"]) == ("14155550101", "1000", "c1@x")
    assert (talked["started"], talked["answered"], talked["ended"]) == (1795213956000, 1795213956000, 1795213986000)
    assert (busy["answered"], busy["ended"], busy["hangup_original_code"]) == (None, 1795214040000, "486")
    assert busy["hangup_cause_name"] == "Busy, here"
    assert talked["extra"]["acc_bye"]["id"] == "2"


FAILED, ANSWERED = acc("INVITE", 486, "30:05"), acc("INVITE", 200, "30:20")
RENEWED = acc("INVITE", 200, "31:00", "b,a", "200,x,192.0.2.2,100,100,x")
ENDED, ENDED_AGAIN = acc("BYE", 200, "32:20", "b,a", "200,x,192.0.2.2,100,100,x"), acc("BYE", 481, "32:25")
ALL = [FAILED, ANSWERED, RENEWED, ENDED, ENDED_AGAIN]


def test_branches_re_invites_and_a_second_bye_do_not_change_what_the_call_was():
    """Constructed: 200 is busy, failure_route finds it elsewhere; it renews its session, hangs up, is hung up on."""
    read_row = readers(Options())["kamailio"]
    rows = [read_row(f"{HEADER}\n{row}".encode(), 32) for row in ALL]
    joined = [rows[0].join("c1@x", [row.content for row in order]) for order in itertools.permutations(rows)]
    assert all(parts == joined[0] for parts in joined)
    [part] = joined[0]
    call = part.call
    assert (call.src, call.dest, call.source_ip) == ("100", "200", "192.0.2.1")
    assert (call.start, call.answer, call.end) == (T0 + 5_000, T0 + 20_000, T0 + 140_000)
    assert (call.duration, call.billed_duration) == (120_000, 120_000)
    assert (call.hangup_original_code, call.hangup_source) == ("16", "callee")
    assert [event.line for event in part.events] == ["INVITE from 100 to 200", "Answered", "Ended by callee"]
    kept = call.extra
    assert [kept["acc_invite"]["time"], kept["acc_bye"]["time"]] == ["2026-11-20 22:30:20", "2026-11-20 22:32:20"]
    assert [row["sip_code"] for row in kept["acc_rows"]] == ["486", "200", "481"]


def test_a_failed_branch_does_not_cost_the_answered_call(server):
    for name, rows in {"failed-first": [FAILED, ANSWERED, ENDED], "failed-last": [ANSWERED, ENDED, FAILED]}.items():
        [call] = post_rows(server, name, *rows).values()
        assert (call["answered"], call["duration"]) == (T0 + 20_000, 120_000)


def test_a_call_that_failed_and_is_then_answered_is_in_progress_again(server):
    login = server.account("reopened@example.com", "--login", "reopened")
    window = f"{T0 // 1000}/{T0 // 1000 + 600}"

    def seen():
        listed = server.client.get(f"/api/calls/{window}", auth=login.fuse).json()["calls"]
        errors = server.client.get(f"/ws/calls/errors/{window}", auth=(login.login, login.password)).json()
        return [call["session_id"] for call in listed], errors["result"]["total_errors"]

    told = []
    for row in (FAILED, ANSWERED, ENDED):
        post(server, login, "kamailio", f"{HEADER}\n{row}".encode(), "text/csv")
        told.append(seen())
    assert told == [(["c1@x"], "1"), ([], "0"), (["c1@x"], "0")]
    log = server.client.get("/api/call/c1@x", auth=login.fuse).json()
    assert [entry["event"]["line"] for entry in log] == ["INVITE from 100 to 200", "Answered", "Ended by callee"]


def test_a_row_of_missed_calls_beside_that_of_acc_is_the_same_call(server):
    [call] = post_rows(server, "missed", acc("INVITE", 487, "30:09"), f"7{acc('INVITE', 487, '30:09')[1:]}").values()
    assert (call["ended"], call["duration"], call["hangup_source"]) == (T0 + 9_000, 0, "caller")
    assert call["hangup_original_code"] == "487"


def test_an_attempt_that_was_redirected_is_a_call_beside_the_one_it_led_to(server):
    calls = post_rows(server, "redirected", acc("INVITE", 302, "30:01"), ANSWERED, ENDED)
    assert {name: call["hangup_original_code"] for name, call in calls.items()} == {
        "c1@x": "16",
        "c1@x;1795213801.000": "302",
    }


def test_a_call_without_a_bye_is_closed_after_the_silence_that_is_set(own_server):
    server = own_server(*KEEP_ALL, "sources.kamailio.lost_after=0s")
    login = server.account()
    post(server, login, "kamailio", f"{HEADER}\n{ANSWERED}\n{RENEWED}".encode(), "text/csv")
    post(server, login, "kamailio", f"{HEADER}\n{ENDED.replace('c1@x', 'c2@x')}".encode(), "text/csv")
    # The upkeep of a server that starts does not wait for its next round.
    server.stop()
    server.start()
    wait_until(lambda: all(call["ended"] for call in stored_calls(server, login).values()), "the calls are not closed")
    calls = stored_calls(server, login)
    lost, begun_before = calls["c1@x"], calls["c2@x"]
    assert (lost["answered"], lost["ended"]) == (T0 + 20_000, T0 + 60_000)
    assert (lost["hangup_cause_code"], lost["hangup_cause_name"]) == (0, "Unknown")
    # Of the other only the BYE is known.
    assert (begun_before["started"], begun_before["ended"]) == (T0 + 140_000, T0 + 140_000)
    # The BYE is late, and right.
    post(server, login, "kamailio", f"{HEADER}\n{ENDED}".encode(), "text/csv")
    assert stored_calls(server, login)["c1@x"]["ended"] == T0 + 140_000


def test_never_is_a_silence_too():
    assert silence(Options(lost_after="forever")) is None


def test_rows_of_acc_add_to_a_record_of_the_same_call_and_do_not_change_it(server):
    """As the documentation has it for those who fear a crash: acc_json, and rows of whole seconds besides."""
    record = (SAMPLES / "kamailio/answered_callee_bye.json").read_bytes()
    row = acc("INVITE", 200, "18:08").replace("c1@x", json.loads(record)["call_id"])
    seen = []
    for order in ([record, row.encode()], [row.encode(), record]):
        login = server.account(f"both-{len(seen)}@example.com")
        for body in order:
            assert post(server, login, "kamailio", body)["accepted"] == 1
        [call] = stored_calls(server, login).values()
        seen.append(
            {name: call[name] for name in ("src", "dest", "started", "answered", "ended", "direction", "extra")}
        )
    assert seen[0] == seen[1]
    assert (seen[0]["started"], seen[0]["src"]) == (1795213087509, "14155550105")
    assert [row["method"] for row in seen[0]["extra"]["acc_rows"]] == ["INVITE"]


def test_a_server_that_was_tried_in_vain_is_an_attempt_beside_the_answered_call(server):
    """Constructed: a carrier tries another server with the same Call-ID, and the failed one's record comes last."""
    answered = {**RECORD, "sip_code": "200", "answer_time": "1795213754", "end_time": "1795213760"}
    failed = {**RECORD, "start_time": "1795213751.5", "sip_code": "503", "final_time": "1795213752.5"}
    for records in ([answered, failed], [failed, answered]):
        login = server.account(f"failover-{records[0]['sip_code']}@example.com")
        for record in records:
            assert post(server, login, "kamailio", json.dumps(record).encode())["rejected"] == []
        calls = stored_calls(server, login)
        assert {name: call["hangup_original_code"] for name, call in calls.items()} == {
            "c1": "16",
            "c1;1795213751.500": "503",
        }


@pytest.mark.parametrize("mark", ["\t", ";"])
def test_rows_may_be_separated_as_other_databases_do(mark):
    text = f"{HEADER}\n{ANSWERED}".replace(",", mark).replace("Reason", "\\N")
    call = read(text).call
    assert (call.src, call.dest, call.start) == ("100", "200", T0 + 20_000)
    assert call.extra["acc_invite"]["sip_reason"] == ""


def test_files_that_were_put_together_have_a_line_of_names_for_each():
    other = "callid,method,time"
    assert split(f"{HEADER}\n{ANSWERED}\n{HEADER}\n{FAILED}\n{other}\nc,BYE,1795213800\n".encode()) == [
        f"{HEADER}\n{ANSWERED}".encode(),
        f"{HEADER}\n{FAILED}".encode(),
        f"{other}\nc,BYE,1795213800".encode(),
    ]
    # Who calls himself so makes no line of names.
    row = acc("method", "callid", "30:20")
    assert split(f"{HEADER}\n{row}\n".encode()) == [f"{HEADER}\n{row}".encode()]


def test_a_name_in_latin_1_is_that_name():
    fragment = plugin.readers["kamailio"](f"{HEADER}\n{FAILED}".replace("Reason", "B\xfcro").encode("latin-1"), 32)
    assert "B\xfcro" in fragment.content.decode()


@pytest.mark.parametrize(
    ("told", "talked"),
    [
        ({"end_time": "1795213755.988"}, 3_000),
        ({"end_time": "1795213755.988", "sip_code": "200"}, 3_000),
        ({"end_time": "1795213755.988", "sip_code": "200", "answer_time": ""}, 3_000),
        ({"end_time": "1795213755.988", "sip_code": "200", "answer_time": "0"}, 3_000),
        ({"end_time": "1795213755.988", "sip_code": "486"}, None),
        ({"end_time": "1795213755.988", "answer_time": ""}, None),
        ({}, None),
    ],
)
def test_a_record_that_does_not_say_when_the_call_was_answered_may_say_that_it_was(told, talked):
    call = read({**RECORD, **told}).call
    assert (call.answer, call.duration) == ((None, 0) if talked is None else (call.start, talked))


def test_a_row_that_is_refused_keeps_the_names_of_its_columns(server):
    records = split(f"{HEADER}\n1,ACK\n".encode())
    assert records == [f"{HEADER}\n1,ACK".encode()]


def test_times_of_rows_are_read_in_the_zone_that_is_set():
    row = ROWS.splitlines()[1]
    assert read(row, timezone="Asia/Kolkata").call.start == 1795213956000 - 5 * 3_600_000 - 1_800_000


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"acc_columns": "a,b"}, "acc_columns"),
        ({"timezone": "Mars"}, "timezone is 'Mars'"),
        ({"lost_after": "soon"}, "lost_after: 'soon'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        readers(Options(**options))


@pytest.mark.parametrize(
    "make",
    [
        lambda n: json.dumps({**RECORD, "reason_hdr": "Q.850;" * n, "from_name": '"' + "\\" * n + '"'}).encode(),
        lambda n: b'"' * n,
        lambda n: b"a," * n,
        lambda n: b"a," * n + b"\n" + b"b," * n,
    ],
)
def test_time_grows_no_faster_than_the_record(make):
    [reader] = plugin.readers.values()

    def seconds(n):
        began = time.process_time()
        with contextlib.suppress(RecordError):
            reader(make(n), 32)
        return time.process_time() - began

    small, large = (min(seconds(n) for _ in range(3)) for n in (5_000, 40_000))
    assert large < 30 * small + 0.05
