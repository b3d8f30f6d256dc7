"""Everything that Callhouse itself raises; each wire API translates it into its own words.

CallhouseError
├── RequestError                what the client asked cannot be answered
│   ├── BadParameter            a parameter is out of range or not of its kind
│   ├── Unreadable              a body that cannot be read at all
│   ├── TooLarge                a body over the limit
│   ├── NotAuthenticated        no credentials, or wrong ones
│   ├── InactiveAccount         right credentials of an account that is switched off
│   ├── TooManyFailures         an address that keeps sending wrong credentials
│   ├── NotFound                no such call for this account
│   └── DetailGone              the call is there, its log is not (expired, or it never had one)
├── Busy                        the queue before the store is full; try again
├── StoreUnavailable            the store cannot be reached or written
│   ├── StoreRefused            the database took exception to what was to be written
│   ├── StoreDamaged            a part of the database is not as it was written
│   ├── TookTooLong             a read that took longer than a read may
│   └── NoStore                 there is no store where one was to be opened
├── RecordError                 one record that cannot be kept, with the reason
├── MirrorError                 a mirror that cannot be made, found or run
│   ├── VendorUnavailable       the vendor does not answer as it should; later it may
│   │   ├── VendorHasNone       the vendor has nothing under that path
│   │   ├── AnswerFailed        it fails at what it was asked for, or answers with what is no answer
│   │   └── AnswerTooLong       its answer is longer than any that is taken
│   ├── SecretUnavailable       the file or variable does not hold the secret that it is to hold
│   └── VendorRefusal           the vendor takes the credentials for wrong
├── MoveError                   a store that cannot be moved, or not further
├── FileUnreadable              a file that cannot be imported, or not to its end
└── SettingsError               a setting that is unknown or malformed
"""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


class CallhouseError(Exception):
    """The root of the tree."""


class RequestError(CallhouseError):
    """A request that cannot be answered as it stands."""


class BadParameter(RequestError):
    """*name* has a *value* that is not *expected*; all three go into the answer."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"Parameter {name} is {shortened(value)!r}; expected {expected}.")
        self.name = name


class Unreadable(RequestError):
    """A body from which not one record could be read."""


class TooLarge(RequestError):
    """A body over the limit, before or after decompression."""


class NotAuthenticated(RequestError):
    """No credentials, malformed ones, or wrong ones: deliberately not told apart."""


class InactiveAccount(RequestError):
    """The credentials are right, the account is switched off."""


class TooManyFailures(RequestError):
    """This address has sent too many wrong credentials; seconds to wait are in *retry_after*."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many failed attempts; wait before trying again.")
        self.retry_after = retry_after


class NotFound(RequestError):
    """No such call, or another account's."""


class DetailGone(RequestError):
    """The call exists but its log does not."""


class Busy(CallhouseError):
    """More work is waiting than may wait; seconds to wait are in *retry_after*."""

    def __init__(self, retry_after: int = 1) -> None:
        super().__init__("The server is busy; try again later.")
        self.retry_after = retry_after


class StoreUnavailable(CallhouseError):
    """The store cannot be read or written now. The cause is chained and belongs in the log, never in an answer."""


class StoreRefused(StoreUnavailable):
    """The database works, but not with this: other writes may succeed."""


class StoreDamaged(StoreUnavailable):
    """A part of the database is not as it was written; what lies elsewhere can be read."""


class TookTooLong(StoreUnavailable):
    """A read that took longer than a read may, and was stopped; others go on."""

    def __init__(self) -> None:
        super().__init__("The query took too long; ask for a shorter time.")


class NoStore(StoreUnavailable):
    """There is no store where one was to be opened; the message names the place."""


class RecordError(CallhouseError):
    """One record that cannot be kept, and why."""


class MirrorError(CallhouseError):
    """A mirror that cannot be made, found or run; the message is for the operator and holds no secret."""


class VendorUnavailable(MirrorError):
    """The vendor does not answer, or not as it should. *pause* is for how many seconds it wants to be left alone."""

    def __init__(self, reason: str, *, pause: float | None = None, is_worth_repeating: bool = True) -> None:
        super().__init__(reason)
        self.pause = pause
        self.is_worth_repeating = is_worth_repeating


class VendorHasNone(VendorUnavailable):
    """The vendor has nothing under the path that was asked for."""


class AnswerFailed(VendorUnavailable):
    """The vendor fails at what it was asked for, or answers with what is no answer; asked for less it may not."""


class AnswerTooLong(VendorUnavailable):
    """The vendor's answer is longer than any that is taken; one about less may do."""


class SecretUnavailable(MirrorError):
    """The place where a mirror's secret is to lie does not hold it; the message names the place."""


class VendorRefusal(MirrorError):
    """The vendor lets nobody in with these credentials; somebody has to see to it."""


class MoveError(CallhouseError):
    """A store that cannot be moved, or not further; the message is for the operator and holds no secret."""


class FileUnreadable(CallhouseError):
    """A file that cannot be imported, or not to its end; the message names it."""


class SettingsError(CallhouseError):
    """A setting that is unknown or malformed; the message names it and where it came from."""


def matching(error: Exception, table: Mapping[type[Exception], T], default: T) -> T:
    """The entry of *table* for the class of *error*, or for the nearest class that it derives from."""
    return next((table[kind] for kind in type(error).__mro__ if kind in table), default)


def shortened(text: str, limit: int = 60) -> str:
    """*text* fit for an error message: at most *limit* characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
