"""What the API reference says of the DEV routes."""

import time
from dataclasses import dataclass
from typing import Any

from callhouse.reference import UNTIL, Failures, JsonOrXmlOperation, answers, operation
from callhouse.wire.dev.errors import DATABASE, METHOD, NO_LOG, unauthorized
from callhouse.wire.dev.schema import ErrorBody, ErrorsBody, LogsBody, OneLogBody, SessionsBody, xml_document

LOG_ID = "The `log_id` that the list of logs shows."

# The window of the example must begin within the last year.
SINCE: dict[str, Any] = {**UNTIL, "examples": [str(int(time.time()) - 7 * 86_400)]}
ID: dict[str, Any] = {"type": "string", "pattern": "^[0-9]{1,18}$", "examples": ["1"]}


def _failure(text: str) -> ErrorBody:
    return ErrorBody("failure", text)


_BAD_PARAMETER: Failures = {
    400: (
        "The parameter that the text names is out of range or not of its kind; start must lie within the last year.",
        _failure("Parameter limit is '20000'; expected a whole number from 1 to 10000."),
    ),
}
_NOT_FOUND: Failures = {404: ("There is no such call, or its log is not kept.", _failure(NO_LOG))}


def _failures(service: str) -> Failures:
    return {
        401: (
            "The login or password is missing or wrong, the account is inactive, or it is a demo account.",
            _failure(unauthorized(service)),
        ),
        405: ("Only GET and HEAD are answered.", _failure(METHOD)),
        429: (
            "Too many failed attempts from this address, or too many requests at once.",
            _failure("Too many failed attempts; wait before trying again."),
        ),
        500: ("The store did not answer.", _failure(DATABASE)),
    }


def _operation(
    service: str,
    operation_id: str,
    summary: str,
    description: str,
    kind: type,
    result: dict[str, Any],
    own_failures: Failures,
) -> dict[str, Any]:
    @dataclass
    class DevOperation(JsonOrXmlOperation):
        def as_xml(self, body: Any) -> str:
            return xml_document(service, body).decode()

    example = {"status": "success", "error": "", "result": result}
    found = "A page of the list." if f"total_{service}" in result else "The log."
    documented = answers(kind, found, example, {**own_failures, **_failures(service)})
    return operation(operation_id, "DEV", summary, description, documented, DevOperation)


LOGS = _operation(
    "logs",
    "dev_list_logs",
    "List logs",
    "The calls of the window whose log is still kept, newest first. `log_id` fetches one of the logs.\n\n`total_logs` "
    "counts all that match, whatever the page. Every value is a string; `start` and `end` are epoch seconds.",
    LogsBody,
    {
        "total_logs": "1",
        "logs": [
            {
                "log_id": "421752831",
                "session_id": "400050;000;1510159646",
                "dest": "6177123000",
                "type": "inbound",
                "src": "2125551234",
                "start": "1510159657",
                "end": "1510159689",
            }
        ],
    },
    _BAD_PARAMETER,
)
LOG = _operation(
    "log",
    "dev_get_log",
    "Get one log",
    "The log of a call as one text, with a line for each event: `Timestamp [module] (sessionID) entry-type: message`, "
    "in the account's time zone. `timestamp` is the start of the call in epoch seconds.",
    OneLogBody,
    {
        "dest": "6177123000",
        "src": "2125551234",
        "type": "inbound",
        "timestamp": "1510142148",
        "location": "Boston",
        "log": "Wed 08 Nov 2017 06:55:48 AM EST [prompt] (300025;000;1510142108) EVENT: Welcome",
    },
    {
        400: (
            "`log_id` is no whole number.",
            _failure("Parameter log_id is 'x'; expected the whole number that the list of logs shows."),
        ),
        **_NOT_FOUND,
    },
)
SESSIONS = _operation(
    "sessions",
    "dev_list_sessions",
    "List sessions",
    "A line for each completed call of the window, oldest first: `calltype ANI channel [start] DNIS sessionID "
    "callStart callEnd callLength`, in the account's time zone.\n\nOf an outbound call ANI is the dialled number and "
    "DNIS the account's login. `total_sessions` counts all that match, whatever the page.",
    SessionsBody,
    {
        "total_sessions": "1",
        "sessions": [
            "inbound 7185551234 3 [03/Nov/2017:14:38:30 -0400] 800 200035;003;1509734279 1509734310 1509734339 00:00:29"
        ],
    },
    _BAD_PARAMETER,
)
ERRORS = _operation(
    "errors",
    "dev_list_errors",
    "List errors",
    "A line for each event of class `error` in the calls that started in the window, the oldest error first: `error "
    "ANI channel [time of the error] DNIS sessionID message`, in the account's time zone.\n\n`total_errors` counts all "
    "that match, whatever the page.",
    ErrorsBody,
    {
        "total_errors": "1",
        "errors": ["error 7185551234 1 [20/Nov/2016:21:28:46 -0500] 8009957586 100037;001;1479692314 errno: 210"],
    },
    _BAD_PARAMETER,
)
