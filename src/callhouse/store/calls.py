"""CallQuery → SQL → Page; and single calls and their logs."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from callhouse.model import log as log_document
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.query import CallQuery, Page
from callhouse.store import by_end, by_words, filtered, origins, rollups
from callhouse.store.call_rows import COLUMNS, call_of
from callhouse.store.conditions import DIRECTION, conditions
from callhouse.store.engine import Reader, Readers, Row
from callhouse.store.log_writer import WAITING
from callhouse.store.logs import LogCodec
from callhouse.store.origins import Provenance
from callhouse.store.rollups import COMPLETE, INCOMPLETE

SMALL_PAGE = 100
"""A page of at most so many rows, found through the counts, is read without leaving the event loop."""

DEEP_OFFSET = 500
"""From here on the counts lead to a page faster than stepping over the calls before it; a page by end steps over them
in another thread."""

SMALL_LOG = 16 * 1024
"""A compressed log of at most so many bytes is unpacked without leaving the event loop."""

LOG_BYTES = 256 * 1024
"""Bytes of logs that are held at a time: a client that stops reading must not cost much, nor memory grow."""

LOGS_AT_ONCE = 32
"""Logs that are looked up together."""

FEW_ACCOUNTS = 20
"""In so many accounts a call is looked for without leaving the event loop."""

_EXPRESSIONS = {
    **COLUMNS,
    "id": "id",
    "event_count": "event_count",
    "shown_log_id": "coalesce(log_id, id)",
    "direction": DIRECTION,
    "cause_code": "cause_code",
}

_CLAUSES = f"account_id = :account_id AND {COMPLETE} AND started >= :since AND started < :until"
_LIMIT = " LIMIT :limit"
_NEWEST_FIRST = f"ORDER BY started DESC, session_id DESC{_LIMIT}"
_OLDEST_FIRST = f"ORDER BY started, session_id{_LIMIT}"
_EARLIER_TIES = f"""
SELECT count(*) FROM calls
WHERE account_id = :account_id AND {COMPLETE} AND started = :started AND session_id < :session_id
"""  # noqa: S608
_COUNT = f"SELECT count(*) FROM calls WHERE {_CLAUSES}"  # noqa: S608

InProgress = Literal["live", "queued"]
CallState = Literal["completed", "live", "queued"]
_STATES: dict[CallState, str] = {
    "completed": "+started >= :shown AND +ended IS NOT NULL",
    "live": "+started >= :shown AND +ended IS NULL",
    "queued": "+started IS NULL AND +ended IS NULL",
}
"""What is true of a call that is over, has begun, or has not begun. The plus leaves the choice of index to the rest."""

_IN_PROGRESS: dict[InProgress, str] = {
    "live": f"{INCOMPLETE} AND started >= :shown AND ended IS NULL",
    "queued": f"{INCOMPLETE} AND started IS NULL AND ended IS NULL",
}

_LOGS = """
SELECT dictionary, document FROM logs
WHERE account_id = :account_id AND call_id = :id AND ended >= :details_since
"""
# Those that are large stay where they are.
_LOGS_AT_ONCE = f"""
SELECT call_id, dictionary, CASE WHEN size <= {SMALL_LOG} THEN document END FROM logs
WHERE account_id = :account_id AND call_id = :id AND ended >= :details_since
"""  # noqa: S608
# The plus keeps the index of starts out of it, which covers what is asked of the call, but for all calls since.
_ONE = """
SELECT logs.dictionary, logs.document FROM calls
LEFT JOIN logs ON logs.account_id = calls.account_id AND logs.call_id = calls.id AND logs.ended >= :details_since
WHERE calls.account_id = :account_id AND calls.session_id = :session_id
AND calls.ended IS NOT NULL AND +calls.started >= :since
"""


_WHOLE = f"""
SELECT id, arrived, {", ".join(COLUMNS.values())} FROM calls
WHERE account_id = :account_id AND session_id = :session_id AND (started IS NULL OR +started >= :since)
"""  # noqa: S608
_decode_event = msgspec.json.Decoder(Event).decode

_FOUND = "session_id, started, ended, src, dest, application_name"
_OF_SIP_CALL = f"""
SELECT {_FOUND} FROM calls
WHERE account_id = :account_id AND sip_call_id = :sip_call_id AND {COMPLETE}
AND started >= :since AND started < :until {_NEWEST_FIRST}
"""  # noqa: S608


class FoundLog(msgspec.Struct, frozen=True):
    """A complete call's log as callhouse.model.log's document; None when it has none that is still shown."""

    document: bytes | None


class StoredCall(msgspec.Struct, frozen=True):
    """A call as it was sent; its *events*, None when it has no log that is still shown; when it first *arrived*, and
    where it came from.
    """

    id: int
    arrived: int
    call: Call
    events: list[Event] | None
    provenance: Provenance


class FoundCall(msgspec.Struct, frozen=True):
    """What a search shows of a call."""

    session_id: str
    start: int
    end: int
    src: str | None
    dest: str | None
    application_name: str | None


class Calls:
    """The complete calls. A row holds the values of the fields asked for: those of Call, ``id``, ``event_count``
    and ``shown_log_id``: the number that a vendor gave the log, or else the id.
    """

    def __init__(self, readers: Readers, codec: LogCodec) -> None:
        self._readers = readers
        self._codec = codec

    async def page(self, query: CallQuery, fields: Sequence[str]) -> Page[Row]:
        """The whole page and the exact total, of one instant; the query's window is by start, and of one account."""
        more, given = conditions(query)
        columns = tuple(fields)
        if query.logged_since is not None:
            return await self._readers.read(lambda reader: _logged_page(reader, query, columns, more, given))
        if more:
            return await self._readers.read(lambda reader: filtered.page(reader, query, _columns(columns)))
        if query.limit <= SMALL_PAGE and not (query.oldest_first and _is_deep(query)):
            return await self._readers.quick(lambda reader: _small_page(reader, query, columns))
        return await self._readers.read(lambda reader: _large_page(reader, query, columns))

    async def page_by_end(self, query: CallQuery, fields: Sequence[str]) -> Page[Row]:
        """The whole page and the exact total; the query's window is of the calls' ends."""
        if not query.account_ids:
            return Page([], 0)
        more, given = conditions(query)
        small = query.limit <= SMALL_PAGE and not _is_deep(query) and len(query.account_ids) == 1
        run = self._readers.quick if small and not more else self._readers.read
        return await run(lambda reader: by_end.page(reader, query, _columns(tuple(fields)), more, given))

    async def in_progress(self, query: CallQuery, fields: Sequence[str], state: InProgress) -> list[Row]:
        """A page of the calls in progress, newest first; the query's window does not matter."""
        more, given = conditions(query)
        columns = _columns(("start", "session_id", *fields))
        sql = f"""
        SELECT {columns} FROM calls WHERE account_id = :account_id AND {_IN_PROGRESS[state]} {more}
        ORDER BY started DESC, session_id || '' DESC LIMIT :limit
        """  # noqa: S608

        def work(reader: Reader) -> list[Row]:
            rows: list[Row] = []
            for account_id, shown in zip(query.account_ids, query.shown_since, strict=True):
                place = {"account_id": account_id, "shown": shown, "limit": query.offset + query.limit}
                rows += reader.rows(sql, {**given, **place})
            rows.sort(key=lambda row: (row[0] or 0, row[1]), reverse=True)
            return [row[2:] for row in rows[query.offset : query.offset + query.limit]]

        return await self._readers.read(work)

    async def by_uuid(
        self, shown_since: Mapping[int, int], call_uuid: str, fields: Sequence[str], state: CallState
    ) -> Row | None:
        """The call of that uuid; the newest one if several were sent with it.

        *shown_since* names the accounts to look in, each with the earliest start of a call that is shown.
        """
        sql = f"""
        SELECT {_columns(("start", "session_id", *fields))} FROM calls
        WHERE account_id = :account_id AND call_uuid = :call_uuid AND {_STATES[state]}
        ORDER BY +started DESC, session_id || '' DESC LIMIT 1
        """  # noqa: S608

        def work(reader: Reader) -> Row | None:
            found: list[Row] = []
            for account_id, shown in shown_since.items():
                found += reader.rows(sql, {"account_id": account_id, "call_uuid": call_uuid, "shown": shown})
            newest = max(found, key=lambda row: (row[0] or 0, row[1]), default=None)
            return None if newest is None else newest[2:]

        few = len(shown_since) <= FEW_ACCOUNTS
        return await (self._readers.quick if few else self._readers.read)(work)

    async def logs(self, account_id: int, call_ids: Sequence[int], details_since: int) -> list[bytes | None]:
        """The documents of the first calls' logs: of all, or of as many as make LOG_BYTES, but of one at least.

        None stands for a call that has no log or ended before *details_since*.
        """

        def work(reader: Reader) -> list[bytes | None]:
            given = {"account_id": account_id, "details_since": details_since}
            found: dict[int, Row] = {}
            documents: list[bytes | None] = []
            size = 0
            for number, call_id in enumerate(call_ids):
                if number % LOGS_AT_ONCE == 0:
                    some = call_ids[number : number + LOGS_AT_ONCE]
                    logs = reader.each(_LOGS_AT_ONCE, ({**given, "id": each} for each in some))
                    found = {log[0]: log[1:] for log in logs}
                log = found.get(call_id)
                if log is not None and log[1] is None:
                    [log] = reader.rows(_LOGS, {**given, "id": call_id})
                document = None if log is None else self._codec.decompress(reader, *log)
                documents.append(document)
                size += len(document or b"")
                if size >= LOG_BYTES:
                    break
            return documents

        return await self._readers.read(work)

    async def by_log_id(self, account_id: int, log_id: int, fields: Sequence[str], *, since: int) -> Row | None:
        """The complete call with that shown_log_id that started at *since* or later."""
        sql = f"""
        SELECT {_columns(tuple(fields))} FROM calls
        WHERE account_id = :account_id AND {{which}} AND {COMPLETE} AND +started >= :since
        """  # noqa: S608
        parameters = {"account_id": account_id, "log_id": log_id, "since": since}

        def work(reader: Reader) -> list[Row]:
            told = reader.rows(sql.format(which="log_id = :log_id"), parameters)
            return told or reader.rows(sql.format(which="id = :log_id AND log_id IS NULL"), parameters)

        found = await self._readers.quick(work)
        return found[0] if found else None

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
        found = await self._readers.quick(lambda reader: reader.rows(_ONE, parameters))
        if not found:
            return None
        dictionary, packed = found[0]
        if packed is None:
            return FoundLog(None)
        run = self._readers.quick if len(packed) <= SMALL_LOG else self._readers.read
        return FoundLog(await run(unpack))

    async def whole(self, account_id: int, session_id: str, *, since: int, details_since: int) -> StoredCall | None:
        """All that is kept of a call, in whatever state it is, if it started at *since* or later or has not begun."""
        asked = {"account_id": account_id, "session_id": session_id, "since": since, "details_since": details_since}

        def work(reader: Reader) -> StoredCall | None:
            found = reader.rows(_WHOLE, asked)
            if not found:
                return None
            call_id, arrived, *values = found[0]
            call = call_of(account_id, values)
            provenance = origins.of_call(reader, account_id, call_id, session_id)
            if not call.is_complete:
                waiting = (_decode_event(event) for (event,) in reader.rows(WAITING, asked))
                return StoredCall(call_id, arrived, call, log_document.in_order(waiting), provenance)
            logs = reader.rows(_LOGS, {**asked, "id": call_id})
            events = log_document.unpack(self._codec.decompress(reader, *logs[0])) if logs else None
            return StoredCall(call_id, arrived, call, events, provenance)

        return await self._readers.read(work)

    async def search(self, query: CallQuery, words: Sequence[str], details_since: int) -> list[FoundCall]:
        """The newest calls of *query*'s window whose log holds all *words* and is still shown."""
        sql = f"""
        SELECT {_FOUND} FROM calls
        WHERE {_CLAUSES} AND ended >= :details_since AND {by_words.HAS_WORDS} {_NEWEST_FIRST}
        """  # noqa: S608
        parameters = _parameters(query, {"details_since": details_since, "limit": query.offset + query.limit})
        rows = await self._readers.read(lambda reader: by_words.page(reader, words, parameters, sql))
        return [FoundCall(*row) for row in rows[query.offset :]]

    async def of_sip_call(self, query: CallQuery, sip_call_id: str) -> list[FoundCall]:
        """The newest calls of *query*'s window that have this Call-ID, whichever switch sent them."""
        parameters = _parameters(query, {"sip_call_id": sip_call_id})
        rows = await self._readers.read(lambda reader: reader.rows(_OF_SIP_CALL, parameters))
        return [FoundCall(*row) for row in rows]


