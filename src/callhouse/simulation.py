"""Made-up calls for demos, tests and benchmarks: invented people walk through small IVR scripts.

The scripts are data; one walk serves them all. Everything is drawn from one seeded generator, so equal arguments give
equal calls. A million calls shall take seconds, hence scripts are compiled once, and a ``data`` object that never
varies is shared by all events that carry it: do not change one.
"""

import random
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from decimal import Decimal
from heapq import heappush, heapreplace
from itertools import accumulate
from typing import Any, NamedTuple

from callhouse.model.call import Call, Direction
from callhouse.model.event import Event
from callhouse.model.instant import DAY, HOUR, MINUTE, SECOND


class SimulatedCall(NamedTuple):
    """A finished leg and its log, oldest event first; a leg that nobody answered has no log."""

    call: Call
    events: tuple[Event, ...]


class Step(NamedTuple):
    """One module of a script; its *name* is the result variable.

    In texts, ``{order}`` stands for what was keyed in at the step *order*, ``{4#}`` for a 4 and any digit, and
    ``{red|blue}`` for either word. *answers* are what may be keyed in, how often, and the step it leads to. A module
    that works logs *does*, and when that *takes* its milliseconds, *done* with more data or, now and then, *fails*.
    The empty name of a step means the following one.
    """

    name: str
    module: str
    says: str = ""
    answers: tuple[tuple[str, int, str], ...] = ()
    does: str = ""
    done: tuple[str, dict[str, Any]] = ("", {})
    fails: str = ""
    takes: tuple[int, int] = (20, 900)
    then: str = ""


class Script(NamedTuple):
    """An application: the numbers it is reached at, and its steps, the last of which is the exit."""

    name: str
    version: str
    revision: int
    numbers: tuple[str, ...]
    steps: tuple[Step, ...]


HANG_UP = "(hang up)"
LEAVE = Step("leave", "exit", does="Exiting application", takes=(100, 900), then=HANG_UP)
JAVASCRIPT = "Executing JavaScript"

