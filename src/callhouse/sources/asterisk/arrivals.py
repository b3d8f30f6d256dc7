"""Calls that met this one: each began as one of its own, and the rows of this one tell how it ended."""

from collections.abc import Sequence

import msgspec

from callhouse.model.call import Call
from callhouse.sources.asterisk.call import CAUSES, NORMAL, call_of
from callhouse.sources.asterisk.channels import NO_NUMBERS, Cdr, Cel, Channel, disposition_of
from callhouse.sources.asterisk.dialplan import Contexts, extra_of, variables_of
from callhouse.sources.asterisk.rows import CdrRow


class Arrivals:
    """The calls that met *call*, as its *cel* and *cdr* tell of them; *last* is the time of the last of all rows."""

    def __init__(self, call: Call, cel: Cel, cdr: Cdr, contexts: Contexts, last: int) -> None:
        self._call = call
        self._cel = cel
        self._cdr = cdr
        self._contexts = contexts
        self._last = last

    def of_channel(self, channel: Channel) -> Call:
        """How the call of *channel* ended; its CDRs tell all of it."""
        end = channel.ended
        if end is None and self._call.is_complete and not self._cel.went(channel):
            end = self._last
        rows = self._cdr.arrived.get(channel.uniqueid)
        known = self.of_cdrs(rows) if rows else Call(session_id=channel.uniqueid, call_uuid=channel.uniqueid)
        code, scheme = (channel.cause or NORMAL or (None, None)) if end is not None else (None, None)
        return msgspec.structs.replace(
            known,
            end=None if end is None else max(end // 1000, known.start or 0, known.answer or 0),
            hangup_original_code=code,
            hangup_original_scheme=scheme,
            hangup_source=self._source(channel),
            conference_uuid=channel.conference,
            extra={**(known.extra or {}), "linkedid": self._call.session_id},
        )

    def of_cdrs(self, rows: Sequence[CdrRow]) -> Call:
        """The call that the CDRs of one channel are."""
        first, variables = rows[0], variables_of(rows)
        answer = min((row.answer for row in rows if row.answer is not None), default=None)
        extra = extra_of(None, rows, variables, first.context) or {}
        return call_of(
            first.uniqueid,
            start=min(row.start for row in rows),
            answer=answer,
            end=max(row.end for row in rows),
            cause=NORMAL if answer is not None else CAUSES.get(disposition_of(rows)),
            source=None,
            direction=self._contexts.direction(first.context, variables),
            src=next((row.src for row in rows if row.src), None),
            dest=next((row.dst for row in rows if row.dst not in NO_NUMBERS), None),
            sip_call_id=variables.get("sip_call_id"),
            channel=first.channel,
            extra={**extra, "linkedid": self._call.session_id},
        )

    def _source(self, channel: Channel) -> str | None:
        if channel.hangup is None:
            return None
        own, other = ("callee", "caller") if channel.was_dialled else ("caller", "callee")
        name = channel.source(channel.said)
        if name == channel.hangup.channel or name in channel.names:
            return own
        return other if self._cel.holder(name) is not None else "switch"
