"""Kamailio: the call records of acc_json, and rows of the acc module's tables exported as CSV.

Both hold text alone, and the empty one stands for what is not known. Which member or column means what is decided by
``cdr_extra`` and ``db_extra`` in the operator's kamailio.cfg; the defaults of the options are the names that the
configuration in docs/sources/kamailio.md gives them. All that has one Call-ID is joined (join.py).
"""

import csv
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from callhouse.errors import RecordError, shortened
from callhouse.model.call import DIRECTIONS, Call, CauseScheme, Direction
from callhouse.model.instant import MAX_SECONDS, SECOND, parse_duration, time_zone
from callhouse.model.record import Fragment
from callhouse.sources import (
    MAX_HEADER,
    ArraySplitter,
    Cut,
    LineSplitter,
    ReadRecord,
    Silence,
    Source,
    json_object,
    may_be_names,
)
from callhouse.sources.kamailio.join import AccRow, Attempt, Lost, encode, events_of, join, session_of

_BETWEEN_NAMES = re.compile(rb"[,;\t]")
_SECONDS = re.compile(r"\d{1,11}(\.\d{1,9})?", re.ASCII)
_Q850 = re.compile(r"Q\.850\s*;[^,]*?\bcause=(\d{1,3})\b", re.ASCII | re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NULLS = {"\\N", "NULL"}
"""What databases write into an export for a value that there is none of."""

MAX_REASON = 1_000
"""Characters of a Reason header that are looked at."""


ACC_COLUMNS = (
    "id,method,from_tag,to_tag,callid,sip_code,sip_reason,time,src_user,src_domain,src_ip,dst_ouser,dst_user,dst_domain"
)
"""The table acc as the configuration that Kamailio comes with fills it."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    call_id: Annotated[str, Meta(description="Member or column with the SIP Call-ID.")] = "call_id"
    src: Annotated[str, Meta(description="The caller's number.")] = "from_user"
    src_name: Annotated[str, Meta(description="The caller's name, as it stands in From.")] = "from_name"
    dest: Annotated[str, Meta(description="The number as dialled.")] = "dialed_user"
    direction: Annotated[str, Meta(description="`inbound`, `outbound` or `transfer`.")] = "direction"
    source_ip: Annotated[str, Meta(description="Address that the INVITE came from.")] = "src_ip"
    start_time: Annotated[str, Meta(description="When the INVITE came: `cdr_start_id` of acc.")] = "start_time"
    end_time: Annotated[str, Meta(description="`cdr_end_id` of acc, which is the start if nobody answered.")] = (
        "end_time"
    )
    ring_time: Annotated[str, Meta(description="When it rang.")] = "ring_time"
    answer_time: Annotated[str, Meta(description="When it was answered.")] = "answer_time"
    final_time: Annotated[str, Meta(description="When the call or the attempt ended.")] = "final_time"
    sip_code: Annotated[str, Meta(description="Status of the final SIP answer.")] = "sip_code"
    sip_reason: Annotated[str, Meta(description="Its text.")] = "sip_reason"
    hangup_side: Annotated[str, Meta(description="Who ended it: `caller`, `callee`, `switch` or `timeout`.")] = (
        "hangup_side"
    )
    reason: Annotated[str, Meta(description="The Reason header of what ended it.")] = "reason_hdr"
    acc_columns: Annotated[
        str, Meta(description="Columns of exported acc rows, for an export without a line of column names.")
    ] = ACC_COLUMNS
    acc_src: Annotated[str, Meta(description="Column of acc rows with the caller's number.")] = "src_user"
    acc_dest: Annotated[str, Meta(description="Column of acc rows with the number as dialled.")] = "dst_ouser"
    timezone: Annotated[str, Meta(description="Time zone of times without one, as acc writes them.")] = "UTC"
    lost_after: Annotated[
        str, Meta(description="A call in acc's rows whose BYE has not come for so long is over, its end unknown.")
    ] = "12h"


def readers(options: Options) -> Mapping[str, ReadRecord]:
    """The readers under *options*. Raises ValueError when these make no sense."""
    zone = time_zone(options.timezone)
    if not {"callid", "method", "time"} <= set(options.acc_columns.split(",")):
        raise ValueError("acc_columns must name callid, method and time")
    silence(options)
    return {"kamailio": functools.partial(_read, options=options, zone=zone)}


def silence(options: Options) -> Silence | None:
    """After how long a call that has no BYE is over. Raises ValueError."""
    try:
        limit = parse_duration(options.lost_after)
    except ValueError as error:
        raise ValueError(f"lost_after: {error}") from None
    return None if limit is None else Silence("kamailio", limit, Fragment(group="", content=encode(Lost()), join=join))


class Splitter:
    """JSON objects, and rows of CSV: a row below a line of column names is a record together with that line."""

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._header = b""

    def take(self, number: int, line: bytes) -> Iterator[Cut]:
        for at, record in self._lines.take(number, line):
            if (not self._header or may_be_names(record)) and _is_header(record):
                self._header = record + b"\n"
            elif record[:1] == b"{":
                yield at, record
            else:
                yield at, self._header + record

    def rest(self) -> Iterable[Cut]:
        return self._lines.rest()


def _is_header(row: bytes) -> bool:
    if len(row) > MAX_HEADER:
        return False
    names = set(_BETWEEN_NAMES.split(row.replace(b'"', b"").lower()))
    return {b"callid", b"method"} <= names or {b"start_time", b"end_time"} <= names


def _read(record: bytes, max_depth: int, *, options: Options, zone: tzinfo) -> Fragment:
    """One call, or what one row says of it. Raises RecordError."""
    told: Attempt | AccRow
    if record[:1] == b"{":
        told = _Record(json_object(record, max_depth), options, zone).attempt()
    else:
        row = _row(_text(record), options)
        told = _acc_row(row, options, zone) if "method" in row else _Record(row, options, zone).attempt()
    return Fragment(group=told.call.session_id, content=encode(told), join=join)


def _text(record: bytes) -> str:
    try:
        return record.decode()
    except UnicodeDecodeError:
        # A database may hand on a name in the bytes in which it came.
        return record.decode("latin-1")


def _row(text: str, options: Options) -> dict[str, Any]:
    header, newline, row = text.partition("\n")
    names, values = _cells(header if newline else options.acc_columns), _cells(row if newline else header)
    if len(names) != len(values):
        raise RecordError(
            f"is neither a JSON object nor a row of {len(names)} columns: {len(values)}; let the export begin with a "
            "line of column names, or set sources.kamailio.acc_columns"
        )
    known = ("" if value in _NULLS else value for value in values)
    return dict(zip((name.strip().lower() for name in names), known, strict=True))


def _cells(line: str) -> list[str]:
    """The cells of a line, between commas, or where it has none between tabs or semicolons."""
    between = next((mark for mark in ",\t;" if mark in line), ",")
    try:
        [cells] = csv.reader([line.replace("\0", "\ufffd")], delimiter=between)
    except (csv.Error, ValueError) as error:
        raise RecordError(f"is no row of CSV: {error}") from None
    return cells


class _Record:
    """A record of acc_json: its members by what they mean."""

    def __init__(self, members: Mapping[str, Any], options: Options, zone: tzinfo) -> None:
        self._members = members
        self._options = options
        self._zone = zone

    def __getitem__(self, meaning: str) -> str:
        """The text of the member of that *meaning*, without NUL characters; empty when there is none."""
        value = self._members.get(getattr(self._options, meaning))
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        return value.replace("\0", "\ufffd") if isinstance(value, str) else ""

    def attempt(self) -> Attempt:
        call_id = self["call_id"]
        if not call_id:
            name = self._options.call_id
            raise RecordError(f"has no {name}; name it in cdr_extra of acc_json, or set sources.kamailio.call_id")
        start = self._instant("start_time")
        if start is None:
            raise RecordError(f"has no {self._options.start_time}")
        # acc gives a call that nobody answered the end of its start, however long it rang.
        end = self._instant("final_time") or self._instant("end_time")
        if end is None:
            raise RecordError(f"has neither {self._options.final_time} nor {self._options.end_time}")
        end = max(start, end)
        answer = self._answer(start, end)
        talk = 0 if answer is None else end - answer
        code, scheme = self._cause(answered=answer is not None)
        call = Call(
            session_id=session_of(call_id),
            direction=_direction(self["direction"]),
            src=self["src"] or None,
            dest=self["dest"] or None,
            start=start,
            answer=answer,
            end=end,
            duration=talk,
            billed_duration=talk,
            hangup_cause_name=self["sip_reason"] or None,
            hangup_original_code=code,
            hangup_original_scheme=scheme,
            hangup_source=self["hangup_side"] or "switch",
            source_ip=self["source_ip"] or None,
            sip_call_id=call_id,
            extra=dict(self._members),
        )
        ring, name = self._instant("ring_time"), _display_name(self["src_name"])
        events = events_of(call, self["sip_code"], ring=ring, name=name, reason=self["reason"])
        return Attempt(self["sip_code"], call, events)

    def _answer(self, start: int, end: int) -> int | None:
        """When the call was answered. Where a record says that it was, but not when, it counts from its start."""
        if (answer := self._instant("answer_time")) is not None:
            return min(max(start, answer), end)
        if code := self["sip_code"]:
            return start if code.startswith("2") else None
        # Without both, its length tells: acc gives one to what was answered alone.
        return start if self._options.answer_time not in self._members and end > start else None

    def _instant(self, meaning: str) -> int | None:
        """The instant of that *meaning*; zero stands for one that never was, as an empty text does."""
        text = self[meaning]
        return (_instant(getattr(self._options, meaning), text, self._zone) or None) if text else None

    def _cause(self, *, answered: bool) -> tuple[str | None, CauseScheme | None]:
        if cause := _Q850.search(self["reason"][:MAX_REASON]):
            return cause[1], "q850"
        if answered:
            return "16", "q850"
        return (self["sip_code"], "sip") if self["sip_code"] else (None, None)


def _direction(said: str) -> Direction | None:
    """What the configuration says, unless it has words of its own, which stay with the rest."""
    said = said.lower()
    return said if said in DIRECTIONS else None


def _acc_row(row: Mapping[str, str], options: Options, zone: tzinfo) -> AccRow:
    """A row of the tables acc or missed_calls. Raises RecordError.

    acc writes a row when a transaction is over: that of an INVITE tells when it was answered, and not when it came.
    """
    call_id, method = row.get("callid", ""), row["method"].upper()
    if not call_id or method not in {"INVITE", "BYE"}:
        raise RecordError("is no row of an INVITE or a BYE with a callid")
    call = Call(
        session_id=session_of(call_id),
        direction=_direction(row.get(options.direction, "")),
        src=row.get(options.acc_src) or None,
        dest=row.get(options.acc_dest) or None,
        hangup_cause_name=row.get("sip_reason") or None,
        source_ip=row.get(options.source_ip) or None,
        sip_call_id=call_id,
    )
    return AccRow(
        time=_instant("time", row.get("time", ""), zone),
        is_bye=method == "BYE",
        code=row.get("sip_code", ""),
        from_tag=row.get("from_tag", ""),
        to_tag=row.get("to_tag", ""),
        call=call,
        columns=dict(row),
    )


def _instant(name: str, text: str, zone: tzinfo) -> int:
    """Milliseconds of epoch seconds, or of a time as databases write it. Raises RecordError."""
    if _SECONDS.fullmatch(text) and (seconds := Decimal(text)) < MAX_SECONDS:
        return int(seconds * SECOND)
    try:
        when = datetime.fromisoformat(text)
        instant = int(when.replace(tzinfo=when.tzinfo or zone).timestamp() * SECOND)
    except (ValueError, OverflowError):
        instant = -1
    if not 0 <= instant < MAX_SECONDS * SECOND:
        raise RecordError(f"{name} is {shortened(text)!r}: epoch seconds or a time expected")
    return instant


def _display_name(text: str) -> str:
    """A name as SIP writes it, without its quotes and backslashes."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _ESCAPED.sub(r"\1", text[1:-1])
    return text


plugin = Source(
    name="kamailio",
    readers=readers(Options()),
    splitter=lambda: ArraySplitter(Splitter()),
    options=Options(),
    configure=readers,
    silence=silence,
)
