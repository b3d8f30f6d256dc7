"""All rows known of a call → the call, the legs that it dialled and the transfers in it, each with its log.

Asterisk has no record of a call. It writes what each channel went through (CEL) and what pairs of channels had to do
with each other (CDR), and gives all channels of a call the same linkedid. CEL says more and comes first here: when the
call and its legs were answered, why they ended and who ended them. CDRs say the rest, or all of it where CEL is off.

A channel that meets another call (in a conference, by picking up, by fetching a parked call, after a consultation) gets
that one's linkedid from then on. It has a call of its own still: its first rows say how that began, and the rows of the
call that it came to, which say only that, how it ended.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import msgspec

from callhouse.model.call import DIRECTIONS, UNKNOWN_CAUSE, UNKNOWN_CAUSE_NAME, Call, CauseScheme, Direction
from callhouse.model.event import Event
from callhouse.model.record import Part
from callhouse.sources.asterisk.events import details, event_of
from callhouse.sources.asterisk.rows import CdrRow, CelRow, Lost, decode_rows

Cause = tuple[str, CauseScheme] | None
"""Why a call ended: a code and the standard that it is of."""

_NORMAL: Cause = ("16", "q850")
"""What chan_pjsip takes SIP's 487 for, among others."""

# The causes of what was not answered, where no channel says a better one. A caller who gives up has no Q.850 cause.
_CAUSES: Mapping[str, Cause] = {
    "BUSY": ("17", "q850"),
    "NO ANSWER": ("19", "q850"),
    "NOANSWER": ("19", "q850"),
    "CANCEL": ("487", "sip"),
    "CONGESTION": ("34", "q850"),
    "CHANUNAVAIL": ("38", "q850"),
    "FAILED": ("38", "q850"),
}
_REFUSALS: tuple[Cause, ...] = (("17", "q850"), ("21", "q850"))
_NO_NUMBERS = frozenset(("", "h", "s", "t", "i", "e", "o", "a", "T", "failed"))
"""Extensions of the dialplan that nobody dials."""

_OWN_FIELDS = frozenset(("direction", "sip_call_id"))
"""Variables of a CDR that are fields of a call."""

_MEETINGS = frozenset(("ConfBridge", "MeetMe", "Park", "ParkedCall", "Pickup", "PickupChan", "Bridge"))
"""Applications in which channels meet that did not dial one another."""

_INTERWORKING: Cause = ("127", "q850")
"""What chan_pjsip takes SIP's 487 for, among others."""

_NO_REASONS: tuple[Cause, ...] = (None, _NORMAL, _INTERWORKING)
"""Causes that a caller's channel may have when he gives up before anybody answers."""

_DIALPLAN = "dialplan/builtin"
_HANDLER_CAUSE = re.compile(r"(?:(.*)/)?(\d{1,3})")
_NAME = re.compile(r'"(.*)" ?<.*>', re.DOTALL)
_TRANSFERS = frozenset(("BLINDTRANSFER", "ATTENDEDTRANSFER"))
_time = attrgetter("time")


class Contexts:
    """The direction of a call by the context of the dialplan in which it began."""

    def __init__(self, inbound: Iterable[str], outbound: Iterable[str]) -> None:
        self._patterns: list[tuple[str, Direction]] = [(pattern, "inbound") for pattern in inbound]
        self._patterns += [(pattern, "outbound") for pattern in outbound]

    def direction(self, context: str) -> Direction | None:
        for pattern, direction in self._patterns:
            if context == pattern or (pattern.endswith("*") and context.startswith(pattern[:-1])):
                return direction
        return None