# fmt: off
ORDER_STATUS = Script("Order Status", "2.3", 61840, ("8005550100", "8005550101", "8885550117"), (
    Step("choice", "menu", "Harbor Lane Supply.  To trace an order, press 1.  For opening hours, 2.  For a person, 0.",
         (("1", 70, ""), ("2", 12, "hours"), ("0", 15, "desk"))),
    Step("order", "number", "Key in the seven digits of your order number.", (("4######", 1, ""),)),
    Step("lookup", "rest", does="Sending", takes=(90, 2600), fails="HTTP 503 from https://orders.example.com/v2",
         done=("Received", {"url": "https://orders.example.com/v2/{order}", "status": 200})),
    Step("arrival", "eval_js", does=JAVASCRIPT, fails="ReferenceError: shipped is not defined line 3"),
    Step("status", "prompt", "Your order {is being packed|left our warehouse|is out for delivery|waits for you}."),
    Step("copy", "yes_no", "Would you like this by e-mail?  Press 1 for yes or 2 for no.",
         (("true", 35, ""), ("false", 65, "thanks"))),
    Step("mail", "email", does="Sending", takes=(60, 700), done=("Sent", {
        "to": "buyer{####}@example.com", "subject": "Your order {order}", "body": "Order {order} is on its way."})),
    Step("thanks", "prompt", "That is all for this order.  Good-bye.", then="leave"),
    Step("hours", "prompt", "The counter is open from eight to six, Monday to Saturday.", then="leave"),
    Step("desk", "transfer", "One moment, a colleague will pick up.", does="Transferring call"),
    Step("nobody", "prompt", "Every line is taken just now.  Please try again in a while."),
    LEAVE,
))
CLINIC = Script("Clinic Appointments", "1.7", 62015, ("6175550110", "6175550111", "8885550142"), (
    Step("patient", "digits", "Maple Street Clinic.  Type the eight digits of your card.", (("20######", 1, ""),)),
    Step("record", "rest", does="Sending", takes=(120, 3100), fails="Timeout at https://booking.example.org/patients",
         done=("Received", {"url": "https://booking.example.org/patients/{patient}", "status": 200})),
    Step("wish", "menu", "To book a visit, press 1.  To call one off, press 2.  For the front desk, press 3.",
         (("1", 60, ""), ("2", 25, "cancelled"), ("3", 12, "desk"))),
    Step("day", "date", "On which day?  Two digits for the month, then two for the day.",
         (("031#", 1, ""), ("052#", 1, ""), ("091#", 1, ""), ("112#", 1, ""))),
    Step("offer", "yes_no", "We are free at {8:15|9:40|11:30|2:05|3:50}.  Press 1 to take it, or 2 for another day.",
         (("true", 80, ""), ("false", 20, "day"))),
    Step("notice", "email", does="Sending", takes=(60, 700), done=("Sent", {
        "to": "frontdesk@example.org", "subject": "Visit on {day}", "body": "Patient {patient} comes on {day}."})),
    Step("booked", "prompt", "You are in the book.  See you then.", then="leave"),
    Step("cancelled", "prompt", "Your visit is off the book.  Call again whenever you like.", then="leave"),
    Step("desk", "transfer", "Ringing the front desk for you.", does="Transferring call"),
    Step("nobody", "prompt", "The front desk is with a patient.  We shall ring you back."),
    LEAVE,
))
BALANCE = Script("Account Balance", "4.0", 61377, ("8775550123", "8775550124"), (
    Step("hello", "prompt", "Welcome to Quarry Savings."),
    Step("customer", "number", "Enter your six digit customer number.", (("######", 1, ""),)),
    Step("ledger", "rest", does="Sending", takes=(70, 1400), fails="HTTP 500 from https://core.example.net/ledger",
         done=("Received", {"url": "https://core.example.net/ledger/{customer}", "status": 200})),
    Step("total", "eval_js", does=JAVASCRIPT, fails="ReferenceError: pending is not defined line 8"),
    Step("balance", "prompt", "Your balance is {$1,4##.##|$8##.##|$6#.##}."),
    Step("more", "menu", "To hear it again, press 1.  For a banker, press 2.  To finish, press 3.",
         (("1", 20, "balance"), ("2", 11, "banker"), ("3", 67, "bye"))),
    Step("banker", "transfer", "Please stay on the line for a banker.", does="Transferring call"),
    Step("bye", "prompt", "Quarry Savings wishes you a pleasant day."),
    LEAVE,
))
AFTER_HOURS = Script("After Hours", "1.2", 60902, ("8005550130", "6175550131"), (
    Step("closed", "prompt", "You have reached Pell and Daughters.  The office is dark at this hour."),
    Step("urgent", "yes_no", "Is it urgent?  Press 1 if so, otherwise 2.", (("true", 30, ""), ("false", 70, "later"))),
    Step("callback", "digits", "At which number can we reach you?", (("617555####", 3, ""), ("508555####", 2, ""))),
    Step("page", "email", does="Sending", takes=(60, 700), done=("Sent", {
        "to": "oncall@example.com", "subject": "Urgent call", "body": "Please ring {callback}."})),
    Step("soon", "prompt", "Somebody will ring {callback} within the hour.", then="leave"),
    Step("later", "prompt", "We are back at nine in the morning.  Good night."),
    LEAVE,
))
REMINDER = Script("Visit Reminder", "1.1", 62044, ("6175550110",), (
    Step("coming", "yes_no", "Maple Street Clinic expects you at {8:15|9:40|2:05}.  Press 1 if you come, 2 if not.",
         (("true", 82, ""), ("false", 18, ""))),
    Step("update", "rest", does="Sending", takes=(80, 1500), fails="HTTP 502 from https://booking.example.org/visits",
         done=("Received", {"url": "https://booking.example.org/visits", "status": 204})),
    Step("noted", "prompt", "Thank you, we made a note of it."),
    LEAVE,
))
AGENT = Script("Agent Desk", "3.4", 61502, ("6175550180", "6175550181", "6175550182", "6175550183"), (
    Step("accept", "menu", "A caller is waiting.  Press 1 to be put through.", (("1", 1, ""),)),
    Step("talk", "transfer", does="Connecting parties", takes=(15 * SECOND, 9 * MINUTE), then=HANG_UP),
    LEAVE,
))
# fmt: on


