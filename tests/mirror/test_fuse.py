"""A Fuse account comes out of Callhouse as it came in, and what its vendor deleted unseen is told."""

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callhouse.settings import RetentionSettings
from callhouse.wire.fuse import schema, upstream
from mirror.stand import standing
from mirror.test_plivo import ACCOUNT

GOLDEN = Path(__file__).parents[1] / "wire/fuse/golden"
DETAILED = json.loads((GOLDEN / "fuse_all_logs.json").read_text())
LISTED = json.loads((GOLDEN / "fuse_calls.json").read_text())
LOG = json.loads((GOLDEN / "fuse_call.json").read_text())
HOUR = 3_600_000
DAY = 24 * HOUR


def recorded(*calls):
    """A vendor that answers with these calls in the windows that they began in."""

    def answer(request):
        *_, since, until = request.url.path.split("/")
        found = [call for call in calls if int(since) <= int(call["start"]) < int(until)]
        page = found[int(request.url.params["offset"]) :][: int(request.url.params["limit"])]
        return httpx.Response(200, json={"calls": page, "total_calls": len(found)})

    return httpx.MockTransport(answer)


def follow(tmp_path, clock, calls, paths):
    """What our Fuse API answers at *paths* once the vendor's *calls* were mirrored."""
    clock.now = (max(int(call["end"]) for call in calls) + 3600) * 1000

    async def work(stand):
        await stand.follow("fuse")
        await stand.once()
        assert await stand.store.quarantine.count() == 0
        return [(await stand.both("fuse", path))[1][1] for path in paths]

    return standing(tmp_path, clock, work, transport=recorded(*calls))


def test_the_published_list_with_logs_is_served_again_as_it_was_recorded(tmp_path, clock):
    [body] = follow(tmp_path, clock, DETAILED["calls"], ["/api/all_logs/1575898000/1575899000"])
    assert body == json.dumps(DETAILED, separators=(",", ":"))


def test_the_published_list_and_the_log_of_its_first_call_are_served_again(tmp_path, clock):
    first, second = LISTED["calls"]
    detailed = [
        {**call, "start": str(call["start"]), "end": str(call["end"]), "detail": log}
        for call, log in ((first, LOG), (second, LOG[:1]))
    ]
    paths = ["/api/calls/1529550000/1529560000", "/api/call/300060%3B001%3B1529552581"]
    listed, log = follow(tmp_path, clock, detailed, paths)
    assert listed == json.dumps(LISTED, separators=(",", ":"))
    assert log == json.dumps(LOG, separators=(",", ":"))


TEXTS = st.sampled_from([None, "", "Outbound", "6175551234", "sip:a@b", "Zoë"])


@given(st.fixed_dictionaries({}, optional={
    "dest": TEXTS, "src": TEXTS, "type": st.sampled_from(["inbound", "outbound", "transfer", "odd", None]),
    "more": st.sampled_from([None, 1, "x", {"a": []}]),
}))  # fmt: skip
def test_whatever_fuse_says_of_a_call_is_said_again_in_both_lists(said):
    call = {**DETAILED["calls"][0], **said}
    part = upstream.read(json.dumps(call).encode(), ACCOUNT, 32)
    known = part.call
    row = (1, known.dest, known.src, known.direction or "inbound", known.end, 9, known.start, known.session_id,
           known.told and json.dumps(known.told))  # fmt: skip
    detail = json.dumps(call["detail"]).encode()
    found = json.loads(schema.msgspec.json.encode(schema.detailed_call_body(row, detail)))
    assert found == call
    [short] = json.loads(schema.msgspec.json.encode(schema.call_bodies([row], 0)))
    assert {key: value for key, value in call.items() if key not in {"detail", "start", "end"}}.items() <= short.items()
    # In XML too.
    assert "<session_id>" in schema.call_xml(schema.call_bodies([row], 0)[0])
    assert "<detail><item>" in schema.detailed_call_xml(row, part_entries(detail))


def part_entries(detail):
    return schema.msgspec.json.decode(detail, type=list[schema.LogEntry])


FIVE_DAYS = RetentionSettings(details="5d", sessions="1y", plivo="90d")


def happen(start, number):
    """A call with a log that begins then, in seconds."""
    return {
        "session_id": f"000001;001;{start}{number}", "start": start, "end": start + 60, "src": "2125551234",
        "dest": "8009957586", "direction": "inbound",
        "events": [{"timestamp": start + 1, "class": "prompt", "line": f"Welcome {number}", "data": {"x": "y"}}],
    }  # fmt: skip


