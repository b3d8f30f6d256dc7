"""Asterisk's call records, CDR and CEL, in whatever form it writes them.

Asterisk writes rows of which several make a call, so a row is read into its normal form (rows.py) and all of a call's
are joined (join.py). They are told apart by linkedid; CDRs without one are told apart by the channel's uniqueid.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from callhouse.model.instant import parse_duration
from callhouse.model.record import Fragment, Part
from callhouse.sources import ReadRecord, Source
from callhouse.sources.asterisk import columns
from callhouse.sources.asterisk.join import Contexts, join
from callhouse.sources.asterisk.rows import Lost, RowReader, encode_row
from callhouse.sources.asterisk.split import split

ROUTE = "asterisk"
_LOST = encode_row(Lost())


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    timezone: Annotated[str, msgspec.Meta(description="Time zone of times without one, as Master.csv has them.")] = (
        "UTC"
    )
    inbound: Annotated[
        str, msgspec.Meta(description="Contexts in which inbound calls begin; `*` at the end stands for anything.")
    ] = "from-carrier, from-trunk*, from-pstn*, from-did*, incoming*, inbound*, public"
    outbound: Annotated[str, msgspec.Meta(description="The same of outbound calls.")] = (
        "from-internal*, outbound*, outgoing*, internal"
    )
    cdr_columns: Annotated[
        str, msgspec.Meta(description="Columns of CDR files, for files without a header in an order of their own.")
    ] = ""
    cel_columns: Annotated[str, msgspec.Meta(description="The same of CEL files.")] = ""
    lost_after: Annotated[
        str, msgspec.Meta(description="A call of which nothing was heard for so long is over, its end unknown.")
    ] = "4h"


def readers(options: Options) -> Mapping[str, ReadRecord]:
    """The reader under *options*. Raises ValueError when these make no sense."""
    rows = RowReader(_zone(options.timezone), columns.named(options.cdr_columns), columns.named(options.cel_columns))
    closing(options)
    as_calls = _Joiner(Contexts(_listed(options.inbound), _listed(options.outbound)))

    def read(record: bytes, max_depth: int) -> Fragment:  # noqa: ARG001 — what a row nests is kept as text
        group, content = rows.read(record)
        return Fragment(group=group, content=content, join=as_calls)

    return {ROUTE: read}


def closing(options: Options) -> tuple[int | None, Fragment]:
    """How long a call may be silent in milliseconds, None for ever, and the row that closes one that is, for any group.

    Raises ValueError.
    """
    try:
        quiet = parse_duration(options.lost_after)
    except ValueError as error:
        raise ValueError(f"lost_after: {error}") from None
    as_calls = _Joiner(Contexts(_listed(options.inbound), _listed(options.outbound)))
    return quiet, Fragment(group="", content=_LOST, join=as_calls)


class _Joiner:
    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def __call__(self, group: str, rows: Sequence[bytes]) -> list[Part]:
        return join(group, rows, self._contexts)


def _zone(name: str) -> tzinfo:
    try:
        # UTC needs no time zone database, which a small installation may lack.
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone is {name!r}: a name such as Europe/Berlin expected") from None


def _listed(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


plugin = Source(readers=readers(Options()))
