"""What a batch does to the logs of calls: how large one may grow, events that wait for their call's end, documents."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec

from callhouse.errors import RecordError
from callhouse.model import log as log_document
from callhouse.model.event import Event
from callhouse.model.step import encode_step, last_step
from callhouse.store.engine import Transaction
from callhouse.store.logs import LogCodec
from callhouse.store.session import Session, digest_of, identified

_ANY_WAITING = "SELECT 1 FROM waiting_events WHERE account_id = :account_id LIMIT 1"
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

WAITING = "SELECT event FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id ORDER BY id"
_WAIT = """
INSERT INTO waiting_events (account_id, session_id, identity, timestamp, size, event)
VALUES (:account_id, :session_id, :identity, :timestamp, :size, :event)
ON CONFLICT (account_id, session_id, identity) DO NOTHING RETURNING id
"""
_UNWAIT = """
DELETE FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id AND identity = :identity
"""
_DONE_WAITING = "DELETE FROM waiting_events WHERE account_id = :account_id AND session_id = :session_id"

_LOG = "SELECT dictionary, document FROM logs WHERE account_id = :account_id AND call_id = :call_id"
_LOG_SIZE = "SELECT size FROM logs WHERE account_id = :account_id AND call_id = :call_id"
_PUT_LOG = """
INSERT INTO logs (call_id, account_id, ended, dictionary, size, document)
VALUES (:call_id, :account_id, :ended, :dictionary, :size, :document)
"""
_MOVE_LOG = "UPDATE logs SET ended = :ended WHERE account_id = :account_id AND call_id = :call_id"
_DROP_LOG = "DELETE FROM logs WHERE account_id = :account_id AND call_id = :call_id"

_encode_event = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(Event).decode


def account_word(account_id: int) -> str:
    """The word that every log of an account is indexed under, so that a search reads no other account's."""
    return f"zaccount{account_id}z"


