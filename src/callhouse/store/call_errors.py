"""The events of class error, which are kept longer than the logs that they stand in."""

from collections.abc import Iterable, Sequence
from typing import Any

from callhouse.errors import RecordError
from callhouse.model.event import Event
from callhouse.model.number import number_key
from callhouse.model.query import CallQuery, Page
from callhouse.store.engine import Reader, Readers, Row, Transaction
from callhouse.store.session import Session, identified

READ_BYTES = 256 * 1024
"""Bytes of errors' lines that are held at a time."""

READ_AT_ONCE = 64
"""Errors that are looked up together."""

# Long ones stay where they are.
_SHORT_LINE = f"CASE WHEN length(call_errors.line) <= {READ_BYTES // READ_AT_ONCE} THEN call_errors.line END"

_WHERE = """
account_id = :account_id AND started IS NOT NULL AND started >= :since AND started < :until
"""
_BY_NUMBER = "AND dest_key = :dest_key"
_COUNT = "SELECT count(*) FROM call_errors WHERE"
_ORDER = "ORDER BY timestamp, session_id, seq, id LIMIT :limit OFFSET :offset"
_ONE = """
SELECT call_errors.id, call_errors.timestamp, {line}, coalesce(calls.direction, 'inbound'), calls.src, calls.dest,
calls.channel, calls.told, calls.session_id
FROM call_errors
JOIN calls ON calls.account_id = call_errors.account_id AND calls.session_id = call_errors.session_id
WHERE call_errors.account_id = :account_id AND call_errors.id = :id
"""

_ADD = """
INSERT INTO call_errors (account_id, session_id, identity, started, dest_key, timestamp, seq, line)
VALUES (:account_id, :session_id, :identity, :started, :dest_key, :timestamp, :seq, :line)
ON CONFLICT (account_id, session_id, identity) DO NOTHING RETURNING id
"""
_SHOW = """
UPDATE call_errors SET started = :started, dest_key = :dest_key
WHERE account_id = :account_id AND session_id = :session_id
"""
_ANY_UNSHOWN = "SELECT 1 FROM call_errors WHERE account_id = :account_id AND started IS NULL LIMIT 1"
_DROP = """
DELETE FROM call_errors WHERE account_id = :account_id AND session_id = :session_id AND identity = :identity
"""
_KNOWN = """
SELECT identity, length(line) FROM call_errors WHERE account_id = :account_id AND session_id = :session_id
"""


