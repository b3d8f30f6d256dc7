"""Every statement says of which account it is, wherever it names a table that is distributed by account.

Then a cluster sends it to the one server that has the account's rows.
"""

import importlib
import json
import pkgutil
import re
from datetime import UTC

import apsw
import msgspec
import pytest

from callhouse import simulation
from callhouse import store as store_package
from callhouse.model.browsing import CallFilter, Place, Search
from callhouse.model.event import Event
from callhouse.model.instant import DAY, HOUR, YEAR
from callhouse.model.query import CallQuery
from callhouse.model.record import Part, Record
from callhouse.model.step import Step
from callhouse.model.week import WeekHour
from callhouse.sources.asterisk import Options, silence
from callhouse.sources.native import read_call, read_events
from callhouse.store import by_end, imports, logs
from callhouse.store.browsing import FOREVER
from callhouse.store.mirrors import Advance
from mirror.stand import mirror
from sources.asterisk_rows import CEL, cel, read, rows_of
from store.asking import NOW, all_that_is_asked, call

DISTRIBUTED = {
    "calls", "origins", "call_counts", "end_counts", "totals", "counted_numbers", "hour_peaks", "logs",
    "waiting_events", "fragments", "call_errors", "imports", "followed_files", "arrivals", "quarantine",
}  # fmt: skip
REFERENCE = {"meta", "accounts", "credentials", "sign_ins", "dictionaries", "mirrors", "mirror_losses"}
# SQLite's full text index is a table of no columns of ours: the engine alone names it.
WORDS = "log_words"
VERBS = ("SELECT", "WITH", "INSERT", "UPDATE", "DELETE")
# These read a store as a whole, or are no part of the store's own work.
WHOLE = {
    "backup",
    "check",
    "postgres_inspection",
    "stretches",
    "sqlite",
    "sqlite_copy",
    "sqlite_inspection",
    "sqlite_watch",
}


def parts_of(sql):
    """Each SELECT, INSERT, UPDATE or DELETE of *sql* without the ones within it; other parentheses become brackets."""
    sql = re.sub(r"'[^']*'", "''", " ".join(sql.split()))
    while inner := re.search(r"\(([^()]*)\)", sql):
        is_query = inner[1].strip().startswith(VERBS)
        if is_query:
            yield from re.split(r"\bUNION(?: ALL)?\b", inner[1])
        sql = sql[: inner.start()] + (" subselect " if is_query else f"[{inner[1]}]") + sql[inner.end() :]
    yield from re.split(r"\bUNION(?: ALL)?\b", sql)


