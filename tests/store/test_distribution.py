"""How a store in PostgreSQL is spread over the servers of Citus: by account, each with all that is its own."""

import asyncio
import os
import re

import psycopg
import pytest

import stores
from callhouse.clock import now
from callhouse.errors import StoreUnavailable
from callhouse.model.account import Retention
from callhouse.store import open_store
from callhouse.store.migrations import migrations
from store.asking import all_that_is_asked
from store.test_statements import DISTRIBUTED, REFERENCE

SPREAD = DISTRIBUTED | {"log_words"}
UNIQUE = """
SELECT relname, indexrelid, array_agg(attname) FROM pg_index
JOIN pg_class ON pg_class.oid = indrelid JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indisunique AND relnamespace = CAST(current_schema() AS regnamespace) GROUP BY relname, indexrelid
"""
CITUS = "CALLHOUSE_TEST_CITUS"
"""Names the URL of an empty database of a server with Citus."""


@pytest.fixture
def database(tmp_path):
    if stores.databases is None:
        pytest.skip("is about PostgreSQL")
    with psycopg.connect(stores.location(tmp_path / "data"), autocommit=True) as connection:
        yield connection


def test_every_unique_key_of_what_belongs_to_an_account_holds_the_account(database):
    keys = [(table, columns) for table, _, columns in database.execute(UNIQUE) if table in SPREAD]
    assert {table for table, _ in keys} == SPREAD
    assert all("account_id" in columns for _, columns in keys)


def test_every_table_is_spread_by_account_or_on_every_server(database):
    [step] = migrations("citus")
    spread = re.findall(r"create_distributed_table\('(\w+)', 'account_id'(, colocate_with => 'calls')?\)", step.sql)
    assert {table for table, _ in spread} == SPREAD
    assert [table for table, beside in spread if not beside] == ["calls"]
    assert {*re.findall(r"create_reference_table\('(\w+)'\)", step.sql)} == REFERENCE
    tables = {
        name for (name,) in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
    }
    assert tables == SPREAD | REFERENCE | {"schema_version"}


def test_a_server_without_citus_is_refused_with_what_to_do(database, tmp_path):
    with pytest.raises(StoreUnavailable, match="has no Citus: install it and run CREATE EXTENSION citus"):
        asyncio.run(opened(stores.location(tmp_path / "data")))


@pytest.mark.skipif(CITUS not in os.environ, reason=f"{CITUS} names no database of Citus")
def test_all_that_is_asked_of_citus_is_answered_there(database, clock):
    url = os.environ[CITUS]

    async def work():
        store = await opened(url)
        try:
            await all_that_is_asked(store, clock)
        finally:
            await store.close()

    asyncio.run(work())
    with psycopg.connect(url) as citus:
        kinds = dict(
            citus.execute("SELECT CAST(logicalrelid AS TEXT), CAST(partmethod AS TEXT) FROM pg_dist_partition")
        )
    assert {table for table, kind in kinds.items() if kind == "h"} == SPREAD


async def opened(url):
    return await open_store(url, retention=Retention(), clock=now, distributed=True)
