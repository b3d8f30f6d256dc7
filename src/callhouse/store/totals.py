"""What calls come to by hours and days, in several ways, kept in the transaction that writes the calls.

``totals`` holds calls, talk and billed time by topic, hour or day, and name. It answers filters by kind or number with
their exact total, and all that a dashboard shows of a year. Of numbers only some are counted (``counted_numbers``): an
account's own, which are few, and those that have many calls. All others have so few that an index counts them.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from callhouse.model import week
from callhouse.model.instant import HOUR
from callhouse.model.step import Step, decode_step, encode_step
from callhouse.store import kinds, rollups
from callhouse.store.engine import Reader, Transaction
from callhouse.store.rollups import COMPLETE

# Topics. All but ENDED count a call where it started.
STARTED, ENDED, DEST, SRC, APPLICATION, STEP, QUARTER = range(7)
"""By kind, twice; by counted number, as the dialled one, and as the calling one where that is another; by application;
by application and last step; by quarter of the hour."""

WIDTHS = (1, 24)
"""Bucket widths in hours."""

MANY = 5_000
"""A number with so many calls is soon counted."""

FEW_NUMBERS = 1_000
"""An account's counted numbers, if fewer than these, are looked up all at once."""

SAMPLED = 256
"""Of one in so many calls the numbers are looked at: whether they have many."""

LONGEST_NAME = 100
"""Characters of an application's name that are told apart."""

_LONGEST = f"substr(application_name, 1, {LONGEST_NAME})"
OF_APPLICATION = f"{_LONGEST} = :application"
OF_STEP = f"last_step = :last_step AND coalesce({_LONGEST}, '') = :of_application"


class Counted(NamedTuple):
    """What is counted of a complete call; the values of COLUMNS."""

    started: int
    ended: int
    kind: int
    talk: int | None
    billed_duration: int | None
    src_key: str | None
    dest_key: str | None
    application_name: str | None
    last_step: str | None

    @property
    def own_number(self) -> str | None:
        """The account's own number: that dialled, but of an outbound call the calling one."""
        return self.src_key if self.kind & 3 == 1 else self.dest_key


COLUMNS = ", ".join(Counted._fields)

Key = tuple[int, str, int]
"""Topic, name and hour."""

Sums = list[int]
"""Calls, and milliseconds talked and billed."""


class Totals(defaultdict[Key, Sums]):
    """Sums by what they are of."""

    def __init__(self, sums: Mapping[Key, Sums] | None = None) -> None:
        super().__init__(lambda: [0, 0, 0], sums or {})


_ADD = """
INSERT INTO totals (account_id, topic, width, name, bucket, calls, talk, billed)
VALUES (:account_id, :topic, :width, :name, :bucket, :calls, :talk, :billed)
ON CONFLICT (account_id, topic, width, name, bucket) DO UPDATE
SET calls = totals.calls + excluded.calls, talk = totals.talk + excluded.talk, billed = totals.billed + excluded.billed
"""
_FORGET_EMPTY = """
DELETE FROM totals
WHERE account_id = :account_id AND topic = :topic AND width = :width AND name = :name AND bucket = :bucket AND calls = 0
"""
_UNSETTLE = """
INSERT INTO hour_peaks (account_id, hour, peak) VALUES (:account_id, :hour, NULL)
ON CONFLICT (account_id, hour) DO UPDATE SET peak = NULL
"""
_IS_COUNTED = "SELECT number, is_own FROM counted_numbers WHERE account_id = :account_id AND number = :number"
_COUNTED_NUMBERS = "SELECT number, is_own FROM counted_numbers WHERE account_id = :account_id LIMIT :limit"
_COUNT_NUMBER = """
INSERT INTO counted_numbers (account_id, number, is_own) VALUES (:account_id, :number, :is_own)
ON CONFLICT (account_id, number) DO UPDATE SET is_own = excluded.is_own
"""
_AS_DEST = f"account_id = :account_id AND {COMPLETE} AND dest_key = :number"
_AS_SRC = f"account_id = :account_id AND {COMPLETE} AND src_key = :number"
_SOME = "SELECT count(*) FROM (SELECT 1 AS one FROM calls WHERE {where} LIMIT :limit) AS first_ones"
_HISTORY = f"SELECT id, {COLUMNS} FROM calls WHERE {{where}}"  # noqa: S608

_EDGE = (
    f"(SELECT count(*) FROM calls WHERE account_id = :account_id AND {COMPLETE} "  # noqa: S608
    "AND {column} >= :a{{n}} AND {column} < :b{{n}} AND {of})"
)
_BUCKETS = (
    "(SELECT coalesce(sum(calls), 0) FROM totals WHERE account_id = :account_id AND topic = :topic "
    "AND width = {width} AND name IN ({names}) AND bucket >= :a{n} AND bucket < :b{n})"
)

# The names of a topic one after the other, each found by one step down the key.
_NAMES = """
WITH RECURSIVE names (name) AS (
    SELECT min(name) FROM totals WHERE account_id = :account_id AND topic = :topic AND width = 24
    UNION ALL
    SELECT (
        SELECT min(name) FROM totals
        WHERE account_id = :account_id AND topic = :topic AND width = 24 AND name > names.name
    ) FROM names WHERE names.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL
"""