class _Channel:
    """A channel as CEL tells of it. What a Local channel's second half did (*other*) belongs to the first."""

    __slots__ = (
        "answered",
        "conference",
        "ended",
        "first",
        "hangup",
        "met",
        "name",
        "number",
        "other",
        "rows",
        "said",
        "started",
        "uniqueid",
    )

    def __init__(self, first: CelRow) -> None:
        self.first = first
        self.name = first.channel
        self.uniqueid = first.uniqueid
        self.rows: list[CelRow] = []
        self.number = ""
        self.met: list[int] = []
        self.started = False
        self.answered: int | None = None
        self.conference: str | None = None
        self.hangup: CelRow | None = None
        self.ended: int | None = None
        self.other: _Channel | None = None
        self.said: dict[str, Any] = {}

    def take(self, row: CelRow) -> None:
        kind = row.kind
        if kind == "CHAN_START":
            self.started = True
            # A clock that was set back sorts other rows before it.
            self.first = row
        elif kind == "ANSWER":
            if self.answered is None:
                self.answered = row.time
        elif kind == "BRIDGE_ENTER":
            self.met.append(row.time)
            if row.app == "ConfBridge":
                bridge = details(row.extra).get("bridge_id")
                self.conference = bridge if isinstance(bridge, str) else None
        elif kind == "HANGUP":
            self.hangup = row
            self.said = details(row.extra)
            self.ended = row.time
        elif kind == "CHAN_END" and self.hangup is None:
            self.ended = row.time

    @property
    def names(self) -> set[str]:
        return {self.name} if self.other is None else {self.name, self.other.name}

    @property
    def cause(self) -> Cause:
        """The Q.850 cause that the channel had; of a Local channel either half may have it."""
        for said in (self.said, {} if self.other is None else self.other.said):
            code = said.get("hangupcause")
            if type(code) is int and 0 < code < 128:
                return str(code), "q850"
        return None

    def source(self, said: Mapping[str, Any]) -> str:
        source = said.get("hangupsource")
        return source if isinstance(source, str) else ""

    def log(self) -> list[Event]:
        rows = self.rows
        if self.other is not None:
            rows = sorted((*rows, *self.other.rows), key=_time)
        name = self.name
        return [event_of(row, name) for row in rows]


class _Cel:
    """The rows of CEL of a call, by channel."""

    def __init__(self, group: str, rows: Sequence[CelRow]) -> None:
        self.rows = rows
        self.channels: dict[str, _Channel] = {}
        self.transfers: list[CelRow] = []
        self.ended: int | None = None
        channels = self.channels
        renamed: dict[str, _Channel] = {}
        for row in rows:
            channel = channels.get(row.uniqueid)
            if channel is None:
                channel = channels[row.uniqueid] = _Channel(row)
            channel.rows.append(row)
            if row.channel != channel.name:
                # It took another one's place, as a channel does that picks up.
                renamed[row.channel] = channel
            if row.num and not channel.number:
                channel.number = row.num
            kind = row.kind
            if kind in _OF_CHANNEL:
                channel.take(row)
            elif kind == "LINKEDID_END":
                self.ended = row.time
            elif kind in _TRANSFERS:
                self.transfers.append(row)
        self.named = {**renamed, **{channel.name: channel for channel in channels.values()}}
        for channel in list(channels.values()):
            first = self.named.get(channel.name[:-1] + "1") if _is_second_half(channel.name) else None
            if first is not None and first is not channel:
                first.other = channel
                del channels[channel.uniqueid]
        # A call that another one was joined to has channels, but not the one that it is named after.
        self.root = channels.get(group) or next(iter(channels.values()), None)
        others = [channel for channel in channels.values() if channel is not self.root]
        # Where not even the call's own channel began, the rows begin too late, or CEL is told not to say so.
        self._has_begun = self.root is not None and self.root.started
        self.arrived = [channel for channel in others if self.has_arrived(channel)]
        self.legs = [channel for channel in others if not self.has_arrived(channel)]

    def has_arrived(self, channel: _Channel) -> bool:
        """Whether *channel*, which is not the call's own, began in another call."""
        return self._has_begun and not channel.started and bool(channel.uniqueid)

    def went(self, channel: _Channel) -> bool:
        """Whether *channel* is in another call when this one, which is over, has no channel left."""
        halves = [half for half in (channel, channel.other) if half is not None]
        return self.ended is not None and all(half.ended is None for half in halves)

    def holder(self, name: str) -> _Channel | None:
        """The channel called *name*, or that of which it is the second half."""
        found = self.named.get(name)
        if found is not None and found.uniqueid not in self.channels:
            return self.named[name[:-1] + "1"]
        return found


