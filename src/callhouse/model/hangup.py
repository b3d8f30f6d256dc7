"""Why a call ended: Plivo's table of causes, and the causes of other systems in its terms."""

from callhouse.model.call import Call, CauseScheme

NAMES = {
    0: "Unknown",
    1000: "Canceled",
    1010: "Canceled (Out Of Credits)",
    1020: "Canceled (Simultaneous dial limit reached)",
    2000: "Invalid Destination Address",
    2010: "Destination Out Of Service",
    2020: "Endpoint Not Registered",
    2030: "Destination Country Barred",
    2040: "Destination Number Barred",
    2050: "Destination Prefix Barred",
    2060: "Loop Detected",
    2070: "Violates Media Anchoring",
    3000: "No Answer",
    3010: "Busy Line",
    3020: "Rejected",
    3030: "Unknown Caller ID",
    3040: "Forbidden",
    3050: "Unallocated number",
    3070: "Request timeout",
    3080: "Internal server error from carrier",
    3090: "Network congestion from carrier",
    3100: "Busy everywhere",
    3110: "Declined",
    3120: "User does not exist anywhere",
    3130: "Spam block",
    3140: "DNO Caller ID",
    4000: "Normal Hangup",
    4010: "End Of XML Instructions",
    4020: "Multiparty Call Ended",
    4030: "Kicked Out Of Multiparty Call",
    5000: "Network Error",
    5010: "Internal Error",
    5020: "Routing Error",
    5030: "Concurrency Limit Breached",
    6000: "Scheduled Hangup",
    6010: "Ring Timeout Reached",
    6020: "Media Timeout",
    7011: "Error Reaching Answer URL",
    7012: "Error Reaching Action URL",
    7013: "Error Reaching Transfer URL",
    7014: "Error Reaching Redirect URL",
    7022: "Invalid Action URL",
    7023: "Invalid Transfer URL",
    7024: "Invalid Redirect URL",
    7032: "Invalid Method For Action URL",
    7033: "Invalid Method For Transfer URL",
    7034: "Invalid Method For Redirect URL",
    8011: "Invalid Answer XML",
    8012: "Invalid Action XML",
    8013: "Invalid Transfer XML",
    8014: "Invalid Redirect XML",
    9000: "Lost Race",
    9100: "Machine Detected",
    9110: "Confirm Key Challenge Failed",
}
"""The name of each code."""

_Q850 = {
    1: 3050,  # unallocated number
    2: 5020,  # no route to transit network
    3: 5020,  # no route to destination
    5: 2000,  # misdialled trunk prefix
    16: 4000,  # normal call clearing
    17: 3010,  # user busy
    18: 3000,  # no user responding
    19: 3000,  # no answer from user
    20: 3000,  # subscriber absent
    21: 3020,  # call rejected
    22: 3050,  # number changed
    23: 3050,  # redirection to new destination
    25: 5020,  # exchange routing error
    26: 9000,  # non-selected user clearing
    27: 2010,  # destination out of order
    28: 2000,  # invalid number format
    29: 3020,  # facility rejected
    31: 4000,  # normal, unspecified
    34: 3090,  # no circuit available
    38: 5000,  # network out of order
    41: 5000,  # temporary failure
    42: 3090,  # switching equipment congestion
    44: 3090,  # requested circuit not available
    47: 3090,  # resource unavailable
    50: 3040,  # facility not subscribed
    52: 3040,  # outgoing call barred
    54: 3040,  # incoming call barred
    55: 3040,  # incoming calls barred within the group
    57: 3040,  # bearer capability not authorized
    58: 3090,  # bearer capability not available now
    63: 3080,  # service not available
    87: 3040,  # user not member of the group
    102: 3070,  # recovery on timer expiry
    111: 5000,  # protocol error
    127: 5000,  # interworking
    # FreeSWITCH numbers causes of its own in the same field, since version 1.10 from 700 and 800 on.
    487: 1000,  # originator cancel
    **dict.fromkeys((500, 501, 700, 701), 5010),  # crash, shutdown
    **dict.fromkeys((502, 605, 702, 805), 9000),  # lost race, picked off
    **dict.fromkeys((600, 601, 800, 801), 4000),  # transferred
    703: 4000,  # an operator or a program hung up
    **dict.fromkeys((602, 802), 6000),  # allotted time is over
    **dict.fromkeys((604, 804), 6020),  # no media
    **dict.fromkeys((606, 806), 2020),  # user not registered
    **dict.fromkeys((607, 807), 6010),  # no progress in time
    803: 3040,  # asked for credentials
    **dict.fromkeys((808, 809, 810, 811), 5020),  # no such gateway, or it is down; no such address or profile
    812: 3000,  # nobody picked up
    813: 6020,  # encrypted media that cannot be read
}
_SIP = {
    200: 4000,
    403: 3040,
    404: 3050,
    408: 3070,
    410: 3050,
    480: 3000,
    482: 2060,
    483: 2060,
    484: 2000,
    485: 2000,
    486: 3010,
    487: 1000,
    503: 3090,
    504: 3070,
    600: 3100,
    603: 3110,
    604: 3120,
    607: 3130,
    608: 3130,
}
# What is not named above goes by its class, which both standards define: Q.850 by sixteens, SIP by hundreds.
_Q850_CLASSES = {1: 4000, 2: 3090, 3: 3040, 4: 3080, 5: 3080, 6: 5000, 7: 5000}
_SIP_CLASSES = {2: 4000, 3: 5020, 4: 3020, 5: 3080, 6: 3110}


def cause_code(call: Call) -> int | None:
    """The code as it was sent, or what the switch's own code means in Plivo's table: 0 where nobody can tell.

    None for a call of which neither was sent.
    """
    if call.hangup_cause_code is not None or call.hangup_original_scheme is None or not call.hangup_original_code:
        return call.hangup_cause_code
    return mapped(call.hangup_original_scheme, call.hangup_original_code)


def mapped(scheme: CauseScheme, original: str) -> int:
    """The code in Plivo's table that is closest to *original* of *scheme*; 0 (unknown) for what is no such code."""
    digits = original.strip()
    if not digits.isascii() or not digits.isdigit() or len(digits) > 4:
        return 0
    code = int(digits)
    if scheme == "plivo":
        return code if code in NAMES else 0
    if scheme == "sip":
        return _SIP.get(code) or _SIP_CLASSES.get(code // 100, 0)
    return _Q850.get(code) or _Q850_CLASSES.get(code // 16, 0)
