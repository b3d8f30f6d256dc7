"""A caller's path through an IVR: what was said to him, what he answered, and where that led."""

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from callhouse.model.event import Event

Kind = Literal["prompt", "input", "silence", "transfer", "error"]
MOST_STEPS = 60
MOST_TEXT = 300

_INPUT = re.compile(r"User input: (.*?)(?: \(\w+\))?", re.DOTALL)
_SAID = re.compile(r" \(say-as: \w+\)$")
_DIGIT = re.compile(r"Digit (\S+)")
_SILENCES = frozenset(("No input", "No match"))
_TRANSFERS = frozenset(("transfer", "bridge", "dial", "queue", "blindtransfer", "attendedtransfer"))


class Step(msgspec.Struct):
    """*where* names the module it happened in, empty where that is not known; *at* is the instant in milliseconds."""

    kind: Kind
    where: str
    text: str
    at: int


def path(events: Sequence[Event]) -> list[Step]:
    """The steps of a call, the first MOST_STEPS."""
    steps: list[Step] = []
    for event in events:
        for kind, text in _said(event):
            where = _text(event.data.get("result_variable")) or _text(event.data.get("module_type"))
            last = steps[-1] if steps else None
            if last is not None and last.kind == kind and (kind == "input" and _DIGIT.fullmatch(event.line)):
                last.text += text
            elif last is not None and last.kind == kind == "prompt" and last.where == where:
                last.text = f"{last.text} {text}"[:MOST_TEXT]
            else:
                steps.append(Step(kind, where, text[:MOST_TEXT], event.timestamp))
        if len(steps) > MOST_STEPS:
            break
    return steps[:MOST_STEPS]


def _said(event: Event) -> list[tuple[Kind, str]]:
    """What an event adds to the path; most add nothing."""
    line = event.line
    if match := _INPUT.fullmatch(line) or _DIGIT.fullmatch(line):
        return [("input", match[1])]
    if line in _SILENCES:
        return [("silence", line)]
    if event.class_ == "error":
        return [("error", line)]
    if event.class_ == "prompt":
        answer = event.data.get("value") or event.data.get("result")
        answered: list[tuple[Kind, str]] = [("input", answer)] if isinstance(answer, str) and answer else []
        return [("prompt", _SAID.sub("", line)), *answered]
    if event.class_ == "info" and _text(event.data.get("module_type")).lower() in _TRANSFERS:
        return [("transfer", line)]
    return []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
