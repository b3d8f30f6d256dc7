"""What a call is counted as: direction, answered or not, who hung up, verification and cause, as one number.

The totals are kept by kind, so a filter by any of these is answered from them, and in the indexes of calls a kind
stands in for five columns. Its bits, from the lowest: 2 direction, 1 answered, 4 hangup source, 3 verification, then
the cause. Calls of all accounts have their kinds in common.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

from callhouse.model.browsing import BUSY_CAUSES, UNANSWERED_CAUSES, Status
from callhouse.model.call import Call, Direction
from callhouse.model.query import CallQuery

_DIRECTIONS: tuple[Direction, ...] = ("inbound", "outbound", "transfer")
_SOURCES = (
    None, "Caller", "Callee", "Plivo", "API Request", "Answer XML", "Error", "Unknown", "Carrier", "switch",
)  # fmt: skip
_OTHER_SOURCE = 15
_VERIFICATIONS = (None, "Verified", "Not Verified", "Not Applicable")
_OTHER_VERIFICATION = 7
_NO_CAUSE, _OTHER_CAUSE, _FIRST_CAUSE = 0, 1, 2
_CAUSES = 10_000
"""Codes below this are told apart."""

# By their places in the tuples above; the order of what is stored must never change.
_SOURCE_PLACES = {source: place for place, source in enumerate(_SOURCES)}
_VERIFICATION_PLACES = {verification: place for place, verification in enumerate(_VERIFICATIONS)}

_ANSWERED = 4

DIRECTION = "CASE (kind & 3) WHEN 0 THEN 'inbound' WHEN 1 THEN 'outbound' ELSE 'transfer' END"
OF_CAUSE = f"(kind >> 10) = :cause_code + {_FIRST_CAUSE}"
"""Conditions that an index of calls answers, as it holds their kinds; the code must be below 10000."""

_DIRECTION_OF = "(kind & 3)"
_SOURCE_OF = "((kind >> 3) & 15)"
_VERIFICATION_OF = "((kind >> 7) & 7)"
_CAUSE_OF = "(kind >> 10)"

WITHOUT_CAUSE = f"{_CAUSE_OF} <= {_OTHER_CAUSE}"
STATUS = f"""
CASE WHEN started IS NULL OR ended IS NULL THEN 'in progress' WHEN (kind & {_ANSWERED}) > 0 THEN 'answered'
WHEN {_CAUSE_OF} IN ({", ".join(str(_FIRST_CAUSE + code) for code in BUSY_CAUSES)}) THEN 'busy'
WHEN {_CAUSE_OF} IN ({", ".join(str(_FIRST_CAUSE + code) for code in UNANSWERED_CAUSES)}, {_NO_CAUSE})
OR {_CAUSE_OF} BETWEEN {_FIRST_CAUSE + 4000} AND {_FIRST_CAUSE + 4999} THEN 'unanswered' ELSE 'failed' END
"""
"""What became of a call."""


class Kind(NamedTuple):
    """A kind, taken apart; None for *cause* and *source* where nothing is known or they are among the rare ones."""

    direction: Direction
    answered: bool
    source: str | None
    cause: int | None


def kind_of(call: Call, cause_code: int | None) -> int:
    """The kind of *call*.

    It was answered where that is said, or it has a length; without any word on an answer, when it lasted and ended in
    no other way than by hanging up.
    """
    if call.answer is not None or call.duration is not None:
        answered = call.answer is not None or bool(call.duration)
    else:
        lasted = call.start is not None and call.end is not None and call.end > call.start
        answered = lasted and (cause_code is None or 4000 <= cause_code < 5000)
    direction = 0 if call.direction is None else _DIRECTIONS.index(call.direction)
    source = _SOURCE_PLACES.get(call.hangup_source, _OTHER_SOURCE)
    verification = _VERIFICATION_PLACES.get(call.stir_verification, _OTHER_VERIFICATION)
    return direction | _ANSWERED * answered | source << 3 | verification << 7 | _cause_place(cause_code) << 10


def is_answered(kind: int) -> bool:
    return bool(kind & _ANSWERED)


@functools.lru_cache(4_096)
def taken_apart(kind: int) -> Kind:
    """What *kind* says."""
    source, cause = (kind >> 3) & 15, kind >> 10
    return Kind(
        _DIRECTIONS[kind & 3],
        is_answered(kind),
        _SOURCES[source] if source < len(_SOURCES) else None,
        cause - _FIRST_CAUSE if cause >= _FIRST_CAUSE else None,
    )


@functools.lru_cache(4_096)
def status_of(kind: int) -> Status:
    """What became of a complete call; the same as STATUS says in SQL."""
    if is_answered(kind):
        return "answered"
    code = (kind >> 10) - _FIRST_CAUSE
    if code in BUSY_CAUSES:
        return "busy"
    is_plain = kind >> 10 == _NO_CAUSE or code in UNANSWERED_CAUSES or 4000 <= code < 5000
    return "unanswered" if is_plain else "failed"


def chooser(query: CallQuery) -> Callable[[int], bool] | None:
    """Whether a kind is one that *query* asks for; None when it asks for something that kinds do not tell apart, or for
    all of them.
    """
    wanted: list[tuple[int, int, tuple[int, ...]]] = []
    if query.directions:
        wanted.append((0, 3, tuple(_DIRECTIONS.index(direction) for direction in query.directions)))
    if query.hangup_source is not None:
        if query.hangup_source not in _SOURCE_PLACES:
            return None
        wanted.append((3, 15, (_SOURCE_PLACES[query.hangup_source],)))
    if query.stir_verification is not None:
        if query.stir_verification not in _VERIFICATION_PLACES:
            return None
        wanted.append((7, 7, (_VERIFICATION_PLACES[query.stir_verification],)))
    if query.hangup_cause_code is not None:
        if not 0 <= query.hangup_cause_code < _CAUSES:
            return None
        wanted.append((10, -1, (_cause_place(query.hangup_cause_code),)))
    if not wanted:
        return None
    return lambda kind: all((kind >> shift) & mask in places for shift, mask, places in wanted)


def conditions(query: CallQuery) -> tuple[list[str], dict[str, object]]:
    """The same as conditions in SQL, for any query, and their parameters."""
    terms: list[str] = []
    given: dict[str, object] = {}
    if query.directions:
        named = {f"direction{n}": _DIRECTIONS.index(direction) for n, direction in enumerate(query.directions)}
        terms.append(f"{_DIRECTION_OF} IN ({', '.join(f':{name}' for name in named)})")
        given.update(named)
    if (source := query.hangup_source) is not None:
        is_known = source in _SOURCE_PLACES
        terms.append(
            f"{_SOURCE_OF} = :source" if is_known else f"{_SOURCE_OF} = {_OTHER_SOURCE} AND hangup_source = :source"
        )
        given["source"] = _SOURCE_PLACES[source] if is_known else source
    if (verification := query.stir_verification) is not None:
        is_known = verification in _VERIFICATION_PLACES
        other = f"{_VERIFICATION_OF} = {_OTHER_VERIFICATION} AND stir_verification = :verification"
        terms.append(f"{_VERIFICATION_OF} = :verification" if is_known else other)
        given["verification"] = _VERIFICATION_PLACES[verification] if is_known else verification
    if (code := query.hangup_cause_code) is not None:
        is_known = 0 <= code < _CAUSES
        terms.append(f"{_CAUSE_OF} = :cause" if is_known else f"{_CAUSE_OF} = {_OTHER_CAUSE} AND cause_code = :cause")
        given["cause"] = _cause_place(code) if is_known else code
    return terms, given


def _cause_place(code: int | None) -> int:
    if code is None:
        return _NO_CAUSE
    return _FIRST_CAUSE + code if 0 <= code < _CAUSES else _OTHER_CAUSE
