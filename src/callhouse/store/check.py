"""Whether all that the store holds can be read and agrees with itself."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from callhouse.errors import NoStore, StoreDamaged, StoreUnavailable
from callhouse.model import log as log_document
from callhouse.model.event import Event
from callhouse.model.instant import HOUR
from callhouse.store import concurrency, quarantine, rollups, totals
from callhouse.store.engine import Inspection, Progress, Row
from callhouse.store.fragments import digest_of, digests_in
from callhouse.store.log_writer import account_word
from callhouse.store.logs import LogCodec
from callhouse.store.sqlite import FILE_NAME
from callhouse.store.sqlite_inspection import inspected
from callhouse.store.stretches import Unreadable, ids, stretches
from callhouse.store.totals import Counted

TEXT_CHARACTERS = 16 * 1024 * 1024
"""Characters of logs that are compared with the search index at once."""

RESTORE = "restore the newest backup that is whole, and look after the disk"
DROP = "`callhouse quarantine drop {}` forgets it"

_CALLS = f"""
SELECT id, account_id, session_id, started, ended, event_count, extra, {totals.COLUMNS} FROM calls
WHERE id BETWEEN :first AND :last ORDER BY id LIMIT :limit
"""  # noqa: S608
_NAMES = "SELECT account_id, session_id, id FROM calls ORDER BY account_id, session_id"
_OF_NO_ORIGIN = """
SELECT account_id, session_id FROM calls
WHERE origin_id NOT IN (SELECT id FROM origins) OR changed_by NOT IN (SELECT id FROM origins)
ORDER BY account_id, session_id
"""
_COUNTS = "SELECT account_id, width, bucket, calls FROM {table}"
_TOTALS = "SELECT account_id, topic, width, name, bucket, calls, talk, billed FROM totals"
_NUMBERS = "SELECT account_id, number FROM counted_numbers"
_PEAKS = "SELECT account_id, hour, peak FROM hour_peaks WHERE peak IS NOT NULL ORDER BY account_id, hour"
_LOG = "SELECT account_id, ended, dictionary, size, document FROM logs WHERE call_id = :id"
_ERRORS = """
SELECT e.id, e.account_id, e.session_id, e.started, e.dest_key, c.started, c.ended, c.dest_key
FROM call_errors AS e LEFT JOIN calls AS c ON c.account_id = e.account_id AND c.session_id = e.session_id
WHERE e.id BETWEEN :first AND :last ORDER BY e.id LIMIT :limit
"""
_WAITING = "SELECT account_id, session_id, event FROM waiting_events WHERE id = :id"
_QUARANTINED = "SELECT account_id, source, digest, size, record FROM quarantine WHERE id = :id"
_GROUPS = """
SELECT account_id, name, source FROM fragments
WHERE (account_id, name, source) > (:account_id, :name, :source) ORDER BY account_id, name, source LIMIT 1000
"""
_GROUP = """
SELECT digests, document FROM fragments WHERE account_id = :account_id AND name = :name AND source = :source
"""
_decode_event = msgspec.json.Decoder(Event).decode


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as it was written: whose it is as far as that is known, and what to do.

    *part* is the table.
    """

    part: str
    problem: str
    remedy: str = RESTORE
    account: int | None = None
    session_id: str | None = None


class Report(msgspec.Struct):
    """What was looked at, in rows by table, and what was found."""

    checked: dict[str, int]
    findings: list[Finding]


def check_store(location: Path | str, on_progress: Progress) -> Report:
    """Look through one snapshot of the store at *location*, as open_store takes it, beside whoever uses it.

    Raises NoStore when there is none, and StoreUnavailable when it cannot be opened for another reason than damage.
    """
    if isinstance(location, str):
        # As in open_store.
        from callhouse.store import postgres_inspection  # noqa: PLC0415

        with postgres_inspection.inspected(location) as inspection:
            return Check(inspection, on_progress).run()
    return _check_directory(location, on_progress)


def _check_directory(directory: Path, on_progress: Progress) -> Report:
    path = directory / FILE_NAME
    if directory.is_file():
        raise StoreUnavailable(f"The data directory {directory} cannot be used: it is a file.")
    if not path.exists():
        raise NoStore(f"The directory {directory} holds no store.")
    try:
        with inspected(path, in_use=True) as inspection:
            return Check(inspection, on_progress).run()
    except StoreDamaged as error:
        return Report({}, [Finding("file", f"nothing of {path} can be read: {error.__cause__ or error}")])


