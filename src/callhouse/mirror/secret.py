"""Where a mirror's secret lies: its place is kept, the secret itself is read whenever it is needed."""

from collections.abc import Mapping
from pathlib import Path

from callhouse.errors import SecretUnavailable


def read(place: str, environment: Mapping[str, str]) -> str:
    """The secret at *place*, ``file:PATH`` or ``variable:NAME``. Raises SecretUnavailable."""
    kind, _, name = place.partition(":")
    if kind == "variable":
        secret = environment.get(name, "")
        problem = f"The environment variable {name}, which is to hold the secret, is not set."
    else:
        try:
            secret = Path(name).read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SecretUnavailable(f"The secret's file {name} cannot be read: {reason}.") from None
        problem = f"The secret's file {name} is empty."
    if not secret:
        raise SecretUnavailable(problem)
    if not secret.isprintable():
        raise SecretUnavailable(f"What stands in {name} holds line feeds or control characters and can be no secret.")
    return secret