class _Blank(NamedTuple):
    """A gap in a text; each of *options* is a format and the bounds of the numbers that go into it."""

    name: str
    options: tuple[tuple[str, tuple[int, ...]], ...]


class _Work(NamedTuple):
    """*data* has a gap at each key of *gaps*, to be filled with a format and its blanks."""

    does: str
    shortest: int
    spread: int
    fails: str
    done: str
    data: dict[str, Any]
    gaps: tuple[tuple[str, str, tuple[_Blank, ...]], ...]
    bridges: bool


class _Module(NamedTuple):
    """A step made ready to be walked; steps are known by their place, and _ENDED is none."""

    data: dict[str, Any]
    prompts: tuple[tuple[str, _Blank | None, dict[str, Any]], ...]
    speech: int
    odds: tuple[float, ...]
    answers: tuple[tuple[str, _Blank | None, int], ...]
    work: _Work | None
    then: int


class _Application(NamedTuple):
    script: Script
    title: str
    modules: tuple[_Module, ...]


_START: dict[str, Any] = {"module_type": "start", "result_variable": "start"}
_ENDED = -1
_NO_ANSWER = 0.06
_IN_BRACES = re.compile(r"\{(.+?)\}")
_DIGITS = re.compile(r"#+")


def _blank(text: str) -> _Blank:
    options = []
    for option in text.split("|"):
        lengths = [len(run) for run in _DIGITS.findall(option)]
        options.append((_DIGITS.sub(lambda run: f"%0{len(run[0])}d", option), tuple(10**n for n in lengths)))
    return _Blank(text, tuple(options))


