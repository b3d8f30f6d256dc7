"""The lines that the DEV API makes of calls and events, in the account's time zone.

Columns are parted by single spaces, so what stands in them holds none: a space or a control character becomes ``_``,
and what is unknown is ``-``. What goes on to the end of its line may hold spaces, but no control character.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo

from callhouse.model.account import Account
from callhouse.model.event import EventClass
from callhouse.model.instant import time_zone
from callhouse.model.log import LogEntry
from callhouse.store.engine import Row
from callhouse.wire.dev.schema import TOLD_ERRORS, TOLD_SESSION, fact

SESSION = ("direction", "src", "dest", "channel", "end", "start", "session_id", "told")
"""What a row of the store holds for a session line."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

UNKNOWN = "-"
NO_CHANNEL = "0"

_NOT_IN_A_COLUMN = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")
_NOT_IN_A_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SESSION_ID = re.compile(r"[0-9A-Za-z]{6};(\d{3,18});\d+", re.ASCII)

MODULES = frozenset({"client", "dxi", "inet", "jsi", "log", "prompt", "rec", "tel", "vxi", "dlg", "sip"})
"""The modules of the platform that a log line may name."""

_MODULE_OF_TYPE = {
    "eval_js": "jsi",
    "record": "rec",
    "call_recording": "rec",
    "rest": "inet",
    "soap": "inet",
    "transfer": "tel",
}
MODULE_OF_CLASS: dict[EventClass, str] = {
    "info": "log",
    "event": "dlg",
    "debug": "vxi",
    "prompt": "prompt",
    "error": "vxi",
}
LINE = "dev_line"
"""The key of an event's data under which its line of a vendor's log stands, where we would write another one."""

_ENTRY_TYPE: dict[EventClass, str] = {
    "info": "LOCAL",
    "event": "EVENT",
    "debug": "DEBUG",
    "prompt": "EVENT",
    "error": "ERROR",
}


def session_lines(rows: Iterable[Row], account: Account) -> list[str]:
    """``calltype ANI channel [start] DNIS sessionID callStart callEnd callLength`` for each row of SESSION."""
    zone = time_zone(account.timezone)
    lines = []
    for direction, src, dest, channel, end, start, session_id, told in rows:
        if told and (line := fact(told, TOLD_SESSION)):
            lines.append(line)
            continue
        ani, dnis = _parties(direction, src, dest, account)
        began, ended = start // 1000, end // 1000
        lines.append(
            f"{direction} {ani} {_channel(channel, session_id)} [{_bracket(began, zone)}] {dnis} {column(session_id)} "
            f"{began} {ended} {_length(ended - began)}"
        )
    return lines


def error_line(row: Row, account: Account, zone: tzinfo) -> str:
    """``error ANI channel [time of the error] DNIS sessionID message`` for a row of the store's errors."""
    timestamp, message, direction, src, dest, channel, told, session_id = row
    if told and (line := (fact(told, TOLD_ERRORS) or {}).get(error_name(timestamp, message))):
        return str(line)
    ani, dnis = _parties(direction, src, dest, account)
    return (
        f"error {ani} {_channel(channel, session_id)} [{_bracket(timestamp // 1000, zone)}] {dnis} "
        f"{column(session_id)} {text(message)}"
    )


def error_name(timestamp: int, message: str) -> str:
    """What an error is called among those of its call."""
    return f"{timestamp // 1000} {message}"


def log_text(entries: Sequence[LogEntry], session_id: str, account: Account) -> str:
    """``Timestamp [module] (sessionID) entry-type: message``, a line for each entry."""
    zone = time_zone(account.timezone)
    return "\n".join(log_line(entry, session_id, zone) for entry in entries)


def log_line(entry: LogEntry, session_id: str, zone: tzinfo) -> str:
    """The line of *entry*: the vendor's own, where one was kept that is a line."""
    told = entry.event.data.get(LINE)
    if isinstance(told, str) and "\n" not in told:
        return told
    return (
        f"{datetime.fromtimestamp(entry.timestamp, zone):%a %d %b %Y %I:%M:%S %p %Z} [{_module(entry)}] "
        f"({text(session_id)}) {_ENTRY_TYPE[entry.class_]}: {text(entry.event.line)}"
    )


def _parties(direction: str, src: str | None, dest: str | None, account: Account) -> tuple[str, str]:
    """What stands for the calling and the called number: of an outbound call the dialled number and the login."""
    ani, dnis = (dest, account.login) if direction == "outbound" else (src, dest)
    return column(ani), column(dnis)


def _channel(channel: str | None, session_id: str) -> str:
    """The channel's number, not padded: of the call, else of a session id as the platform forms them, else 0."""
    if channel:
        return str(int(channel)) if channel.isascii() and channel.isdigit() and len(channel) <= 18 else column(channel)
    match = _SESSION_ID.fullmatch(session_id)
    return str(int(match[1])) if match else NO_CHANNEL


def _bracket(seconds: int, zone: tzinfo) -> str:
    """``03/Nov/2017:00:10:42 -0400``: the offset is the one that is true at that instant."""
    # A third of strftime's time, and in English whatever the locale.
    at = datetime.fromtimestamp(seconds, zone)
    iso = at.isoformat()
    return f"{iso[8:10]}/{MONTHS[at.month - 1]}/{iso[:4]}:{iso[11:19]} {iso[19:22]}{iso[23:25]}"


def _length(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}"


def _module(entry: LogEntry) -> str:
    kind = entry.event.data.get("module_type")
    if isinstance(kind, str):
        if kind in MODULES:
            return kind
        if kind in _MODULE_OF_TYPE:
            return _MODULE_OF_TYPE[kind]
    return MODULE_OF_CLASS[entry.class_]


def column(value: str | None) -> str:
    return _NOT_IN_A_COLUMN.sub("_", value) if value else UNKNOWN


def text(value: str) -> str:
    return _NOT_IN_A_LINE.sub(" ", value)
