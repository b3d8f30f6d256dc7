"""What CEL and CDRs tell of a call, by channel."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

from callhouse.model.event import Event
from callhouse.sources.asterisk.call import Cause
from callhouse.sources.asterisk.events import details, event_of
from callhouse.sources.asterisk.rows import CdrRow, CelRow

NO_NUMBERS = frozenset(("", "h", "s", "t", "i", "e", "o", "a", "T", "failed"))
"""Extensions of the dialplan that nobody dials."""

_MEETINGS = frozenset(("ConfBridge", "MeetMe", "Park", "ParkedCall", "Pickup", "PickupChan", "Bridge"))
"""Applications in which channels meet that did not dial one another."""

_OF_CHANNEL = frozenset(("CHAN_START", "ANSWER", "BRIDGE_ENTER", "HANGUP", "CHAN_END"))
_OF_CALL = frozenset(("BLINDTRANSFER", "ATTENDEDTRANSFER", "LINKEDID_END"))
_time = attrgetter("time")


class Channel:
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
        self.other: Channel | None = None
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

    @property
    def entry(self) -> tuple[str | None, str]:
        """The number that the call on the channel entered the dialplan with, and the context.

        A channel that Asterisk itself dialled starts with what was dialled, and enters where it is sent when answered.
        """
        first = self.first
        if self.started and not self.was_dialled:
            if first.exten not in NO_NUMBERS:
                return first.exten, first.context
            number = next((row.exten for row in self.rows if row.exten not in NO_NUMBERS), None)
            return number or next((row.dnid for row in self.rows if row.dnid), None), first.context
        place = first.exten, first.context
        later = [row for row in self.rows if row.context and row.exten and (row.exten, row.context) != place]
        rows = later or self.rows[:1]
        return next((row.exten for row in rows if row.exten not in NO_NUMBERS), None), rows[0].context

    @property
    def was_dialled(self) -> bool:
        return any(app.startswith("AppDial") for app in {row.app for row in self.rows})


class Cel:
    """The rows of CEL of a call, by channel."""

    def __init__(self, group: str, rows: Sequence[CelRow]) -> None:
        self.rows = rows
        self.channels: dict[str, Channel] = {}
        self.transfers: list[CelRow] = []
        self.ended: int | None = None
        channels = self.channels
        renamed: dict[str, Channel] = {}
        for row in rows:
            channel = channels.get(row.uniqueid)
            if channel is None:
                channel = channels[row.uniqueid] = Channel(row)
            channel.rows.append(row)
            if row.channel != channel.name:
                # It took another one's place, as a channel does that picks up.
                renamed[row.channel] = channel
            if not channel.number and row.num:
                channel.number = row.num
            kind = row.kind
            if kind in _OF_CHANNEL:
                channel.take(row)
            elif kind in _OF_CALL:
                if kind == "LINKEDID_END":
                    self.ended = row.time
                else:
                    self.transfers.append(row)
        self.named = {**renamed, **{channel.name: channel for channel in channels.values()}}
        for channel in list(channels.values()):
            first = self.named.get(channel.name[:-1] + "1") if is_second_half(channel.name) else None
            if first is not None and first is not channel:
                first.other = channel
                del channels[channel.uniqueid]
        # A call that another one was joined to has channels, but not the one that it is named after.
        self.root = channels.get(group) or next(iter(channels.values()), None)
        # Where not even the call's own channel began, the rows begin too late, or CEL is told not to say so.
        self._has_begun = self.root is not None and self.root.started
        self.arrived: list[Channel] = []
        self.legs: list[Channel] = []
        for channel in channels.values():
            if channel is not self.root:
                (self.arrived if self.has_arrived(channel) else self.legs).append(channel)

    def has_arrived(self, channel: Channel) -> bool:
        """Whether *channel*, which is not the call's own, began in another call."""
        return self._has_begun and not channel.started and bool(channel.uniqueid)

    def went(self, channel: Channel) -> bool:
        """Whether *channel* is in another call when this one, which is over, has no channel left."""
        other = channel.other
        return self.ended is not None and channel.ended is None and (other is None or other.ended is None)

    def holder(self, name: str) -> Channel | None:
        """The channel called *name*, or that of which it is the second half."""
        found = self.named.get(name)
        if found is not None and found.uniqueid not in self.channels:
            return self.named[name[:-1] + "1"]
        return found


class Cdr:
    """The CDRs of a call: those of its own channel, and all by the channel that was dialled or that has no call yet."""

    def __init__(self, group: str, rows: Iterable[CdrRow]) -> None:
        self._group = group
        self.rows = sorted(_once(rows), key=attrgetter("sequence", "start", "end"))
        self.root = [row for row in self.rows if row.uniqueid == group and not is_second_half(row.channel)]
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
            if row.uniqueid != self._group and row.channel not in self.dialled and not is_second_half(row.channel):
                arrived.setdefault(row.uniqueid, []).append(row)
        return arrived

    @property
    def disposition(self) -> str:
        return disposition_of(self.root)


def disposition_of(cdrs: Sequence[CdrRow]) -> str:
    """What became of all that *cdrs* tell of; what a dialplan does after a Dial that failed says nothing of that."""
    if any(row.disposition == "ANSWERED" for row in cdrs):
        return "ANSWERED"
    said = [row.disposition for row in cdrs if row.dstchannel] or [row.disposition for row in cdrs]
    return said[-1] if said else ""


def is_half(channel: str) -> bool:
    return channel.startswith("Local/") and channel.endswith((";1", ";2"))


def is_second_half(channel: str) -> bool:
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
