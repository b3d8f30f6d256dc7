"""Made-up calls for demos, tests and benchmarks: invented people walk through small IVR scripts.

Everything is drawn from one seeded generator, so equal arguments give equal calls. A ``data`` object that never varies
is shared by all events that carry it: do not change one.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator
from decimal import Decimal
from heapq import heappush, heapreplace
from itertools import accumulate
from typing import NamedTuple

from callhouse.model.call import Call, Direction
from callhouse.model.event import Event
from callhouse.model.instant import DAY, HOUR, MINUTE, SECOND
from callhouse.simulation.scripts import AFTER_HOURS, AGENT, BALANCE, CLINIC, ORDER_STATUS, REMINDER
from callhouse.simulation.walk import Application, Walk, compile_script


class SimulatedCall(NamedTuple):
    """A finished leg and its log, oldest event first; a leg that nobody answered has no log."""

    call: Call
    events: tuple[Event, ...]


_SITES = (("Boston", "203.0.113.10"), ("Dallas", "203.0.113.74"), ("Omaha", "203.0.113.9"), ("Reno", "203.0.113.202"))
_CHANNELS_PER_SERVER = 96


class _Channel(NamedTuple):
    name: str
    channel: str
    location: str
    source_ip: str


class _Channels:
    """The channels of the platform. As a channel is ready again only in a later second, no session id comes twice."""

    def __init__(self, chance: Callable[[], float], opened: int = 0) -> None:
        self._random = chance
        self._opened = opened
        self._ready: list[tuple[int, _Channel]] = []

    def occupy(self, start: int, end: int) -> tuple[str, _Channel]:
        """Take a channel that is ready, or a new one, from *start* to *end*; return the session id too."""
        second = start // SECOND
        again = end // SECOND + 1
        if self._ready and self._ready[0][0] <= second:
            ready, channel = heapreplace(self._ready, (again, self._ready[0][1]))
        else:
            ready, channel = 0, self._open()
            heappush(self._ready, (again, channel))
        return f"{channel.name}{max(ready, second - 5 - int(110 * self._random()))}", channel

    def _open(self) -> _Channel:
        rest, site = divmod(self._opened, len(_SITES))
        server, channel = divmod(rest, _CHANNELS_PER_SERVER)
        self._opened += 1
        return _Channel(f"{site + 1}{server:05d};{channel:03d};", str(channel), *_SITES[site])


_INBOUND = tuple(compile_script(script) for script in (ORDER_STATUS, CLINIC, BALANCE, AFTER_HOURS))
_SHARES = (0.40, 0.67, 0.88)
_OUTBOUND, _TRANSFER = compile_script(REMINDER), compile_script(AGENT)
_AREAS = ("212", "305", "312", "404", "415", "503", "508", "512", "602", "702", "713", "816")
_PEOPLE = 120_000
_RATES: dict[Direction, Decimal] = {
    "inbound": Decimal("0.00550"),
    "outbound": Decimal("0.01000"),
    "transfer": Decimal("0.00850"),
}
_CAUSES = {3000: "No Answer", 3010: "Busy Line", 4000: "Normal Hangup", 4010: "End Of XML Instructions"}


class _Leg(NamedTuple):
    """What is known of a leg when it starts."""

    direction: Direction
    application: Application
    src: str | None
    dest: str
    start: int
    call_uuid: str
    parent: str | None = None


class _Platform:
    """Makes one leg after the other, and keeps the channels they occupy."""

    def __init__(self, rng: random.Random, channels: _Channels) -> None:
        self._bits = rng.getrandbits
        self._random = rng.random
        self._channels = channels

    def legs(self, start: int, transfers_until: int) -> list[SimulatedCall]:
        """Make a call and, after it, its transfer leg if it has one; such a leg starts before *transfers_until*."""
        if self._random() < 0.13:
            return [self._outbound(start)]
        drawn = self._random()
        application = _INBOUND[bisect_right(_SHARES, drawn)]
        leg = _Leg("inbound", application, self._person(), self._number(application), start, self._uuid())
        transfers: list[SimulatedCall] = []

        def bridge(now: int) -> int | None:
            if now >= transfers_until or self._random() < 0.1:
                return None
            transfers.append(self._agent(leg, now))
            return transfers[-1].call.end

        return [self._answered(leg, start + 200 + int(700 * drawn), bridge), *transfers]

    def _outbound(self, start: int) -> SimulatedCall:
        drawn = self._random()
        src = self._number(_OUTBOUND) if self._random() < 0.7 else None
        leg = _Leg("outbound", _OUTBOUND, src, self._person(), start, self._uuid())
        if drawn < 0.08:
            return self._finished(leg, None, start + 900 + int(40_000 * drawn), 3010, "Callee")
        if drawn < 0.3:
            return self._finished(leg, None, start + 20_000 + int(90_000 * drawn), 3000, "Callee")
        return self._answered(leg, start + int(18_000 * drawn), lambda _: None)

    def _agent(self, parent: _Leg, start: int) -> SimulatedCall:
        dest = self._number(_TRANSFER)
        leg = _Leg("transfer", _TRANSFER, parent.src, dest, start, self._uuid(), parent.call_uuid)
        return self._answered(leg, start + 1500 + int(14_000 * self._random()), lambda _: None)

    def _answered(self, leg: _Leg, answer: int, bridge: Callable[[int], int | None]) -> SimulatedCall:
        walk = Walk(self._random, leg.application, answer, bridge)
        code, source = (4010, "Plivo") if walk.exited else (4000, "Caller" if leg.direction == "inbound" else "Callee")
        return self._finished(leg, answer, walk.end, code, source, tuple(walk.events))

    def _finished(
        self, leg: _Leg, answer: int | None, end: int, code: int, source: str, events: tuple[Event, ...] = ()
    ) -> SimulatedCall:
        session_id, channel = self._channels.occupy(leg.start, end)
        duration = 0 if answer is None else end - answer
        minutes = -(-duration // MINUTE)
        rate = _RATES[leg.direction]
        script = leg.application.script
        call = Call(
            session_id=session_id,
            call_uuid=leg.call_uuid,
            parent_call_uuid=leg.parent,
            direction=leg.direction,
            src=leg.src,
            dest=leg.dest,
            start=leg.start,
            answer=answer,
            end=end,
            duration=duration,
            billed_duration=minutes * MINUTE,
            hangup_cause_code=code,
            hangup_cause_name=_CAUSES[code],
            hangup_source=source,
            rate=rate,
            amount=rate * minutes,
            source_ip=channel.source_ip,
            application_name=script.name,
            application_version=script.version,
            location=channel.location,
            channel=channel.channel,
        )
        return SimulatedCall(call, events)

    def _person(self) -> str:
        """Draw somebody's number; a few people call often and most seldom."""
        line, area = divmod(int(_PEOPLE * self._random() ** 3), len(_AREAS))
        return f"{_AREAS[area]}555{line:04d}"

    def _number(self, application: Application) -> str:
        numbers = application.script.numbers
        return numbers[int(len(numbers) * self._random() ** 2)]

    def _uuid(self) -> str:
        digits = f"{self._bits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


