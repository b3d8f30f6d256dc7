"""CallFilter → SQL → Listing: the list that a person looks through, in whatever state a call is.

A page is merged from walks, each down an index of its own in the order of the list: calls that are over and calls in
progress, and with a search a walk for each thing that may be meant. A walk that passes over calls for the sake of a
filter is cut into stretches of time, so that it can stop when it has taken too long, and tell how far it came.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from callhouse.model.browsing import CallFilter, Count, ListedCall, Listing, Place, Search, WholeCall
from callhouse.model.instant import DAY, MAX_SECONDS, SECOND
from callhouse.model.number import number_key
from callhouse.model.step import encode_step
from callhouse.store import by_words, call_rows, counting, kinds
from callhouse.store.by_end import IS_LONG, LONG
from callhouse.store.conditions import DIRECTION, TALK
from callhouse.store.engine import Reader, Readers, Row
from callhouse.store.rollups import COMPLETE, INCOMPLETE
from callhouse.store.totals import LONGEST_NAME, OF_APPLICATION, OF_STEP

PATIENCE = 1.5
"""Seconds after which a page or a count of a filter is shown as far as it came."""

STRETCH = DAY
"""The first stretch of a walk that passes over calls; the next is twice as long if it took less than QUICK seconds."""

QUICK = 0.2
FOREVER = MAX_SECONDS * SECOND
"""The end of a window that has none."""

MAX_NOT_BEGUN = 10_000
"""Calls that have not begun of which a count takes notice."""

MOST_LEGS = 200
"""Legs of a call, and calls of one Call-ID, that are shown."""

_HAS_ERRORS = """
(calls.started IS NOT NULL AND calls.started >= :errors_since AND EXISTS (
    SELECT 1 FROM call_errors
    WHERE call_errors.account_id = :account_id AND call_errors.session_id = calls.session_id
))
"""
_LISTED = f"""
id, session_id, call_uuid, parent_call_uuid, {DIRECTION}, src, dest, application_name, started, answered, ended, {TALK},
{kinds.STATUS}, cause_code, hangup_cause_name, hangup_source, hangup_original_code, hangup_original_scheme, event_count,
(SELECT count(*) FROM calls AS legs WHERE legs.account_id = :account_id
 AND legs.parent_call_uuid = calls.call_uuid), {_HAS_ERRORS}, coalesce(log_id, id)
