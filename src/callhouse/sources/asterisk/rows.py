"""One row that Asterisk wrote, a CDR or a CEL event, as CSV or JSON → the row in one normal form.

A CSV row has no header to say what it is, so columns.py tells from the number of its columns and from what stands in
them; a row of a header-led file comes as JSON. Stamps without a zone are read in a given one: an hour that occurs twice
is read as the first, unless the lengths in a CDR tell that it was the second, and one that does not occur as if the
clock had not been moved.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

import msgspec

from callhouse.errors import RecordError, shortened
from callhouse.model.instant import MAX_SECONDS
from callhouse.sources.asterisk import columns
from callhouse.sources.asterisk.columns import CEL_23, CEL_KINDS, CEL_NUMBERS, DISPOSITIONS

MAX_UNIQUEID = 150
MAX_CHANNEL = 100
"""Asterisk's own limits are 149 and 79 characters; a session id is made of one of each."""


class CelRow(msgspec.Struct, array_like=True, tag="cel", gc=False):
    """One event of one channel: *time* in microseconds, *rank* where times are the same, and the 23 columns of
    cel_custom in their order, *kind* never empty. So the normal form of such a row is little else than the row.
    """

    time: int
    rank: int
    title: str
    kind: str
    user_type: str
    stamp: str
    name: str
    num: str
    ani: str
    rdnis: str
    dnid: str
    exten: str
    context: str
    channel: str
    app: str
    appdata: str
    ama: str
    account: str
    uniqueid: str
    linkedid: str
    peer: str
    peer_account: str
    userfield: str
    extra: str
    tenant: str


class CdrRow(msgspec.Struct, array_like=True, tag="cdr", gc=False):
    """What a channel did with one other. Times are in microseconds; *sequence* is -1 where it was not written."""

    sequence: int
    uniqueid: str
    channel: str
    dstchannel: str
    src: str
    dst: str
    context: str
    clid: str
    app: str
    appdata: str
    start: int
    answer: int | None
    end: int
    disposition: str
    ama: str
    account: str
    peer_account: str
    userfield: str
    variables: dict[str, str]


class Lost(msgspec.Struct, array_like=True, tag="lost", gc=False):
    """Stands for the rows that a call cut off by a crash never got."""


Row = CelRow | CdrRow | Lost
decode_rows = msgspec.json.Decoder(list[Row]).decode
_decode_cel_row = msgspec.json.Decoder(CelRow).decode
encode_row = msgspec.json.Encoder().encode

_RANKS = {"CHAN_START": 0, "APP_END": 3, "STREAM_END": 3, "BRIDGE_EXIT": 3, "HANGUP": 7, "CHAN_END": 8}
_RANKS["LINKEDID_END"] = 9
_RANK = 5
_AMA_FLAGS = {"1": "OMIT", "2": "BILLING", "3": "DOCUMENTATION"}

_EPOCH = re.compile(r"\d{1,15}(?:\.\d{1,9})?")
_BETWEEN_MEMBERS = re.compile(r',"(?=\w+":)')
_ZERO_DATE = "0000-00-00"
"""MySQL's date of what never was."""

_NULLS = frozenset(("\\N", "NULL"))
"""What databases write into an export for a value that there is none of."""

_EPOCH_BEGAN = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = 1_000_000
_CLOSE = 60 * _MICROSECOND
"""Lengths are whole seconds and clocks are set; what differs by more is another hour."""

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode

Read = tuple[str, bytes]
"""The call that a row belongs to, and the row in its normal form."""


def values_of(text: str) -> list[str]:
    """The values of one row of CSV. Raises RecordError."""
    try:
        rows = list(csv.reader((text,), strict=True))
    except csv.Error as error:
        raise RecordError(f"is no row of CSV: {error}") from None
    if len(rows) != 1:
        raise RecordError("is no row of CSV: it is empty")
    return rows[0]


