"""Event: one step of a call."""

from typing import Any, Literal, get_args

import msgspec

EventClass = Literal["info", "event", "debug", "prompt", "error"]
EVENT_CLASSES: tuple[EventClass, ...] = get_args(EventClass)


def nests_deeper_than(value: Any, levels: int) -> bool:
    """Whether arrays and objects stand in one another more than *levels* deep."""
    level = [value]
    for _ in range(levels):
        level = [
            member
            for container in level
            for member in (container.values() if isinstance(container, dict) else container)
            if isinstance(member, dict | list)
        ]
        if not level:
            return False
    return True


# gc=False, here, in calls and in the log: JSON holds no cycles, and an import has too many of them to be looked at for
# some again and again.
class Event(msgspec.Struct, frozen=True, gc=False):
    """One step of a call: what the caller heard or pressed, or what the application did.

    *timestamp* is in milliseconds. *seq* is the sender's own number for steps of one instant, or None. *data* is the
    sender's JSON object: its keys, their order and their types survive unchanged.
    """

    timestamp: int
    seq: int | None
    class_: EventClass
    line: str
    data: dict[str, Any]

    @property
    def position(self) -> tuple[int, int]:
        """Where the event stands in its call's log; events that tie keep the order in which they arrived."""
        return self.timestamp, -1 if self.seq is None else self.seq
