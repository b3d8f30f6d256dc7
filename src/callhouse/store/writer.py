"""What one transaction makes of a batch of records: calls, their logs, the counts, the search index, the quarantine."""

import copy
import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from callhouse.errors import RecordError
from callhouse.model import call as calls
from callhouse.model import hangup
from callhouse.model import log as log_document
from callhouse.model.account import Account
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.instant import format_duration
from callhouse.model.number import number_key
from callhouse.model.record import Outcome, Part, Record
from callhouse.store import fragments, quarantine, rollups
from callhouse.store.engine import Transaction
from callhouse.store.fragments import Group
from callhouse.store.logs import LogCodec

COLUMNS = {
    field: {"start": "started", "answer": "answered", "end": "ended"}.get(field, field) for field in calls.FIELDS
}
"""The column of each field of Call."""

# Parameters are named as the fields of Call, columns as COLUMNS says.
_DERIVED = ("dest_key", "cause_code", "event_count", "arrived")
_WRITTEN = {**COLUMNS, **{field: field for field in _DERIVED}}
_KNOWN = f"""
SELECT account_id, id, event_count, {", ".join(COLUMNS.values())} FROM calls
WHERE account_id = :account_id AND session_id = :session_id
"""  # noqa: S608
_INSERT = f"""
INSERT INTO calls (account_id, {", ".join(_WRITTEN.values())})
VALUES (:account_id, {", ".join(f":{field}" for field in _WRITTEN)}) RETURNING id
"""  # noqa: S608
_CHANGED = [f"{column} = :{field}" for field, column in _WRITTEN.items() if field not in {"session_id", "arrived"}]
_UPDATE = f"""
UPDATE calls SET {", ".join(_CHANGED)}
WHERE account_id = :account_id AND id = :id
"""  # noqa: S608

_DROP = "DELETE FROM calls WHERE account_id = :account_id AND id = :id"
_DROP_LOG = "DELETE FROM logs WHERE account_id = :account_id AND call_id = :id"

_ANY_WAITING = "SELECT 1 FROM waiting_events LIMIT 1"
# The large ones are found in an index of their own, so that counting the others reads no event.
_COUNT_WAITING = """
SELECT account_id, session_id, count(*), (
    SELECT coalesce(sum(size), 0) FROM waiting_events
    WHERE account_id = :account_id AND session_id = :session_id AND size > 2000
)
FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id GROUP BY account_id, session_id
"""
_SMALL = 2_000 + 32
"""What an event that is not large takes in a log at most; there it may be a little longer than while it waits."""

GROWTH = 6
"""How many times as long as the record that brought them events may be in a log (1e15 becomes 1000000000000000.0)."""

_WAITING = "SELECT event FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id ORDER BY id"
_WAIT = """
INSERT INTO waiting_events (account_id, session_id, identity, timestamp, size, event)
VALUES (:account_id, :session_id, :identity, :timestamp, :size, :event)
ON CONFLICT (account_id, session_id, identity) DO NOTHING RETURNING id
"""
_DONE_WAITING = "DELETE FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id"

_LOG = "SELECT dictionary, document FROM logs WHERE account_id = :account_id AND call_id = :call_id"
_LOG_SIZE = "SELECT size FROM logs WHERE account_id = :account_id AND call_id = :call_id"
_PUT_LOG = """
INSERT INTO logs (call_id, account_id, ended, dictionary, size, document)
VALUES (:call_id, :account_id, :ended, :dictionary, :size, :document)
ON CONFLICT (call_id) DO UPDATE
SET ended = excluded.ended, dictionary = excluded.dictionary, size = excluded.size, document = excluded.document
"""
_MOVE_LOG = "UPDATE logs SET ended = :ended WHERE account_id = :account_id AND call_id = :call_id"

_ADD_ERROR = """
INSERT INTO call_errors (account_id, session_id, identity, started, dest_key, timestamp, seq, line)
VALUES (:account_id, :session_id, :identity, :started, :dest_key, :timestamp, :seq, :line)
ON CONFLICT (account_id, session_id, identity) DO NOTHING RETURNING id
"""
_SHOW_ERRORS = """
UPDATE call_errors SET started = :started, dest_key = :dest_key
WHERE account_id = :account_id AND session_id = :session_id
"""
_DROP_ERROR = """
DELETE FROM call_errors WHERE account_id = :account_id AND session_id = :session_id AND identity = :identity
"""
_KNOWN_ERRORS = """
SELECT identity, length(line) FROM call_errors WHERE account_id = :account_id AND session_id = :session_id
"""

