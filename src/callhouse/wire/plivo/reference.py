"""What the API reference says of the Plivo routes."""

from dataclasses import dataclass
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Parameter, Schema
from litestar.openapi.spec.enums import OpenAPIType

from callhouse.reference import Failures, JsonReadOperation, answers, operation
from callhouse.wire.plivo import parameters
from callhouse.wire.plivo.errors import (
    INTERNAL,
    INVALID_CREDENTIALS,
    METHOD,
    NO_CALL,
    ErrorBody,
    ListErrorBody,
    failure,
)
from callhouse.wire.plivo.schema import CallIds, CallList, CompletedCall, ListMeta, LiveCall, QueuedCall

AUTH_ID = "The account's auth id, which is also the user name of the credentials."
CALL_UUID = "The call's uuid: as the sender gave it, or as the list shows it."

AUTH_IDS: dict[str, Any] = {"type": "string", "minLength": 1, "examples": ["MA2025RK4E639VJFZAGV"]}
CALL_UUIDS: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "examples": ["5607532d-5037-4066-befc-a8b40218dd4f"],
}

_TEXT: dict[str, Any] = {"type": OpenAPIType.STRING}
# Here and below: an empty value is as if absent.
_TIMES: dict[str, Any] = {"type": OpenAPIType.STRING, "pattern": r"^(\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d{1,6})?)?)?$"}
_NUMBERS: dict[str, Any] = {"type": OpenAPIType.INTEGER, "minimum": 0, "maximum": parameters.MAX_NUMBER}
_COMPARED = {
    "": "equal to",
    "__gt": "greater than",
    "__gte": "greater than or equal to",
    "__lt": "less than",
    "__lte": "less than or equal to",
}
_STATUS = (
    "status",
    "`live` for calls that have begun and are not over, `queued` for those that have not begun; else completed ones.",
    {"type": OpenAPIType.STRING, "enum": ["", *parameters.STATES]},
)
_PARAMETERS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "limit",
        "Most calls to return; an operator may allow more than 20.",
        {"type": OpenAPIType.INTEGER, "minimum": 1, "default": parameters.DEFAULT_LIMIT},
    ),
    (
        "offset",
        "Calls to skip, newest first.",
        {"type": OpenAPIType.INTEGER, "minimum": 0, "maximum": parameters.MAX_OFFSET, "default": 0},
    ),
    *(
        (
            f"end_time{form}",
            f"The time in UTC at which the call ended is {words} this one: `YYYY-MM-DD HH:MM[:ss[.uuuuuu]]`.",
            _TIMES,
        )
        for form, words in _COMPARED.items()
    ),
    *(
        (f"bill_duration{form}", f"The seconds from answer to end are {words} this number.", _NUMBERS)
        for form, words in _COMPARED.items()
    ),
    ("from_number", "What the caller's number begins with; a leading `+` does not matter.", _TEXT),
    ("to_number", "What the dialled number begins with; a leading `+` does not matter.", _TEXT),
    (
        "call_direction",
        "Only calls of this direction. Transfer legs are outbound.",
        {"type": OpenAPIType.STRING, "enum": ["", "inbound", "outbound"]},
    ),
    (
        "subaccount",
        "Only the calls of this subaccount; a main account's list holds those of all.",
        {"type": OpenAPIType.STRING, "pattern": "^(SA[A-Z0-9]{18})?$"},
    ),
    ("parent_call_uuid", "Only the B legs of this call.", _TEXT),
    ("hangup_cause_code", "Only calls that ended for this cause.", _NUMBERS),
    ("hangup_source", "Only calls that this side ended, such as `Caller`, `Callee` or `Answer XML`.", _TEXT),
    (
        "stir_verification",
        "Only calls with this result of STIR verification.",
        {"type": OpenAPIType.STRING, "enum": ["", *parameters.STIR_VERIFICATIONS]},
    ),
    _STATUS,
]


def _documented(name: str, description: str, schema: dict[str, Any]) -> Parameter:
    return Parameter(name=name, param_in="query", description=description, required=False, schema=Schema(**schema))


