"""A Call as a row of the table of calls, and back."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from callhouse.model import call as calls
from callhouse.model import hangup
from callhouse.model.call import Call
from callhouse.model.number import number_key

COLUMNS = {
    field: {"start": "started", "answer": "answered", "end": "ended"}.get(field, field) for field in calls.FIELDS
}
"""The column of each field of Call."""

# Parameters are named as the fields of Call, columns as COLUMNS says.
_DERIVED = ("dest_key", "cause_code", "event_count", "arrived")
_WRITTEN = {**COLUMNS, **{field: field for field in _DERIVED}}
KNOWN = f"""
SELECT account_id, id, event_count, {", ".join(COLUMNS.values())} FROM calls
WHERE account_id = :account_id AND session_id = :session_id
"""  # noqa: S608
INSERT = f"""
INSERT INTO calls (account_id, {", ".join(_WRITTEN.values())})
VALUES (:account_id, {", ".join(f":{field}" for field in _WRITTEN)}) RETURNING id
"""  # noqa: S608
_CHANGED = [f"{column} = :{field}" for field, column in _WRITTEN.items() if field not in {"session_id", "arrived"}]
UPDATE = f"""
UPDATE calls SET {", ".join(_CHANGED)}
WHERE account_id = :account_id AND id = :id
"""  # noqa: S608
DROP = "DELETE FROM calls WHERE account_id = :account_id AND id = :id"


def row_of(account_id: int, call: Call, event_count: int) -> dict[str, Any]:
    """The columns of *call*, with what is derived from it."""
    row = msgspec.structs.asdict(call)
    if call.rate is not None:
        row["rate"] = str(call.rate)
    if call.amount is not None:
        row["amount"] = str(call.amount)
    if call.extra is not None:
        row["extra"] = msgspec.json.encode(call.extra).decode()
    row["account_id"] = account_id
    row["call_uuid"] = call.call_uuid or calls.derived_uuid(account_id, call.session_id)
    row["dest_key"] = None if call.dest is None else number_key(call.dest)
    row["cause_code"] = hangup.cause_code(call)
    row["event_count"] = event_count
    return row


def call_of(account_id: int, values: Sequence[Any]) -> Call:
    """The call as it was sent, from the values of COLUMNS; what was derived is derived again when it is written."""
    fields = dict(zip(calls.FIELDS, values, strict=True))
    if fields["call_uuid"] == calls.derived_uuid(account_id, fields["session_id"]):
        fields["call_uuid"] = None
    for money in ("rate", "amount"):
        if fields[money] is not None:
            fields[money] = Decimal(fields[money])
    if fields["extra"] is not None:
        fields["extra"] = msgspec.json.decode(fields["extra"])
    return Call(**fields)