class Check:
    """One look through a snapshot."""

    def __init__(self, inspection: Inspection, on_progress: Progress) -> None:
        self._inspection = inspection
        self._tell = on_progress
        self._codec = LogCodec()
        self._checked: Counter[str] = Counter()
        self._findings: list[Finding] = []
        self._counted: dict[rollups.Clock, Counter[tuple[int, int, int]]] = {
            clock: Counter() for clock in (rollups.START, rollups.END)
        }
        self._sums: defaultdict[int, totals.Totals] = defaultdict(totals.Totals)
        self._numbers: defaultdict[int, dict[str, bool]] = defaultdict(dict)
        self._index_is_readable = True

    def run(self) -> Report:
        self._file()
        steps: dict[str, Callable[[], None]] = {
            "dictionaries": self._dictionaries,
            "calls": self._calls,
            "call_errors": self._errors,
            "waiting_events": self._waiting,
            "fragments": self._fragments,
            "quarantine": self._quarantine,
        }
        for part, step in steps.items():
            try:
                step()
            except StoreDamaged as error:
                self._find(part, f"the rest cannot be looked through: {error.__cause__ or error}")
        return Report(dict(self._checked), self._findings)

    def _find(self, part: str, problem: str, **known: Any) -> None:
        self._findings.append(Finding(part, problem, **known))

    def _file(self) -> None:
        parts = self._inspection.parts()
        for number, part in enumerate(parts):
            self._tell("Pages", number, len(parts))
            for fault in self._inspection.faults(part):
                self._find(part, fault)

    def _dictionaries(self) -> None:
        try:
            self._codec.load(self._inspection)
        except zstandard.ZstdError as error:
            self._find("dictionaries", f"the dictionary of the logs cannot be used: {error}")

    def _calls(self) -> None:
        try:
            for account_id, number in self._inspection.rows(_NUMBERS, {}):
                self._numbers[account_id][number] = True
        except StoreDamaged as error:
            self._find("counted_numbers", f"which numbers are counted cannot be read: {error.__cause__ or error}")
        unreadable: set[int] = set()
        for first, last, rows in stretches(self._inspection, "calls", _CALLS, self._tell):
            if rows is None:
                unreadable.update(range(first, last + 1))
                continue
            self._checked["calls"] += len(rows)
            self._count(rows)
            self._logs(first, last, {row[0]: row for row in rows})
        self._origins()
        whose = self._lost_calls(unreadable) if unreadable else set()
        if whose is not None:
            self._rollups(whose)
            self._totals(whose)
            self._peaks(whose)

    def _origins(self) -> None:
        try:
            rows = self._inspection.rows(_OF_NO_ORIGIN, {})
        except StoreDamaged:
            # That was told when the file was looked through.
            return
        for account_id, session_id in rows:
            self._find("origins", "where the call came from is not known", account=account_id, session_id=session_id)

    def _lost_calls(self, call_ids: set[int]) -> set[int] | None:
        """Tell of the calls that cannot be read; the accounts whose they are, or None when that cannot be read either.

        Where rows were deleted no call is lost: which there were tells an index.
        """
        whose: set[int] = set()
        try:
            for account_id, session_id, call_id in self._inspection.rows(_NAMES, {}):
                if call_id in call_ids:
                    whose.add(account_id)
                    self._find("calls", "the call cannot be read", account=account_id, session_id=session_id)
        except StoreDamaged:
            self._find("calls", f"calls between log_id {min(call_ids)} and {max(call_ids)} cannot be read")
            return None
        return whose

    def _count(self, rows: list[Row]) -> None:
        for _, account_id, _, started, ended, _, _, *counted in rows:
            if started is not None and ended is not None:
                numbers = self._numbers[account_id]
                totals.gather(self._sums[account_id], [Counted(*counted)], numbers)
                for clock, instant in ((rollups.START, started), (rollups.END, ended)):
                    for width in rollups.WIDTHS:
                        self._counted[clock][account_id, width, instant // (width * HOUR)] += 1

    def _rollups(self, without: set[int]) -> None:
        """Compare the counts with the calls, but those of the accounts of which not all calls could be read."""
        for clock, counted in self._counted.items():
            try:
                rows = self._inspection.rows(_COUNTS.format(table=clock.table), {})
            except StoreDamaged as error:
                self._find(clock.table, f"the totals of lists cannot be read: {error.__cause__ or error}")
                continue
            stored = {(account_id, width, bucket): calls for account_id, width, bucket, calls in rows}
            self._checked[clock.table] += len(rows)
            for key in sorted(counted.keys() | stored.keys()):
                account_id, width, bucket = key
                if account_id not in without and counted[key] != stored.get(key, 0):
                    instant = bucket * width * HOUR // 1000
                    problem = f"{stored.get(key, 0)} calls {clock.column} in the {width} hours from {instant}"
                    self._find(clock.table, f"it says {problem}, but {counted[key]} did", account=account_id)

    def _totals(self, without: set[int]) -> None:
        """The same for the totals by topics and names."""
        try:
            rows = self._inspection.rows(_TOTALS, {})
        except StoreDamaged as error:
            self._find("totals", f"the totals of filters cannot be read: {error.__cause__ or error}")
            return
        self._checked["totals"] += len(rows)
        stored = {tuple(row[:5]): tuple(row[5:]) for row in rows}
        counted = {
            (account_id, *bucket): tuple(sums)
            for account_id, of_hours in self._sums.items()
            for bucket, sums in totals.buckets(of_hours).items()
        }
        for key in sorted(counted.keys() | stored.keys()):
            account_id, topic, width, name, bucket = key
            if account_id not in without and counted.get(key) != stored.get(key):
                since = bucket * width * HOUR // 1000
                told, true = (found.get(key, (0, 0, 0)) for found in (stored, counted))
                problem = f"it says {told} for {name!r} of topic {topic} in the {width} hours from {since}, not {true}"
                self._find("totals", problem, account=account_id)

    def _peaks(self, without: set[int]) -> None:
        try:
            rows = self._inspection.rows(_PEAKS, {})
            for account_id, hour, peak in rows:
                counted = concurrency.of_hour(self._inspection, account_id, hour)
                if account_id not in without and counted != peak:
                    problem = f"it says {peak} for the hour from {hour * HOUR // 1000}, not {counted}"
                    self._find("hour_peaks", problem, account=account_id)
        except StoreDamaged:
            # An index of calls is damaged, or the table itself: that was told when the file was looked through.
            return
        self._checked["hour_peaks"] += len(rows)

    def _logs(self, first: int, last: int, calls: Mapping[int, Row]) -> None:
        """Look at the logs of *calls*, which are all those from *first* to *last*, and at their words."""
        unread: set[int] = set()
        logged: set[int] = set()
        texts: dict[int, str] = {}
        size = 0
        for call_id in ids(self._inspection, "logs", "call_id", first, last):
            if isinstance(call_id, Unreadable):
                unread.update(range(call_id.first, call_id.last + 1))
                continue
            logged.add(call_id)
            text = self._log(call_id, calls.get(call_id))
            if text is None:
                unread.add(call_id)
            else:
                texts[call_id] = text
                size += len(text)
            if size > TEXT_CHARACTERS:
                self._words(first, call_id, texts, calls, unread)
                first, texts, size = call_id + 1, {}, 0
        self._words(first, last, texts, calls, unread)
        for call_id, (_, account_id, session_id, _, _, events, *_) in calls.items():
            if events and call_id not in logged:
                problem = "its log cannot be read" if call_id in unread else "its log is missing"
                self._find("logs", problem, account=account_id, session_id=session_id)

    def _log(self, call_id: int, call: Row | None) -> str | None:
        """The text that the log is searchable by; None when it cannot be read."""
        self._checked["logs"] += 1
        known = {} if call is None else {"account": call[1], "session_id": call[2]}
        try:
            [(account_id, ended, dictionary, size, document)] = self._inspection.rows(_LOG, {"id": call_id})
            _check_size(document, size)
            events = log_document.unpack(self._codec.decompress(self._inspection, dictionary, document))
        except KeyError as error:
            self._find("logs", f"its log cannot be read: dictionary {error} is missing", **known)
            return None
        except (StoreDamaged, zstandard.ZstdError, ValueError) as error:
            self._find("logs", f"its log cannot be read: {error.__cause__ or error}", **known)
            return None
        if call is None:
            self._find("logs", f"there is a log of a call, {call_id}, that is not there", account=account_id)
        elif (account_id, ended, len(events)) != (call[1], call[4], call[5]):
            self._find("logs", f"its log has {len(events)} events and not {call[5]}, or is another call's", **known)
        return " ".join([account_word(account_id), *(event.line for event in events)])

    def _words(
        self, first: int, last: int, texts: Mapping[int, str], calls: Mapping[int, Row], unread: set[int]
    ) -> None:
        if not self._index_is_readable:
            return
        try:
            misfiled = self._inspection.misfiled(first, last, texts)
        except StoreDamaged as error:
            self._index_is_readable = False
            self._find("log_words", f"searches fail, and were not compared with logs: {error.__cause__ or error}")
            return
        for call_id in sorted(misfiled - unread):
            known = {"account": calls[call_id][1], "session_id": calls[call_id][2]} if call_id in calls else {}
            self._find("log_words", "a search for the words of its log does not find it, or others do", **known)

    def _errors(self) -> None:
        for first, _, rows in stretches(self._inspection, "call_errors", _ERRORS, self._tell):
            if rows is None:
                self._find("call_errors", f"error {first} cannot be read, or its call cannot")
                continue
            self._checked["call_errors"] += len(rows)
            for _, account_id, session_id, *shown, started, ended, dest_key in rows:
                complete = started is not None and ended is not None
                if shown != ([started, dest_key] if complete else [None, None]):
                    problem = "an error of it is listed by another start or number than its own"
                    self._find("call_errors", problem, account=account_id, session_id=session_id)

    def _one_by_one(self, part: str, sql: str) -> Iterator[tuple[int, Row]]:
        """The rows of *part* by id, each read by itself, as it may be large; tells of those that cannot be read."""
        last = self._inspection.last_id(part)
        for row_id in ids(self._inspection, part, "id", 1, last):
            if isinstance(row_id, Unreadable):
                self._find(part, f"rows {row_id.first} to {row_id.last} cannot be read")
                continue
            self._tell(part, row_id, last)
            self._checked[part] += 1
            try:
                yield row_id, self._inspection.rows(sql, {"id": row_id})[0]
            except StoreDamaged as error:
                self._find(part, f"row {row_id} cannot be read: {error.__cause__ or error}")

    def _waiting(self) -> None:
        for _, (account_id, session_id, event) in self._one_by_one("waiting_events", _WAITING):
            try:
                _decode_event(event)
            except msgspec.DecodeError as error:
                problem = f"an event of this call in progress cannot be read: {error}"
                self._find("waiting_events", problem, account=account_id, session_id=session_id)

    def _quarantine(self) -> None:
        for row_id, (account_id, source, digest, size, record) in self._one_by_one("quarantine", _QUARANTINED):
            try:
                _check_size(record, size)
                is_whole = quarantine.digest_of(source, zstandard.decompress(record)) == digest
            except (zstandard.ZstdError, ValueError):
                is_whole = False
            if not is_whole:
                problem = f"the refused record {row_id} cannot be read"
                self._find("quarantine", problem, account=account_id, remedy=DROP.format(row_id))

    def _fragments(self) -> None:
        after: dict[str, Any] = {"account_id": 0, "name": "", "source": ""}
        while groups := self._inspection.rows(_GROUPS, after):
            for account_id, name, source in groups:
                after = {"account_id": account_id, "name": name, "source": source}
                self._checked["fragments"] += 1
                try:
                    problem = _fault_of_group(*self._inspection.rows(_GROUP, after)[0])
                except (StoreDamaged, zstandard.ZstdError, MemoryError) as error:
                    problem = f"the rows that {source} sent of it cannot be read: {error.__cause__ or error}"
                if problem is not None:
                    self._find("fragments", problem, account=account_id, session_id=name)


def _check_size(blob: bytes, size: int) -> None:
    """Raise ValueError when *blob* does not unpack to *size* bytes: a damaged one may ask for more memory than there
    is.
    """
    if zstandard.frame_content_size(blob) != size:
        raise ValueError("its size is another than was written")


def _fault_of_group(digests: bytes, document: bytes | None) -> str | None:
    rows = [] if document is None else zstandard.decompress(document).split(b"\n")
    if {digest_of(row) for row in rows} <= digests_in(digests):
        return None
    return "its rows are not those that were sent"
