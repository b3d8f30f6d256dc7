"""What one transaction makes of a batch of records: calls, their logs, the counts, the search index, the quarantine."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from callhouse.errors import RecordError
from callhouse.model import call as calls
from callhouse.model import log as log_document
from callhouse.model.account import Account
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.instant import format_duration
from callhouse.model.record import Outcome, Part, Record
from callhouse.store import arrivals, call_errors, call_rows, fragments, origins, quarantine, totals
from callhouse.store.engine import Transaction
from callhouse.store.fragments import Group
from callhouse.store.log_writer import LogWriter
from callhouse.store.logs import LogCodec
from callhouse.store.session import Session, identified
from callhouse.store.totals import Counted

_QUARANTINE = """
INSERT INTO quarantine (account_id, received, source, origin, reason, digest, size, preview, record)
VALUES (:account_id, :received, :source, :origin, :reason, :digest, :size, :preview, :record)
ON CONFLICT (account_id, digest) DO UPDATE
SET received = excluded.received, origin = excluded.origin, reason = excluded.reason
"""


class BatchWriter:
    """Applies one batch within *tx*."""

    def __init__(self, tx: Transaction, codec: LogCodec, *, now: int, max_events: int, max_log: int) -> None:
        self._tx = tx
        self._logs = LogWriter(tx, codec, max_events=max_events, max_log=max_log)
        self._now = now
        self._max_events = max_events
        self._max_log = max_log
        self._sessions: dict[tuple[int, str], Session] = {}
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
        kept: dict[tuple[int, str, bytes], tuple[Session | None, Outcome]] = {}
        applied: list[tuple[Session | None, Outcome, bool]] = []
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
        # Of a call that is gone there may still be events that wait, told by rows that tell of them no longer.
        self._store([s for s in self._sessions.values() if s.call is not None or s.parts or s.errors or s.unsaid])
        if groups:
            fragments.put(self._tx, groups, self._now)
        outcomes = [
            msgspec.structs.replace(
                outcome, repeated=again or not session.changed, is_new=not again and session.stored is None
            )
            if session
            else outcome
            for session, outcome, again in applied
        ]
        self._quarantine(records, outcomes)
        joined = ((group, [self._sessions[group.account.id, p.session_id] for p in group.says]) for group in groups)
        sessions = [session for session, _, _ in applied]
        arrivals.note(self._tx, list(zip(records, outcomes, sessions, strict=True)), joined, self._now)
        return outcomes

    def _applied(self, record: Record) -> tuple[Session | None, Outcome]:
        if not isinstance(record.read, Part):
            return None, Outcome(refusal=str(record.read))
        part = record.read
        session = self._sessions[record.account.id, part.session_id]
        before = session.call
        known = session.copy() if part.replaces_log and before is not None else None
        try:
            expired = self._apply(session, record.account, part, len(record.raw))
        except RecordError as error:
            if known is not None:
                session.restore(known)
            return None, Outcome(refusal=str(error))
        if part.events or session.call != before:
            session.came_from(record)
        if before is not None and session.call is not None:
            session.replaced += session.loses_events or calls.contradicts(before, session.call)
            session.loses_events = False
        return session, Outcome(expired_events=expired)

    def _load(self, records: Sequence[Record], groups: Sequence[Group]) -> None:
        names = [(r.account.id, r.read.session_id) for r in records if isinstance(r.read, Part)]
        names += [(group.account.id, part.session_id) for group in groups for part in (*group.said, *group.says)]
        for key in dict.fromkeys(names):
            self._sessions[key] = Session(*key)
        keys = [session.key for session in self._sessions.values()]
        for known in map(call_rows.known_of, self._tx.each(call_rows.KNOWN, keys)):
            session = self._sessions[known.account_id, known.call.session_id]
            session.row_id, session.stored, session.call = known.id, known.call, known.call
            session.stored_events, session.last_step = known.event_count, known.last_step
            session.counted = known.counted
        self._logs.load_waiting(self._sessions)

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
        else:
            for session in sessions.values():
                session.came_from(group.origin)
        group.expired_events = max(0, expired)

    def _unsay(self, session: Session, account: Account, part: Part) -> int:
        """Let *session* forget what *part* told of it; how many of its events had been too old."""
        events, errors, late = self._in_time(account, session.call, part.events)
        session.unsaid.update(log_document.identities(part.events))
        session.unsaid_errors.update(identity for identity, _ in identified(errors))
        if session.call is not None and part.call is not None:
            session.call = calls.unsaid(session.call, part.call)
        return len(part.events) - len(events) - len(late)

    def _apply(self, session: Session, account: Account, part: Part, length: int) -> int:
        """Let *session* take in what *part*, read from *length* bytes, says; how many of its events were too old.

        Raises RecordError.
        """
        calls_since, _, _ = self._since(account)
        call = session.call
        if part.call is not None:
            if call is None or part.replaces_call:
                call = part.call
                calls.check(call)
            else:
                call = calls.merge(call, part.call)
            if min(instant for instant in (call.start, call.end, self._now) if instant is not None) < calls_since:
                kept = format_duration(account.retention.calls)
                raise RecordError(f"the call is older than its retention of {kept}")
        events, errors, late = self._in_time(account, call, part.events) if part.events else ((), (), ())
        expired = len(part.events) - len(events) - len(late)
        if part.errors:
            errors = late = (*errors, *self._in_time(account, call, part.errors)[1])
        if part.events and not events and not errors and part.call is None:
            kept = format_duration(account.retention.details)
            raise RecordError(f"its events are older than their retention of {kept}")
        if part.replaces_log:
            self._forget(session, events, errors)
        if events:
            self._logs.check(session, events, length)
        if late:
            call_errors.check(self._tx, session, errors, max_errors=self._max_events, max_size=self._max_log)
        if events:
            session.parts.append(events)
        if errors:
            session.errors.append(errors)
        session.call = call
        return expired

    def _forget(self, session: Session, events: Sequence[Event], errors: Sequence[Event]) -> None:
        """Let *events* and *errors*, where there are any, take the place of those of *session*."""
        if events:
            known = log_document.identities(self._logs.known(session))
            session.loses_events = not {*known} <= {*log_document.identities(events)}
            session.unsaid.update(known)
            session.parts.clear()
            session.identities = None
        if events or errors:
            session.unsaid_errors.update(call_errors.known(self._tx, session))
            session.errors.clear()

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

    def _drop(self, sessions: Sequence[Session]) -> None:
        """Forget calls that only rows told of which, with more of them, tell of another one instead."""
        for session in sessions:
            # What others sent of it waits, as it would have without that call.
            session.parts += [tuple(events)] if (events := self._logs.known(session)) else []
        self._tx.each(call_rows.DROP, ({"account_id": s.account_id, "id": s.row_id} for s in sessions))
        self._logs.drop(sessions)
        call_errors.hide(self._tx, sessions)
        self._count([(session, None) for session in sessions])

    def _store(self, sessions: Sequence[Session]) -> None:
        inserted: list[Session] = []
        updated: list[Session] = []
        for session in sessions:
            self._logs.take_in(session)
            if session.call is not None and (session.call != session.stored or session.log is not None):
                session.changed = True
                (updated if session.row_id else inserted).append(session)
        rows = self._rows([*inserted, *updated])
        self._tx.each(call_rows.UPDATE, ({**rows[s], "id": s.row_id} for s in updated))
        ids = self._tx.each(call_rows.INSERT, (rows[s] for s in inserted))
        for session, (row_id,) in zip(inserted, ids, strict=True):
            session.row_id = row_id
        self._logs.put([s for s in (*inserted, *updated) if s.log is not None])
        self._logs.move(updated)
        call_errors.put(self._tx, sessions)
        self._count([(s, call_rows.counted_of(row) if s.is_complete else None) for s, row in rows.items()])

    def _rows(self, sessions: Sequence[Session]) -> dict[Session, dict[str, Any]]:
        """The columns of the calls of *sessions*; of those that are known already the first origin is not written."""
        known = origins.Ids(self._tx)
        rows = {}
        for session in sessions:
            rows[session] = row = _row(session)
            row["arrived"] = row["changed"] = self._now
            row["origin_id"] = row["changed_by"] = known.of(session.origin)
            if session.first_origin is not session.origin:
                row["origin_id"] = known.of(session.first_origin)
            row["replaced"] = session.replaced
        return rows

    def _count(self, sessions: Sequence[tuple[Session, Counted | None]]) -> None:
        """Change the totals by what is counted of *sessions* now and no longer what was."""
        gone: defaultdict[int, list[Counted]] = defaultdict(list)
        come: defaultdict[int, list[Counted]] = defaultdict(list)
        for session, counted in sessions:
            if counted != session.counted:
                if session.counted is not None:
                    gone[session.account_id].append(session.counted)
                if counted is not None:
                    come[session.account_id].append(counted)
        for account_id in sorted(gone.keys() | come.keys()):
            totals.add(self._tx, account_id, gone[account_id], come[account_id])

    def _quarantine(self, records: Sequence[Record], outcomes: Sequence[Outcome]) -> None:
        self._tx.each(
            _QUARANTINE,
            (
                {
                    "account_id": record.account.id,
                    "received": self._now,
                    "source": record.source,
                    "origin": record.origin,
                    "reason": outcome.refusal,
                    "digest": quarantine.digest_of(record.source, record.raw),
                    **quarantine.columns_of(record.raw),
                }
                for record, outcome in zip(records, outcomes, strict=True)
                if outcome.refusal is not None
            ),
        )


def _row(session: Session) -> dict[str, Any]:
    assert session.call is not None
    return call_rows.row_of(session.account_id, session.call, session.stored_events, session.last_step)
