"""Ingest over real HTTP: forms, replies, limits, and what becomes of what is refused."""

import gzip
import json
import random
import string
import subprocess

import httpx
import pytest
import zstandard

import stores
from serving import callhouse, get, ndjson, send, wait_until

START = 1_600_000_000
WINDOW = f"/api/calls/{START}/{START + 1000}"


def call(session_id, **fields):
    return {"session_id": session_id, "start": START, "end": START + 10, **fields}


def event(line="Hello", at=START + 1):
    return {"timestamp": at, "class": "info", "line": line}


@pytest.fixture
def login(server, request):
    return server.account(f"{abs(hash(request.node.nodeid))}@example.com")


def post(server, login, content, route="calls", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.client.post(f"/ingest/{route}", content=content, headers=names, auth=login.fuse)


def sessions(server, login):
    return sorted(c["session_id"] for c in get(server, login, WINDOW).json()["calls"])


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (json.dumps(call("a")), {"content_type": "application/json"}),
        (json.dumps([call("a")]), {"content_type": "application/json; charset=utf-8"}),
        (ndjson([call("a")]), {"content_type": "application/x-ndjson"}),
        (json.dumps(call("a")), {"content_type": "application/x-www-form-urlencoded"}),
        (json.dumps(call("a"), indent=1), {}),
        (gzip.compress(json.dumps([call("a")]).encode(), mtime=0), {"content_encoding": "gzip"}),
        (zstandard.compress(ndjson([call("a")])), {"content_encoding": "zstd", "content_type": "application/x-ndjson"}),
    ],
)
def test_every_form_of_a_body_is_taken(server, login, content, headers):
    answer = post(server, login, content, **headers)
    assert (answer.status_code, answer.json()) == (200, {"accepted": 1, "rejected": []})
    assert answer.headers["content-type"] == "application/json"
    assert sessions(server, login) == ["a"]


