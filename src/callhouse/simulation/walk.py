"""One person's way through a script, step by step, as the platform logs it.

A script is compiled once. A ``data`` object that never varies is shared by all events that carry it: do not change one.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from callhouse.model.event import Event
from callhouse.model.instant import SECOND
from callhouse.simulation.scripts import HANG_UP, Script, Step


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


class Application(NamedTuple):
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


def compile_script(script: Script) -> Application:
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
    return Application(script, title, tuple(modules))


class Walk:
    """One person's way through an application, from the answer at *now* until a side hangs up.

    *bridge* makes a transfer leg at an instant and gives the instant of its end, or None when nobody takes it.
    """

    __slots__ = ("_bridge", "_heard", "_leave", "_random", "end", "events", "exited")

    def __init__(
        self, chance: Callable[[], float], application: Application, now: int, bridge: Callable[[int], int | None]
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
