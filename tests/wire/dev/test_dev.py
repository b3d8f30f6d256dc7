"""The DEV API over real HTTP: parameters, forms, lines, errors and what is never shown."""

import json
import xml.etree.ElementTree as ET
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callhouse.model.number import number_key
from serving import callhouse, send

# The window of the calls holds the hour that Berlin's clocks show twice: 2023-10-29 03:00 +0200 is 02:00 +0100.
START = 1_698_541_200 - 600
ZONE = ZoneInfo("Europe/Berlin")
NUMBERS = ["6177123001", "+1 (617) 712-3001", "tel:6177123001;ani=8009957586", "16177123002", "sip:a@example.com", ""]
SERVICES = ("logs", "sessions", "errors")
ALWAYS = "1/99999999999"


def event(at, class_="prompt", line="Hello", **data):
    return {"timestamp": at, "class": class_, "line": line, "data": data}


def call(n):
    start = START + 60 * (n // 2)
    events = [event(start + 1)] if n % 4 == 0 else []
    # Some errors come after the next call has begun, and some two in one second.
    events += [event(start + 7 * n % 100, "error", f"errno: {n}.{m} at a/b") for m in range(n % 3)]
    return {
        "session_id": f"{n % 7:06};{n:03};{start - 9}" if n % 5 else f"own{n:03}",
        "src": f"212555{n:04}",
        "dest": NUMBERS[n % len(NUMBERS)],
        "start": start,
        "end": start + 30 + n,
        "direction": ["inbound", "outbound", "transfer"][n % 3],
        **({"channel": f"0{n}"} if n % 8 == 0 else {}),
        "events": events,
    }


CALLS = [call(n) for n in range(40)]


@pytest.fixture(scope="module")
def login(server):
    login = server.account("dev@example.com", "--login", "dev login", "--timezone", "Europe/Berlin")
    send(server, login, CALLS)
    return login


def get(server, login, path, **options):
    return server.client.get(f"/ws/calls/{path}", auth=login.dev, **options)


def bracket(seconds):
    return datetime.fromtimestamp(seconds, ZONE).strftime("[%d/%b/%Y:%H:%M:%S %z]")


def columns(c):
    """ANI, channel, DNIS and session of a call's lines."""
    ani, dnis = (c["dest"], "dev_login") if c["direction"] == "outbound" else (c["src"], c["dest"])
    by_session = c["session_id"].split(";")[1] if ";" in c["session_id"] else "0"
    dashed = [text.replace(" ", "_") or "-" for text in (ani, dnis)]
    return dashed[0], int(c.get("channel", by_session)), dashed[1], c["session_id"]


def session_line(c):
    ani, channel, dnis, session = columns(c)
    length = f"00:{(c['end'] - c['start']) // 60:02}:{(c['end'] - c['start']) % 60:02}"
    return f"{c['direction']} {ani} {channel} {bracket(c['start'])} {dnis} {session} {c['start']} {c['end']} {length}"


def error_lines(c):
    """With what orders them."""
    ani, channel, dnis, session = columns(c)
    errors = [e for e in c["events"] if e["class"] == "error"]
    return [
        ((e["timestamp"], session, n), f"error {ani} {channel} {bracket(e['timestamp'])} {dnis} {session} {e['line']}")
        for n, e in enumerate(errors)
    ]


def expected(service, since, until, number=None, limit=1000, offset=0):
    """What a list must be, in plain Python; a log without its id."""
    matching = sorted(
        (
            c
            for c in CALLS
            if since <= c["start"] < until and (number is None or number_key(c["dest"]) == number_key(number))
        ),
        key=lambda c: (c["start"], c["session_id"]),
    )
    if service == "sessions":
        members = [session_line(c) for c in matching]
    elif service == "errors":
        members = [line for _, line in sorted(pair for c in matching for pair in error_lines(c))]
    else:
        members = [
            {
                "session_id": c["session_id"],
                "dest": c["dest"],
                "type": c["direction"],
                "src": c["src"],
                "start": str(c["start"]),
                "end": str(c["end"]),
            }
            for c in reversed(matching)
            if c["events"]
        ]
    return members[offset : offset + limit], str(len(members))


optional = {
    "number": st.none() | st.sampled_from(NUMBERS[:-1]),
    "limit": st.none() | st.integers(1, 50),
    "offset": st.none() | st.integers(0, 50),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    service=st.sampled_from(SERVICES),
    window=st.tuples(st.integers(START - 10, START + 1300), st.integers(1, 1300)),
    parameters=st.fixed_dictionaries({}, optional=optional),
    xml=st.booleans(),
)
def test_any_valid_parameters_give_what_filtering_in_python_gives(server, login, service, window, parameters, xml):
    since, until = window[0], window[0] + window[1]
    asked = {name: value for name, value in parameters.items() if value is not None}
    members, total = expected(service, since, until, **asked)
    accept = {"Accept": "application/xml" if xml else "application/json"}
    answer = get(server, login, f"{service}/{since}/{until}", params=asked, headers=accept)
    assert answer.status_code == 200
    if xml:
        tree = ET.fromstring(answer.text)
        assert (tree.tag, tree.findtext("status"), tree.findtext("error")) == (service, "success", "")
        assert [element.tag for element in tree.find("result")] == [f"total_{service}", service]
        assert tree.findtext(f"result/total_{service}") == total
        found = tree.findall(f"result/{service}/{service[:-1]}")
        assert len(found) == len(tree.find(f"result/{service}"))
        shown = [{child.tag: child.text or "" for child in member} or member.text for member in found]
    else:
        body = answer.json()
        assert list(body) == ["status", "error", "result"]
        assert (body["status"], body["error"]) == ("success", "")
        assert list(body["result"]) == [f"total_{service}", service]
        assert body["result"][f"total_{service}"] == total
        shown = body["result"][service]
    if service == "logs":
        assert all(int(member.pop("log_id")) > 0 for member in shown)
    assert shown == members


BAD = [
    ("x/2", "start"),
    ("1/y", "end"),
    ("2/1", "end"),
    ("2/2", "end"),
    ("-1/2", "start"),
    ("1.5/2", "start"),
    ("1529552691000/1529552697000", "seconds expected"),
    ("100000000000/100000000001", "start"),
    ("1/2?limit=0", "limit is '0'; expected a whole number from 1 to 10000"),
    ("1/2?limit=10001", "1 to 10000"),
    ("1/2?limit=ten", "limit is 'ten'"),
    ("1/2?offset=-1", "offset"),
]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("window", "named"), BAD)
def test_a_bad_parameter_is_a_400_that_names_it_its_value_and_what_was_expected(server, login, service, window, named):
    answer = get(server, login, f"{service}/{window}")
    assert answer.status_code == 400
    body = answer.json()
    assert list(body) == ["status", "error"]
    assert body["status"] == "failure"
    assert named in body["error"]


