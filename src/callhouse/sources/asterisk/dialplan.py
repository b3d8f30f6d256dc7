"""What the dialplan tells of a call: the context in which it began, and what stands in its CDRs."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callhouse.model.call import DIRECTIONS, Direction
from callhouse.sources.asterisk.channels import Channel, disposition_of
from callhouse.sources.asterisk.rows import CdrRow

_OWN_FIELDS = frozenset(("direction", "sip_call_id"))
"""Variables of a CDR that are fields of a call."""

_NAME = re.compile(r'"(.*)" ?<.*>', re.DOTALL)


class Contexts:
    """The direction of a call by the context of the dialplan in which it began."""

    def __init__(self, inbound: Iterable[str], outbound: Iterable[str]) -> None:
        self._patterns: list[tuple[str, Direction]] = [(pattern, "inbound") for pattern in inbound]
        self._patterns += [(pattern, "outbound") for pattern in outbound]

    def direction(self, context: str, variables: Mapping[str, str]) -> Direction | None:
        said = variables.get("direction", "").lower()
        if said in DIRECTIONS:
            return said
        for pattern, direction in self._patterns:
            if context == pattern or (pattern.endswith("*") and context.startswith(pattern[:-1])):
                return direction
        return None


def variables_of(rows: Iterable[CdrRow]) -> dict[str, str]:
    """The dialplan's own variables of a CDR; the last row has the last word."""
    variables: dict[str, str] = {}
    for row in rows:
        variables.update(row.variables)
    return variables


def extra_of(
    channel: Channel | None, cdrs: Sequence[CdrRow], variables: Mapping[str, str], context: str
) -> dict[str, Any] | None:
    """What *channel* and the CDRs of a call say that no field of it has a place for."""
    last = cdrs[-1] if cdrs else None
    name = next((row.name for row in channel.rows if row.name), "") if channel is not None else ""
    account = next((row.account for row in channel.rows if row.account), "") if channel is not None else ""
    extra = {"caller_name": name, "accountcode": account, "context": context}
    if last is not None:
        written = _NAME.fullmatch(last.clid)
        extra["caller_name"] = name or (written[1] if written else "")
        extra["accountcode"] = account or last.account
        extra["disposition"] = disposition_of(cdrs)
        extra["amaflags"] = last.ama
        extra["userfield"] = next((row.userfield for row in reversed(cdrs) if row.userfield), "")
        extra["peeraccount"] = next((row.peer_account for row in cdrs if row.peer_account), "")
        extra["lastapp"], extra["lastdata"] = last.app, last.appdata
    extra.update({name: value for name, value in variables.items() if name not in _OWN_FIELDS})
    return {name: value for name, value in extra.items() if value} or None
