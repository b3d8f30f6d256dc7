"""CallQuery → SQL → Page; and single calls and their logs."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec

from callhouse.model.number import number_key
from callhouse.model.query import CallQuery, Page
from callhouse.store import rollups
from callhouse.store.engine import Engine, Reader, Row
from callhouse.store.logs import LogCodec
from callhouse.store.rollups import COMPLETE
from callhouse.store.writer import COLUMNS, account_word

SMALL_PAGE = 100
"""A page of at most so many rows, found through the counts, is read without leaving the event loop."""

DEEP_OFFSET = 500
"""From here on the counts lead to a page faster than stepping over the calls before it."""

CHUNK = 5_000
"""Rows read at a time for a long page unless the caller wants fewer: between chunks no snapshot is held, however slow
the client. Each chunk is a hop to another thread, each row about a kilobyte in memory."""

SMALL_LOG = 16 * 1024
"""A compressed log of at most so many bytes is unpacked without leaving the event loop."""

LOG_BYTES = 256 * 1024
"""Bytes of logs that are held at a time: a client that stops reading must not cost much, nor memory grow."""

_EXPRESSIONS = {
    **COLUMNS,
    "id": "id",
    "event_count": "event_count",
    "direction": "coalesce(direction, 'inbound')",
}

_CLAUSES = f"account_id = :account_id AND {COMPLETE} AND started >= :since AND started < :until"
_NEWEST_FIRST = "ORDER BY started DESC, session_id DESC LIMIT :limit"
_COUNT_NUMBER = f"SELECT count(*) FROM calls WHERE {_CLAUSES} AND dest_key = :dest_key"  # noqa: S608

_LOGS = """
SELECT dictionary, document FROM logs
WHERE account_id = :account_id AND call_id = :id AND ended >= :details_since
"""
_ONE = """
SELECT logs.dictionary, logs.document FROM calls
LEFT JOIN logs ON logs.account_id = calls.account_id AND logs.call_id = calls.id AND logs.ended >= :details_since
WHERE calls.account_id = :account_id AND calls.session_id = :session_id
AND calls.ended IS NOT NULL AND calls.started >= :since
"""


_FOUND = "session_id, started, ended, src, dest, application_name"
_OF_SIP_CALL = f"""
SELECT {_FOUND} FROM calls
WHERE account_id = :account_id AND sip_call_id = :sip_call_id AND {COMPLETE}
AND started >= :since AND started < :until {_NEWEST_FIRST}
"""  # noqa: S608


class FoundLog(msgspec.Struct, frozen=True):
    """A complete call's log as callhouse.model.log's document; None when it has none that is still shown."""

    document: bytes | None


class FoundCall(msgspec.Struct, frozen=True):
    """What a search shows of a call."""

    session_id: str
    start: int
    end: int
    src: str | None
    dest: str | None
    application_name: str | None


class Calls:
    """The complete calls. A row holds the values of the fields asked for: those of Call, ``id`` and ``event_count``."""

    def __init__(self, engine: Engine, codec: LogCodec) -> None:
        self._engine = engine
        self._codec = codec

    async def start_of_page(self, query: CallQuery, fields: Sequence[str], chunk: int = CHUNK) -> Page[Row]:
        """The first *chunk* rows of the page at most, and the exact total; rest_of_page reads on."""
        if query.limit <= SMALL_PAGE and query.number is None:
            return await self._engine.quick(lambda reader: _small_page(reader, query, tuple(fields)))
        sql = _select(tuple(fields), by_number=query.number is not None)
        first = msgspec.structs.replace(query, limit=min(query.limit, chunk))
        return await self._engine.read(lambda reader: Page(_rows(reader, sql, first), _total(reader, query)))

    async def rest_of_page(
        self, query: CallQuery, fields: Sequence[str], last: Row, chunk: int = CHUNK
    ) -> AsyncIterator[list[Row]]:
        """The rows of the page that follow *last*, the last row of its start, *chunk* at a time.

        *fields* must end in ``start`` and ``session_id``, which mark the place to go on from.
        """
        left = query.limit - chunk
        after = "AND (started, session_id) < (:last_start, :last_session)"
        sql = _select(tuple(fields), by_number=query.number is not None, after=after)
        while left > 0:
            few = msgspec.structs.replace(query, limit=min(left, chunk), offset=0)
            place = {"last_start": last[-2], "last_session": last[-1]}
            rows = await self._engine.read(lambda reader, q=few, p=place: _rows(reader, sql, q, p))  # type: ignore[misc]
            if not rows:
                return
            yield rows
            left -= len(rows)
            last = rows[-1]

    async def logs(self, account_id: int, call_ids: Sequence[int], details_since: int) -> list[bytes | None]:
        """The documents of the first calls' logs: of all, or of as many as make LOG_BYTES, but of one at least.

        None stands for a call that has no log or ended before *details_since*.
        """

        def work(reader: Reader) -> list[bytes | None]:
            parameters = {"account_id": account_id, "details_since": details_since}
            documents: list[bytes | None] = []
            size = 0
            for call_id in call_ids:
                found = reader.rows(_LOGS, {**parameters, "id": call_id})
                document = self._codec.decompress(reader, *found[0]) if found else None
                documents.append(document)
                size += len(document or b"")
                if size >= LOG_BYTES:
                    break
            return documents

        return await self._engine.read(work)

    async def log(self, account_id: int, session_id: str, *, since: int, details_since: int) -> FoundLog | None:
        """The log of a complete call that started at *since* or later; None when there is no such call."""

        def unpack(reader: Reader) -> bytes:
            return self._codec.decompress(reader, dictionary, packed)

        parameters = {
            "account_id": account_id,
            "session_id": session_id,
            "since": since,
            "details_since": details_since,
        }
        found = await self._engine.quick(lambda reader: reader.rows(_ONE, parameters))
        if not found:
            return None
        dictionary, packed = found[0]
        if packed is None:
            return FoundLog(None)
        run = self._engine.quick if len(packed) <= SMALL_LOG else self._engine.read
        return FoundLog(await run(unpack))

    async def search(self, query: CallQuery, words: Sequence[str], details_since: int) -> list[FoundCall]:
        """The newest calls of *query*'s window whose log holds all *words* and is still shown."""
        sql = f"""
        SELECT {_FOUND} FROM calls
        WHERE {_CLAUSES} AND ended >= :details_since AND id IN ({{matches}}) {_NEWEST_FIRST} OFFSET :offset
        """  # noqa: S608
        parameters = _parameters(query, {"details_since": details_since})
        terms = [account_word(query.account_id), *words]
        rows = await self._engine.read(lambda reader: reader.calls_with_words(terms, parameters, sql))
        return [FoundCall(*row) for row in rows]

    async def of_sip_call(self, query: CallQuery, sip_call_id: str) -> list[FoundCall]:
        """The newest calls of *query*'s window that have this Call-ID, whichever switch sent them."""
        parameters = _parameters(query, {"sip_call_id": sip_call_id})
        rows = await self._engine.read(lambda reader: reader.rows(_OF_SIP_CALL, parameters))
        return [FoundCall(*row) for row in rows]