def test_curl_sends_a_file_of_lines_as_it_would_by_default(server, login, tmp_path):
    (tmp_path / "calls.ndjson").write_bytes(ndjson([call("a"), call("b")]))
    done = subprocess.run(
        ["curl", "-sS", "-u", ":".join(login.fuse), f"{server.url}/ingest/calls", "--data-binary", "@calls.ndjson"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"accepted": 2, "rejected": []}


def test_a_bad_record_is_named_by_its_place_and_does_not_block_the_others(server, login):
    records = [call("a"), {"start": 1}, call("b", direction="sideways"), call("c"), 7, call("d", end=START - 1)]
    reply = post(server, login, json.dumps(records)).json()
    assert reply["accepted"] == 2
    assert [(r["index"], r["error"].split()[-1]) for r in reply["rejected"]] == [
        (1, "`session_id`"),
        (2, "`$.direction`"),
        (4, "`int`"),
        (5, "start"),
    ]
    assert sessions(server, login) == ["a", "c"]


def test_a_part_that_contradicts_what_is_known_is_refused_and_changes_nothing(server, login):
    send(server, login, [call("a", end=None)])
    reply = post(server, login, json.dumps(call("a", start=None, end=START - 5))).json()
    assert reply == {"accepted": 0, "rejected": [{"index": 0, "error": "end is before start"}]}
    send(server, login, [call("a", start=None)])
    assert sessions(server, login) == ["a"]


def test_a_later_fuller_record_replaces_an_earlier_one_and_an_opening_sent_again_takes_nothing_back(server, login):
    opening = {"session_id": "a", "start": START, "src": "1", "dest": "2"}
    closing = {"session_id": "a", "start": START, "end": START + 9, "src": "1", "dest": "3"}
    for record in (opening, closing, opening, closing):
        send(server, login, [record])
    [shown] = get(server, login, WINDOW).json()["calls"]
    assert (shown["dest"], shown["end"]) == ("3", START + 9)


def test_events_sent_after_the_end_join_the_log_in_their_place(server, login):
    send(server, login, [call("a", events=[event("first", START), event("third", START + 2)])])
    send(
        server,
        login,
        [{"session_id": "a", "events": [event("second", START + 1), event("third", START + 2)]}],
        "events",
    )
    assert [e["event"]["line"] for e in get(server, login, "/api/call/a").json()] == ["first", "second", "third"]


@pytest.mark.parametrize(
    "content", ["", "[", "nothing", "<xml/>", '{"session_id": "a"', "[{]", "{\n{\n", '{"a": ' * 99999]
)
def test_a_body_that_cannot_be_read_at_all_is_a_400_with_a_reason(server, login, content):
    answer = post(server, login, content)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_of_a_body_that_cannot_be_read_at_all_nothing_is_kept(server, login):
    assert post(server, login, '{"session_id": "a"').status_code == 400
    assert "quarantine is empty" in callhouse("quarantine", "list", "--account", login.id, data=server.data).stdout


def test_an_unknown_encoding_and_a_damaged_one_are_400(server, login):
    for encoding, content in (("br", b"x"), ("gzip", b"x"), ("zstd", zstandard.compress(b"[]")[:-1])):
        answer = post(server, login, content, content_encoding=encoding)
        assert answer.status_code == 400
        assert "error" in answer.json()


def test_other_methods_are_refused_with_the_one_that_is_right(server, login):
    assert server.client.get("/ingest/calls", auth=login.fuse).status_code == 405
    assert "POST" in server.client.get("/ingest/calls", auth=login.fuse).headers["allow"]
    assert "POST" in server.client.put("/ingest/calls", content="{}", auth=login.fuse).headers["allow"]


@pytest.mark.parametrize("path", ["/ingest/nosuchswitch", "/ingest/calls/more", "/ingest", "/ingest/"])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_source_that_does_not_exist_is_not_found_and_those_that_do_are_named(server, login, method, path):
    answer = server.client.request(method, path, auth=login.fuse)
    assert answer.status_code == 404
    beginning, _, named = answer.json()["error"].removesuffix(".").partition(" to ")
    assert beginning == "Not found; records are posted"
    assert {"/ingest/calls", "/ingest/events", "/ingest/freeswitch", "/ingest/kamailio"} <= set(named.split(", "))
    assert server.client.request(method, "/ingests").json() == {"error": "Not found."}


def test_limits_are_settable_and_each_refuses_what_exceeds_it(own_server):
    server = own_server(
        "ingest.max_body=20000",
        "ingest.max_record=3000",
        "ingest.max_depth=4",
        "ingest.max_events=3",
        "retention.details=forever",
        "retention.sessions=forever",
    )
    login = server.account()
    assert post(server, login, b" " * 20_001).status_code == 413
    bomb = gzip.compress(b" " * 20_001)
    answer = post(server, login, bomb, content_encoding="gzip")
    assert answer.status_code == 413
    assert "after decompression" in answer.json()["error"]

    def chunks():
        for _ in range(30):
            yield b" " * 1000

    assert server.client.post("/ingest/calls", content=chunks(), auth=login.fuse).status_code == 413
    records = [
        call("large", note="x" * 3000),
        call("deep", note=[[[[[1]]]]]),
        call("many", events=[event(at=START + n) for n in range(4)]),
        call("fits"),
    ]
    reply = post(server, login, json.dumps(records)).json()
    assert reply["accepted"] == 1
    assert [r["error"] for r in reply["rejected"]] == [
        "has more than 3000 bytes",
        "nests deeper than 4",
        "the call has more than 3 events",
    ]
    send(server, login, [{"session_id": "fits", "events": [event(at=START + n) for n in range(3)]}], "events")
    send(server, login, [{"session_id": "fits", "events": [event(at=START + n) for n in range(3)]}], "events")
    more = post(
        server, login, json.dumps({"session_id": "fits", "events": [event(at=START + 3)]}), route="events"
    ).json()
    assert more["rejected"] == [{"index": 0, "error": "the call has more than 3 events"}]


def test_a_log_over_its_limit_of_bytes_takes_no_more_events_and_costs_no_other_record(own_server):
    forever = "retention.details=forever", "retention.sessions=forever"
    server = own_server("ingest.max_log=20000", *forever)
    login = server.account()

    def part(session_id, number, size=3000):
        return {"session_id": session_id, "events": [event(f"{number} " + "x" * size, at=START + number)]}

    full = {"index": 0, "error": "the call's log has more than 20000 bytes"}
    for session_id, ended in (("over", True), ("going", False)):
        send(server, login, [{"session_id": session_id, "start": START, "end": START + 99 if ended else None}])
        # One after the other and many at once.
        send(server, login, [part(session_id, 1)], "events")
        reply = post(server, login, json.dumps([part(session_id, n) for n in range(2, 9)]), route="events").json()
        assert reply == {"accepted": 5, "rejected": [{**full, "index": 5}, {**full, "index": 6}]}
        assert post(server, login, json.dumps(part(session_id, 9)), route="events").json()["rejected"] == [full]
        # What is known already is a repeat still, and what is small enough still fits.
        send(server, login, [part(session_id, n) for n in range(1, 7)], "events")
        send(server, login, [part(session_id, 10, size=500)], "events")
        # Small ones fill it too.
        reply = post(
            server, login, json.dumps([part(session_id, n, size=50) for n in range(11, 41)]), route="events"
        ).json()
        assert 0 < reply["accepted"] < 30
        assert {r["error"] for r in reply["rejected"]} == {full["error"]}
    send(server, login, [{"session_id": "going", "end": START + 99}])
    for session_id in ("over", "going"):
        log = get(server, login, f"/api/call/{session_id}")
        assert [e["event"]["line"][:2].strip() for e in log.json()][:7] == ["1", "2", "3", "4", "5", "6", "10"]
        assert 19_000 < len(log.content) <= 20_000
    whole = call("whole", events=[event("x" * 7000, at=START + n) for n in range(3)])
    assert post(server, login, json.dumps([whole, call("other")])).json() == {"accepted": 1, "rejected": [full]}
    listed = json.loads(callhouse("quarantine", "list", "--account", login.id, "--json", data=server.data).stdout)
    assert "whole" in listed[-1]["record"]
    again = callhouse(
        "quarantine", "replay", listed[-1]["id"], *(w for s in forever for w in ("--set", s)), data=server.data
    )
    assert "1 accepted" in again.stdout


def test_what_was_refused_is_kept_once_and_enters_when_it_can_be_kept(own_server):
    server = own_server("ingest.max_depth=3", "retention.details=forever", "retention.sessions=forever")
    login = server.account()
    records = json.dumps([call("deep", note=[[[1]]]), call("backwards", end=1)])
    for _ in range(3):
        assert post(server, login, records).json()["accepted"] == 0
    listed = json.loads(callhouse("quarantine", "list", "--json", data=server.data).stdout)
    assert [(e["source"], e["reason"]) for e in listed] == [
        ("calls", "nests deeper than 3"),
        ("calls", "end is before start"),
    ]
    assert json.loads(listed[0]["record"])["session_id"] == "deep"
    keep = ["--set", "retention.details=forever", "--set", "retention.sessions=forever"]
    again = callhouse("quarantine", "replay", "--all", "--json", *keep, data=server.data, check=False)
    assert again.returncode == 1
    assert json.loads(again.stdout) == {"accepted": 1, "still_refused": {str(listed[1]["id"]): "end is before start"}}
    assert sessions(server, login) == ["deep"]
    dropped = callhouse("quarantine", "drop", "--all", "--json", data=server.data)
    assert json.loads(dropped.stdout) == {"dropped": 1}
    assert json.loads(callhouse("quarantine", "list", "--json", data=server.data).stdout) == []


def test_a_refused_sender_of_a_long_body_sees_why_instead_of_a_broken_connection(own_server):
    server = own_server("ingest.max_body=1000000")
    login = server.account()
    long = b" " * 3_000_000
    for _ in range(10):
        assert post(server, login, long).status_code == 413
        assert server.client.post("/ingest/calls", content=long, auth=(login.email, "wrong")).status_code in {401, 429}


def test_too_old_records_are_refused_and_too_old_events_alone_are_counted(own_server, now_seconds):
    server = own_server()
    login = server.account()
    week, years = now_seconds - 7 * 86400, now_seconds - 800 * 86400
    records = [
        {"session_id": "week", "start": week, "end": week + 1, "events": [event(at=week)]},
        {"session_id": "years", "start": years, "end": years + 1},
    ]
    assert post(server, login, json.dumps(records)).json() == {
        "accepted": 1,
        "rejected": [{"index": 1, "error": "the call is older than its retention of 1y"}],
        "expired_events": 1,
    }
    late = post(server, login, json.dumps({"session_id": "week", "events": [event(at=week)]}), route="events").json()
    assert late["rejected"] == [{"index": 0, "error": "its events are older than their retention of 5d"}]


def test_a_store_that_cannot_be_written_is_503_and_a_repeat_succeeds_when_it_can(own_server):
    server = own_server("retention.details=forever", "retention.sessions=forever")
    login = server.account()
    if stores.databases is None:
        fails = "BEGIN SELECT raise(FAIL, 'no room'); END"
    else:
        stores.sql(server.data, "CREATE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS "
                   "$$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$")  # fmt: skip
        fails = "FOR EACH ROW EXECUTE FUNCTION fails()"
    stores.sql(server.data, f"CREATE TRIGGER is_full BEFORE INSERT ON calls {fails}")
    answer = post(server, login, json.dumps(call("a")))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "no room" not in answer.text
    wait_until(lambda: "no room" in server.log.read_text(), "a line with the cause")
    stores.sql(server.data, "DROP TRIGGER is_full" + ("" if stores.databases is None else " ON calls"))
    send(server, login, [call("a")])
    assert sessions(server, login) == ["a"]


def test_a_sender_that_hangs_up_in_the_middle_leaves_nothing_behind(server, login):
    def half():
        yield json.dumps([call("a")]).encode()[:-1]
        raise ConnectionError

    with pytest.raises((ConnectionError, httpx.HTTPError)):
        server.client.post("/ingest/calls", content=half(), auth=login.fuse)
    assert sessions(server, login) == []


def test_a_large_body_is_taken_whole_and_twice_changes_nothing(server, login):
    records = [call(f"s{n:05}", src=str(n), events=[event(f"line {n}")]) for n in range(6000)]
    body = zstandard.compress(ndjson(records))
    for _ in range(2):
        answer = post(server, login, body, content_type="application/x-ndjson", content_encoding="zstd")
        assert answer.json() == {"accepted": 6000, "rejected": []}
    assert get(server, login, WINDOW).json()["total_calls"] == 6000
    assert get(server, login, "/api/call/s04321").json()[0]["event"]["line"] == "line 4321"


def random_text(length):
    """One that no compression makes short enough for an index."""
    return "".join(random.Random(length).choices(string.ascii_letters + string.digits, k=length))


@pytest.mark.parametrize("field", ["call_uuid", "parent_call_uuid", "sip_call_id", "src", "dest", "application_name"])
def test_a_text_of_any_length_is_kept_and_found_and_costs_no_other_record(server, login, field):
    texts = {f"{field} {length}": random_text(length) for length in (10, 3_000, 100_000)}
    records = [call(session_id, **{field: text}) for session_id, text in texts.items()]
    for _ in range(2):
        assert send(server, login, records)["accepted"] == 3
    assert {found["session_id"] for found in get(server, login, WINDOW).json()["calls"]} == {*texts}
    for session_id, text in texts.items():
        if field == "sip_call_id":
            kept = ("--set", "retention.sessions=forever", "--set", "retention.plivo=forever")
            asked = ("--sip-call-id", text, "--account", login.id, "--json", *kept)
            found = callhouse("search", *asked, data=server.data)
            assert [each["session_id"] for each in json.loads(found.stdout)] == [session_id]
        if field == "dest" and len(text) < 10_000:
            [found] = get(server, login, f"{WINDOW}?number={text}").json()["calls"]
            assert found["session_id"] == session_id
