"""The list of calls and the page of one call, as a browser gets them: what is asked for is shown, and nobody else's."""

import csv
import html
import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from arro3.io import read_parquet

from callhouse.console.columns import COLUMNS
from callhouse.console.filters import field, instant
from callhouse.model.call import Call
from callhouse.sources.native import read_call
from conftest import KEEP_ALL
from console.visiting import Visitor
from serving import Server, callhouse, send
from test_security import HOSTILE, text_fields

SAMPLES = Path(__file__).parents[1] / "sources" / "samples"
NOW = int(time.time())
EVENTS = [
    {"timestamp": NOW - 95, "class": "prompt", "line": "Welcome to Harbor Lane", "data": {"result_variable": "choice"}},
    {"timestamp": NOW - 90.5, "class": "event", "line": "User input: 2 (dtmf)", "data": {"result_variable": "choice"}},
    {"timestamp": NOW - 80, "class": "error", "line": "HTTP 503 from the warehouse", "data": {"status": 503, "a": [1]}},
]
CALLS = [
    {
        "session_id": "ivr/1;a b", "call_uuid": "uuid-1", "start": NOW - 100, "answer": NOW - 96, "end": NOW - 40,
        "src": "+1 (212) 555-0199", "dest": "8005550100", "direction": "inbound", "application_name": "Orders",
        "hangup_source": "Caller", "hangup_original_code": "16", "hangup_original_scheme": "q850", "events": EVENTS,
        "sip_call_id": "abc@sbc", "rate": "0.01", "amount": "0.0123", "caller_name": "Ada",
    },
    {
        "session_id": "agent", "call_uuid": "uuid-2", "parent_call_uuid": "uuid-1", "start": NOW - 70, "end": NOW - 41,
        "answer": NOW - 66, "src": "2125550199", "dest": "3001", "direction": "transfer", "sip_call_id": "abc@sbc",
    },
    {"session_id": "busy", "start": NOW - 500, "end": NOW - 490, "dest": "6175550150", "direction": "outbound",
     "duration": 0, "hangup_original_code": "486", "hangup_original_scheme": "sip"},
    {"session_id": "live", "start": NOW - 20, "src": "4155550123", "dest": "8005550100",
     "events": [{"timestamp": NOW - 15, "class": "prompt", "line": "Please hold"}]},
    {"session_id": "old", "start": NOW - 400 * 86400, "end": NOW - 400 * 86400 + 7, "src": "999"},
]  # fmt: skip


@pytest.fixture(scope="module")
def login(server):
    login = server.account("calls@console.example", "--login", "calls of console")
    send(server, login, CALLS)
    return login


@pytest.fixture(scope="module")
def visitor(server, login):
    with Visitor(server) as somebody:
        somebody.sign_in(*login.fuse)
        yield somebody


@pytest.fixture
def hasty(tmp_path):
    """A server that gives a search up after its first look."""
    program = "from callhouse.store import browsing; browsing.PATIENCE = 0.0005; from callhouse.cli import app; app()"
    with Server(tmp_path / "data", *KEEP_ALL, command=[sys.executable, "-c", program]) as running:
        yield running


ALL = ["live", "agent", "ivr%2F1%3Ba%20b", "busy", "old"]


