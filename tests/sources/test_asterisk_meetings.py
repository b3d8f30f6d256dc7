"""Channels that meet without dialling one another, and calls that nobody answered; all rows were made up.

They follow what Asterisk 20 writes: a channel that meets an older one gets its linkedid, in CEL from that row on, and
the old linkedid ends; CDRs are written later and have the new one throughout.
"""

import random

import pytest

from conftest import KEEP_ALL
from serving import wait_until
from sources.asterisk_rows import calls, cdr, cel, ended, joined
from sources.switch_calls import OF_ARRIVAL, post, stored_calls

START = 1_795_000_000_000
ANN, BOB = "PJSIP/trunk-00000001", "PJSIP/trunk-00000002"
PHONE, OTHER = "PJSIP/200-00000003", "PJSIP/300-00000004"
FROM_ANN = {"Num": "5550100", "Name": "Ann"}
FROM_BOB = {"Num": "5550200", "Name": "Bob"}


def start(time, channel, uniqueid, exten, context="from-trunk", **more):
    return cel("CHAN_START", time, channel, uniqueid, uniqueid, Exten=exten, Context=context, **more)


def conferring(kind, time, channel, uniqueid, linkedid, **more):
    bridge = {"bridge_id": "5f0c", "bridge_technology": "softmix"} if kind.startswith("BRIDGE") else None
    application = {"Exten": "700", "Context": "from-trunk", "AppName": "ConfBridge", "AppData": "700"}
    return cel(kind, time, channel, uniqueid, linkedid, extra=bridge, **application, **more)


# Ann calls into a conference, Bob ten seconds later; Ann leaves after a minute, Bob half a minute later.
ANNS = [
    start(0, ANN, "a.1", "700", **FROM_ANN),
    cel("ANSWER", 0.1, ANN, "a.1", **FROM_ANN),
    conferring("APP_START", 0.2, ANN, "a.1", "a.1", **FROM_ANN),
    conferring("BRIDGE_ENTER", 0.3, ANN, "a.1", "a.1", **FROM_ANN),
    *ended(60, ANN, "a.1", source=ANN, **FROM_ANN),
]
BOBS = [
    start(10, BOB, "b.1", "700", **FROM_BOB),
    cel("ANSWER", 10.1, BOB, "b.1", "b.1", **FROM_BOB),
    conferring("APP_START", 10.2, BOB, "b.1", "b.1", **FROM_BOB),
    cel("LINKEDID_END", 10.29, BOB, "b.1", "b.1", **FROM_BOB),
]
MET = [
    conferring("BRIDGE_ENTER", 10.3, BOB, "b.1", "a.1", **FROM_BOB),
    *ended(90, BOB, "b.1", source=BOB, **FROM_BOB),
    cel("LINKEDID_END", 90, BOB, "b.1", **FROM_BOB),
]
CONFERENCE_CDRS = [
    cdr("a.1", ANN, BOB, "5550100", "700", "ConfBridge", (0, 0, 60)),
    cdr("b.1", BOB, "", "5550200", "700", "ConfBridge", (10, 10, 90), sequence=1),
]


