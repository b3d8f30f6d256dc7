"""All rows known of a call → the call, the legs that it dialled and the transfers in it, each with its log.

Asterisk has no record of a call. It writes what each channel went through (CEL) and what pairs of channels had to do
with each other (CDR), and gives all channels of a call the same linkedid. CEL says more and comes first here: when the
call and its legs were answered, why they ended and who ended them. CDRs say the rest, or all of it where CEL is off.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

from callhouse.model.call import DIRECTIONS, Call, Direction
from callhouse.model.record import Part
from callhouse.sources.asterisk.call import CAUSES, NORMAL, Cause, call_of
from callhouse.sources.asterisk.channels import NO_NUMBERS, Cdr, Cel, Channel
from callhouse.sources.asterisk.legs import Legs
from callhouse.sources.asterisk.rows import CdrRow, CelRow, Lost, decode_rows

_OWN_FIELDS = frozenset(("direction", "sip_call_id"))
"""Variables of a CDR that are fields of a call."""

_DIALPLAN = "dialplan/builtin"
_HANDLER_CAUSE = re.compile(r"(?:(.*)/)?(\d{1,3})")
_NAME = re.compile(r'"(.*)" ?<.*>', re.DOTALL)
_time = attrgetter("time")

_SOON = 1_000_000
"""Microseconds within which one channel's end makes another's."""


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


def join(group: str, contents: Sequence[bytes], contexts: Contexts) -> list[Part]:
    """The calls that the rows of *group* are, whatever the order of *contents*; the call itself first.

    A call in progress has no log yet: its rows are still to be joined with others.
    """
    # The normal form sorts as bytes by what comes first and nearly by time, which makes the second sort a look.
    rows = decode_rows(b"[" + b",".join(sorted(contents)) + b"]")
    cel = Cel(group, sorted((row for row in rows if type(row) is CelRow), key=_time))
    cdr = Cdr(group, [row for row in rows if type(row) is CdrRow])
    return _Join(group, cel, cdr, contexts, lost=any(type(row) is Lost for row in rows)).parts()


class _Join:
    def __init__(self, group: str, cel: Cel, cdr: Cdr, contexts: Contexts, *, lost: bool) -> None:
        self._group = group
        self._cel = cel
        self._cdr = cdr
        self._contexts = contexts
        self._is_over = cel.ended is not None or bool(cdr.root) or lost
        self._is_lost = lost and cel.ended is None and not cdr.root
        times = [row.time for row in (*cel.rows[:1], *cel.rows[-1:])]
        times += [time for row in cdr.rows for time in (row.start, row.end)]
        self._first, self._last = min(times, default=0), max(times, default=0)

    def parts(self) -> list[Part]:
        if not self._cel.rows and not self._cdr.rows:
            return []
        call = self._call()
        parts = [self._part(call, self._cel.root)]
        legs = Legs(call, self._cel, self._cdr, self._last)
        parts += [self._part(legs.of_channel(channel), channel) for channel in self._cel.legs]
        known = self._cel.named
        for name, rows in self._cdr.legs.items():
            if name not in known and (self._cel.root is None or name != self._cel.root.name):
                parts.append(self._part(legs.of_cdrs(name, rows), None))
        parts += [self._part(legs.transfer(row), None) for row in self._cel.transfers]
        return parts

    def _part(self, call: Call, channel: Channel | None) -> Part:
        log = channel.log() if channel is not None and call.is_complete else ()
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
                end = max((row.end for row in cdrs), default=self._cel.ended)
        named = _variables(cdrs)
        said = named.get("direction", "").lower()
        cause, source = self._ending(answered=answer is not None, variables=named)
        return call_of(
            self._group,
            start=start,
            answer=answer,
            end=end,
            cause=cause if end is not None else None,
            source=source if end is not None else None,
            direction=next((d for d in DIRECTIONS if d == said), None) or self._contexts.direction(context),
            src=src,
            dest=dest,
            sip_call_id=named.get("sip_call_id"),
            channel=root.name if root is not None else first.channel if first is not None else None,
            hangup_cause_code=0 if self._is_lost else None,
            hangup_cause_name="Unknown" if self._is_lost else None,
            extra=self._extra(root, named, context),
        )

    def _parties(self, root: Channel | None, first: CdrRow | None) -> tuple[str | None, str | None, str]:
        """Who called whom, and the context in which the call entered the dialplan."""
        src = dest = None
        context = ""
        if root is not None:
            src = root.number or None
            dest, context = root.entry
        if first is not None:
            src = src or first.src or None
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
            if cause is None:
                status = root.said.get("dialstatus")
                status = status if isinstance(status, str) else ""
                if source == "caller" and not answered:
                    status = "CANCEL"
                cause = NORMAL if answered else CAUSES.get(self._cdr.disposition) or CAUSES.get(status)
            return cause, source
        found = _HANDLER_CAUSE.fullmatch(variables.get("hangupcause", ""))
        cause = (found[2], "q850") if found and 0 < int(found[2]) < 128 else None
        cause = cause or (NORMAL if answered else CAUSES.get(self._cdr.disposition))
        name = variables.get("hangupsource") or (found[1] if found else "") or ""
        return cause, self._who_is(name)

    def _who_is(self, name: str) -> str | None:
        """Which side of the call a hangupsource is, as a CDR names it."""
        if name == _DIALPLAN:
            return "switch"
        if any(row.channel == name for row in self._cdr.root):
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
                and 0 <= root.hangup.time - channel.hangup.time < _SOON
                and channel.source(channel.said)
            ]
            name = max(before, default=(0, ""))[1]
        holder = self._cel.holder(name)
        if holder is None:
            return "switch"
        return "caller" if holder is root else "callee"

    def _extra(self, root: Channel | None, variables: dict[str, str], context: str) -> dict[str, Any] | None:
        cdrs = self._cdr.root
        last = cdrs[-1] if cdrs else None
        name = next((row.name for row in root.rows if row.name), "") if root is not None else ""
        account = next((row.account for row in root.rows if row.account), "") if root is not None else ""
        extra = {"caller_name": name, "accountcode": account, "context": context}
        if last is not None:
            written = _NAME.fullmatch(last.clid)
            extra["caller_name"] = name or (written[1] if written else "")
            extra["accountcode"] = account or last.account
            extra["disposition"] = self._cdr.disposition
            extra["amaflags"] = last.ama
            extra["userfield"] = next((row.userfield for row in reversed(cdrs) if row.userfield), "")
            extra["peeraccount"] = next((row.peer_account for row in cdrs if row.peer_account), "")
            extra["lastapp"], extra["lastdata"] = last.app, last.appdata
        extra.update({name: value for name, value in variables.items() if name not in _OWN_FIELDS})
        return {name: value for name, value in extra.items() if value} or None


def _variables(rows: Iterable[CdrRow]) -> dict[str, str]:
    """The dialplan's own variables of a CDR; the last row has the last word."""
    variables: dict[str, str] = {}
    for row in rows:
        variables.update(row.variables)
    return variables
