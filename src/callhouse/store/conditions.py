"""What a query asks of a call beside its window, in SQL."""

from typing import Any

from callhouse.model.number import heads, number_key
from callhouse.model.query import CallQuery
from callhouse.store import kinds

DIRECTION = "coalesce(direction, 'inbound')"
"""The direction as it was sent, or what it is when nothing was said."""

TALK = "talk"
"""The length of the answered part: as it was sent, or else from answer to end."""

_CONDITIONS = {
    "logged_since": "event_count > 0 AND ended >= :logged_since",
    "number": "dest_key = :number",
    "either": "(dest_key = :either OR src_key = :either)",
    "parent_call_uuid": "parent_call_uuid = :parent_call_uuid",
    "talk_from": "talk >= :talk_from",
    "talk_until": "talk < :talk_until",
}


def conditions(query: CallQuery) -> tuple[str, dict[str, Any]]:
    """Conditions to follow others, ``AND ... AND ...`` or empty, and their parameters."""
    given: dict[str, Any] = {field: value for field in _CONDITIONS if (value := getattr(query, field)) is not None}
    terms = [_CONDITIONS[field] for field in given]
    if query.logged_since is not None and query.number is not None:
        # So that the index of the calls that have a log is used and not the one of all calls to the number.
        terms[terms.index(_CONDITIONS["number"])] = "coalesce(dest_key, '') = :number"
    for field in ("number", "either"):
        if field in given:
            given[field] = number_key(given[field])
    for column, prefix in (("src", query.src_prefix), ("dest", query.dest_prefix)):
        if prefix is not None:
            term, bounds = _begins(column, prefix.lstrip("+"))
            terms.append(term)
            given.update(bounds)
    of_kind, more = kinds.conditions(query)
    return "".join(f" AND {term}" for term in (*terms, *of_kind)), {**given, **more}


def asks_for_kinds_alone(query: CallQuery) -> bool:
    """Whether kinds tell all that *query* asks of a call beside its window."""
    other = (*(getattr(query, field) for field in _CONDITIONS), query.src_prefix, query.dest_prefix)
    return all(value is None for value in other) and kinds.chooser(query) is not None


def _begins(column: str, prefix: str) -> tuple[str, dict[str, Any]]:
    """The condition that a number begins with *prefix*, a leading plus aside."""
    bounds = heads(prefix)
    if bounds is None:
        name = f"{column}_prefix"
        return f"substr(ltrim({column}, '+'), 1, length(:{name})) = :{name}", {name: prefix}
    names = f"{column}_first", f"{column}_end"
    return f"{column}_head >= :{names[0]} AND {column}_head < :{names[1]}", dict(zip(names, bounds, strict=True))
