"""Asterisk's rows joined: the calls that were made when the samples were captured, and calls of every other kind.

What is expected of the samples is taken from the dialplan that was called and from who called it, not from the rows.
"""

import pytest

from sources.asterisk_rows import CDR, CDR_CUSTOM, CEL, CEL_20, calls, cel, joined, rows_of

# Who called which number of the dialplan, what was pressed, who ended it and why, and what was dialled: number,
# whether it answered, why it ended.
AGENT_HANGS_UP = ("601", True, "16")
BUSY = ("602", False, "17")
SCENARIOS = {
    # Presses 1 for sales; the agent answers and hangs up; the dialplan says goodbye and hangs up.
    "+14155550001": ("800", {"choice": "1"}, "switch", "16", [AGENT_HANGS_UP]),
    # The same, but the agent is busy.
    "+14155550002": ("800", {"choice": "1"}, "switch", "16", [BUSY]),
    # Presses 2 and then the account's number.
    "+14155550003": ("800", {"choice": "2", "acct": "4711"}, "switch", "16", []),
    # Presses 3 for the queue: one agent is busy, the other answers and hangs up.
    "+14155550004": ("800", {"choice": "3"}, "callee", "16", [AGENT_HANGS_UP, BUSY]),
    # Presses what is no choice, and is hung up on with cause 21.
    "+14155550005": ("800", {"choice": "9"}, "switch", "21", []),
    # Presses nothing.
    "+14155550006": ("800", {}, "switch", "21", []),
    # Hangs up in the first prompt.
    "+14155550007": ("800", {}, "caller", "16", []),
    # Dials an agent who is busy.
    "+14155550008": ("802", {}, "switch", "16", [BUSY]),
    # Dials an agent who does not answer, then one who does and hangs up.
    "+14155550009": ("803", {}, "callee", "16", [AGENT_HANGS_UP, ("603", False, "19")]),
    # Dials three at once: one answers and hangs up, one is busy, one is called off.
    "+14155550010": ("805", {}, "callee", "16", [AGENT_HANGS_UP, BUSY, ("603", False, "26")]),
    # Is played a prompt, in two CDRs.
    "+14155550011": ("806", {}, "switch", "16", []),
    # Is answered with congestion; neither CEL nor CDR has the number.
    "+14155550012": (None, {}, "switch", "16", []),
}
SECONDS = {"+14155550001": 7, "+14155550006": 12, "+14155550007": 1, "+14155550009": 7, "+14155550012": 2}


def by_caller(parts):
    """The root call of each caller, and its legs in the order of their numbers."""
    roots = [part for part in parts.values() if part.call.parent_call_uuid is None]
    legs = {
        root.call.src: sorted(
            (part.call for part in parts.values() if part.call.parent_call_uuid == root.call.call_uuid),
            key=lambda leg: leg.dest,
        )
        for root in roots
    }
    return {root.call.src: (root, legs[root.call.src]) for root in roots}


def digits(part):
    pressed = {}
    for event in part.events:
        if "digit" in event.data:
            name = event.data["result_variable"]
            pressed[name] = pressed.get(name, "") + event.data["digit"]
    return pressed


@pytest.mark.parametrize("cel_file", [CEL, CEL_20])
def test_the_rows_of_twelve_calls_become_the_calls_that_were_made(cel_file):
    found = by_caller(joined(rows_of(cel_file, CDR)))
    assert found.keys() == SCENARIOS.keys()
    for caller, (dest, pressed, source, cause, dialled) in SCENARIOS.items():
        root, legs = found[caller]
        call = root.call
        assert (call.direction, call.dest, call.hangup_source) == ("inbound", dest, source), caller
        assert (call.hangup_original_code, call.hangup_original_scheme) == (cause, "q850"), caller
        assert call.answer is not None
        assert call.is_complete
        assert call.duration == call.billed_duration == call.end - call.answer
        assert digits(root) == pressed, caller
        assert [(leg.dest, leg.answer is not None, leg.hangup_original_code) for leg in legs] == sorted(dialled), caller
        for leg in legs:
            assert leg.direction == "outbound"
            assert leg.src == caller
            assert call.start <= leg.start <= leg.end <= call.end
            assert leg.duration == (leg.end - leg.answer if leg.answer else 0), caller
    for caller, seconds in SECONDS.items():
        call = found[caller][0].call
        assert (call.end - call.start) // 1000 == seconds


