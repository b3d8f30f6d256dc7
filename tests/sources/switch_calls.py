"""What the tests of switches share: posting a record as a switch does, and the calls as they then lie in the store."""

import json
from pathlib import Path

import stores

SAMPLES = Path(__file__).parent / "samples"

OF_ARRIVAL = {"id", "account_id", "arrived", "origin_id", "changed", "changed_by"}
"""Columns that tell of how a call came, and not of the call."""


def post(server, login, route, body, content_type="application/json"):
    """POST *body* and assert that a switch would take the answer for a success; the reply."""
    answer = server.client.post(
        f"/ingest/{route}", content=body, headers={"Content-Type": content_type}, auth=login.fuse
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored_calls(server, login):
    """The account's calls by session_id, each a dict of the columns, with extra decoded."""
    calls = stores.records(server.data, "SELECT * FROM calls WHERE account_id = ?", login.id)
    return {call["session_id"]: {**call, "extra": json.loads(call["extra"] or "null")} for call in calls}
