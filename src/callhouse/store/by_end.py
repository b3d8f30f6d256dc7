"""Pages of the calls that ended in a window, newest start first, and how many there are.

The list is in the order of the starts, so it is a walk down the index of starts that passes over what did not end in
the window. It begins at the window's end, as no call ends before it starts, and stops LONG before the window's start:
the few calls that took longer have an index of their own, which tells whether one of them is to be met further down.
"""

import functools
from collections.abc import Mapping
from typing import Any

from callhouse.model.instant import HOUR
from callhouse.model.query import CallQuery, Page
from callhouse.store import rollups
from callhouse.store.engine import Reader, Row
from callhouse.store.rollups import COMPLETE

LONG = 4 * HOUR
_IS_LONG = f"ended - started >= {LONG}"
"""The condition of the partial index calls_that_are_long, to the letter."""

MERGED = 100
"""Accounts whose calls are merged by one statement."""

# Names end in a number where the calls of several accounts are merged. A plus keeps another index from being used: that
# of ends for the walk, that of starts for the long calls.
_IN_WINDOW = f"""
account_id = :account_id{{n}} AND {COMPLETE} AND +ended >= :since{{n}} AND +ended < :until AND started < :until
AND started >= coalesce((
    SELECT min(+started) FROM calls WHERE account_id = :account_id{{n}} AND {_IS_LONG}
    AND ended >= :since{{n}} AND ended < :until AND +started >= :shown{{n}} AND +started < :early{{n}}
), :early{{n}})
"""  # noqa: S608
_NEWEST_FIRST = "ORDER BY started DESC, session_id DESC"

_COUNT = f"""
SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND ended >= :since AND ended < :until AND started >= :shown
"""  # noqa: S608
# A call that started before the retention ends shortly after it, or is a long one.
_HIDDEN_SHORT = f"""
(SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE}
AND ended >= :since AND ended < :near AND started < :shown)
"""  # noqa: S608
_HIDDEN_LONG = f"""
(SELECT count(*) FROM calls WHERE account_id = :account_id AND {_IS_LONG}
AND ended >= :far AND ended < :until AND started < :shown)
"""  # noqa: S608


def page(reader: Reader, query: CallQuery, columns: str, more: str, given: Mapping[str, Any]) -> Page[Row]:
    """The page, of *columns*, and the exact total; *more* and *given* are the query's conditions.

    One account's page without conditions takes one statement, a snapshot.
    """
    first = _bounds(query, 0)
    if len(query.account_ids) > 1:
        return _merged_page(reader, query, columns, more, given)
    if more:
        total = _counted(reader, more, {**given, **first})
        # With no more than there are the walk ends at the last match.
        limit = min(query.limit, total - query.offset)
        place = {"limit": limit, "offset": query.offset}
        return Page(reader.rows(_select(columns, more), {**given, **first, **place}) if limit > 0 else [], total)
    expression, bounds = _total_expression(first)
    place = {"limit": query.limit, "offset": query.offset}
    rows = reader.rows(_select(f"{columns}, {expression}", ""), {**first, **bounds, **place})
    if not rows:
        return Page([], _total(reader, first))
    return Page([row[:-1] for row in rows], rows[0][-1])


def _merged_page(reader: Reader, query: CallQuery, columns: str, more: str, given: Mapping[str, Any]) -> Page[Row]:
    bounds = [_bounds(query, n) for n in range(len(query.account_ids))]
    totals = [_counted(reader, more, {**given, **each}) if more else _total(reader, each) for each in bounds]
    # Accounts without a call in the window need not be merged, and most have none.
    holding = [each for each, total in zip(bounds, totals, strict=True) if total and query.offset < sum(totals)]
    keys: list[Row] = []
    for at in range(0, len(holding), MERGED):
        few = holding[at : at + MERGED]
        parameters = {**given, "until": query.until, "limit": query.offset + query.limit, "offset": 0}
        for n, each in enumerate(few):
            parameters.update((f"{name}{n}", value) for name, value in each.items() if name != "until")
        if len(holding) <= MERGED:
            parameters.update(limit=query.limit, offset=query.offset)
        keys += reader.rows(_select_keys(len(few), more), parameters)
    if len(holding) > MERGED:
        keys = sorted(keys, reverse=True)[query.offset : query.offset + query.limit]
    sql = f"SELECT {columns} FROM calls WHERE account_id = :account_id AND id = :id"  # noqa: S608
    rows = [reader.rows(sql, {"account_id": key[2], "id": key[3]})[0] for key in keys]
    return Page(rows, sum(totals))


@functools.cache
def _select(columns: str, more: str) -> str:
    return (
        f"SELECT {columns} FROM calls WHERE {_IN_WINDOW.format(n='')} {more} "  # noqa: S608
        f"{_NEWEST_FIRST} LIMIT :limit OFFSET :offset"
    )


@functools.cache
def _select_keys(accounts: int, more: str) -> str:
    terms = [
        f"SELECT started, session_id, account_id, id FROM calls WHERE {_IN_WINDOW.format(n=n)} {more}"  # noqa: S608
        for n in range(accounts)
    ]
    return f"{' UNION ALL '.join(terms)} {_NEWEST_FIRST}, account_id DESC LIMIT :limit OFFSET :offset"


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
    return int(reader.rows(_COUNT + more, parameters)[0][0])


def _total(reader: Reader, bounds: dict[str, int]) -> int:
    expression, more = _total_expression(bounds)
    return int(reader.rows(f"SELECT {expression}", {**bounds, **more})[0][0])


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
