"""Account: whose calls they are, who may read them, and how long they are kept."""

from typing import Literal

import msgspec

from callhouse.model.instant import DAY, YEAR

Plan = Literal["standard", "demo"]


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long things are kept, in milliseconds; None is for ever.

    *details* counts from a call's end; *sessions* and *plivo* count from its start, and a call is kept as long as the
    longest of the three says. *quarantine* counts from the arrival of a refused record.
    """

    details: int | None = 5 * DAY
    sessions: int | None = YEAR
    plivo: int | None = 90 * DAY
    quarantine: int | None = 30 * DAY

    @property
    def calls(self) -> int | None:
        """How long a call's row is kept: as long as any view of it."""
        kept = (self.details, self.sessions, self.plivo)
        return None if None in kept else max(k for k in kept if k is not None)

    def details_since(self, now: int) -> int:
        """The earliest end of a call whose log is still shown at *now*."""
        return 0 if self.details is None else now - self.details

    def sessions_since(self, now: int) -> int:
        """The earliest start of a call whose session and errors are still shown at *now*."""
        return 0 if self.sessions is None else now - self.sessions

    def calls_since(self, now: int) -> int:
        """The earliest start of a call that is still shown at *now*."""
        return 0 if self.calls is None else now - self.calls

    def plivo_since(self, now: int) -> int:
        """The earliest start of a call that is still shown at *now* in the Plivo view."""
        return 0 if self.plivo is None else now - self.plivo


class RetentionOverride(msgspec.Struct, frozen=True, kw_only=True):
    """What an account wants otherwise than the server: a duration as parse_duration reads it, or None for no wish."""

    details: str | None = None
    sessions: str | None = None
    plivo: str | None = None


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends and reads calls. *retention* is what is in force: the server's, where the account has no wish."""

    id: int
    email: str
    login: str | None
    auth_id: str
    plan: Plan
    active: bool
    timezone: str
    parent_id: int | None
    created: int
    retention: Retention
    override: RetentionOverride
