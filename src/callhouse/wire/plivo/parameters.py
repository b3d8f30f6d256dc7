"""The query string → what is asked. Every failure is a BadParameter that names the parameter."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from urllib.parse import urlencode

from callhouse.errors import BadParameter
from callhouse.model.call import Direction
from callhouse.model.instant import DAY, MINUTE, SECOND
from callhouse.model.query import CallQuery
from callhouse.render import integer
from callhouse.wire.plivo.schema import ListMeta

DEFAULT_LIMIT = 20
MAX_OFFSET = 2**53
MAX_NUMBER = 10**9
DEFAULT_WINDOW = 7 * DAY
MAX_WINDOW = 30 * DAY
FOR_EVER = 2**53
"""An end of a window that no call reaches."""

FORMS = ("", "__gt", "__gte", "__lt", "__lte")
STATES = ("live", "queued")
STIR_VERIFICATIONS = ("Verified", "Not Verified", "Not Applicable")
_DIRECTIONS: dict[str, tuple[Direction, ...]] = {"inbound": ("inbound",), "outbound": ("outbound", "transfer")}

PLACE = ("limit", "offset")
IN_PROGRESS = frozenset(
    {"status", "subaccount", "call_direction", "from_number", "to_number", "parent_call_uuid", *PLACE}
)
COMPLETED = IN_PROGRESS.union(
    (f"{name}{form}" for name in ("end_time", "bill_duration") for form in FORMS),
    ("hangup_cause_code", "hangup_source", "stir_verification"),
)

_SUBACCOUNT = re.compile(r"SA[A-Z0-9]{18}", re.ASCII)
# An offset is tolerated because plivo-python sends one with an aware datetime; a plus that was not encoded is a space.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d)(?:(:\d\d)(?:\.(\d{1,6}))?)?(?:Z|([+ -])(\d\d):(\d\d))?", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 — an offset is subtracted by hand, which cannot overflow
_EXPECTED = "a time in UTC as YYYY-MM-DD HH:MM[:ss[.uuuuuu]]"


class _Bound(NamedTuple):
    """An end of the window in ms, the instant that was written in µs, and where it was written."""

    at: int
    written: int
    name: str
    value: str


def status(parameters: Mapping[str, str]) -> Literal["live", "queued"] | None:
    """Which calls in progress are asked for; None for completed calls."""
    value = parameters.get("status")
    if value is None or value == "live" or value == "queued":  # noqa: PLR1714 — so mypy sees the literals
        return value  # type: ignore[return-value]
    raise BadParameter("status", value, "live or queued")


def subaccount(parameters: Mapping[str, str]) -> str | None:
    value = parameters.get("subaccount")
    if value is not None and not _SUBACCOUNT.fullmatch(value):
        raise BadParameter("subaccount", value, "SA and 18 capital letters or digits")
    return value


def completed(parameters: Mapping[str, str], shown_since: Mapping[int, int], now: int, max_limit: int) -> CallQuery:
    """The query for completed calls; *shown_since* is the earliest start of each account's calls that is shown."""
    since, until = _window(parameters, now)
    talk_from, talk_until = _talk(parameters)
    code = parameters.get("hangup_cause_code")
    verification = parameters.get("stir_verification")
    if verification is not None and verification not in STIR_VERIFICATIONS:
        raise BadParameter("stir_verification", verification, f"one of {', '.join(STIR_VERIFICATIONS)}")
    return CallQuery(
        account_ids=tuple(shown_since),
        shown_since=tuple(shown_since.values()),
        since=since,
        until=until,
        src_prefix=_prefix(parameters, "from_number"),
        dest_prefix=_prefix(parameters, "to_number"),
        directions=_directions(parameters),
        parent_call_uuid=parameters.get("parent_call_uuid"),
        talk_from=talk_from,
        talk_until=talk_until,
        hangup_cause_code=None if code is None else integer("hangup_cause_code", code, 0, 0, MAX_NUMBER),
        hangup_source=parameters.get("hangup_source"),
        stir_verification=verification,
        limit=integer("limit", parameters.get("limit"), min(DEFAULT_LIMIT, max_limit), 1, max_limit),
        offset=integer("offset", parameters.get("offset"), 0, 0, MAX_OFFSET),
    )


def in_progress(parameters: Mapping[str, str], shown_since: Mapping[int, int], max_limit: int) -> CallQuery:
    """The query for calls in progress; without a limit all are asked for."""
    return CallQuery(
        account_ids=tuple(shown_since),
        shown_since=tuple(shown_since.values()),
        since=0,
        until=FOR_EVER,
        src_prefix=_prefix(parameters, "from_number"),
        dest_prefix=_prefix(parameters, "to_number"),
        directions=_directions(parameters),
        parent_call_uuid=parameters.get("parent_call_uuid"),
        limit=integer("limit", parameters.get("limit"), max_limit, 1, max_limit) if "limit" in parameters else FOR_EVER,
        offset=integer("offset", parameters.get("offset"), 0, 0, MAX_OFFSET),
    )


