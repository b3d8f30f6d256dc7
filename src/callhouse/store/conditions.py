"""What a query asks of a call beside its window, in SQL."""

from typing import Any

from callhouse.model.number import number_key
from callhouse.model.query import CallQuery

_BEGINS = "substr(ltrim({column}, '+'), 1, length(:{field})) = :{field}"
DIRECTION = "coalesce(direction, 'inbound')"
"""The direction as it was sent, or what it is when nothing was said."""

TALK = "coalesce(duration, ended - answered)"
"""The length of the answered part: as it was sent, or else from answer to end."""

_CONDITIONS = {
    "logged_since": "event_count > 0 AND ended >= :logged_since",
    "number": "dest_key = :number",
    "src_prefix": _BEGINS.format(column="src", field="src_prefix"),
    "dest_prefix": _BEGINS.format(column="dest", field="dest_prefix"),
    "parent_call_uuid": "parent_call_uuid = :parent_call_uuid",
    "talk_from": f"{TALK} >= :talk_from",
    "talk_until": f"{TALK} < :talk_until",
    "hangup_cause_code": "cause_code = :hangup_cause_code",
    "hangup_source": "hangup_source = :hangup_source",
    "stir_verification": "stir_verification = :stir_verification",
}


def conditions(query: CallQuery) -> tuple[str, dict[str, Any]]:
    """Conditions to follow others, ``AND ... AND ...`` or empty, and their parameters."""
    given = {field: value for field in _CONDITIONS if (value := getattr(query, field)) is not None}
    terms = [_CONDITIONS[field] for field in given]
    if query.logged_since is not None and query.number is not None:
        # So that the index of the calls that have a log is used and not the one of all calls to the number.
        terms[terms.index(_CONDITIONS["number"])] = "coalesce(dest_key, '') = :number"
    if query.directions:
        named = {f"direction{n}": direction for n, direction in enumerate(query.directions)}
        terms.append(f"{DIRECTION} IN ({', '.join(f':{name}' for name in named)})")
        given.update(named)
    if query.number is not None:
        given["number"] = number_key(query.number)
    for field in ("src_prefix", "dest_prefix"):
        if field in given:
            given[field] = given[field].lstrip("+")
    return "".join(f" AND {term}" for term in terms), given