def talked(call: Counted) -> int:
    """How long the answered part was: as far as is known, or else the whole call."""
    if call.talk is not None:
        return call.talk
    return call.ended - call.started if kinds.is_answered(call.kind) else 0


def application_of(call: Counted) -> str:
    return (call.application_name or "")[:LONGEST_NAME]


def step_of(call: Counted) -> str:
    """The name of a step in the totals: application, step and its type."""
    assert call.last_step is not None
    return _step_of(application_of(call), call.last_step)


@functools.lru_cache(4_096)
def _step_of(application: str, last_step: str) -> str:
    return msgspec.json.encode((application, *decode_step(last_step))).decode()


def add(tx: Transaction, account_id: int, gone: Sequence[Counted], come: Sequence[Counted]) -> None:
    """Count that of the calls of an account some have *gone* and others have *come*.

    A call that has changed is in both. The calls table must hold what *come* and no longer hold what is *gone*, unless
    it changed.
    """
    numbers = _numbers(tx, account_id, gone, come)
    sums = Totals()
    gather(sums, gone, numbers, -1)
    gather(sums, come, numbers)
    _put(tx, account_id, sums)
    for clock, topic in ((rollups.START, STARTED), (rollups.END, ENDED)):
        hours: defaultdict[tuple[int, int], int] = defaultdict(int)
        for (of, _, hour), (calls_more, *_) in sums.items():
            if of == topic:
                hours[account_id, hour * HOUR] += calls_more
        rollups.add(tx, hours, clock)
    touched = {hour for topic, _, hour in sums if topic in {STARTED, ENDED}}
    tx.each(_UNSETTLE, ({"account_id": account_id, "hour": hour} for hour in sorted(touched)))
    _count_more(tx, account_id, come, numbers)