anything = st.one_of(
    st.integers().map(str), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.just("0")
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    service=st.sampled_from([*SERVICES, "log"]),
    segments=st.lists(anything, max_size=3),
    parameters=st.dictionaries(st.sampled_from(["number", "limit", "offset", "sort"]), anything),
    accept=st.sampled_from(["application/xml", "application/json", "*/*"]),
)
def test_no_input_gives_a_5xx_and_every_failure_has_the_envelope(server, login, service, segments, parameters, accept):
    path = "/".join([service, *(quoted(segment) for segment in segments)])
    answer = get(server, login, path, params=parameters, headers={"Accept": accept})
    assert answer.status_code in {200, 400, 404}
    if answer.status_code != 200:
        if accept == "application/xml":
            tree = ET.fromstring(answer.content)
            assert [child.tag for child in tree] == ["status", "error"]
            assert (tree.tag, tree.findtext("status")) == (service, "failure")
            assert tree.findtext("error")
        else:
            body = answer.json()
            assert list(body) == ["status", "error"]
            assert body["status"] == "failure"
            assert body["error"]


def quoted(segment):
    return "".join(f"%{byte:02X}" for byte in segment.encode())


@pytest.mark.parametrize("path", ["logs/1/2", "log/1", "sessions/1/2", "errors/1/2"])
def test_failures_before_any_answer_have_the_envelope_and_the_root_of_their_service(server, login, path):
    service = path.partition("/")[0]
    xml = {"Accept": "application/xml"}
    refused = server.client.get(f"/ws/calls/{path}", headers=xml)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic realm=")
    assert refused.text.endswith(
        f"<{service}><status>failure</status><error>Unauthorized access to {service} service</error></{service}>"
    )
    wrong = server.client.get(f"/ws/calls/{path}", auth=login.fuse)
    assert (wrong.status_code, wrong.json()["error"]) == (401, f"Unauthorized access to {service} service")
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = server.client.request(method, f"/ws/calls/{path}", headers=xml)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert ET.fromstring(answer.text).tag == service
        assert ET.fromstring(answer.text).findtext("error") == "Invalid HTTP method supplied."
    nowhere = server.client.get(f"/ws/calls/{service}", auth=login.dev)
    assert (nowhere.status_code, nowhere.json()) == (404, {"status": "failure", "error": "Not found."})


