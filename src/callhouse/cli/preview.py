"""``callhouse import --dry-run``: what the first records of files become, without a store."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from callhouse.cli.context import counted, local_time, out, plain, print_json
from callhouse.errors import RecordError
from callhouse.ingest.files import STANDARD_INPUT, OpenFile, title
from callhouse.ingest.importer import Refused, splitter_of
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.readers import Reader, read_record
from callhouse.model import call as calls
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.instant import SECOND
from callhouse.model.record import Fragment, Part
from callhouse.sources import Cut, native

LOOKED_AT = 1_000
"""Records that are read of each file: the rows of one call may stand far apart."""

SHOWN = 10
"""Calls, and refused records, that are shown of each file."""


class Preview(msgspec.Struct):
    """What ``import --dry-run --json`` prints of each file: its first calls as native records, and what is refused."""

    file: str
    records: int
    calls: list[msgspec.Raw]
    refused: list[Refused]


def preview(paths: Sequence[Path], reader: Reader, limits: IngestLimits, *, as_json: bool) -> bool:
    """Show what the first records of *paths* become; whether all would be kept. Raises FileUnreadable."""
    all_kept = True
    previews = []
    for path in paths:
        with OpenFile(path, 0 if path == STANDARD_INPUT else None) as file:
            cuts = list(islice(_cuts(file, reader, limits), LOOKED_AT))
        refused: list[Refused] = []
        told = list(_told(cuts, title(path), reader, limits, refused))
        all_kept = all_kept and not refused
        if as_json:
            written = [msgspec.Raw(native.written(call, events)) for call, events in told[:SHOWN]]
            previews.append(Preview(title(path), len(cuts), written, refused))
        else:
            _print(title(path), len(cuts), told, refused)
    if as_json:
        print_json(previews)
    return all_kept


def _cuts(file: OpenFile, reader: Reader, limits: IngestLimits) -> Iterator[Cut]:
    splitter = splitter_of(reader)
    for number, line in enumerate(file.lines(limits.max_body), start=1):
        yield from splitter.take(number, line)
    yield from splitter.rest()


def _told(
    cuts: Sequence[Cut], name: str, reader: Reader, limits: IngestLimits, refused: list[Refused]
) -> Iterator[tuple[Call, tuple[Event, ...]]]:
    """The calls that the records tell of, in order of their first record; what is refused goes into *refused*."""
    groups: dict[str, list[Fragment]] = {}
    parts: dict[str, list[Part]] = {}
    for number, raw in cuts:
        read = read_record(raw, reader.read, limits)
        if isinstance(read, Fragment):
            groups.setdefault(read.group, []).append(read)
        elif isinstance(read, Part):
            parts.setdefault(read.session_id, []).append(read)
        else:
            refused.append(Refused(f"{name}:{number}", read))
    for group, fragments in groups.items():
        try:
            joined = fragments[0].join(group, [fragment.content for fragment in fragments])
        except RecordError as error:
            refused.append(Refused(name, f"{group}: {error}"))
            continue
        for part in joined:
            parts.setdefault(part.session_id, []).append(part)
    for session_id, said in parts.items():
        call = Call(session_id=session_id)
        for part in said:
            call = call if part.call is None else calls.merge(call, part.call)
        yield call, tuple(event for part in said for event in part.events)


def _print(name: str, records: int, told: Sequence[tuple[Call, tuple[Event, ...]]], refused: Sequence[Refused]) -> None:
    first = "the first " if records == LOOKED_AT else ""
    out.print(
        f"{plain(name)}: {first}{counted(records, 'record')} → {counted(len(told), 'call')}, {len(refused):,} refused",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    for call, events in told[:SHOWN]:
        out.print(plain(_line(call, events)), highlight=False, soft_wrap=True)
    for each in refused[:SHOWN]:
        out.print(f"{plain(each.origin)}: {plain(each.reason)}", style="red", highlight=False, soft_wrap=True)


def _line(call: Call, events: Sequence[Event]) -> str:
    """One call, as a person would tell it."""
    began = "no start" if call.start is None else local_time(call.start)
    if call.end is None:
        became = "in progress"
    elif call.answer is None:
        became = "not answered"
    else:
        became = f"talked {(call.end - call.answer) / SECOND:.1f} s"
    side = f"by {call.hangup_source}" if call.hangup_source else ""
    ended = " ".join(
        filter(
            None, (call.hangup_cause_name or (call.hangup_original_code and f"cause {call.hangup_original_code}"), side)
        )
    )
    log = f"{len(events)} events" if events else ""
    told = (call.direction, became, ended, log, f"session {call.session_id}")
    return f"  {began}  {call.src or '?'} → {call.dest or '?'}  " + ", ".join(filter(None, told))