"""  # noqa: S608
_OF = f"SELECT {_LISTED} FROM calls WHERE account_id = :account_id"  # noqa: S608
_WHOLE = f"""
SELECT {_LISTED}, {", ".join(call_rows.COLUMNS.values())} FROM calls WHERE account_id = :account_id
"""  # noqa: S608
_WINDOW = "started >= :since AND started < :until"
_OLDER = "(started, session_id) < (:place_start, :place_session_id)"
_NEWER = "(started, session_id) > (:place_start, :place_session_id)"
_TEXT = ("session_id = :text", "call_uuid = :text", "sip_call_id = :text")
_NUMBER = ("dest_key = :number", "src_key = :number")
# What is no number has a key too, by which it is looked up.
_SIDE = ("dest_key = :number AND dest = :text", "src_key = :number AND src = :text")
_OF_NUMBER = ("dest_key = :of_number", "src_key = :of_number")
# A plus keeps the window from being what an index is used for.
_UNDER_WAY = (
    (
        f"{COMPLETE} AND started > :under_way - {LONG} AND started <= :under_way "
        "AND +started >= :since AND +started < :until"
    ),
    f"{IS_LONG} AND ended > :under_way AND +started >= :since AND +started < :until",
)
_CONDITIONS = {
    "application": OF_APPLICATION,
    "last_step": OF_STEP,
    "number": f"({' OR '.join(_OF_NUMBER)})",
    "under_way": "+started <= :under_way AND (ended > :under_way OR ended IS NULL)",
    "cause_code": kinds.OF_CAUSE,
    "shortest": "ended - started >= :shortest",
    "longest": "ended - started < :longest",
}


class Browsing:
    """Lists of calls for a person to look through."""

    def __init__(self, readers: Readers, clock: Callable[[], int]) -> None:
        self._readers = readers
        self._clock = clock

    async def page(
        self, asked: CallFilter, limit: int, place: Place | None = None, *, newer: bool = False, patient: bool = False
    ) -> Listing:
        """The first *limit* calls, or those on the older side of *place*, or those next to it on the *newer* one.

        Where time runs out, unless it is asked to be *patient*, the page holds less and says how far it looked.
        """
        deadline = math.inf if patient else time.monotonic() + PATIENCE
        found: list[Row] = []
        if place is None and _takes_unbegun(asked):
            found = await self._readers.read(partial(_not_begun, asked, limit + 1))
        for stretch in _stretches(asked, self._clock(), place, newer=newer):
            if len(found) > limit:
                break
            if time.monotonic() > deadline:
                reached = stretch.since if newer else stretch.until
                return Listing(_listed(found, newer=newer), goes_on=True, reached=reached)
            found += await self._readers.read(partial(_found, stretch, limit + 1 - len(found), place, newer=newer))
        return Listing(_listed(found[:limit], newer=newer), goes_on=len(found) > limit)

    async def count(self, asked: CallFilter, *, patient: bool = False) -> Count:
        """How many calls match in all."""
        deadline = math.inf if patient else time.monotonic() + PATIENCE
        calls = 0
        if _takes_unbegun(asked):
            calls = len(await self._readers.read(partial(_not_begun, asked, MAX_NOT_BEGUN)))
        if (told := await self._readers.read(partial(_told, asked))) is not None:
            return Count(calls + told)
        for stretch in _stretches(asked, self._clock(), None, newer=False):
            if time.monotonic() > deadline:
                return Count(calls, stretch.until)
            calls += await self._readers.read(partial(_counted, stretch))
        return Count(calls)

    async def whole(self, asked: CallFilter, limit: int, place: Place | None = None) -> list[WholeCall]:
        """The first *limit* calls that have begun, or those on the older side of *place*, with all that was sent.

        Before the first ones stand those that have not begun.
        """
        found: list[Row] = []
        for stretch in _stretches(asked, self._clock(), place, newer=False):
            if len(found) >= limit:
                break
            found += await self._readers.read(
                partial(_found, stretch, limit - len(found), place, newer=False, of=_WHOLE)
            )
        if place is None and _takes_unbegun(asked):
            found = await self._readers.read(partial(_not_begun, asked, MAX_NOT_BEGUN, of=_WHOLE)) + found
        columns = len(ListedCall.__struct_fields__)
        return [
            WholeCall(ListedCall(*row[:columns]), call_rows.call_of(asked.account_id, row[columns:])) for row in found
        ]

    async def one(self, account_id: int, session_id: str, since: int, errors_since: int) -> ListedCall | None:
        """The call of that name, if it started at *since* or later, or has not begun."""
        sql = f"{_OF} AND session_id = :session_id AND (started IS NULL OR +started >= :since)"
        parameters = {
            "account_id": account_id,
            "session_id": session_id,
            "since": since,
            "errors_since": errors_since,
        }
        rows = await self._readers.quick(lambda reader: reader.rows(sql, parameters))
        return ListedCall(*rows[0]) if rows else None

    async def legs(self, account_id: int, call: ListedCall, since: int) -> list[ListedCall]:
        """*call*, the call that made it, and all that either of them made, in the order of their starts."""
        sql = f"{_OF} AND (started IS NULL OR started >= :since)"
        parameters = {"account_id": account_id, "since": since, "errors_since": since}

        def work(reader: Reader) -> list[Row]:
            roots = [call.call_uuid]
            rows = reader.rows(f"{sql} AND call_uuid = :uuid", {**parameters, "uuid": call.call_uuid})
            if call.parent_call_uuid is not None:
                roots.append(call.parent_call_uuid)
                rows += reader.rows(f"{sql} AND call_uuid = :uuid", {**parameters, "uuid": call.parent_call_uuid})
            for uuid in roots:
                order = "ORDER BY started IS NULL, started, session_id"
                below = f"{sql} AND parent_call_uuid = :uuid {order} LIMIT {MOST_LEGS}"
                rows += reader.rows(below, {**parameters, "uuid": uuid})
            return rows

        rows = await self._readers.read(work)
        legs = {row[0]: ListedCall(*row) for row in rows}
        return sorted(legs.values(), key=lambda leg: (leg.start or call.start or 0, leg.id))

    async def of_sip_call(self, account_id: int, sip_call_id: str, since: int) -> list[ListedCall]:
        """All calls that have the Call-ID, whichever switch told of them, the oldest first."""
        sql = f"""
        {_OF} AND sip_call_id = :sip_call_id AND (started IS NULL OR started >= :since)
        ORDER BY started IS NULL, started, session_id LIMIT {MOST_LEGS}
        """
        parameters = {"account_id": account_id, "sip_call_id": sip_call_id, "since": since, "errors_since": since}
        return [ListedCall(*row) for row in await self._readers.read(lambda reader: reader.rows(sql, parameters))]

    async def applications(self, account_id: int, since: int) -> list[str]:
        """The applications of the newest calls."""
        sql = f"""
        SELECT DISTINCT application_name FROM (
            SELECT application_name FROM calls WHERE account_id = :account_id AND {COMPLETE} AND started >= :since
            ORDER BY started DESC, session_id DESC LIMIT 1000
        ) AS newest WHERE application_name IS NOT NULL ORDER BY application_name
        """  # noqa: S608
        parameters = {"account_id": account_id, "since": since}
        return [name for (name,) in await self._readers.read(lambda reader: reader.rows(sql, parameters))]


def _takes_unbegun(asked: CallFilter) -> bool:
    return asked.until >= FOREVER and asked.week_hour is None


def _stretches(asked: CallFilter, now: int, place: Place | None, *, newer: bool) -> Iterator[CallFilter]:
    """The window of *asked* in parts, in the order of the walk; whole where no call is passed over."""
    since, until = asked.since, asked.until
    if place is not None:
        since, until = (max(since, place.start), until) if newer else (since, min(until, place.start + 1))
    if asked.week_hour is not None:
        for low, high in asked.week_hour.spans(since, until, newest_first=not newer):
            yield msgspec.structs.replace(asked, since=low, until=high)
    elif _conditions(asked)[0] and asked.under_way is None and not (asked.search and asked.search.words):
        ahead = max(since, min(until, now))
        yield from _halves(asked, since, ahead, until, newer=newer)
    else:
        yield msgspec.structs.replace(asked, since=since, until=until)


def _halves(asked: CallFilter, since: int, ahead: int, until: int, *, newer: bool) -> Iterator[CallFilter]:
    """What lies before *ahead*, in stretches, and what lies after it, where few calls are."""
    rest = msgspec.structs.replace(asked, since=ahead, until=until)
    if ahead < until and not newer:
        yield rest
    length = STRETCH
    while since < ahead:
        step = min(length, ahead - since)
        low = since if newer else ahead - step
        began = time.monotonic()
        yield msgspec.structs.replace(asked, since=low, until=low + step)
        if time.monotonic() - began < QUICK:
            length *= 2
        since, ahead = (since + step, ahead) if newer else (since, ahead - step)
    if rest.since < until and newer:
        yield rest


def _walks(asked: CallFilter) -> Iterator[tuple[str, Sequence[str]]]:
    """The conditions of each walk, and the words it looks up."""
    search = asked.search
    if search is None:
        for narrow in _narrowed(asked):
            yield narrow, ()
        yield f"{INCOMPLETE} AND {_WINDOW}", ()
        return
    meant = _meant(search)
    for condition in meant:
        yield f"{condition} AND {COMPLETE} AND {_WINDOW}", ()
    yield f"{INCOMPLETE} AND {_WINDOW} AND ({' OR '.join(meant)})", ()
    if search.words:
        yield f"{by_words.HAS_WORDS} AND {COMPLETE} AND {_WINDOW} AND ended >= :details_since", search.words


def _meant(search: Search) -> Sequence[str]:
    """What the text of a search may stand for, beside words."""
    return (*_TEXT, *(_SIDE if search.number is None else _NUMBER))


def _narrowed(asked: CallFilter) -> Sequence[str]:
    """Which calls that are over a filter alone leaves to be looked through, each on an index of its own."""
    if asked.under_way is not None:
        return _UNDER_WAY
    if asked.number is not None:
        return [f"{condition} AND {COMPLETE} AND {_WINDOW}" for condition in _OF_NUMBER]
    return [f"{COMPLETE} AND {_WINDOW}"]


def _found(
    asked: CallFilter, limit: int, place: Place | None, reader: Reader, *, newer: bool, of: str = _OF
) -> list[Row]:
    """The first *limit* rows of a stretch, in the order of the walk."""
    order = "ORDER BY started, session_id" if newer else "ORDER BY started DESC, session_id DESC"
    more, given = _conditions(asked)
    parameters = {**_bounds(asked), **given, "limit": limit}
    if place is not None:
        more += f" AND {_NEWER if newer else _OLDER}"
        parameters |= {"place_start": place.start, "place_session_id": place.session_id}
    rows: dict[int, Row] = {}
    for walk, words in _walks(asked):
        sql = f"{of} AND {walk}{more} {order} LIMIT :limit"
        if words:
            found = by_words.page(reader, words, parameters, sql, oldest_first=newer)
        else:
            found = reader.rows(sql, parameters)
        rows.update((row[0], row) for row in found)
    return sorted(rows.values(), key=_position, reverse=not newer)[:limit]


def _not_begun(asked: CallFilter, limit: int, reader: Reader, *, of: str = _OF) -> list[Row]:
    """Calls of which only is known that they are to be."""
    more, given = _conditions(asked)
    if asked.search is not None:
        more += f" AND ({' OR '.join(_meant(asked.search))})"
    sql = f"{of} AND {INCOMPLETE} AND started IS NULL{more} ORDER BY id DESC LIMIT :limit"
    return reader.rows(sql, {**_bounds(asked), **given, "limit": limit})


def _told(asked: CallFilter, reader: Reader) -> int | None:
    """How many calls match, however many that are; None where each would have to be looked at."""
    windows = [(asked.since, asked.until)]
    if asked.week_hour is not None:
        windows = list(asked.week_hour.spans(asked.since, asked.until, newest_first=False))
    over = counting.over(reader, asked, windows)
    if over is None or (asked.statuses and "in progress" not in asked.statuses):
        return over
    more, given = _conditions(asked)
    sql = f"SELECT count(*) FROM calls WHERE account_id = :account_id AND {INCOMPLETE} AND {_WINDOW}{more}"  # noqa: S608
    parameters = {**_bounds(asked), **given}
    in_progress = (reader.rows(sql, {**parameters, "since": low, "until": high})[0][0] for low, high in windows)
    return over + int(sum(in_progress))


def _counted(asked: CallFilter, reader: Reader) -> int:
    more, given = _conditions(asked)
    parameters = {**_bounds(asked), **given}
    found = (f"SELECT id FROM calls WHERE account_id = :account_id AND {walk}{more}" for walk, _ in _walks(asked))  # noqa: S608
    sql = f"SELECT count(*) FROM ({' UNION '.join(found)}) AS found"  # noqa: S608
    if asked.search is None or not asked.search.words:
        return int(reader.rows(sql, parameters)[0][0])
    return int(by_words.all_rows(reader, asked.search.words, parameters, sql)[0][0])


def _bounds(asked: CallFilter) -> dict[str, Any]:
    bounds: dict[str, Any] = {
        "account_id": asked.account_id,
        "since": asked.since,
        "until": asked.until,
        "errors_since": asked.errors_since,
    }
    if asked.search is not None:
        text, number = asked.search.text, asked.search.number
        number = number_key(text) if number is None else number
        bounds |= {"text": text, "number": number, "details_since": asked.details_since}
    return bounds


def _conditions(asked: CallFilter) -> tuple[str, dict[str, Any]]:
    """What is asked of a call beside its window and what it is searched by, and the parameters of that."""
    terms, given = [], {}
    for field, condition in _CONDITIONS.items():
        if (value := getattr(asked, field)) is not None:
            terms.append(condition)
            given[field] = value
    for field, expression in (("directions", kinds.DIRECTION), ("statuses", kinds.STATUS)):
        if chosen := getattr(asked, field):
            names = {f"{field}{n}": value for n, value in enumerate(chosen)}
            terms.append(f"{expression} IN ({', '.join(f':{name}' for name in names)})")
            given |= names
    if asked.application is not None:
        given["application"] = asked.application[:LONGEST_NAME]
    if asked.last_step is not None:
        application, step = asked.last_step
        given |= {"last_step": encode_step(step), "of_application": application}
    if asked.number is not None:
        given["of_number"] = given.pop("number")
    if asked.without_cause:
        terms.append(kinds.WITHOUT_CAUSE)
    if asked.has_errors is not None:
        terms.append(_HAS_ERRORS if asked.has_errors else f"NOT {_HAS_ERRORS}")
    return "".join(f" AND {term}" for term in terms), given


def _position(row: Row) -> tuple[int, str]:
    return row[8], row[1]


def _listed(rows: Sequence[Row], *, newer: bool) -> list[ListedCall]:
    calls = [ListedCall(*row) for row in rows]
    return calls[::-1] if newer else calls
