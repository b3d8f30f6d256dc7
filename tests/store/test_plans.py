"""Every statement finds its calls through the index that was made for it, as the database itself says.

A planner without statistics takes an index for many reasons, and a wrong one shows only with many calls.
"""

import apsw
import pytest

from store.asking import NOW, all_that_is_asked

pytestmark = pytest.mark.sqlite_only

PLANNED = {"SELECT", "UPDATE", "DELETE"}


def test_every_statement_keeps_to_its_index(stored, clock, tmp_path, statements):
    clock.now = NOW
    stored(lambda store: all_that_is_asked(store, clock))
    connection = apsw.Connection(str(tmp_path / "store0" / "callhouse.db"))
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    asked = {sql: values for sql, values in statements.items() if "calls" in sql and sql.split()[0] in PLANNED}
    assert len(asked) > 30
    used = set()
    for sql, values in asked.items():
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        steps = [step for step in plan if " calls " in step]
        used.update(step.partition("INDEX ")[2].split(" ")[0] for step in steps)
        told = f"{sql}\n{plan}"
        # Only through an index, and one that narrows down more than the account; few calls are in progress.
        wide = [step for step in steps if step.startswith("SCAN") or "(account_id=?)" in step]
        assert all("calls_in_progress" in step for step in wide), told
        for column in ("session_id", "call_uuid"):
            if f"{column} = :{column}" in sql and sql.split()[0] == "SELECT":
                assert any(f"{column}=?" in step for step in plan), told
        # A page that was found before its rows are read is small and may be sorted again.
        if "LIMIT" in sql and "call_uuid = " not in sql and "AS page" not in sql:
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan, told
    indexes = {
        f"calls_{name}"
        for name in ("by_session", "by_uuid", "by_start", "by_end", "by_dest", "in_progress", "with_log")
    }
    indexes |= {f"calls_{name}" for name in ("by_kind", "by_src", "by_parent", "to_themselves", "that_are_long")}
    assert used >= indexes
