"""The counts are exact for every window, and lead to the right page, whatever was added, moved and removed."""

import random

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callhouse.model.instant import HOUR
from callhouse.store import rollups
from callhouse.store.sqlite import SQLiteTransaction

SCHEMA = """
CREATE TABLE calls (account_id INTEGER, started INTEGER, ended INTEGER, session_id TEXT);
CREATE INDEX calls_by_start ON calls (account_id, started, session_id) WHERE started IS NOT NULL AND ended IS NOT NULL;
CREATE TABLE call_counts (
    account_id INTEGER, width INTEGER, bucket INTEGER, calls INTEGER, PRIMARY KEY (account_id, width, bucket)
) WITHOUT ROWID;
"""
SPAN = 5 * 768 * HOUR


def counted(starts):
    """A transaction over a database in memory that holds a call for each of *starts* and their counts."""
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    connection.execute(SCHEMA[SCHEMA.index("CREATE TABLE call_counts") :].replace("call_counts", "end_counts"))
    connection.executemany(
        "INSERT INTO calls VALUES (1, ?, ?, ?)", ((start, start + 1, str(n)) for n, start in enumerate(starts))
    )
    tx = SQLiteTransaction(connection)
    for start in starts:
        rollups.add(tx, {(1, start): 1})
        rollups.add(tx, {(1, start + 1): 1}, rollups.END)
    return tx


# Many instants on and beside the edges of hours, days and 32 days, where a cut may go wrong.
edges = st.builds(
    lambda bucket, width, shift: min(max(bucket * width * HOUR + shift, 0), SPAN),
    st.integers(0, 200),
    st.sampled_from(rollups.WIDTHS),
    st.sampled_from([-1, 0, 1]),
)
instants = st.one_of(edges, st.integers(0, SPAN))


@settings(max_examples=300, deadline=None)
@given(starts=st.lists(instants, max_size=40), a=instants, b=instants)
def test_a_total_equals_the_counted_calls_of_any_window(starts, a, b):
    since, until = sorted((a, b))
    tx = counted(starts)
    assert rollups.total(tx, 1, since, until) == sum(since <= start < until for start in starts)
    expression, bounds = rollups.total_expression(since, until, rollups.END)
    [(ended,)] = tx.rows(f"SELECT {expression}", {"account_id": 1, **bounds})
    assert ended == sum(since <= start + 1 < until for start in starts)


@settings(max_examples=300, deadline=None)
@given(starts=st.lists(instants, min_size=1, max_size=40), a=instants, b=instants, offset=st.integers(0, 45))
def test_seeking_names_the_same_call_as_stepping_over_the_newer_ones(starts, a, b, offset):
    since, until = sorted((a, b))
    shorter, rest = rollups.seek(counted(starts), 1, since, until, offset)
    newest_first = sorted((start for start in starts if since <= start < until), reverse=True)
    below = [start for start in newest_first if start < shorter]
    assert below[rest:] == newest_first[offset:]
    if offset < len(newest_first):
        assert rest < len([s for s in newest_first if shorter - HOUR <= s < shorter]) + 1


def test_seeking_skips_less_than_an_hour_of_calls_even_in_a_year():
    rng = random.Random(7)
    starts = [rng.randrange(SPAN) for _ in range(3000)]
    tx = counted(starts)
    newest_first = sorted(starts, reverse=True)
    for offset in (0, 1, 1499, 2998):
        until, rest = rollups.seek(tx, 1, 0, SPAN, offset)
        assert [s for s in newest_first if s < until][rest] == newest_first[offset]
        assert rest <= 5


@pytest.mark.parametrize("width", rollups.WIDTHS)
def test_a_bucket_that_has_become_empty_is_forgotten(width):
    tx = counted([5 * HOUR, 5 * HOUR + 1])
    rollups.add(tx, {(1, 5 * HOUR): -1, (1, 5 * HOUR + 1): -1})
    assert tx.rows("SELECT count(*) FROM call_counts WHERE width = :width", {"width": width}) == [(0,)]
