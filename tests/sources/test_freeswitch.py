"""FreeSWITCH's records: encodings, transfers, rows of CSV, and what is malformed."""

import base64
import contextlib
import json
import time
from urllib.parse import quote

import pytest

from callhouse.errors import RecordError
from callhouse.sources import cuts
from callhouse.sources.freeswitch import Options, plugin, readers
from callhouse.sources.freeswitch.rows import EXAMPLE
from sources.switch_calls import SAMPLES

POSTS = SAMPLES / "freeswitch/posts"
VARIABLES = {
    "uuid": "leg-1",
    "sip_full_from": '"100% Müller" <sip:+15551234@192.0.2.1>',
    "sip_call_id": "c1",
    "start_uepoch": "1795213960000499",
    "answer_uepoch": "1795213961000500",
    "end_uepoch": "1795213962000999",
    "hangup_cause": "NORMAL_CLEARING",
    "hangup_cause_q850": "16",
}


def split(body):
    return [record for _, record in cuts(plugin.splitter(), body)]


def read(record, depth=32, **options):
    return readers(Options(**options))["freeswitch"](record, depth)


def leg(document=None, **variables):
    return read(json.dumps({**(document or {}), "variables": {**VARIABLES, **variables}}).encode()).call


def sample(number):
    return json.loads((POSTS / f"{number:03}.json").read_text())["body"].encode()


def encoded(variables):
    return {name: quote(value, safe="/,()'!*-._~$") for name, value in variables.items()}


PLAIN = json.dumps({"variables": VARIABLES})
ENCODED_VALUES = json.dumps({"variables": encoded(VARIABLES)})


@pytest.mark.parametrize(
    "body",
    [
        PLAIN,
        ENCODED_VALUES,
        json.dumps({"variables": VARIABLES}, indent=1),
        "\ufeff" + PLAIN,
        " \n" + ENCODED_VALUES + "\n",
        "cdr=" + PLAIN,
        "cdr=" + quote(PLAIN),
        "cdr=" + quote(ENCODED_VALUES),
        quote(PLAIN),
        quote(ENCODED_VALUES, safe=""),
        "cdr=" + base64.b64encode(PLAIN.encode()).decode(),
        "cdr=" + base64.b64encode(ENCODED_VALUES.encode()).decode(),
        "cdr=" + base64.encodebytes(PLAIN.encode()).decode(),
    ],
)
def test_every_encoding_of_a_record_is_the_same_record(body):
    part = read(body.encode())
    assert part.call.extra["variables"] == VARIABLES
    assert (part.call.start, part.call.answer, part.call.end) == (1795213960000, 1795213961000, 1795213962000)
    assert part.call.billed_duration == 1000


def test_a_value_that_was_encoded_twice_loses_one_layer():
    once = {**VARIABLES, "export_vars": "nolocal%3Alab_leg"}
    call = read(json.dumps({"variables": encoded(once)}).encode()).call
    assert call.extra["variables"]["export_vars"] == "nolocal%3Alab_leg"


def test_a_plus_and_a_percent_sign_of_a_caller_survive():
    for body in (PLAIN, ENCODED_VALUES):
        assert read(body.encode()).call.extra["variables"]["sip_full_from"] == VARIABLES["sip_full_from"]


def test_json_in_latin_1_is_read():
    body = json.dumps({"variables": VARIABLES}, ensure_ascii=False).encode("latin-1")
    assert read(body).call.extra["variables"]["sip_full_from"] == VARIABLES["sip_full_from"]
    escaped = json.dumps({"variables": {n: quote(v, encoding="latin-1") for n, v in VARIABLES.items()}})
    assert read(escaped.encode()).call.extra["variables"]["sip_full_from"] == VARIABLES["sip_full_from"]


def xml(variables, rest=""):
    members = "".join(f"<{name}>{quote(value)}</{name}>" for name, value in variables.items())
    return f'<?xml version="1.0"?><cdr core-uuid="c"><variables>{members}</variables>{rest}</cdr>'.encode()