@pytest.mark.parametrize("cdr_file", [CDR, CDR_CUSTOM])
def test_cdrs_alone_give_the_same_calls_as_far_as_they_tell(cdr_file):
    found = by_caller(joined(rows_of(cdr_file)))
    assert found.keys() == SCENARIOS.keys()
    for caller, (dest, _, _, _, dialled) in SCENARIOS.items():
        root, legs = found[caller]
        # A call that dialled nothing has one CDR here, in which the number has made way for the extension h.
        assert root.call.dest == (dest if dialled else None), caller
        assert root.call.direction == "inbound"
        assert root.call.answer is not None
        assert not root.events
        assert [(leg.dest, leg.answer is not None) for leg in legs] == sorted(leg[:2] for leg in dialled), caller
        for leg in legs:
            assert root.call.start <= leg.start <= leg.end <= root.call.end
    assert found["+14155550003"][0].call.extra["userfield"] == "acct:4711"
    causes = {leg.dest: leg.hangup_original_code for leg in found["+14155550010"][1]}
    assert causes == {"601": "16", "602": "17", "603": "487"}


def test_cdrs_with_a_hangup_handlers_variable_tell_the_cause():
    found = by_caller(joined(rows_of(CDR_CUSTOM)))
    call = found["+14155550005"][0].call
    assert (call.hangup_original_code, call.hangup_source) == ("21", "switch")
    assert call.direction == "inbound"


def test_cel_alone_gives_the_same_calls():
    with_cdr, alone = by_caller(joined(rows_of(CEL, CDR))), by_caller(joined(rows_of(CEL)))
    for caller, (root, legs) in alone.items():
        both = with_cdr[caller][0].call
        fields = ("session_id", "src", "start", "answer", "end", "hangup_source", "hangup_original_code", "direction")
        assert [getattr(root.call, f) for f in fields] == [getattr(both, f) for f in fields]
        assert [leg.session_id for leg in legs] == [leg.session_id for leg in with_cdr[caller][1]]
        dialled = sorted(SCENARIOS[caller][4])
        assert [(leg.dest, leg.answer is not None, leg.hangup_original_code) for leg in legs] == dialled
        assert root.call.dest == SCENARIOS[caller][0]


def test_a_log_tells_what_the_caller_heard_and_pressed():
    root, [leg] = by_caller(joined(rows_of(CEL)))["+14155550001"]
    told = [
        (event.class_, event.line, event.data["module_type"], event.data["result_variable"]) for event in root.events
    ]
    assert [line for line in told if line[0] in {"prompt", "event"} or "Digit" in line[1]] == [
        ("prompt", "Playing welcome", "Playback", ""),
        ("prompt", "Playing menu", "Read", "choice"),
        ("info", "Digit 1", "Read", "choice"),
        ("event", "IVR_MENU(choice=1)", "IVR_MENU", "choice"),
        ("prompt", "Playing goodbye", "Playback", ""),
    ]
    assert [event.data["choice"] for event in root.events if event.class_ == "event"] == ["1"]
    stamps = [event.timestamp for event in root.events]
    assert stamps == sorted(stamps)
    assert root.events[-1].line == "Call ended"
    # What the agent heard is in the agent's log, where both halves of the Local channel are told.
    assert leg.channel == "Local/601@agents-00000001;1"
    events = joined(rows_of(CEL))[leg.session_id].events
    assert [(e.line, e.data["channel"]) for e in events if e.class_ == "prompt"] == [
        ("Playing thank-you", "Local/601@agents-00000001;2")
    ]


def test_every_row_of_cel_of_a_finished_call_is_an_event():
    rows = rows_of(CEL)
    assert sum(len(part.events) for part in joined(rows).values()) == len(rows)


def test_a_call_that_a_crash_cut_off_is_in_progress():
    [call] = calls(rows_of("odd/cel_of_call_lost_by_kill9.csv")).values()
    assert (call.src, call.dest, call.direction) == ("14155559001", "810", "inbound")
    assert call.answer is not None
    assert call.end is None
    assert call.hangup_original_code is None


