"""Asterisk's call records, CDR and CEL, in whatever form it writes them.

Asterisk writes rows of which several make a call, so a row is read into its normal form (rows.py) and all of a call's
are joined (join.py). They are told apart by linkedid; CDRs without one are told apart by the channel's uniqueid.
"""

import functools
from collections.abc import Mapping
from typing import Annotated

import msgspec

from callhouse.model.instant import parse_duration, time_zone
from callhouse.model.record import Fragment, Join
from callhouse.sources import ArraySplitter, ReadRecord, Silence, Source
from callhouse.sources.asterisk import columns
from callhouse.sources.asterisk.dialplan import Contexts
from callhouse.sources.asterisk.join import join
from callhouse.sources.asterisk.rows import Lost, RowReader, encode_row
from callhouse.sources.asterisk.split import Splitter

_ROUTE = "asterisk"


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
    cdr, cel = columns.named(options.cdr_columns), columns.named(options.cel_columns)
    if cdr and not {"start", "disposition"} <= set(cdr):
        raise ValueError("cdr_columns must name start and disposition")
    if cel and not {"title", "stamp"} <= set(cel):
        raise ValueError("cel_columns must name eventtype and eventtime")
    rows = RowReader(time_zone(options.timezone), cdr, cel)
    as_calls = _joiner(options)
    silence(options)

    def read(record: bytes, max_depth: int) -> Fragment:  # noqa: ARG001 — what a row nests is kept as text
        group, content = rows.read(record)
        return Fragment(group=group, content=content, join=as_calls)

    return {_ROUTE: read}


def silence(options: Options) -> Silence | None:
    """After how long a call that was cut off is over. Raises ValueError."""
    try:
        limit = parse_duration(options.lost_after)
    except ValueError as error:
        raise ValueError(f"lost_after: {error}") from None
    if limit is None:
        return None
    return Silence(_ROUTE, limit, Fragment(group="", content=encode_row(Lost()), join=_joiner(options)))


def _joiner(options: Options) -> Join:
    contexts = Contexts(_listed(options.inbound), _listed(options.outbound))
    # No lambda: readers in another process send what joins their rows along.
    return functools.partial(join, contexts=contexts)


def _listed(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip())]


plugin = Source(
    name="asterisk",
    readers=readers(Options()),
    splitter=lambda: ArraySplitter(Splitter()),
    options=Options(),
    configure=readers,
    silence=silence,
)
