"""The Fuse API over real HTTP: parameters, forms, errors and what is never shown."""

import json
import xml.etree.ElementTree as ET
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callhouse.model.number import number_key
from serving import callhouse, get, send

START = 1_600_000_000
NUMBERS = [
    "6177123001",
    "+1 (617) 712-3001",
    "tel:6177123001;ani=8009957586",
    "16177123002",
    "sip:alice@example.com",
    "anonymous",
    "",
]
HEARD = {
    "timestamp": START + 1,
    "class": "prompt",
    "line": "Hello",
    "data": {"module_type": "prompt", "result_variable": "x"},
}


def call(n, **fields):
    return {
        "session_id": f"s{n:03}",
        "src": f"212555{n:04}",
        "dest": NUMBERS[n % len(NUMBERS)],
        "start": START + 60 * (n // 2),
        "end": START + 60 * (n // 2) + 30,
        "direction": ["inbound", "outbound", "transfer"][n % 3],
        **fields,
    }


CALLS = [call(n, **({"events": [HEARD]} if n % 4 == 0 else {})) for n in range(40)]


@pytest.fixture(scope="module")
def login(server):
    login = server.account("fuse@example.com")
    send(server, login, CALLS)
    return login


def expected(since, until, number=None, limit=1000, offset=0):
    """What the list must be, in plain Python."""
    matching = [
        c
        for c in CALLS
        if since <= c["start"] < until and (number is None or number_key(c["dest"]) == number_key(number))
    ]
    matching.sort(key=lambda c: (c["start"], c["session_id"]), reverse=True)
    shown = [
        {
            "dest": c["dest"],
            "src": "Outbound" if c["direction"] == "outbound" else c["src"],
            "start": c["start"],
            "end": c["end"],
            "session_id": c["session_id"],
            "type": c["direction"],
            "log": "events" in c,
        }
        for c in matching[offset : offset + limit]
    ]
    return {"calls": shown, "total_calls": len(matching)}


optional = {
    "number": st.none() | st.sampled_from(NUMBERS[:-1]),
    "limit": st.none() | st.integers(1, 50),
    "offset": st.none() | st.integers(0, 50),
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    window=st.tuples(st.integers(START - 10, START + 1300), st.integers(1, 1300)),
    parameters=st.fixed_dictionaries({}, optional=optional),
    xml=st.booleans(),
)
def test_any_valid_parameters_give_what_filtering_in_python_gives(server, login, window, parameters, xml):
    since, until = window[0], window[0] + window[1]
    asked = {name: value for name, value in parameters.items() if value is not None}
    want = expected(since, until, **asked)
    accept = {"Accept": "application/xml" if xml else "application/json"}
    listed = get(server, login, f"/api/calls/{since}/{until}", params=asked, headers=accept)
    detailed = get(server, login, f"/api/all_logs/{since}/{until}", params=asked, headers=accept)
    assert listed.status_code == detailed.status_code == 200
    if xml:
        tree = ET.fromstring(listed.text)
        assert [{e.tag: e.text or "" for e in item} for item in tree.find("calls")] == [
            {k: {True: "true", False: "false"}.get(v, str(v)) if isinstance(v, bool) else str(v) for k, v in c.items()}
            for c in want["calls"]
        ]
        assert tree.findtext("total_calls") == str(want["total_calls"])
        sessions = [item.findtext("session_id") for item in ET.fromstring(detailed.text).find("calls")]
    else:
        assert listed.json() == want
        assert list(listed.json()) == ["calls", "total_calls"]
        sessions = []
        for shown, short in zip(detailed.json()["calls"], want["calls"], strict=True):
            assert list(shown) == ["dest", "src", "start", "end", "session_id", "detail", "type", "log"]
            assert shown["start"] == str(short["start"])
            assert shown["log"] is short["log"]
            assert bool(shown["detail"]) is short["log"]
            sessions.append(shown["session_id"])
        assert detailed.json()["total_calls"] == want["total_calls"]
    assert sessions == [c["session_id"] for c in want["calls"]]


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/api/calls/x/2", "start"),
        ("/api/calls/1/y", "end"),
        ("/api/calls/2/1", "end"),
        ("/api/calls/2/2", "end"),
        ("/api/calls/-1/2", "start"),
        ("/api/calls/1.5/2", "start"),
        ("/api/calls/%D9%A1/2", "start"),
        ("/api/calls/1529552691000/1529552697000", "seconds expected"),
        ("/api/calls/100000000000/100000000001", "start"),
        ("/api/calls/1/99999999999999999999999", "end"),
        ("/api/all_logs/1/x", "end"),
        ("/api/calls/1/2?limit=0", "limit is '0'; expected a whole number from 1 to 10000"),
        ("/api/calls/1/2?limit=10001", "1 to 10000"),
        ("/api/calls/1/2?limit=-5", "1 to 10000"),
        ("/api/calls/1/2?limit=ten", "limit is 'ten'"),
        ("/api/calls/1/2?limit=1e3", "limit"),
        ("/api/calls/1/2?limit=99999999999999999999999", "limit"),
        ("/api/calls/1/2?offset=-1", "offset"),
        ("/api/all_logs/1/2?offset=x", "offset"),
    ],
)
def test_a_bad_parameter_is_a_400_that_names_it_its_value_and_what_was_expected(server, login, path, named):
    answer = get(server, login, path)
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert list(answer.json()) == ["error"]


