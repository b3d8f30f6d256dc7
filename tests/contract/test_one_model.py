"""One set of calls, read through every API: what one shows of a call agrees with what the others show of it."""

import re
import time
import unicodedata
from datetime import datetime

import pytest

from serving import Server, get, send

ODD = "Zoë 日本 \U0001f4de \u202e\u2028<b>&amp;\"'\\/ \t\r\n\x01\x1f\x7f%25"
"""Unicode beyond the first plane, direction marks, markup, escapes and control characters."""


def records(now):
    """Native records of calls that began in the last hours: every kind of call that the APIs tell apart."""
    event = {
        "timestamp": now - 7190,
        "class": "prompt",
        "line": ODD,
        "data": {"module_type": ODD, "result_variable": "x"},
    }
    error = {"timestamp": now - 7185, "class": "error", "line": "errno: 210 message " + ODD, "data": {}}
    return [
        {"session_id": "in;001;1", "direction": "inbound", "src": "2125551234", "dest": "8009957586",
         "start": now - 7200, "answer": now - 7195.5, "end": now - 7100.25, "events": [event, error]},
        {"session_id": "out;002;1", "direction": "outbound", "src": "8009957586", "dest": "+12125551234",
         "start": now - 7000, "answer": now - 6990, "end": now - 6900, "events": [{**event, "timestamp": now - 6980}]},
        {"session_id": "transferred", "direction": "inbound", "src": "3105551234", "dest": "8009957586",
         "start": now - 6000.001, "answer": now - 5999, "end": now - 5000, "call_uuid": "a-leg",
         "events": [{**event, "timestamp": now - 5990}]},
        {"session_id": "transfer leg", "direction": "transfer", "src": "3105551234", "dest": "sip:agent@pbx.example",
         "start": now - 5900, "answer": now - 5890, "end": now - 5000, "parent_call_uuid": "a-leg"},
        {"session_id": "unanswered", "direction": "outbound", "src": "8009957586", "dest": "16175550100",
         "start": now - 4000, "end": now - 3970, "hangup_original_scheme": "q850", "hangup_original_code": "19"},
        {"session_id": "busy", "direction": "outbound", "src": "8009957586", "dest": "16175550101", "start": now - 3900,
         "end": now - 3899, "hangup_original_scheme": "sip", "hangup_original_code": "486"},
        {"session_id": "failed", "direction": "outbound", "dest": "16175550102", "start": now - 3800, "end": now - 3800,
         "hangup_cause_code": 5010, "events": [{**error, "timestamp": now - 3800}]},
        {"session_id": ODD.replace("/", "|"), "src": ODD, "dest": ODD, "start": now - 3700, "answer": now - 3690,
         "end": now - 3600, "hangup_cause_name": ODD, "hangup_source": ODD, "conference_uuid": ODD, "source_ip": ODD,
         "stir_verification": ODD, "stir_attestation": ODD, "voice_network_group": ODD, "application_name": ODD,
         "application_version": ODD, "location": ODD, "channel": ODD, "call_uuid": ODD, "anything else": ODD,
         "events": [{**event, "timestamp": now - 3650}]},
        # Two of one instant: their order must be the same everywhere.
        {"session_id": "tie a", "src": "1", "dest": "2", "start": now - 3500, "end": now - 3400},
        {"session_id": "tie b", "src": "1", "dest": "2", "start": now - 3500, "end": now - 3400},
        {"session_id": "in progress", "src": "1", "dest": "2", "start": now - 3300,
         "events": [{**event, "timestamp": now - 3290}]},
        {"session_id": "queued", "direction": "outbound", "src": "1", "dest": "2"},
    ]  # fmt: skip


