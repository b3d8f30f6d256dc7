"""Calls by the words of their logs, in the order of a list.

A word may stand in nearly every log or in none. So first the calls that have a log are gone through in stretches from
the beginning of the list, and the index of words is asked only for the ids of each: ids and starts mostly go together.
Where they do not, or where hardly any log holds the words, all that hold them are found at once.
"""

from collections.abc import Sequence

from callhouse.store.engine import Parameters, Reader, Row
from callhouse.store.log_writer import account_word
from callhouse.store.rollups import COMPLETE

FIRST_STRETCH = 128
LAST_STRETCH = 65_536
"""Calls of the first stretch, and of the longest: what comes after it is found at once."""

GROWTH = 16
"""A stretch is so long that it should give what is missing twice over, but at most so many times as the one before."""

FEW = 500
"""Fewer calls than these that hold the words are looked up one by one."""

NOT_MANY = 5_000
"""Fewer calls than these that hold the words are found at once."""

REPEATS = 1.5
"""How many times the ids between the lowest and the highest may be asked for in stretches."""

HAS_WORDS = "event_count > 0 AND {found}"
"""Stands in the statements given to this module for the condition that the log of a call holds the words."""

_LOOKED_UP = "id IN ({matches} LIMIT :most)"
# The plus keeps them from being looked up.
_AT_ONCE = "+id IN ({matches})"
_IN_STRETCH = "{holds}"
_ALL_IDS = {"low": 0, "high": 2**63 - 1}
_STRETCH = f"""
SELECT count(*), min(id), max(id), min(started), max(started) FROM (
    SELECT id, started FROM calls
    WHERE account_id = :account_id AND {COMPLETE} AND event_count > 0 AND started >= :since AND started < :until
    ORDER BY started {{}} LIMIT :calls
) AS stretch
"""  # noqa: S608
_COUNT = "SELECT count(*) FROM ({matches} LIMIT :most) AS found"


def page(
    reader: Reader, words: Sequence[str], parameters: Parameters, sql: str, *, oldest_first: bool = False
) -> list[Row]:
    """The first ``:limit`` rows of *sql*, which has HAS_WORDS among its conditions and gives calls that started from
    ``:since`` until ``:until`` in the order of their starts.
    """
    rest = dict(parameters)
    of_account = _of_account(words, parameters)
    begin, end, order = ("since", "until", "") if oldest_first else ("until", "since", "DESC")
    rows: list[Row] = []
    ids: list[int] = []
    calls, asked = FIRST_STRETCH, 0
    while calls <= LAST_STRETCH:
        [(count, low, high, oldest, newest)] = reader.rows(_STRETCH.format(order), {**rest, "calls": calls})
        if not count:
            return rows
        ids += low, high
        asked += high - low + 1
        if asked > REPEATS * (max(ids) - min(ids) + 1):
            break
        stretch = {**rest, "low": low, "high": high}
        if count == calls:
            # There may be more calls of the last instant, so all of them are of the next stretch.
            stretch[end] = rest[begin] = newest if oldest_first else oldest + 1
        # Where the ids are mostly those of the account, its own word would cost more than it saves.
        terms = words if high - low < 2 * count else of_account
        found = reader.calls_with_words(terms, stretch, sql.format(found=_IN_STRETCH))
        rows += found
        rest["limit"] = parameters["limit"] - len(rows)
        if count < calls or not rest["limit"]:
            return rows
        if not found and calls == FIRST_STRETCH:
            terms, number = _counted(reader, words, parameters)
            if number < NOT_MANY:
                return rows + _at_once(reader, terms, rest, sql, number)
        enough = 2 * calls * rest["limit"] // len(found) if found else GROWTH * calls
        calls = max(2 * calls, min(enough, GROWTH * calls))
    return rows + _at_once(reader, of_account, rest, sql, NOT_MANY)


def all_rows(reader: Reader, words: Sequence[str], parameters: Parameters, sql: str) -> list[Row]:
    """All rows of *sql*, which has HAS_WORDS among its conditions."""
    terms, number = _counted(reader, words, parameters)
    return _at_once(reader, terms, parameters, sql, number)


def _of_account(words: Sequence[str], parameters: Parameters) -> Sequence[str]:
    return (account_word(parameters["account_id"]), *words)


def _counted(reader: Reader, words: Sequence[str], parameters: Parameters) -> tuple[Sequence[str], int]:
    """How many calls hold the words, or NOT_MANY where it is more, and what to look for: the word of the account only
    where it helps, as it is in all its logs.
    """
    given = {**parameters, **_ALL_IDS, "most": NOT_MANY}
    for terms in (words, _of_account(words, parameters)):
        [(number,)] = reader.calls_with_words(terms, given, _COUNT)
        if number < NOT_MANY:
            break
    return terms, number


def _at_once(reader: Reader, words: Sequence[str], parameters: Parameters, sql: str, number: int) -> list[Row]:
    found = _LOOKED_UP if number < FEW else _AT_ONCE
    return reader.calls_with_words(words, {**parameters, **_ALL_IDS, "most": FEW}, sql.format(found=found))