anything = st.one_of(
    st.integers().map(str), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.just("0")
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    route=st.sampled_from(["calls", "all_logs", "call"]),
    segments=st.lists(anything, max_size=3),
    parameters=st.dictionaries(st.sampled_from(["number", "limit", "offset", "sort"]), anything),
    accept=st.sampled_from(["application/xml", "application/json", "*/*"]),
)
def test_no_input_gives_a_5xx_and_every_failure_is_told_in_the_apis_form(
    server, login, route, segments, parameters, accept
):
    quoted = ["".join(f"%{byte:02X}" for byte in segment.encode()) for segment in segments]
    path = "/".join(["/api", route, *quoted])
    answer = get(server, login, path, params=parameters, headers={"Accept": accept})
    assert answer.status_code in {200, 400, 404}
    if answer.status_code != 200:
        if accept == "application/xml":
            tree = ET.fromstring(answer.content)
            assert (tree.tag, [child.tag for child in tree]) == ("result", ["error"])
            assert tree.findtext("error")
        else:
            assert list(answer.json()) == ["error"]
            assert answer.json()["error"]


def test_an_empty_parameter_is_as_if_absent_and_an_unknown_one_is_named_in_a_header(server, login):
    plain = get(server, login, f"/api/calls/{START}/{START + 2000}")
    assert "x-ignored-parameters" not in plain.headers
    answer = get(
        server, login, f"/api/calls/{START}/{START + 2000}?limit=&offset=&number=&sort=asc&b%0d%0aX-Evil:%201=2"
    )
    assert answer.json() == plain.json()
    assert answer.headers["x-ignored-parameters"] == "b%0D%0AX-Evil%3A%201, sort"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    ("accept", "xml"),
    [
        ("application/xml", True),
        ("APPLICATION/XML", True),
        ("application/json;q=0.5, application/xml", True),
        ("application/xml;q=0.9, application/json", False),
        ("application/json, application/xml", False),
        ("application/xml, */*", True),
        ("text/xml", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/xml;q=0", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_xml_comes_only_when_the_client_likes_it_best_and_nothing_is_a_406(server, login, accept, xml):
    for path in (f"/api/calls/{START}/{START + 1}", "/api/call/none", "/api/calls/x/y", "/api/nothing"):
        answer = get(server, login, path, headers={"Accept": accept})
        assert answer.headers["content-type"] == ("application/xml" if xml else "application/json")
        assert answer.text.startswith("<?xml" if xml else "{")


def test_a_method_other_than_get_and_head_is_a_405_with_allow(server, login):
    for path in ("/api/calls/1/2", "/api/all_logs/1/2", "/api/call/s"):
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            answer = server.client.request(method, path, auth=login.fuse)
            assert answer.status_code == 405
            assert answer.headers["allow"] == "GET, HEAD"
            assert "error" in answer.json()


def test_head_answers_as_get_without_a_body(server, login):
    for path in (
        f"/api/calls/{START}/{START + 2000}",
        f"/api/all_logs/{START}/{START + 2000}",
        "/api/call/s000",
        "/api/call/none",
    ):
        got, head = get(server, login, path), server.client.head(path, auth=login.fuse)
        assert head.status_code == got.status_code
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_session_id_may_hold_anything_that_a_sender_makes_up(server, login):
    odd = ["a/b", "a//b/", "/lead", "a b", "a%2Fb", "ü;ß", "a?b#c", "a\nb", "'; DROP TABLE calls; --", "\u202e"]
    send(
        server,
        login,
        [
            {"session_id": s, "start": 1000, "end": 1001, "events": [{**HEARD, "timestamp": 1000, "line": s}]}
            for s in odd
        ],
    )
    for session in odd:
        answer = get(server, login, f"/api/call/{quote(session, safe='')}")
        assert (session, answer.status_code) == (session, 200)
        assert answer.json()[0]["event"]["line"] == session


def test_text_survives_json_to_the_letter_and_xml_as_far_as_xml_can(server, login):
    line = "a<b>&\"c' \u00e9\U0001f600 \x01\x08\t\n\r\ufffe ]]> &amp; "
    data = {"a b": line, "1x": None, "<k>": [True, 1.5, {"": "x"}], "module_type": "m", "result_variable": "r"}
    event = {"timestamp": 2000, "class": "debug", "line": line, "data": data}
    send(
        server,
        login,
        [{"session_id": "text", "src": line, "dest": line, "start": 2000, "end": 2001, "events": [event]}],
    )
    [shown] = get(server, login, "/api/call/text").json()
    assert shown == {"event": {"line": line, "data": data}, "class": "debug", "timestamp": 2000}
    assert list(shown["event"]["data"]) == list(data)
    xml = ET.fromstring(get(server, login, "/api/call/text", headers={"Accept": "application/xml"}).content)
    assert xml.findtext("item/event/line") == line.replace("\x01", "\ufffd").replace("\x08", "\ufffd").replace(
        "\ufffe", "\ufffd"
    )
    assert [element.tag for element in xml.find("item/event/data")] == [
        "a_b",
        "_1x",
        "_k_",
        "module_type",
        "result_variable",
    ]
    [listed] = ET.fromstring(
        get(server, login, "/api/calls/2000/2001", headers={"Accept": "application/xml"}).content
    ).find("calls")
    assert listed.findtext("src").endswith("]]> &amp; ")


def test_an_unknown_session_and_another_accounts_are_the_same_404(server, login):
    stranger = server.account("stranger@example.com")
    for session in ("s000", "nowhere", "x" * 5000, "\u0000", "300060;001;1529552581"):
        answer = get(server, stranger, f"/api/call/{quote(session, safe='')}")
        assert (answer.status_code, answer.json()) == (404, {"error": "No call log was found."})
    assert get(server, stranger, f"/api/calls/1/{START * 2}").json() == {"calls": [], "total_calls": 0}
    empty = get(server, stranger, f"/api/all_logs/1/{START * 2}", headers={"Accept": "application/xml"})
    assert empty.text == '<?xml version="1.0"?>\n<result><calls></calls><total_calls>0</total_calls></result>'


def test_a_call_without_events_has_no_details(server, login):
    answer = get(server, login, "/api/call/s001")
    assert (answer.status_code, answer.json()) == (
        404,
        {"error": "There are no call log details available for this call."},
    )


def test_calls_in_progress_appear_when_they_end(server):
    login = server.account("progress@example.com")
    window = f"/api/calls/{START}/{START + 10}"
    send(server, login, [{"session_id": "live", "start": START, "src": "1"}])
    send(server, login, [{"session_id": "live", "events": [HEARD]}], "events")
    assert get(server, login, window).json() == {"calls": [], "total_calls": 0}
    assert get(server, login, "/api/call/live").json() == {"error": "No call log was found."}
    send(server, login, [{"session_id": "live", "end": START + 5}])
    assert [c["session_id"] for c in get(server, login, window).json()["calls"]] == ["live"]
    assert get(server, login, "/api/call/live").json()[0]["event"]["line"] == "Hello"


def test_an_expired_log_is_answered_as_documented_before_it_is_physically_gone(own_server, now_seconds):
    server = own_server("retention.details=forever")
    login = server.account()
    old = now_seconds - 6 * 86400
    event = {**HEARD, "timestamp": old}
    send(server, login, [{"session_id": "old", "start": old, "end": old + 1, "events": [event]}])
    assert get(server, login, "/api/call/old").status_code == 200
    server.stop()
    with own_server("retention.details=5d") as server:
        listed = get(server, login, f"/api/calls/{old}/{old + 1}").json()
        assert [(c["session_id"], c["log"]) for c in listed["calls"]] == [("old", False)]
        [detailed] = get(server, login, f"/api/all_logs/{old}/{old + 1}").json()["calls"]
        assert (detailed["detail"], detailed["log"]) == (False, False)
        xml = get(server, login, f"/api/all_logs/{old}/{old + 1}", headers={"Accept": "application/xml"}).text
        assert "<detail>false</detail><type>inbound</type><log>false</log>" in xml
        assert get(server, login, "/api/call/old").status_code == 404


def test_a_long_answer_is_whole_in_both_forms_and_pages_fit_together(server, tmp_path):
    login = server.account("long@example.com")
    callhouse("generate", "--calls", 2500, "--days", 3, "--account", login.id, "--seed", 5, data=server.data)
    window = "1/9999999999"
    listed = get(server, login, f"/api/calls/{window}?limit=10000").json()
    assert listed["total_calls"] == len(listed["calls"]) == 2500
    keys = [(c["start"], c["session_id"]) for c in listed["calls"]]
    assert len(set(keys)) == 2500
    assert [k[0] for k in keys] == sorted((k[0] for k in keys), reverse=True)
    pages = [
        get(server, login, f"/api/calls/{window}?limit=700&offset={offset}").json() for offset in range(0, 2800, 700)
    ]
    assert [c for page in pages for c in page["calls"]] == listed["calls"]
    detailed = get(server, login, f"/api/all_logs/{window}?limit=10000").json()
    assert [c["session_id"] for c in detailed["calls"]] == [c["session_id"] for c in listed["calls"]]
    for which in ("calls", "all_logs"):
        answer = get(server, login, f"/api/{which}/{window}?limit=10000", headers={"Accept": "application/xml"})
        tree = ET.fromstring(answer.content)
        assert [item.findtext("session_id") for item in tree.find("calls")] == [
            c["session_id"] for c in listed["calls"]
        ]
        if which == "all_logs":
            lines = [
                [event.findtext("event/line") or "" for event in item.find("detail")] for item in tree.find("calls")
            ]
            assert lines == [[e["event"]["line"] for e in c["detail"] or []] for c in detailed["calls"]]
    assert json.dumps(detailed)
