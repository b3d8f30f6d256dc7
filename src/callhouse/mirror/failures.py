"""What a mirror could not have: why, and when it is asked for again. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from callhouse.errors import VendorUnavailable
from callhouse.model.instant import SECOND
from callhouse.wire import Window

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 300.0
"""In seconds."""


@dataclass(frozen=True)
class Failure:
    """Why a window could not be had, and from when on it is asked for *again*, after a *pause* in seconds."""

    error: VendorUnavailable
    pause: float
    again: int


class Failures:
    """The windows that could not be had, none of which overlap."""

    def __init__(self) -> None:
        self._failed: dict[Window, Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._failed)

    def leave(self, window: Window, error: VendorUnavailable, now: int) -> None:
        """Leave *window* for later, the longer the more often it failed."""
        pause = min(LONGEST_PAUSE, max((2 * each.pause for each in self.forget(window)), default=FIRST_PAUSE))
        self._failed[window] = Failure(error, pause, now + int(pause * SECOND))

    def forget(self, window: Window) -> list[Failure]:
        """Forget the failures of all that *window* has a part of, and tell them."""
        alike = [each for each in self._failed if each.since < window.until and window.since < each.until]
        return [self._failed.pop(each) for each in alike]

    @property
    def windows(self) -> list[Window]:
        return list(self._failed)

    def waiting(self, now: int) -> list[Window]:
        """The windows that are not to be asked for yet."""
        return [each for each, failure in self._failed.items() if failure.again > now]

    def end_pauses(self) -> None:
        """Let all be asked for at once; they are not forgotten, for they are still not had."""
        self._failed = {each: replace(failure, again=0) for each, failure in self._failed.items()}

    @property
    def pause(self) -> float | None:
        """For how many seconds the vendor wants to be left alone where the first failed; there must be one."""
        return self._failed[min(self._failed)].error.pause

    def __str__(self) -> str:
        """What stands in the way as long as some windows cannot be had."""
        if not self._failed:
            return ""
        first = min(self._failed)
        since, until = (f"{datetime.fromtimestamp(at / SECOND, UTC):%Y-%m-%d %H:%M:%S}" for at in first)
        more = f" So it is with {len(self._failed) - 1} more." if len(self._failed) > 1 else ""
        return f"What is between {since} and {until} (UTC) cannot be had: {self._failed[first].error}{more}"
