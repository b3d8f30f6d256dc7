"""Where in an application a caller was last."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from callhouse.model.event import Event

_LONGEST = 100


class Step(NamedTuple):
    """A module of an application: its *name* (the result variable) and its *type*, as the log calls them."""

    name: str
    type: str


def last_step(events: Sequence[Event]) -> Step | None:
    """The module of the last of *events*, a call's log, that names one; None when none does."""
    for event in reversed(events):
        name = event.data.get("result_variable")
        if isinstance(name, str) and name:
            kind = event.data.get("module_type")
            return Step(name[:_LONGEST], kind[:_LONGEST] if isinstance(kind, str) else "")
    return None


def encode_step(step: Step) -> str:
    return msgspec.json.encode(step).decode()


def decode_step(text: str) -> Step:
    """What encode_step was given."""
    return msgspec.json.decode(text, type=Step)