@pytest.mark.parametrize("rows", [[*ANNS, *BOBS, *MET], CONFERENCE_CDRS, [*ANNS, *BOBS, *MET, *CONFERENCE_CDRS]])
def test_each_participant_of_a_conference_has_a_call_of_his_own_until_he_leaves(rows):
    found = calls(rows)
    assert found.keys() == {"a.1", "b.1"}
    ann, bob = found["a.1"], found["b.1"]
    assert (ann.src, ann.dest, ann.direction, ann.end - START) == ("5550100", "700", "inbound", 60_000)
    assert (bob.src, bob.dest, bob.direction, bob.parent_call_uuid) == ("5550200", "700", "inbound", None)
    assert ((bob.start - START) // 1000, (bob.answer - START) // 1000, bob.end - START) == (10, 10, 90_000)
    assert bob.hangup_original_code == "16"
    assert bob.extra["linkedid"] == "a.1"
    if ANNS[0] in rows:
        assert (ann.hangup_source, bob.hangup_source) == ("caller", "caller")
        assert ann.conference_uuid == bob.conference_uuid == "5f0c"


def test_a_participant_s_log_goes_from_his_first_step_to_his_last():
    parts = joined([*ANNS, *BOBS, *MET])
    assert [event.line for event in parts["b.1"].events] == [
        "Channel started",
        "Answered",
        "ConfBridge(700)",
        "Call ended",
        "Connected",
        "Hung up, cause 16",
        "Channel ended",
        "Call ended",
    ]


def test_a_conference_is_the_same_in_whatever_order_and_pieces_its_rows_come(server):
    dice = random.Random(7)
    rows = [*ANNS, *BOBS, *MET]
    seen = []
    for number in range(6):
        login = server.account(f"conference-{number}@example.com")
        if number:
            dice.shuffle(rows)
        at = 0
        while at < len(rows):
            more = dice.choice([1, 2, 5]) if number else len(rows)
            reply = post(server, login, "asterisk", b"\n".join([*rows[:1], *rows[at : at + more]]))
            assert reply["rejected"] == []
            at += more
        found = stored_calls(server, login)
        kept = {name: {k: v for k, v in call.items() if k not in OF_ARRIVAL} for name, call in found.items()}
        log = server.client.get("/api/call/b.1", auth=login.fuse).content
        seen.append((kept, sorted(log.split(b"},{"))))
    assert all(one == seen[0] for one in seen)
    bob = seen[0][0]["b.1"]
    assert (bob["started"], bob["answered"], bob["ended"]) == (START + 10_000, START + 10_100, START + 90_000)
    assert bob["event_count"] == 8


def test_a_guess_at_the_end_of_who_met_another_call_makes_way_for_what_is_told(own_server):
    server = own_server(*KEEP_ALL, "sources.asterisk.lost_after=0s")
    one, two = server.account("told-late@example.com"), server.account("told-first@example.com")
    post(server, one, "asterisk", b"\n".join(BOBS))
    post(server, two, "asterisk", b"\n".join([*ANNS, *BOBS, *MET]))
    # The upkeep of a server that starts does not wait for its next round.
    server.stop()
    server.start()
    wait_until(lambda: stored_calls(server, one)["b.1"]["ended"], "the call is not closed")
    [guess] = stored_calls(server, one).values()
    assert (guess["hangup_cause_name"], guess["ended"]) == ("Unknown", START + 10_290)
    post(server, one, "asterisk", b"\n".join([*ANNS, *MET]))
    for login in (one, two):
        bob = stored_calls(server, login)["b.1"]
        assert (bob["ended"], bob["hangup_cause_name"], bob["hangup_cause_code"]) == (START + 90_000, None, None)
        assert bob["hangup_original_code"] == "16"


def test_who_picks_up_takes_the_place_of_the_telephone_that_rang():
    rows = [
        start(0, ANN, "a.1", "200", **FROM_ANN),
        cel("CHAN_START", 0.2, PHONE, "a.2", Exten="s", Context="from-internal"),
        start(5, OTHER, "d.1", "*8", "from-internal", Num="300"),
        cel("ANSWER", 5.2, OTHER, "d.1", "d.1", Num="300"),
        cel("PICKUP", 5.2, PHONE, "a.2", extra={"pickup_channel": OTHER}),
        *ended(5.3, f"{PHONE}<ZOMBIE>", "d.1", "d.1", Num="300"),
        cel("LINKEDID_END", 5.3, f"{PHONE}<ZOMBIE>", "d.1", "d.1", Num="300"),
        cel("ANSWER", 5.3, OTHER, "a.2", Num="200", AppName="AppDial"),
        cel("ANSWER", 5.3, ANN, "a.1", Exten="200", Context="from-trunk", **FROM_ANN),
        *ended(30, OTHER, "a.2", source=OTHER, Num="200"),
        *ended(30.01, ANN, "a.1", source=OTHER, status="ANSWER", **FROM_ANN),
        cel("LINKEDID_END", 30.01, ANN, "a.1", **FROM_ANN),
    ]
    cdrs = [cdr("a.1", ANN, OTHER, "5550100", "200", "Dial", (0, 5, 30), data="PJSIP/200,30")]
    for told in (rows, [*rows, *cdrs]):
        found = calls(told)
        assert found.keys() == {"a.1", "a.2", "d.1"}
        assert (found["a.1"].dest, found["a.1"].hangup_source) == ("200", "callee")
        assert (found["a.2"].dest, found["a.2"].hangup_source, found["a.2"].duration) == ("200", "callee", 24_700)
        assert (found["d.1"].src, found["d.1"].dest, found["d.1"].direction) == ("300", "*8", "outbound")


def test_a_channel_without_a_uniqueid_is_a_leg():
    rows = [*ANNS, cel("HANGUP", 60, BOB, "", "a.1"), cel("LINKEDID_END", 60, ANN, "a.1")]
    assert calls(rows).keys() == {"a.1", f"a.1/{BOB}"}


def test_a_channel_that_changed_its_name_is_one_call():
    rows = [
        *CONFERENCE_CDRS,
        cdr("b.1", f"{BOB}<ZOMBIE>", "", "5550200", "700", "ConfBridge", (90, 90, 91), sequence=2),
    ]
    found = calls(rows)
    assert found.keys() == {"a.1", "b.1"}
    assert (found["b.1"].start, found["b.1"].end) == (START + 10_000, START + 91_000)


def test_who_fetches_a_parked_call_has_a_call_of_his_own():
    rows = [
        cdr("a.1", ANN, PHONE, "5550100", "200", "Dial", (0, 3, 10), data="PJSIP/200,30"),
        cdr("a.1", ANN, "", "5550100", "200", "Park", (10, 10, 40), sequence=2),
        cdr("d.1", OTHER, ANN, "300", "701", "ParkedCall", (40, 40, 70), sequence=3, context="from-internal"),
    ]
    found = calls(rows)
    assert found.keys() == {"a.1", f"a.1/{PHONE}", "d.1"}
    fetched = found["d.1"]
    assert (fetched.src, fetched.dest, fetched.direction) == ("300", "701", "outbound")
    assert (fetched.start, fetched.end) == (START + 40_000, START + 70_000)


def ringing(*last):
    """Ann calls 200, whose telephone rings; *last* is how it ends."""
    return [
        start(0, ANN, "a.1", "200", **FROM_ANN),
        cel("CHAN_START", 0.2, PHONE, "a.2", Exten="s", Context="from-internal"),
        *last,
        cel("LINKEDID_END", 20.3, ANN, "a.1"),
    ]


@pytest.mark.parametrize("cause", [0, 16, 127])
def test_a_caller_who_gives_up_cancels_the_call_whatever_cause_his_channel_has(cause):
    rows = ringing(
        *ended(20.2, PHONE, "a.2", cause=0 if cause == 16 else cause, Num="200", AppName="AppDial"),
        *ended(20.3, ANN, "a.1", cause=cause, source=ANN, status="CANCEL", **FROM_ANN),
    )
    parts = joined(rows)
    for session in ("a.1", "a.2"):
        call = parts[session].call
        assert (call.hangup_original_code, call.hangup_original_scheme) == ("487", "sip"), session
        assert (call.answer, call.duration, call.billed_duration) == (None, 0, 0)
        assert not [event for event in parts[session].events if event.class_ == "error"]
    assert parts["a.1"].call.hangup_source == "caller"


def test_a_telephone_that_rang_in_vain_was_not_answered():
    rows = ringing(
        *ended(20.2, PHONE, "a.2", cause=0, Num="200", AppName="AppDial"),
        *ended(20.3, ANN, "a.1", cause=0, source="dialplan/builtin", status="NOANSWER", **FROM_ANN),
    )
    found = calls(rows)
    assert [found[session].hangup_original_code for session in ("a.1", "a.2")] == ["19", "19"]
    assert found["a.1"].hangup_source == "switch"


def test_a_cause_of_the_network_is_an_error_still():
    rows = ringing(*ended(20.3, ANN, "a.1", cause=127, source="dialplan/builtin", **FROM_ANN))
    [event] = [event for event in joined(rows)["a.1"].events if event.class_ == "error"]
    assert event.line == "Hung up, cause 127"


def test_a_call_that_asterisk_placed_in_vain_says_whom_it_called():
    placed = {"Exten": "s", "Context": "from-internal"}
    told = [
        cel("CHAN_START", 0, PHONE, "a.1", **placed),
        *ended(20, PHONE, "a.1", cause=0, AppName="AppDial2"),
        cel("LINKEDID_END", 20, PHONE, "a.1"),
    ]
    written = [cdr("a.1", PHONE, "", "", "failed", "AppDial2", (0, None, 20), context="from-internal")]
    for rows in (told, written):
        [call] = calls(rows).values()
        assert (call.src, call.dest, call.direction, call.hangup_original_code) == (None, "200", "outbound", "19")


def test_a_call_file_makes_an_outbound_call_to_its_number():
    """Its Local channel is the call; what the second half of it dialled is the leg."""
    first, second = "Local/5550300@dialout-00000001;1", "Local/5550300@dialout-00000001;2"
    rows = [
        cdr("a.1", first, "", "", "s", "Playback", (0, 8, 20), context="campaign"),
        cdr("a.2", second, BOB, "", "5550300", "Dial", (0, 8, 20), sequence=1, data="PJSIP/5550300@trunk"),
    ]
    found = calls(rows)
    call, leg = found["a.1"], found[f"a.1/{BOB}"]
    assert (call.src, call.dest, call.direction, call.duration) == (None, "5550300", "outbound", 12_000)
    assert (leg.dest, leg.direction, leg.parent_call_uuid) == ("5550300", "outbound", "a.1")


@pytest.mark.parametrize(("disposition", "cause"), [("NO ANSWER", "19"), ("BUSY", "17"), ("CONGESTION", "34")])
def test_what_a_dialplan_does_after_a_dial_that_failed_does_not_hide_why(disposition, cause):
    """As captured: after a Dial that timed out and a Hangup(0) there is one more CDR, which says FAILED."""
    rows = [
        cdr("a.1", ANN, PHONE, "5550100", "200", "Dial", (0, None, 20), disposition=disposition),
        cdr("a.1", ANN, "", "5550100", "200", "Hangup", (20, None, 20), disposition="FAILED", sequence=1),
    ]
    call = calls(rows)["a.1"]
    assert (call.hangup_original_code, call.extra["disposition"]) == (cause, disposition)


def test_a_call_that_asterisk_placed_has_the_number_of_whom_it_called_first():
    rows = [
        cdr("a.1", PHONE, "", "", "s", "AppDial2", (0, 4, 4), context="from-internal"),
        cdr("a.1", PHONE, BOB, "200", "0044123", "Dial", (4, 9, 30), sequence=1, context="from-internal"),
    ]
    call = calls(rows)["a.1"]
    assert (call.src, call.dest, call.duration) == ("200", "0044123", 26_000)


def test_a_leg_that_its_caller_transferred_lasts_until_its_end():
    rows = [
        cdr("a.1", OTHER, PHONE, "300", "200", "Dial", (0, 3, 20), data="PJSIP/200", context="from-internal"),
        cdr("a.2", PHONE, BOB, "200", "601", "Dial", (20, 22, 50), data="PJSIP/601@trunk", sequence=1),
    ]
    found = calls(rows)
    leg = found[f"a.1/{PHONE}"]
    assert (leg.src, leg.dest, leg.answer, leg.end) == ("300", "200", START + 3_000, START + 50_000)
    assert found["a.1"].end == START + 20_000


def test_a_clock_that_was_set_back_does_not_hide_where_the_call_began():
    rows = [
        start(100, ANN, "a.1", "200", **FROM_ANN),
        *ended(80, ANN, "a.1", source=ANN, **FROM_ANN),
        cel("LINKEDID_END", 80, ANN, "a.1"),
    ]
    [call] = calls(rows).values()
    assert (call.dest, call.direction, call.start, call.end) == ("200", "inbound", START + 100_000, START + 100_000)
