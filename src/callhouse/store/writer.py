"""What one transaction makes of a batch of records: calls, their logs, the counts, the search index, the quarantine."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from callhouse.errors import RecordError
from callhouse.model import call as calls
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
_WRITTEN = {**COLUMNS, "dest_key": "dest_key", "event_count": "event_count", "arrived": "arrived"}
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
_COUNT_WAITING = """
SELECT account_id, session_id, count(*) FROM waiting_events
WHERE account_id = :account_id AND session_id = :session_id GROUP BY account_id, session_id
"""
_WAITING = "SELECT event FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id ORDER BY id"
_WAIT = """
INSERT INTO waiting_events (account_id, session_id, identity, timestamp, event)
VALUES (:account_id, :session_id, :identity, :timestamp, :event)
ON CONFLICT (account_id, session_id, identity) DO NOTHING RETURNING id
"""
_DONE_WAITING = "DELETE FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id"

_LOG = "SELECT dictionary, document FROM logs WHERE account_id = :account_id AND call_id = :call_id"
_PUT_LOG = """
INSERT INTO logs (call_id, account_id, ended, dictionary, document)
VALUES (:call_id, :account_id, :ended, :dictionary, :document)
ON CONFLICT (call_id) DO UPDATE
SET ended = excluded.ended, dictionary = excluded.dictionary, document = excluded.document
"""
_MOVE_LOG = "UPDATE logs SET ended = :ended WHERE account_id = :account_id AND call_id = :call_id"

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
        "identities",
        "log",
        "parts",
        "row_id",
        "session_id",
        "stored",
        "stored_events",
        "unsaid",
        "waiting",
    )

    def __init__(self, account_id: int, session_id: str) -> None:
        self.account_id = account_id
        self.session_id = session_id
        self.row_id: int | None = None
        self.stored: Call | None = None
        self.stored_events = 0
        self.waiting = 0
        self.call: Call | None = None
        self.parts: list[tuple[Event, ...]] = []
        # The events of the log that an earlier join of the call's rows told of, when it is joined again.
        self.unsaid: set[bytes] | None = None
        # The log as stored, once it was read.
        self.log: list[Event] = []
        # Known only once the number of events has come near its limit.
        self.identities: set[bytes] | None = None
        self.changed = False

    @property
    def was_complete(self) -> bool:
        return self.stored is not None and self.stored.is_complete

    @property
    def key(self) -> dict[str, Any]:
        return {"account_id": self.account_id, "session_id": self.session_id}


class BatchWriter:
    """Applies one batch within *tx*."""

    def __init__(self, tx: Transaction, codec: LogCodec, *, now: int, max_events: int) -> None:
        self._tx = tx
        self._codec = codec
        self._now = now
        self._max_events = max_events
        self._sessions: dict[tuple[int, str], _Session] = {}
        self._horizons: dict[int, tuple[int, int]] = {}

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
        self._drop([session for session in self._sessions.values() if session.call is None and session.row_id])
        self._store([session for session in self._sessions.values() if session.call is not None or session.parts])
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
            return session, Outcome(expired_events=self._apply(session, record.account, record.read))
        except RecordError as error:
            return None, Outcome(refusal=str(error))

    def _load(self, records: Sequence[Record], groups: Sequence[Group]) -> None:
        names = [(r.account.id, r.read.session_id) for r in records if isinstance(r.read, Part)]
        names += [(group.account.id, part.session_id) for group in groups for part in (*group.said, *group.says)]
        for key in dict.fromkeys(names):
            self._sessions[key] = _Session(*key)
        keys = [session.key for session in self._sessions.values()]
        for account_id, row_id, event_count, *values in self._tx.each(_KNOWN, keys):
            call = _call(values)
            session = self._sessions[account_id, call.session_id]
            session.row_id, session.stored, session.stored_events, session.call = row_id, call, event_count, call
        if self._tx.rows(_ANY_WAITING, {}):
            for account_id, session_id, waiting in self._tx.each(_COUNT_WAITING, keys):
                self._sessions[account_id, session_id].waiting = waiting

    def _rejoin(self, group: Group) -> None:
        """Let what the rows of *group* say replace what those of them that were here before said."""
        account = group.account
        sessions = {part.session_id: self._sessions[account.id, part.session_id] for part in group.said}
        sessions.update((part.session_id, self._sessions[account.id, part.session_id]) for part in group.says)
        before = [(session, session.call, list(session.parts), session.unsaid) for session in sessions.values()]
        try:
            for part in group.said:
                session = sessions[part.session_id]
                session.unsaid = (session.unsaid or set()) | set(log_document.identities(part.events))
                if session.call is not None and part.call is not None:
                    session.call = calls.unsaid(session.call, part.call)
            expired = sum(self._apply(sessions[part.session_id], account, part) for part in group.says)
        except RecordError as error:
            for session, session.call, session.parts, session.unsaid in before:
                session.identities = None
            group.refuse(str(error))
            return
        _, details_since = self._since(account)
        known = sum(len(p.events) for p in group.said if p.call and p.call.end and p.call.end < details_since)
        group.expired_events = max(0, expired - known)

    def _apply(self, session: _Session, account: Account, part: Part) -> int:
        """Let *session* take in what *part* says; how many of its events were too old. Raises RecordError."""
        calls_since, details_since = self._since(account)
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
        events = part.events
        if events:
            if call is not None and call.end is not None:
                events = events if call.end >= details_since else ()
            else:
                events = tuple(event for event in events if event.timestamp >= details_since)
            if not events and part.call is None:
                kept = format_duration(account.retention.details)
                raise RecordError(f"its events are older than their retention of {kept}")
        if events:
            self._check_count(session, events)
            session.parts.append(events)
        session.call = call
        return len(part.events) - len(events)

    def _since(self, account: Account) -> tuple[int, int]:
        """The earliest start of a call, and the earliest end of a call with a log, that *account* keeps."""
        if account.id not in self._horizons:
            retention = account.retention
            self._horizons[account.id] = retention.calls_since(self._now), retention.details_since(self._now)
        return self._horizons[account.id]

    def _check_count(self, session: _Session, events: tuple[Event, ...]) -> None:
        # Only when repeats might explain the number are the events themselves compared.
        if session.identities is None:
            count = session.stored_events + session.waiting + sum(map(len, session.parts)) + len(events)
            if count <= self._max_events:
                return
            session.identities = set(log_document.identities(self._known_events(session)))
            session.identities.update(*map(log_document.identities, session.parts))
        new = [identity for identity in log_document.identities(events) if identity not in session.identities]
        if len(session.identities) + len(new) > self._max_events:
            raise RecordError(f"the call has more than {self._max_events} events")
        session.identities.update(new)

    def _known_events(self, session: _Session) -> list[Event]:
        """The events of a session that are in the store, but for those that its rows will tell again."""
        known: list[Event] = []
        if session.stored_events:
            for number, blob in self._tx.rows(_LOG, {"account_id": session.account_id, "call_id": session.row_id}):
                known = session.log = log_document.unpack(self._codec.decompress(self._tx, number, blob))
        if session.waiting:
            known = known + [_decode_event(event) for (event,) in self._tx.rows(_WAITING, session.key)]
        if session.unsaid:
            named = zip(log_document.identities(known), known, strict=True)
            known = [event for identity, event in named if identity not in session.unsaid]
        return known

    def _drop(self, sessions: Sequence[_Session]) -> None:
        """Forget calls that only rows told of which, with more of them, tell of another one instead."""
        for session in sessions:
            # What others sent of it waits, as it would have without that call.
            session.parts += [tuple(events)] if (events := self._known_events(session)) else []
        rows = [{"account_id": session.account_id, "id": session.row_id} for session in sessions]
        self._tx.each(_DROP, rows)
        self._tx.each(_DROP_LOG, rows)
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
            dictionary, document = self._codec.compress(log_document.pack(log))
            rows.append(
                {
                    "call_id": session.row_id,
                    "account_id": session.account_id,
                    "ended": session.call.end,
                    "dictionary": dictionary,
                    "document": document,
                }
            )
            words.append((session.row_id, " ".join([account_word(session.account_id), *(e.line for e in log)])))
        self._tx.each(_PUT_LOG, rows)
        self._tx.forget_words(session.row_id for session in sessions if session.was_complete and session.row_id)
        self._tx.index_words(words)
        self._tx.each(_DONE_WAITING, (session.key for session in sessions if session.waiting))

    def _count(self, *sessions: _Session) -> None:
        differences: Counter[tuple[int, int]] = Counter()
        for session in sessions:
            for call, calls_more in ((session.stored, -1), (session.call, 1)):
                if call is not None and call.is_complete and call.start is not None:
                    differences[session.account_id, call.start] += calls_more
        rollups.add(self._tx, differences)

    def _quarantine(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        self._tx.each(
            _QUARANTINE,
            (
                {
                    "account_id": record.account.id,
                    "received": self._now,
                    "source": record.source,
                    "reason": outcome.refusal,
                    "digest": hashlib.blake2b(record.raw, digest_size=16, person=record.source.encode()[:16]).digest(),
                    **quarantine.columns_of(record.raw),
                }
                for record, outcome in zip(records, outcomes, strict=True)
                if outcome.refusal is not None
            ),
        )


def _moved_logs(sessions: Iterable[_Session]) -> list[dict[str, Any]]:
    """The logs whose call now ends at another time, which decides when they expire."""
    return [
        {"account_id": s.account_id, "call_id": s.row_id, "ended": s.call.end}
        for s in sessions
        if s.stored_events and s.call and s.stored and s.call.end != s.stored.end
    ]


def _waiting_rows(session: _Session) -> Iterable[dict[str, Any]]:
    for part in session.parts:
        for identity, event in zip(log_document.identities(part), part, strict=True):
            digest = hashlib.blake2b(identity, digest_size=16).digest()
            encoded = _encode_event(event)
            yield {**session.key, "identity": digest, "timestamp": event.timestamp, "event": encoded}


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
    row["dest_key"] = None if call.dest is None else number_key(call.dest)
    row["event_count"] = session.stored_events
    return row


def _call(values: Sequence[Any]) -> Call:
    fields = dict(zip(calls.FIELDS, values, strict=True))
    for money in ("rate", "amount"):
        if fields[money] is not None:
            fields[money] = Decimal(fields[money])
    if fields["extra"] is not None:
        fields["extra"] = msgspec.json.decode(fields["extra"])
    return Call(**fields)
