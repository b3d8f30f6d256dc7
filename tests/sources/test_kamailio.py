"""Kamailio's records: names that the operator chose, rows of acc, and what is malformed."""

import contextlib
import json
import time

import pytest

from callhouse.errors import RecordError
from callhouse.sources import cuts
from callhouse.sources.kamailio import Options, plugin, readers
from sources.switch_calls import post, stored_calls

RECORD = {"call_id": "c1", "start_time": "1795213752.988", "end_time": "1795213752.988", "duration": "0"}
HEADER = (
    "id,method,from_tag,to_tag,callid,sip_code,sip_reason,time,src_user,src_domain,src_ip,dst_ouser,dst_user,dst_domain"
)


def split(body):
    return [record for _, record in cuts(plugin.splitter(), body)]


def read(record, **options):
    raw = json.dumps(record).encode() if isinstance(record, dict) else record.encode()
    return readers(Options(**options))["kamailio"](raw, 32)


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


def test_a_row_that_is_refused_keeps_the_names_of_its_columns(server):
    records = split(f"{HEADER}\n1,ACK\n".encode())
    assert records == [f"{HEADER}\n1,ACK".encode()]


def test_times_of_rows_are_read_in_the_zone_that_is_set():
    row = ROWS.splitlines()[1]
    assert read(row, timezone="Asia/Kolkata").call.start == 1795213956000 - 5 * 3_600_000 - 1_800_000


@pytest.mark.parametrize(
    ("options", "reason"), [({"acc_columns": "a,b"}, "acc_columns"), ({"timezone": "Mars"}, "timezone is 'Mars'")]
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