def unnamed(part):
    """The distributed tables of a part of a statement that are not bound to the account."""
    if written := re.search(r"\bINSERT INTO (\w+) (.*)", part):
        table, rest = written.groups()
        columns, values, *conflict = re.findall(r"\[([^\[\]]*)\]", rest)[:3]
        bound = "account_id" in columns.split(", ") and ":account_id" in values.split(", ")
        once = "ON CONFLICT" not in rest or "account_id" in conflict[0].split(", ")
        return set() if table not in DISTRIBUTED or (bound and once) else {table}
    while "[" in part:
        part = re.sub(r"\[[^\[\]]*\]", "", part)
    part = re.sub(r"\bCASE\b.*?\bEND\b", "", part)
    found = re.findall(r"\b(?:FROM|JOIN|UPDATE) (\w+)(?: AS (\w+))?", part)
    tables = {alias or table: table for table, alias in found if table in DISTRIBUTED}
    if " OR " in part.partition(" WHERE ")[2]:
        return set(tables)
    prefix = "" if len(found) > 1 else "?"
    bound = {name for name in tables if re.search(rf"(?<![\w.+])(?:{name}\.){prefix}account_id = :account_id\b", part)}
    joins = re.findall(r"(\w+)\.account_id = (\w+)\.account_id", part)
    for _ in joins:
        bound |= {name for pair in joins for name in pair if bound & {*pair}}
    return {name for name in tables if name not in bound}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM calls",
        "SELECT id FROM calls WHERE id = :id",
        "SELECT id FROM calls WHERE account_id = :account_id OR id = :id",
        "SELECT id FROM calls WHERE id = :id AND (:account_id IS NULL OR account_id = :account_id)",
        "SELECT (SELECT max(id) FROM accounts), (SELECT max(id) FROM logs)",
        "SELECT 1 FROM calls WHERE account_id = :account_id UNION ALL SELECT 1 FROM calls WHERE id = :id",
        "SELECT 1 FROM calls JOIN logs ON logs.call_id = calls.id WHERE calls.account_id = :account_id",
        "SELECT 1 FROM calls JOIN logs ON logs.account_id = calls.account_id WHERE calls.id = :id",
        "SELECT 1 FROM calls WHERE account_id = :account_id AND EXISTS (SELECT 1 FROM logs WHERE call_id = calls.id)",
        "INSERT INTO logs (call_id) VALUES (:call_id)",
        "INSERT INTO logs (account_id, id) VALUES (:account_id, :id) ON CONFLICT (id) DO NOTHING",
        "UPDATE calls SET ended = :ended WHERE id = :id",
        "DELETE FROM calls WHERE id = :id RETURNING account_id",
    ],
)
def test_a_statement_that_is_of_all_accounts_is_found_out(sql):
    assert any(map(unnamed, parts_of(sql)))


async def sent(store, account, source, read_record, *records):
    rows = [json.dumps(record).encode() if isinstance(record, dict) else record for record in records]
    return await store.ingest([Record(account=account, source=source, raw=raw, read=read_record(raw)) for raw in rows])


def native(raw):
    return read_call(raw, 32)


def events(raw):
    return read_events(raw, 32)


def refused(raw):
    return f"cannot be read: {raw[:3]}"


async def what_comes_in(store, account, clock):
    """Records of all kinds, in whole and in part, and all that becomes of them."""
    error = {"timestamp": NOW / 1000, "class": "error", "line": "It failed"}
    steps = [{"timestamp": NOW / 1000, "class": "info", "line": "Later " * 500}, error]
    await sent(store, account, "events", events, {"session_id": "late", "events": steps})
    await sent(store, account, "calls", native, call("late") | {"session_id": "late"})
    await sent(store, account, "calls", native, *(call(n, sip_call_id="c", application_name="A") for n in range(20)))
    # A call of which more is told, one whose end moves, and one that turns out to go on.
    await sent(store, account, "events", events, {"session_id": "s1", "events": steps})
    await sent(store, account, "calls", native, call(2, end=NOW / 1000 + 100, events=[]), call(3, start=NOW / 1000 + 1))
    # An error of a log that is too old to be kept, and logs that others take the place of, over and in progress.
    old = (NOW - 6 * DAY) / 1000
    await sent(store, account, "calls", native, call("old", start=old, end=old, events=[error | {"timestamp": old}]))
    await sent(store, account, "events", events, {"session_id": "open", "events": steps})
    instead = Event(NOW, None, "error", "Instead", {})
    for session_id in ("s1", "open"):
        part = Part(session_id=session_id, events=(instead,), replaces_log=True)
        await store.load([Record(account=account, source="calls", raw=session_id.encode(), read=part)])
    rows = rows_of(CEL)
    for n in range(0, len(rows), 7):
        await sent(store, account, "asterisk", read, *rows[n : n + 7])
    await sent(store, account, "asterisk", read, cel("CHAN_START", 1, "SIP/t-1", "a.1", "a.1"))
    clock.now += 1
    assert await store.close_lost(account, "asterisk", silence(Options()).row, clock.now) > 0
    await sent(store, account, "nothing", refused, *(b"%d" % n for n in range(8)))
    place = imports.Place(
        account_id=account.id, source="calls", options=b"", id=b"1", path="f", size=1, head=b"", digest=b"",
        records=1, is_whole=True,
    )  # fmt: skip
    await store.load([], [place])
    assert await store.imports.places(account.id, "calls", b"")
    await store.imports.put_read_until(account.id, "calls", {"f": NOW})
    assert await store.imports.read_until(account.id, "calls")
    await store.probe()


