"""The Plivo API over real HTTP: parameters, windows, forms, errors and what is never shown."""

import base64
import re
import socket
import uuid
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import stores
from serving import callhouse, send

MINUTE, DAY = 60, 86_400
START = 1_600_000_020  # on a minute
INDIA = timezone(timedelta(hours=5, minutes=30))
NUMBERS = ["+12025551111", "12025551111", "+12025552222", "sip:alice@phone.example", "911", None]
CAUSES = [8011, 4000, 3010, None]
SOURCES = ["Caller", "Callee", "Answer XML", None]
VERIFICATIONS = ["Verified", "Not Verified", "Not Applicable", None]
DIRECTIONS = ["inbound", "outbound", "transfer", None]
KEYS = [
    *("answer_time", "api_id", "bill_duration", "billed_duration", "call_direction", "call_duration", "call_state"),
    *("call_uuid", "conference_uuid", "end_time", "from_number", "hangup_cause_code", "hangup_cause_name"),
    *("hangup_source", "initiation_time", "parent_call_uuid", "resource_uri", "stir_verification", "to_number"),
    *("total_amount", "total_rate", "Stir_attestation", "voice_network_group", "source_ip", "stir_attestation"),
    "cnam_lookup",
]


def call(n, **fields):
    """Calls of three days a step, some in one second, some long, some with a fraction of a second."""
    end = START + (n // 4) * 3 * DAY + (n % 4) * 20 + (0.25 if n % 5 == 0 else 0)
    length = [30, 45.5, 2, 5 * 3600, 4 * DAY][n % 5 if n % 7 else 4]
    said = {
        "session_id": f"s{n:03}",
        "start": end - length - 7,
        "end": end,
        "answer": None if n % 3 == 0 else end - length,
        "duration": None if n % 4 else length / 2,
        "src": NUMBERS[n % 6],
        "dest": NUMBERS[(n + 1) % 6],
        "direction": DIRECTIONS[n % 4],
        "hangup_cause_code": CAUSES[n % 4],
        "hangup_source": SOURCES[(n // 2) % 4],
        "stir_verification": VERIFICATIONS[(n // 3) % 4],
        "parent_call_uuid": "p" if n % 6 == 0 else None,
        **fields,
    }
    return {name: value for name, value in said.items() if value is not None}


OURS = [call(n) for n in range(0, 48, 2)] + [call(n) for n in range(1, 24, 2)]
THEIRS = [call(n) for n in range(25, 48, 2)]


@pytest.fixture(scope="module")
def login(server):
    login = server.account("plivo@example.com", "--timezone", "Asia/Kolkata")
    send(server, login, OURS)
    return login


@pytest.fixture(scope="module")
def sub(server, login):
    sub = server.account("sub@example.com", "--parent", str(login.id))
    send(server, sub, THEIRS)
    return sub


def ask(server, login, path="", auth=None, **options):
    return server.client.get(f"/v1/Account/{login.auth_id}/Call/{path}", auth=auth or login.plivo, **options)


def millis(seconds):
    return round(seconds * 1000)


def talk_seconds(c):
    """Seconds from answer to end, rounded up; None when nobody knows."""
    length = c.get("duration", c["end"] - c["answer"] if "answer" in c else None)
    return None if length is None else -(-millis(length) // 1000)


def begins(number, prefix):
    return number is not None and number.lstrip("+").startswith(prefix.strip().lstrip("+"))


def written(text):
    """The instant in ms that a filter names, the ms it stands for, and whether it names seconds."""
    t = millis(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    return t, 1 if "." in text else 1000, text.count(":") == 2


def window(asked):
    """The window of ends in ms, or None for a 400."""
    lows, highs, named = [], [], []
    for name, text in asked.items():
        form = name.removeprefix("end_time")
        if form == name:
            continue
        t, unit, seconds = written(text)
        if form in {"", "__gte"}:
            lows.append((t, t))
        if form == "__gt":
            lows.append((t + unit, t))
        if form == "__lt":
            highs.append((t, t))
        if form == "__lte":
            highs.append((t + unit, t))
        if form == "":
            highs.append((t + (unit if seconds else 60_000), t))
        named.append(name)
    thirty = 30 * DAY * 1000
    if not highs:
        return max(lows)[0], max(lows)[0] + thirty
    if not lows:
        return min(highs)[0] - thirty, min(highs)[0]
    (since, low), (until, high) = max(lows), min(highs)
    if high - low > thirty or (since >= until and low >= high):
        return None
    return since, until


def matches(c, asked):
    compare = {"": int.__eq__, "__gt": int.__gt__, "__gte": int.__ge__, "__lt": int.__lt__, "__lte": int.__le__}
    direction = {"inbound": "inbound", "outbound": "outbound", "transfer": "outbound"}[c.get("direction", "inbound")]
    talk = talk_seconds(c)
    return all(
        {
            "from_number": lambda v: begins(c.get("src"), v),
            "to_number": lambda v: begins(c.get("dest"), v),
            "call_direction": lambda v: direction == v,
            "parent_call_uuid": lambda v: c.get("parent_call_uuid") == v,
            "hangup_cause_code": lambda v: c.get("hangup_cause_code") == v,
            "hangup_source": lambda v: c.get("hangup_source") == v,
            "stir_verification": lambda v: c.get("stir_verification") == v,
        }.get(name, lambda v: True)(value)
        and (
            not name.startswith("bill_duration")
            or (talk is not None and compare[name.removeprefix("bill_duration")](talk, value))
        )
        for name, value in asked.items()
    )


moments = st.builds(
    lambda step, seconds, form: datetime.fromtimestamp(START + step * 3 * DAY + seconds, UTC).strftime(form)[:23],
    st.integers(-12, 14),
    st.one_of(st.integers(-30, 90), st.sampled_from([0.25, 0.249, 0.251])),
    st.sampled_from(["%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f"]),
)
forms = ("", "__gt", "__gte", "__lt", "__lte")
filters = {
    "from_number": st.sampled_from(["+1202", "1202", "+12025551111", "sip:alice", "911", "9115", " 1202", "SIP:"]),
    "to_number": st.sampled_from(["+1202", "1202555222", "sip:", "911"]),
    "call_direction": st.sampled_from(["inbound", "outbound"]),
    "parent_call_uuid": st.sampled_from(["p", "q"]),
    "hangup_cause_code": st.sampled_from([8011, 4000, 3010, 0, 9999]),
    "hangup_source": st.sampled_from(["Caller", "Callee", "Answer XML", "caller", "x' OR 1=1 --"]),
    "stir_verification": st.sampled_from(["Verified", "Not Verified", "Not Applicable"]),
    **{f"bill_duration{form}": st.sampled_from([0, 1, 2, 15, 30, 46, 18_000, 10**9]) for form in forms},
    "limit": st.integers(1, 20),
    "offset": st.integers(0, 60),
}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    times=st.dictionaries(st.sampled_from([f"end_time{form}" for form in forms]), moments, min_size=1, max_size=3),
    asked=st.dictionaries(st.sampled_from(sorted(filters)), st.none(), max_size=4).flatmap(
        lambda chosen: st.fixed_dictionaries({name: filters[name] for name in chosen})
    ),
    whose=st.sampled_from(["both", "sub alone", "by the sub"]),
)
@example(times={"end_time": "2020-09-13 12:27"}, asked={}, whose="both")
@example(times={"end_time__gt": "2020-09-13 12:27:00", "end_time__lt": "2020-09-13 12:27:01"}, asked={}, whose="both")
def test_any_valid_parameters_give_what_filtering_in_python_gives(server, login, sub, times, asked, whose):
    who = sub if whose == "by the sub" else login
    sent = {**times, **asked, **({"subaccount": sub.auth_id} if whose == "sub alone" else {})}
    answer = ask(server, who, params=sent)
    bounds = window(times)
    if bounds is None:
        assert answer.status_code == 400
        assert "end_time" in answer.json()["error"]
        return
    want = sorted(
        (c for c in (OURS + THEIRS if whose == "both" else THEIRS) if bounds[0] <= millis(c["end"]) < bounds[1]),
        key=lambda c: (millis(c["start"]), c["session_id"]),
        reverse=True,
    )
    want = [c for c in want if matches(c, asked)]
    limit, offset = asked.get("limit", 20), asked.get("offset", 0)
    page = want[offset : offset + limit]
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert list(body) == ["api_id", "meta", "objects"]
    assert list(body["meta"]) == ["limit", "next", "offset", "previous", "total_count"]
    assert (body["meta"]["limit"], body["meta"]["offset"]) == (limit, offset)
    assert body["meta"]["total_count"] == len(want)
    assert (body["meta"]["next"] is not None) == (offset + limit < len(want))
    assert (body["meta"]["previous"] is not None) == (offset > 0)
    zone = UTC if whose == "by the sub" else INDIA
    for shown, c in zip(body["objects"], page, strict=True):
        assert list(shown) == KEYS
        assert shown["initiation_time"] == str(datetime.fromtimestamp(c["start"] // 1, zone))
        assert shown["end_time"] == str(datetime.fromtimestamp(c["end"] // 1, zone))
        assert shown["bill_duration"] == shown["call_duration"] == talk_seconds(c)
        assert shown["from_number"] == c.get("src")
        assert shown["hangup_cause_code"] == c.get("hangup_cause_code")
    assert {type(shown["bill_duration"]) for shown in body["objects"]} <= {int, type(None)}


@pytest.mark.parametrize("name", ["end_time", "end_time__gt", "end_time__gte", "end_time__lt", "end_time__lte"])
@pytest.mark.parametrize(
    "value",
    [
        *("yesterday", "2022-10-12", "2022-13-01 00:00", "2022-02-30 10:00", "2022-10-12 24:00", "2022-10-12 10:60"),
        *("2022-10-12 10:00:60", "2022-10-12T10:00:00", "2022-10-12 10:00:00.", "2022-10-12 10:00:00.1234567"),
        *("1665600000", "1665600000000", "0000-01-01 00:00", "٢٠٢٢-10-12 10:00", "2022-10-12 10:00+24:00", "\x00"),
        "2022-10-12 10:00:00+5",
    ],
)
def test_what_is_no_time_is_a_400_that_names_the_parameter(server, login, name, value):
    answer = ask(server, login, params={name: value})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(f"Parameter {name} is ")
    assert "YYYY-MM-DD HH:MM[:ss[.uuuuuu]]" in answer.json()["error"]


BAD = [
    *(("limit", value) for value in ("0", "21", "-1", "ten", "1e1", "9" * 40, "1.0")),
    *(("offset", value) for value in ("-1", "x", "9" * 40)),
    *((f"bill_duration{form}", value) for form in forms for value in ("-1", "x", "2022-10-01 00:00:00.000000", "1.5")),
    *(("hangup_cause_code", value) for value in ("x", "-1", "1" * 30)),
    *(("call_direction", value) for value in ("transfer", "INBOUND", "x")),
    *(("subaccount", value) for value in ("x", "MA" + "0" * 18, "SA" + "0" * 17, "SA" + "a" * 18)),
    *(("stir_verification", value) for value in ("A", "verified")),
    *(("status", value) for value in ("completed", "LIVE")),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_parameter_is_a_400_in_plivos_shape(server, login, name, value):
    answer = ask(server, login, params={name: value})
    assert answer.status_code == 400
    assert list(answer.json()) == ["api_id", "error", "objects"]
    assert answer.json()["error"].startswith(f"Parameter {name} is ")
    assert answer.json()["objects"] == []
    uuid.UUID(answer.json()["api_id"])


names = st.sampled_from([*sorted(filters), "status", "subaccount", "end_time", "end_time__lte", "callback_url"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(st.tuples(names, st.text(max_size=30)), max_size=4), uuid_=st.text(max_size=20))
def test_no_input_is_more_than_a_documented_answer(server, login, sub, sent, uuid_):
    for answer in (
        ask(server, login, params=sent),
        ask(server, login, quote(uuid_.encode(errors="replace"), safe=""), params=sent),
    ):
        assert answer.status_code in {200, 400, 404}
        assert "api_id" in answer.json() or answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("query", ["%ff%fe=%ff", "end_time=%ff", "from_number=%00", "limit=%", "&&=&", "=x", "limit"])
def test_a_query_string_that_is_nonsense_is_no_5xx(server, login, query):
    assert ask(server, login, f"?{query}").status_code in {200, 400}


def test_a_window_of_more_than_30_days_is_a_400_and_one_of_30_is_not(server, login):
    span = {"end_time__gte": "2020-09-01 00:00:00", "end_time__lte": "2020-10-01 00:00:00"}
    assert ask(server, login, params=span).status_code == 200
    answer = ask(server, login, params={**span, "end_time__lte": "2020-10-01 00:00:00.000001"})
    assert answer.status_code == 400
    assert "at most 30 days after end_time__gte (2020-09-01 00:00:00)" in answer.json()["error"]


def test_a_window_that_ends_before_it_starts_is_a_400(server, login):
    answer = ask(server, login, params={"end_time__gte": "2020-09-02 00:00", "end_time__lt": "2020-09-02 00:00"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Parameter end_time__lt is '2020-09-02 00:00'; expected a time after")


@pytest.mark.parametrize(
    "text", ["2020-09-13 17:57:00+05:30", "2020-09-13 17:57:00 05:30", "2020-09-13 12:27Z", "2020-09-13 07:27:00-05:00"]
)
def test_an_offset_behind_a_time_is_tolerated(server, login, sub, text):
    plain = ask(server, login, params={"end_time__gte": "2020-09-13 12:27:00"}).json()
    assert plain["meta"]["total_count"] > 0
    assert ask(server, login, params={"end_time__gte": text}).json()["objects"] == plain["objects"]


def test_empty_parameters_are_as_if_absent_and_unknown_ones_are_named_in_a_header(server, login):
    window = {"end_time__gte": "2020-09-13 00:00"}
    plain = ask(server, login, params=window)
    assert "x-ignored-parameters" not in plain.headers
    sent = {**window, "from_number": "", "to_number": "", "limit": "", "status": "", "end_time_gt": "x", "a b": "1"}
    answer = ask(server, login, params={**sent, "callback_url": "https://example.com", "call_direction__gt": "x"})
    assert answer.json()["objects"] == plain.json()["objects"]
    assert answer.headers["x-ignored-parameters"] == "a%20b, call_direction__gt, callback_url, end_time_gt"
    for text in ("+", " "):
        assert ask(server, login, params={**window, "from_number": text}).json()["objects"] == plain.json()["objects"]


def test_the_urls_of_the_neighbours_keep_all_filters_and_lead_through_the_whole_list(server, login, sub):
    asked = {"call_direction": "outbound", "end_time__gt": "2020-09-12 11:47", "end_time__lt": "2020-10-10 00:00"}
    whole = ask(server, login, params=asked).json()["objects"]
    first = ask(server, login, params={**asked, "limit": 3, "x": "y"}).json()
    prefix = f"/v1/Account/{login.auth_id}/Call/?"
    times = "end_time__gt=2020-09-12+11%3A47&end_time__lt=2020-10-10+00%3A00"
    assert first["meta"]["next"] == f"{prefix}call_direction=outbound&{times}&limit=3&offset=3"
    pages, page = [first], first
    while page["meta"]["next"]:
        page = server.client.get(page["meta"]["next"], auth=login.plivo).json()
        pages.append(page)
    assert len(pages) > 2
    assert [c for page in pages for c in page["objects"]] == whole
    back = server.client.get(page["meta"]["previous"], auth=login.plivo).json()
    assert {**back, "api_id": ""} == {**pages[-2], "api_id": ""}
    # An offset within the first page clamps at its beginning.
    near = ask(server, login, params={**asked, "limit": 3, "offset": 2}).json()["meta"]["previous"]
    assert dict(parse_qsl(urlsplit(near).query))["offset"] == "0"


def test_each_call_is_found_under_its_resource_uri_as_it_stands_in_the_list(server, login, sub):
    objects = ask(server, login, params={"end_time__gte": "2020-09-13 00:00"}).json()["objects"]
    assert len(objects) == 20
    for shown in objects:
        assert shown["resource_uri"] == f"/v1/Account/{login.auth_id}/Call/{shown['call_uuid']}/"
        for path in (shown["resource_uri"], shown["resource_uri"].rstrip("/")):
            answer = server.client.get(path, params={"call_uuid": shown["call_uuid"]}, auth=login.plivo)
            assert answer.json() == shown
            assert "location" not in answer.headers


@pytest.mark.parametrize("given", ["12ab/../x y", "c//d/", "ü", "a%2Fb", "?x=1&y"])
def test_a_uuid_that_the_sender_gave_is_found_whatever_is_in_it(server, login, given):
    session = f"odd {given}"
    send(server, login, [{"session_id": session, "start": START, "end": START + 1, "call_uuid": given}])
    [shown] = [
        c
        for c in ask(server, login, params={"end_time": "2020-09-13 12:27:01"}).json()["objects"]
        if c["call_uuid"] == given
    ]
    answer = server.client.get(shown["resource_uri"], auth=login.plivo)
    assert answer.json() == shown


def test_a_call_uuid_that_arrives_later_replaces_the_derived_one(server):
    login = server.account("uuids@example.com")
    parts = [{"session_id": "s", "start": START}, {"session_id": "s", "end": START + 9}]
    send(server, login, parts[:1])
    [derived] = ask(server, login, "?status=live").json()["calls"]
    assert uuid.UUID(derived).version == 5
    send(server, login, parts[1:])
    assert ask(server, login, f"{derived}/").json()["call_uuid"] == derived
    # In a part that is not as full as what is known: it wins all the same, as nobody else gave one.
    send(server, login, [{"session_id": "s", "call_uuid": "given"}])
    assert ask(server, login, "given/").json()["call_uuid"] == "given"
    assert ask(server, login, f"{derived}/").status_code == 404
    assert send(server, login, [{"session_id": "s", "call_uuid": ""}])["accepted"] == 1
    assert ask(server, login, "given/").status_code == 200


def test_of_two_calls_with_one_uuid_the_newest_is_shown(server):
    login = server.account("twice@example.com")
    times = [("a", 10), ("b", 30), ("c", 30), ("d", 20)]
    send(
        server,
        login,
        [{"session_id": s, "start": START + t, "end": START + 60, "call_uuid": "same", "src": s} for s, t in times],
    )
    assert ask(server, login, "same/").json()["from_number"] == "c"


def test_calls_in_progress_are_listed_and_found_one_by_one(server):
    login = server.account("live@example.com")
    sub = server.account("livesub@example.com", "--parent", str(login.id))
    sent = [
        {"session_id": "ringing", "start": START + 0.5, "src": "+1202", "dest": "911", "direction": "outbound"},
        {"session_id": "talking", "start": START + 1, "answer": START + 3, "direction": "inbound", "call_uuid": "u1"},
        {"session_id": "queued", "dest": "912", "direction": "outbound", "call_uuid": "u2"},
        {"session_id": "over", "start": START, "end": START + 5, "call_uuid": "u3"},
        {"session_id": "end alone", "end": START + 5, "call_uuid": "u4"},
    ]
    send(server, login, sent)
    send(server, sub, [{"session_id": "theirs", "start": START + 2, "call_uuid": "u5", "stir_attestation": "A"}])
    live = ask(server, login, "?status=live").json()
    assert list(live) == ["api_id", "calls"]
    ringing = live["calls"][2]
    assert live["calls"] == ["u5", "u1", ringing]
    assert ask(server, login, "?status=queued").json()["calls"] == ["u2"]
    for query, calls in [
        ("call_direction=outbound", [ringing]),
        ("from_number=1202", [ringing]),
        ("to_number=%2B911", [ringing]),
        (f"subaccount={sub.auth_id}", ["u5"]),
        ("limit=1&offset=1", ["u1"]),
        ("limit=20&offset=3", []),
    ]:
        assert ask(server, login, f"?status=live&{query}").json()["calls"] == calls
    assert ask(server, login, "?status=live&limit=21").status_code == 400
    assert ask(server, login, "?status=live&end_time=x").headers["x-ignored-parameters"] == "end_time"
    for slash in ("/", ""):
        found = ask(server, login, f"{ringing}{slash}?status=live").json()
        del found["api_id"]
        assert found == {
            "call_status": "ringing",
            "call_uuid": ringing,
            "caller_name": "",
            "direction": "outbound",
            "from": "+1202",
            "request_uuid": ringing,
            "session_start": "2020-09-13 12:27:00.500000",
            "to": "911",
            "stir_verification": None,
            "stir_attestation": None,
        }
        found = ask(server, login, f"u2{slash}?status=queued").json()
        assert list(found) == [
            *("api_id", "call_status", "call_uuid", "caller_name", "direction", "from", "request_uuid", "to")
        ]
        assert (found["call_status"], found["to"]) == ("queued", "912")
    assert ask(server, login, "u1?status=live").json()["call_status"] == "in-progress"
    assert ask(server, login, "u5?status=live").json()["stir_attestation"] == "A"
    for path in ("u1", "u2", "u4", "u3?status=live", "u2?status=live", "u1?status=queued", "u4?status=queued"):
        assert ask(server, login, path).status_code == 404
    assert ask(server, sub, "?status=live").json()["calls"] == ["u5"]
    listed = ask(server, login, "?end_time=2020-09-13%2012:27").json()["objects"]
    assert [c["call_uuid"] for c in listed] == ["u3"]


def test_the_cause_of_another_switch_is_shown_and_filtered_in_plivos_terms(server):
    login = server.account("causes@example.com")
    sent = [
        ("q850", "17", None, None, 3010, "Busy Line"),
        ("sip", "486", None, None, 3010, "Busy Line"),
        ("sip", "486", 4000, "Own words", 4000, "Own words"),
        ("plivo", "6020", None, None, 6020, "Media Timeout"),
        ("q850", "nonsense", None, None, 0, "Unknown"),
        (None, "17", None, None, None, None),
        (None, None, 77, None, 77, None),
    ]
    records = []
    for n, (scheme, original, code, name, *_) in enumerate(sent):
        said = {
            "hangup_original_scheme": scheme,
            "hangup_original_code": original,
            "hangup_cause_code": code,
            "hangup_cause_name": name,
        }
        said = {key: value for key, value in said.items() if value is not None}
        records.append({"session_id": f"{n}", "start": START + n, "end": START + 50, "call_uuid": f"{n}", **said})
    send(server, login, records)
    for n, (*_, code, name) in enumerate(sent):
        shown = ask(server, login, f"{n}").json()
        assert (shown["hangup_cause_code"], shown["hangup_cause_name"]) == (code, name)
    busy = ask(server, login, "?end_time=2020-09-13%2012:27&hangup_cause_code=3010").json()
    assert [c["call_uuid"] for c in busy["objects"]] == ["1", "0"]
    # What the sender said first stands where a later part says something else of the original alone.
    for session, original in (("2", "480"), ("0", "16")):
        send(server, login, [{"session_id": session, "end": START + 50, "hangup_original_code": original}])
    assert ask(server, login, "2").json()["hangup_cause_code"] == 4000
    assert ask(server, login, "0").json()["hangup_cause_code"] == 4000


def test_money_is_text_with_five_decimals_rounded_half_up(server):
    login = server.account("money@example.com")
    sent = [
        ("1", None, 1, "1.00000", "0.01667"),
        ("0.0085", None, 960, "0.00850", "0.13600"),
        ("0.0272", None, 15, "0.02720", "0.00680"),
        ("0.0357", "0.035745", 60, "0.03570", "0.03575"),
        (0.1, 1e-05, None, "0.10000", "0.00001"),
        ("0.000005", "0.000004999", None, "0.00001", "0.00000"),
        ("-0.000001", "-1", None, "0.00000", "-1.00000"),
        ("99999999999999999999", None, 31_000_000, "99999999999999999999.00000", "51666666666666666666150000.00000"),
        ("0.01", None, None, "0.01000", None),
        (None, None, 60, None, None),
    ]
    records = []
    for n, (rate, amount, billed, *_) in enumerate(sent):
        said = {"rate": rate, "amount": amount, "billed_duration": billed}
        said = {key: value for key, value in said.items() if value is not None}
        records.append({"session_id": f"{n}", "start": START, "end": START, "call_uuid": f"{n}", **said})
    send(server, login, records)
    for n, (_, _, billed, rate, amount) in enumerate(sent):
        shown = ask(server, login, f"{n}").json()
        assert (shown["total_rate"], shown["total_amount"], shown["billed_duration"]) == (rate, amount, billed)


def test_what_is_unknown_is_null_and_what_was_sent_comes_back(server):
    login = server.account("fields@example.com")
    told = {
        "conference_uuid": "c",
        "parent_call_uuid": "p",
        "stir_attestation": "B",
        "stir_verification": "Not Verified",
        "voice_network_group": "US All Networks",
        "source_ip": "192.0.2.1",
    }
    send(server, login, [{"session_id": "bare", "start": START, "end": START + 61, "call_uuid": "bare"}])
    send(server, login, [{"session_id": "told", "start": START, "end": START + 61, "call_uuid": "told", **told}])
    shown = ask(server, login, "bare").json()
    assert list(shown) == KEYS
    known = {"api_id", "call_direction", "call_uuid", "end_time", "initiation_time", "resource_uri"}
    assert {key for key, value in shown.items() if value is not None} == known
    assert (shown["call_direction"], shown["end_time"]) == ("inbound", "2020-09-13 12:28:01+00:00")
    again = ask(server, login, "bare").json()
    assert again == shown
    shown = ask(server, login, "told").json()
    assert {key: shown[key] for key in told} == told
    assert shown["Stir_attestation"] == "B"


def test_times_carry_the_offset_that_was_true_at_that_instant(server):
    login = server.account("zone@example.com", "--timezone", "America/New_York")
    summer, winter = 1_594_000_000, 1_605_000_000
    for start, offset in ((summer, "-04:00"), (winter, "-05:00")):
        send(server, login, [{"session_id": offset, "start": start, "end": start, "call_uuid": offset}])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d" + offset, ask(server, login, offset).json()["end_time"])


def test_only_calls_that_may_be_seen_are_found(server, login, sub):
    other = server.account("other@example.com")
    send(server, other, [{"session_id": "s", "start": START, "end": START, "call_uuid": "secret"}])
    send(server, login, [{"session_id": "own", "start": START, "end": START, "call_uuid": "own"}])
    assert ask(server, other, "secret").status_code == 200
    for who in (login, sub):
        assert ask(server, who, "secret").json()["error"] == "not found"
    assert ask(server, sub, "own").status_code == 404
    for stranger in (other.auth_id, "SA" + "0" * 18):
        answer = ask(server, login, params={"subaccount": "SA" + stranger[2:], "end_time__gte": "2020-09-13 00:00"})
        assert (answer.status_code, answer.json()["meta"]["total_count"]) == (200, 0)
    answer = ask(server, sub, params={"subaccount": sub.auth_id, "end_time__gte": "2020-09-13 00:00"})
    assert answer.json()["meta"]["total_count"] > 0


def test_credentials_must_be_those_of_the_account_in_the_path(server, login, sub):
    for path, auth in [
        (login.auth_id, None),
        (login.auth_id, (login.auth_id, "wrong")),
        (login.auth_id, login.fuse),
        (sub.auth_id, login.plivo),
        (login.auth_id, sub.plivo),
        ("MA" + "0" * 18, login.plivo),
    ]:
        for rest, keys in (("Call/", ["api_id", "error", "objects"]), ("Call/x/", ["api_id", "error"])):
            answer = server.client.get(f"/v1/Account/{path}/{rest}", auth=auth)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
            assert answer.json()["error"] == "authentication failed"
            assert list(answer.json()) == keys


def test_an_inactive_account_is_told_so(server):
    login = server.account("inactive-plivo@example.com")
    assert ask(server, login).status_code == 200
    callhouse("accounts", "deactivate", login.id, data=server.data)
    answer = ask(server, login)
    assert (answer.status_code, answer.json()["error"]) == (401, "this account is inactive")


@pytest.mark.parametrize("path", ["", "x/"])
def test_other_methods_are_a_405_with_allow(server, login, path):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = server.client.request(method, f"/v1/Account/{login.auth_id}/Call/{path}", auth=login.plivo)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
        assert list(answer.json()) == (["api_id", "error"] if path else ["api_id", "error", "objects"])


def test_what_is_not_served_under_v1_is_a_404_in_the_same_shape(server, login):
    for path in (
        "/v1",
        "/v1/",
        "/v1/Account/",
        f"/v1/Account/{login.auth_id}/",
        f"/v1/Account/{login.auth_id}/Message/",
    ):
        answer = server.client.get(path, auth=login.plivo)
        if path.rstrip("/") != "/v1":
            assert answer.status_code == 404
            assert list(answer.json()) == ["api_id", "error"]


def test_head_answers_as_get_without_a_body(server, login, sub):
    for path in (f"/v1/Account/{login.auth_id}/Call/?end_time__gte=2020-09-13%2000:00", "/v1/x"):
        plain = {"Accept-Encoding": "identity"}
        got = server.client.get(path, auth=login.plivo, headers=plain)
        head = server.client.head(path, auth=login.plivo, headers=plain)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", None),
        ("*", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZIP;q=1.0", "gzip"),
        ("gzip, deflate, zstd", "zstd"),
        ("gzip, compress, deflate, br", "gzip"),
        ("zstd;q=0.5, gzip;q=0.8", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0.000, *", None),
        ("zstd;q=0, gzip;q=0.1", "gzip"),
        ("gzipped, br", None),
        (";;;,,,q=", None),
    ],
)
def test_an_answer_is_compressed_when_the_client_asks_for_it(server, login, sub, accepted, coding):
    path = f"/v1/Account/{login.auth_id}/Call/?end_time__gte=2020-09-13%2000:00"
    headers = {"Accept-Encoding": accepted}
    with server.client.stream("GET", path, auth=login.plivo, headers=headers) as answer:
        raw = b"".join(answer.iter_raw())
        assert answer.headers.get("content-encoding") == coding
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-length"] == str(len(raw))
        assert (raw[:1] == b"{") == (coding is None)
    decoded = server.client.get(path, auth=login.plivo, headers=headers).json()
    assert len(decoded["objects"]) == 20
    small = server.client.get(f"/v1/Account/{login.auth_id}/Call/?status=queued", auth=login.plivo)
    assert "content-encoding" not in small.headers


def stamp(seconds):
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def test_the_default_window_is_seven_days_and_one_bound_makes_it_thirty(own_server, now_seconds):
    server = own_server()
    login = server.account()
    ages = {"fresh": 0, "6 days": 6, "8 days": 8, "29 days": 29, "31 days": 31, "80 days": 80}
    records = [
        {
            "session_id": name,
            "call_uuid": name,
            "start": now_seconds - age * DAY - 60,
            "end": now_seconds - age * DAY - 9,
        }
        for name, age in ages.items()
    ]
    send(server, login, records)

    def listed(**asked):
        return [c["call_uuid"] for c in ask(server, login, params=asked).json()["objects"]]

    assert listed() == ["fresh", "6 days"]
    assert listed(end_time__gte=stamp(now_seconds - 35 * DAY)) == ["6 days", "8 days", "29 days", "31 days"]
    assert listed(end_time__lt=stamp(now_seconds)) == ["fresh", "6 days", "8 days", "29 days"]
    assert listed(end_time__lt=stamp(now_seconds - 7 * DAY)) == ["8 days", "29 days", "31 days"]
    assert listed(end_time__lte=stamp(now_seconds - 31 * DAY - 9)) == ["31 days"]


def test_calls_older_than_the_retention_are_not_shown_to_anyone(own_server, now_seconds):
    server = own_server()
    login = server.account()
    sub = server.account("sub@example.com", "--parent", str(login.id))
    callhouse("accounts", "set", sub.id, "--retention", "plivo=10d", data=server.data)
    age = {"a": 89, "b": 91, "c": 200}
    for who in (login, sub):
        records = [
            {
                "session_id": name,
                "call_uuid": f"{who.id}{name}",
                "start": now_seconds - days * DAY - 60,
                "end": now_seconds - days * DAY,
            }
            for name, days in {**age, "d": 9}.items()
        ]
        # It started before the retention and ended within it.
        records.append({"session_id": "long", "start": now_seconds - 91 * DAY, "end": now_seconds - 85 * DAY})
        records.append({"session_id": "open", "call_uuid": f"{who.id}open", "start": now_seconds - 95 * DAY})
        send(server, who, records)
    asked = {"end_time__gte": stamp(now_seconds - 100 * DAY)}
    assert [c["call_uuid"] for c in ask(server, login, params=asked).json()["objects"]] == [f"{login.id}a"]
    assert ask(server, login, params=asked).json()["meta"]["total_count"] == 1
    recent = {"end_time__gte": stamp(now_seconds - 20 * DAY)}
    assert [c["call_uuid"] for c in ask(server, login, params=recent).json()["objects"]] == [
        f"{sub.id}d",
        f"{login.id}d",
    ]
    ancient = {"end_time__lt": stamp(now_seconds - 150 * DAY)}
    assert ask(server, login, params=ancient).json()["meta"]["total_count"] == 0
    found = {
        name: [ask(server, login, f"{who.id}{name}").status_code for who in (login, sub)] for name in ("a", "b", "d")
    }
    assert found == {"a": [200, 404], "b": [404, 404], "d": [200, 200]}
    assert ask(server, login, "?status=live").json()["calls"] == []
    assert ask(server, login, f"{login.id}open?status=live").status_code == 404


def test_an_operator_may_allow_larger_pages(own_server, now_seconds):
    server = own_server("plivo.max_limit=300")
    login = server.account()
    records = [{"session_id": f"{n}", "start": now_seconds - n - 9, "end": now_seconds - 5} for n in range(250)]
    send(server, login, records)
    assert ask(server, login).json()["meta"]["limit"] == 20
    page = ask(server, login, params={"limit": 300, "offset": 5}).json()
    assert (len(page["objects"]), page["meta"]["total_count"]) == (245, 250)
    answer = ask(server, login, params={"limit": 301})
    assert (answer.status_code, "from 1 to 300" in answer.text) == (400, True)


def test_a_smaller_maximum_is_the_default_too(own_server):
    server = own_server("plivo.max_limit=5")
    login = server.account()
    assert ask(server, login).json()["meta"]["limit"] == 5


def test_too_many_requests_at_once_are_a_429_that_says_when_to_come_again(own_server):
    server = own_server("server.max_in_flight=1")
    login = server.account()
    # A request whose body does not come holds the only place.
    host, port = server.url.removeprefix("http://").split(":")
    credentials = base64.b64encode(":".join(login.plivo).encode()).decode()
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            f"POST /ingest/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n"
            "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n".encode()
        )
        # Asked to go on, it has the place; any other request, made before, might have it instead.
        assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
        answer = ask(server, login)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert list(answer.json()) == ["api_id", "error", "objects"]
        assert list(ask(server, login, "x/").json()) == ["api_id", "error"]


def test_a_store_that_fails_is_a_500_without_its_cause(own_server):
    server = own_server()
    login = server.account()
    stores.sql(server.data, "ALTER TABLE end_counts RENAME TO gone")
    answer = ask(server, login)
    assert answer.status_code == 500
    assert {**answer.json(), "api_id": ""} == {"api_id": "", "error": "internal error", "objects": []}
    assert "end_counts" in server.log.read_text()