_OF_CHANNEL = frozenset(("CHAN_START", "ANSWER", "BRIDGE_ENTER", "HANGUP", "CHAN_END"))


class _Cdr:
    """The CDRs of a call: those of its own channel, and all by the channel that was dialled or that has no call yet."""

    def __init__(self, group: str, rows: Iterable[CdrRow]) -> None:
        self._group = group
        self.rows = sorted(_once(rows), key=attrgetter("sequence", "start", "end"))
        self.root = [row for row in self.rows if row.uniqueid == group and not _is_second_half(row.channel)]
        self.by_channel: dict[str, list[CdrRow]] = {}
        for row in self.rows:
            self.by_channel.setdefault(row.channel, []).append(row)
        self.dialled: dict[str, list[CdrRow]] = {}
        for row in self.rows:
            if row.dstchannel and not self._met(row):
                self.dialled.setdefault(row.dstchannel, []).append(row)

    def _met(self, row: CdrRow) -> bool:
        """Whether the other channel of *row* came by itself."""
        own = self.by_channel.get(row.dstchannel, ())
        return row.app in _MEETINGS or any(other.uniqueid == self._group for other in own)

    @cached_property
    def arrived(self) -> dict[str, list[CdrRow]]:
        """The rows of each channel that has some and that nobody dialled, by uniqueid; but for the call's own, and
        second halves.
        """
        arrived: dict[str, list[CdrRow]] = {}
        for row in self.rows:
            if row.uniqueid != self._group and row.channel not in self.dialled and not _is_second_half(row.channel):
                arrived.setdefault(row.uniqueid, []).append(row)
        return arrived

    @property
    def disposition(self) -> str:
        """What became of the call: answered, if anything that it dialled was, else what is said last."""
        return _disposition(self.root)


def join(group: str, contents: Sequence[bytes], contexts: Contexts) -> list[Part]:
    """The calls that the rows of *group* are, whatever the order of *contents*; the call itself first.

    A call in progress has no log yet: its rows are still to be joined with others.
    """
    # The normal form sorts as bytes by what comes first and nearly by time, which makes the second sort a look.
    rows = decode_rows(b"[" + b",".join(sorted(contents)) + b"]")
    cel = _Cel(group, sorted((row for row in rows if type(row) is CelRow), key=_time))
    cdr = _Cdr(group, [row for row in rows if type(row) is CdrRow])
    return _Join(group, cel, cdr, contexts, lost=any(type(row) is Lost for row in rows)).parts()