async def what_is_looked_at(store, account, other):
    """The console's pages of calls."""
    of = {"account_id": account.id, "since": 0, "until": FOREVER, "details_since": 0, "errors_since": 0}
    search = Search(text="s1", number=None, words=("hello",))
    step = ("A", Step("menu", "m"))
    for more in (
        {},
        {"search": search},
        {"search": msgspec.structs.replace(search, number="1")},
        {"number": "1"},
        {"number": "nobody"},
        {"application": "A"},
        {"last_step": step},
        {"has_errors": True},
        {"has_errors": False},
        {"under_way": NOW},
        {"directions": ("inbound",), "statuses": ("answered", "in progress")},
        {"cause_code": 16, "shortest": 1, "longest": 10 * HOUR},
        {"without_cause": True},
        {"week_hour": WeekHour(0, 1, UTC), "since": NOW - DAY, "until": NOW + DAY},
    ):
        asked = CallFilter(**(of | more))
        for place in (None, Place(NOW, "s2")):
            for newer in (False, True):
                await store.browsing.page(asked, 5, place, newer=newer, patient=True)
            await store.browsing.whole(asked, 5, place)
        await store.browsing.count(asked, patient=True)
    one = await store.browsing.one(account.id, "s1", 0, 0)
    await store.browsing.legs(account.id, msgspec.structs.replace(one, parent_call_uuid="u"), 0)
    await store.browsing.of_sip_call(account.id, "c", 0)
    await store.browsing.applications(account.id, 0)
    for session_id in ("s1", "a.1", "lab1-1795213272.0"):
        await store.calls.whole(account.id, session_id, since=0, details_since=0)
    asked = CallQuery(account_ids=(account.id,), shown_since=(0,), since=0, until=2 * NOW, limit=10)
    assert await store.calls.of_sip_call(asked, "c")
    await store.calls.by_log_id(account.id, 1, ("session_id",), since=0)
    for number in (None, "1"):
        page = await store.errors.page(msgspec.structs.replace(asked, number=number))
        await store.errors.read(account.id, page.rows or [1])
    both = msgspec.structs.replace(asked, account_ids=(account.id, other.id), shown_since=(0, 0), limit=100)
    assert len((await store.calls.page_by_end(both, ("session_id",))).rows) > by_end.FIRST_KEYS
    for account_id in (account.id, other.id):
        await store.days(account_id, 30)
        await store.horizon(account_id)
        await store.arrivals.of(account_id)
    await store.figures.compared([account, other], NOW - 40 * DAY + 1, NOW + 30 * DAY, "Europe/Berlin")


async def what_is_refused(store, account):
    """The quarantine, of one account and of all."""
    for account_id in (None, account.id):
        entries = await store.quarantine.list(account_id, limit=3)
        assert len(entries) == 3
        assert await store.quarantine.count(account_id) >= 8
        await store.quarantine.reasons(account_id, limit=3)
    for reason in (None, entries[0].reason):
        assert await store.quarantine.newest(account.id, before=2**62, limit=3, reason=reason)
    assert await store.quarantine.get(entries[0].id) == await store.quarantine.of(account.id, entries[0].id)
    raw = await store.quarantine.record(entries[0])
    record = Record(account=account, source="calls", raw=raw, read=native(json.dumps(call(1)).encode()))
    assert (await store.replay(record, entries[0].id)).refusal is None
    assert await store.quarantine.drop(entries) == 2
    assert await store.quarantine.drop_all(account.id) > 0