def buckets(sums: Totals) -> dict[tuple[int, int, str, int], Sums]:
    """The rows of *sums* in all widths: by topic, width, name and bucket; those of nothing are left out."""
    rows: defaultdict[tuple[int, int, str, int], Sums] = defaultdict(lambda: [0, 0, 0])
    for (topic, name, hour), (calls, talk, billed) in sums.items():
        if calls or talk or billed:
            # Of the quarters only those of hours are asked for.
            for width in WIDTHS[:1] if topic == QUARTER else WIDTHS:
                found = rows[topic, width, name, hour // width]
                found[0] += calls
                found[1] += talk
                found[2] += billed
    return rows


def _put(tx: Transaction, account_id: int, sums: Totals) -> None:
    rows = [
        {
            "account_id": account_id,
            "topic": topic,
            "width": width,
            "name": name,
            "bucket": bucket,
            "calls": calls,
            "talk": talk,
            "billed": billed,
        }
        for (topic, width, name, bucket), (calls, talk, billed) in buckets(sums).items()
    ]
    tx.each(_ADD, rows)
    tx.each(_FORGET_EMPTY, (_key(row) for row in rows if cast("int", row["calls"]) < 0))


def _key(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("account_id", "topic", "width", "name", "bucket")}


def _numbers(tx: Transaction, account_id: int, *calls: Sequence[Counted]) -> dict[str, bool]:
    """The numbers that are counted, at least those of *calls*, each with whether it is the account's own."""
    numbers: dict[str, bool] = dict(tx.rows(_COUNTED_NUMBERS, {"account_id": account_id, "limit": FEW_NUMBERS}))
    if len(numbers) == FEW_NUMBERS:
        met = {key for some in calls for call in some for key in (call.src_key, call.dest_key) if key is not None}
        return dict(tx.each(_IS_COUNTED, ({"account_id": account_id, "number": key} for key in sorted(met))))
    return numbers


def _count_more(tx: Transaction, account_id: int, come: Sequence[Counted], numbers: Mapping[str, bool]) -> None:
    """Begin to count the numbers of calls that have *come* which are the account's own or have many calls."""
    own = {call.own_number for call in come}
    # One in so many calls, whatever batches they come in.
    looked_at = [call for call in come if call.started % SAMPLED == 0]
    others = {key for call in looked_at for key in (call.src_key, call.dest_key)}
    for number in sorted(key for key in own | others if key is not None):
        parameters = {"account_id": account_id, "number": number}
        is_own = number in own
        if number in numbers:
            if is_own and not numbers[number]:
                tx.each(_COUNT_NUMBER, [{**parameters, "is_own": 1}])
        elif is_own or _has_many(tx, parameters):
            tx.each(_COUNT_NUMBER, [{**parameters, "is_own": int(is_own)}])
            _put(tx, account_id, _history(tx, parameters))


def _has_many(tx: Transaction, parameters: Mapping[str, Any]) -> bool:
    some = (_SOME.format(where=where) for where in (_AS_DEST, _AS_SRC))
    return any(tx.rows(sql, {**parameters, "limit": MANY})[0][0] == MANY for sql in some)


def _history(tx: Transaction, parameters: Mapping[str, Any]) -> Totals:
    """The sums of all calls of a number that was not counted before."""
    found: dict[int, Counted] = {}
    for where in (_AS_DEST, _AS_SRC):
        rows = tx.rows(_HISTORY.format(where=where), parameters)
        found.update((row[0], Counted(*row[1:])) for row in rows)
    sums = Totals()
    gather(sums, found.values(), {parameters["number"]})
    return Totals({key: value for key, value in sums.items() if key[0] in {DEST, SRC}})


def gather(sums: Totals, calls: Iterable[Counted], numbers: Container[str], sign: int = 1) -> None:
    """Add to *sums*, or take from them, what *calls* come to in all topics; *numbers* are those that are counted."""
    for call in calls:
        started, ended, kind, _, billed, src, dest, _, step = call
        hour, rest = divmod(started, HOUR)
        keys: list[Key] = [
            (STARTED, str(kind), hour),
            (ENDED, str(kind), ended // HOUR),
            (QUARTER, str(rest // week.QUARTER), hour),
            (APPLICATION, application_of(call), hour),
        ]
        if step is not None:
            keys.append((STEP, step_of(call), hour))
        if dest is not None and dest in numbers:
            keys.append((DEST, dest, hour))
        if src is not None and src in numbers and src != dest:
            keys.append((SRC, src, hour))
        more = sign, sign * talked(call), sign * (billed or 0)
        for key in keys:
            found = sums[key]
            found[0] += more[0]
            found[1] += more[1]
            found[2] += more[2]


def names(reader: Reader, account_id: int, topic: int) -> list[str]:
    """All that an account has of a topic."""
    return [name for (name,) in reader.rows(_NAMES, {"account_id": account_id, "topic": topic})]


def chosen_kinds(reader: Reader, account_id: int, wanted: Callable[[int], bool]) -> list[int]:
    """The kinds among an account's complete calls that are *wanted*."""
    return [kind for kind in map(int, names(reader, account_id, STARTED)) if wanted(kind)]


def is_counted(reader: Reader, account_id: int, number: str) -> bool:
    return bool(reader.rows(_IS_COUNTED, {"account_id": account_id, "number": number}))


def calls_of_kinds(
    reader: Reader, account_id: int, chosen: Sequence[int], since: int, until: int, clock: rollups.Clock
) -> int:
    """How many complete calls of the *chosen* kinds the window holds."""
    named = {f"kind{n}": kind for n, kind in enumerate(chosen)}
    # The index of kinds is in the order of starts.
    topic, plus = (STARTED, "") if clock is rollups.START else (ENDED, "+")
    edge = _EDGE.format(column=clock.column, of=f"{plus}kind IN ({', '.join(f':{name}' for name in named)})")
    return _total(reader, account_id, topic, list(map(str, chosen)), since, until, edge, named)


def calls_of_number(reader: Reader, account_id: int, number: str, since: int, until: int, *, either: bool) -> int:
    """How many complete calls to *number*, or to and from it, the window holds; the number must be counted."""
    given = {"number": number}
    edge = _EDGE.format(column="started", of="dest_key = :number")
    calls = _total(reader, account_id, DEST, [number], since, until, edge, given)
    if either:
        edge = _EDGE.format(column="started", of="src_key = :number AND dest_key IS DISTINCT FROM :number")
        calls += _total(reader, account_id, SRC, [number], since, until, edge, given)
    return calls


def calls_of_application(reader: Reader, account_id: int, application: str, since: int, until: int) -> int:
    """How many complete calls of *application* the window holds."""
    name = application[:LONGEST_NAME]
    edge = _EDGE.format(column="started", of=OF_APPLICATION)
    return _total(reader, account_id, APPLICATION, [name], since, until, edge, {"application": name})


def calls_of_step(reader: Reader, account_id: int, application: str, step: Step, since: int, until: int) -> int:
    """How many complete calls whose log ends at *step* of *application* (empty: none) the window holds."""
    last_step = encode_step(step)
    edge = _EDGE.format(column="started", of=OF_STEP)
    given = {"last_step": last_step, "of_application": application}
    return _total(reader, account_id, STEP, [_step_of(application, last_step)], since, until, edge, given)


def _total(
    reader: Reader,
    account_id: int,
    topic: int,
    chosen: Sequence[str],
    since: int,
    until: int,
    edge: str,
    given: Mapping[str, Any],
) -> int:
    """The calls of the *chosen* names; *edge* counts those of a part of an hour."""
    if not chosen or since >= until:
        return 0
    parameters: dict[str, Any] = {"account_id": account_id, "topic": topic, **given}
    parameters |= {f"name{n}": name for n, name in enumerate(chosen)}
    listed = ", ".join(f":name{n}" for n in range(len(chosen)))
    terms = []
    for n, (width, low, high) in enumerate(rollups.cut(since, until, WIDTHS)):
        if low < high:
            terms.append(edge.format(n=n) if width == 0 else _BUCKETS.format(n=n, width=width, names=listed))
            parameters |= {f"a{n}": low, f"b{n}": high}
    return int(reader.rows(f"SELECT {' + '.join(terms)}", parameters)[0][0])
