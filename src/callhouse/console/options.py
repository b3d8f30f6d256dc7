"""What an operator may set of the console."""

from pathlib import Path

import msgspec

from callhouse.errors import SettingsError

SHORTEST_TOKEN = 20


class ConsoleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    admin_token_file: str = ""

    def admin_token(self) -> str | None:
        """What an operator signs in with; None where nobody does. Raises SettingsError."""
        if not self.admin_token_file:
            return None
        try:
            token = Path(self.admin_token_file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(
                f"console.admin_token_file: {self.admin_token_file} cannot be read: {reason}."
            ) from None
        if len(token) < SHORTEST_TOKEN:
            raise SettingsError(
                f"console.admin_token_file: {self.admin_token_file} holds fewer than {SHORTEST_TOKEN} characters; "
                "`openssl rand -hex 32` makes a good token."
            )
        return token
