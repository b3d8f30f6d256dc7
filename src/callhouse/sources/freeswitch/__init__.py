"""FreeSWITCH: records of mod_json_cdr, mod_xml_cdr and mod_cdr_csv, one a leg."""

import functools
from collections.abc import Mapping
from datetime import tzinfo
from typing import Annotated

import msgspec
from msgspec import Meta

from callhouse.model.instant import time_zone
from callhouse.model.record import Part
from callhouse.sources import BYTE_ORDER_MARK, ArraySplitter, ReadRecord, Source
from callhouse.sources.freeswitch.document import is_document, legible, read_document
from callhouse.sources.freeswitch.leg import part
from callhouse.sources.freeswitch.rows import EXAMPLE, Template
from callhouse.sources.freeswitch.split import Splitter


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    csv_template: Annotated[
        str, Meta(description="The template of mod_cdr_csv, as it stands in `cdr_csv.conf.xml`.")
    ] = EXAMPLE
    timezone: Annotated[
        str, Meta(description="The time zone of FreeSWITCH's time stamps, which mod_cdr_csv writes without one.")
    ] = "UTC"


def readers(options: Options) -> Mapping[str, ReadRecord]:
    """The readers under *options*. Raises ValueError when these make no sense."""
    zone = time_zone(options.timezone)
    try:
        template = Template(options.csv_template)
    except ValueError as error:
        raise ValueError(f"csv_template {error}") from None
    return {"freeswitch": functools.partial(_read, template=template, zone=zone)}


def _read(record: bytes, max_depth: int, *, template: Template, zone: tzinfo) -> Part:
    """One leg, from any of the modules. Raises RecordError."""
    if is_document(record):
        return part(read_document(record, max_depth), zone, whole=True)
    variables = template.variables(legible(record.removeprefix(BYTE_ORDER_MARK)))
    return part({"variables": variables}, zone, whole=False)


plugin = Source(
    name="freeswitch",
    readers=readers(Options()),
    splitter=lambda: ArraySplitter(Splitter()),
    options=Options(),
    configure=readers,
)