_QUARANTINE = """
INSERT INTO quarantine (account_id, received, source, reason, digest, size, preview, record)
VALUES (:account_id, :received, :source, :reason, :digest, :size, :preview, :record)
ON CONFLICT (account_id, digest) DO UPDATE SET received = excluded.received, reason = excluded.reason
"""

_encode_event = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode


def account_word(account_id: int) -> str:
    """The word that every log of an account is indexed under, so that a search reads no other account's."""
    return f"zaccount{account_id}z"


class _Session:
    """What is known of one call while a batch is applied: as stored, and as the batch leaves it."""

    __slots__ = (
        "account_id",
        "call",
        "changed",
        "errors",
        "identities",
        "late_errors",
        "log",
        "parts",
        "row_id",
        "session_id",
        "size_at_most",
        "size_is_exact",
        "stored",
        "stored_events",
        "unsaid",
        "unsaid_errors",
        "waiting",
        "waiting_large",
    )

    def __init__(self, account_id: int, session_id: str) -> None:
        self.account_id = account_id
        self.session_id = session_id
        self.row_id: int | None = None
        self.stored: Call | None = None
        self.stored_events = 0
        self.waiting = 0
        # Bytes in waiting events that are large.
        self.waiting_large = 0
        self.call: Call | None = None
        self.parts: list[tuple[Event, ...]] = []
        self.errors: list[tuple[Event, ...]] = []
        # The events of the log that an earlier join of the call's rows told of, when it is joined again; of the errors
        # among them the digests.
        self.unsaid: set[bytes] = set()
        self.unsaid_errors: set[bytes] = set()
        # The log as stored, once it was read.
        self.log: list[Event] = []
        # Known only once the number of events or their size has come near its limit.
        self.identities: set[bytes] | None = None
        # Bytes of the log: a bound that is cheap to know, until that has come near the limit.
        self.size_at_most: int | None = None
        self.size_is_exact = False
        # Sizes by identity; known only once errors have come that no log counts.
        self.late_errors: dict[bytes, int] | None = None
        self.changed = False

    def copy(self) -> "_Session":
        """The same again, which what happens to the one leaves as it is."""
        other = copy.copy(self)
        other.parts, other.errors = [*self.parts], [*self.errors]
        other.unsaid, other.unsaid_errors = {*self.unsaid}, {*self.unsaid_errors}
        other.identities = None if self.identities is None else {*self.identities}
        return other

    @property
    def was_complete(self) -> bool:
        return self.stored is not None and self.stored.is_complete

    @property
    def key(self) -> dict[str, Any]:
        return {"account_id": self.account_id, "session_id": self.session_id}


