"""Reading all of a table of which some pages may be damaged: what can be read, and where nothing can."""

from collections.abc import Iterator
from typing import NamedTuple

from callhouse.errors import StoreDamaged
from callhouse.store.engine import Inspection, Progress, Row

CHUNK = 2_000
"""Rows that are read at once."""


class Stretch(NamedTuple):
    """All rows whose id is from *first* to *last*; None for a single id where reading fails."""

    first: int
    last: int
    rows: list[Row] | None


class Unreadable(NamedTuple):
    """The ids from *first* to *last*: whether there are rows cannot be told."""

    first: int
    last: int


def stretches(inspection: Inspection, table: str, sql: str, on_progress: Progress) -> Iterator[Stretch]:
    """The rows of *table* in stretches that join up.

    *sql* gives those of ids from ``:first`` to ``:last`` in order of id, which is the first column, up to ``:limit``.
    """
    end = inspection.last_id(table)
    for stretch in _stretches(inspection, sql, 1, end):
        on_progress(table, stretch.last, end)
        yield stretch


def ids(inspection: Inspection, table: str, key: str, first: int, last: int) -> Iterator[int | Unreadable]:
    """The ids of *table*, which are in the column *key*, from *first* to *last*."""
    sql = f"SELECT {key} FROM {table} WHERE {key} BETWEEN :first AND :last ORDER BY {key} LIMIT :limit"  # noqa: S608
    unreadable: Unreadable | None = None
    for stretch in _stretches(inspection, sql, first, last):
        if stretch.rows is None:
            unreadable = Unreadable(stretch.first if unreadable is None else unreadable.first, stretch.last)
            continue
        if unreadable is not None:
            yield unreadable
            unreadable = None
        yield from (row_id for (row_id,) in stretch.rows)
    if unreadable is not None:
        yield unreadable


def _stretches(inspection: Inspection, sql: str, first: int, end: int) -> Iterator[Stretch]:
    while first <= end:
        try:
            rows = inspection.rows(sql, {"first": first, "last": end, "limit": CHUNK})
        except StoreDamaged:
            last = min(first + CHUNK - 1, end)
            yield from _halves(inspection, sql, first, last)
        else:
            last = end if len(rows) < CHUNK else rows[-1][0]
            yield Stretch(first, last, rows)
        first = last + 1


def _halves(inspection: Inspection, sql: str, first: int, last: int) -> Iterator[Stretch]:
    """The stretch cut in halves until each can be read or is a single id."""
    try:
        # No more than there can be: after the last one the database would look at the next page, which may be lost.
        rows = inspection.rows(sql, {"first": first, "last": last, "limit": last - first + 1})
    except StoreDamaged:
        if first == last:
            yield Stretch(first, last, None)
            return
        middle = (first + last) // 2
        yield from _halves(inspection, sql, first, middle)
        yield from _halves(inspection, sql, middle + 1, last)
    else:
        yield Stretch(first, last, rows)