def _is_deep(query: CallQuery) -> bool:
    return query.offset >= DEEP_OFFSET


@functools.cache
def _columns(fields: tuple[str, ...]) -> str:
    return ", ".join(_EXPRESSIONS[field] for field in fields)


@functools.cache
def _select(fields: tuple[str, ...], more: str, *, oldest_first: bool, logged: bool = False, total: str = "") -> str:
    columns = _columns(fields) + (f", {total}" if total else "")
    order = _OLDEST_FIRST if oldest_first else _NEWEST_FIRST
    found = f"FROM calls WHERE {_CLAUSES} {more} {order} OFFSET :offset"
    if not logged:
        return f"SELECT {columns} {found}"
    # Found first, then read: without the other columns the index of the calls that have a log is the one to use.
    return f"""
    SELECT {columns} FROM (SELECT id AS found {found}) AS page
    JOIN calls ON calls.account_id = :account_id AND calls.id = page.found
    {order.removesuffix(_LIMIT)}
    """  # noqa: S608


def _parameters(query: CallQuery, more: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "account_id": query.account_ids[0],
        "since": query.since,
        "until": query.until,
        "limit": query.limit,
        "offset": query.offset,
        **more,
    }


def _logged_page(
    reader: Reader, query: CallQuery, fields: tuple[str, ...], more: str, given: Mapping[str, Any]
) -> Page[Row]:
    """The page of calls that have a log, with whatever other conditions."""
    sql = _select(fields, more, oldest_first=query.oldest_first, logged=True)
    parameters = _parameters(query, given)
    rows = reader.rows(sql, parameters)
    return Page(rows, int(reader.rows(f"{_COUNT} {more}", parameters)[0][0]))


