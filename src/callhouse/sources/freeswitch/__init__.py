"""FreeSWITCH: records of mod_json_cdr, mod_xml_cdr and mod_cdr_csv, one a leg."""

import functools
import io
import zoneinfo
from collections.abc import Iterator, Mapping
from datetime import UTC, tzinfo
from typing import Annotated

import msgspec
from msgspec import Meta

from callhouse.model.record import Part
from callhouse.sources import ReadRecord, Source
from callhouse.sources.freeswitch.document import BYTE_ORDER_MARK, is_document, legible, read_document
from callhouse.sources.freeswitch.leg import part
from callhouse.sources.freeswitch.rows import EXAMPLE, Template


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    csv_template: Annotated[
        str, Meta(description="The template of mod_cdr_csv, as it stands in `cdr_csv.conf.xml`.")
    ] = EXAMPLE
    timezone: Annotated[
        str, Meta(description="The time zone of FreeSWITCH's time stamps, which mod_cdr_csv writes without one.")
    ] = "UTC"


def readers(options: Options) -> Mapping[str, ReadRecord]:
    """The readers under *options*. Raises ValueError when these make no sense."""
    try:
        # UTC needs no time zone database, which a small installation may lack.
        zone = UTC if options.timezone == "UTC" else zoneinfo.ZoneInfo(options.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone is {options.timezone!r}: a name such as Europe/Berlin expected") from None
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


def split(body: bytes) -> Iterator[bytes]:
    """The records of *body*: one in JSON or XML, in any encoding; a line of JSON each; or the rows of mod_cdr_csv."""
    if is_document(body) and b"}\n{" not in body:
        yield body
        return
    for line in io.BytesIO(body):
        if row := line.strip():
            yield row


plugin = Source(name="freeswitch", readers=readers(Options()), split=split, options=Options(), configure=readers)