class BatchWriter:
    """Applies one batch within *tx*."""

    def __init__(self, tx: Transaction, codec: LogCodec, *, now: int, max_events: int, max_log: int) -> None:
        self._tx = tx
        self._codec = codec
        self._now = now
        self._max_events = max_events
        self._max_log = max_log
        self._sessions: dict[tuple[int, str], _Session] = {}
        self._horizons: dict[int, tuple[int, int, int]] = {}

    def write(self, records: Sequence[Record]) -> list[Outcome]:
        """Write all of *records* that can be kept, quarantine the others; an outcome for each, in order.

        A record that repeats what is already there changes nothing.
        """
        groups, places = fragments.gather(self._tx, records, self._max_events)
        self._load(records, groups)
        for group in groups:
            self._rejoin(group)
        # What was kept already in this batch is not looked at again when it comes again.
        kept: dict[tuple[int, str, bytes], tuple[_Session | None, Outcome]] = {}
        applied: list[tuple[_Session | None, Outcome, bool]] = []
        for record, place in zip(records, places, strict=True):
            if place is not None:
                group, digest = place
                applied.append((None, group.outcome(digest), False))
                continue
            key = record.account.id, record.source, record.raw
            again = key in kept
            session, outcome = kept[key] if again else self._applied(record)
            if session is not None:
                kept[key] = session, outcome
            applied.append((session, outcome, again))
        if groups:
            self._drop([s for s in self._sessions.values() if s.call is None and s.row_id])
        self._store([s for s in self._sessions.values() if s.call is not None or s.parts or s.errors])
        if groups:
            fragments.put(self._tx, groups, self._now)
        outcomes = [
            msgspec.structs.replace(outcome, repeated=again or not session.changed) if session else outcome
            for session, outcome, again in applied
        ]
        self._quarantine(records, outcomes)
        return outcomes

    def _applied(self, record: Record) -> tuple[_Session | None, Outcome]:
        if not isinstance(record.read, Part):
            return None, Outcome(refusal=str(record.read))
        session = self._sessions[record.account.id, record.read.session_id]
        try:
            return session, Outcome(expired_events=self._apply(session, record.account, record.read, len(record.raw)))
        except RecordError as error:
            return None, Outcome(refusal=str(error))

    def _load(self, records: Sequence[Record], groups: Sequence[Group]) -> None:
        names = [(r.account.id, r.read.session_id) for r in records if isinstance(r.read, Part)]
        names += [(group.account.id, part.session_id) for group in groups for part in (*group.said, *group.says)]
        for key in dict.fromkeys(names):
            self._sessions[key] = _Session(*key)
        keys = [session.key for session in self._sessions.values()]
        for account_id, row_id, event_count, *values in self._tx.each(_KNOWN, keys):
            call = _call(account_id, values)
            session = self._sessions[account_id, call.session_id]
            session.row_id, session.stored, session.stored_events, session.call = row_id, call, event_count, call
        if self._tx.rows(_ANY_WAITING, {}):
            for account_id, session_id, waiting, large in self._tx.each(_COUNT_WAITING, keys):
                session = self._sessions[account_id, session_id]
                session.waiting, session.waiting_large = waiting, large

    def _rejoin(self, group: Group) -> None:
        """Let what the rows of *group* say replace what those of them that were here before said."""
        account = group.account
        names = dict.fromkeys(part.session_id for part in (*group.said, *group.says))
        sessions = {name: self._sessions[account.id, name] for name in names}
        before = {(account.id, name): session.copy() for name, session in sessions.items()}
        expired = 0
        try:
            for part in group.said:
                expired -= self._unsay(sessions[part.session_id], account, part)
            for part in group.says:
                expired += self._apply(sessions[part.session_id], account, part, group.size)
        except RecordError as error:
            self._sessions.update(before)
            group.refuse(str(error))
        group.expired_events = max(0, expired)

    def _unsay(self, session: _Session, account: Account, part: Part) -> int:
        """Let *session* forget what *part* told of it; how many of its events had been too old."""
        events, errors, late = self._in_time(account, session.call, part.events)
        session.unsaid.update(log_document.identities(part.events))
        session.unsaid_errors.update(identity for identity, _ in _identified(errors))
        if session.call is not None and part.call is not None:
            session.call = calls.unsaid(session.call, part.call)
        return len(part.events) - len(events) - len(late)

    def _apply(self, session: _Session, account: Account, part: Part, length: int) -> int:
        """Let *session* take in what *part*, read from *length* bytes, says; how many of its events were too old.

        Raises RecordError.
        """
        calls_since, _, _ = self._since(account)
        call = session.call
        if part.call is not None:
            if call is None:
                call = part.call
                calls.check(call)
            else:
                call = calls.merge(call, part.call)
            if min(instant for instant in (call.start, call.end, self._now) if instant is not None) < calls_since:
                kept = format_duration(account.retention.calls)
                raise RecordError(f"the call is older than its retention of {kept}")
        events, errors, late = self._in_time(account, call, part.events) if part.events else ((), (), ())
        if part.events and not events and not errors and part.call is None:
            kept = format_duration(account.retention.details)
            raise RecordError(f"its events are older than their retention of {kept}")
        if events:
            self._check_log(session, events, GROWTH * length)
        if late:
            self._check_late(session, errors)
        if events:
            session.parts.append(events)
        if errors:
            session.errors.append(errors)
        session.call = call
        return len(part.events) - len(events) - len(late)

    def _in_time(self, account: Account, call: Call | None, events: Sequence[Event]) -> tuple[tuple[Event, ...], ...]:
        """Of the *events* of *call* those that the log keeps, the errors that are kept, and those of them alone."""
        _, details_since, sessions_since = self._since(account)
        start, end = (None, None) if call is None else (call.start, call.end)
        kept = tuple(e for e in events if (e.timestamp if end is None else end) >= details_since)
        errors = tuple(
            e for e in events if e.class_ == "error" and (e.timestamp if start is None else start) >= sessions_since
        )
        late = tuple(e for e in errors if (e.timestamp if end is None else end) < details_since)
        return kept, errors, late

    def _since(self, account: Account) -> tuple[int, int, int]:
        """The earliest start of a call, end of one with a log, and start of one with errors, that *account* keeps."""
        if account.id not in self._horizons:
            retention, now = account.retention, self._now
            horizons = retention.calls_since(now), retention.details_since(now), retention.sessions_since(now)
            self._horizons[account.id] = horizons
        return self._horizons[account.id]

    def _check_log(self, session: _Session, events: tuple[Event, ...], size: int) -> None:
        """Raise RecordError when the call's log cannot hold *events* as well, which take *size* bytes at most."""
        # Only when repeats might explain the number or the size are the events themselves compared.
        size += self._size_at_most(session)
        if session.identities is None:
            count = session.stored_events + session.waiting + sum(map(len, session.parts)) + len(events)
            if count <= self._max_events and size <= self._max_log:
                session.size_at_most = size
                return
            session.identities = set(log_document.identities(self._known_events(session)))
            session.identities.update(*map(log_document.identities, session.parts))
        identified = zip(log_document.identities(events), events, strict=True)
        new = {identity: event for identity, event in identified if identity not in session.identities}
        if new and len(session.identities) + len(new) > self._max_events:
            raise RecordError(f"the call has more than {self._max_events} events")
        if session.size_is_exact or size > self._max_log:
            if not session.size_is_exact:
                known = log_document.merge(self._known_events(session), session.parts)
                session.size_at_most, session.size_is_exact = _packed_size(known), True
            size = self._size_at_most(session) + _packed_size(new.values())
            if new and size > self._max_log:
                raise RecordError(f"the call's log has more than {self._max_log} bytes")
        session.size_at_most = size
        session.identities.update(new)

    def _check_late(self, session: _Session, errors: tuple[Event, ...]) -> None:
        """As _check_log for *errors* of which some are not in the log."""
        if session.late_errors is None:
            session.late_errors = {
                bytes(identity): size for identity, size in self._tx.rows(_KNOWN_ERRORS, session.key)
            }
        merged = {**session.late_errors, **{identity: len(event.line) for identity, event in _identified(errors)}}
        if len(merged) > self._max_events:
            raise RecordError(f"the call has more than {self._max_events} errors")
        if sum(merged.values()) > self._max_log:
            raise RecordError(f"the call's errors have more than {self._max_log} characters")
        session.late_errors = merged

    def _size_at_most(self, session: _Session) -> int:
        """Bytes of the log of *session* that are surely not exceeded."""
        if session.size_at_most is None:
            session.size_at_most = session.waiting_large + session.waiting * _SMALL
            if session.stored_events:
                rows = self._tx.rows(_LOG_SIZE, {"account_id": session.account_id, "call_id": session.row_id})
                session.size_at_most += sum(size for (size,) in rows)
        return session.size_at_most

    def _known_events(self, session: _Session) -> list[Event]:
        """The events of a session that are in the store, but for those that its rows will tell again."""
        known: list[Event] = []
        if session.stored_events:
            for number, blob in self._tx.rows(_LOG, {"account_id": session.account_id, "call_id": session.row_id}):
                known = session.log = log_document.unpack(self._codec.decompress(self._tx, number, blob))
        if session.waiting:
            known = known + [_decode_event(event) for (event,) in self._tx.rows(_WAITING, session.key)]
        if session.unsaid:
            identified = zip(log_document.identities(known), known, strict=True)
            known = [event for identity, event in identified if identity not in session.unsaid]
        return known

    def _drop(self, sessions: Sequence[_Session]) -> None:
        """Forget calls that only rows told of which, with more of them, tell of another one instead."""
        for session in sessions:
            # What others sent of it waits, as it would have without that call.
            session.parts += [tuple(events)] if (events := self._known_events(session)) else []
        rows = [{"account_id": session.account_id, "id": session.row_id} for session in sessions]
        self._tx.each(_DROP, rows)
        self._tx.each(_DROP_LOG, rows)
        self._tx.each(_DROP_ERROR, (row for session in sessions for row in _unsaid_errors(session)))
        self._tx.each(_SHOW_ERRORS, map(_shown, sessions))
        self._tx.forget_words(session.row_id for session in sessions if session.row_id)
        self._count(*sessions)

    def _store(self, sessions: Sequence[_Session]) -> None:
        logs: dict[tuple[int, str], list[Event]] = {}
        inserted: list[_Session] = []
        updated: list[_Session] = []
        for session in sessions:
            events = session.stored_events
            if session.call is not None and session.call.is_complete:
                if session.parts or session.waiting or session.unsaid:
                    log = self._log(session)
                    events = len(log)
                    if events != session.stored_events or (session.unsaid and log != session.log):
                        logs[session.account_id, session.session_id] = log
            elif session.parts:
                session.changed = bool(self._tx.each(_WAIT, _waiting_rows(session)))
            has_changed = session.call != session.stored or (session.account_id, session.session_id) in logs
            if session.call is not None and has_changed:
                session.changed = True
                session.stored_events = events
                (updated if session.row_id else inserted).append(session)
        self._tx.each(_UPDATE, ({**_row(s), "id": s.row_id} for s in updated))
        ids = self._tx.each(_INSERT, ({**_row(s), "arrived": self._now} for s in inserted))
        for session, (row_id,) in zip(inserted, ids, strict=True):
            session.row_id = row_id
        self._store_logs([s for s in (*inserted, *updated) if (s.account_id, s.session_id) in logs], logs)
        self._tx.each(_MOVE_LOG, _moved_logs(updated))
        self._tx.each(_SHOW_ERRORS, (_shown(s) for s in (*inserted, *updated) if _errors_moved(s)))
        self._tx.each(_DROP_ERROR, (row for s in sessions if s.unsaid_errors for row in _unsaid_errors(s)))
        for session in sessions:
            if session.errors and self._tx.each(_ADD_ERROR, _error_rows(session)):
                session.changed = True
        self._count(*inserted, *updated)

    def _log(self, session: _Session) -> list[Event]:
        if not session.stored_events and not session.waiting and len(session.parts) == 1:
            return log_document.in_order(session.parts[0])
        return log_document.merge(self._known_events(session), session.parts)

    def _store_logs(self, sessions: Sequence[_Session], logs: dict[tuple[int, str], list[Event]]) -> None:
        rows, words = [], []
        for session in sessions:
            assert session.row_id is not None
            assert session.call is not None
            log = logs[session.account_id, session.session_id]
            packed = log_document.pack(log)
            dictionary, document = self._codec.compress(packed)
            rows.append(
                {
                    "call_id": session.row_id,
                    "account_id": session.account_id,
                    "ended": session.call.end,
                    "dictionary": dictionary,
                    "size": len(packed),
                    "document": document,
                }
            )
            words.append((session.row_id, " ".join([account_word(session.account_id), *(e.line for e in log)])))
        self._tx.each(_PUT_LOG, rows)
        self._tx.forget_words(session.row_id for session in sessions if session.was_complete and session.row_id)
        self._tx.index_words(words)
        self._tx.each(_DONE_WAITING, (session.key for session in sessions if session.waiting))

    def _count(self, *sessions: _Session) -> None:
        started: Counter[tuple[int, int]] = Counter()
        ended: Counter[tuple[int, int]] = Counter()
        for session in sessions:
            for call, calls_more in ((session.stored, -1), (session.call, 1)):
                if call is not None and call.start is not None and call.end is not None:
                    started[session.account_id, call.start] += calls_more
                    ended[session.account_id, call.end] += calls_more
        rollups.add(self._tx, started)
        rollups.add(self._tx, ended, rollups.END)

    def _quarantine(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        self._tx.each(
            _QUARANTINE,
            (
                {
                    "account_id": record.account.id,
                    "received": self._now,
                    "source": record.source,
                    "reason": outcome.refusal,
                    "digest": quarantine.digest_of(record.source, record.raw),
                    **quarantine.columns_of(record.raw),
                }
                for record, outcome in zip(records, outcomes, strict=True)
                if outcome.refusal is not None
            ),
        )


def _packed_size(events: Collection[Event]) -> int:
    return len(log_document.pack(list(events))) if events else 0


def _moved_logs(sessions: Iterable[_Session]) -> list[dict[str, Any]]:
    """The logs whose call now ends at another time, which decides when they expire."""
    return [
        {"account_id": s.account_id, "call_id": s.row_id, "ended": s.call.end}
        for s in sessions
        if s.stored_events and s.call and s.stored and s.call.end != s.stored.end
    ]


def _identified(events: Sequence[Event]) -> Iterable[tuple[bytes, Event]]:
    """*events* with a digest of the identity that callhouse.model.log gives each."""
    for identity, event in zip(log_document.identities(events), events, strict=True):
        yield hashlib.blake2b(identity, digest_size=16).digest(), event


def _waiting_rows(session: _Session) -> Iterable[dict[str, Any]]:
    for part in session.parts:
        for identity, event in _identified(part):
            encoded = _encode_event(event)
            columns = {"identity": identity, "timestamp": event.timestamp, "size": len(encoded), "event": encoded}
            yield {**session.key, **columns}


def _error_rows(session: _Session) -> Iterable[dict[str, Any]]:
    shown = _shown(session)
    for part in session.errors:
        for identity, event in _identified(part):
            timestamp, seq = event.position
            yield {**shown, "identity": identity, "timestamp": timestamp, "seq": seq, "line": event.line}


def _unsaid_errors(session: _Session) -> Iterable[dict[str, Any]]:
    """The errors that the call's rows told of and, joined with more of them, tell of no longer."""
    told = {identity for part in session.errors for identity, _ in _identified(part)}
    return ({**session.key, "identity": identity} for identity in session.unsaid_errors - told)


def _shown(session: _Session) -> dict[str, Any]:
    """The errors' key and what they repeat of their call, which shows them once it is complete."""
    call = session.call
    if call is None or not call.is_complete:
        return {**session.key, "started": None, "dest_key": None}
    return {**session.key, "started": call.start, "dest_key": None if call.dest is None else number_key(call.dest)}


def _errors_moved(session: _Session) -> bool:
    call, stored = session.call, session.stored
    if call is None or not call.is_complete:
        return False
    return stored is None or not stored.is_complete or (stored.start, stored.dest) != (call.start, call.dest)


def _row(session: _Session) -> dict[str, Any]:
    call = session.call
    assert call is not None
    row = msgspec.structs.asdict(call)
    if call.rate is not None:
        row["rate"] = str(call.rate)
    if call.amount is not None:
        row["amount"] = str(call.amount)
    if call.extra is not None:
        row["extra"] = msgspec.json.encode(call.extra).decode()
    row["account_id"] = session.account_id
    row["call_uuid"] = call.call_uuid or calls.derived_uuid(session.account_id, call.session_id)
    row["dest_key"] = None if call.dest is None else number_key(call.dest)
    row["cause_code"] = hangup.cause_code(call)
    row["event_count"] = session.stored_events
    return row


def _call(account_id: int, values: Sequence[Any]) -> Call:
    """The call as it was sent; what was derived is derived again when it is written."""
    fields = dict(zip(calls.FIELDS, values, strict=True))
    if fields["call_uuid"] == calls.derived_uuid(account_id, fields["session_id"]):
        fields["call_uuid"] = None
    for money in ("rate", "amount"):
        if fields[money] is not None:
            fields[money] = Decimal(fields[money])
    if fields["extra"] is not None:
        fields["extra"] = msgspec.json.decode(fields["extra"])
    return Call(**fields)
