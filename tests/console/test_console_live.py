"""Streams of the console: they tell what changes, end with the sign-in, and keep nothing from stopping."""

import html
import re
import shlex
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from callhouse.console import live
from console.visiting import Visitor
from serving import send

NOW = int(time.time())


def messages(response):
    """The server's messages: name and data each."""
    name, data = "message", []
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and data:
            yield name, "\n".join(data)
            name, data = "message", []


@pytest.fixture
def watched(own_server):
    server = own_server()
    login = server.account()
    with Visitor(server) as visitor:
        visitor.sign_in(*login.fuse)
        yield server, login, visitor


def test_a_list_tells_of_calls_that_arrive_and_marks_them_for_a_while(watched):
    server, login, visitor = watched
    send(server, login, [{"session_id": "first", "start": NOW - 9, "end": NOW}])
    with visitor.client.stream("GET", "/console/calls/live?status=answered") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = messages(response)
        _, rows = next(told)
        assert rows.count("<tr id=") == 1
        assert "arrived" not in rows
        send(server, login, [{"session_id": "failed", "start": NOW, "end": NOW, "hangup_cause_code": 5010}])
        send(server, login, [{"session_id": "second", "start": NOW - 5, "end": NOW}])
        _, rows = next(told)
        assert [name in rows for name in ("first", "second", "failed")] == [True, True, False]
        assert rows.count('class="arrived"') == 1
        _, rows = next(told)
        assert "arrived" not in rows


def test_the_record_in_every_api_is_told_anew_when_the_call_is_over(watched):
    server, login, visitor = watched
    send(server, login, [{"session_id": "a", "start": NOW - 9}])
    with visitor.client.stream("GET", "/console/live/a") as response:
        told = messages(response)
        assert "records-shown" not in next(told)[1]
        event = {"timestamp": NOW - 5, "class": "info", "line": "Logged."}
        send(server, login, [{"session_id": "a", "start": NOW - 9, "end": NOW, "events": [event]}])
        shown = next(data for _, data in told if "records-shown" in data)
    commands = [shlex.split(html.unescape(each)) for each in re.findall(r"<code>(curl [^<]+)</code>", shown)]
    assert commands
    for *_, url in commands:
        kind = login.plivo if "/v1/" in url else login.fuse
        assert server.client.get(url, auth=kind).status_code == 200, url


def test_a_list_tells_the_link_that_goes_on_from_it_and_how_many_calls_there_are(watched):
    server, login, visitor = watched
    shown = re.compile(r'href="/console/call/(\w+)"')
    with visitor.client.stream("GET", "/console/calls/live?status=answered") as response:
        told = messages(response)
        _, update = next(told)
        assert "<b>0</b> calls" in update
        assert 'rel="next"' not in update
        for first, more in ((0, 61), (61, 20)):
            calls = [{"session_id": f"s{n}", "start": NOW - 200 + n, "end": NOW} for n in range(first, first + more)]
            send(server, login, calls)
            _, update = next(each for each in told if f"<b>{first + more}</b> calls" in each[1])
            older = html.unescape(re.search(r'rel="next" href="/console([^"]+)"', update)[1])
            names = shown.findall(update) + shown.findall(visitor.get(older).text)
            assert names == [f"s{n}" for n in reversed(range(first + more))]


def test_a_calls_stream_says_when_it_is_over(watched):
    server, login, visitor = watched
    send(server, login, [{"session_id": "a", "start": NOW - 9}])
    with visitor.client.stream("GET", "/console/live/a") as response:
        told = messages(response)
        assert "in progress" in next(told)[1]
        send(server, login, [{"session_id": "a", "start": NOW - 9, "end": NOW}])
        last = [name for name, _ in told]
        assert last[-1] == "over"
        assert last.count("over") == 1


def test_signing_out_ends_the_streams_of_the_session(watched):
    _, _, visitor = watched
    with visitor.client.stream("GET", "/console/calls/live") as response:
        told = messages(response)
        next(told)
        visitor.send("/sign-out", page="/calls")
        assert list(told) == [("signed-out", "")]


def test_a_stopping_server_waits_for_no_stream(watched):
    server, _, visitor = watched
    with visitor.client.stream("GET", "/console/calls/live") as response:
        told = messages(response)
        next(told)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 15
        assert list(told) == []


def test_more_streams_than_an_account_may_have_are_told_to_come_again_and_others_are_served(watched):
    server, _, visitor = watched
    other = server.account("other@console.example")
    streams, lines = [], []
    try:
        for _ in range(live.MOST_OF_ACCOUNT):
            request = visitor.client.build_request("GET", "/console/calls/live")
            streams.append(visitor.client.send(request, stream=True))
            lines.append(streams[-1].iter_lines())
            next(lines[-1])
        refused = visitor.get("/calls/live")
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "30"
        assert visitor.get("/calls").status_code == 200
        with Visitor(server) as somebody:
            somebody.sign_in(*other.fuse)
            with somebody.client.stream("GET", "/console/calls/live") as served:
                assert served.status_code == 200
    finally:
        for stream in streams:
            stream.close()
    # The places are free again.
    until = time.monotonic() + 30
    while True:
        with visitor.client.stream("GET", "/console/calls/live") as again:
            if again.status_code == 200:
                break
        assert time.monotonic() < until


def test_streams_that_are_asked_for_at_once_are_counted_at_once(watched):
    _, _, visitor = watched

    def asked(_):
        with visitor.client.stream("GET", "/console/calls/live") as response:
            everybody_asked.wait(60)
            return response.status_code

    attempts = live.MOST_OF_ACCOUNT + 10
    everybody_asked = threading.Barrier(attempts)
    with ThreadPoolExecutor(attempts) as pool:
        statuses = Counter(pool.map(asked, range(attempts)))
    assert statuses == {200: live.MOST_OF_ACCOUNT, 429: 10}


def test_the_stream_of_a_download_that_is_not_known_ends_soon(watched):
    _, _, visitor = watched
    began = time.monotonic()
    with visitor.client.stream("GET", "/console/export/progress?id=none") as response:
        told = list(messages(response))
    assert "There is no such download." in told[-2][1]
    assert told[-1] == ("over", "")
    assert time.monotonic() - began < 40
