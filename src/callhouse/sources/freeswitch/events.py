"""The applications that a leg ran → Events: what was played, asked and pressed."""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from callhouse.model.event import Event, EventClass
from callhouse.model.instant import MAX_SECONDS, SECOND

_PROMPTS = (
    *("playback", "loop_playback", "endless_playback", "play_and_get_digits", "play_and_detect_speech", "read"),
    *("say", "speak", "phrase", "ivr", "gentones"),
)
_CLASSES: dict[str, EventClass] = {
    **dict.fromkeys(_PROMPTS, "prompt"),
    **dict.fromkeys(("set", "export", "unset", "hash", "sleep"), "debug"),
}
_LEVELS: dict[str, EventClass] = {
    **dict.fromkeys(("ERR", "ERROR", "CRIT", "ALERT", "1", "2", "3"), "error"),
    **dict.fromkeys(("DEBUG", "7"), "debug"),
}
_RESULT_ARGUMENT = {"play_and_get_digits": 8, "read": 4}
"""Which argument, from 1, names the variable that takes what the caller pressed."""

_RESULT_VARIABLE = {"play_and_detect_speech": "detect_speech_result"}
"""The variable that an application always has its result in."""

_ARGUMENT = re.compile(r"'[^']*'|\S+")
_PAIR = re.compile(r"(?:^|\s)([A-Za-z_][\w.-]*)=(\S*)")
_FEW = 50
"""Pairs of a line of the log that are taken apart."""


class _Variables(Protocol):
    def __getitem__(self, name: str) -> str: ...


def events_of(
    applications: Sequence[Mapping[str, Any]], variables: _Variables, *, start: int, end: int
) -> tuple[Event, ...]:
    """An event for each of *applications*, which stand in order; *start* and *end* are those of the leg, in ms.

    A variable keeps only what was written to it last, so only the last application that wrote it shows its value.
    """
    steps = [_Step(application) for application in applications]
    stamps = _stamps(steps, start)
    following = [*stamps[1:], max(end * 1_000, stamps[-1])] if stamps else []
    last_of = {step.variable: index for index, step in enumerate(steps) if step.variable}
    last_read = max((i for i, step in enumerate(steps) if step.name in _RESULT_ARGUMENT), default=None)
    last_bridge = max((i for i, step in enumerate(steps) if step.name == "bridge"), default=None)
    events = []
    for index, (step, stamp, after) in enumerate(zip(steps, stamps, following, strict=True)):
        data = step.data
        class_ = step.class_
        data.setdefault("duration", max(0, after - stamp) / 1_000_000)
        if step.variable and last_of[step.variable] == index and (value := variables[step.variable]):
            data["value"] = value
        if index == last_read and variables["read_result"]:
            data["result"] = variables["read_result"]
        if index == last_bridge and (result := variables["originate_disposition"]):
            data["result"] = result
            # Who gives up before anybody answers is no error.
            class_ = class_ if result in {"SUCCESS", "ORIGINATOR_CANCEL"} else "error"
        # The Fuse API promises these two, and shows them last.
        data["module_type"] = data.pop("module_type", step.name)
        data["result_variable"] = data.pop("result_variable", step.variable)
        events.append(Event(stamp // 1_000, index, class_, f"{step.name}({step.arguments})", data))
    return tuple(events)


class _Step:
    """One application that was run."""

    __slots__ = ("arguments", "class_", "data", "name", "stamp", "variable")

    def __init__(self, application: Mapping[str, Any]) -> None:
        self.name = _text(application.get("app_name"))
        self.arguments = _text(application.get("app_data"))
        self.stamp = _text(application.get("app_stamp"))
        self.class_: EventClass = _CLASSES.get(self.name, "info")
        self.variable = _RESULT_VARIABLE.get(self.name, "")
        self.data: dict[str, Any] = {}
        if self.name == "log":
            self._read_log()
        elif self.name in {"set", "export"}:
            name, _, value = self.arguments.removeprefix("nolocal:").partition("=")
            self.data = {"value": value, "result_variable": name}
        elif argument := _RESULT_ARGUMENT.get(self.name):
            named = list(islice(_ARGUMENT.finditer(self.arguments), argument))[argument - 1 :]
            self.variable = named[0][0].strip("'") if named else ""

    def _read_log(self) -> None:
        """The first word is the level; an author of an IVR may put pairs into the rest, ``menu=main choice=2``."""
        level, _, text = self.arguments.strip().partition(" ")
        self.class_ = _LEVELS.get(level.upper(), "info")
        self.data = {"level": level} | {pair[1]: pair[2] for pair in islice(_PAIR.finditer(text), _FEW)}


def _stamps(steps: Sequence[_Step], start: int) -> list[int]:
    """When each of *steps* began, in microseconds; one that does not say so began with the one before it."""
    stamps = []
    stamp = start * 1_000
    for step in steps:
        if step.stamp.isascii() and step.stamp.isdigit() and len(step.stamp) <= 18:
            stamp = min(int(step.stamp), MAX_SECONDS * SECOND * 1_000 - 1)
        stamps.append(stamp)
    return stamps


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
