"""What a person who looks through the calls can ask for, and what is shown of each."""

from typing import Literal, get_args

import msgspec

from callhouse.model.call import Call, Direction
from callhouse.model.step import Step
from callhouse.model.week import WeekHour

Status = Literal["in progress", "answered", "unanswered", "busy", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
COMPLETE: tuple[Status, ...] = STATUSES[1:]
"""Those of calls that are over, which figures count."""

BUSY_CAUSES = (3010, 3100)
UNANSWERED_CAUSES = (0, 1000, 3000, 3020, 3110, 6010, 9000)
"""Causes, in Plivo's table, of a call that was not answered though nothing failed; with any other something did."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What a call must have one of: *text* as the name of its session, its uuid or its SIP Call-ID; *number*, as
    number_key writes it, on either side, or where the text is none, the text as it stands; all *words* in its log.
    """

    text: str
    number: str | None
    words: tuple[str, ...]


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one account with ``since <= start < until``, in progress or over, newest first, ties by session_id.

    *number*, as number_key writes it, is on either side; *last_step* is an application (empty: none) and the step of it
    that the log ends at; *week_hour* is when the call started; *under_way* is an instant from its start up to its end;
    *without_cause* asks for calls of which no cause is known, or one that is in no table.

    Instants and lengths are in milliseconds; a length is from start to end, ``shortest <= length < longest``. What is
    None or empty asks for nothing. Logs are searched, and errors looked at, only as far back as they are shown:
    *details_since* bounds the end of a call whose log may be searched, *errors_since* the start of one with errors.
    """

    account_id: int
    since: int
    until: int
    details_since: int
    errors_since: int
    search: Search | None = None
    directions: tuple[Direction, ...] = ()
    statuses: tuple[Status, ...] = ()
    application: str | None = None
    number: str | None = None
    last_step: tuple[str, Step] | None = None
    week_hour: WeekHour | None = None
    under_way: int | None = None
    cause_code: int | None = None
    without_cause: bool = False
    shortest: int | None = None
    longest: int | None = None
    has_errors: bool | None = None


class Place(msgspec.Struct, frozen=True):
    """Where a call stands in the list: calls that come later never move it."""

    start: int
    session_id: str


class ListedCall(msgspec.Struct, frozen=True):
    """What a list shows of a call; *log_id* is what the DEV API calls it by, *legs* are those that it made."""

    id: int
    session_id: str
    call_uuid: str
    parent_call_uuid: str | None
    direction: Direction
    src: str | None
    dest: str | None
    application_name: str | None
    start: int | None
    answer: int | None
    end: int | None
    duration: int | None
    status: Status
    cause_code: int | None
    hangup_cause_name: str | None
    hangup_source: str | None
    hangup_original_code: str | None
    hangup_original_scheme: str | None
    event_count: int
    legs: int
    has_errors: bool
    log_id: int


class WholeCall(msgspec.Struct, frozen=True):
    """What a list shows of a call, and all that was sent of it."""

    listed: ListedCall
    call: Call


class Listing(msgspec.Struct, frozen=True):
    """A page: *calls*, whether the next one *goes_on*, and where time ran out before the page was full, *reached*: all
    matching calls that started then or later are known.
    """

    calls: list[ListedCall]
    goes_on: bool
    reached: int | None = None


class Count(msgspec.Struct, frozen=True):
    """How many calls match; *reached* as in Listing."""

    calls: int
    reached: int | None = None