class RowReader:
    """Reads rows whose stamps are in *zone*; *cdr* and *cel* name the columns of files that have others than usual."""

    def __init__(self, zone: tzinfo, cdr: Sequence[str] = (), cel: Sequence[str] = ()) -> None:
        self._zone = zone
        self._cdr = tuple(cdr)
        self._cel = tuple(cel)

    def read(self, record: bytes) -> Read:
        """The row that *record* is. Raises RecordError."""
        if not self._cel and (quick := _quoted_cel_row(record)):
            return quick
        text = _text(record)
        if text[:1] == "{":
            return self._read_object(_object(record, text))
        values = values_of(text)
        names = self._columns(values)
        named = dict(zip(names, values, strict=True))
        return self._cel_row(named) if "stamp" in named else self._cdr_row(named)

    def _columns(self, values: Sequence[str]) -> tuple[str, ...]:
        """The configured columns whose number fits, and of two such those under which the row has a disposition."""
        if (
            len(values) == len(self._cdr)
            and dict(zip(self._cdr, values, strict=True)).get("disposition") in DISPOSITIONS
        ):
            return self._cdr
        return self._cel if len(values) == len(self._cel) else columns.inferred(values)

    def _read_object(self, given: Mapping[str, str]) -> Read:
        named = {columns.name_of(name): "" if value in _NULLS else value for name, value in given.items()}
        if "stamp" in named:
            return self._cel_row(named)
        if "disposition" in named:
            return self._cdr_row(named)
        raise RecordError("is no row of a CDR or CEL file: it has neither a disposition nor an eventtime")

    def _cel_row(self, row: dict[str, str]) -> Read:
        time = self._micros("eventtime", row["stamp"])
        if time is None:
            raise RecordError("eventtime is empty")
        known = {name: row.get(name, "") for name in CEL_23}
        known["title"] = CEL_NUMBERS.get(known["title"], known["title"])
        known["kind"] = known["kind"] or _kind(known["title"], known["user_type"])
        known["ama"] = _AMA_FLAGS.get(known["ama"], known["ama"])
        group = known["linkedid"] or known["uniqueid"]
        _check_ids(group, known["uniqueid"], known["channel"])
        return group, encode_row(CelRow(time, _rank(known["kind"]), **known))

    def _cdr_row(self, row: dict[str, str]) -> Read:
        """The CDR whose values by name are *row*, which is used up."""
        take = row.pop
        stamps = {name: take(name, "") for name in ("start", "answer", "end")}
        start, answer, end = (self._micros(name, text) for name, text in stamps.items())
        if start is None:
            raise RecordError("start is empty")
        duration, billsec = _seconds("duration", take("duration", "")), _seconds("billsec", take("billsec", ""))
        if duration is not None and end is not None and abs(end - start - duration) > _CLOSE:
            start, end = self._told_apart((stamps["start"], start), (stamps["end"], end), duration)
        if billsec is not None and answer is not None and end is not None and abs(end - answer - billsec) > _CLOSE:
            answer, _ = self._told_apart((stamps["answer"], answer), ("", end), billsec)
        disposition = take("disposition", "")
        if disposition not in DISPOSITIONS:
            raise RecordError(f"disposition is {shortened(disposition)!r}")
        if end is None:
            end = start + (duration or 0)
        if answer is None and billsec is not None and disposition == "ANSWERED":
            # Tables of CDRs often have the lengths alone.
            answer = end - billsec
        uniqueid, channel, dstchannel = take("uniqueid", ""), take("channel", ""), take("dstchannel", "")
        # With the sixteen columns that are always there, a row is all that is known of a call.
        group = take("linkedid", "") or uniqueid or f"{channel}@{start // _MICROSECOND}"
        _check_ids(group, uniqueid, channel)
        _check_ids(group, uniqueid, dstchannel)
        sequence = take("sequence", "")
        if sequence and not (sequence.isascii() and sequence.isdigit() and len(sequence) < 19):
            raise RecordError("sequence is no number")
        normal = CdrRow(
            sequence=int(sequence or -1),
            uniqueid=uniqueid or group,
            channel=channel,
            dstchannel=dstchannel,
            src=take("src", ""),
            dst=take("dst", ""),
            context=take("context", ""),
            clid=take("clid", ""),
            app=take("app", ""),
            appdata=take("appdata", ""),
            start=start,
            answer=answer,
            end=end,
            disposition=disposition,
            ama=take("ama", ""),
            account=take("account", ""),
            peer_account=take("peer_account", ""),
            userfield=take("userfield", ""),
            variables={name: value for name, value in sorted(row.items()) if value},
        )
        return group, encode_row(normal)

    def _told_apart(self, begin: tuple[str, int], end: tuple[str, int], length: int) -> tuple[int, int]:
        """Two stamps, written and read, that are not *length* apart, of which one may be of an hour's second time."""
        (began, first), (ended, last) = begin, end
        for one, two in ((first, self._second(ended, last)), (self._second(began, first), last)):
            if abs(two - one - length) <= _CLOSE:
                return one, two
        return first, last

    def _second(self, text: str, first: int) -> int:
        """Microseconds of *text* where it is an hour's second time; *first* is that of the first time."""
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            return first
        if when.tzinfo is not None:
            return first
        return (when.replace(tzinfo=self._zone, fold=1) - _EPOCH_BEGAN) // timedelta(microseconds=1)

    def _micros(self, name: str, text: str) -> int | None:
        """Microseconds of epoch seconds or of a date, None for a stamp that says never. Raises RecordError."""
        if len(text) == 17 and text[10] == "." and text.isascii():
            digits = text[:10] + text[11:]
            if digits.isdigit():
                return int(digits)
        if not text or text.startswith(_ZERO_DATE):
            return None
        if _EPOCH.fullmatch(text) and text.isascii():
            whole, _, fraction = text.partition(".")
            if int(whole) >= MAX_SECONDS:
                raise RecordError(f"{name} is out of range: seconds since 1970 expected, not milliseconds")
            return int(whole) * _MICROSECOND + int(fraction[:6].ljust(6, "0")) or None
        try:
            micros = _date(text, self._zone)
        except (ValueError, OverflowError):
            raise RecordError(f"{name} is {shortened(text)!r}; a date or epoch seconds expected") from None
        if micros < 0:
            raise RecordError(f"{name} is before 1970")
        return micros or None