def test_all_calls_are_listed_the_newest_first(visitor):
    assert visitor.sessions() == ALL


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=12125550199", ["agent", "ivr%2F1%3Ba%20b"]),
        ("q=tel:800-555-0100", ["live", "ivr%2F1%3Ba%20b"]),
        ("q=ivr/1%3Ba+b", ["ivr%2F1%3Ba%20b"]),
        ("q=uuid-2", ["agent"]),
        ("q=abc@sbc", ["agent", "ivr%2F1%3Ba%20b"]),
        ("q=harbor+WELCOME", ["ivr%2F1%3Ba%20b"]),
        ("q=live", ["live"]),
        ("q=---", []),
        ("q=%00", ALL),
        ("last=1h", ALL[:4]),
        ("last=365d&errors=without", ["live", "agent", "busy"]),
        ("errors=with", ["ivr%2F1%3Ba%20b"]),
        ("status=busy&status=in+progress", ["live", "busy"]),
        ("direction=transfer", ["agent"]),
        ("application=Orders", ["ivr%2F1%3Ba%20b"]),
        ("cause=3010", ["busy"]),
        ("shortest=10&longest=11", ["busy"]),
        ("since=2020-01-01T00:00&until=2021-01-01T00:00", []),
        ("until=99 days ago", ["old"]),
    ],
)
def test_a_filter_or_a_search_finds_what_it_says(visitor, query, found):
    query = query.replace("99 days ago", time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(NOW - 99 * 86_400)))
    assert visitor.sessions(f"/calls?{query}") == found
    counted = visitor.get(f"/calls/count?{query}").text
    assert f"<b>{len(found)}</b>" in counted
    exported = visitor.get(f"/export/ndjson?{query}").text.splitlines()
    assert len(exported) == len(found)


@pytest.mark.parametrize(
    "query",
    ["last=3x", "direction=up", "status=lost", "cause=a", "cause=-1", "shortest=1e3", "errors=maybe", "since=yesterday",
     "until=2020-13-01T00:00", "since=0001-01-01T00:00", "until=0001-01-01T00:00%2B14:00", "at=9999-12-31T23:59:59",
     "since=9999-12-31T23:59-12:00", "at=0001-01-01T00:00Z",
     "before=x", "after=1", f"before={'9' * 30}~x", "q=" + "x" * 501],
)  # fmt: skip
def test_what_is_no_filter_is_a_clear_page_and_no_failure(visitor, query):
    refused = visitor.get(f"/calls?{query}")
    assert refused.status_code == 400
    assert f"Parameter {query.partition('=')[0]}" in html.unescape(refused.text)