def test_a_name_with_quotes_is_the_same_from_csv_and_from_broken_json():
    name = 'Quo\\"te, Cömma'
    for file in ("odd/Master_quote_in_name.csv", "odd/cdr_json_invalid_backslash_quote.json"):
        [call] = calls(rows_of(file)).values()
        assert call.extra["caller_name"] == name
        assert (call.src, call.dest) == ("14155559003", "810")
    [call] = calls(rows_of("odd/Master_quote_in_name.csv", "odd/cdr_json_invalid_backslash_quote.json")).values()
    # Of one CDR in two files the one with microseconds counts.
    assert (call.start, call.answer, call.end) == (1795214145481, 1795214145482, 1795214145985)


PARTY = {"Num": "5550100", "Name": "Ann"}


def sip_call(*, last=()):
    """A call from a trunk to 200, which SIP/200 answers."""
    return [
        cel("CHAN_START", 0.0, "SIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        cel(
            "APP_START",
            0.1,
            "SIP/trunk-01",
            "a.1",
            Exten="200",
            Context="from-trunk",
            AppName="Dial",
            AppData="SIP/200&SIP/300@gw,20",
            **PARTY,
        ),
        cel("CHAN_START", 0.2, "SIP/200-02", "a.2", Exten="s", Context="from-internal"),
        cel("CHAN_START", 0.2, "SIP/gw-03", "a.3", Exten="s", Context="from-internal"),
        cel("ANSWER", 5.0, "SIP/200-02", "a.2", Num="200", AppName="AppDial"),
        cel("HANGUP", 5.1, "SIP/gw-03", "a.3", extra={"hangupcause": 26, "hangupsource": "", "dialstatus": ""}),
        cel("CHAN_END", 5.1, "SIP/gw-03", "a.3"),
        cel("ANSWER", 5.2, "SIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        *last,
    ]


def end(time, channel, uniqueid, cause=16, source="", status="ANSWER"):
    extra = {"hangupcause": cause, "hangupsource": source, "dialstatus": status}
    return [cel("HANGUP", time, channel, uniqueid, extra=extra), cel("CHAN_END", time, channel, uniqueid)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [("SIP/trunk-01", "caller"), ("SIP/200-02", "callee"), ("dialplan/builtin", "switch"), ("", "switch")],
)
def test_the_channel_that_hung_up_first_is_the_side_that_ended_the_call(source, expected):
    rows = sip_call(last=[
        *end(30, "SIP/200-02", "a.2"),
        *end(30.01, "SIP/trunk-01", "a.1", source=source),
        cel("LINKEDID_END", 30.01, "SIP/trunk-01", "a.1"),
    ])  # fmt: skip
    found = calls(rows)
    assert found["a.1"].hangup_source == expected
    assert (found["a.1"].src, found["a.1"].dest, found["a.1"].direction) == ("5550100", "200", "inbound")
    assert found["a.1"].answer - found["a.1"].start == 5200
    assert {session: call.dest for session, call in found.items()} == {"a.1": "200", "a.2": "200", "a.3": "300"}


def test_a_channel_without_a_uniqueid_is_a_leg_by_its_name():
    rows = [
        cel("CHAN_START", 0, "PJSIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        cel("CHAN_START", 1, "PJSIP/200-02", ""),
        cel("LINKEDID_END", 9, "PJSIP/trunk-01", "a.1"),
    ]
    assert calls(rows).keys() == {"a.1", "a.1/PJSIP/200-02"}


def test_a_caller_who_gives_up_cancelled_the_call():
    rows = [
        cel("CHAN_START", 0, "PJSIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        *end(9, "PJSIP/trunk-01", "a.1", cause=0, source="PJSIP/trunk-01", status="CANCEL"),
        cel("LINKEDID_END", 9, "PJSIP/trunk-01", "a.1"),
    ]
    call = calls(rows)["a.1"]
    assert (call.hangup_original_code, call.hangup_original_scheme) == ("487", "sip")
    assert (call.hangup_source, call.answer, call.duration, call.billed_duration) == ("caller", None, 0, 0)


def test_a_caller_who_gives_up_on_chan_pjsip_cancelled_the_call_and_is_no_error():
    rows = [
        cel("CHAN_START", 0, "PJSIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        cel("CHAN_START", 1, "PJSIP/200-02", "a.2"),
        *end(9, "PJSIP/200-02", "a.2", cause=127),
        *end(9.1, "PJSIP/trunk-01", "a.1", cause=127, source="PJSIP/trunk-01", status="CANCEL"),
        cel("LINKEDID_END", 9.2, "PJSIP/trunk-01", "a.1"),
    ]
    parts = joined(rows)
    assert {session: part.call.hangup_original_code for session, part in parts.items()} == {"a.1": "487", "a.2": "487"}
    assert parts["a.1"].call.hangup_source == "caller"
    assert [event for part in parts.values() for event in part.events if event.class_ == "error"] == []


def test_what_a_far_end_answers_that_has_no_cause_is_an_error_of_the_leg():
    rows = [
        cel("CHAN_START", 0, "PJSIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        cel("CHAN_START", 1, "PJSIP/200-02", "a.2"),
        *end(2, "PJSIP/200-02", "a.2", cause=127, source="PJSIP/200-02"),
        *end(2, "PJSIP/trunk-01", "a.1", cause=127, source="dialplan/builtin", status="CHANUNAVAIL"),
        cel("LINKEDID_END", 3, "PJSIP/trunk-01", "a.1"),
    ]
    parts = joined(rows)
    assert {session: part.call.hangup_original_code for session, part in parts.items()} == {"a.1": "127", "a.2": "127"}
    assert [event.line for event in parts["a.2"].events if event.class_ == "error"] == ["Hung up, cause 127"]


def test_a_network_failure_is_an_error_in_the_log():
    rows = [
        cel("CHAN_START", 0, "PJSIP/trunk-01", "a.1", Exten="200", Context="from-trunk", **PARTY),
        *end(9, "PJSIP/trunk-01", "a.1", cause=34, status="CONGESTION"),
        cel("LINKEDID_END", 9, "PJSIP/trunk-01", "a.1"),
    ]
    [event] = [event for event in joined(rows)["a.1"].events if event.class_ == "error"]
    assert event.line == "Hung up, cause 34"


def test_a_blind_transfer_is_a_call_of_its_own_from_the_one_who_was_transferred():
    transfer = {
        "extension": "601",
        "context": "xfer",
        "bridge_id": "b",
        "transferee_channel_name": "SIP/trunk-01",
        "transferee_channel_uniqueid": "a.1",
    }
    rows = sip_call(last=[
        cel("BLINDTRANSFER", 20, "SIP/200-02", "a.2", extra=transfer),
        *end(20, "SIP/200-02", "a.2"),
        cel("CHAN_START", 20.5, "SIP/601-04", "a.4", Exten="s", Context="from-internal"),
        cel("ANSWER", 22, "SIP/601-04", "a.4"),
        cel("BRIDGE_ENTER", 22.1, "SIP/trunk-01", "a.1", extra={"bridge_id": "c"}, **PARTY),
        *end(40, "SIP/601-04", "a.4"),
        *end(40.1, "SIP/trunk-01", "a.1", source="SIP/601-04"),
        cel("LINKEDID_END", 40.1, "SIP/trunk-01", "a.1"),
    ])  # fmt: skip
    found = calls(rows)
    [transferred] = [call for call in found.values() if call.direction == "transfer"]
    assert transferred.parent_call_uuid == "a.1"
    assert (transferred.src, transferred.dest) == ("5550100", "601")
    start = 1_795_000_000_000
    assert (transferred.start, transferred.answer, transferred.end) == (start + 20_000, start + 22_100, start + 40_100)
    # The call went to 200 all the same, though a CDR would now say 601.
    assert found["a.1"].dest == "200"
    assert found["a.1"].hangup_source == "callee"


def test_an_attended_transfer_joins_the_caller_with_the_one_who_was_asked():
    transfer = {
        "bridge1_id": "b1",
        "channel2_name": "SIP/200-05",
        "channel2_uniqueid": "b.5",
        "bridge2_id": "b2",
        "transferee_channel_name": "SIP/trunk-01",
        "transferee_channel_uniqueid": "a.1",
        "transfer_target_channel_name": "SIP/300-06",
        "transfer_target_channel_uniqueid": "b.6",
    }
    consultation = [
        cel("CHAN_START", 10, "SIP/200-05", "b.5", "b.5", Exten="300", Context="from-internal", Num="200"),
        cel("CHAN_START", 10.1, "SIP/300-06", "b.6", "b.5", Exten="s", Context="from-internal"),
        cel("ANSWER", 12, "SIP/300-06", "b.6", "b.5", Num="300"),
        cel("LINKEDID_END", 20.2, "SIP/300-06", "b.6", "b.5"),
    ]
    rows = sip_call(last=[
        cel("ATTENDEDTRANSFER", 20, "SIP/200-02", "a.2", extra=transfer),
        *end(20.1, "SIP/200-02", "a.2"),
        *end(20.1, "SIP/200-05", "b.5"),
        cel("BRIDGE_ENTER", 20.2, "SIP/300-06", "b.6", Num="300", AppName="AppDial", extra={"bridge_id": "b1"}),
        *end(50, "SIP/300-06", "b.6", source="SIP/300-06"),
        *end(50.1, "SIP/trunk-01", "a.1", source="SIP/300-06"),
        cel("LINKEDID_END", 50.1, "SIP/trunk-01", "a.1"),
    ])  # fmt: skip
    found = calls([*rows, *consultation])
    [transferred] = [call for call in found.values() if call.direction == "transfer"]
    assert (transferred.src, transferred.dest, transferred.parent_call_uuid) == ("5550100", "300", "a.1")
    assert transferred.end - transferred.answer == 30_100
    # The consultation is a call of its own, which ended when its channels did, though that is told with the first one.
    assert (found["b.5"].src, found["b.5"].dest, found["b.5"].direction) == ("200", "300", "outbound")
    assert (found["b.5"].end, found["b.5"].hangup_original_code) == (1_795_000_020_100, "16")
    leg = found["b.6"]
    assert (leg.parent_call_uuid, leg.dest, leg.hangup_source) == ("b.5", "300", "callee")
    assert (leg.answer, leg.end) == (1_795_000_012_000, 1_795_000_050_000)
    assert found.keys() == {"a.1", "a.2", "a.3", "b.5", "b.6", transferred.session_id}


def test_a_call_that_asterisk_places_goes_to_where_it_is_sent_when_answered():
    rows = [
        cel("CHAN_START", 0, "SIP/gw-01", "a.1", Exten="", Context="from-gw"),
        cel(
            "ANSWER", 4, "SIP/gw-01", "a.1", AppName="AppDial2", AppData="(Outgoing Line)", Context="from-gw", Num="99"
        ),
        cel(
            "APP_START", 4.1, "SIP/gw-01", "a.1", AppName="Playback", AppData="hi", Exten="77", Context="outbound-poll"
        ),
        *end(9, "SIP/gw-01", "a.1"),
        cel("LINKEDID_END", 9, "SIP/gw-01", "a.1"),
    ]
    call = calls(rows)["a.1"]
    assert (call.src, call.dest, call.direction) == ("99", "77", "outbound")


def test_contexts_of_ones_own_tell_the_direction():
    rows = sip_call(last=[cel("LINKEDID_END", 9, "SIP/trunk-01", "a.1")])
    assert calls(rows, inbound="x", outbound="from-t*")["a.1"].direction == "outbound"
    assert calls(rows, inbound="x", outbound="from-t")["a.1"].direction is None


def test_the_sip_call_id_that_a_dialplan_sets_is_kept():
    columns = "calldate,src,dst,dcontext,channel,dstchannel,disposition,duration,billsec,uniqueid,linkedid,sip_call_id"
    row = "2026-11-20 10:00:00,1,2,from-trunk,SIP/t-1,,ANSWERED,10,8,a.1,a.1,4711@example.com"
    from sources.asterisk_rows import split

    [call] = calls(split(f"{columns}\n{row}\n".encode())).values()
    assert call.sip_call_id == "4711@example.com"
    # Such tables have neither an end nor an answer.
    assert (call.end - call.start, call.answer - call.start) == (10_000, 2_000)