@dataclass
class _CallsOperation(JsonReadOperation):
    """The list, whose handler reads the query itself."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), *(_documented(*parameter) for parameter in _PARAMETERS)]
        super().__post_init__()


@dataclass
class _CallOperation(JsonReadOperation):
    """One call, whose handler reads the query itself."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), _documented(*_STATUS)]
        super().__post_init__()


_ID = "8299d094-dc72-11e5-b56c-22000ae90795"
_UUID = "5607532d-5037-4066-befc-a8b40218dd4f"
# Structs, not dicts: Litestar leaves out what is null in a dict.
_EXAMPLE = CompletedCall(
    answer_time="2022-10-12 21:57:47+05:30",
    api_id="52cd2e1d-2bfd-31ec-a7bd-0242ac110005",
    bill_duration=1,
    billed_duration=1,
    call_direction="outbound",
    call_duration=1,
    call_state="ANSWER",
    call_uuid=_UUID,
    conference_uuid=None,
    end_time="2022-10-12 21:57:47+05:30",
    from_number="+12025551111",
    hangup_cause_code=8011,
    hangup_cause_name="Invalid Answer XML",
    hangup_source="Error",
    initiation_time="2022-10-12 21:57:40+05:30",
    parent_call_uuid=None,
    resource_uri=f"/v1/Account/MA2025RK4E639VJFZAGV/Call/{_UUID}/",
    stir_verification="Not Applicable",
    to_number="sip:sam9461399937766203278@phone.plivo.com",
    total_amount="0.01667",
    total_rate="1.00000",
    stir_attestation_="A",
    voice_network_group="",
    source_ip="92.168.0.1",
    stir_attestation="A",
    cnam_lookup=None,
)
_EXAMPLE_LIST = CallList(
    api_id=_ID, meta=ListMeta(limit=20, next=None, offset=0, previous=None, total_count=1), objects=[_EXAMPLE]
)


def _failures(kind: type[ErrorBody], more: Failures) -> Failures:
    return {
        **more,
        401: (
            "The auth id or token is missing or wrong, the path names another account, or the account is inactive.",
            failure(kind, _ID, INVALID_CREDENTIALS),
        ),
        405: ("Only GET and HEAD are answered.", failure(kind, _ID, METHOD)),
        429: (
            "Too many failed attempts from this address, or too many requests at once.",
            failure(kind, _ID, "Too many failed attempts; wait before trying again."),
        ),
        500: ("The store did not answer.", failure(kind, _ID, INTERNAL)),
    }


def _bad(kind: type[ErrorBody], text: str) -> Failures:
    return {400: ("The parameter that the text names is out of range or not of its kind.", failure(kind, _ID, text))}


def _operation(
    operation_id: str, summary: str, description: str, responses: dict[int, ResponseSpec], kind: type
) -> dict[str, Any]:
    return operation(operation_id, "Plivo", summary, description, responses, kind)


CALLS = _operation(
    "plivo_list_calls",
    "List calls",
    "Completed calls that ended in the window, newest first; or the uuids of calls in progress.\n\nWithout any "
    "`end_time` the window is the last seven days; with one bound it is 30 days long, and it cannot be longer. Times "
    "are asked for in UTC and shown in the account's time zone.",
    answers(
        CallList | CallIds,
        "A page of completed calls; with `status` the uuids alone.",
        _EXAMPLE_LIST,
        _failures(ListErrorBody, _bad(ListErrorBody, "Parameter limit is '50'; expected a whole number from 1 to 20.")),
    ),
    _CallsOperation,
)
CALL = _operation(
    "plivo_get_call",
    "Get one call",
    "A completed call as it stands in the list; with `status` a call in progress.",
    answers(
        CompletedCall | LiveCall | QueuedCall,
        "The call.",
        _EXAMPLE,
        _failures(
            ErrorBody,
            {
                **_bad(ErrorBody, "Parameter status is 'over'; expected live or queued."),
                404: ("There is no such call, or it is no longer kept.", ErrorBody(_ID, NO_CALL)),
            },
        ),
    ),
    _CallOperation,
)
