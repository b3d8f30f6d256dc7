"""A DEV account comes out of Callhouse as it came in: lists, lines, and logs that are one text."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callhouse.errors import RecordError, VendorUnavailable
from callhouse.model.instant import time_zone
from callhouse.model.log import LogEntry, Step
from callhouse.wire.dev import lines, told, upstream
from mirror.stand import standing
from mirror.test_plivo import ACCOUNT

GOLDEN = Path(__file__).parents[1] / "wire/dev/golden"
SESSION = "300025;000;1510142108"
HOUR = 3_600_000


def sample(name):
    return json.loads((GOLDEN / f"dev_{name}.json").read_text())["result"]


def recorded(sessions=(), logs=(), errors=(), log=None):
    """A vendor whose lists hold these in the windows that they begin in, and whose every log is *log*.

    A list's member is a pair: when its call began, and what is shown of it.
    """

    def answer(request):
        service = request.url.path.split("/")[3]
        if service == "log":
            body = log
        else:
            since, until = map(int, request.url.path.split("/")[4:])
            members = {"sessions": sessions, "logs": logs, "errors": errors}[service]
            found = [shown for start, shown in members if since <= start < until]
            offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
            body = {f"total_{service}": str(len(found)), service: found[offset : offset + limit]}
        if body is None:
            return httpx.Response(404, json={"status": "failure", "error": "No call log was found."})
        # As text, which may hold half a surrogate pair.
        return httpx.Response(200, text=json.dumps({"status": "success", "error": "", "result": body}))

    return httpx.MockTransport(answer)


def follow(tmp_path, clock, transport, now, paths, zone="America/New_York", quarantined=0):
    clock.now = now * 1000

    async def work(stand):
        await stand.follow("dev")
        await stand.once()
        assert await stand.store.quarantine.count() == quarantined
        answers = [(await stand.both("dev", path))[1] for path in paths]
        return [json.loads(text)["result"] if status == 200 else status for status, text in answers]

    return standing(tmp_path, clock, work, zones=("UTC", zone), transport=transport)


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_the_published_session_lines_are_served_again_to_the_letter_wrong_offsets_too(tmp_path, clock, zone):
    shown = sample("sessions")["sessions"]
    transport = recorded(sessions=[(int(re.split(" ", line)[-3]), line) for line in shown])
    [found] = follow(tmp_path, clock, transport, 1509750000, ["/ws/calls/sessions/1509681600/1510203600"], zone)
    assert found["sessions"] == shown


@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_the_published_error_lines_are_served_again_to_the_letter(tmp_path, clock, zone):
    shown = sample("errors")["errors"]
    starts = [1479411640, 1479692330, 1483968650]
    calls = [
        f"inbound {ani} {channel} [17/Nov/2016:14:40:46 -0500] {dnis} {session} {start} {start + 4000} 01:06:40"
        for start, (_, ani, channel, _, _, dnis, session, *_) in zip(starts, map(str.split, shown), strict=True)
    ]
    transport = recorded(sessions=list(zip(starts, calls, strict=True)), errors=list(zip(starts, shown, strict=True)))
    [found, logs] = follow(
        tmp_path, clock, transport, 1484000000,
        ["/ws/calls/errors/1479340800/1509681600", "/ws/calls/logs/1479340800/1509681600"], zone,
    )  # fmt: skip
    assert found["errors"] == shown
    # An error makes no log of a call that has none.
    assert logs["total_logs"] == "0"


def test_the_published_logs_are_served_again_with_the_vendors_numbers(tmp_path, clock):
    shown = sample("logs")["logs"]
    # The sample's own log is a placeholder, of the second call, and was scrubbed otherwise than the list.
    log = sample("log")
    calls = [
        (int(each["start"]), "inbound 1 0 [x] 1 {session_id} {start} {end} 00:00:32".format(**each)) for each in shown
    ]
    transport = recorded(sessions=calls, logs=[(int(each["start"]), each) for each in shown], log=log)
    paths = ["/ws/calls/logs/1509681600/1510203600", "/ws/calls/log/421627729", "/ws/calls/log/1"]
    listed, one, unknown = follow(tmp_path, clock, transport, 1510162000, paths)
    assert listed["logs"] == shown
    assert one == log
    assert unknown == 404


FIRST = "Wed 08 Nov 2017 06:55:48 AM EST [{module}] ({session}) {kind}: {text}"
SECOND = "Wed 08 Nov 2017 06:55:49 AM EST ({session}) [{module}] {kind}: {text}"
EASTERN = time_zone("America/New_York")


def rendered(events, zone=EASTERN):
    return "\n".join(
        lines.log_line(LogEntry(Step(e.line, e.data), e.class_, e.timestamp // 1000), SESSION, zone) for e in events
    )


@pytest.mark.parametrize("order", [FIRST, SECOND])
@pytest.mark.parametrize(
    ("module", "kind", "class_"),
    [("prompt", "EVENT", "prompt"), ("dlg", "EVENT", "event"), ("log", "LOCAL", "info"), ("mylog", "LOCAL", "info"),
     ("vxi", "DEBUG", "debug"), ("vxi", "ERROR", "error"), ("tel", "USAGE", "info"), ("inet", "DEBUG", "debug")],
)  # fmt: skip
def test_a_line_of_a_log_in_either_order_is_an_event_again(order, module, kind, class_):
    text = order.format(module=module, session=SESSION, kind=kind, text="errno: 210 message: loop")
    [event] = told.log_events(text, SESSION, 0, EASTERN)
    assert (event.class_, event.line) == (class_, "errno: 210 message: loop")
    assert event.timestamp in {1_510_142_148_000, 1_510_142_149_000}
    assert rendered([event]) == text
    # A module of the platform's is the event's; and only what we would write otherwise is kept as it was.
    if order is FIRST and kind != "USAGE" and module != "mylog":
        assert lines.LINE not in event.data
        assert lines._module(LogEntry(Step("", event.data), class_, 0)) == module


WORDS = st.sampled_from(["", " ", "odd", "\t", "Ending session", "Zoë", ":", "(", "]", "\r", "Wed 08 Nov 2017"])
LINES = st.one_of(
    st.lists(WORDS, max_size=4).map(" ".join),
    st.builds(
        lambda order, day, half, zone, module, session, kind, text: order.replace("08", day)
        .replace("AM", half).replace("EST", zone).format(module=module, session=session, kind=kind, text=text),
        st.sampled_from([FIRST, SECOND]), st.sampled_from(["08", "07", "31", "99"]), st.sampled_from(["AM", "PM"]),
        st.sampled_from(["EST", "EDT", "PST", "CEST"]), st.sampled_from(["prompt", "vxi", "x"]),
        st.sampled_from([SESSION, "other"]), st.sampled_from(["EVENT", "LOCAL", "ERROR", "NEWS"]), WORDS,
    ),
)  # fmt: skip


@given(st.lists(LINES, min_size=1, max_size=8), st.sampled_from(["America/New_York", "UTC", "Asia/Kolkata"]))
def test_any_text_at_all_comes_out_as_it_went_in_and_its_events_are_in_order(shown, zone):
    text = "\n".join(shown)
    events = told.log_events(text, SESSION, 1_510_000_000_000, time_zone(zone))
    assert rendered(events, time_zone(zone)) == text
    assert [e.timestamp for e in events] == sorted(e.timestamp for e in events)
    assert len(events) == text.count("\n") + 1


def test_an_offset_that_is_an_hour_off_does_not_move_the_error():
    line = "error 1 6 [17/Nov/2016:14:40:46 {}] 2 100025;006;1479411625 Max Disconnect Count Exceeded"
    true = told.error_line(line.format("-0500"), EASTERN).at
    assert told.error_line(line.format("-0400"), EASTERN).at == true
    assert told.error_line(line.format("-0500"), time_zone("UTC")).at == true
    assert told.error_line(line.format("+0000"), EASTERN).at == true - 5 * HOUR
    assert told.error_line(line.format("-0500").replace("Nov", "Nox"), EASTERN) is None


def test_errors_stand_in_the_log_where_the_vendor_has_them_there_and_else_beside_it(tmp_path, clock):
    start = 1510142148
    entry = {"log_id": "7", "session_id": SESSION, "dest": "1", "type": "inbound", "src": "2",
             "start": str(start), "end": str(start + 60)}  # fmt: skip
    line = f"inbound 2 0 [08/Nov/2017:06:55:48 -0500] 1 {SESSION} {start} {start + 60} 00:01:00"
    text = "\n".join(
        FIRST.format(module="vxi", session=SESSION, kind="ERROR", text=message) for message in ("listed", "not listed")
    )
    error = "error 2 0 [08/Nov/2017:06:55:{} -0500] 1 " + SESSION + " {}"
    errors = [error.format("48", "listed"), error.format("50", "only listed")]
    log = {"dest": "1", "src": "2", "type": "inbound", "timestamp": str(start), "location": "", "log": text}
    transport = recorded([(start, line)], [(start, entry)], [(start, shown) for shown in errors], log)
    window = f"{start}/{start + 1}"
    found, one, sessions = follow(
        tmp_path, clock, transport, start + 3600,
        [f"/ws/calls/errors/{window}", "/ws/calls/log/7", f"/ws/calls/sessions/{window}"],
    )  # fmt: skip
    assert found["errors"] == errors
    assert one["log"] == text
    assert sessions["sessions"] == [line]


def test_lines_that_are_none_are_quarantined_as_they_came_and_the_others_are_kept(tmp_path, clock):
    line = f"inbound 2 0 [08/Nov/2017:06:55:48 -0500] 1 {SESSION} 1510142148 1510142208 00:01:00"
    local = f"local 2 0 [08/Nov/2017:06:55:48 -0500] 1 {SESSION} fetchurl: http://example.com/"
    transport = recorded([(1510142148, line), (1510142148, local)], errors=[(1510142148, "error?")])
    [found] = follow(
        tmp_path, clock, transport, 1510150000, ["/ws/calls/sessions/1510142148/1510142149"], quarantined=2
    )
    assert found["sessions"] == [line]
    with pytest.raises(RecordError, match="is no session line"):
        upstream.read(json.dumps({"session": local}).encode(), ACCOUNT, 32)


def test_half_a_surrogate_pair_costs_the_line_or_the_log_that_it_stands_in_alone(tmp_path, clock):
    start = 1510142148
    good, bad = "inbound 1 0 [x] 1 s;1 {0} {0} 00:00:00", "inbound \ud800 0 [x] 1 s;2 {0} {0} 00:00:00"
    listed = {"log_id": "7", "session_id": "s;3", "dest": "1", "type": "inbound", "src": "2", "start": f"{start}"}
    listed |= {"end": f"{start}"}
    log = {"dest": "1", "src": "2", "type": "inbound", "timestamp": f"{start}", "location": "", "log": "half \udc00"}
    transport = recorded(
        sessions=[(start, good.format(start)), (start, bad.format(start))],
        logs=[(start, listed)], log=log, errors=[(start, "odd \ud800 error")],
    )  # fmt: skip
    clock.now = (start + 3600) * 1000

    async def work(stand):
        await stand.follow("dev")
        await stand.once()
        [_, (_, body)] = await stand.both("dev", f"/ws/calls/sessions/{start - 10}/{start + 10}")
        found = json.loads(body)["result"]["sessions"]
        assert [line for line in found if "s;2" in line] == []
        assert [line for line in found if "s;1" in line] == [good.format(start)]
        # The call whose log it is has a line, too.
        assert sum("s;3" in line for line in found) == 1
        entries = await stand.store.quarantine.list(limit=10)
        assert {entry.reason for entry in entries} == {"holds half a surrogate pair"}
        kept = sorted([json.loads(await stand.store.quarantine.record(entry)) for entry in entries], key=list)
        assert kept == [
            {"errors": ["odd \ud800 error"]},
            {"listed": listed, "log": log},
            {"session": bad.format(start)},
        ]

    standing(tmp_path, clock, work, transport=transport)


def listed(number, start, **changes):
    facts = {"log_id": f"{number}", "session_id": f"s;{number}", "dest": "1", "type": "inbound", "src": "2"}
    return start, {**facts, "start": f"{start}", "end": f"{start}", **changes}


def test_an_odd_id_of_a_log_is_asked_for_as_it_is(tmp_path, clock):
    start, odd = 1510142148, "../7?a#b \0\r\né"
    log = {"dest": "1", "src": "2", "type": "inbound", "timestamp": f"{start}", "location": "", "log": "a line"}
    logs = [listed(1, start), listed(2, start, log_id=odd)]
    lists, asked = recorded(logs=logs, log=log), []

    def answer(request):
        asked.append(request.url.path)
        if "/log/" in request.url.path:
            return httpx.Response(200, json={"result": log})
        return lists.handler(request)

    path = f"/ws/calls/logs/{start - 10}/{start + 10}"
    [found] = follow(tmp_path, clock, httpx.MockTransport(answer), start + 3600, [path])
    assert {each["session_id"] for each in found["logs"]} == {"s;1", "s;2"}
    assert f"/ws/calls/log/{odd}" in asked


@pytest.mark.parametrize(("status", "calls"), [(400, 1), (410, 2)])
def test_a_log_that_is_refused_keeps_its_second_away_and_one_that_is_gone_nothing(tmp_path, clock, status, calls):
    start = 1510142148
    log = {"dest": "1", "src": "2", "type": "inbound", "timestamp": f"{start}", "location": "", "log": "a line"}
    lists = recorded(logs=[listed(1, start), listed(2, start + 60)], log=log)

    def answer(request):
        return httpx.Response(status) if request.url.path == "/ws/calls/log/2" else lists.handler(request)

    clock.now = (start + 3600) * 1000

    async def work(stand):
        await stand.follow("dev")
        with pytest.raises(VendorUnavailable, match="400") if calls == 1 else nullcontext():
            await stand.once()
        [_, (_, body)] = await stand.both("dev", f"/ws/calls/sessions/{start - 10}/{start + 100}")
        assert len(json.loads(body)["result"]["sessions"]) == calls

    standing(tmp_path, clock, work, transport=httpx.MockTransport(answer))


def test_a_total_of_too_many_digits_is_none(tmp_path, clock):
    body = {"result": {"total_sessions": "9" * 5_000, "sessions": []}}

    async def work(stand):
        await stand.follow("dev")
        with pytest.raises(VendorUnavailable, match="total is no number"):
            await stand.once()

    standing(tmp_path, clock, work, transport=httpx.MockTransport(lambda _: httpx.Response(200, json=body)))