def test_demo_accounts_and_inactive_ones_are_refused(server):
    demo = server.account("demo@example.com", "--login", "demo", "--plan", "demo")
    send(server, demo, [CALLS[0]])
    for path in ("logs/x/y", "log/1", f"sessions/{ALWAYS}", f"errors/{ALWAYS}"):
        answer = get(server, demo, path)
        assert answer.status_code == 401
        assert answer.json() == {"status": "failure", "error": "Logging is not available on demo accounts."}
    gone = server.account("gone@example.com", "--login", "gone")
    callhouse("accounts", "deactivate", gone.id, data=server.data)
    answer = get(server, gone, f"logs/{ALWAYS}")
    assert (answer.status_code, answer.json()["error"]) == (401, "This account is inactive.")


def test_an_empty_parameter_is_as_if_absent_and_an_unknown_one_is_named_in_a_header(server, login):
    for service in SERVICES:
        plain = get(server, login, f"{service}/{ALWAYS}")
        assert "x-ignored-parameters" not in plain.headers
        answer = get(server, login, f"{service}/{ALWAYS}?limit=&offset=&number=&sort=asc")
        assert answer.content == plain.content
        assert answer.headers["x-ignored-parameters"] == "sort"
    log_id = get(server, login, f"logs/{ALWAYS}").json()["result"]["logs"][0]["log_id"]
    assert get(server, login, f"log/{log_id}?limit=3").headers["x-ignored-parameters"] == "limit"


def test_head_answers_as_get_without_a_body(server, login):
    log_id = get(server, login, f"logs/{ALWAYS}").json()["result"]["logs"][0]["log_id"]
    for path in (*(f"{service}/{ALWAYS}" for service in SERVICES), f"log/{log_id}", "log/0", "logs/x/y"):
        got, head = get(server, login, path), server.client.head(f"/ws/calls/{path}", auth=login.dev)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == got.headers["content-length"]


def test_the_log_of_each_listed_call_has_a_line_for_each_event_in_order(server, login):
    entry_types = {"prompt": ("prompt", "EVENT"), "error": ("vxi", "ERROR")}
    by_session = {c["session_id"]: c for c in CALLS}
    for listed in get(server, login, f"logs/{ALWAYS}").json()["result"]["logs"]:
        sent = by_session[listed["session_id"]]
        answer = get(server, login, f"log/{listed['log_id']}")
        result = answer.json()["result"]
        assert list(result) == ["dest", "src", "type", "timestamp", "location", "log"]
        assert (result["dest"], result["timestamp"], result["location"]) == (sent["dest"], str(sent["start"]), "")
        lines = []
        for e in sorted(sent["events"], key=lambda e: e["timestamp"]):
            at = datetime.fromtimestamp(e["timestamp"], ZONE).strftime("%a %d %b %Y %I:%M:%S %p %Z")
            module, entry_type = entry_types[e["class"]]
            lines.append(f"{at} [{module}] ({sent['session_id']}) {entry_type}: {e['line']}")
        assert result["log"].split("\n") == lines
        xml = get(server, login, f"log/{listed['log_id']}", headers={"Accept": "application/xml"})
        assert ET.fromstring(xml.content).findtext("result/log") == result["log"]


def test_the_module_of_a_log_line_is_the_events_own_where_the_platform_knows_it(server):
    login = server.account("modules@example.com", "--login", "modules", "--timezone", "America/New_York")
    kinds = [
        ("event", "tel", "tel"), ("info", "eval_js", "jsi"), ("debug", "rest", "inet"), ("info", "email", "log"),
        ("event", "number", "dlg"), ("debug", 7, "vxi"), ("prompt", None, "prompt"), ("prompt", "transfer", "tel"),
    ]  # fmt: skip
    events = [
        {**event(1_030_544_218 + n, class_, f"line {n}", module_type=kind), "seq": n}
        for n, (class_, kind, _) in enumerate(kinds)
    ]
    send(server, login, [{"session_id": "s", "start": 1_030_544_218, "end": 1_030_544_240, "events": events}])
    [listed] = get(server, login, f"logs/{ALWAYS}").json()["result"]["logs"]
    lines = get(server, login, f"log/{listed['log_id']}").json()["result"]["log"].split("\n")
    assert [line.split("[")[1].split("]")[0] for line in lines] == [module for _, _, module in kinds]
    assert lines[0] == "Wed 28 Aug 2002 10:16:58 AM EDT [tel] (s) EVENT: line 0"
    types = ["EVENT", "LOCAL", "DEBUG", "LOCAL", "EVENT", "DEBUG", "EVENT", "EVENT"]
    assert [line.partition("(s) ")[2].partition(":")[0] for line in lines] == types