def test_links_lead_through_all_pages_and_back_however_many_calls_come_meanwhile(server):
    login = server.account("pages@console.example")
    send(server, login, [{"session_id": f"s{n:03}", "start": NOW - n // 3, "end": NOW} for n in range(130)])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)

        def link(page, rel):
            found = re.search(rf'rel="{rel}" href="/console([^"]+)"', page)
            return html.unescape(found[1]) if found else None

        pages = [visitor.get("/calls").text]
        while following := link(pages[-1], "next"):
            pages.append(visitor.get(following).text)
            send(server, login, [{"session_id": f"new{len(pages)}", "start": NOW + len(pages), "end": NOW + 9}])
        shown = [re.findall(r'href="/console/call/(\w+)"', page) for page in pages]
        listed = [name for page in shown for name in page]
        assert [len(page) for page in shown] == [50, 50, 30]
        assert listed == sorted((f"s{n:03}" for n in range(130)), key=lambda s: (int(s[1:]) // 3, [-ord(c) for c in s]))
        back = visitor.get(link(pages[-1], "prev")).text
        assert re.findall(r'href="/console/call/(\w+)"', back) == shown[1]
        first = visitor.get(link(back, "prev"))
        assert "s000" in visitor.get(first.headers.get("location", "").removeprefix("/console") or "/calls").text


@pytest.mark.parametrize("name", ["t002", "t002 ", " t002"])
def test_blanks_of_a_session_id_are_part_of_where_a_page_begins(server, name):
    login = server.account(f"blank{len(name)}{name[0] == ' '}@console.example")
    names = [*(f"t{n:03}" for n in range(3, 52)), "t002", "t002 ", " t002", "a"]
    send(server, login, [{"session_id": each, "start": NOW - 60, "end": NOW} for each in names])
    listed = sorted(names, reverse=True)
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        for way, found in (("before", listed[listed.index(name) + 1 :]), ("after", listed[: listed.index(name)])):
            page = visitor.get(f"/calls?{way}={quote(f'{(NOW - 60) * 1000}~{name}')}")
            if way == "before" or page.status_code == 200:
                shown = re.findall(r'<td class="when"><a href="/console/call/([^"]+)"', page.text)
                assert shown == [quote(each) for each in (found[:50] if way == "before" else found[-50:])]


def test_a_search_that_took_too_long_goes_on_where_its_link_leads(hasty):
    login = hasty.account()
    day = 86_400
    calls = [{"session_id": f"s{n}", "start": NOW - n * day - 9, "end": NOW - n * day, "src": "1"} for n in range(29)]
    send(hasty, login, calls)
    with Visitor(hasty) as visitor:
        visitor.sign_in(*login.fuse)
        found, path, steps = [], "/calls?shortest=5&last=30d", 0
        while path:
            page = visitor.get(path)
            assert page.status_code == 200, page.text
            found += re.findall(r'href="/console/call/(\w+)"', page.text)
            link = re.search(r'href="/console(/calls[^"]+)">Look further back', page.text)
            path, steps = html.unescape(link[1]) if link else None, steps + 1
        assert found == [f"s{n}" for n in range(29)]
        assert steps > 1


def test_a_preset_that_is_chosen_stands_for_the_range_that_was_given(visitor):
    old = "since=2020-01-01T00:00&until=2021-01-01T00:00"
    assert visitor.sessions(f"/calls?was=any&last=1h&{old}") == ALL[:4]
    # The range is the newer one where the preset stayed as it was, and in a link.
    assert visitor.sessions(f"/calls?was=1h&last=1h&{old}") == []
    assert visitor.sessions(f"/calls?last=1h&{old}") == []
    page = visitor.get(f"/calls?last=1h&{old}").text
    assert 'name="was" value="any"' in page
    assert "The range below" in page


def test_the_form_keeps_a_cause_that_is_in_no_table_and_the_second_of_two_equal_hours(server, visitor):
    assert '<option value="4321" selected>4321</option>' in visitor.get("/calls?cause=4321").text
    login = server.account("fold@console.example", "--timezone", "America/New_York")
    second = 1_793_513_700  # 2026-11-01, 01:15 for the second time
    send(
        server, login, [{"session_id": f"h{n}", "start": second + 60 - 3600 * n, "end": second + 90} for n in range(2)]
    )
    with Visitor(server) as their:
        their.sign_in(*login.fuse)
        page = their.get("/calls?since=2026-11-01T06:15:00Z").text
        [(kind, value)] = re.findall(r'<input type="([a-z-]+)" name="since" value="([^"]+)"', page)
        assert (kind, value) == ("text", "2026-11-01T01:15:00-05:00")
        assert their.sessions(f"/calls?since={quote(value)}") == ["h0"]
        assert 'type="datetime-local" name="since"' in their.get("/calls?since=2026-11-01T05:15:00Z").text


def test_a_field_for_dates_says_every_instant_again():
    for name in ("America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"):
        zone = ZoneInfo(name)
        for at in range(1_760_000_000_000, 1_795_000_000_000, 1_799_000):
            assert instant("since", field(at, zone), zone, 0) == at


SIDES = ("alice", "sip:bob@example.com", "anonymous", "1-800-FLOWERS", "*98#", "*98", "+1212555;ext=5", "12", "7",
         "12125557788@10.0.0.1", "Front desk 7", "98", "+1 (800) 356")  # fmt: skip


@pytest.fixture(scope="module")
def switchboard(server):
    """An account whose calls have a side each that is no plain number."""
    login = server.account("sides@console.example")
    logged = {"timestamp": NOW - 50, "class": "info", "line": "Nobody is at home."}
    calls = [
        {"session_id": f"{side} {n}", "start": NOW - 60 - n, "end": NOW, ("src", "dest")[n % 2]: side}
        for n, side in enumerate(SIDES)
    ]
    send(server, login, [*calls, {"session_id": "none", "start": NOW - 90, "end": NOW, "events": [logged]}])
    in_progress = {"session_id": "alice in progress", "start": NOW - 50, "dest": "alice"}
    send(server, login, [in_progress, {"session_id": "alice to be", "src": "alice"}])
    with Visitor(server) as somebody:
        somebody.sign_in(*login.fuse)
        yield somebody


@pytest.mark.parametrize("side", SIDES)
def test_a_side_that_is_no_plain_number_is_found_as_it_was_sent(switchboard, side):
    found = [f"{side} {SIDES.index(side)}"]
    if side == "alice":
        found = ["alice to be", "alice in progress", *found]
    # Of a number the digits count, however they are written.
    found = {"7": ["7 8", "Front desk 7 10"], "98": ["*98# 4", "*98 5", "98 11"]}.get(side, found)
    assert switchboard.sessions(f"/calls?q={quote(side)}") == [quote(name, safe="") for name in found]
    assert f"<b>{len(found)}</b>" in switchboard.get(f"/calls/count?q={quote(side)}").text


def test_a_search_for_words_with_a_digit_is_none_for_the_extension_of_that_digit(switchboard):
    assert switchboard.sessions("/calls?q=order+7+failed") == []
    assert switchboard.sessions("/calls?q=1.2") == []
    assert switchboard.sessions("/calls?q=at+home") == ["none"]


def test_without_scripts_the_number_of_calls_is_a_link_away(visitor):
    page = visitor.get("/calls?status=busy").text
    [link] = re.findall(r'href="/console([^"]+)" data-without-script>Count them', page)
    assert '<p class="count"><b>1</b> call' in visitor.get(html.unescape(link)).text


def test_a_leg_that_shares_the_sip_call_id_is_listed_once(server):
    login = server.account("related@console.example")
    times = {"start": NOW - 60, "end": NOW - 1, "sip_call_id": "shared"}
    of_it = [
        {"session_id": "main", "call_uuid": "m", **times},
        {"session_id": "leg", "parent_call_uuid": "m", **times},
        {"session_id": "elsewhere", **times},
    ]
    send(server, login, of_it)
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        related = visitor.get("/call/main").text.partition('<ul class="related">')[2].partition("</ul>")[0]
        assert re.findall(r'class="dim">([\w -]+)</span> <a href="/console/call/(\w+)"', related) == [
            ("leg", "leg"),
            ("same SIP Call-ID", "elsewhere"),
        ]


@pytest.mark.parametrize("name", ["/", "//", ".", "..", "./.", "a/", "/a", "a/../b", "?x#y", "%2F"])
def test_every_session_id_has_an_address_that_leads_to_its_call(server, name):
    login = server.account(f"named{name.encode().hex()}@console.example")
    event = {"timestamp": NOW - 30, "class": "info", "line": "Logged."}
    send(server, login, [{"session_id": name, "start": NOW - 60, "events": [event]}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        [link] = re.findall(r'<td class="when"><a href="/console([^"]+)"', visitor.get("/calls").text)
        page = visitor.get(html.unescape(link))
        assert page.status_code == 200
        assert "Logged." in page.text
        paths = re.findall(r'(?:data-path|data-moment|hx-sse:connect)="/console([^"]+)"', page.text)
        assert len(paths) == 3
        for path in paths:
            with visitor.client.stream("GET", f"/console{html.unescape(path)}") as answer:
                assert answer.status_code == 200
        command = re.findall(r"<code>(curl [^<]+/console/record[^<]+)</code>", page.text)[0]
        address = shlex.split(html.unescape(command))[-1]
        assert visitor.client.get(address).json()["session_id"] == name


def test_the_event_nearest_to_an_instant_is_told_and_its_page_is_shown(server):
    login = server.account("moments@console.example")
    events = [{"timestamp": NOW - 1000 + n, "class": "info", "line": f"step {n}"} for n in range(900)]
    send(server, login, [{"session_id": "long", "start": NOW - 1000, "end": NOW, "events": events}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        said = visitor.get("/moment/long?at=700400")
        assert (said.text, said.headers["content-type"]) == ("11:40.000  info  step 700", "text/plain; charset=utf-8")
        assert visitor.get("/moment/long?at=-5").text.endswith("step 0")
        assert visitor.get("/moment/long?at=x").text == ""
        page = visitor.get("/events/long?at=700400").text
        assert re.findall(r"<span>step (\d+)</span>", page) == [str(n) for n in range(600, 800)]
        assert '<tr id="e700" data-at="700000" class="pointed">' in page
        assert "Show earlier events" in page
        assert "No event matches." in visitor.get("/events/long?at=700400&text=zzz").text


def test_what_lies_ahead_is_said_to(server):
    login = server.account("ahead@console.example")
    blank = {"session_id": "ahead", "start": NOW + 7200, "end": NOW + 7260, "src": "  ", "dest": "\u3000"}
    send(server, login, [blank])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        page = visitor.get("/call/ahead").text
        assert page.count("still ahead, in ") == 2
        assert "<title>unknown → unknown" in page
        assert visitor.get("/calls").text.count('<span class="dim">unknown</span>') == 2


def test_a_call_is_told_in_words_with_its_deltas_its_legs_and_its_log(visitor):
    page = re.sub("</?bdi>", "", html.unescape(visitor.get("/call/ivr%2F1%3Ba%20b").text))
    for said in (
        "rang 4 s", "talked 56 s", "1 min", "The caller hung up.", "The call ended in the normal way.", "Q.850 16",
        "4000", "Normal Hangup", "2125550199 → 3001", "Welcome to Harbor Lane", "0:09.500",
        "HTTP 503 from the warehouse", "Ada", "abc@sbc", "0.0123", "[1]",
    ):  # fmt: skip
        assert said in page, said
    steps = re.findall(r'<li class="(\w+)">.*?<span class="text">(.*?)</span>', page)
    assert steps == [("prompt", "Welcome to Harbor Lane"), ("input", "2"), ("error", "HTTP 503 from the warehouse")]
    assert page.count('class="lane"') == 1
    assert page.count('class="lane own"') == 1
    leg = re.sub("</?bdi>", "", html.unescape(visitor.get("/call/agent").text))
    assert "parent" in leg
    assert "+1 (212) 555-0199 → 8005550100" in leg


def test_a_text_that_turns_its_own_direction_round_turns_nothing_else_round(server):
    login = server.account("direction@console.example")
    turned = "\u202e999"
    times = {"start": NOW - 60, "end": NOW - 1, "src": turned, "dest": "1"}
    send(server, login, [{"session_id": "main", "call_uuid": "m", "hangup_source": turned, **times}])
    send(server, login, [{**times, "session_id": "leg", "parent_call_uuid": "m", "dest": turned}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        for name, related in (("main", f"<bdi>{turned}</bdi> → <bdi>{turned}</bdi>"),
                              ("leg", f"<bdi>{turned}</bdi> → <bdi>1</bdi>")):  # fmt: skip
            page = visitor.get(f"/call/{name}").text
            assert f">{related}</a>" in page
            assert f"<bdi>{turned}</bdi>" in page.partition('class="timeline"')[2].partition("</section>")[0]
        assert f"<bdi>Ended by {turned}</bdi>." in visitor.get("/call/main").text


def test_a_very_long_side_is_short_in_the_heading_and_whole_below(server):
    login = server.account("long@console.example")
    send(server, login, [{"session_id": "long", "start": NOW - 60, "end": NOW, "src": "9" * 3000, "dest": "x" * 3000}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        page = visitor.get("/call/long").text
        heading = page.partition("<h1>")[2].partition("</h1>")[0]
        assert "9" * 99 + "…" in heading
        assert len(heading) < 600
        for side in ("9" * 3000, "x" * 3000):
            assert f"<code>{side}</code>" in page


def test_an_answer_and_an_end_on_another_day_have_their_date(server):
    login = server.account("days@console.example", "--timezone", "UTC")
    start = 1_770_000_000  # 2026-02-02, 02:40
    times = {"start": start, "answer": start + 5, "end": start + 300 * 86_400}
    send(server, login, [{"session_id": "long", **times}, {"session_id": "short", **times, "end": start + 60}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        assert "Sun 29 Nov 2026, 02:40:00.000" in visitor.get("/call/long").text
        assert visitor.get("/call/short").text.count("2 Feb 2026, ") == 1


def test_a_form_of_the_header_leads_back_to_the_same_filter_without_scripts_too(visitor):
    for path in ("/calls?q=2125550199&status=busy", "/call/ivr%2F1%3Ba%20b?class=error"):
        page = html.unescape(visitor.get(path).text)
        [target] = re.findall(r'name="next" value="([^"]+)" data-here', page)
        sent = visitor.send("/timezone", page="/calls", timezone="UTC", next=target)
        assert sent.headers["location"] == f"/console{path}"


def test_the_record_is_shown_as_each_api_shows_it_with_a_command_that_works(server, login, visitor):
    page = html.unescape(visitor.get("/call/ivr%2F1%3Ba%20b").text)
    secrets = {"DEVELOPER_KEY": login.developer_key, "PASSWORD": login.password, "AUTH_TOKEN": login.auth_token}
    names = {}
    for command in re.findall(r"<code>(curl [^<]+)</code>", page):
        done = subprocess.run(command, shell=True, env={**os.environ, **secrets}, capture_output=True, check=True)
        names[re.search(r"http://[^/]+/(\w+)", command)[1]] = json.loads(done.stdout)
    assert set(names) == {"api", "ws", "v1", "console"}
    assert names["api"][0]["event"]["line"] == "Welcome to Harbor Lane"
    assert names["ws"]["result"]["dest"] == "8005550100"
    assert names["v1"]["call_uuid"] == "uuid-1"
    assert read_call(json.dumps(names["console"]).encode(), 32) == read_call(json.dumps(CALLS[0]).encode(), 32)


def test_of_a_call_in_progress_the_apis_that_show_none_say_so(visitor):
    page = visitor.get("/call/live").text
    assert "Please hold" in page
    assert page.count("This API does not show the call") == 2
    assert "status=live" in page


def test_events_are_filtered_by_class_and_text_and_shown_some_at_a_time(server):
    login = server.account("events@console.example")
    events = [
        {
            "timestamp": NOW - 1000 + n / 100,
            "class": "debug" if n % 2 else "info",
            "line": f"step {n}",
            "data": {"n": n},
        }
        for n in range(1_000)
    ]
    send(server, login, [{"session_id": "long", "start": NOW - 1000, "end": NOW - 900, "events": events}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)

        def shown(query):
            page = visitor.get(f"/events/long?{query}").text
            following = re.search(r'name="shown" value="(\d+)"', page)
            return [int(n) for n in re.findall(r"<span>step (\d+)</span>", page)], following and following[1]

        assert shown("") == (list(range(200)), "400")
        assert shown("from=0&shown=400") == (list(range(400)), "600")
        assert shown("from=900") == (list(range(900, 1_000)), "400")
        assert 'name="from" value="700"' in visitor.get("/events/long?from=900").text
        assert shown("class=debug&from=800") == (list(range(801, 1_000, 2)), "400")
        assert shown("text=STEP+99") == ([99, *range(990, 1_000)], None)
        assert shown("class=info&class=nonsense&text=99&from=abc") == ([*range(990, 1_000, 2)][:5] and
               [n for n in range(0, 1_000, 2) if "99" in str(n)], None)  # fmt: skip
        assert "No event matches." in visitor.get("/events/long?text=zzz").text
        assert "No event matches." in visitor.get("/call/long?text=zzz").text


def test_events_from_a_place_that_none_of_them_reaches_are_the_last_ones(server):
    login = server.account("far@console.example")
    events = [{"timestamp": NOW - 1000 + n, "class": "info", "line": f"step {n}"} for n in range(500)]
    send(server, login, [{"session_id": "far", "start": NOW - 1000, "events": events}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        for page in ("/events/far", "/call/far"):
            for query, expected in (
                ("from=99999", range(300, 500)),
                ("from=400&text=step+1&shown=200", [n for n in range(400) if str(n).startswith("1")]),
                ("from=99999&text=zzz", []),
            ):
                answer = visitor.get(f"{page}?{query}")
                assert answer.status_code == 200, (page, query)
                assert [int(n) for n in re.findall(r"<span>step (\d+)</span>", answer.text)] == list(expected)


def test_no_more_events_are_shown_at_once_than_a_page_can_bear_and_the_later_ones_are_a_step_away(server):
    login = server.account("fat@console.example")
    events = [{"timestamp": NOW - 3000 + n, "class": "info", "line": f"step {n}"} for n in range(2_500)]
    send(server, login, [{"session_id": "fat", "start": NOW - 3000, "end": NOW - 100, "events": events}])
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        seen, path = [], "/call/fat?shown=100000"
        while path:
            page = visitor.get(path).text
            shown = [int(n) for n in re.findall(r"<span>step (\d+)</span>", page)]
            assert 0 < len(shown) <= 1_000
            seen += [n for n in shown if n not in seen]
            later = re.search(
                r'name="from" value="(\d+)"><input[^>]* name="shown" value="(\d+)">\s*<button>Show later', page
            )
            more = re.search(
                r'name="from" value="(\d+)"><input[^>]* name="shown" value="(\d+)">\s*<button>Show more', page
            )
            step = later or more
            path = f"/events/fat?from={step[1]}&shown={step[2]}" if step else None
        assert seen == list(range(2_500))


@pytest.mark.parametrize("path", ["/call/{}", "/events/{}", "/live/{}", "/record/{}"])
def test_another_accounts_call_is_answered_as_one_that_does_not_exist(server, visitor, path):
    stranger = server.account(f"stranger{path[1]}@console.example")
    send(server, stranger, [{"session_id": "theirs", "start": NOW - 60, "end": NOW - 1, "src": "3334445555"}])

    def without_token(name):
        answer = visitor.get(path.format(name))
        return answer.status_code, re.sub('value="[^"]*"', "", answer.text)

    assert without_token("theirs") == without_token("nothere")
    assert without_token("theirs")[0] == 404
    assert visitor.sessions("/calls?q=3334445555") == []
    assert "<b>0</b>" in visitor.get("/calls/count?q=theirs").text


FORMATS = {
    "csv": lambda content: list(csv.DictReader(io.StringIO(content.decode()))),
    "ndjson": lambda content: [json.loads(line) for line in content.splitlines()],
    "parquet": lambda content: read_parquet(io.BytesIO(content)).read_all().to_struct_array().to_pylist(),
}


@pytest.mark.parametrize("name", ["csv", "ndjson"])
def test_an_export_holds_every_call_of_the_filter_and_what_was_sent_of_it(visitor, name):
    answer = visitor.get(f"/export/{name}")
    assert answer.headers["content-type"].count("charset") <= 1
    assert re.fullmatch(rf'attachment; filename="calls-\d{{8}}-\d{{6}}.{name}"', answer.headers["content-disposition"])
    rows = FORMATS[name](answer.content)
    assert [row["session_id"] for row in rows] == ["live", "agent", "ivr/1;a b", "busy", "old"]
    assert rows[2]["src"] == "+1 (212) 555-0199"
    assert float(rows[2]["amount"]) == 0.0123


def test_a_csv_is_no_formula_to_a_spreadsheet(server):
    login = server.account("formula@console.example")
    hostile = ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd", "\t=1", "\r=1", "+49-30-1", "-2+3",
               "+1-212-555-0199", "+49/30", "+(5)", "- 5 + 3", "+1,5"]  # fmt: skip
    harmless = ["+49 (30) 12/34-5", "+1 212 555-0199", "+12125550199", "-5", "+1.5", "*98#", "2-1"]
    calls = [{"session_id": f"s{n}", "start": NOW - n, "end": NOW, "src": text} for n, text in enumerate(hostile)]
    calls += [{"session_id": f"n{n}", "start": NOW - 99 - n, "src": text} for n, text in enumerate(harmless)]
    send(server, login, calls)
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        rows = FORMATS["csv"](visitor.get("/export/csv").content)
    assert [row["src"] for row in rows] == [*(f"'{text}" for text in hostile), *harmless]


def test_what_is_exported_as_ndjson_can_be_sent_to_another_account_as_it_is(server, visitor):
    other = server.account("imported@console.example")
    exported = visitor.get("/export/ndjson").content
    answer = server.client.post(
        "/ingest/calls", content=exported, headers={"Content-Type": "application/x-ndjson"}, auth=other.fuse
    )
    assert answer.json() == {"accepted": 5, "rejected": []}
    with Visitor(server) as their:
        their.sign_in(*other.fuse)
        assert their.sessions() == ALL


@pytest.mark.parametrize("hostile", [text for text in HOSTILE if "\x00" not in text and "\udcff" not in text])
def test_whatever_stands_in_a_field_is_shown_as_text(server, hostile):
    login = server.account(f"hostile{abs(hash(hostile))}@console.example")
    fields = dict.fromkeys(text_fields(), hostile)
    events = [
        {
            "timestamp": NOW - 50,
            "class": class_,
            "line": hostile,
            "data": {hostile: hostile, "deep": [{hostile: hostile}]},
        }
        for class_ in ("prompt", "error")
    ]
    call = {**fields, "session_id": hostile, "start": NOW - 60, "end": NOW - 1, "events": events, hostile: hostile}
    send(
        server,
        login,
        [{name: value for name, value in call.items() if name in text_fields() or value != hostile} | call],
    )
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        [name] = visitor.sessions()
        for path in ("/calls", f"/call/{name}", f"/events/{name}"):
            page = visitor.get(path).text
            assert html.escape(hostile, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
            for tag in re.findall(r"<[a-z]+[^>]*>", page):
                assert "alert(1)>" not in tag
                assert not re.search(r"\son\w+=", re.sub(r'"[^"]*"', "", tag)), tag
            assert "<script>alert" not in page
            assert "<img" not in page


def test_real_records_of_switches_are_listed_and_each_has_a_page(server):
    login = server.account("samples@console.example")
    for file in sorted((SAMPLES / "kamailio").glob("*.json")):
        server.client.post("/ingest/kamailio", content=file.read_bytes(), auth=login.fuse)
    for file in sorted((SAMPLES / "freeswitch" / "posts").iterdir())[:20]:
        post = json.loads(file.read_bytes())
        headers = {"Content-Type": post["content_type"]}
        server.client.post("/ingest/freeswitch", content=post["body"].encode(), headers=headers, auth=login.fuse)
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        listed = visitor.sessions()
        assert len(listed) > 15
        for name in listed:
            page = visitor.get(f"/call/{name}")
            assert page.status_code == 200, name
            assert "Why it ended" in page.text


def test_fields_of_a_call_are_all_exported():
    # What a vendor tells in other words than ours is shown by its own API alone.
    named = {column.name for column in COLUMNS} | {"extra", "duration", "told"}
    assert set(Call.__struct_fields__) <= named


def origin_of(visitor, session_id):
    """What the page of a call says of where the record came from."""
    page = visitor.get(f"/call/{session_id}")
    assert page.status_code == 200
    section = page.text.partition('<h2 id="origin">')[2].partition("</section>")[0]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", section)).split())


def test_a_call_tells_by_what_way_it_came_and_how_often_it_was_replaced(server, login, visitor):
    call = {"session_id": "told", "start": NOW - 60, "end": NOW - 30, "dest": "1"}
    for _ in range(2):
        send(server, login, [call])
        told = origin_of(visitor, "told")
        assert re.search(r"Source /ingest/calls First received .+ Last changed not since Replaced never$", told), told
    send(server, login, [{**call, "dest": "2"}])
    send(
        server,
        login,
        [{"session_id": "told", "events": [{"timestamp": NOW - 50, "class": "info", "line": "x"}]}],
        "events",
    )
    told = origin_of(visitor, "told")
    assert re.search(r"Last changed \w{3} \d.+ by /ingest/events Replaced 1 time what was known was told", told), told


def test_a_call_that_was_imported_tells_the_directory_and_one_that_was_joined_its_records(server):
    login = server.account("joined@console.example")
    directory = SAMPLES / "asterisk" / "local-ivr"
    for name in ("Master.csv", "cel_full.csv"):
        callhouse("import", "asterisk", "--account", login.id, directory / name, data=server.data)
    with Visitor(server) as somebody:
        somebody.sign_in(*login.fuse)
        [name, *_] = somebody.sessions()
        told = origin_of(somebody, name)
    assert f"Source import of a file in {directory}/, read as asterisk First received" in told
    assert re.search(r"Replaced never Put together from \d+ records of asterisk the last at", told), told