# Calls are made in the daytime of North America, which begins at about 13:00 UTC.
_LOAD = (14, 10, 7, 5, 3, 2, 2, 2, 2, 3, 5, 9, 18, 34, 48, 54, 56, 52, 50, 52, 50, 42, 30, 20)
_LOAD_BEFORE = tuple(HOUR * load for load in accumulate(_LOAD, initial=0))


def _load_before(instant: int) -> int:
    """Sum up the load from 1970 to *instant*."""
    days, rest = divmod(instant, DAY)
    hour, rest = divmod(rest, HOUR)
    return days * _LOAD_BEFORE[-1] + _LOAD_BEFORE[hour] + rest * _LOAD[hour]


def _instant_after(load: int) -> int:
    """Invert _load_before."""
    days, rest = divmod(load, _LOAD_BEFORE[-1])
    hour = bisect_right(_LOAD_BEFORE, rest) - 1
    return days * DAY + hour * HOUR + (rest - _LOAD_BEFORE[hour]) // _LOAD[hour]


def calls(seed: int, count: int, since: int, until: int) -> Iterator[SimulatedCall]:
    """Make *count* finished calls whose starts are spread over ``[since, until)``, oldest first, busier by day.

    A transfer leg follows the call it belongs to, so it may start after the call behind it. The same arguments give the
    same calls, and no session_id comes twice.

    Raises ValueError when there are calls to place but no time to place them in.
    """
    if count > 0 and since >= until:
        raise ValueError("until must be after since")
    rng = random.Random(seed)  # noqa: S311  demo calls need no secrecy, and must come out the same again
    platform = _Platform(rng, _Channels(rng.random))
    first = _load_before(since)
    load = _load_before(until) - first
    made = 0
    while made < count:
        start = _instant_after(first + min(load - 1, int((made + rng.random()) / count * load)))
        legs = platform.legs(start, until if made + 1 < count else start)
        yield from legs
        made += len(legs)


def call_starting(rng: random.Random, start: int) -> SimulatedCall:
    """Make a finished call that starts at *start*, for live demos, on a channel that calls() would not use."""
    channels = _Channels(rng.random, opened=rng.randrange(20_000_000, 36_000_000))
    return _Platform(rng, channels).legs(start, start)[0]
