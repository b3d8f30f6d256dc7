"""An account at Plivo comes out of Callhouse as it came in."""

import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callhouse.errors import RecordError
from callhouse.model.account import Account, Retention, RetentionOverride
from callhouse.model.instant import time_zone
from callhouse.store.call_rows import row_of
from callhouse.wire.plivo import schema, upstream
from mirror.stand import standing
from serving import callhouse

SAMPLE = json.loads((Path(__file__).parents[1] / "wire/plivo/golden/plivo_calls.json").read_text())
NOW = 1_665_600_000_000
"""Some hours after the calls of the sample."""

CALL = {**SAMPLE["objects"][0], "api_id": "aa44a32d-5c31-3c61-a5a8-8c0cb5ab6ca2"}
ACCOUNT = Account(
    id=1, email="a@example.com", login=None, auth_id="MA", plan="standard", active=True, timezone="Asia/Kolkata",
    parent_id=None, created=0, retention=Retention(), override=RetentionOverride(),
)  # fmt: skip
PLACE = "/v1/Account/AUTH_ID/Call/"


def recorded(pages):
    """A vendor that answers with the list of calls that *pages* gives for a window and an offset."""

    def answer(request):
        asked = request.url.params
        found = pages(asked["end_time__gte"], asked["end_time__lt"])
        offset, limit = int(asked["offset"]), int(asked["limit"])
        body = {
            **SAMPLE,
            "meta": {**SAMPLE["meta"], "total_count": len(found), "offset": offset, "limit": limit},
            "objects": found[offset : offset + limit],
        }
        return httpx.Response(200, json=body)

    return httpx.MockTransport(answer)


def at(call):
    return call["end_time"][:19]


def shown(call, zone="Asia/Kolkata"):
    """What our Plivo API shows of *call*, a body of Plivo's that was mirrored."""
    part = upstream.read(json.dumps(call).encode(), ACCOUNT, 32)
    row = {**row_of(1, part.call, 0, None), "direction": part.call.direction or "inbound"}
    [body] = schema.completed_calls([tuple(row[field] for field in schema.FIELDS)], "MA2025RK4E639VJFZAGV", zone)
    return json.loads(schema.msgspec.json.encode(body))


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "UTC", "America/New_York"])
def test_the_published_sample_is_served_again_as_it_was_recorded(tmp_path, clock, zone):
    clock.now = NOW
    # The sample shows one call twice, and counts four; recorded is the one.
    [sample, _] = SAMPLE["objects"]
    # In UTC, as a window is asked for.
    transport = recorded(lambda since, until: [sample] if since <= "2022-10-12 16:27:47" < until else [])

    async def work(stand):
        await stand.follow("plivo")
        runner = await stand.once()
        assert runner.calls == 1
        [_, (status, body)] = await stand.both("plivo", PLACE)
        assert status == 200
        [found] = json.loads("{" + body[body.index('"objects"') :])["objects"]
        # Every key is always there; these two are younger than the sample.
        assert found.pop("stir_attestation") == sample["Stir_attestation"]
        assert found.pop("cnam_lookup") is None
        assert json.dumps(found) == json.dumps(sample).replace("MA2025RK4E639VJFZAGV", "AUTH_ID")

    standing(tmp_path, clock, work, zones=("UTC", zone), transport=transport)


