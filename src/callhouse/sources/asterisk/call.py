"""A Call of what Asterisk's rows say: times in microseconds, and why a call ended."""

from collections.abc import Mapping
from typing import Any

from callhouse.model.call import Call, CauseScheme

Cause = tuple[str, CauseScheme] | None
"""Why a call ended: a code and the standard that it is of."""

NORMAL: Cause = ("16", "q850")
INTERWORKING: Cause = ("127", "q850")
"""What chan_pjsip takes SIP's 487 for, among others."""

SOON = 1_000_000
"""Microseconds within which one channel's end makes another's."""

# The causes of what was not answered, where no channel says a better one. A caller who gives up has no Q.850 cause.
CAUSES: Mapping[str, Cause] = {
    "BUSY": ("17", "q850"),
    "NO ANSWER": ("19", "q850"),
    "NOANSWER": ("19", "q850"),
    "CANCEL": ("487", "sip"),
    "CONGESTION": ("34", "q850"),
    "CHANUNAVAIL": ("38", "q850"),
    "FAILED": ("38", "q850"),
}


def call_of(
    session_id: str,
    *,
    start: int,
    answer: int | None,
    end: int | None,
    cause: Cause,
    source: str | None,
    parent: str | None = None,
    **fields: Any,
) -> Call:
    """A Call whose times, in microseconds, agree with each other, as those of rows of two kinds need not."""
    if answer is not None:
        answer = max(start, answer)
    if end is not None:
        end = max(start, answer or 0, end)
    picked_up = None if answer is None else answer // 1000
    over = length = None
    if end is not None:
        over = end // 1000
        length = 0 if picked_up is None else over - picked_up
    code, scheme = cause or (None, None)
    return Call(
        session_id=session_id,
        call_uuid=session_id,
        parent_call_uuid=parent,
        start=start // 1000,
        answer=picked_up,
        end=over,
        duration=length,
        billed_duration=length,
        hangup_original_code=code,
        hangup_original_scheme=scheme,
        hangup_source=source,
        **fields,
    )
