"""Removing what is older than its retention, a little at a time.

What has expired is already invisible: readers compare with the same instants. So a chunk may take its time, and each
is a transaction of its own, short enough that a sender waiting for its commit does not notice.
"""

from callhouse.model.account import Account
from callhouse.model.instant import DAY, HOUR
from callhouse.store import arrivals, totals
from callhouse.store.engine import Transaction
from callhouse.store.rollups import COMPLETE, INCOMPLETE
from callhouse.store.totals import Counted

CHUNK = 500
"""Rows of a kind removed in one transaction."""

SETTLED = DAY
"""How long after the last one came the rows of a call are kept at least, so that a history sent today can be joined."""

_OLD_LOGS = f"""
SELECT call_id, {", ".join(f"calls.{column}" for column in Counted._fields)} FROM logs
LEFT JOIN calls ON calls.account_id = logs.account_id AND calls.id = logs.call_id
WHERE logs.account_id = :account_id AND logs.ended < :before ORDER BY logs.ended LIMIT :limit
"""  # noqa: S608
_DROP_LOG = "DELETE FROM logs WHERE account_id = :account_id AND call_id = :id"
_NO_EVENTS = "UPDATE calls SET event_count = 0, last_step = NULL WHERE account_id = :account_id AND id = :id"
_OLD_CALLS = f"""
SELECT id, {totals.COLUMNS} FROM calls WHERE account_id = :account_id AND {COMPLETE} AND started < :before
ORDER BY started LIMIT :limit
"""  # noqa: S608
_OLD_OPEN_CALLS = f"""
SELECT id FROM calls WHERE account_id = :account_id AND {INCOMPLETE}
AND coalesce(started, ended, arrived) < :before LIMIT :limit
"""  # noqa: S608
_DROP_CALL = "DELETE FROM calls WHERE account_id = :account_id AND id = :id"
_OLD_WAITING = """
SELECT id FROM waiting_events WHERE account_id = :account_id AND timestamp < :before ORDER BY timestamp LIMIT :limit
"""
_DROP_WAITING = "DELETE FROM waiting_events WHERE account_id = :account_id AND id = :id"
_OLD_ROWS = """
SELECT name, source FROM fragments
WHERE account_id = :account_id AND document IS NOT NULL AND ended < :before AND changed < :settled
ORDER BY ended LIMIT :limit
"""
_DROP_ROWS = """
UPDATE fragments SET document = NULL WHERE account_id = :account_id AND name = :name AND source = :source
"""
_DROP_GROUPS = """
DELETE FROM fragments WHERE account_id = :account_id
AND name = (SELECT session_id FROM calls WHERE account_id = :account_id AND id = :id)
"""
_OLD_ERRORS = """
SELECT id FROM call_errors WHERE account_id = :account_id AND started IS NOT NULL AND started < :before
ORDER BY started LIMIT :limit
"""
_OLD_UNSHOWN_ERRORS = """
SELECT id FROM call_errors WHERE account_id = :account_id AND started IS NULL AND timestamp < :before
ORDER BY timestamp LIMIT :limit
"""
_DROP_ERROR = "DELETE FROM call_errors WHERE account_id = :account_id AND id = :id"
_DROP_ERRORS_OF_CALL = """
DELETE FROM call_errors WHERE account_id = :account_id
AND session_id = (SELECT session_id FROM calls WHERE account_id = :account_id AND id = :id)
"""
_OLD_QUARANTINE = """
SELECT id FROM quarantine WHERE account_id = :account_id AND received < :before ORDER BY received LIMIT :limit
"""
_DROP_QUARANTINE = "DELETE FROM quarantine WHERE account_id = :account_id AND id = :id"


def expire_account(tx: Transaction, account: Account, now: int) -> int:
    """Remove one chunk of what *account* keeps no longer; how many rows went, 0 when nothing is left to remove."""
    details = account.retention.details_since(now)
    calls = account.retention.calls_since(now)
    errors = _expire_errors(tx, account.id, account.retention.sessions_since(now))
    if errors >= CHUNK:
        # A call takes its errors along: first those go that are old enough, in chunks of their own.
        return errors
    # A row an hour and source: so few that they are neither taken in chunks nor counted.
    tx.each(arrivals.EXPIRE, [{"account_id": account.id, "before": (now - arrivals.KEPT) // HOUR}])
    return errors + (
        _expire_logs(tx, account.id, details)
        + _expire_calls(tx, account.id, calls)
        + _waiting(tx, account.id, details)
        + _expire_rows(tx, account.id, details, now - SETTLED)
    )


def expire_quarantine(tx: Transaction, account_id: int, before: int) -> int:
    """Remove one chunk of the records of an account that were refused before *before*; how many."""
    old = tx.rows(_OLD_QUARANTINE, {"account_id": account_id, "before": before, "limit": CHUNK})
    tx.each(_DROP_QUARANTINE, ({"account_id": account_id, "id": entry_id} for (entry_id,) in old))
    return len(old)


def _expire_logs(tx: Transaction, account_id: int, before: int) -> int:
    old = tx.rows(_OLD_LOGS, {"account_id": account_id, "before": before, "limit": CHUNK})
    keys = [{"account_id": account_id, "id": row[0]} for row in old]
    tx.each(_DROP_LOG, keys)
    tx.each(_NO_EVENTS, keys)
    tx.forget_words((account_id, row[0]) for row in old)
    # What was only known from the log is no longer counted. A log of no call there is none, unless it is damaged.
    gone = [Counted(*row[1:]) for row in old if row[1] is not None]
    totals.add(tx, account_id, gone, [call._replace(last_step=None) for call in gone])
    return len(old)


def _expire_errors(tx: Transaction, account_id: int, before: int) -> int:
    bounds = {"account_id": account_id, "before": before, "limit": CHUNK}
    old = tx.rows(_OLD_ERRORS, bounds) + tx.rows(_OLD_UNSHOWN_ERRORS, bounds)
    tx.each(_DROP_ERROR, ({"account_id": account_id, "id": error_id} for (error_id,) in old))
    return len(old)


def _expire_calls(tx: Transaction, account_id: int, before: int) -> int:
    bounds = {"account_id": account_id, "before": before, "limit": CHUNK}
    complete = tx.rows(_OLD_CALLS, bounds)
    old = [row[0] for row in complete] + [call_id for (call_id,) in tx.rows(_OLD_OPEN_CALLS, bounds)]
    keys = [{"account_id": account_id, "id": call_id} for call_id in old]
    tx.each(_DROP_GROUPS, keys)
    tx.each(_DROP_ERRORS_OF_CALL, keys)
    tx.each(_DROP_CALL, keys)
    tx.each(_DROP_LOG, keys)
    tx.forget_words((account_id, call_id) for call_id in old)
    totals.add(tx, account_id, [Counted(*row[1:]) for row in complete], [])
    return len(old)


def _waiting(tx: Transaction, account_id: int, before: int) -> int:
    old = tx.rows(_OLD_WAITING, {"account_id": account_id, "before": before, "limit": CHUNK})
    tx.each(_DROP_WAITING, ({"account_id": account_id, "id": event_id} for (event_id,) in old))
    return len(old)


def _expire_rows(tx: Transaction, account_id: int, before: int, settled: int) -> int:
    bounds = {"account_id": account_id, "before": before, "settled": settled, "limit": CHUNK}
    old = tx.rows(_OLD_ROWS, bounds)
    tx.each(_DROP_ROWS, ({"account_id": account_id, "name": name, "source": source} for name, source in old))
    return len(old)
