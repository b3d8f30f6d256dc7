"""Where a mirror's secret lies: its place is kept, the secret itself is read whenever it is needed."""

import asyncio
import os
import stat
import threading
from collections.abc import Mapping
from contextlib import suppress

from callhouse.errors import SecretUnavailable

LONGEST = 64 * 1024
"""Bytes of a secret's file at most."""

PATIENCE = 10.0
"""Seconds that a file may take to be read."""

_hanging: dict[str, threading.Thread] = {}
"""By the place, who waited for it longer than that."""


async def obtain(place: str, environment: Mapping[str, str]) -> str:
    """The secret at *place*, as ``read`` gives it; a file that hangs keeps nothing else waiting."""
    if place in _hanging and _hanging[place].is_alive():
        raise SecretUnavailable(_too_slow(place))
    loop = asyncio.get_running_loop()
    told: asyncio.Future[str | SecretUnavailable] = loop.create_future()

    def work() -> None:
        found: str | SecretUnavailable
        try:
            found = read(place, environment)
        except SecretUnavailable as error:
            found = error
        # Nobody may wait any more, and the loop may have ended.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: None if told.done() else told.set_result(found))

    # A thread of its own, for which the end of the process does not wait.
    reader = threading.Thread(target=work, name="mirror secret", daemon=True)
    reader.start()
    try:
        async with asyncio.timeout(PATIENCE):
            found = await told
    except TimeoutError:
        _hanging[place] = reader
        raise SecretUnavailable(_too_slow(place)) from None
    if isinstance(found, SecretUnavailable):
        raise found
    return found


def read(place: str, environment: Mapping[str, str]) -> str:
    """The secret at *place*, ``file:PATH`` or ``variable:NAME``. Raises SecretUnavailable."""
    kind, _, name = place.partition(":")
    if kind == "variable":
        secret = environment.get(name, "")
        problem = f"The environment variable {name}, which is to hold the secret, is not set."
    else:
        secret = _content(name).rstrip("\r\n")
        problem = f"The secret's file {name} is empty."
    if not secret:
        raise SecretUnavailable(problem)
    if not secret.isprintable():
        raise SecretUnavailable(f"What stands in {name} holds line feeds or control characters and can be no secret.")
    return secret


def _content(path: str) -> str:
    try:
        # A pipe without a writer, or a device, would be waited for.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise SecretUnavailable(f"The secret's file {path} cannot be read: it is no regular file.")
            with open(file, "rb", closefd=False) as opened:
                content = opened.read(LONGEST + 1)
        finally:
            os.close(file)
        if len(content) > LONGEST:
            raise SecretUnavailable(f"The secret's file {path} has more than {LONGEST} bytes and can be no secret.")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SecretUnavailable(f"The secret's file {path} cannot be read: {reason}.") from None


def _too_slow(place: str) -> str:
    return f"The secret's file {place.partition(':')[2]} cannot be read: it takes too long."