TEXTS = st.sampled_from([None, "", "+12025551111", "sip:a@b", "Zoë \U0001f600", " x ", "\n"])
VALUES = {
    "answer_time": st.sampled_from(["2022-10-12 21:57:41+05:30", "2022-10-12 16:27:42+00:00", None]),
    "api_id": st.uuids().map(str),
    "bill_duration": st.integers(0, 10**6) | st.none(),
    "billed_duration": st.integers(0, 10**6) | st.none(),
    "call_direction": st.sampled_from(["inbound", "outbound", None, "sideways"]),
    "call_duration": st.integers(0, 10**6) | st.none(),
    "call_state": st.sampled_from(["ANSWER", "BUSY", None]),
    "cnam_lookup": st.sampled_from(["disabled", "", None]),
    "conference_uuid": TEXTS,
    "from_number": TEXTS,
    "hangup_cause_code": st.sampled_from([0, 4000, 3050, 99, None]),
    "hangup_cause_name": st.sampled_from(["Normal Hangup", "Cancelled", "", None]),
    "hangup_source": st.sampled_from(["Callee", None, ""]),
    "stir_attestation": st.sampled_from(["A", "", None]),
    "Stir_attestation": st.sampled_from(["A", "", None]),
    "total_amount": st.sampled_from(["0.01667", "0.0", "12", "-0.00000", "n/a", "1e3", None]),
    "total_rate": st.sampled_from(["1.00000", "0.00850", "", None]),
    "resource_uri": st.sampled_from([CALL["resource_uri"], "/elsewhere/", None]),
    "something_new": st.sampled_from([None, True, -5, "", [], {"a": [{"b": 1.5}]}]),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_whatever_plivo_says_of_a_call_is_said_again(said):
    call = {**CALL, **said}
    found = shown(call)
    assert {key: found[key] for key in call} == call
    assert set(found) - set(call) <= {"stir_attestation", "cnam_lookup"}


@pytest.mark.parametrize(
    "wrong",
    [{"call_uuid": ""}, {"call_uuid": None}, {"initiation_time": "soon"}, {"end_time": "2021-01-01 00:00:00+00:00"},
     {"bill_duration": -1}, {"from_number": "\0"}, {"something": [[[[[[]]]]]]}],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused_with_its_reason(wrong):
    with pytest.raises(RecordError):
        upstream.read(json.dumps({**CALL, **wrong}).encode(), ACCOUNT, 4)


def test_a_call_that_cannot_be_understood_is_quarantined_as_it_came_and_the_others_are_kept(tmp_path, clock):
    clock.now = NOW
    [sample, _] = SAMPLE["objects"]
    broken = {**sample, "call_uuid": "other", "initiation_time": "soon"}
    inside = "2022-10-12 16:27:47"
    transport = recorded(lambda since, until: [sample, broken] if since <= inside < until else [])

    async def work(stand):
        await stand.follow("plivo")
        await stand.once()
        [entry] = await stand.store.quarantine.list()
        assert (entry.source, entry.reason) == ("mirror:plivo", "initiation_time is no time")
        assert json.loads(await stand.store.quarantine.record(entry)) == broken
        [_, (_, body)] = await stand.both("plivo", PLACE)
        assert '"total_count":1' in body

    standing(tmp_path, clock, work, transport=transport)
    # It is read by the same reader when it is tried again.
    again = callhouse("quarantine", "replay", "--all", "--json", data=tmp_path / "here", check=False)
    assert json.loads(again.stdout)["still_refused"] == {"1": "initiation_time is no time"}


def test_pages_between_which_calls_come_or_go_are_read_again_in_narrower_windows(tmp_path, clock):
    """While the list is read, calls that ended long ago appear in it; none is missed and none comes twice."""
    clock.now = NOW
    [sample, _] = SAMPLE["objects"]
    there = []

    def add():
        number = len(there)
        end = f"2022-10-12 {10 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}+00:00"
        there.insert(number // 2, {**sample, "call_uuid": f"call {number}", "initiation_time": end,
                                   "answer_time": None, "end_time": end})  # fmt: skip

    for _ in range(150):
        add()

    def listed(since, until):
        if len(there) < 190:
            add()
        return sorted((c for c in there if since <= at(c) < until), key=at, reverse=True)

    async def work(stand):
        await stand.follow("plivo")
        await stand.once()
        clock.now += 10 * 60_000
        for _ in range(12):
            # What comes late is found when it is twice as late.
            clock.now += 12 * 3_600_000
            await stand.once()
        [_, (_, body)] = await stand.both(
            "plivo", PLACE, end_time__gte="2022-10-12 00:00", end_time__lt="2022-10-13 00:00"
        )
        assert f'"total_count":{len(there)}' in body

    standing(tmp_path, clock, work, transport=recorded(listed))
    assert len(there) == 190


def test_times_without_an_offset_are_the_accounts():
    call = upstream.read(json.dumps({**CALL, "end_time": "2022-10-12 21:57:47"}).encode(), ACCOUNT, 32).call
    assert call.end == 1_665_592_067_000
    assert time_zone(ACCOUNT.timezone).key == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("field", "time"),
    [("initiation_time", "9999-12-31 23:59:59-12:00"), ("end_time", "9999-12-31 23:59:59-12:00"),
     ("answer_time", "0001-01-01 00:00:00+14:00"), ("initiation_time", "1969-12-31 23:59:59+00:00")],
)  # fmt: skip
def test_a_time_beyond_all_calls_costs_its_call_alone(field, time):
    with pytest.raises(RecordError, match=f"{field} is out of range"):
        upstream.read(json.dumps({**CALL, field: time}).encode(), ACCOUNT, 32)
