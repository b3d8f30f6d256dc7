"""A Call as a row of the table of calls, and back."""

import functools
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from callhouse.model import call as calls
from callhouse.model import hangup
from callhouse.model.call import Call
from callhouse.model.number import number_head, number_key
from callhouse.store import kinds
from callhouse.store.engine import Row
from callhouse.store.totals import Counted

COLUMNS = {
    field: {"start": "started", "answer": "answered", "end": "ended"}.get(field, field) for field in calls.FIELDS
}
"""The column of each field of Call."""

# Parameters are named as the fields of Call, columns as COLUMNS says.
_DERIVED = (
    "src_key", "src_head", "dest_key", "dest_head", "kind", "talk", "last_step", "cause_code", "event_count", "arrived",
    "origin_id", "changed", "changed_by", "replaced",
)  # fmt: skip
_UNCHANGED = {"session_id", "arrived", "origin_id", "replaced"}
_WRITTEN = {**COLUMNS, **{field: field for field in _DERIVED}}
_KEPT = ("id", "event_count", *Counted._fields)
KNOWN = f"""
SELECT account_id, {", ".join(_KEPT)}, {", ".join(COLUMNS.values())} FROM calls
WHERE account_id = :account_id AND session_id = :session_id
"""  # noqa: S608
INSERT = f"""
INSERT INTO calls (account_id, {", ".join(_WRITTEN.values())})
VALUES (:account_id, {", ".join(f":{field}" for field in _WRITTEN)}) RETURNING id
"""  # noqa: S608
_CHANGED = [f"{column} = :{field}" for field, column in _WRITTEN.items() if field not in _UNCHANGED]
UPDATE = f"""
UPDATE calls SET {", ".join(_CHANGED)}, replaced = replaced + :replaced
WHERE account_id = :account_id AND id = :id
"""  # noqa: S608
DROP = "DELETE FROM calls WHERE account_id = :account_id AND id = :id"


class Known(NamedTuple):
    """A row of KNOWN, as it lies in the table; *counted* is None unless the call is complete."""

    account_id: int
    id: int
    event_count: int
    last_step: str | None
    counted: Counted | None
    call: Call


def known_of(row: Row) -> Known:
    account_id, call_id, event_count = row[:3]
    counted = Counted(*row[3 : 1 + len(_KEPT)])
    call = call_of(account_id, row[1 + len(_KEPT) :])
    return Known(account_id, call_id, event_count, counted.last_step, counted if call.is_complete else None, call)


def row_of(account_id: int, call: Call, event_count: int, last_step: str | None) -> dict[str, Any]:
    """The columns of *call*, with what is derived from it."""
    row = msgspec.structs.asdict(call)
    if call.rate is not None:
        row["rate"] = str(call.rate)
    if call.amount is not None:
        row["amount"] = str(call.amount)
    if call.told is not None:
        row["told"] = msgspec.json.encode(call.told).decode()
    if call.extra is not None:
        row["extra"] = msgspec.json.encode(call.extra).decode()
    row["account_id"] = account_id
    row["call_uuid"] = call.call_uuid or calls.derived_uuid(account_id, call.session_id)
    row["src_key"], row["src_head"] = _number(call.src)
    row["dest_key"], row["dest_head"] = _number(call.dest)
    row["cause_code"] = cause = hangup.cause_code(call)
    row["kind"] = kinds.kind_of(call, cause)
    row["talk"] = call.duration
    if call.duration is None and call.answer is not None and call.end is not None:
        row["talk"] = call.end - call.answer
    row["last_step"] = last_step
    row["event_count"] = event_count
    return row


# A few numbers are on one side or the other of most calls.
@functools.lru_cache(4_096)
def _number(number: str | None) -> tuple[str | None, int | None]:
    """What a number is looked up by: its key and its head."""
    return (None, None) if number is None else (number_key(number), number_head(number))


def counted_of(row: Mapping[str, Any]) -> Counted:
    """What is counted of a complete call, whose columns are *row*."""
    return Counted(
        row["start"],
        row["end"],
        row["kind"],
        row["talk"],
        row["billed_duration"],
        row["src_key"],
        row["dest_key"],
        row["application_name"],
        row["last_step"],
    )


def call_of(account_id: int, values: Sequence[Any]) -> Call:
    """The call as it was sent, from the values of COLUMNS; what was derived is derived again when it is written."""
    fields = dict(zip(calls.FIELDS, values, strict=True))
    if fields["call_uuid"] == calls.derived_uuid(account_id, fields["session_id"]):
        fields["call_uuid"] = None
    for money in ("rate", "amount"):
        if fields[money] is not None:
            fields[money] = Decimal(fields[money])
    for document in ("told", "extra"):
        if fields[document] is not None:
            fields[document] = msgspec.json.decode(fields[document])
    return Call(**fields)
