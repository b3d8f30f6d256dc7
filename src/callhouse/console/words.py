"""What the console says of a call in words: who hung up and why, how long, and in which state."""

from callhouse.model import hangup
from callhouse.model.browsing import ListedCall
from callhouse.model.instant import DAY, HOUR, MINUTE, SECOND
from callhouse.store import SILENCE
from callhouse.store.origins import MIRROR, Origin

_WHO = {
    "caller": "The caller hung up",
    "callee": "The called party hung up",
    "plivo": "The platform ended the call",
    "switch": "The switch ended the call",
    "server": "The server ended the call",
    "api request": "A request to the API ended the call",
    "xml": "The application ended the call",
    "answer xml": "The application ended the call",
    "error": "An error ended the call",
    "carrier": "The carrier ended the call",
    "customer": "The customer's side ended the call",
}
_SHORT_WHO = {
    "caller": "Caller",
    "callee": "Callee",
    "plivo": "Platform",
    "switch": "Switch",
    "server": "Server",
    "api request": "API",
    "xml": "Application",
    "answer xml": "Application",
    "error": "Error",
    "carrier": "Carrier",
    "customer": "Customer",
}
_WHY = {
    0: "Nobody can tell why.",
    1000: "The call was given up before it was answered.",
    1010: "The call was given up because the credit ran out.",
    1020: "Too many calls were dialled at once.",
    2000: "The number that was dialled is not valid.",
    2010: "The destination is out of service.",
    2020: "The phone that was called is not registered.",
    2030: "Calls to this country are barred.",
    2040: "Calls to this number are barred.",
    2050: "Calls to numbers with this prefix are barred.",
    2060: "The call was sent round in a loop.",
    2070: "Media would have had to leave the region where they must stay.",
    3000: "Nobody answered.",
    3010: "The line was busy.",
    3020: "The call was rejected.",
    3030: "The caller's number was not accepted.",
    3040: "The call is not permitted.",
    3050: "The number that was dialled is not in use.",
    3070: "The other side did not respond in time.",
    3080: "The carrier reported an internal error.",
    3090: "The carrier's network was congested.",
    3100: "All phones of the called party were busy.",
    3110: "The called party declined.",
    3120: "Nobody anywhere has the number that was dialled.",
    3130: "The call was blocked as spam.",
    3140: "The caller's number must not make calls.",
    4000: "The call ended in the normal way.",
    4010: "The application had nothing more to do.",
    4020: "The conference was over.",
    4030: "The caller was removed from the conference.",
    5000: "The network failed.",
    5010: "The system failed.",
    5020: "There was no route to the destination.",
    5030: "More calls at once than are allowed.",
    6000: "The time that was set for the call was over.",
    6010: "It rang for as long as was allowed.",
    6020: "No sound came for too long.",
    9000: "Another phone was quicker to answer.",
    9100: "A machine answered.",
    9110: "The key that was asked for was not pressed.",
}
_FAMILIES = {
    7: "The application could not be reached or did not answer as it should.",
    8: "The application gave instructions that cannot be followed.",
}
_SCHEMES = {"q850": "Q.850", "sip": "SIP", "plivo": "Plivo"}


def who(call: ListedCall) -> str | None:
    """Who hung up, as a sentence without its full stop."""
    source = call.hangup_source
    return None if not source else _WHO.get(source.lower(), f"Ended by {source}")


def who_shortly(call: ListedCall) -> str | None:
    return None if not call.hangup_source else _SHORT_WHO.get(call.hangup_source.lower(), call.hangup_source)


def why(call: ListedCall) -> str | None:
    """Why the call ended, as a sentence."""
    code = call.cause_code
    if code is None:
        return None
    return _WHY.get(code) or _FAMILIES.get(code // 1000)


def cause(call: ListedCall) -> str | None:
    """The name of the cause: as it was sent, or else as Plivo's table has it."""
    known = None if call.cause_code is None else hangup.NAMES.get(call.cause_code, str(call.cause_code))
    return call.hangup_cause_name or known


def original_code(call: ListedCall) -> str | None:
    """The switch's own code, with its scheme."""
    if not call.hangup_original_code:
        return None
    scheme = _SCHEMES.get(call.hangup_original_scheme or "", "")
    return f"{scheme} {call.hangup_original_code}".strip()


def source(name: str) -> str:
    """What is meant by the *name* of a source."""
    return f"mirrors of {name.removeprefix(MIRROR)}" if name.startswith(MIRROR) else f"/ingest/{name}"


def came(origin: Origin) -> str:
    """By what way a record came."""
    if origin.source.startswith(MIRROR):
        return f"mirror {origin.place}"
    if not origin.place:
        return source(origin.source)
    command = {"generate": "callhouse generate", SILENCE: "Callhouse itself, after a long silence"}.get(origin.place)
    if command is not None:
        return command
    stood = origin.place if origin.place == "standard input" else f"a file in {origin.place}"
    return f"import of {stood}, read as {origin.source}"


def length(milliseconds: int | None) -> str:
    """``0:07``, ``12:03``, ``1:00:00``; whole seconds, and nothing where nothing is known."""
    if milliseconds is None:
        return ""
    hours, rest = divmod(milliseconds, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    seconds = rest // SECOND
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def exact(milliseconds: int) -> str:
    """``0:07.250``; a minus before what lies earlier."""
    return f"{'-' if milliseconds < 0 else ''}{length(abs(milliseconds))}.{abs(milliseconds) % SECOND:03}"


def size(count: int) -> str:
    """``900 bytes``, ``1.5 KiB``, ``12.0 GiB``."""
    if count < 1024:
        return f"{count} byte{'' if count == 1 else 's'}"
    power = min(4, (count.bit_length() - 1) // 10)
    return f"{count / 1024**power:,.1f} {'KMGT'[power - 1]}iB"


def spoken(milliseconds: int) -> str:
    """``250 ms``, ``3.5 s``, ``12 min 3 s``, ``1 h 2 min``, ``3 d 4 h``: no more than is of interest."""
    if 0 < milliseconds < SECOND:
        return f"{milliseconds} ms"
    if milliseconds < 10 * SECOND and milliseconds % SECOND >= SECOND // 10:
        return f"{milliseconds // 100 / 10} s"
    parts = []
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (SECOND, "s")):
        number, milliseconds = divmod(milliseconds, unit)
        if number:
            parts.append(f"{number} {name}")
    return " ".join(parts[:2]) or "0 s"
