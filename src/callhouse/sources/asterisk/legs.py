"""The legs that a call dialled, and the transfers in it, as calls of their own."""

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from callhouse.model.call import Call
from callhouse.sources.asterisk.call import CAUSES, INTERWORKING, NORMAL, SOON, Cause, call_of
from callhouse.sources.asterisk.channels import NO_NUMBERS, Cdr, Cel, Channel, is_half
from callhouse.sources.asterisk.events import details
from callhouse.sources.asterisk.rows import CdrRow, CelRow

_REFUSALS: tuple[Cause, ...] = (("17", "q850"), ("21", "q850"))


class Legs:
    """The legs and transfers of *call*, as *cel* and *cdr* tell of them; *last* is the time of the last of all rows."""

    def __init__(self, call: Call, cel: Cel, cdr: Cdr, last: int) -> None:
        self._call = call
        self._group = call.session_id
        self._cel = cel
        self._cdr = cdr
        self._last = last

    def of_channel(self, leg: Channel) -> Call:
        """The leg on a channel that the call's dialled, or that came to the call with another one."""
        end = leg.ended
        if end is None and self._call.is_complete and not self._cel.went(leg):
            end = self._cel.ended or self._last
        written = self._cdr.dialled.get(leg.name, [])
        cause = leg.cause
        if cause is None and leg.hangup is not None:
            cause = NORMAL if leg.answered else next((CAUSES.get(row.disposition) for row in written), None)
            cause = cause or self._unanswered(leg.hangup.time)
        elif cause == INTERWORKING and leg.answered is None and self._call.hangup_original_code == "487":
            cause = CAUSES["CANCEL"]
        exten = leg.first.exten if leg.first.exten not in NO_NUMBERS else None
        return self._leg(
            self._id_of(leg),
            start=leg.first.time,
            answer=leg.answered,
            end=end,
            cause=cause if end is not None else None,
            source=self._leg_source(leg),
            dest=exten or self._number_of(leg.name),
            channel=leg.name,
        )

    def _unanswered(self, ended: int) -> Cause:
        """Why a leg that ended at *ended* without an answer and without a cause did so."""
        call = self._call
        gave_up = call.answer is None and call.hangup_source == "caller" and call.end is not None
        return CAUSES["CANCEL" if gave_up and (call.end or 0) * 1000 - ended < SOON else "NO ANSWER"]

    def of_cdrs(self, name: str, rows: Sequence[CdrRow]) -> Call:
        """The leg on a channel of which CDRs alone tell. What a Local channel did is in the CDR of its second half."""
        half = self._cdr.by_channel.get(name[:-1] + "2", ()) if is_half(name) else ()
        own = half or rows
        answers = [row.answer for row in own if row.answer is not None]
        answered = any(row.disposition == "ANSWERED" for row in rows)
        dest = next((row.dst for row in half if row.dst not in NO_NUMBERS), None)
        return self._leg(
            f"{self._group}/{name}",
            start=min(row.start for row in own),
            answer=min(answers) if answers and answered else None,
            # A leg may go on by itself, as after a transfer by the caller.
            end=max(row.end for row in (*own, *self._cdr.by_channel.get(name, ()))),
            cause=NORMAL if answered else next((CAUSES.get(row.disposition) for row in rows), None),
            source=None,
            dest=dest or self._number_of(name),
            channel=name,
        )

    def transfer(self, row: CelRow) -> Call:
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
        if end is None and self._call.is_complete:
            end = max(self._last, row.time)
        target = said.get("extension" if is_blind else "transfer_target_channel_name")
        dest = target if isinstance(target, str) else None
        if not is_blind and dest:
            leg = self._cel.holder(dest)
            dest = (leg.number if leg is not None else "") or self._number_of(dest)
        cause = who.cause or (NORMAL if answer is not None else None)
        return call_of(
            f"{self._group}/transfer/{row.time}",
            parent=self._id_of(who),
            direction="transfer",
            start=row.time,
            answer=answer,
            end=end,
            cause=cause if end is not None else None,
            source=None,
            src=who.number or self._call.src,
            dest=dest,
            channel=who.name,
        )

    def _leg(self, session_id: str, **fields: Any) -> Call:
        fields["start"] = max(fields["start"], (self._call.start or 0) * 1000)
        return call_of(session_id, parent=self._group, direction="outbound", src=self._call.src, **fields)

    def _id_of(self, channel: Channel) -> str:
        """The session id of the call on *channel*."""
        if channel is self._cel.root:
            return self._group
        if channel.uniqueid and (channel.started or self._cel.has_arrived(channel)):
            return channel.uniqueid
        return f"{self._group}/{channel.name}"

    def _leg_source(self, leg: Channel) -> str | None:
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

    def _number_of(self, channel: str) -> str | None:
        """The number that was dialled on *channel*, from the arguments of what dialled it, else the device's name."""
        technology, _, rest = channel.partition("/")
        dialled = None if technology == "Local" else self._dialled.get((technology, rest.rpartition("-")[0]))
        return dialled or device_of(channel)

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


def device_of(channel: str) -> str | None:
    """The device that *channel* goes to; of a Local channel the extension."""
    technology, _, rest = channel.partition("/")
    return (rest.partition("@")[0] if technology == "Local" else rest.rpartition("-")[0]) or None


def _dialled(target: str) -> tuple[str, str, str]:
    """Technology, device and number of what Dial is told: ``SIP/100@trunk``, ``SIP/trunk/100``, or a device alone."""
    technology, _, rest = target.partition("/")
    number, at, peer = rest.partition("@")
    if at:
        return technology, peer, number
    peer, _, number = rest.partition("/")
    return technology, peer, number
