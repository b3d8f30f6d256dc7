"""The columns of an export."""

import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Literal

import msgspec

from callhouse.console import words
from callhouse.console.views import utc
from callhouse.model.browsing import WholeCall
from callhouse.model.instant import SECOND

Kind = Literal["text", "instant", "seconds", "number", "money", "flag"]

MONEY_PLACES = 10
_UNIT = Decimal(1).scaleb(-MONEY_PLACES)

_FORMULA = ("=", "@", "+", "-", "\t", "\r")
_NUMBER = re.compile(r"[+-]\d+(?:\.\d+)?")
_OF_NUMBERS = frozenset("0123456789+-.,()/ ")
_BLANK = re.compile(r"[\d)] +[\d(]")
"""What a number of a person may have, and no formula of numbers: a sign would stand there."""


class Column(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    of: Callable[[WholeCall], Any]


def _field(name: str, kind: Kind = "text") -> Column:
    return Column(name, kind, lambda found: getattr(found.call, name))


COLUMNS = (
    Column("log_id", "number", lambda found: found.listed.log_id),
    _field("session_id"),
    Column("call_uuid", "text", lambda found: found.listed.call_uuid),
    _field("parent_call_uuid"),
    _field("sip_call_id"),
    _field("start", "instant"),
    _field("answer", "instant"),
    _field("end", "instant"),
    Column("direction", "text", lambda found: found.listed.direction),
    _field("src"),
    _field("dest"),
    _field("application_name"),
    _field("application_version"),
    Column("status", "text", lambda found: found.listed.status),
    Column("talk_seconds", "seconds", lambda found: found.listed.duration),
    _field("billed_duration", "seconds"),
    Column("hangup_cause_code", "number", lambda found: found.listed.cause_code),
    Column("hangup_cause_name", "text", lambda found: words.cause(found.listed)),
    _field("hangup_source"),
    _field("hangup_original_code"),
    _field("hangup_original_scheme"),
    _field("rate", "money"),
    _field("amount", "money"),
    _field("conference_uuid"),
    _field("stir_verification"),
    _field("stir_attestation"),
    _field("source_ip"),
    _field("voice_network_group"),
    _field("location"),
    _field("channel"),
    Column("events", "number", lambda found: found.listed.event_count),
    Column("has_errors", "flag", lambda found: bool(found.listed.has_errors)),
    Column("other", "text", lambda found: msgspec.json.encode(found.call.extra).decode() if found.call.extra else None),
)


def cells(found: WholeCall) -> list[str]:
    """The row of a CSV file."""
    return [_cell(column.kind, column.of(found)) for column in COLUMNS]


def plain(found: WholeCall) -> dict[str, Any]:
    """The row of a Parquet file, as JSON: instants in milliseconds, lengths in seconds, money as text."""
    row = {column.name: _plain(column.kind, column.of(found)) for column in COLUMNS}
    return {name: value for name, value in row.items() if value is not None}


def _plain(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind == "seconds":
        return value / SECOND
    if kind == "money":
        return str(value.quantize(_UNIT, rounding=ROUND_HALF_EVEN))
    return value


def _cell(kind: Kind, value: Any) -> str:
    if value is None:
        return ""
    if kind == "instant":
        return utc(value)
    if kind == "seconds":
        return str(value / SECOND)
    if kind == "flag":
        return "true" if value else "false"
    return _unspoilt(str(value)) if kind == "text" else str(value)


def _unspoilt(text: str) -> str:
    """*text* such that no spreadsheet takes it for a formula; a number stays as it is, its + included."""
    if not text.startswith(_FORMULA) or _NUMBER.fullmatch(text):
        return text
    return text if _BLANK.search(text) and _OF_NUMBERS.issuperset(text) else f"'{text}"
