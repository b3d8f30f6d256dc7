"""FreeSWITCH's hangup causes by name, as they stand in its switch_types.h, and who ended a leg."""

from callhouse.model.call import CauseScheme

_Q850 = {
    "UNALLOCATED_NUMBER": 1,
    "NO_ROUTE_TRANSIT_NET": 2,
    "NO_ROUTE_DESTINATION": 3,
    "CHANNEL_UNACCEPTABLE": 6,
    "CALL_AWARDED_DELIVERED": 7,
    "NORMAL_CLEARING": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "NUMBER_CHANGED": 22,
    "REDIRECTION_TO_NEW_DESTINATION": 23,
    "EXCHANGE_ROUTING_ERROR": 25,
    "DESTINATION_OUT_OF_ORDER": 27,
    "INVALID_NUMBER_FORMAT": 28,
    "FACILITY_REJECTED": 29,
    "RESPONSE_TO_STATUS_ENQUIRY": 30,
    "NORMAL_UNSPECIFIED": 31,
    "NORMAL_CIRCUIT_CONGESTION": 34,
    "NETWORK_OUT_OF_ORDER": 38,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "SWITCH_CONGESTION": 42,
    "ACCESS_INFO_DISCARDED": 43,
    "REQUESTED_CHAN_UNAVAIL": 44,
    "PRE_EMPTED": 45,
    "FACILITY_NOT_SUBSCRIBED": 50,
    "OUTGOING_CALL_BARRED": 52,
    "INCOMING_CALL_BARRED": 54,
    "BEARERCAPABILITY_NOTAUTH": 57,
    "BEARERCAPABILITY_NOTAVAIL": 58,
    "SERVICE_UNAVAILABLE": 63,
    "BEARERCAPABILITY_NOTIMPL": 65,
    "CHAN_NOT_IMPLEMENTED": 66,
    "FACILITY_NOT_IMPLEMENTED": 69,
    "SERVICE_NOT_IMPLEMENTED": 79,
    "INVALID_CALL_REFERENCE": 81,
    "INCOMPATIBLE_DESTINATION": 88,
    "INVALID_MSG_UNSPECIFIED": 95,
    "MANDATORY_IE_MISSING": 96,
    "MESSAGE_TYPE_NONEXIST": 97,
    "WRONG_MESSAGE": 98,
    "IE_NONEXIST": 99,
    "INVALID_IE_CONTENTS": 100,
    "WRONG_CALL_STATE": 101,
    "RECOVERY_ON_TIMER_EXPIRE": 102,
    "MANDATORY_IE_LENGTH_ERROR": 103,
    "PROTOCOL_ERROR": 111,
    "INTERWORKING": 127,
    # Its own, which hangup_cause_q850 shows as 16.
    "CRASH": 700,
    "SYSTEM_SHUTDOWN": 701,
    "LOSE_RACE": 702,
    "MANAGER_REQUEST": 703,
    "BLIND_TRANSFER": 800,
    "ATTENDED_TRANSFER": 801,
    "ALLOTTED_TIMEOUT": 802,
    "USER_CHALLENGE": 803,
    "MEDIA_TIMEOUT": 804,
    "PICKED_OFF": 805,
    "USER_NOT_REGISTERED": 806,
    "PROGRESS_TIMEOUT": 807,
    "INVALID_GATEWAY": 808,
    "GATEWAY_DOWN": 809,
    "INVALID_URL": 810,
    "INVALID_PROFILE": 811,
    "NO_PICKUP": 812,
    "SRTP_READ_ERROR": 813,
    "BOWOUT": 814,
}
_SIP = {
    "ORIGINATOR_CANCEL": 487,
    "BUSY_EVERYWHERE": 600,
    "DECLINE": 603,
    "DOES_NOT_EXIST_ANYWHERE": 604,
    "NOT_ACCEPTABLE": 606,
    "UNWANTED": 607,
    "NO_IDENTITY": 428,
    "BAD_IDENTITY_INFO": 429,
    "UNSUPPORTED_CERTIFICATE": 437,
    "INVALID_IDENTITY": 438,
    "STALE_DATE": 403,
    "REJECT_ALL": 608,
}
"""Its own causes that stand for one answer of SIP; hangup_cause_q850 shows them as 16 too."""

_BY_THE_SWITCH = {"MANAGER_REQUEST", "SYSTEM_SHUTDOWN", "CRASH", "MEDIA_TIMEOUT", "LOSE_RACE", "PICKED_OFF", "BOWOUT"}
_TIME_OVER = {"NO_ANSWER", "NO_USER_RESPONSE", "ALLOTTED_TIMEOUT", "PROGRESS_TIMEOUT", "RECOVERY_ON_TIMER_EXPIRE"}


def code_of(name: str, q850: str) -> tuple[str | None, CauseScheme | None]:
    """The code of the cause *name* and its scheme; *q850* is what the record says of it, which counts if the name is
    unknown.
    """
    if name in _SIP:
        return str(_SIP[name]), "sip"
    if name in _Q850:
        return str(_Q850[name]), "q850"
    return (q850, "q850") if q850 not in {"", "0"} else (None, None)


def ended_by(disposition: str, cause: str, *, remote: str, bridged: bool, far_end_answered_no: bool) -> str | None:
    """Who ended a leg: ``caller``, ``callee``, ``switch`` or ``timeout``; None when nothing tells.

    *disposition* is its sip_hangup_disposition, and *remote* who is at the far end of it. *bridged* tells that it was
    connected to another leg until the end, *far_end_answered_no* that the other leg got a final SIP answer that is no.
    """
    if disposition.startswith("recv_"):
        return remote
    handed_on = (
        (disposition == "send_cancel" and cause == "ORIGINATOR_CANCEL")
        or (disposition == "send_bye" and bridged and cause not in _BY_THE_SWITCH | _TIME_OVER)
        or (disposition == "send_refuse" and far_end_answered_no)
    )
    if handed_on:
        return "callee" if remote == "caller" else "caller"
    if cause == "ALLOTTED_TIMEOUT" or (cause in _TIME_OVER and disposition in {"send_cancel", "send_refuse"}):
        return "timeout"
    return "switch" if disposition or cause in _BY_THE_SWITCH else None