@pytest.mark.parametrize("api", ["fuse", "dev"])
@pytest.mark.parametrize(("outage", "lost"), [(4 * DAY + 20 * HOUR, False), (6 * DAY, True)])
def test_an_outage_shorter_than_the_retention_loses_nothing_and_of_a_longer_one_the_loss_is_told(
    tmp_path, clock, api, outage, lost
):
    """One call an hour, before the outage, during it and after it; the vendor keeps logs for five days."""
    clock.now = 1_700_000_000_000 - 1_700_000_000_000 % DAY

    async def one_call_an_hour(stand, until):
        while clock.now < until:
            clock.now += HOUR
            await stand.send(happen(clock.now // 1000 - 120, len(made)))
            made.append(clock.now - 120_000)

    made = []

    async def work(stand):
        await one_call_an_hour(stand, clock.now + 12 * HOUR)
        await stand.follow(api, since=clock.now - 2 * DAY)
        await stand.once()
        began = clock.now
        await one_call_an_hour(stand, clock.now + outage)
        # The vendor is there again.
        await stand.once()
        path = f"/api/all_logs/{(began - 3 * DAY) // 1000}/{clock.now // 1000}"
        [(_, there), (_, here)] = await stand.both("fuse", path, limit=1000)
        there, here = json.loads(there)["calls"], json.loads(here)["calls"]
        assert [call["session_id"] for call in here] == [call["session_id"] for call in there]
        # What ended before then had no log any more.
        gone = [start for start in made if began < start and start + 60_000 < clock.now - 5 * DAY]
        assert bool(gone) is lost
        assert sum(not call["log"] for call in here) == len(gone)
        by_day = {}
        for start in gone:
            by_day[start // DAY] = by_day.get(start // DAY, 0) + 1
        mirror = await stand.store.mirrors.get("followed")
        assert dict(await stand.store.mirrors.losses(mirror.id)) == by_day
        # It is told once, however often is asked.
        clock.now += 2 * DAY
        await stand.once()
        assert dict(await stand.store.mirrors.losses(mirror.id)) == by_day

    standing(tmp_path, clock, work, retention=FIVE_DAYS)


def test_days_that_plivo_deleted_unseen_are_told_without_a_number(tmp_path, clock):
    clock.now = 1_700_000_000_000 - 1_700_000_000_000 % DAY + 12 * HOUR

    async def work(stand):
        await stand.follow("plivo", since=clock.now - DAY)
        await stand.once()
        day = clock.now // DAY
        clock.now += 92 * DAY
        await stand.once()
        mirror = await stand.store.mirrors.get("followed")
        assert list(await stand.store.mirrors.losses(mirror.id)) == [(day, -1), (day + 1, -1), (day + 2, -1)]
        # What had been deleted before the mirror was made was not lost by it.
        await stand.store.mirrors.remove(mirror.id)
        await stand.follow("plivo", since=clock.now - 200 * DAY)
        await stand.once()
        mirror = await stand.store.mirrors.get("followed")
        assert list(await stand.store.mirrors.losses(mirror.id)) == []

    standing(tmp_path, clock, work)


def test_a_log_that_changes_at_the_vendor_changes_here_and_one_that_is_deleted_there_stays(tmp_path, clock):
    call = {**LISTED["calls"][0], "start": "1529552691", "end": "1529552697"}
    state = {"detail": LOG, "dest": "1"}

    def answer(request):
        *_, since, until = request.url.path.split("/")
        found = [{**call, **state}] if int(since) <= 1529552691 < int(until) else []
        return httpx.Response(200, json={"calls": found, "total_calls": len(found)})

    async def look(stand):
        clock.now += 12 * HOUR
        await stand.once()
        [_, (_, body)] = await stand.both("fuse", "/api/all_logs/1529550000/1529560000")
        [found] = json.loads(body)["calls"]
        return found

    async def work(stand):
        clock.now = 1529553000_000
        await stand.follow("fuse")
        await stand.once()
        assert (await look(stand))["detail"] == LOG
        # One step is told otherwise, one is there no more and one comes before the others of its second.
        error = {**LOG[1], "class": "error"}
        state["detail"] = [{**LOG[0], "event": {"line": "first", "data": {}}}, LOG[0], error, *LOG[3:]]
        state["dest"] = None
        found = await look(stand)
        assert found["detail"] == state["detail"]
        assert found["dest"] is None
        state["detail"] = False
        assert (await look(stand))["detail"] == [
            {**LOG[0], "event": {"line": "first", "data": {}}},
            LOG[0],
            error,
            *LOG[3:],
        ]

    standing(tmp_path, clock, work, transport=httpx.MockTransport(answer))
