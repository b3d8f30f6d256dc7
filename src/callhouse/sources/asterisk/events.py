"""A row of CEL → the Event that it is in a call's log."""

from collections.abc import Mapping
from typing import Any

import msgspec

from callhouse.model.event import Event, EventClass
from callhouse.sources.asterisk.rows import CelRow

ERROR_CAUSE = 34
"""From this Q.850 cause on it was the network, or the switch, that ended a call."""

INTERWORKING = 127

_APPLICATIONS: dict[str, EventClass] = {
    **dict.fromkeys(
        ("PLAYBACK", "READ", "BACKGROUND", "BACKGROUNDDETECT", "CONTROLPLAYBACK", "SAYDIGITS", "SAYNUMBER"), "prompt"
    ),
    **dict.fromkeys(("SET", "NOOP", "GOTO", "GOTOIF", "GOTOIFTIME", "GOSUB", "RETURN", "MACRO"), "debug"),
    "CONGESTION": "error",
}
# Applications whose first argument is what they have a result in.
_RESULTS = frozenset(("Read", "Record", "Background", "Set"))
_CLASSES: dict[str, EventClass] = {
    "STREAM_BEGIN": "prompt",
    "CHAN_START": "debug",
    "CHAN_END": "debug",
    "LINKEDID_END": "debug",
    "STREAM_END": "debug",
    "APP_END": "debug",
    "LOCAL_OPTIMIZE": "debug",
    "LOCAL_OPTIMIZE_BEGIN": "debug",
    "USER_DEFINED": "event",
}
_LINES = {
    "CHAN_START": "Channel started",
    "CHAN_END": "Channel ended",
    "LINKEDID_END": "Call ended",
    "ANSWER": "Answered",
    "STREAM_END": "Finished playing",
    "BRIDGE_ENTER": "Connected",
    "BRIDGE_EXIT": "Disconnected",
    "PARK_START": "Parked",
    "PARK_END": "Left parking",
    "PICKUP": "Picked up",
}
# The rows that tell what happened within an application rather than on the channel.
_IN_APPLICATION = frozenset(("APP_START", "APP_END", "STREAM_BEGIN", "STREAM_END", "DTMF"))
_DETAILED = {
    "STREAM_BEGIN": ("Playing", "sound"),
    "DTMF": ("Digit", "digit"),
    "HANGUP": ("Hung up, cause", "hangupcause"),
    "BLINDTRANSFER": ("Blind transfer to", "extension"),
    "ATTENDEDTRANSFER": ("Attended transfer to", "transfer_target_channel_name"),
    "FORWARD": ("Forwarded to", "forward"),
}

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_NOTHING: dict[str, Any] = {}
_AS_THEY_ARE = (str, int)


def details(extra: str) -> dict[str, Any]:
    """What the column EventExtra says; a text that is no JSON object stands under ``extra``."""
    if not extra:
        return {}
    try:
        return _decode(extra)
    except (msgspec.MsgspecError, RecursionError):
        return {"extra": extra}


def event_of(row: CelRow, channel: str) -> Event:
    """The Event that *row* is in the log of the call on *channel*.

    Its data holds the application or the kind of the event as ``module_type``, the variable that takes a result as
    ``result_variable``, what EventExtra and a user's own event say, and the channel's name where it was another one.
    """
    kind = row.kind
    app = row.app
    data: dict[str, Any] = {
        "module_type": app if app and kind in _IN_APPLICATION else kind,
        "result_variable": row.appdata.partition(",")[0].partition("=")[0] if app in _RESULTS else "",
    }
    if row.channel != channel:
        data["channel"] = row.channel
    said = details(row.extra) if row.extra else _NOTHING
    if kind == "USER_DEFINED":
        _add_own(data, row.title, said)
        return Event(row.time // 1000, None, "event", _own_line(row, said), data)
    for name, value in said.items():
        data[name] = value if isinstance(value, _AS_THEY_ARE) else msgspec.json.encode(value).decode()
    if kind == "APP_START":
        line = f"{app}({row.appdata})"
    elif kind in _DETAILED:
        text, name = _DETAILED[kind]
        line = f"{text} {said.get(name, 'unknown')}"
    elif kind == "APP_END":
        line = f"{app} ended"
    else:
        line = _LINES.get(kind, kind)
        if kind == "BRIDGE_ENTER" and row.peer:
            line = f"Connected to {row.peer}"
    return Event(row.time // 1000, None, _CLASSES.get(kind) or _class(kind, app, said), line, data)


def _class(kind: str, app: str, said: Mapping[str, Any]) -> EventClass:
    if kind == "APP_START":
        return _APPLICATIONS.get(app.upper(), "info")
    cause = said.get("hangupcause") if kind == "HANGUP" else None
    failed = isinstance(cause, int) and cause >= ERROR_CAUSE and not _was_cancelled(cause, said)
    return "error" if failed else "info"


def _was_cancelled(cause: int, said: Mapping[str, Any]) -> bool:
    """Whether chan_pjsip says of a caller who gave up, or of a leg that rang for him, what it says of failures too."""
    return cause == INTERWORKING and (said.get("dialstatus") == "CANCEL" or not said.get("hangupsource"))


def _add_own(data: dict[str, Any], name: str, said: Mapping[str, Any]) -> None:
    """What the user's own event called *name* says: pairs such as ``choice=1,module_type=menu`` become members."""
    data["module_type"] = name
    text = said.get("extra")
    if not isinstance(text, str):
        return
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals and key.strip() for key, equals, _ in pairs):
        data["extra"] = text
        return
    data["result_variable"] = pairs[0][0].strip()
    data.update({key.strip(): value.strip() for key, _, value in pairs})


def _own_line(row: CelRow, said: Mapping[str, Any]) -> str:
    text = said.get("extra")
    return f"{row.title}({text})" if isinstance(text, str) and text else row.title
