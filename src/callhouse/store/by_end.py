"""Pages of the calls that ended in a window, newest start first, and how many there are.

The list is in the order of the starts, so it is a walk down the index of starts that passes over what did not end in
the window. It begins at the window's end, as no call ends before it starts, and stops LONG before the window's start:
the few calls that took longer have an index of their own, which tells whether one of them is to be met further down.
"""

import functools
import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from callhouse.model.instant import HOUR
from callhouse.model.query import CallQuery, Page
from callhouse.store import kinds, rollups, totals
from callhouse.store.conditions import asks_for_kinds_alone
from callhouse.store.engine import Reader, Row
from callhouse.store.rollups import COMPLETE

LONG = 4 * HOUR
IS_LONG = f"ended - started >= {LONG}"
"""The condition of the partial index calls_that_are_long, to the letter."""

MERGED = 100
"""Kinds whose calls are merged by one statement."""

FIRST_KEYS, MOST_KEYS = 8, 4_096
"""Of each of several accounts so many calls more than its share of the page are had at first, then twice as many each
time, up to the latter."""

FEW = 5_000
"""So many matches are sorted by themselves."""

# A plus keeps another index from being used: that of ends for the walk, that of starts for the long calls.
_IN_WINDOW = f"""
account_id = :account_id AND {COMPLETE} AND +ended >= :since AND +ended < :until AND started {{before}}
AND started >= coalesce((
    SELECT min(+started) FROM calls WHERE account_id = :account_id AND {IS_LONG}
    AND ended >= :since AND ended < :until AND +started >= :shown AND +started < :early
), :early)
"""  # noqa: S608
_WINDOW = _IN_WINDOW.format(before="< :until")
_BELOW = (
    _IN_WINDOW.format(before="<= :place_started") + "AND (started < :place_started OR session_id < :place_session_id)"
)
_NEWEST_FIRST = "ORDER BY started DESC, session_id DESC"

_MATCHES = f"""
SELECT {{columns}} FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND ended >= :since AND ended < :until
"""  # noqa: S608
_IS_SHOWN = "AND started >= :shown"
_ONE = "SELECT {columns} FROM calls WHERE account_id = :account_id AND id = :id"
_SESSION = _ONE.format(columns="session_id")
# A call that started before the retention ends shortly after it, or is a long one.
_HIDDEN_SHORT = f"""
(SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND ended >= :since AND ended < :near AND started < :shown)
"""  # noqa: S608
_HIDDEN_LONG = f"""
(SELECT count(*) FROM calls WHERE account_id = :account_id AND {IS_LONG}
AND ended >= :far AND ended < :until AND started < :shown)
"""  # noqa: S608


def page(reader: Reader, query: CallQuery, columns: str, more: str, given: Mapping[str, Any]) -> Page[Row]:
    """The page, of *columns*, and the exact total; *more* and *given* are the query's conditions.

    One account's page without conditions takes one statement, a snapshot.
    """
    if len(query.account_ids) > 1:
        return _merged_page(reader, query, columns, more, given)
    first = _bounds(query, 0)
    place = {"limit": query.limit, "offset": query.offset}
    if more and asks_for_kinds_alone(query):
        return _page_of_kinds(reader, query, columns, more, {**given, **first, **place})
    if more:
        return _filtered_page(reader, query, columns, more, {**given, **first})
    expression, bounds = _total_expression(first)
    rows = reader.rows(_select(f"{columns}, {expression}", ""), {**first, **bounds, **place})
    if not rows:
        return Page([], _total(reader, first))
    return Page([row[:-1] for row in rows], rows[0][-1])


def _page_of_kinds(reader: Reader, query: CallQuery, columns: str, more: str, parameters: dict[str, Any]) -> Page[Row]:
    bounds = _bounds(query, 0)
    chosen = _chosen(reader, query, bounds)
    total = _total_of_kinds(reader, bounds, chosen)
    if query.offset >= total:
        return Page([], total)
    if len(chosen) > MERGED:
        return Page(reader.rows(_select(columns, more), parameters), total)
    parameters |= {f"kind{n}": kind for n, kind in enumerate(chosen)}
    rows = reader.rows(_select_kinds(columns, len(chosen)), parameters)
    return Page([row[:-2] for row in rows], total)


def _filtered_page(reader: Reader, query: CallQuery, columns: str, more: str, parameters: dict[str, Any]) -> Page[Row]:
    """The page of one account under conditions of which the totals know nothing.

    Few matches are found by reading the index of ends once. If there are many, the walk soon meets enough of them.
    """
    found = reader.rows(f"{_matches('started, id', parameters)} {more} LIMIT :most", {**parameters, "most": FEW + 1})
    if len(found) > FEW:
        place = {"limit": query.limit, "offset": query.offset}
        rows = reader.rows(_select(columns, more), {**parameters, **place})
        return Page(rows, _counted(reader, more, parameters))
    if query.offset >= len(found):
        return Page([], len(found))
    account = {"account_id": parameters["account_id"]}
    last = query.offset + query.limit
    newest = sorted(found, reverse=True)
    # Only ties need to be told apart by their session, which the index does not hold.
    keys = [
        (started, reader.rows(_SESSION, {**account, "id": call_id})[0][0], call_id)
        for started, call_id in newest
        if started >= newest[min(last, len(newest)) - 1][0] and started <= newest[query.offset][0]
    ]
    skipped = sum(started > newest[query.offset][0] for started, _ in newest)
    keys.sort(reverse=True)
    sql = _ONE.format(columns=columns)
    shown = keys[query.offset - skipped : last - skipped]
    return Page([reader.rows(sql, {**account, "id": call_id})[0] for _, _, call_id in shown], len(found))