def meta(path: str, parameters: Mapping[str, str], query: CallQuery, total: int) -> ListMeta:
    """Where the page stands; its neighbours' URLs keep all filters, with limit and offset last."""
    filters = {name: value for name, value in parameters.items() if name in COMPLETED and name not in PLACE}

    def url(offset: int) -> str:
        return f"{path}?{urlencode({**filters, 'limit': query.limit, 'offset': offset})}"

    after = query.offset + query.limit
    return ListMeta(
        limit=query.limit,
        next=url(after) if after < total else None,
        offset=query.offset,
        previous=url(max(0, query.offset - query.limit)) if query.offset else None,
        total_count=total,
    )


def _directions(parameters: Mapping[str, str]) -> tuple[Direction, ...]:
    value = parameters.get("call_direction")
    if value is None:
        return ()
    if value not in _DIRECTIONS:
        raise BadParameter("call_direction", value, "inbound or outbound")
    return _DIRECTIONS[value]


def _prefix(parameters: Mapping[str, str], name: str) -> str | None:
    # A plus that was not encoded has become a space.
    return parameters.get(name, "").strip().lstrip("+") or None


def _talk(parameters: Mapping[str, str]) -> tuple[int | None, int | None]:
    """The bounds in ms of calls whose length, rounded up to seconds, is as asked."""
    lows: list[int] = []
    highs: list[int] = []
    for form in FORMS:
        name = f"bill_duration{form}"
        if name in parameters:
            asked = integer(name, parameters[name], 0, 0, MAX_NUMBER)
            first, after = (asked - 1) * SECOND + 1, asked * SECOND + 1
            if form in {"", "__gte"}:
                lows.append(first)
            if form in {"", "__lte"}:
                highs.append(after)
            if form == "__gt":
                lows.append(after)
            if form == "__lt":
                highs.append(first)
    return max(lows, default=None), min(highs, default=None)


def _window(parameters: Mapping[str, str], now: int) -> tuple[int, int]:
    lows: list[_Bound] = []
    highs: list[_Bound] = []
    for form in FORMS:
        name = f"end_time{form}"
        if name in parameters:
            _add_bounds(name, form, parameters[name], lows, highs)
    low, high = max(lows, default=None), min(highs, default=None)
    if low is None and high is None:
        # Without an end: a sender's clock may be ahead of ours.
        return now - DEFAULT_WINDOW, FOR_EVER
    if low is None or high is None:
        since = high.at - MAX_WINDOW if low is None else low.at  # type: ignore[union-attr]
        return since, since + MAX_WINDOW
    if high.written - low.written > MAX_WINDOW * 1_000:
        raise BadParameter(high.name, high.value, f"a time at most 30 days after {low.name} ({low.value})")
    if low.at >= high.at and low.written >= high.written:
        raise BadParameter(high.name, high.value, f"a time after {low.name} ({low.value})")
    return low.at, high.at


def _add_bounds(name: str, form: str, value: str, lows: list[_Bound], highs: list[_Bound]) -> None:
    """What one form of end_time says.

    A time is compared as exactly as it is written, but no less exactly than to the second, as which times are shown:
    a call that is shown as ended at 10:00:00 is not after 10:00:00. The exact form without seconds is its whole minute.
    """
    match = _TIME.fullmatch(value)
    try:
        parsed = datetime.fromisoformat(match[1] + (match[2] or "")) if match else None
    except ValueError:
        parsed = None
    if match is None or parsed is None or int(match[5] or 0) > 23 or int(match[6] or 0) > 59:
        raise BadParameter(name, value, _EXPECTED)
    written = (parsed - _EPOCH) // timedelta(microseconds=1) + int((match[3] or "").ljust(6, "0"))
    offset = (int(match[5] or 0) * 60 + int(match[6] or 0)) * MINUTE * 1_000
    written -= -offset if match[4] == "-" else offset
    first = written // 1_000
    after = first + (1 if match[3] else SECOND)
    if form == "":
        lows.append(_Bound(first, written, name, value))
        highs.append(_Bound(after if match[2] else first + MINUTE, written, name, value))
    elif form == "__gt":
        lows.append(_Bound(after, written, name, value))
    elif form == "__gte":
        lows.append(_Bound(-(-written // 1_000), written, name, value))
    elif form == "__lt":
        highs.append(_Bound(-(-written // 1_000), written, name, value))
    else:
        highs.append(_Bound(after, written, name, value))