async def what_is_followed(store, account):
    """A mirror."""
    await store.mirrors.add(mirror("plivo", "user", account.id, NOW))
    [known] = await store.mirrors.all()
    assert await store.mirrors.take(known.id, "me", 2 * NOW)
    step = Advance(
        mirror_id=known.id, owner="me", owned_until=2 * NOW, succeeded=NOW, place="[]", calls=1, speed=1.0, losses=[]
    )
    raw = json.dumps(call(77)).encode()
    records = [Record(account=account, source="mirror:plivo", raw=raw, read=native(raw))]
    await store.load_mirrored(records, lambda _: step)


async def everything(store, clock):
    accounts = []
    for email in ("c@x", "d@x"):
        made, _ = await store.accounts.create(email=email, login=None, plan="standard", timezone="UTC", parent_id=None)
        accounts.append(made)
        await what_comes_in(store, made, clock)
    await what_is_looked_at(store, *accounts)
    await what_is_refused(store, accounts[0])
    await what_is_followed(store, accounts[0])
    simulated = simulation.calls(3, 2 * logs.SAMPLES, NOW - DAY, NOW)
    parts = [Part(session_id=made.session_id, call=made, events=events) for made, events in simulated]
    source = "simulation"
    await store.load(
        [Record(account=accounts[1], source=source, raw=part.session_id.encode(), read=part) for part in parts]
    )
    assert await store.train()
    deep = CallQuery(account_ids=(accounts[1].id,), since=0, until=2 * NOW, limit=1, offset=550, oldest_first=True)
    assert (await store.calls.page(deep, ("session_id",))).rows
    await all_that_is_asked(store, clock)
    clock.now += 10 * YEAR
    for account in await store.accounts.all():
        while await store.expire(account):
            pass
        while await store.expire_quarantine(account):
            pass
    held = (await store.statistics()).rows
    assert not any(held.values()), held


def written_down():
    """Every statement that stands in a module of the store, by its name, with gaps where it is filled in."""
    for module in pkgutil.iter_modules(store_package.__path__):
        if module.name not in WHOLE:
            names = vars(importlib.import_module(f"callhouse.store.{module.name}"))
            for name, value in names.items():
                for sql in value.values() if isinstance(value, dict) else [value]:
                    if isinstance(sql, str) and sql.strip().startswith(VERBS):
                        yield f"{module.name}.{name}", re.sub(r"\\{\w*\\}", ".*", re.escape(flat(sql)))


def flat(sql):
    return " ".join(sql.split())


@pytest.mark.sqlite_only
def test_every_statement_names_the_account_of_the_rows_that_it_reads_or_writes(stored, clock, statements, monkeypatch):
    monkeypatch.setattr(logs, "SAMPLES", 300)
    stored(lambda store: everything(store, clock))
    ran = [flat(sql) for sql in statements if sql.strip().startswith(VERBS) and WORDS not in sql.partition("(")[0]]
    wrong = {sql for sql in ran if "sqlite_" not in sql for part in parts_of(sql) if unnamed(part)}
    assert not wrong
    # All that stands in the store was run, or this test would tell nothing of it.
    of_tables = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE)\\ (?:\.\*|(?:{'|'.join(DISTRIBUTED)})\b)")
    unmet = {
        name: sql
        for name, sql in written_down()
        if of_tables.search(sql) and not any(re.search(sql, each) for each in ran)
    }
    assert not unmet


@pytest.mark.sqlite_only
def test_every_table_that_is_distributed_has_the_account_in_it_and_in_all_its_unique_keys(stored, tmp_path):
    async def nothing(_store):
        return None

    stored(nothing)
    connection = apsw.Connection(str(tmp_path / "store0" / "callhouse.db"))
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    kept = {name for name in tables if not name.startswith(("sqlite_", WORDS))}
    assert kept == DISTRIBUTED | REFERENCE
    for table in DISTRIBUTED:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        assert "account_id" in columns, table
        indexes = [(row[1], row[2]) for row in connection.execute(f"PRAGMA index_list({table})")]
        for index in (name for name, is_unique in indexes if is_unique):
            assert "account_id" in [row[2] for row in connection.execute(f"PRAGMA index_info({index})")], index
