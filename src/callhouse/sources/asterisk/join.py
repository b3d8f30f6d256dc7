"""All rows known of a call → the call, the legs that it dialled and the transfers in it, each with its log.

Asterisk has no record of a call. It writes what each channel went through (CEL) and what pairs of channels had to do
with each other (CDR), and gives all channels of a call the same linkedid. CEL says more and comes first here: when the
call and its legs were answered, why they ended and who ended them. CDRs say the rest, or all of it where CEL is off.

A channel that meets another call (in a conference, by picking up, by fetching a parked call, after a consultation) gets
that one's linkedid from then on. It has a call of its own still: its first rows say how that began, and the rows of the
call that it came to, which say only that, how it ended.
"""

import re
from collections.abc import Mapping, Sequence
from operator import attrgetter

from callhouse.model.call import UNKNOWN_CAUSE, UNKNOWN_CAUSE_NAME, Call
from callhouse.model.record import Part
from callhouse.sources.asterisk.arrivals import Arrivals
from callhouse.sources.asterisk.call import CAUSES, INTERWORKING, NORMAL, SOON, Cause, call_of
from callhouse.sources.asterisk.channels import NO_NUMBERS, Cdr, Cel, Channel, is_half
from callhouse.sources.asterisk.dialplan import Contexts, extra_of, variables_of
from callhouse.sources.asterisk.legs import Legs, device_of
from callhouse.sources.asterisk.rows import CdrRow, CelRow, decode_rows

_NO_REASONS: tuple[Cause, ...] = (None, NORMAL, INTERWORKING)
"""Causes that a caller's channel may have when he gives up before anybody answers."""

_DIALPLAN = "dialplan/builtin"
_HANDLER_CAUSE = re.compile(r"(?:(.*)/)?(\d{1,3})")
_time = attrgetter("time")


def join(group: str, contents: Sequence[bytes], contexts: Contexts) -> list[Part]:
    """The calls that the rows of *group* are, whatever the order of *contents*; the call itself first.

    A call in progress has no log yet: its rows are still to be joined with others.
    """
    # The normal form sorts as bytes by what comes first and nearly by time, which makes the second sort a look.
    rows = decode_rows(b"[" + b",".join(sorted(contents)) + b"]")
    of_cel = [row for row in rows if type(row) is CelRow]
    of_cel.sort(key=_time)
    of_cdr = [row for row in rows if type(row) is CdrRow]
    lost = len(of_cel) + len(of_cdr) < len(rows)
    return _Join(group, Cel(group, of_cel), Cdr(group, of_cdr), contexts, lost=lost).parts()


