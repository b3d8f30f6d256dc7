"""An end to what takes too long."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Generic, TypeVar

Connection = TypeVar("Connection")


class Watch(Generic[Connection]):
    """Calls *interrupt* for each connection whose work takes longer than *seconds*, again and again until it is over.

    In a thread of its own and from outside: SQLite would call back only every so many steps, each of which may have to
    wait for a slow disk, and a thread that reads would take the interpreter from the event loop each time; and a server
    that has stopped answering calls nobody back.
    """

    def __init__(self, seconds: float, interrupt: Callable[[Connection], None]) -> None:
        self._seconds = seconds
        self._interrupt = interrupt
        self._ends: dict[Connection, float] = {}
        self._is_over = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
        self._thread.start()

    @contextmanager
    def over(self, connection: Connection) -> Iterator[None]:
        """Watch over what *connection* does within."""
        with self._changed:
            self._ends[connection] = monotonic() + self._seconds
            if len(self._ends) == 1:
                self._changed.notify()
        try:
            yield
        finally:
            # Under the same lock as the interrupting, so that it can never hit whatever the connection does next.
            with self._changed:
                del self._ends[connection]

    def end(self) -> None:
        """Let go of the connections."""
        with self._changed:
            self._is_over = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._is_over:
                now = monotonic()
                for connection, end in self._ends.items():
                    if end <= now:
                        self._interrupt(connection)
                # Again and again, as an interrupt between two statements of the same work is none.
                self._changed.wait(min(self._seconds / 4, 1) if self._ends else None)