@functools.cache
def _select(fields: tuple[str, ...], *, by_number: bool, after: str = "", total: str = "") -> str:
    columns = [_EXPRESSIONS[field] for field in fields] + ([total] if total else [])
    number = "AND dest_key = :dest_key" if by_number else ""
    return f"SELECT {', '.join(columns)} FROM calls WHERE {_CLAUSES} {number} {after} {_NEWEST_FIRST} OFFSET :offset"  # noqa: S608


def _parameters(query: CallQuery, more: dict[str, Any] | None = None) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "account_id": query.account_id,
        "since": query.since,
        "until": query.until,
        "limit": query.limit,
        "offset": query.offset,
    }
    if query.number is not None:
        parameters["dest_key"] = number_key(query.number)
    return parameters if more is None else {**parameters, **more}


def _small_page(reader: Reader, query: CallQuery, fields: tuple[str, ...]) -> Page[Row]:
    """The rows and the total by one statement, which is a snapshot by itself."""
    total, bounds = rollups.total_expression(query.since, query.until)
    rows = _rows(reader, _select(fields, by_number=False, total=total), query, bounds)
    if not rows:
        return Page([], _total(reader, query))
    return Page([row[:-1] for row in rows], rows[0][-1])


def _rows(reader: Reader, sql: str, query: CallQuery, more: dict[str, Any] | None = None) -> list[Row]:
    parameters = _parameters(query, more)
    if query.offset >= DEEP_OFFSET and query.number is None:
        until, offset = rollups.seek(reader, query.account_id, query.since, query.until, query.offset)
        parameters.update(until=until, offset=offset)
    return reader.rows(sql, parameters)


def _total(reader: Reader, query: CallQuery) -> int:
    if query.number is None:
        return rollups.total(reader, query.account_id, query.since, query.until)
    return int(reader.rows(_COUNT_NUMBER, _parameters(query))[0][0])