class _Join:
    def __init__(self, group: str, cel: Cel, cdr: Cdr, contexts: Contexts, *, lost: bool) -> None:
        self._group = group
        self._cel = cel
        self._cdr = cdr
        self._contexts = contexts
        self._is_over = cel.ended is not None or bool(cdr.root) or lost
        went = cel.root is not None and cel.went(cel.root)
        self._is_lost = lost and (cel.ended is None or went) and not cdr.root
        times = [row.time for row in (*cel.rows[:1], *cel.rows[-1:])]
        times += [time for row in cdr.rows for time in (row.start, row.end)]
        self._first, self._last = min(times, default=0), max(times, default=0)

    def parts(self) -> list[Part]:
        if not self._cel.rows and not self._cdr.rows:
            return []
        call = self._call()
        cel, cdr = self._cel, self._cdr
        parts = [self._part(call, cel.root)]
        legs = Legs(call, cel, cdr, self._last)
        parts += [self._part(legs.of_channel(channel), channel) for channel in cel.legs]
        arrivals = Arrivals(call, cel, cdr, self._contexts, self._last)
        parts += [self._part(arrivals.of_channel(channel), channel) for channel in cel.arrived]
        for name, rows in cdr.dialled.items():
            if name not in cel.named:
                parts.append(self._part(legs.of_cdrs(name, rows), None))
        for uniqueid, rows in cdr.arrived.items():
            if uniqueid not in cel.channels:
                parts.append(self._part(arrivals.of_cdrs(rows), None))
        parts += [self._part(legs.transfer(row), None) for row in cel.transfers]
        return parts

    def _part(self, call: Call, channel: Channel | None) -> Part:
        if channel is None:
            return Part(session_id=call.session_id, call=call)
        # What a channel did in two calls is one log; each of them tells its half when it is over.
        log = channel.log() if call.end is not None or self._cel.went(channel) else ()
        return Part(session_id=call.session_id, call=call, events=tuple(log))

    def _call(self) -> Call:
        root, cdrs = self._cel.root, self._cdr.root
        # Without any row of its own channel, a call is known by the first of the others.
        first = next(iter(cdrs), None if root is not None else next(iter(self._cdr.rows), None))
        src, dest, context = self._parties(root, first)
        start = self._first
        if root is not None and root.started and root.uniqueid == self._group:
            start = root.first.time
        answers = [row.answer for row in cdrs if row.answer is not None]
        answer = root.answered if root is not None and root.answered is not None else min(answers, default=None)
        end: int | None = None
        if self._is_lost:
            end = self._last
        elif self._is_over:
            end = root.ended if root is not None else None
            if end is None:
                went = root is not None and self._cel.went(root)
                end = max((row.end for row in cdrs), default=None if went else self._cel.ended)
        variables = variables_of(cdrs)
        cause, source = self._ending(answered=answer is not None, variables=variables)
        placed = _placed(root, first)
        if placed is not None and dest is None and end is not None and (answer is None or src is None):
            dest = device_of(placed)
        return call_of(
            self._group,
            start=start,
            answer=answer,
            end=end,
            cause=cause if end is not None else None,
            source=source if end is not None else None,
            direction=self._contexts.direction(context, variables) or ("outbound" if placed is not None else None),
            src=src,
            dest=dest,
            sip_call_id=variables.get("sip_call_id"),
            channel=root.name if root is not None else first.channel if first is not None else None,
            conference_uuid=root.conference if root is not None else None,
            hangup_cause_code=UNKNOWN_CAUSE if self._is_lost else None,
            hangup_cause_name=UNKNOWN_CAUSE_NAME if self._is_lost else None,
            extra=extra_of(root, cdrs, variables, context),
        )

    def _parties(self, root: Channel | None, first: CdrRow | None) -> tuple[str | None, str | None, str]:
        """Who called whom, and the context in which the call entered the dialplan."""
        src = dest = None
        context = ""
        if root is not None:
            src = root.number or None
            dest, context = root.entry
            if dest is None:
                # A channel that was dialled starts with the number by which the one that dialled it came in.
                dialled = (row.exten for leg in self._cel.legs for row in leg.rows if row.app == "AppDial")
                dest = next((exten for exten in dialled if exten not in NO_NUMBERS), None)
        if first is not None:
            src = src or next((row.src for row in (*self._cdr.root, first) if row.src), None)
            dest = dest or next((row.dst for row in self._cdr.root if row.dst not in NO_NUMBERS), None)
            # A CDR is rewritten by transfers only as to whom was called.
            context = first.context or context
        return src, dest, context

    def _ending(self, *, answered: bool, variables: Mapping[str, str]) -> tuple[Cause, str | None]:
        """Why the call ended, and who ended it."""
        root = self._cel.root
        if self._is_lost:
            return None, None
        if root is not None and root.hangup is not None:
            cause = root.cause
            source = self._who(root)
            if source == "caller" and not answered and cause in _NO_REASONS:
                cause = CAUSES["CANCEL"]
            elif cause is None:
                status = root.said.get("dialstatus")
                status = status if isinstance(status, str) else ""
                found = CAUSES.get(self._cdr.disposition) or CAUSES.get(status) or CAUSES["NO ANSWER"]
                cause = NORMAL if answered else found
            return cause, source
        written = _HANDLER_CAUSE.fullmatch(variables.get("hangupcause", ""))
        cause = (written[2], "q850") if written and 0 < int(written[2]) < 128 else None
        cause = cause or (NORMAL if answered else CAUSES.get(self._cdr.disposition))
        name = variables.get("hangupsource") or (written[1] if written else "") or ""
        return cause, self._who_is(name)

    def _who_is(self, name: str) -> str | None:
        """Which side of the call a hangupsource is, as a CDR names it."""
        if name == _DIALPLAN:
            return "switch"
        if name and any(row.channel == name for row in self._cdr.root):
            return "caller"
        return "callee" if name in self._cdr.dialled else None

    def _who(self, root: Channel) -> str:
        """Which side ended the call: who is named, else whose end came just before and was told."""
        name = root.source(root.said)
        if not name:
            assert root.hangup is not None
            before = [
                (channel.hangup.time, channel.name)
                for channel in self._cel.named.values()
                if channel.hangup is not None
                and channel is not root
                and 0 <= root.hangup.time - channel.hangup.time < SOON
                and channel.source(channel.said)
            ]
            name = max(before, default=(0, ""))[1]
        holder = self._cel.holder(name)
        if holder is None:
            return "switch"
        return "caller" if holder is root else "callee"


def _placed(root: Channel | None, first: CdrRow | None) -> str | None:
    """The call's own channel, if Asterisk itself called there, as an Originate or a call file has it do."""
    if root is not None:
        return root.name if root.was_dialled else None
    if first is None:
        return None
    is_placed = first.app.startswith("AppDial") or first.dst == "failed" or is_half(first.channel)
    return first.channel if is_placed else None