def _chosen(reader: Reader, query: CallQuery, bounds: Mapping[str, int]) -> list[int]:
    wanted = kinds.chooser(query)
    assert wanted is not None
    return totals.chosen_kinds(reader, bounds["account_id"], wanted)


def _merged_page(reader: Reader, query: CallQuery, columns: str, more: str, given: Mapping[str, Any]) -> Page[Row]:
    bounds = [_bounds(query, n) for n in range(len(query.account_ids))]
    if more and asks_for_kinds_alone(query):
        counts = [_total_of_kinds(reader, each, _chosen(reader, query, each)) for each in bounds]
    else:
        counts = [_counted(reader, more, {**given, **each}) if more else _total(reader, each) for each in bounds]
    # Accounts without a call in the window need not be merged, and most have none.
    holding = [each for each, total in zip(bounds, counts, strict=True) if total and query.offset < sum(counts)]
    share = (query.offset + query.limit) // max(1, len(holding))
    walks = (_keys(reader, more, {**given, **each}, min(share + FIRST_KEYS, MOST_KEYS)) for each in holding)
    keys = islice(heapq.merge(*walks, reverse=True), query.offset, query.offset + query.limit)
    sql = _ONE.format(columns=columns)
    rows = [reader.rows(sql, {"account_id": key[2], "id": key[3]})[0] for key in keys]
    return Page(rows, sum(counts))


def _keys(reader: Reader, more: str, parameters: Mapping[str, Any], limit: int) -> Iterator[Row]:
    """Start, session, account and id of an account's calls, newest first, read as far as they are taken, *limit* of
    them first.
    """
    rows = reader.rows(_select_keys(more), {**parameters, "limit": limit})
    yield from rows
    while len(rows) == limit:
        limit = min(2 * limit, MOST_KEYS)
        place = {"place_started": rows[-1][0], "place_session_id": rows[-1][1]}
        rows = reader.rows(_select_keys(more, goes_on=True), {**parameters, **place, "limit": limit})
        yield from rows


@functools.lru_cache(1_024)
def _select_kinds(columns: str, count: int) -> str:
    """The calls of several kinds; the last two columns are those of the order."""
    columns += ", started AS place_started, session_id AS place_session_id"
    walks = (f"SELECT {columns} FROM calls WHERE {_WINDOW} AND kind = :kind{n}" for n in range(count))  # noqa: S608
    order = "ORDER BY place_started DESC, place_session_id DESC LIMIT :limit OFFSET :offset"
    return f"{' UNION ALL '.join(walks)} {order}"


@functools.cache
def _select(columns: str, more: str) -> str:
    return (
        f"SELECT {columns} FROM calls WHERE {_WINDOW} {more} "  # noqa: S608
        f"{_NEWEST_FIRST} LIMIT :limit OFFSET :offset"
    )


@functools.cache
def _select_keys(more: str, *, goes_on: bool = False) -> str:
    window = _BELOW if goes_on else _WINDOW
    return f"SELECT started, session_id, account_id, id FROM calls WHERE {window} {more} {_NEWEST_FIRST} LIMIT :limit"  # noqa: S608


def _bounds(query: CallQuery, n: int) -> dict[str, int]:
    shown = query.shown_since[n] if query.shown_since else 0
    since = max(query.since, shown)
    return {
        "account_id": query.account_ids[n],
        "since": since,
        "until": query.until,
        "shown": shown,
        "early": max(since - LONG, shown),
    }


def _counted(reader: Reader, more: str, parameters: dict[str, Any]) -> int:
    return int(reader.rows(_matches("count(*)", parameters) + more, parameters)[0][0])


def _matches(columns: str, bounds: Mapping[str, Any]) -> str:
    sql = _MATCHES.format(columns=columns)
    return sql + _IS_SHOWN if bounds["shown"] else sql


def _total(reader: Reader, bounds: dict[str, int]) -> int:
    expression, more = _total_expression(bounds)
    return int(reader.rows(f"SELECT {expression}", {**bounds, **more})[0][0])


def _total_of_kinds(reader: Reader, bounds: dict[str, int], chosen: Sequence[int]) -> int:
    """How many calls of the *chosen* kinds there are, likewise."""
    since, until, shown = bounds["since"], bounds["until"], bounds["shown"]
    if since >= until or not chosen:
        return 0
    calls = totals.calls_of_kinds(reader, bounds["account_id"], chosen, since, until, rollups.END)
    if not shown:
        return calls
    named = {f"kind{n}": kind for n, kind in enumerate(chosen)}
    near = min(until, shown + LONG)
    of = f" AND +kind IN ({', '.join(f':{name}' for name in named)}))"
    hidden = [_HIDDEN_LONG.rstrip().removesuffix(")") + of]
    if since < near:
        hidden.append(_HIDDEN_SHORT.rstrip().removesuffix(")") + of)
    parameters = {**bounds, **named, "near": near, "far": max(since, near)}
    return calls - int(reader.rows(f"SELECT {' + '.join(hidden)}", parameters)[0][0])


def _total_expression(bounds: dict[str, int]) -> tuple[str, dict[str, int]]:
    """How many calls there are, from the counts by end less those that started before the retention."""
    since, until, shown = bounds["since"], bounds["until"], bounds["shown"]
    if since >= until:
        return "0", {}
    expression, parameters = rollups.total_expression(since, until, rollups.END)
    if shown:
        near = min(until, shown + LONG)
        if since < near:
            expression += f" - {_HIDDEN_SHORT}"
            parameters["near"] = near
        expression += f" - {_HIDDEN_LONG}"
        parameters["far"] = max(since, near)
    return expression, parameters
