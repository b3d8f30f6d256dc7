"""What the API reference says of the ingest routes."""

from typing import Any

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from callhouse.ingest.pump import Reply
from callhouse.reference import JsonOperation, answers, operation

_FAILURES = {
    400: "Nothing in the body could be read.",
    401: "The credentials are missing or wrong, or the account is inactive.",
    405: "Only POST is answered.",
    413: "The body is too large, as sent or after decompression.",
    429: "Too much is waiting, or too many failed attempts from this address. Send it again after `Retry-After`.",
    500: "Internal error.",
    503: "The store cannot be written now. Send it again after `Retry-After`.",
}

_TEXT = {
    "calls": (
        "Send calls",
        "One call record, a JSON array of them, or NDJSON; gzip or zstd by `Content-Encoding`. A call may come in "
        "parts, in any order and any number of times: without `end` it is in progress. The reply comes when all that "
        "was accepted is on disk. Times are epoch seconds or RFC 3339 with a zone.",
        {
            "session_id": "300060;001;1529552581",
            "direction": "inbound",
            "src": "2125551234",
            "dest": "8009957586",
            "start": 1529552691,
            "end": "2018-06-21T03:44:57Z",
            "events": [
                {
                    "timestamp": 1529552692.25,
                    "class": "info",
                    "line": 'Executing application "email test" version "0.2"',
                    "data": {"module_type": "start", "result_variable": "start"},
                }
            ],
        },
    ),
    "events": (
        "Send events of calls in progress",
        "Events of a call that is known or will be; an array or NDJSON of such records, as for calls. They are kept "
        "until the call has ended and are then its log.",
        {
            "session_id": "300060;001;1529552581",
            "events": [{"timestamp": 1529552697, "class": "event", "line": "Disconnecting call", "data": {}}],
        },
    ),
}


def operation_of(route: str, failure_body: type) -> dict[str, Any]:
    """The documentation of ``/ingest/<route>``."""
    summary, description, example = _TEXT.get(
        route, (f"Send {route} records", "Records as that system writes them.", {})
    )

    class Ingest(JsonOperation):
        def __post_init__(self) -> None:
            super().__post_init__()
            media_type = OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT), example=example)
            lines = OpenAPIMediaType(
                schema=Schema(type=OpenAPIType.STRING), example=msgspec.json.encode(example).decode()
            )
            self.request_body = RequestBody(
                content={"application/json": media_type, "application/x-ndjson": lines}, required=True
            )

    responses = answers(Reply, "What became of each record.", _FAILURES, failure_body)
    return {**operation("Ingest", summary, description, responses, Ingest), "status_code": 200}