def test_what_callers_send_cannot_break_a_line_its_columns_or_the_json(server):
    login = server.account("evil@example.com", "--login", "evil")
    nasty = 'a b\tc\nd\r\u2028\x85/"<&\\ \u00e9'
    record = {
        "session_id": f"s {nasty}", "src": nasty, "dest": nasty, "channel": nasty, "location": nasty,
        "start": 1000, "end": 1001, "events": [event(1000, "error", nasty)],
    }  # fmt: skip
    send(server, login, [record])
    column = 'a_b_c_d___/"<&\\_\u00e9'
    message = 'a b c d   /"<&\\ \u00e9'
    [session] = get(server, login, f"sessions/{ALWAYS}").json()["result"]["sessions"]
    at = "[01/Jan/1970:00:16:40 +0000]"
    assert session == f"inbound {column} {column} {at} {column} s_{column} 1000 1001 00:00:01"
    [error] = get(server, login, f"errors/{ALWAYS}").json()["result"]["errors"]
    assert error == f"error {column} {column} {at} {column} s_{column} {message}"
    xml = get(server, login, f"errors/{ALWAYS}", headers={"Accept": "application/xml"})
    assert ET.fromstring(xml.content).findtext("result/errors/error") == error
    [listed] = get(server, login, f"logs/{ALWAYS}").json()["result"]["logs"]
    assert (listed["src"], listed["session_id"]) == (nasty, f"s {nasty}")
    one = get(server, login, f"log/{listed['log_id']}").json()["result"]
    assert one["location"] == nasty
    assert one["log"].count("\n") == 0
    for path in (f"sessions/{ALWAYS}", f"errors/{ALWAYS}", f"logs/{ALWAYS}", f"log/{listed['log_id']}"):
        text = get(server, login, path).text
        assert text.count("/") == text.count("\\/") > 0


def test_columns_of_a_call_of_which_little_is_known_are_dashes_and_channel_zero(server):
    login = server.account("bare@example.com", "--login", "bare")
    send(server, login, [{"session_id": "s", "start": 1000, "end": 1000 + 100 * 3600}])
    [line] = get(server, login, f"sessions/{ALWAYS}").json()["result"]["sessions"]
    assert line == "inbound - 0 [01/Jan/1970:00:16:40 +0000] - s 1000 361000 100:00:00"


def test_an_unknown_log_and_another_accounts_are_the_same_404_and_its_calls_are_not_listed(server, login):
    stranger = server.account("dev-stranger@example.com", "--login", "stranger")
    ids = [log["log_id"] for log in get(server, login, f"logs/{ALWAYS}").json()["result"]["logs"]]
    unlogged = {str(n) for n in range(1, int(max(ids)))} - set(ids)
    for log_id in (ids[0], "0", "999999999999999999"):
        answer = get(server, stranger, f"log/{log_id}")
        assert (answer.status_code, answer.json()) == (404, {"status": "failure", "error": "No call log was found."})
    assert get(server, login, f"log/{min(unlogged)}").status_code == 404
    for bad in ("x", "-1", "1.0", "0000000000000000001", CALLS[1]["session_id"]):
        answer = get(server, login, f"log/{quoted(bad)}")
        assert answer.status_code == 400
        assert "log_id" in answer.json()["error"]
    for service in SERVICES:
        assert get(server, stranger, f"{service}/{ALWAYS}").json()["result"] == {f"total_{service}": "0", service: []}
        xml = get(server, stranger, f"{service}/{ALWAYS}", headers={"Accept": "application/xml"}).text
        assert f"<result><total_{service}>0</total_{service}><{service}></{service}></result>" in xml