class LogWriter:
    """Reads and writes logs within *tx*; a log has at most *max_events*, and *max_log* bytes before compression."""

    def __init__(self, tx: Transaction, codec: LogCodec, *, max_events: int, max_log: int) -> None:
        self._tx = tx
        self._codec = codec
        self._max_events = max_events
        self._max_log = max_log

    def load_waiting(self, sessions: dict[tuple[int, str], Session]) -> None:
        """Let *sessions* know how many events of theirs wait."""
        accounts = {account_id for account_id, _ in sessions}
        waited_for = {each for each in accounts if self._tx.rows(_ANY_WAITING, {"account_id": each})}
        keys = (session.key for session in sessions.values() if session.account_id in waited_for)
        for account_id, session_id, waiting, large in self._tx.each(_COUNT_WAITING, keys):
            session = sessions[account_id, session_id]
            session.waiting, session.waiting_large = waiting, large

    def check(self, session: Session, events: tuple[Event, ...], length: int) -> None:
        """Raise RecordError when the call's log cannot hold *events*, read from *length* bytes, as well."""
        # Only when repeats might explain the number or the size are the events themselves compared.
        size = self._size_at_most(session) + GROWTH * length
        if session.identities is None:
            count = session.stored_events + session.waiting + sum(map(len, session.parts)) + len(events)
            if count <= self._max_events and size <= self._max_log:
                session.size_at_most = size
                return
            session.identities = set(log_document.identities(self.known(session)))
            session.identities.update(*map(log_document.identities, session.parts))
        identities = zip(log_document.identities(events), events, strict=True)
        new = {identity: event for identity, event in identities if identity not in session.identities}
        if new and len(session.identities) + len(new) > self._max_events:
            raise RecordError(f"the call has more than {self._max_events} events")
        if session.size_is_exact or size > self._max_log:
            if not session.size_is_exact:
                known = log_document.merge(self.known(session), session.parts)
                session.size_at_most, session.size_is_exact = _packed_size(known), True
            size = self._size_at_most(session) + _packed_size(new.values())
            if new and size > self._max_log:
                raise RecordError(f"the call's log has more than {self._max_log} bytes")
        session.size_at_most = size
        session.identities.update(new)

    def _size_at_most(self, session: Session) -> int:
        """Bytes of the log of *session* that are surely not exceeded."""
        if session.size_at_most is None:
            session.size_at_most = session.waiting_large + session.waiting * _SMALL
            if session.stored_events:
                rows = self._tx.rows(_LOG_SIZE, _place(session))
                session.size_at_most += sum(size for (size,) in rows)
        return session.size_at_most

    def known(self, session: Session) -> list[Event]:
        """The events of a session that are in the store, but for those that its rows will tell again."""
        known: list[Event] = []
        if session.stored_events:
            for number, blob in self._tx.rows(_LOG, _place(session)):
                known = session.stored_log = log_document.unpack(self._codec.decompress(self._tx, number, blob))
        if session.waiting:
            known = known + [_decode_event(event) for (event,) in self._tx.rows(WAITING, session.key)]
        if session.unsaid:
            identities = zip(log_document.identities(known), known, strict=True)
            known = [event for identity, event in identities if identity not in session.unsaid]
        return known

    def take_in(self, session: Session) -> None:
        """Let *session* know its log, if that of its complete call changes; other events wait for the call's end."""
        if not session.is_complete:
            if session.was_complete and session.call is not None:
                self._reopen(session)
            if session.waiting and session.unsaid:
                self._tx.each(_UNWAIT, _unsaid_waiting(session))
            if session.parts:
                session.changed = bool(self._tx.each(_WAIT, _waiting_rows(session)))
        elif session.parts or session.waiting or session.unsaid:
            log = self._log(session)
            if len(log) != session.stored_events or (session.unsaid and log != session.stored_log):
                session.log, session.stored_events = log, len(log)
                step = last_step(log)
                session.last_step = None if step is None else encode_step(step)

    def _reopen(self, session: Session) -> None:
        """Let the events of a call that turns out to be in progress wait for its end."""
        session.parts = [tuple(log_document.merge(self.known(session), session.parts))]
        session.stored_events = 0
        session.last_step = None
        self.drop([session])

    def _log(self, session: Session) -> list[Event]:
        if not session.stored_events and not session.waiting and len(session.parts) == 1:
            return log_document.in_order(session.parts[0])
        return log_document.merge(self.known(session), session.parts)

    def put(self, sessions: Sequence[Session]) -> None:
        """Store the logs of *sessions*, and let them be found by their words."""
        rows, words = [], []
        for session in sessions:
            assert session.row_id is not None
            assert session.call is not None
            assert session.log is not None
            packed = log_document.pack(session.log)
            dictionary, document = self._codec.compress(packed)
            rows.append(
                {
                    **_place(session),
                    "ended": session.call.end,
                    "dictionary": dictionary,
                    "size": len(packed),
                    "document": document,
                }
            )
            text = " ".join([account_word(session.account_id), *(e.line for e in session.log)])
            words.append((session.account_id, session.row_id, text))
        known = [session for session in sessions if session.stored is not None]
        self._tx.each(_DROP_LOG, map(_place, known))
        self._tx.each(_PUT_LOG, rows)
        self._tx.forget_words(_keys(session for session in known if session.was_complete))
        self._tx.index_words(words)
        self._tx.each(_DONE_WAITING, (session.key for session in sessions if session.waiting))

    def move(self, sessions: Iterable[Session]) -> None:
        """Let the logs of calls that now end at another time expire by that."""
        self._tx.each(
            _MOVE_LOG,
            [
                {**_place(s), "ended": s.call.end}
                for s in sessions
                if s.stored_events and s.call and s.stored and s.call.end != s.stored.end
            ],
        )

    def drop(self, sessions: Sequence[Session]) -> None:
        """Forget the logs of *sessions* and their words."""
        self._tx.each(_DROP_LOG, map(_place, sessions))
        self._tx.forget_words(_keys(sessions))


def _keys(sessions: Iterable[Session]) -> Iterable[tuple[int, int]]:
    return ((session.account_id, session.row_id) for session in sessions if session.row_id)


def _place(session: Session) -> dict[str, Any]:
    return {"account_id": session.account_id, "call_id": session.row_id}


def _unsaid_waiting(session: Session) -> Iterable[dict[str, Any]]:
    """The waiting events that the call's rows told of and, joined with more of them, may tell of in another way."""
    return ({**session.key, "identity": digest_of(identity)} for identity in session.unsaid)


def _packed_size(events: Collection[Event]) -> int:
    return len(log_document.pack(list(events))) if events else 0


def _waiting_rows(session: Session) -> Iterable[dict[str, Any]]:
    for part in session.parts:
        for identity, event in identified(part):
            encoded = _encode_event(event)
            columns = {"identity": identity, "timestamp": event.timestamp, "size": len(encoded), "event": encoded}
            yield {**session.key, **columns}
