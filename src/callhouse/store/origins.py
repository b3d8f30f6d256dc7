"""By what way calls came: to which source, from where if not over HTTP, and how often they were told otherwise."""

import msgspec

from callhouse.model.record import Record
from callhouse.store.engine import Reader, Transaction
from callhouse.store.fragments import DIGEST_BYTES

MIRROR = "mirror:"
"""Begins the name of the source of what mirrors take in."""

_KNOWN = "SELECT id FROM origins WHERE account_id = :account_id AND source = :source AND place = :place"
_ADD = """
INSERT INTO origins (account_id, source, place) VALUES (:account_id, :source, :place)
ON CONFLICT (account_id, source, place) DO UPDATE SET place = excluded.place RETURNING id
"""
_OF_CALL = """
SELECT calls.changed, calls.replaced, told.source, told.place, changed_by.source, changed_by.place FROM calls
JOIN origins AS told ON told.account_id = calls.account_id AND told.id = calls.origin_id
JOIN origins AS changed_by ON changed_by.account_id = calls.account_id AND changed_by.id = calls.changed_by
WHERE calls.account_id = :account_id AND calls.id = :id
"""
_ROWS = """
SELECT source, length(digests), changed FROM fragments WHERE account_id = :account_id AND name = :session_id
ORDER BY source
"""


class Origin(msgspec.Struct, frozen=True):
    """The *source* that a record was sent to, and its *place*: the directory of the file that it stood in, the name of
    the mirror or of Callhouse's own command that brought it; empty if it came over HTTP.
    """

    source: str
    place: str


class JoinedRows(msgspec.Struct, frozen=True):
    """How many rows of *source* a call is joined from, and when the *last* of them came, in milliseconds."""

    source: str
    count: int
    last: int


class Provenance(msgspec.Struct, frozen=True):
    """Where a call came from: who *told* of it first; by whom and when it was last *changed*, its log included once it
    is over; and how often something that was known of it was *replaced* by something else.
    """

    told: Origin
    changed_by: Origin
    changed: int
    replaced: int
    rows: list[JoinedRows]


class Ids:
    """The ids of origins, which are noted in *tx* where they are new."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._known: dict[tuple[int, str, str], int] = {}

    def of(self, record: Record | None) -> int:
        """The id of the origin of *record*, which there must be."""
        assert record is not None
        place = record.origin
        if place and not record.source.startswith(MIRROR):
            # A directory may have a file for each call; without its line one is "standard input".
            place = place[: place.rfind("/") + 1] or place.partition(":")[0]
        key = record.account.id, record.source, place
        known = self._known.get(key)
        if known is None:
            row = {"account_id": record.account.id, "source": record.source, "place": place}
            [(known,)] = self._tx.rows(_KNOWN, row) or self._tx.each(_ADD, [row])
            self._known[key] = known
        return known


def of_call(reader: Reader, account_id: int, call_id: int, session_id: str) -> Provenance:
    """Where the call came from."""
    named = {"account_id": account_id, "id": call_id, "session_id": session_id}
    [(changed, replaced, source, place, last_source, last_place)] = reader.rows(_OF_CALL, named)
    rows = [JoinedRows(name, size // DIGEST_BYTES, last) for name, size, last in reader.rows(_ROWS, named)]
    return Provenance(Origin(source, place), Origin(last_source, last_place), changed, replaced, rows)
