"""The published Plivo sample comes back from calls that were ingested over HTTP and read from the real store."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from serving import send

SAMPLE = json.loads((Path(__file__).parents[1] / "wire/plivo/golden/plivo_calls.json").read_text())
# The sample's calls lie in one second; it counts four calls and shows one of them twice.
WINDOW = {"end_time__gte": "2022-10-12 16:27", "end_time__lt": "2022-10-12 16:28"}


def call(n, shown):
    """A native record of what the sample shows."""
    same = ("bill_duration", "billed_duration", "call_direction", "call_uuid", "conference_uuid", "hangup_cause_code")
    same += ("hangup_source", "parent_call_uuid", "stir_verification", "voice_network_group", "source_ip")
    renamed = {"bill_duration": "duration", "call_direction": "direction"}
    return {
        "session_id": f"{n}",
        **{renamed.get(key, key): shown[key] for key in same},
        "start": datetime.fromisoformat(shown["initiation_time"]).isoformat(),
        "answer": datetime.fromisoformat(shown["answer_time"]).isoformat(),
        "end": datetime.fromisoformat(shown["end_time"]).isoformat(),
        "src": shown["from_number"],
        "dest": shown["to_number"],
        "rate": shown["total_rate"],
        "stir_attestation": shown["Stir_attestation"],
    }


@pytest.fixture(scope="module")
def login(server):
    """An account that holds the four calls of the sample; of two it is not known what they were."""
    login = server.account("golden-plivo@example.com", "--timezone", "Asia/Kolkata")
    send(server, login, [call(n, SAMPLE["objects"][n % 2]) for n in range(4)])
    return login


def as_published(body, login):
    """What is our own put as it is in the sample: ids of requests, the auth id; and the two keys that it lacks."""
    text = json.dumps(body).replace(login.auth_id, "MA2025RK4E639VJFZAGV")
    body = json.loads(text)
    for found, sample in zip([body, *body["objects"]], [SAMPLE, *SAMPLE["objects"]], strict=True):
        assert len(found["api_id"]) == len(sample["api_id"])
        found["api_id"] = sample["api_id"]
    for found in body["objects"]:
        assert found.pop("stir_attestation") == found["Stir_attestation"]
        assert found.pop("cnam_lookup") is None
    return body


def test_the_list_equals_the_published_sample_key_for_key_in_its_order(server, login):
    answer = server.client.get(f"/v1/Account/{login.auth_id}/Call/", params={**WINDOW, "limit": 2}, auth=login.plivo)
    body = answer.json()
    # The sample shows two of four calls with a limit of 20 and without a next page.
    assert body["meta"].pop("limit") == 2
    assert body["meta"].pop("next") is not None
    body["meta"] = {"limit": 20, "next": None, **body["meta"]}
    assert json.dumps(as_published(body, login)) == json.dumps(SAMPLE)
    assert answer.headers["content-type"] == "application/json"


def test_one_call_equals_an_element_of_the_published_list(server, login):
    [_, sample] = SAMPLE["objects"]
    answer = server.client.get(sample["resource_uri"].replace("MA2025RK4E639VJFZAGV", login.auth_id), auth=login.plivo)
    found = as_published({"api_id": SAMPLE["api_id"], "objects": [answer.json(), answer.json()]}, login)["objects"][1]
    assert json.dumps(found) == json.dumps(sample)


def test_a_call_that_does_not_exist_is_answered_as_published(server, login):
    answer = server.client.get(f"/v1/Account/{login.auth_id}/Call/unknown/", auth=login.plivo)
    assert answer.status_code == 404
    assert {**answer.json(), "api_id": ""} == {"api_id": "", "error": "not found"}