class Views:
    """The lists of each API over the same window."""

    def __init__(self, server, login, now):
        def dev(route):
            answer = get_dev(f"{route}/{now - 86400}/{now}")
            return int(answer[f"total_{route}"]), answer[route]

        def get_dev(path):
            answer = server.client.get(f"/ws/calls/{path}", auth=(login.login, login.password))
            assert answer.status_code == 200, answer.text
            return answer.json()["result"]

        def fuse(route):
            body = get(server, login, f"/api/{route}/{now - 86400}/{now}").json()
            return body["total_calls"], body["calls"]

        def plivo(**parameters):
            path = f"/v1/Account/{login.auth_id}/Call/"
            answer = server.client.get(path, params=parameters, auth=(login.auth_id, login.auth_token))
            assert answer.status_code == 200, answer.text
            return answer.json()

        self.login = login
        self.fuse_total, self.fuse = fuse("calls")
        _, self.detailed = fuse("all_logs")
        self.logs_total, self.logs = dev("logs")
        self.sessions_total, lines = dev("sessions")
        self.sessions = [SESSION.fullmatch(line) for line in lines]
        self.errors_total, self.errors = dev("errors")
        body = plivo(limit=100)
        self.plivo_total, self.plivo = body["meta"]["total_count"], body["objects"]
        self.live = plivo(status="live")["calls"]
        self.queued = plivo(status="queued")["calls"]
        self.text = {log["session_id"]: get_dev(f"log/{log['log_id']}") for log in self.logs}


SESSION = re.compile(
    r"(?P<type>\S+) (?P<ani>\S+) (?P<channel>\S+) \[(?P<time>[^]]+)\] (?P<dnis>\S+) (?P<id>\S+) "
    r"(?P<start>\d+) (?P<end>\d+) (?P<length>\d\d:\d\d:\d\d)"
)


@pytest.fixture(scope="module")
def now_seconds():
    return int(time.time())


@pytest.fixture(scope="module")
def views(tmp_path_factory, now_seconds):
    with Server(tmp_path_factory.mktemp("views") / "data", "plivo.max_limit=100") as server:
        login = server.account("views@example.com", "--login", "views", "--timezone", "America/New_York")
        sent = records(now_seconds)
        reply = send(server, login, sent)
        assert (reply["accepted"], reply["rejected"]) == (len(sent), [])
        yield Views(server, login, now_seconds)


@pytest.fixture(scope="module")
def completed(now_seconds):
    """What was sent of the calls that are over, newest first, ties by session id."""
    calls = [call for call in records(now_seconds) if "end" in call]
    return sorted(calls, key=lambda call: (call["start"], call["session_id"]), reverse=True)


def column(text):
    """A text as a column of a DEV line has it."""
    return "".join("_" if c.isspace() or unicodedata.category(c) == "Cc" else c for c in text or "-")


def test_every_api_lists_the_same_calls_in_the_same_order_and_counts_them_alike(views, completed):
    sessions = [call["session_id"] for call in completed]
    assert [call["session_id"] for call in views.fuse] == sessions
    assert [call["session_id"] for call in views.detailed] == sessions
    assert [line["id"] for line in reversed(views.sessions)] == [column(session) for session in sessions]
    assert [call["session_id"] for call in views.logs] == [c["session_id"] for c in completed if c.get("events")]
    assert len(views.plivo) == len(sessions)
    assert views.fuse_total == views.plivo_total == views.sessions_total == len(completed)
    assert views.logs_total == len(views.logs)


def test_every_api_shows_the_same_times(views, completed):
    for call, fuse, line, plivo in zip(completed, views.fuse, reversed(views.sessions), views.plivo, strict=True):
        start, end = int(call["start"]), int(call["end"])
        assert (fuse["start"], fuse["end"]) == (start, end)
        assert (int(line["start"]), int(line["end"])) == (start, end)
        assert datetime.strptime(line["time"], "%d/%b/%Y:%H:%M:%S %z").timestamp() == start
        assert datetime.fromisoformat(plivo["initiation_time"]).timestamp() == start
        assert datetime.fromisoformat(plivo["end_time"]).timestamp() == end
        assert (
            datetime.fromisoformat(plivo["initiation_time"]).utcoffset()
            == datetime.strptime(line["time"], "%d/%b/%Y:%H:%M:%S %z").utcoffset()
        )
        hours, minutes, seconds = map(int, line["length"].split(":"))
        assert 3600 * hours + 60 * minutes + seconds == end - start
        if "answer" in call:
            assert datetime.fromisoformat(plivo["answer_time"]).timestamp() == int(call["answer"])
            assert plivo["call_state"] == "ANSWER"
        else:
            assert (plivo["answer_time"], plivo["call_state"]) == (None, None)
    for log in views.logs:
        [call] = [call for call in completed if call["session_id"] == log["session_id"]]
        assert (log["start"], log["end"]) == (str(int(call["start"])), str(int(call["end"])))
        assert views.text[log["session_id"]]["timestamp"] == log["start"]