def _prompts(step: Step, own: dict[str, Any], number: int) -> Iterator[tuple[str, _Blank | None, dict[str, Any]]]:
    """Cut what *step* says where a value is spoken: the platform logs each piece by itself."""
    revision = {"revision_id": str(number // 100), "prompt_id_type": "module"}
    for position, text in enumerate(_IN_BRACES.split(step.says)):
        if position % 2:
            yield "", _blank(text), {"type": "dynamic", "language": "en-US", **own}
        elif text:
            prompt = {**revision, "prompt_id": str(number + position), "language": "en-US"}
            yield text, None, {"type": "static", "has_audio": False, **prompt, **own}


def _work(step: Step, own: dict[str, Any]) -> _Work:
    line, data = step.done
    gaps = []
    for key, value in data.items():
        if blanks := _IN_BRACES.findall(str(value)):
            gaps.append((key, _IN_BRACES.sub("%s", value), tuple(_blank(text) for text in blanks)))
    bridges = step.module == "transfer" and step.then != HANG_UP
    shortest, longest = step.takes
    return _Work(step.does, shortest, longest - shortest, step.fails, line, {**data, **own}, tuple(gaps), bridges)


def _compile(script: Script) -> _Application:
    places = {step.name: place for place, step in enumerate(script.steps)} | {HANG_UP: _ENDED}
    modules = []
    for place, step in enumerate(script.steps):
        own = {"module_type": step.module, "result_variable": step.name}
        places[""] = place + 1
        shares = tuple(accumulate(often for _, often, _ in step.answers))
        odds = tuple(_NO_ANSWER + (1 - _NO_ANSWER) * share / shares[-1] for share in shares)
        answers = tuple((keys, _blank(keys) if "#" in keys else None, places[to]) for keys, _, to in step.answers)
        prompts = tuple(_prompts(step, own, script.revision * 100 + place * 5))
        work = _work(step, own) if step.does else None
        modules.append(_Module(own, prompts, 250 + 55 * len(step.says), odds, answers, work, places[step.then]))
    title = f'Executing application "{script.name}" version "{script.version}"'
    return _Application(script, title, tuple(modules))


class _Walk:
    """One person's way through an application, from the answer at *now* until a side hangs up.

    *bridge* makes a transfer leg at an instant and gives the instant of its end, or None when nobody takes it.
    """

    __slots__ = ("_bridge", "_heard", "_leave", "_random", "end", "events", "exited")

    def __init__(
        self, chance: Callable[[], float], application: _Application, now: int, bridge: Callable[[int], int | None]
    ) -> None:
        self._random = chance
        self._bridge = bridge
        self._heard: dict[str, str] = {}
        self._leave = len(application.modules) - 1
        self.events = [Event(now, None, "info", application.title, _START)]
        last, self.end = self._go(application.modules, now)
        self.exited = last == self._leave
        self.events.append(Event(self.end, None, "event", "Disconnecting call", application.modules[last].data))

    def _go(self, modules: tuple[_Module, ...], now: int) -> tuple[int, int]:
        """Pass from module to module; return the place of the one at which the call ended, and the instant."""
        log, chance, fill = self.events.append, self._random, self._fill
        here, following, failures = 0, 0, 0
        while following != _ENDED:
            here = following
            own, prompts, speech, odds, answers, work, following = modules[here]
            if prompts:
                for text, blank, data in prompts:
                    line = f"{fill(blank)} (say-as: prompt)" if blank else text
                    log(Event(now, None, "prompt", line, data))
                patience = chance()
                if patience < 0.025:
                    now += int(speech * patience * 40)
                    break
                # Who is asked something answers before the prompt is over as often as after it.
                now += int(speech * (0.4 + 0.6 * patience)) if odds else speech
            if odds:
                drawn = chance()
                if drawn < _NO_ANSWER:
                    failures += 1
                    now += 5 * SECOND if drawn < 0.04 else 2 * SECOND
                    log(Event(now, None, "event", "No input" if drawn < 0.04 else "No match", own))
                    following = here if failures < 3 else self._leave
                    continue
                keys, blank, following = answers[bisect_right(odds, drawn)]
                if blank:
                    keys = fill(blank)
                self._heard[own["result_variable"]] = keys
                now += int(500 + 300 * len(keys) + 3000 * chance())
                log(Event(now, None, "event", f"User input: {keys} (dtmf)", own))
            if work:
                now, following = self._work(work, own, now, following)
        return here, now

    def _work(self, work: _Work, own: dict[str, Any], now: int, following: int) -> tuple[int, int]:
        """Do what a module does; return the instant when it is done and the place of the next one."""
        drawn = self._random()
        self.events.append(Event(now, None, "info", work.does, own))
        now += work.shortest + int(work.spread * drawn**3)
        if work.fails and drawn > 0.988:
            self.events.append(Event(now, None, "error", work.fails, own))
            return now, self._leave
        if work.done:
            data = work.data
            if work.gaps:
                data = data.copy()
                for key, text, blanks in work.gaps:
                    data[key] = text % tuple([self._fill(blank) for blank in blanks])
            self.events.append(Event(now, None, "debug", work.done, data))
        return self._transfer(own, now, following) if work.bridges else (now, following)

    def _transfer(self, own: dict[str, Any], now: int, following: int) -> tuple[int, int]:
        end = self._bridge(now)
        if end is None:
            now += int(SECOND + 20 * SECOND * self._random())
            self.events.append(Event(now, None, "event", "Transfer result: noanswer", own))
            return now, following
        if self._random() < 0.5:
            return end, _ENDED
        self.events.append(Event(end, None, "event", "Transfer result: far_end_disconnect", own))
        return end, self._leave

    def _fill(self, blank: _Blank) -> str:
        name, options = blank
        if (known := self._heard.get(name)) is not None:
            return known
        text, bounds = options[int(self._random() * len(options))] if len(options) > 1 else options[0]
        return text % tuple([int(self._random() * bound) for bound in bounds]) if bounds else text


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


_INBOUND = tuple(_compile(script) for script in (ORDER_STATUS, CLINIC, BALANCE, AFTER_HOURS))
_SHARES = (0.40, 0.67, 0.88)
_OUTBOUND, _TRANSFER = _compile(REMINDER), _compile(AGENT)
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
    application: _Application
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
        walk = _Walk(self._random, leg.application, answer, bridge)
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

    def _number(self, application: _Application) -> str:
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