def _quoted_cel_row(record: bytes) -> Read | None:
    """*record* if it is a row of 23 columns as cel_custom writes them, in a third of the time; None if it may not be.

    Such a row is JSON but for its brackets and the quotes within its last columns. Any other quote that is doubled, and
    a number that is not quoted, make it none, and a text in which JSON would see more than CSV has a backslash.
    """
    if b"\\" in record or record.count(b'","') < 22:
        return None
    first = record.find(b',"{""') + 2
    if first > 1:
        last = record.rfind(b'}"')
        record = record[:first] + record[first:last].replace(b'""', b'\\"') + record[last:]
    try:
        row = _decode_cel_row(b'["cel",0,0,%b]' % record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    stamp, kind, group = row.stamp, row.kind, row.linkedid
    # A number of JSON has no zero before it.
    if kind not in CEL_KINDS or not group or len(stamp) != 17 or stamp[10] != "." or stamp[0] == "0":
        return None
    digits = stamp[:10] + stamp[11:]
    if not (digits.isascii() and digits.isdigit()):
        return None
    _check_ids(group, row.uniqueid, row.channel)
    return group, b'["cel",%b,%d,%b]' % (digits.encode(), _rank(kind), record)


@lru_cache(maxsize=1024)
def _date(text: str, zone: tzinfo) -> int:
    """Microseconds of a date, in *zone* when it names none; the rows of a call have few dates. Raises ValueError."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        when = when.replace(tzinfo=zone)
    return (when - _EPOCH_BEGAN) // timedelta(microseconds=1)


def _rank(kind: str) -> int:
    return _RANKS.get(kind, _RANK)


def _kind(kind: str, user_type: str) -> str:
    """The kind of a row that has no eventenum: then a user's own event stands in its place under its own name."""
    return "USER_DEFINED" if kind not in CEL_KINDS and kind == user_type else kind


def _check_ids(group: str, uniqueid: str, channel: str) -> None:
    if not group:
        raise RecordError("names no call: its uniqueid and its linkedid are empty")
    if len(channel) > MAX_CHANNEL:
        raise RecordError(f"has a channel of more than {MAX_CHANNEL} characters")
    if len(group) > MAX_UNIQUEID or len(uniqueid) > MAX_UNIQUEID:
        raise RecordError(f"has a uniqueid or linkedid of more than {MAX_UNIQUEID} characters")


def _seconds(name: str, text: str) -> int | None:
    """Microseconds of a length in seconds. Raises RecordError."""
    if not text:
        return None
    if not (text.isascii() and _EPOCH.fullmatch(text)):
        raise RecordError(f"{name} is {shortened(text)!r}; seconds expected")
    if float(text) >= MAX_SECONDS:
        raise RecordError(f"{name} is out of range: seconds expected")
    return int(float(text) * _MICROSECOND)


def _text(record: bytes) -> str:
    if b"\0" in record:
        raise RecordError("holds a NUL character")
    try:
        return record.decode().strip()
    except UnicodeDecodeError:
        # Asterisk hands on a caller's name in the bytes in which it came.
        return record.decode("latin-1").strip()


def _object(record: bytes, text: str) -> dict[str, str]:
    try:
        decoded = _decode_object(record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        decoded = repaired(text)
    named = {name: _plain(value) for name, value in decoded.items()}
    if any("\0" in value for value in named.values()) or any("\0" in name for name in named):
        raise RecordError("holds a NUL character")
    return named


def repaired(text: str) -> dict[str, Any]:
    r"""The values of a line of JSON as Asterisk 20 writes it, which escapes ``"`` but not ``\``. Raises RecordError.

    There is one way to read such a line: within a value each ``"`` has a ``\`` before it, and what ends a value is not
    followed by a name.
    """
    members = _BETWEEN_MEMBERS.split(text.strip().removeprefix("{").removesuffix("}"))
    read: dict[str, Any] = {}
    for number, member in enumerate(members):
        name, colon, value = member.removeprefix('"' if number == 0 else "").partition('":')
        if value[:1] == '"' and len(value) > 1 and value[-1] == '"':
            value = value[1:-1]
            if '"' in value.replace('\\"', ""):
                colon = ""
            value = value.replace('\\"', '"')
        elif not _EPOCH.fullmatch(value) and value != "-1":
            colon = ""
        if not colon or not name or '"' in name or name in read:
            raise RecordError("is no JSON object, and not one that Asterisk would write")
        read[name] = value
    return read


def _plain(value: Any) -> str:
    """A value of a JSON row as CSV would show it."""
    if isinstance(value, str):
        return value
    if value is None or value is False:
        return ""
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return repr(value) if isinstance(value, float) else str(value)
