"""Kamailio: the call records of acc_json, and rows of the acc module's tables exported as CSV.

Both hold text alone, and the empty one stands for what is not known. Which member or column means what is decided by
``cdr_extra`` and ``db_extra`` in the operator's kamailio.cfg; the defaults of the options are the names that the
configuration in docs/sources/kamailio.md gives them.
"""

import csv
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, tzinfo
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from callhouse.errors import RecordError, shortened
from callhouse.model.call import DIRECTIONS, Call, CauseScheme, Direction
from callhouse.model.event import Event, EventClass
from callhouse.model.instant import MAX_SECONDS, SECOND, time_zone
from callhouse.model.record import Part
from callhouse.sources import MAX_HEADER, MAX_ID, Cut, LineSplitter, ReadRecord, Source, json_object

_SECONDS = re.compile(r"\d{1,11}(\.\d{1,9})?", re.ASCII)
_Q850 = re.compile(r"Q\.850\s*;[^,]*?\bcause=(\d{1,3})\b", re.ASCII | re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_NOT_A_FAILURE = {"487"}
"""Who gives up before anybody answers makes no error."""

_TRIED_AGAIN = {*map(str, range(300, 400)), "401", "407", "413", "415", "416", "420", "421", "422", "494"}
"""Answers after which the caller's agent tries again, better, with the same Call-ID (RFC 3261, 8.1.3.4 and 8.1.3.5)."""

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


def readers(options: Options) -> Mapping[str, ReadRecord]:
    """The readers under *options*. Raises ValueError when these make no sense."""
    zone = time_zone(options.timezone)
    if not {"callid", "method", "time"} <= set(options.acc_columns.split(",")):
        raise ValueError("acc_columns must name callid, method and time")
    return {"kamailio": functools.partial(_read, options=options, zone=zone)}


class Splitter:
    """JSON objects, and rows of CSV: a row below a line of column names is a record together with that line."""

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._header = b""

    def take(self, number: int, line: bytes) -> Iterator[Cut]:
        for at, record in self._lines.take(number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line):
            if not self._header and _is_header(record):
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
    names = set(row.replace(b'"', b"").lower().split(b","))
    return {b"callid", b"method"} <= names or {b"start_time", b"end_time"} <= names


def _read(record: bytes, max_depth: int, *, options: Options, zone: tzinfo) -> Part:
    """One call, or what one row says of it. Raises RecordError."""
    if record[:1] == b"{":
        return _Record(json_object(record, max_depth), options, zone).part()
    row = _row(record.decode(errors="replace"), options)
    return _acc_part(row, options, zone) if "method" in row else _Record(row, options, zone).part()


def _row(text: str, options: Options) -> dict[str, Any]:
    header, newline, row = text.partition("\n")
    names, values = _cells(header if newline else options.acc_columns), _cells(row if newline else header)
    if len(names) != len(values):
        raise RecordError(
            f"is neither a JSON object nor a row of {len(names)} columns: {len(values)}; let the export begin with a "
            "line of column names, or set sources.kamailio.acc_columns"
        )
    return dict(zip((name.strip().lower() for name in names), values, strict=True))


def _cells(line: str) -> list[str]:
    try:
        [cells] = csv.reader([line.replace("\0", "\ufffd")])
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

    def part(self) -> Part:
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
        answer = self._instant("answer_time")
        if answer is not None:
            answer = min(max(start, answer), end)
        talk = 0 if answer is None else end - answer
        code, scheme = self._cause(answered=answer is not None)
        call = Call(
            session_id=session_of(call_id, self["start_time"] if self["sip_code"] in _TRIED_AGAIN else ""),
            direction=self._direction(),
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
        return Part(session_id=call.session_id, call=call, events=self._events(start, answer, end))

    def _instant(self, meaning: str) -> int | None:
        text = self[meaning]
        return _instant(getattr(self._options, meaning), text, self._zone) if text else None

    def _direction(self) -> Direction | None:
        """What the configuration says, unless it has words of its own, which stay with the rest."""
        said = self["direction"].lower()
        return said if said in DIRECTIONS else None

    def _cause(self, *, answered: bool) -> tuple[str | None, CauseScheme | None]:
        if cause := _Q850.search(self["reason"][:MAX_REASON]):
            return cause[1], "q850"
        if answered:
            return "16", "q850"
        return (self["sip_code"], "sip") if self["sip_code"] else (None, None)

    def _events(self, start: int, answer: int | None, end: int) -> tuple[Event, ...]:
        """What can be told of a call that no application handled: two to four steps."""
        caller, name = self["src"], _display_name(self["src_name"])
        code, reason, side = self["sip_code"], self["sip_reason"], self["hangup_side"] or "switch"
        failed = answer is None and code >= "4" and code not in _NOT_A_FAILURE
        steps: list[tuple[int | None, EventClass, str, dict[str, Any]]] = [
            (start, "info", f"INVITE from {caller} to {self['dest']}", {"name": name, "module_type": "invite"}),
            (self._instant("ring_time"), "info", "Ringing", {"module_type": "ring"}),
            (answer, "info", "Answered", {"module_type": "answer"}),
            (
                end,
                "error" if failed else "event",
                f"Ended by {side}" if answer is not None else " ".join(filter(None, (code, reason, f"({side})"))),
                {"sip_code": code, "sip_reason": reason, "reason": self["reason"], "module_type": "hangup"},
            ),
        ]
        return tuple(
            Event(min(max(start, at), end), seq, class_, line, {**data, "result_variable": ""})
            for seq, (at, class_, line, data) in enumerate(steps)
            if at is not None
        )


def _acc_part(row: Mapping[str, str], options: Options, zone: tzinfo) -> Part:
    """What one row of the tables acc or missed_calls says: the INVITE that the call began with, or its BYE.

    The store joins them, in any order. acc writes a row when a transaction is over, so the row of an INVITE tells when
    it was answered, and not when it came.
    """
    call_id, method = row.get("callid", ""), row["method"].upper()
    if not call_id or method not in {"INVITE", "BYE"}:
        raise RecordError("is no row of an INVITE or a BYE with a callid")
    at = _instant("time", row.get("time", ""), zone)
    session_id = session_of(call_id)
    if method == "BYE":
        ended = Call(session_id=session_id, sip_call_id=call_id, end=at, extra={"acc_bye": dict(row)})
        return Part(session_id=session_id, call=ended)
    code = row.get("sip_code", "")
    answered = code.startswith("2")
    if code in _TRIED_AGAIN:
        session_id = session_of(call_id, row["time"])
    began = Call(
        session_id=session_id,
        src=row.get(options.acc_src) or None,
        dest=row.get(options.acc_dest) or None,
        start=at,
        answer=at if answered else None,
        end=None if answered else at,
        hangup_cause_name=row.get("sip_reason") or None,
        hangup_original_code=("16" if answered else code) or None,
        hangup_original_scheme=("q850" if answered else "sip") if code else None,
        source_ip=row.get("src_ip") or None,
        sip_call_id=call_id,
        extra={"acc_invite": dict(row)},
    )
    return Part(session_id=session_id, call=began)


def session_of(call_id: str, attempt: str = "") -> str:
    """The session_id of a call: its Call-ID, which a sender may make longer than an id can be.

    An *attempt* that only led to another one is a call of its own, lest the two be taken for one.
    """
    session_id = f"{call_id};{attempt}" if attempt else call_id
    if len(session_id) <= MAX_ID:
        return session_id
    digest = hashlib.blake2b(session_id.encode(errors="replace"), digest_size=16).hexdigest()
    return f"{call_id[: MAX_ID - len(digest) - 1]}~{digest}"


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


plugin = Source(name="kamailio", readers=readers(Options()), splitter=Splitter, options=Options(), configure=readers)
