"""Pages of the calls that started in a window and match a filter, with their exact total.

What a filter asks for is found by arms: walks down indexes that hold nothing else, merged in the order of the list.
Where the totals tell how many calls there are they are not counted. All other filters are walks down the index of
starts, which holds what most of them ask for; what was walked is not counted again.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from callhouse.model.number import number_key
from callhouse.model.query import CallQuery, Page
from callhouse.store import kinds, rollups, totals
from callhouse.store.conditions import asks_for_kinds_alone, conditions
from callhouse.store.engine import Reader, Row
from callhouse.store.rollups import COMPLETE

MOST_ARMS = 100
"""A database merges only so many walks."""

_INSIDE = "started >= :since AND started < :until"
_WINDOW = f"account_id = :account_id AND {COMPLETE} AND {_INSIDE}"
_BEYOND = f"started {{than}} :place_started AND {_INSIDE}"
_TIES = "started = :place_started AND session_id {than} :place_session_id"
_DIALLED = "dest_key = :number"
# The first arm has the calls from a number to itself.
_CALLING = "src_key = :number AND dest_key IS DISTINCT FROM :number"
_TO_ITSELF = "src_key = dest_key AND dest_key = :number"


def page(reader: Reader, query: CallQuery, columns: str) -> Page[Row]:
    """The page, of *columns*, and the total; the query is of one account and asks for more than its window."""
    if asks_for_kinds_alone(query):
        return _of_kinds(reader, query, columns)
    number = query.number if query.either is None else query.either
    if number is None or (query.number is not None and query.either is not None):
        return _walked(reader, query, columns)
    return _of_number(reader, query, columns, number_key(number))


def _of_kinds(reader: Reader, query: CallQuery, columns: str) -> Page[Row]:
    wanted = kinds.chooser(query)
    assert wanted is not None
    account_id = query.account_ids[0]
    chosen = totals.chosen_kinds(reader, account_id, wanted)
    total = totals.calls_of_kinds(reader, account_id, chosen, query.since, query.until, rollups.START)
    if query.offset >= total:
        return Page([], total)
    if len(chosen) > MOST_ARMS:
        more, given = conditions(query)
        return Page(_rows(reader, query, columns, [more], given), total)
    arms = [f"AND kind = :kind{n}" for n in range(len(chosen))]
    given = {f"kind{n}": kind for n, kind in enumerate(chosen)}
    return Page(_rows(reader, query, columns, arms, given), total)


def _of_number(reader: Reader, query: CallQuery, columns: str, number: str) -> Page[Row]:
    either = query.either is not None
    more, given = conditions(msgspec.structs.replace(query, number=None, either=None))
    given["number"] = number
    if more or not totals.is_counted(reader, query.account_ids[0], number):
        total = _calls_of_number(reader, query, more, given, either=either)
    else:
        total = totals.calls_of_number(reader, query.account_ids[0], number, query.since, query.until, either=either)
    if query.offset >= total:
        return Page([], total)
    arms = [f"AND {side} {more}" for side in ((_DIALLED, _CALLING) if either else (_DIALLED,))]
    return Page(_rows(reader, query, columns, arms, given), total)


def _calls_of_number(reader: Reader, query: CallQuery, more: str, given: Mapping[str, Any], *, either: bool) -> int:
    """The calls of a number, counted."""
    counted = f"(SELECT count(*) FROM calls WHERE {_WINDOW} AND {{of}} {more})"  # noqa: S608
    sql = counted.format(of=_DIALLED)
    if either:
        sql += f" + {counted.format(of='src_key = :number')} - {counted.format(of=_TO_ITSELF)}"
    window = {"account_id": query.account_ids[0], "since": query.since, "until": query.until}
    return int(reader.rows(f"SELECT {sql}", {**given, **window})[0][0])


def _walked(reader: Reader, query: CallQuery, columns: str) -> Page[Row]:
    """The page, and a total that is counted beyond the page alone."""
    more, given = conditions(query)
    found = _rows(reader, query, f"{columns}, started, session_id", [more], given)
    rows = [row[:-2] for row in found]
    if len(rows) < query.limit and (rows or not query.offset):
        return Page(rows, query.offset + len(rows))
    window: dict[str, Any] = {"account_id": query.account_ids[0], "since": query.since, "until": query.until}
    if not rows:
        return Page(rows, int(reader.rows(f"SELECT {_counted(_INSIDE, more)}", {**given, **window})[0][0]))
    window["place_started"], window["place_session_id"] = found[-1][-2:]
    beyond = [part.format(than=">" if query.oldest_first else "<") for part in (_BEYOND, _TIES)]
    sql = " + ".join(_counted(part, more) for part in beyond)
    rest = int(reader.rows(f"SELECT {sql}", {**given, **window})[0][0])
    return Page(rows, query.offset + len(rows) + rest)


def _counted(part: str, more: str) -> str:
    return f"(SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE} AND {part} {more})"  # noqa: S608


def _rows(reader: Reader, query: CallQuery, columns: str, arms: Sequence[str], given: Mapping[str, Any]) -> list[Row]:
    sql = merged(columns, tuple(arms), oldest_first=query.oldest_first)
    place = {"account_id": query.account_ids[0], "since": query.since, "until": query.until}
    found = reader.rows(sql, {**given, **place, "limit": query.limit, "offset": query.offset})
    return found if len(arms) == 1 else [row[:-2] for row in found]


@functools.lru_cache(1_024)
def merged(columns: str, arms: tuple[str, ...], *, oldest_first: bool) -> str:
    """The calls of all *arms* in order; of several the last two columns are those of the order."""
    order = "started, session_id" if oldest_first else "started DESC, session_id DESC"
    if len(arms) > 1:
        columns += ", started AS place_started, session_id AS place_session_id"
        order = order.replace("started", "place_started").replace("session_id", "place_session_id")
    walks = " UNION ALL ".join(f"SELECT {columns} FROM calls WHERE {_WINDOW} {arm}" for arm in arms)  # noqa: S608
    return f"{walks} ORDER BY {order} LIMIT :limit OFFSET :offset"
