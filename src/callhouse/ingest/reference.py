"""What the API reference says of the ingest routes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from callhouse.ingest.pump import Reply
from callhouse.reference import Failures, JsonOperation, answers, operation
from callhouse.render import JSON
from callhouse.sources.native import NativeCall, NativeEvents

NDJSON = "application/x-ndjson"
_COMPONENT = "#/components/schemas/"

_INSTANT = "Epoch seconds, or RFC 3339 with a zone."
_SECONDS = "In seconds."
_DECIMAL = "A decimal number; as a string it keeps its last digit."
_FIELDS = {
    "session_id": "The sender's own id of the call, unique in the account: 1 to 256 characters.",
    "src": "Who called.",
    "dest": "Who was called.",
    "start": f"When the call began. {_INSTANT}",
    "answer": f"When it was answered, if it was. {_INSTANT}",
    "end": f"When it was over; a call without it is in progress and not listed yet. {_INSTANT}",
    "duration": _SECONDS,
    "billed_duration": _SECONDS,
    "rate": _DECIMAL,
    "amount": _DECIMAL,
    "hangup_original_code": "The cause as the switch named it, in `hangup_original_scheme`.",
    "events": "The steps of the call: what the caller heard or pressed, and what the application did.",
    "timestamp": _INSTANT,
    "seq": "Puts events of one instant in order.",
    "line": "The event in words.",
    "sip_call_id": "The Call-ID of the leg's SIP dialog, by which the records of several switches are found together.",
    "data": "Any JSON object: its keys, their order and their types survive unchanged.",
}
_KINDS = {
    "NativeCall": "A call, or a part of one. What it holds beyond these fields is kept with the call.",
    "NativeEvents": "Events of a call that is known, or will be.",
    "NativeEvent": "One step of a call.",
}


@dataclass(frozen=True)
class _Text:
    summary: str
    description: str
    record: str
    example: Callable[[int], dict[str, Any]]
    forms: Mapping[str, Schema] | None = None
    """The other content types, instead of NDJSON."""


def _call(now: int) -> dict[str, Any]:
    return {
        "session_id": "300060;001;1529552581",
        "direction": "inbound",
        "src": "2125551234",
        "dest": "8009957586",
        "start": now - 66,
        "end": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "events": [
            {
                "timestamp": now - 65.75,
                "class": "info",
                "line": 'Executing application "email test" version "0.2"',
                "data": {"module_type": "start", "result_variable": "start"},
            }
        ],
    }


def _events(now: int) -> dict[str, Any]:
    return {
        "session_id": "300060;001;1529552581",
        "events": [{"timestamp": now, "class": "event", "line": "Disconnecting call", "data": {}}],
    }


def _freeswitch(now: int) -> dict[str, Any]:
    return {
        "channel_data": {"direction": "inbound"},
        "variables": {
            "uuid": "28277e8a-a3df-4315-90e8-c0a60ad39e39",
            "sip_from_user": "2125551234",
            "sip_req_user": "8009957586",
            "sip_call_id": "1-457@192.0.2.1",
            "start_uepoch": str((now - 66) * 1_000_000),
            "answer_uepoch": str((now - 65) * 1_000_000),
            "end_uepoch": str(now * 1_000_000),
            "hangup_cause": "NORMAL_CLEARING",
            "sip_hangup_disposition": "recv_bye",
        },
    }


def _kamailio(now: int) -> dict[str, Any]:
    return {
        "call_id": "1-457@192.0.2.1",
        "direction": "inbound",
        "from_user": "2125551234",
        "dialed_user": "8009957586",
        "start_time": f"{now - 66}.250",
        "answer_time": f"{now - 65}.123456",
        "end_time": f"{now}.500",
        "sip_code": "200",
        "sip_reason": "OK",
        "hangup_side": "caller",
    }


def _asterisk(now: int) -> dict[str, Any]:
    return {
        "src": "2125551234",
        "dst": "8009957586",
        "dcontext": "from-trunk",
        "clid": '"Ann" <2125551234>',
        "channel": "PJSIP/trunk-00000001",
        "dstchannel": "PJSIP/200-00000002",
        "lastapp": "Dial",
        "lastdata": "PJSIP/200,20",
        "start": now - 66.25,
        "answer": now - 60.5,
        "end": now,
        "disposition": "ANSWERED",
        "uniqueid": f"pbx1-{now - 66}.1",
        "linkedid": f"pbx1-{now - 66}.1",
        "sequence": 1,
        "sip_call_id": "1-457@192.0.2.1",
    }


_TEXT = {
    "calls": _Text(
        "Send calls",
        "One call record, a JSON array of them, or NDJSON. A call may come in parts, in any order and any number of "
        "times: without `end` it is in progress.",
        "NativeCall",
        _call,
    ),
    "events": _Text(
        "Send events of calls in progress",
        "Events of a call that is known or will be; one such record, a JSON array of them, or NDJSON. They are kept "
        "until the call has ended and are then its log.",
        "NativeEvents",
        _events,
    ),
    "freeswitch": _Text(
        "Send legs from FreeSWITCH",
        "What mod_json_cdr and mod_xml_cdr post under any of their settings, whatever the content type says, or rows "
        "of mod_cdr_csv. Each leg is a call; a leg that another one made names that as its parent. A body that cannot "
        "be read is quarantined as it came, and answered with 200, because FreeSWITCH would only send it again.",
        "",
        _freeswitch,
        {
            "text/xml": Schema(type=OpenAPIType.STRING, description="A record of mod_xml_cdr.", pattern=r"\S"),
            "application/x-www-form-urlencoded": Schema(
                type=OpenAPIType.OBJECT,
                properties={"cdr": Schema(type=OpenAPIType.STRING, description="JSON or XML, maybe in base64.")},
            ),
        },
    ),
    "asterisk": _Text(
        "Send rows from Asterisk",
        "Rows of CDR and CEL files as cdr_csv, cdr_custom, cel_custom and the database back ends write them: CSV with "
        "or without a header line, or lines of JSON. All rows that have come of a call are joined, in whatever order "
        "and however often they come. A call is complete when its own CDR or its LINKEDID_END has come; until then it "
        "is in progress. A leg that a call dialled is a call that names it as its parent.",
        "",
        _asterisk,
        {
            "text/csv": Schema(
                type=OpenAPIType.STRING, description="Rows, below their header line if the file has one.", pattern=r"\S"
            )
        },
    ),
    "kamailio": _Text(
        "Send calls from Kamailio",
        "What acc_json posts, its members named as the settings `sources.kamailio` say, or rows of the tables acc and "
        "missed_calls as CSV. A body that cannot be read is quarantined as it came, and answered with 200.",
        "",
        _kamailio,
        {
            "text/csv": Schema(
                type=OpenAPIType.STRING,
                description="Rows below a line with the names of their columns.",
                pattern=r"\S",
            )
        },
    ),
}
_REPLY = (
    "\n\nThe reply comes when all that was accepted is on disk, so what it accepted survives a crash; sending the same "
    "again changes nothing. A bad record is refused alone: `rejected` names its place in the body, from 0, and why. "
    "`expired_events` counts events that were left out because they are older than their retention, while their call "
    "was kept; it is absent when there are none."
)
_EXAMPLE_REPLY = {"accepted": 1, "rejected": [{"index": 1, "error": "end is before start"}]}


def operation_of(route: str, error: Callable[[str], msgspec.Struct]) -> dict[str, Any]:
    """The documentation of ``/ingest/<route>``; *error* makes the body of a failure."""
    text = _TEXT.get(route) or _Text(f"Send {route} records", "Records as that system writes them.", "", lambda _: {})

    class Ingest(JsonOperation):
        def __post_init__(self) -> None:
            super().__post_init__()
            self.request_body = _request_body(text)

    responses = answers(Reply, "What became of each record.", _EXAMPLE_REPLY, _failures(error))
    documented = operation(f"ingest_{route}", "Ingest", text.summary, text.description + _REPLY, responses, Ingest)
    return {**documented, "status_code": 200}


def schemas() -> dict[str, Any]:
    """The schemas of the records, by name."""
    _, components = msgspec.json.schema_components([NativeCall, NativeEvents], ref_template=_COMPONENT + "{name}")
    for name, component in components.items():
        component["description"] = _KINDS[name]
        for field, schema in component["properties"].items():
            component["properties"][field] = _readable(schema, _FIELDS.get(field))
    return components


def _readable(schema: dict[str, Any], description: str | None) -> dict[str, Any]:
    """*schema* with its alternatives in one line, where they are plain types, and a *description*."""
    schema = {key: value for key, value in schema.items() if key != "default"}
    kinds = schema.get("anyOf", [])
    if kinds and all(set(kind) == {"type"} for kind in kinds):
        names = [kind["type"] for kind in kinds]
        schema = {"type": [name for name in names if name != "integer" or "number" not in names]}
    return schema if description is None else {**schema, "description": description}


def _request_body(text: _Text) -> RequestBody:
    # An example of today: the server refuses what is older than its retention, and this one is there to be tried.
    example = text.example(int(time.time()))
    if text.forms is None:
        line = msgspec.json.encode(example).decode() + "\n"
        # Not an example: schemathesis stops at an example of a media type that it does not know.
        forms = {NDJSON: Schema(type=OpenAPIType.STRING, description="One record in each line.", default=line)}
        record = Reference(ref=_COMPONENT + text.record) if text.record else Schema(type=OpenAPIType.OBJECT)
        shape = Schema(one_of=[record, Schema(type=OpenAPIType.ARRAY, items=record)])
    else:
        forms, shape = dict(text.forms), Schema(type=OpenAPIType.OBJECT)
    return RequestBody(
        description="Compressed with gzip or zstd if the header `Content-Encoding` says so.",
        content={
            JSON: OpenAPIMediaType(schema=shape, example=example),
            **{media_type: OpenAPIMediaType(schema=schema) for media_type, schema in forms.items()},
        },
        required=True,
    )


def _failures(error: Callable[[str], msgspec.Struct]) -> Failures:
    return {
        400: (
            "Nothing in the body could be read.",
            error("The body is neither a JSON object, a JSON array nor NDJSON."),
        ),
        401: (
            "The credentials are missing or wrong, or the account is inactive.",
            error("Invalid credentials."),
        ),
        405: ("Only POST is answered.", error("Method not allowed.")),
        413: (
            "The body is too large, as sent or after decompression.",
            error("The body has more than 67108864 bytes; send it in parts."),
        ),
        429: (
            "Too much is waiting, or too many failed attempts from this address. Send it again after `Retry-After`.",
            error("The server is busy; try again later."),
        ),
        500: ("Internal error.", error("Internal error.")),
        503: (
            "The store cannot be written now. Send it again after `Retry-After`.",
            error("The store cannot be written now; nothing was lost if you send this again later."),
        ),
    }