class CallErrors:
    """The errors of complete calls, by the time of the error, oldest first; ties by session_id and place in the log."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def page(self, query: CallQuery) -> Page[int]:
        """The ids of the errors of the calls that *query* asks for, and the exact total of errors.

        *limit* and *offset* count errors; the order is always the oldest error first.
        """
        where = f"{_WHERE} {_BY_NUMBER if query.number is not None else ''}"
        parameters = {"account_id": query.account_ids[0], "since": query.since, "until": query.until}
        if query.number is not None:
            parameters["dest_key"] = number_key(query.number)  # type: ignore[assignment]
        place = {**parameters, "limit": query.limit, "offset": query.offset}

        def work(reader: Reader) -> Page[int]:
            [(total,)] = reader.rows(f"{_COUNT} {where}", parameters)
            rows = reader.rows(f"SELECT id FROM call_errors WHERE {where} {_ORDER}", place)  # noqa: S608
            return Page([row[0] for row in rows], total)

        return await self._readers.read(work)

    async def read(self, account_id: int, error_ids: Sequence[int]) -> list[Row | None]:
        """The first of *error_ids*: all, or as many as make READ_BYTES, but one at least; None for one that is gone.

        A row is the error's time and line, and its call's direction, src, dest, channel, told and session_id.
        """

        def work(reader: Reader) -> list[Row | None]:
            found: list[Row | None] = []
            size = 0
            rows: dict[int, Row] = {}
            errors = [{"account_id": account_id, "id": error_id} for error_id in error_ids]
            for number, error in enumerate(errors):
                if number % READ_AT_ONCE == 0:
                    some = errors[number : number + READ_AT_ONCE]
                    rows = {row[0]: row for row in reader.each(_ONE.format(line=_SHORT_LINE), some)}
                row = rows.get(error["id"])
                if row is None:
                    found.append(None)
                    continue
                if row[2] is None:
                    [row] = reader.rows(_ONE.format(line="call_errors.line"), error)
                _, timestamp, line, *of_call = row
                found.append((timestamp, line.decode(), *of_call))
                size += 256 + len(line)
                if size >= READ_BYTES:
                    break
            return found

        return await self._readers.read(work)


def check(tx: Transaction, session: Session, errors: tuple[Event, ...], *, max_errors: int, max_size: int) -> None:
    """Raise RecordError when the call cannot have *errors*, of which some are not in its log, as well."""
    if session.late_errors is None:
        session.late_errors = {bytes(identity): size for identity, size in tx.rows(_KNOWN, session.key)}
    merged = {**session.late_errors, **{identity: len(event.line.encode()) for identity, event in identified(errors)}}
    if len(merged) > max_errors:
        raise RecordError(f"the call has more than {max_errors} errors")
    if sum(merged.values()) > max_size:
        raise RecordError(f"the call's errors have more than {max_size} bytes")
    session.late_errors = merged


def known(tx: Transaction, session: Session) -> set[bytes]:
    """The identities of the errors of *session* that are in the store."""
    return {bytes(identity) for identity, _ in tx.rows(_KNOWN, session.key)}


def put(tx: Transaction, sessions: Sequence[Session]) -> None:
    """Keep what a batch says of the errors of *sessions*, whose calls are in the store."""
    moved = [session for session in sessions if _are_moved(session)]
    # Most calls come whole, and of those that were not there an error waits in few stores.
    arrived = {session.account_id for session in moved if session.stored is None}
    waited_for = {each for each in arrived if tx.rows(_ANY_UNSHOWN, {"account_id": each})}
    tx.each(_SHOW, (_shown(s) for s in moved if s.stored is not None or s.account_id in waited_for))
    tx.each(_DROP, (row for session in sessions if session.unsaid_errors for row in _unsaid(session)))
    for session in sessions:
        if session.errors and tx.each(_ADD, _rows(session)):
            session.changed = True


def hide(tx: Transaction, sessions: Sequence[Session]) -> None:
    """As the calls of *sessions* are gone, let their errors wait for others, and drop those that rows alone told of."""
    tx.each(_DROP, (row for session in sessions for row in _unsaid(session)))
    tx.each(_SHOW, map(_shown, sessions))


def _rows(session: Session) -> Iterable[dict[str, Any]]:
    shown = _shown(session)
    for part in session.errors:
        for identity, event in identified(part):
            timestamp, seq = event.position
            yield {**shown, "identity": identity, "timestamp": timestamp, "seq": seq, "line": event.line.encode()}


def _unsaid(session: Session) -> Iterable[dict[str, Any]]:
    """The errors that the call's rows told of and, joined with more of them, tell of no longer."""
    told = {identity for part in session.errors for identity, _ in identified(part)}
    return ({**session.key, "identity": identity} for identity in session.unsaid_errors - told)


def _shown(session: Session) -> dict[str, Any]:
    """The errors' key and what they repeat of their call, which shows them once it is complete."""
    call = session.call
    if call is None or not call.is_complete:
        return {**session.key, "started": None, "dest_key": None}
    return {**session.key, "started": call.start, "dest_key": None if call.dest is None else number_key(call.dest)}


def _are_moved(session: Session) -> bool:
    call, stored = session.call, session.stored
    if call is None or not call.is_complete:
        return stored is not None and stored.is_complete
    return stored is None or not stored.is_complete or (stored.start, stored.dest) != (call.start, call.dest)