def _small_page(reader: Reader, query: CallQuery, fields: tuple[str, ...]) -> Page[Row]:
    """The rows and the total by one statement, which is a snapshot by itself."""
    total, bounds = rollups.total_expression(query.since, query.until)
    rows = _rows(reader, query, _select(fields, "", oldest_first=query.oldest_first, total=total), bounds)
    if not rows:
        return Page([], _total(reader, query))
    return Page([row[:-1] for row in rows], rows[0][-1])


def _large_page(reader: Reader, query: CallQuery, fields: tuple[str, ...]) -> Page[Row]:
    rows = _rows(reader, query, _select(fields, "", oldest_first=query.oldest_first), {})
    return Page(rows, _total(reader, query))


def _rows(reader: Reader, query: CallQuery, sql: str, more: Mapping[str, Any]) -> list[Row]:
    """The rows of *sql*, for which the counts find the way to a deep page."""
    parameters = _parameters(query, more)
    if _is_deep(query):
        if query.oldest_first:
            parameters.update(_mirrored(reader, query))
        else:
            until, offset = rollups.seek(reader, query.account_ids[0], query.since, query.until, query.offset)
            parameters.update(until=until, offset=offset)
    return reader.rows(sql, parameters)


def _mirrored(reader: Reader, query: CallQuery) -> dict[str, int]:
    """The parameters of a shorter way to the page of *query*, which is oldest first and deep.

    Seen from the newest call its first call has as many newer ones as the total leaves, and those lead to it.
    """
    newer = _total(reader, query) - query.offset - 1
    if newer < 0:
        return {"limit": 0}
    until, offset = rollups.seek(reader, query.account_ids[0], query.since, query.until, newer)
    at = {"account_id": query.account_ids[0], "since": query.since, "until": until, "offset": offset, "limit": 1}
    [(started, session_id)] = reader.rows(_select(("start", "session_id"), "", oldest_first=False), at)
    ties = reader.rows(
        _EARLIER_TIES, {"account_id": query.account_ids[0], "started": started, "session_id": session_id}
    )
    return {"since": started, "offset": ties[0][0]}


def _total(reader: Reader, query: CallQuery) -> int:
    return rollups.total(reader, query.account_ids[0], query.since, query.until)
