"""What the API reference says of the Fuse routes."""

from typing import Any

from litestar.openapi.datastructures import ResponseSpec

from callhouse.model.instant import MAX_SECONDS
from callhouse.reference import Failures, JsonOrXmlOperation, answers, operation
from callhouse.wire.fuse.errors import DATABASE, INVALID_CREDENTIALS, METHOD, NO_CALL, ErrorBody
from callhouse.wire.fuse.schema import AllLogsBody, CallsBody, LogEntryBody

SESSION_ID = "The session id as the sender gave it; percent-encode it (`300060%3B001%3B1529552581`)."
ID: dict[str, Any] = {"type": "string", "minLength": 1, "examples": ["300060;001;1529552581"]}

_BAD_PARAMETER: Failures = {
    400: (
        f"The parameter that the text names is out of range or not of its kind (times go from 0 to {MAX_SECONDS - 1}).",
        ErrorBody("Parameter limit is '20000'; expected a whole number from 1 to 10000."),
    ),
}
_FAILURES: Failures = {
    401: (
        "The e-mail address or developer key is missing or wrong, or the account is inactive.",
        ErrorBody(INVALID_CREDENTIALS),
    ),
    405: ("Only GET and HEAD are answered.", ErrorBody(METHOD)),
    429: (
        "Too many failed attempts from this address, or too many requests at once.",
        ErrorBody("Too many failed attempts; wait before trying again."),
    ),
    500: ("The store did not answer.", ErrorBody(DATABASE)),
}
_NOT_FOUND: Failures = {404: ("There is no such call, or its log is no longer kept.", ErrorBody(NO_CALL))}

_EXAMPLE = {
    "dest": "8009957586",
    "src": "2125551234",
    "start": 1529552691,
    "end": 1529552697,
    "session_id": "300060;001;1529552581",
    "type": "inbound",
    "log": True,
}
_EXAMPLE_LOG = [
    {
        "event": {
            "line": 'Executing application "email test" version "0.2"',
            "data": {"module_type": "start", "result_variable": "start"},
        },
        "class": "info",
        "timestamp": 1529552691,
    },
    {"event": {"line": "Disconnecting call", "data": {}}, "class": "event", "timestamp": 1529552697},
]
_DETAILED_EXAMPLE = {
    "dest": "8009957586",
    "src": "2125551234",
    "start": "1529552691",
    "end": "1529552697",
    "session_id": "300060;001;1529552581",
    "detail": _EXAMPLE_LOG,
    "type": "inbound",
    "log": True,
}


def _operation(operation_id: str, summary: str, description: str, responses: dict[int, ResponseSpec]) -> dict[str, Any]:
    return operation(operation_id, "Fuse", summary, description, responses, JsonOrXmlOperation)


CALLS = _operation(
    "fuse_list_calls",
    "List calls",
    "Completed calls that started in the window, newest first.\n\n`total_calls` counts all that match, whatever the "
    "page. `start` and `end` are integers in epoch seconds; `src` is the word `Outbound` for an outbound call; `log` "
    "tells whether the call's log is still kept.",
    answers(CallsBody, "A page of calls.", {"calls": [_EXAMPLE], "total_calls": 1}, {**_BAD_PARAMETER, **_FAILURES}),
)
ALL_LOGS = _operation(
    "fuse_list_calls_with_logs",
    "List calls with their logs",
    "As the list of calls, each with its log in `detail`, or `false` where none is kept.\n\nAs at the vendor, `start` "
    "and `end` are strings here.",
    answers(
        AllLogsBody,
        "A page of calls.",
        {"calls": [_DETAILED_EXAMPLE], "total_calls": 1},
        {**_BAD_PARAMETER, **_FAILURES},
    ),
)
CALL = _operation(
    "fuse_get_call_log",
    "Get one call's log",
    "The events of a completed call in order. `timestamp` is in epoch seconds.",
    answers(list[LogEntryBody], "The log.", _EXAMPLE_LOG, {**_NOT_FOUND, **_FAILURES}),
)