@pytest.mark.parametrize(
    "broken",
    [
        lambda body: body.replace(b"</variables>", b"<my var>x</my var></variables>"),
        lambda body: body.replace(b"</variables>", b"<1st>x</1st></variables>"),
        lambda body: body.replace(
            b"</variables>", b'</variables><app_log><application app_name="log" app_data="\x01"/></app_log>'
        ),
        lambda body: body.replace(
            b"</variables>", b'</variables><app_log><application app_data="M\xfcller"/></app_log>'
        ),
        lambda body: body.replace(b"</variables>", b"<x>a & b</x></variables>"),
    ],
)
def test_xml_that_is_none_is_read_as_far_as_it_goes(broken):
    call = read(broken(xml(VARIABLES))).call
    assert (call.session_id, call.start, call.end) == ("leg-1", 1795213960000, 1795213962000)
    assert call.extra["variables"]["sip_full_from"] == VARIABLES["sip_full_from"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (xml(VARIABLES)[:-10], "cut off"),
        (b'<!DOCTYPE cdr [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><cdr><variables/>&b;</cdr>', "declarations"),
        (xml(VARIABLES).decode().encode("utf-16"), "neither JSON nor XML"),
        (b"<cdr>" + b"<a>" * 100 + b"</a>" * 100 + b"</cdr>", "nests deeper than 32"),
        (b"<other><variables/></other></cdr>", "no <cdr>"),
        (xml({**VARIABLES, "uuid": ""}), "uuid must have"),
        (xml({**VARIABLES, "uuid": "x" * 257}), "uuid must have"),
        (xml({**VARIABLES, "start_uepoch": "0"}), "when the leg began"),
        (xml({**VARIABLES, "end_uepoch": "0"}), "when the leg ended"),
        (xml({"uuid": "u", "start_stamp": "yesterday", "end_epoch": "1795213960"}), "start_stamp is 'yesterday'"),
        (xml({"uuid": "u", "start_stamp": "9999-12-31 23:59:59", "end_epoch": "1795213960"}), "start_stamp is '9999"),
        (b'{"variables": []}', "no variables"),
        (b"[" * 100_000, "csv_template"),
        (xml(VARIABLES) + b"\n" + xml(VARIABLES), "more than one document"),
        (xml(VARIABLES)[:90] + xml(VARIABLES), "more than one document"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_a_reason(body, reason):
    with pytest.raises(RecordError, match=reason):
        read(body)


def test_entities_of_numbers_are_characters():
    rest = '<app_log><application app_name="log" app_data="INFO a&#xA;b &lt;c&gt;" app_stamp="0"/></app_log>'
    assert read(xml(VARIABLES, rest)).events[0].line == "log(INFO a\nb <c>)"


def test_a_clock_that_was_set_back_does_not_cost_the_record():
    call = leg(start_uepoch="1795213962000000", answer_uepoch="1795213961000000", end_uepoch="1795213960000000")
    assert (call.start, call.answer, call.end) == (1795213962000, 1795213962000, 1795213962000)


APPLICATION = {"app_name": "transfer", "app_data": "ivr_3 XML default", "app_stamp": "1795213960423045"}


@pytest.mark.parametrize(
    ("history", "applications", "direction"),
    [
        ("1795213960:x:bl_xfer:ivr_3/default/XML", [APPLICATION], "inbound"),
        ("1795213990:x:bl_xfer:601/default/XML", [APPLICATION], "transfer"),
        (
            "ARRAY::1795213960:x:bl_xfer:ivr_3/default/XML|:1795213990:x:bl_xfer:601/default/XML",
            [APPLICATION],
            "transfer",
        ),
        ("1795213960:x:bl_xfer:601/default/XML", [], "transfer"),
        ("1795213960:x:att_xfer:1000@x/1001@y", [APPLICATION], "transfer"),
        ("1795213960:x:uuid_br:other", [APPLICATION], "inbound"),
        ("nonsense", [], "inbound"),
        ("", [], "inbound"),
    ],
)
def test_a_transfer_is_one_that_the_dialplan_did_not_make(history, applications, direction):
    document = {"app_log": {"applications": applications}, "callflow": []}
    assert leg(document, transfer_history=history).direction == direction


def test_without_a_log_the_dialplan_s_own_transfer_is_known_from_its_extension():
    hop = [
        {"profile_index": "2", "caller_profile": {"destination_number": "ivr_3"}},
        {
            "profile_index": "1",
            "caller_profile": {"destination_number": "800"},
            "extension": {"applications": [{"app_name": "transfer", "app_data": "ivr_${choice} XML default"}]},
        },
    ]
    history = "1795213960:x:bl_xfer:ivr_3/default/XML"
    call = leg({"callflow": hop}, transfer_history=history)
    assert (call.direction, call.dest) == ("inbound", "800")
    del hop[1]["extension"]
    assert leg({"callflow": hop}, transfer_history=history).direction == "transfer"


def test_a_b_leg_that_was_transferred_keeps_its_parent():
    call = leg({"channel_data": {"direction": "outbound"}}, originator="leg-0", call_uuid="leg-1")
    assert (call.parent_call_uuid, call.direction) == ("leg-0", "outbound")


def test_a_leg_that_an_operator_originated_has_no_parent_and_calls_out():
    call = leg({"channel_data": {"direction": "outbound"}}, sip_hangup_disposition="recv_bye")
    assert (call.parent_call_uuid, call.direction, call.hangup_source) == (None, "outbound", "callee")


@pytest.mark.parametrize(
    ("cause", "q850", "code"),
    [
        ("LOSE_RACE", "16", "q850 702"),
        ("BLIND_TRANSFER", "16", "q850 800"),
        ("ORIGINATOR_CANCEL", "16", "sip 487"),
        ("BUSY_EVERYWHERE", "17", "sip 600"),
        ("SOMETHING_NEW", "99", "q850 99"),
        ("USER_BUSY", "", "q850 17"),
        ("NONE", "0", "None None"),
    ],
)
def test_a_cause_that_q850_has_no_number_for_keeps_its_own(cause, q850, code):
    call = leg(hangup_cause=cause, hangup_cause_q850=q850)
    assert (call.hangup_cause_name, f"{call.hangup_original_scheme} {call.hangup_original_code}") == (cause, code)


@pytest.mark.parametrize("half", [{"loopback_leg": "B"}, {"channel_name": "loopback/1000-b"}])
def test_the_second_half_of_a_loopback_channel_is_no_call_from_outside(half):
    """Constructed: what the dialplan calls through a loopback channel enters it again, as if it came from outside."""
    call = leg({"channel_data": {"direction": "inbound"}}, other_loopback_leg_uuid="leg-a", **half)
    assert (call.parent_call_uuid, call.direction) == ("leg-a", "outbound")
    first = leg({"channel_data": {"direction": "outbound"}}, originator="leg-0", other_loopback_leg_uuid="leg-1")
    assert first.parent_call_uuid == "leg-0"


def test_the_conference_that_a_leg_was_in_is_kept():
    assert leg(conference_uuid="5f0c", conference_name="3000").conference_uuid == "5f0c"


def test_what_a_caller_was_asked_to_say_is_a_prompt_and_what_was_understood_its_value():
    ask = {"app_name": "play_and_detect_speech", "app_data": "a.wav detect:unimrcp x", "app_stamp": "1795213960000000"}
    body = {"variables": {**VARIABLES, "detect_speech_result": "yes"}, "app_log": {"applications": [ask]}}
    [event] = read(json.dumps(body).encode()).events
    assert (event.class_, event.data["result_variable"], event.data["value"]) == (
        "prompt",
        "detect_speech_result",
        "yes",
    )


def test_a_variable_that_is_asked_for_twice_shows_its_value_only_where_it_was_last_written():
    ask = {"app_name": "play_and_get_digits", "app_data": "1 1 1 5 # 'a b.wav' c.wav choice"}
    applications = [{**ask, "app_stamp": f"17952139600{n}0000"} for n in range(3)]
    body = {
        "variables": {**VARIABLES, "choice": "7", "read_result": "success"},
        "app_log": {"applications": applications},
    }
    data = [event.data for event in read(json.dumps(body).encode()).events]
    assert [d.get("value") for d in data] == [None, None, "7"]
    assert [d.get("result") for d in data] == [None, None, "success"]
    assert {d["result_variable"] for d in data} == {"choice"}


def test_what_an_author_writes_into_the_log_becomes_data():
    line = {
        "app_name": "log",
        "app_data": "INFO module_type=menu choice=2 result_variable=lang",
        "app_stamp": "1795213960000000",
    }
    body = {"variables": VARIABLES, "app_log": {"applications": [line]}}
    [event] = read(json.dumps(body).encode()).events
    assert event.data == {
        "level": "INFO",
        "choice": "2",
        "duration": 2.0,
        "module_type": "menu",
        "result_variable": "lang",
    }


ROW = (
    '"Fs Menu","14155561001","800","default","2026-11-20 22:32:36","2026-11-20 22:32:37","2026-11-20 22:32:40","4","3",'
)
ROW_END = '"NORMAL_CLEARING","1a41b4ec","","","PCMU","PCMU"'


def test_a_row_of_mod_cdr_csv_is_a_leg():
    call = read((ROW + ROW_END).encode()).call
    assert (call.session_id, call.src, call.dest) == ("1a41b4ec", "14155561001", "800")
    assert (call.start, call.answer, call.end) == (1795213956000, 1795213957000, 1795213960000)
    assert (call.hangup_original_scheme, call.hangup_original_code) == ("q850", "16")
    assert call.extra["cdr_csv"]["read_codec"] == "PCMU"


def test_a_row_in_latin_1_behind_a_byte_order_mark_is_read():
    row = (ROW + ROW_END).replace("Fs Menu", "M\xfcller")
    call = read(b"\xef\xbb\xbf" + row.encode("latin-1")).call
    assert call.extra["cdr_csv"]["caller_id_name"] == "M\xfcller"


def test_the_stamps_of_rows_are_read_in_the_zone_that_is_set():
    berlin = read((ROW + ROW_END).encode(), timezone="Europe/Berlin").call
    assert berlin.start == 1795213956000 - 3_600_000


def test_a_name_in_quotes_does_not_shift_the_columns():
    row = (ROW + ROW_END).replace("Fs Menu", 'Fs \\"Ü\\" agent')
    assert read(row.encode()).call.extra["cdr_csv"]["caller_id_name"] == 'Fs "Ü" agent'


def test_a_name_that_makes_columns_is_quarantined_rather_than_misread():
    with pytest.raises(RecordError, match="csv_template"):
        read((ROW + ROW_END).replace("Fs Menu", 'x","000","911').encode())


def test_other_templates_are_pasted_from_the_configuration():
    asterisk = (
        '"${accountcode}","${caller_id_number}","${destination_number}","${context}","${caller_id}","${channel_name}",'
        '"${bridge_channel}","${last_app}","${last_arg}","${start_stamp}","${answer_stamp}","${end_stamp}","${duration}",'
        '"${billsec}","${hangup_cause}","${amaflags}","${uuid}","${userfield}"'
    )
    values = ["", "1", "2", "d", '\\"A\\" <1>', "c", "", "", "", "2026-11-20 22:32:36", "", "2026-11-20 22:32:40", "4"]
    row = ",".join(f'"{value}"' for value in [*values, "0", "NO_ANSWER", "", "u", ""])
    for template, line in ((asterisk, row), (asterisk + ";", row + ";")):
        call = read(line.encode(), csv_template=template).call
        assert (call.session_id, call.src, call.answer, call.hangup_cause_name) == ("u", "1", None, "NO_ANSWER")
        assert call.extra["cdr_csv"]["caller_id"] == '"A" <1>'
    nested = EXAMPLE + ',"${regex(${caller_id_name}|^.)}"'
    assert read((ROW + ROW_END + ',"F"').encode(), csv_template=nested).call.dest == "800"


def test_a_row_without_an_end_may_say_how_long_the_leg_was():
    template = "${uuid};${start_stamp};${duration}"
    call = read(b"u;2026-11-20 22:32:36;4", csv_template=template).call
    assert (call.start, call.end) == (1795213956000, 1795213960000)
    assert read(b"u;2026-11-20 22:32:36;0", csv_template=template).call.end == call.start
    for length in (b"", b"-4", b"four", b"9" * 18):
        with pytest.raises(RecordError, match="when the leg ended"):
            read(b"u;2026-11-20 22:32:36;" + length, csv_template=template)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"csv_template": "${start_stamp}"}, "uuid"),
        ({"csv_template": "${uuid},${start_stamp},${billsec}"}, "end_stamp"),
        ({"csv_template": "${uuid},${end_stamp}"}, "start_stamp"),
        ({"csv_template": "${uuid}${start_stamp}"}, "nothing between"),
        ({"timezone": "Mars/Olympus"}, "timezone is 'Mars/Olympus'"),
        ({"timezone": "../../etc/passwd"}, "timezone"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        readers(Options(**options))


def test_a_body_is_one_document_or_many_lines():
    assert split(b'{"a":\n1}') == [b'{"a":\n1}']
    assert split(b'{"a":1}\n{"b":2}\n') == [b'{"a":1}', b'{"b":2}']
    assert split((ROW + ROW_END + "\r\n").encode() * 2) == [(ROW + ROW_END).encode()] * 2
    assert split(b" \n ") == []


@pytest.mark.parametrize("glue", [b"", b"\n", b"\r\n\n"])
def test_documents_of_xml_are_cut_apart_where_the_next_one_begins(glue):
    whole = xml(VARIABLES)
    bare = whole.removeprefix(b'<?xml version="1.0"?>')
    declared = whole.replace(b"<cdr", b"\n<cdr")
    for document in (whole, bare, declared):
        assert split(b"\xef\xbb\xbf" + glue.join([document] * 3)) == [document] * 3
    for half in (whole[:90], declared[:90], declared[:30]):
        assert split(half + glue + declared + glue + whole) == [half, declared, whole]
    assert split(bare[:90] + b"\n" + bare) == [bare[:90], bare]
    assert split(whole + b"\n" + PLAIN.encode() + b"\n" + whole) == [whole, PLAIN.encode(), whole]


def test_a_row_or_a_value_of_json_that_holds_xml_is_cut_nowhere():
    row = (ROW + ROW_END).replace("Fs Menu", "<?xml ?><cdr>").encode()
    document = json.dumps({"variables": {**VARIABLES, "sip_body": "a</cdr><cdr><?xml ?>"}}, indent=1).encode()
    assert split(row + b"\n" + row) == [row, row]
    assert split(document + b"\n" + document) == [document, document]


def test_objects_that_stand_in_one_line_are_refused_with_what_to_do():
    with pytest.raises(RecordError, match="put each object on a line"):
        read((PLAIN + PLAIN).encode())


def seconds(work, *arguments):
    began = time.process_time()
    with contextlib.suppress(RecordError):
        work(*arguments)
    return time.process_time() - began


@pytest.mark.parametrize(
    "make",
    [
        lambda n: b'{"variables":{"transfer_history":"ARRAY::' + b"|:1:x:bl_xfer:a/b/c" * n + b'"}}',
        lambda n: b"cdr=" + b"%7B%22" * n,
        lambda n: b"cdr=" + b"QUJD" * n,
        lambda n: b"<cdr>" + b"<application>" * 20 + b"<a/>" * n + b"</application>" * 20 + b"</cdr>",
        lambda n: b"<cdr><variables>" + b"<a>1</a>" * n + b"</variables></cdr>",
        lambda n: b"<cdr><variables>" + b"<a b=&>" * n + b"</variables></cdr>",
        lambda n: b'"a","' * n,
        lambda n: (
            b'{"app_log":{"applications":['
            + b'{"app_name":"log","app_data":"a=b"},' * n
            + b"{}]},"
            + json.dumps({"variables": VARIABLES}).encode()[1:]
        ),
        lambda n: json.dumps(
            {"variables": VARIABLES, "app_log": {"applications": [{"app_name": "read", "app_data": "' " * n}]}}
        ).encode(),
        lambda n: json.dumps(
            {"variables": VARIABLES, "app_log": {"applications": [{"app_name": "log", "app_data": "a " * n}]}}
        ).encode(),
    ],
)
def test_time_grows_no_faster_than_the_record(make):
    [reader] = plugin.readers.values()
    small, large = (min(seconds(reader, make(n), 32) for _ in range(3)) for n in (5_000, 40_000))
    assert large < 30 * small + 0.05