def test_every_api_shows_the_same_numbers_and_directions_each_in_its_own_way(views, completed):
    for call, fuse, line, plivo in zip(completed, views.fuse, reversed(views.sessions), views.plivo, strict=True):
        direction, src, dest = call.get("direction", "inbound"), call.get("src"), call["dest"]
        outbound = direction == "outbound"
        assert fuse["type"] == line["type"] == direction
        assert plivo["call_direction"] == ("inbound" if direction == "inbound" else "outbound")
        assert (fuse["src"], fuse["dest"]) == ("Outbound" if outbound else src, dest)
        assert (plivo["from_number"], plivo["to_number"]) == (src, dest)
        parties = (dest, views.login.login) if outbound else (src, dest)
        assert (line["ani"], line["dnis"]) == tuple(map(column, parties))
    for log in views.logs:
        [fuse] = [call for call in views.fuse if call["session_id"] == log["session_id"]]
        assert log["type"] == fuse["type"]
        assert log["dest"] == views.text[log["session_id"]]["dest"] == fuse["dest"]


def test_every_api_tells_the_same_of_a_log(views, completed):
    for call, fuse, detailed in zip(completed, views.fuse, views.detailed, strict=True):
        events = call.get("events", [])
        assert fuse["log"] is detailed["log"] is bool(events)
        assert [event["event"]["line"] for event in detailed["detail"] or []] == [event["line"] for event in events]
        if events:
            lines = views.text[call["session_id"]]["log"].split("\n")
            assert len(lines) == len(events)
            for line, event in zip(lines, events, strict=True):
                assert line.endswith(
                    ": " + "".join(" " if c in "\u2028\t\r\n\x01\x1f\x7f" else c for c in event["line"])
                )
    errors = [event for call in completed for event in call.get("events", []) if event["class"] == "error"]
    assert views.errors_total == len(views.errors) == len(errors)


def test_legs_and_causes_are_told_in_plivos_words(views, completed):
    shown = dict(zip([call["session_id"] for call in completed], views.plivo, strict=True))
    assert shown["transfer leg"]["parent_call_uuid"] == shown["transferred"]["call_uuid"] == "a-leg"
    causes = {name: (shown[name]["hangup_cause_code"], shown[name]["hangup_cause_name"]) for name in shown}
    assert causes["unanswered"] == (3000, "No Answer")
    assert causes["busy"] == (3010, "Busy Line")
    assert causes["failed"] == (5010, "Internal Error")


def test_texts_come_back_whole_wherever_json_can_hold_them(views, completed):
    [at] = [n for n, call in enumerate(completed) if call.get("source_ip") == ODD]
    plivo = views.plivo[at]
    fields = {
        "from_number",
        "to_number",
        "hangup_cause_name",
        "hangup_source",
        "conference_uuid",
        "source_ip",
        "call_uuid",
    }
    fields |= {"stir_verification", "stir_attestation", "Stir_attestation", "voice_network_group"}
    assert {field: plivo[field] for field in fields} == dict.fromkeys(fields, ODD)
    assert (views.fuse[at]["src"], views.fuse[at]["dest"]) == (ODD, ODD)
    assert views.text[completed[at]["session_id"]]["location"] == ODD


def test_calls_in_progress_are_in_no_list_but_plivos_own(views):
    listed = {call["session_id"] for call in views.fuse} | {line["id"] for line in views.sessions}
    assert not listed & {"in progress", "in_progress", "queued"}
    assert len(views.live) == len(views.queued) == 1
    assert not set(views.live + views.queued) & {call["call_uuid"] for call in views.plivo}
