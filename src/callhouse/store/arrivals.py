"""How many records came from each source, hour by hour, and how long after its end a call was to be seen."""

from collections.abc import Iterable, Sequence

import msgspec

from callhouse.model.instant import DAY, HOUR
from callhouse.model.record import Outcome, Part, Record
from callhouse.store.engine import Reader, Readers, Transaction
from callhouse.store.fragments import Group
from callhouse.store.session import Session

KEPT = 90 * DAY

PROMPT = HOUR
"""A call that comes later than this after its end was not sent when it ended, but imported."""

_ADD = """
INSERT INTO arrivals (account_id, hour, source, accepted, repeated, refused, last, calls, delay, longest)
VALUES (:account_id, :hour, :source, :accepted, :repeated, :refused, :last, :calls, :delay, :longest)
ON CONFLICT (account_id, hour, source) DO UPDATE SET accepted = arrivals.accepted + excluded.accepted,
repeated = arrivals.repeated + excluded.repeated, refused = arrivals.refused + excluded.refused, last = excluded.last,
calls = arrivals.calls + excluded.calls, delay = arrivals.delay + excluded.delay,
longest = CASE WHEN excluded.longest > arrivals.longest THEN excluded.longest ELSE arrivals.longest END
"""
_LIST = """
SELECT source, hour, accepted, repeated, refused, last, calls, delay, longest FROM arrivals
WHERE account_id = :account_id ORDER BY hour
"""
EXPIRE = "DELETE FROM arrivals WHERE account_id = :account_id AND hour < :before"


class Arrivals(msgspec.Struct, frozen=True):
    """What came from a source in an *hour* (of 1970), *last* of it in ms. Of the *calls* that it completed at most
    PROMPT after their end, *delay* is the sum of the milliseconds from end to arrival and *longest* the most.
    """

    source: str
    hour: int
    accepted: int
    repeated: int
    refused: int
    last: int
    calls: int
    delay: int
    longest: int


class ArrivalLog:
    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def of(self, account_id: int) -> list[Arrivals]:
        """All that is known of an account's sources, the oldest first."""

        def work(reader: Reader) -> list[Arrivals]:
            return [Arrivals(*row) for row in reader.rows(_LIST, {"account_id": account_id})]

        return await self._readers.read(work)


def note(
    tx: Transaction,
    records: Sequence[tuple[Record, Outcome, Session | None]],
    groups: Iterable[tuple[Group, Sequence[Session]]],
    now: int,
) -> None:
    """Count *records* with what became of them, and the calls that they, or the rows of *groups*, completed."""
    counts: dict[tuple[int, str], dict[str, int]] = {}
    for record, outcome, _ in records:
        came = "refused" if outcome.refusal is not None else "repeated" if outcome.repeated else "accepted"
        count = counts.setdefault(
            (record.account.id, record.source),
            {"accepted": 0, "repeated": 0, "refused": 0, "calls": 0, "delay": 0, "longest": 0},
        )
        count[came] += 1
    completed = {
        session: record.source
        for record, _, session in records
        if session is not None and isinstance(record.read, Part)
    }
    for group, sessions in groups:
        completed.update(dict.fromkeys(sessions, group.key[2]))
    for session, source in completed.items():
        end = None if session.call is None else session.call.end
        if session.is_complete and not session.was_complete and end is not None and 0 <= now - end <= PROMPT:
            count = counts[session.account_id, source]
            count["calls"] += 1
            count["delay"] += now - end
            count["longest"] = max(count["longest"], now - end)
    tx.each(
        _ADD,
        (
            {"account_id": account_id, "source": source, "hour": now // HOUR, "last": now, **count}
            for (account_id, source), count in sorted(counts.items())
        ),
    )