def test_calls_in_progress_and_their_errors_appear_when_they_end(server):
    login = server.account("dev-progress@example.com", "--login", "progress")
    send(server, login, [{"session_id": "live", "start": 1000, "src": "1"}])
    send(server, login, [{"session_id": "live", "events": [event(1001, "error", "first")]}], "events")
    totals = [get(server, login, f"{s}/{ALWAYS}").json()["result"][f"total_{s}"] for s in SERVICES]
    assert totals == ["0", "0", "0"]
    send(server, login, [{"session_id": "live", "end": 1005}])
    send(server, login, [{"session_id": "live", "events": [event(1002, "error", "late")]}], "events")
    assert [line.split()[-1] for line in get(server, login, f"errors/{ALWAYS}").json()["result"]["errors"]] == [
        "first",
        "late",
    ]
    assert get(server, login, f"sessions/{ALWAYS}").json()["result"]["total_sessions"] == "1"
    assert get(server, login, f"logs/{ALWAYS}").json()["result"]["total_logs"] == "1"


def test_start_must_lie_within_the_retention_of_sessions(own_server, now_seconds):
    server = own_server()
    login = server.account("ops@example.com", "--login", "ops")
    day = 86_400
    for service in SERVICES:
        for ago in (365 * day, 366 * day - 60, 0):
            assert get(server, login, f"{service}/{now_seconds - ago}/{now_seconds + day}").status_code == 200
        for ago in (366 * day, 400 * day, now_seconds - 1):
            answer = get(server, login, f"{service}/{now_seconds - ago}/{now_seconds}")
            assert answer.status_code == 400
            assert "start" in answer.json()["error"]
            assert "within the last 1y" in answer.json()["error"]
    callhouse("accounts", "set", login.id, "--retention", "sessions=30d", data=server.data)
    assert get(server, login, f"sessions/{now_seconds - 40 * day}/{now_seconds}").status_code == 400
    callhouse("accounts", "set", login.id, "--retention", "sessions=forever", data=server.data)
    assert get(server, login, f"sessions/1/{now_seconds}").status_code == 200


def test_logs_are_listed_as_long_as_details_are_kept_sessions_and_errors_as_long_as_sessions(own_server, now_seconds):
    day = 86_400
    server = own_server("retention.sessions=20d")
    login = server.account("ops@example.com", "--login", "ops")
    for ago in (1, 6, 30):
        start = now_seconds - ago * day
        events = [event(start, "error", f"{ago} days"), event(start, "info", "x")]
        send(server, login, [{"session_id": f"{ago}d", "start": start, "end": start + 1, "events": events}])
    window = f"{now_seconds - 20 * day}/{now_seconds}"
    result = {service: get(server, login, f"{service}/{window}").json()["result"] for service in SERVICES}
    assert [log["session_id"] for log in result["logs"]["logs"]] == ["1d"]
    assert [line.split()[6] for line in result["sessions"]["sessions"]] == ["6d", "1d"]
    assert [line.split(" ", 7)[7] for line in result["errors"]["errors"]] == ["6 days", "1 days"]
    assert [result[s][f"total_{s}"] for s in SERVICES] == ["1", "2", "2"]


def test_long_answers_are_whole_in_both_forms_and_pages_fit_together(server):
    login = server.account("dev-long@example.com", "--login", "long")
    callhouse("generate", "--calls", 6000, "--days", 3, "--account", login.id, "--seed", 5, data=server.data)
    at = 1_500_000_000
    errors = [event(at + n // 3, "error", f"{n} " + "x" * 500) for n in range(3000)]
    send(server, login, [{"session_id": "faulty", "start": at, "end": at + 1000, "events": errors}])
    calls = server.client.get(f"/api/calls/{ALWAYS}?limit=10000", auth=login.fuse).json()["calls"]
    count = {"sessions": len(calls), "logs": sum(call["log"] for call in calls)}
    assert count["sessions"] == 6001
    for service in SERVICES:
        whole = get(server, login, f"{service}/{ALWAYS}?limit=10000").json()["result"]
        members = whole[service]
        assert whole[f"total_{service}"] == str(len(members))
        assert len(members) == count.get(service, len(members)) >= 3000
        assert len({json.dumps(member) for member in members}) == len(members)
        pages = [
            get(server, login, f"{service}/{ALWAYS}?limit=700&offset={offset}").json()["result"]
            for offset in range(0, len(members) + 700, 700)
        ]
        assert [m for page in pages for m in page[service]] == members
        assert {page[f"total_{service}"] for page in pages} == {str(len(members))}
        xml = get(server, login, f"{service}/{ALWAYS}?limit=10000", headers={"Accept": "application/xml"})
        shown = ET.fromstring(xml.content).findall(f"result/{service}/{service[:-1]}")
        assert [{c.tag: c.text or "" for c in m} or m.text for m in shown] == members
    starts = [int(line.split()[7]) for line in get(server, login, f"sessions/{ALWAYS}").json()["result"]["sessions"]]
    assert starts == sorted(starts)
