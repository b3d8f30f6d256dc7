"""The events of class error, which are kept longer than the logs that they stand in."""

from collections.abc import Sequence

from callhouse.model.number import number_key
from callhouse.model.query import CallQuery, Page
from callhouse.store.engine import Engine, Reader, Row

READ_BYTES = 256 * 1024
"""Bytes of errors' lines that are held at a time."""

_WHERE = """
account_id = :account_id AND started IS NOT NULL AND started >= :since AND started < :until
"""
_BY_NUMBER = "AND dest_key = :dest_key"
_COUNT = "SELECT count(*) FROM call_errors WHERE"
_ORDER = "ORDER BY timestamp, session_id, seq, id LIMIT :limit OFFSET :offset"
_ONE = """
SELECT call_errors.timestamp, call_errors.line, coalesce(calls.direction, 'inbound'), calls.src, calls.dest,
calls.channel, calls.session_id
FROM call_errors
JOIN calls ON calls.account_id = call_errors.account_id AND calls.session_id = call_errors.session_id
WHERE call_errors.account_id = :account_id AND call_errors.id = :id
"""


class CallErrors:
    """The errors of complete calls, by the time of the error, oldest first; ties by session_id and place in the log."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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

        return await self._engine.read(work)

    async def read(self, account_id: int, error_ids: Sequence[int]) -> list[Row | None]:
        """The first of *error_ids*: all, or as many as make READ_BYTES, but one at least; None for one that is gone.

        A row is the error's time and line, and its call's direction, src, dest, channel and session_id.
        """

        def work(reader: Reader) -> list[Row | None]:
            found: list[Row | None] = []
            size = 0
            for error_id in error_ids:
                rows = reader.rows(_ONE, {"account_id": account_id, "id": error_id})
                found.append(rows[0] if rows else None)
                size += 256 + (len(rows[0][1]) if rows else 0)
                if size >= READ_BYTES:
                    break
            return found

        return await self._engine.read(work)