class _Join:
    def __init__(self, group: str, cel: _Cel, cdr: _Cdr, contexts: Contexts, *, lost: bool) -> None:
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
        parts += [self._part(self._cel_leg(call, channel), channel) for channel in cel.legs]
        parts += [self._part(self._cel_arrival(channel), channel) for channel in cel.arrived]
        for name, rows in cdr.dialled.items():
            if name not in cel.named:
                parts.append(self._part(self._cdr_leg(call, name, rows), None))
        for uniqueid, rows in cdr.arrived.items():
            if uniqueid not in cel.channels:
                parts.append(self._part(self._cdr_arrival(rows), None))
        parts += [self._part(self._transfer(call, row), None) for row in cel.transfers]
        return parts

    def _part(self, call: Call, channel: _Channel | None) -> Part:
        if channel is None:
            return Part(session_id=call.session_id, call=call)
        # What a channel did in two calls is one log; each of them tells its half when it is over.
        went = self._cel.went(channel) and call.end is None
        log = channel.log() if call.end is not None or went else ()
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
        named = _variables(cdrs)
        said = named.get("direction", "").lower()
        cause, source = self._ending(answered=answer is not None, variables=named)
        placed = self._placed(root, first)
        if placed is not None and dest is None and end is not None and (answer is None or src is None):
            dest = self._number_of(placed)
        return _call(
            self._group,
            start=start,
            answer=answer,
            end=end,
            cause=cause if end is not None else None,
            source=source if end is not None else None,
            direction=next((d for d in DIRECTIONS if d == said), None)
            or self._contexts.direction(context)
            or ("outbound" if placed is not None else None),
            src=src,
            dest=dest,
            sip_call_id=named.get("sip_call_id"),
            channel=root.name if root is not None else first.channel if first is not None else None,
            conference_uuid=root.conference if root is not None else None,
            hangup_cause_code=UNKNOWN_CAUSE if self._is_lost else None,
            hangup_cause_name=UNKNOWN_CAUSE_NAME if self._is_lost else None,
            extra=self._extra(root, cdrs, named, context),
        )

    def _parties(self, root: _Channel | None, first: CdrRow | None) -> tuple[str | None, str | None, str]:
        """Who called whom, and the context in which the call entered the dialplan."""
        src = dest = None
        context = ""
        if root is not None:
            src = root.number or None
            dest, context = _entry(root)
            if dest is None:
                # A channel that was dialled starts with the number by which the one that dialled it came in.
                dialled = (row.exten for leg in self._cel.legs for row in leg.rows if row.app == "AppDial")
                dest = next((exten for exten in dialled if exten not in _NO_NUMBERS), None)
        if first is not None:
            src = src or next((row.src for row in (*self._cdr.root, first) if row.src), None)
            dest = dest or next((row.dst for row in self._cdr.root if row.dst not in _NO_NUMBERS), None)
            # A CDR is rewritten by transfers only as to whom was called.
            context = first.context or context
        return src, dest, context

    def _placed(self, root: _Channel | None, first: CdrRow | None) -> str | None:
        """The call's own channel, if Asterisk itself called there, as an Originate or a call file has it do."""
        if root is not None:
            return root.name if _was_dialled(root) else None
        if first is None:
            return None
        is_placed = first.app.startswith("AppDial") or first.dst == "failed" or _is_half(first.channel)
        return first.channel if is_placed else None

    def _ending(self, *, answered: bool, variables: Mapping[str, str]) -> tuple[Cause, str | None]:
        """Why the call ended, and who ended it."""
        root = self._cel.root
        if self._is_lost:
            return None, None
        if root is not None and root.hangup is not None:
            cause = root.cause
            source = self._who(root)
            if source == "caller" and not answered and cause in _NO_REASONS:
                cause = _CAUSES["CANCEL"]
            elif cause is None:
                status = root.said.get("dialstatus")
                status = status if isinstance(status, str) else ""
                found = _CAUSES.get(self._cdr.disposition) or _CAUSES.get(status) or _CAUSES["NO ANSWER"]
                cause = _NORMAL if answered else found
            return cause, source
        written = _HANDLER_CAUSE.fullmatch(variables.get("hangupcause", ""))
        cause = (written[2], "q850") if written and 0 < int(written[2]) < 128 else None
        cause = cause or (_NORMAL if answered else _CAUSES.get(self._cdr.disposition))
        name = variables.get("hangupsource") or (written[1] if written else "") or ""
        return cause, self._who_is(name)

    def _who_is(self, name: str) -> str | None:
        """Which side of the call a hangupsource is, as a CDR names it."""
        if name == _DIALPLAN:
            return "switch"
        if name and any(row.channel == name for row in self._cdr.root):
            return "caller"
        return "callee" if name in self._cdr.dialled else None

    def _who(self, root: _Channel) -> str:
        """Which side ended the call: who is named, else whose end came just before and was told."""
        name = root.source(root.said)
        if not name:
            assert root.hangup is not None
            before = [
                (channel.hangup.time, channel.name)
                for channel in self._cel.named.values()
                if channel.hangup is not None
                and channel is not root
                and 0 <= root.hangup.time - channel.hangup.time < _SOON
                and channel.source(channel.said)
            ]
            name = max(before, default=(0, ""))[1]
        holder = self._cel.holder(name)
        if holder is None:
            return "switch"
        return "caller" if holder is root else "callee"

    def _extra(
        self, root: _Channel | None, cdrs: Sequence[CdrRow], variables: dict[str, str], context: str
    ) -> dict[str, Any] | None:
        last = cdrs[-1] if cdrs else None
        name = next((row.name for row in root.rows if row.name), "") if root is not None else ""
        account = next((row.account for row in root.rows if row.account), "") if root is not None else ""
        extra = {"caller_name": name, "accountcode": account, "context": context}
        if last is not None:
            written = _NAME.fullmatch(last.clid)
            extra["caller_name"] = name or (written[1] if written else "")
            extra["accountcode"] = account or last.account
            extra["disposition"] = _disposition(cdrs)
            extra["amaflags"] = last.ama
            extra["userfield"] = next((row.userfield for row in reversed(cdrs) if row.userfield), "")
            extra["peeraccount"] = next((row.peer_account for row in cdrs if row.peer_account), "")
            extra["lastapp"], extra["lastdata"] = last.app, last.appdata
        extra.update({name: value for name, value in variables.items() if name not in _OWN_FIELDS})
        return {name: value for name, value in extra.items() if value} or None

    def _cel_leg(self, call: Call, leg: _Channel) -> Call:
        """The leg on a channel that the call's dialled, or that came to the call with another one."""
        end = leg.ended
        if end is None and self._is_over and not self._cel.went(leg):
            end = self._cel.ended or self._last
        written = self._cdr.dialled.get(leg.name, [])
        cause = leg.cause
        if cause is None and leg.hangup is not None:
            cause = _NORMAL if leg.answered else next((_CAUSES.get(row.disposition) for row in written), None)
            cause = cause or self._unanswered(call, leg.hangup.time)
        elif cause == _INTERWORKING and leg.answered is None and call.hangup_original_code == "487":
            cause = _CAUSES["CANCEL"]
        exten = leg.first.exten if leg.first.exten not in _NO_NUMBERS else None
        return self._leg(
            call,
            self._id_of(leg),
            start=leg.first.time,
            answer=leg.answered,
            end=end,
            cause=cause if end is not None else None,
            source=self._leg_source(leg),
            dest=exten or self._number_of(leg.name),
            channel=leg.name,
        )

    def _unanswered(self, call: Call, ended: int) -> Cause:
        """Why a leg of *call* that ended at *ended* without an answer and without a cause did so."""
        gave_up = call.answer is None and call.hangup_source == "caller" and call.end is not None
        return _CAUSES["CANCEL" if gave_up and (call.end or 0) * 1000 - ended < _SOON else "NO ANSWER"]

    def _cel_arrival(self, channel: _Channel) -> Call:
        """How the call of *channel* ended, which began as one of its own; its CDRs tell all of it."""
        end = channel.ended
        if end is None and self._is_over and not self._cel.went(channel):
            end = self._last
        rows = self._cdr.arrived.get(channel.uniqueid)
        known = self._cdr_arrival(rows) if rows else Call(session_id=channel.uniqueid, call_uuid=channel.uniqueid)
        code, scheme = (channel.cause or _NORMAL or (None, None)) if end is not None else (None, None)
        return msgspec.structs.replace(
            known,
            end=None if end is None else max(end // 1000, known.start or 0, known.answer or 0),
            hangup_original_code=code,
            hangup_original_scheme=scheme,
            hangup_source=self._arrival_source(channel),
            conference_uuid=channel.conference,
            extra={**(known.extra or {}), "linkedid": self._group},
        )

    def _arrival_source(self, channel: _Channel) -> str | None:
        if channel.hangup is None:
            return None
        own, other = ("callee", "caller") if _was_dialled(channel) else ("caller", "callee")
        name = channel.source(channel.said)
        if name == channel.hangup.channel or name in channel.names:
            return own
        return other if self._cel.holder(name) is not None else "switch"

    def _cdr_arrival(self, rows: Sequence[CdrRow]) -> Call:
        """The call of a channel that came to this one by itself, as its CDRs tell it."""
        first, named = rows[0], _variables(rows)
        answer = min((row.answer for row in rows if row.answer is not None), default=None)
        said = named.get("direction", "").lower()
        return _call(
            first.uniqueid,
            start=min(row.start for row in rows),
            answer=answer,
            end=max(row.end for row in rows),
            cause=_NORMAL if answer is not None else _CAUSES.get(_disposition(rows)),
            source=None,
            direction=next((d for d in DIRECTIONS if d == said), None) or self._contexts.direction(first.context),
            src=next((row.src for row in rows if row.src), None),
            dest=next((row.dst for row in rows if row.dst not in _NO_NUMBERS), None),
            sip_call_id=named.get("sip_call_id"),
            channel=first.channel,
            extra={**(self._extra(None, rows, named, first.context) or {}), "linkedid": self._group},
        )

    def _id_of(self, channel: _Channel) -> str:
        """The session id of the call on *channel*."""
        if channel is self._cel.root:
            return self._group
        if channel.uniqueid and (channel.started or self._cel.has_arrived(channel)):
            return channel.uniqueid
        return f"{self._group}/{channel.name}"

    def _leg_source(self, leg: _Channel) -> str | None:
        if leg.hangup is None:
            return None
        name = leg.source(leg.said)
        if not name and leg.other is not None:
            name = leg.other.name if leg.source(leg.other.said) else ""
        if name in leg.names or (name and self._cel.holder(name) is leg):
            return "callee"
        if name and self._cel.holder(name) is self._cel.root:
            return "caller"
        return "callee" if leg.cause in _REFUSALS else "switch"

    def _cdr_leg(self, call: Call, name: str, rows: Sequence[CdrRow]) -> Call:
        """The leg on a channel of which CDRs alone tell. What a Local channel did is in the CDR of its second half."""
        half = self._cdr.by_channel.get(name[:-1] + "2", ()) if _is_half(name) else ()
        own = half or rows
        answers = [row.answer for row in own if row.answer is not None]
        answered = any(row.disposition == "ANSWERED" for row in rows)
        dest = next((row.dst for row in half if row.dst not in _NO_NUMBERS), None)
        return self._leg(
            call,
            f"{self._group}/{name}",
            start=min(row.start for row in own),
            answer=min(answers) if answers and answered else None,
            # A leg may go on by itself, as after a transfer by the caller.
            end=max(row.end for row in (*own, *self._cdr.by_channel.get(name, ()))),
            cause=_NORMAL if answered else next((_CAUSES.get(row.disposition) for row in rows), None),
            source=None,
            dest=dest or self._number_of(name),
            channel=name,
        )

    def _leg(self, call: Call, session_id: str, **fields: Any) -> Call:
        fields["start"] = max(fields["start"], self._start_of(call))
        return _call(session_id, parent=self._group, direction="outbound", src=call.src, **fields)

    def _start_of(self, call: Call) -> int:
        return (call.start or 0) * 1000

    def _number_of(self, channel: str) -> str | None:
        """The number that was dialled on *channel*, from the arguments of what dialled it, else the device's name."""
        technology, _, rest = channel.partition("/")
        if technology == "Local":
            return rest.partition("@")[0] or None
        device = rest.rpartition("-")[0]
        return self._dialled.get((technology, device)) or device or None

    @cached_property
    def _dialled(self) -> dict[tuple[str, str], str]:
        """The number that the call dialled first on each device, by technology and name."""
        rows: list[CelRow | CdrRow] = [row for row in self._cel.rows if row.app == "Dial"]
        rows += [row for row in self._cdr.rows if row.app == "Dial"]
        numbers: dict[tuple[str, str], str] = {}
        for arguments in dict.fromkeys(row.appdata for row in rows):
            for target in arguments.partition(",")[0].split("&"):
                technology, device, number = _dialled(target)
                if number:
                    numbers.setdefault((technology, device), number)
        return numbers

    def _transfer(self, call: Call, row: CelRow) -> Call:
        """The conversation that a transfer began, as a call of its own: with whom, and for how long."""
        said = details(row.extra)
        named = said.get("transferee_channel_uniqueid")
        who = self._cel.channels.get(named) if isinstance(named, str) else None
        who = who or self._cel.root
        assert who is not None
        is_blind = row.kind == "BLINDTRANSFER"
        met = bisect_left(who.met, row.time)
        answer = next(iter(who.met[met : met + 1]), None) if is_blind else row.time
        end = who.ended if who.ended is not None and who.ended >= row.time else None
        if end is None and self._is_over:
            end = max(self._last, row.time)
        target = said.get("extension" if is_blind else "transfer_target_channel_name")
        dest = target if isinstance(target, str) else None
        if not is_blind and dest:
            leg = self._cel.holder(dest)
            dest = (leg.number if leg is not None else "") or self._number_of(dest)
        cause = who.cause or (_NORMAL if answer is not None else None)
        return _call(
            f"{self._group}/transfer/{row.time}",
            parent=self._id_of(who),
            direction="transfer",
            start=row.time,
            answer=answer,
            end=end,
            cause=cause if end is not None else None,
            source=None,
            src=who.number or call.src,
            dest=dest,
            channel=who.name,
        )


_SOON = 1_000_000
"""Microseconds within which one channel's end makes another's."""


def _call(
    session_id: str,
    *,
    start: int,
    answer: int | None,
    end: int | None,
    cause: Cause,
    source: str | None,
    parent: str | None = None,
    **fields: Any,
) -> Call:
    """A Call whose times, in microseconds, agree with each other, as those of rows of two kinds need not."""
    if answer is not None:
        answer = max(start, answer)
    if end is not None:
        end = max(start, answer or 0, end)
    began, picked_up, over = (None if time is None else time // 1000 for time in (start, answer, end))
    talk = None
    if over is not None:
        talk = 0 if picked_up is None else over - picked_up
    code, scheme = cause or (None, None)
    return Call(
        session_id=session_id,
        call_uuid=session_id,
        parent_call_uuid=parent,
        start=began,
        answer=picked_up,
        end=over,
        duration=talk,
        billed_duration=talk,
        hangup_original_code=code,
        hangup_original_scheme=scheme,
        hangup_source=source,
        **fields,
    )


def _entry(root: _Channel) -> tuple[str | None, str]:
    """The number that the call entered the dialplan with, and the context.

    A channel that Asterisk itself dialled starts with what was dialled, and enters where it is sent when answered.
    """
    first = root.first
    if root.started and not _was_dialled(root):
        if first.exten not in _NO_NUMBERS:
            return first.exten, first.context
        number = next((row.exten for row in root.rows if row.exten not in _NO_NUMBERS), None)
        return number or next((row.dnid for row in root.rows if row.dnid), None), first.context
    place = first.exten, first.context
    later = [row for row in root.rows if row.context and row.exten and (row.exten, row.context) != place]
    rows = later or root.rows[:1]
    return next((row.exten for row in rows if row.exten not in _NO_NUMBERS), None), rows[0].context


def _was_dialled(channel: _Channel) -> bool:
    return any(row.app.startswith("AppDial") for row in channel.rows)


def _dialled(target: str) -> tuple[str, str, str]:
    """Technology, device and number of what Dial is told: ``SIP/100@trunk``, ``SIP/trunk/100``, or a device alone."""
    technology, _, rest = target.partition("/")
    number, at, peer = rest.partition("@")
    if at:
        return technology, peer, number
    peer, _, number = rest.partition("/")
    return technology, peer, number


def _disposition(cdrs: Sequence[CdrRow]) -> str:
    """What became of all that *cdrs* tell of; what a dialplan does after a Dial that failed says nothing of that."""
    if any(row.disposition == "ANSWERED" for row in cdrs):
        return "ANSWERED"
    said = [row.disposition for row in cdrs if row.dstchannel] or [row.disposition for row in cdrs]
    return said[-1] if said else ""


def _is_half(channel: str) -> bool:
    return channel.startswith("Local/") and channel.endswith((";1", ";2"))


def _is_second_half(channel: str) -> bool:
    return channel.startswith("Local/") and channel.endswith(";2")


def _once(rows: Iterable[CdrRow]) -> Iterable[CdrRow]:
    """*rows*, of two that are the same one in different formats the one that says more."""
    best: dict[Any, CdrRow] = {}
    for number, row in enumerate(rows):
        key = (row.uniqueid, row.sequence) if row.sequence >= 0 else number
        if key not in best or _fullness(row) > _fullness(best[key]):
            best[key] = row
    return best.values()


def _fullness(row: CdrRow) -> tuple[bool, int]:
    return any(time % 1_000_000 for time in (row.start, row.answer or 0, row.end)), len(row.variables)


def _variables(rows: Iterable[CdrRow]) -> dict[str, str]:
    """The dialplan's own variables of a CDR; the last row has the last word."""
    variables: dict[str, str] = {}
    for row in rows:
        variables.update(row.variables)
    return variables
