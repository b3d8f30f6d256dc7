"""The check finds nothing in a store that is whole, and in one that is not exactly what is hit."""

import asyncio
import json
import shutil
from collections import Counter

import apsw
import pytest

import stores
from callhouse.model.account import Retention
from callhouse.store import open_store
from callhouse.store.check import check_store
from callhouse.store.sqlite import FILE_NAME
from damage import leaves, spoil
from serving import Server, callhouse, send

START = 1_700_000_000
CALLS = 600
KEEP = ("retention.details=forever", "retention.sessions=forever", "retention.plivo=forever")

LOSE_WORDS = f"DELETE FROM log_words WHERE {'rowid' if stores.databases is None else 'call_id'} = 17"

HOUR = f"bucket = {START // 3600}"
FIRST = f"bucket = {START // 3600 // 24}"


def call(number):
    """A call of an hour of its own in six, with a log that has a word of its own, and in one of ten an error."""
    start = START + number * 600
    classes = ["info", "prompt", "error" if number % 10 == 0 else "event"]
    return {
        "session_id": f"s{number:04}",
        "src": "2125551234",
        "dest": "8009957586",
        "start": start,
        "end": start + 60,
        "extra": "x" * 300,
        "events": [
            {"timestamp": start + at, "class": class_, "line": f"word{number} step {at}", "data": {"n": number}}
            for at, class_ in enumerate(classes)
        ],
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store with everything in it that is checked, of two accounts."""
    data = tmp_path_factory.mktemp("whole") / "data"
    with Server(data, *KEEP) as server:
        for email in ("a@example.com", "b@example.com"):
            login = server.account(email)
            send(server, login, [call(number) for number in range(CALLS)])
            send(server, login, [{"session_id": "progress", "start": START, "events": call(1)["events"]}])
            server.client.post("/ingest/calls", json=[{"session_id": "", "n": n} for n in range(5)], auth=login.fuse)
            row = '"8005551234","1000","2000","ctx","""A"" <8005551234>","SIP/a-1","SIP/b-1","Dial","x",'
            row += '"2023-11-14 22:13:20","2023-11-14 22:13:21","2023-11-14 22:13:30",10,9,"ANSWERED","DOCUMENTATION",'
            answer = server.client.post(
                "/ingest/asterisk", content=f'{row}"1699999999.1",""\n'.encode(), auth=login.fuse
            )
            assert (answer.status_code, answer.json()["rejected"]) == (200, [])
    asyncio.run(settle(data))
    return data


async def settle(data):
    """Let all peaks be known, as upkeep does after a while."""
    store = await open_store(stores.location(data), retention=Retention(), clock=lambda: 2 * START * 1000)
    for account in await store.accounts.all():
        while await store.settle(account):
            pass
    await store.close()


@pytest.fixture
def data(whole, tmp_path):
    stores.copy(whole, tmp_path / "data")
    return tmp_path / "data"


def found(data):
    return check_store(stores.location(data), lambda *_: None).findings


def hit(findings, part):
    """The accounts and sessions of which something of *part* was found."""
    return {(finding.account, finding.session_id) for finding in findings if finding.part == part and finding.account}


def ids_on(data, page, table, key):
    """The ids of the rows that stand on a leaf: those that are missed when it is lost."""
    before = {row for (row,) in stores.sql(data, f"SELECT {key} FROM {table}")}
    shutil.copytree(data, data.with_name("probe"))
    spoil(data.with_name("probe"), page)
    db = apsw.Connection(str(data.with_name("probe") / FILE_NAME))
    missed = set()
    for row_id in before:
        try:
            db.execute(f"SELECT * FROM {table} WHERE {key} = ?", (row_id,)).fetchall()
        except apsw.CorruptError:
            missed.add(row_id)
    db.close()
    return missed


def names(data, call_ids):
    return {(a, s) for i, a, s in stores.sql(data, "SELECT id, account_id, session_id FROM calls") if i in call_ids}


def test_a_store_that_is_whole_has_no_findings_and_all_of_it_was_looked_at(whole):
    report = check_store(stores.location(whole), lambda *_: None)
    assert report.findings == []
    tables = ("calls", "logs", "call_errors", "waiting_events", "fragments", "quarantine", "call_counts", "end_counts")
    tables = (*tables, "totals", "hour_peaks")
    assert report.checked == {table: stores.sql(whole, f"SELECT count(*) FROM {table}")[0][0] for table in tables}
    assert all(report.checked.values())


@pytest.mark.sqlite_only
def test_a_lost_page_of_logs_names_the_sessions_whose_log_it_was(data):
    page = leaves(data, "logs")[2]
    lost = names(data, ids_on(data, page, "logs", "call_id"))
    assert 3 < len(lost) < 100
    spoil(data, page)
    findings = found(data)
    assert hit(findings, "logs") == lost
    assert {finding.part for finding in findings} == {"logs"}
    assert any(f"page {page}" in finding.problem for finding in findings)


def test_a_call_of_which_nobody_knows_where_it_came_from_is_told(data):
    stores.change(
        data,
        "UPDATE calls SET changed_by = 99 WHERE account_id = 2 AND session_id = 's0003'",
    )
    assert hit(found(data), "origins") == {(2, "s0003")}


@pytest.mark.sqlite_only
def test_a_lost_page_of_calls_names_the_sessions_that_stood_there(data):
    page = leaves(data, "calls")[3]
    lost = names(data, ids_on(data, page, "calls", "id"))
    assert 3 < len(lost) < 100
    spoil(data, page)
    findings = found(data)
    assert hit(findings, "calls") == lost
    # Their totals cannot be compared, the other account's are; their logs are whole.
    assert not hit(findings, "call_counts")
    assert {f.session_id for f in findings if f.part == "logs" and f.session_id} == set()


@pytest.mark.sqlite_only
def test_a_lost_page_of_an_index_is_named_and_nothing_else_is_hit(data):
    for index in ("calls_by_start", "logs_by_end"):
        page = leaves(data, index)[-1]
        spoil(data, page)
        assert any(f"page {page}" in finding.problem for finding in found(data))
    assert {finding.part for finding in found(data)} == {"calls", "logs"}
    assert not hit(found(data), "calls")


@pytest.mark.sqlite_only
def test_a_lost_page_of_the_index_that_names_calls_leaves_the_rest_checked(data):
    spoil(data, leaves(data, "calls_by_session")[0])
    findings = found(data)
    assert any("calls_by_session" in finding.problem or "page" in finding.problem for finding in findings)
    assert not hit(findings, "logs")


@pytest.mark.sqlite_only
def test_a_lost_page_of_the_search_index_is_told_once(data):
    spoil(data, leaves(data, "log_words_data")[-1])
    findings = found(data)
    assert {finding.part for finding in findings} <= {"log_words", "log_words_data"}
    assert 1 <= len(findings) <= 4


@pytest.mark.sqlite_only
@pytest.mark.parametrize("header", [b"\xff" * 100, bytes(100)], ids=["ones", "zeros"])
def test_a_lost_header_leaves_one_finding(data, header):
    with (data / FILE_NAME).open("r+b") as file:
        file.write(header)
    [finding] = found(data)
    assert (finding.part, finding.account) == ("file", None)
    assert "can be read" in finding.problem


def test_a_log_whose_bytes_were_changed_is_told_though_its_page_is_in_order(data):
    [(call_id, document)] = stores.sql(data, "SELECT call_id, document FROM logs ORDER BY call_id LIMIT 1 OFFSET 7")
    changed = bytearray(document)
    changed[len(changed) // 2] ^= 1
    stores.change(data, "UPDATE logs SET document = ? WHERE call_id = ?", bytes(changed), call_id)
    findings = found(data)
    assert hit(findings, "logs") == names(data, {call_id})
    assert len(findings) == 1


@pytest.mark.parametrize(
    ("part", "sql", "whose"),
    [
        ("call_counts", f"UPDATE call_counts SET calls = calls + 1 WHERE account_id = 1 AND width = 24 AND {FIRST}",
         (1, None)),
        ("end_counts", f"DELETE FROM end_counts WHERE account_id = 2 AND width = 24 AND {FIRST}", (2, None)),
        ("call_counts", "INSERT INTO call_counts VALUES (1, 768, 7, 1)", (1, None)),
        ("totals", f"UPDATE totals SET talk = talk + 1 WHERE account_id = 1 AND topic = 6 AND name = '0' AND {HOUR}",
         (1, None)),
        ("totals", f"DELETE FROM totals WHERE account_id = 2 AND name = '8009957586' AND width = 24 AND {FIRST}",
         (2, None)),
        ("totals", "INSERT INTO totals VALUES (1, 4, 24, 'Orders', 7, 1, 0, 0)", (1, None)),
        ("hour_peaks", f"UPDATE hour_peaks SET peak = peak + 1 WHERE account_id = 2 AND hour = {START // 3600}",
         (2, None)),
        ("logs", "DELETE FROM logs WHERE call_id = 17", (1, "s0016")),
        ("logs", "UPDATE calls SET event_count = 2 WHERE id = 17", (1, "s0016")),
        ("logs", "UPDATE logs SET ended = ended + 1 WHERE call_id = 17", (1, "s0016")),
        ("logs", "UPDATE logs SET dictionary = 9 WHERE call_id = 17", (1, "s0016")),
        ("log_words", LOSE_WORDS, (1, "s0016")),
        ("call_errors", "UPDATE call_errors SET started = NULL WHERE session_id = 's0010' AND account_id = 1",
         (1, "s0010")),
        ("call_errors", "UPDATE call_errors SET dest_key = '1' WHERE session_id = 's0010' AND account_id = 1",
         (1, "s0010")),
        ("waiting_events", "UPDATE waiting_events SET event = '{' WHERE id = 1", (1, "progress")),
        ("fragments", "UPDATE fragments SET document = substr(document, 1, 1) WHERE account_id = 1",
         (1, "1699999999.1")),
        ("fragments", "UPDATE fragments SET digests = (SELECT digest FROM quarantine LIMIT 1) WHERE account_id = 1",
         (1, "1699999999.1")),
        ("quarantine", "UPDATE quarantine SET record = substr(record, 1, 1) WHERE id = 3", (1, None)),
    ],
)  # fmt: skip
def test_what_does_not_agree_is_told_once_with_whose_it_is(data, part, sql, whose):
    stores.change(data, sql)
    findings = found(data)
    assert hit(findings, part) == {whose}
    # A log that is gone leaves its words behind.
    assert {finding.part for finding in findings} <= {part, "log_words"}
    assert Counter(finding.part for finding in findings)[part] == 1
    assert all(finding.remedy for finding in findings)


def test_words_of_another_log_are_told(data):
    if stores.databases is None:
        stores.sql(data, "DELETE FROM log_words WHERE rowid = 17")
        stores.sql(data, "INSERT INTO log_words (rowid, words) VALUES (17, 'zaccount1z word16 step 0 1')")
    else:
        stores.change(data, "UPDATE log_words SET words = '{zaccount1z,word16,step,0,1}' WHERE call_id = 17")
    assert hit(found(data), "log_words") == {(1, "s0016")}


def test_the_command_prints_a_line_for_each_finding_and_ends_with_status_1(data):
    assert callhouse("check", data=data).stdout.startswith("Nothing is wrong; looked at 1,2")
    stores.change(data, LOSE_WORDS)
    done = callhouse("check", data=data, check=False)
    assert done.returncode == 1
    line, summary = done.stdout.splitlines()
    assert line.startswith("log_words (account 1, session s0016): a search")
    assert "restore the newest backup" in line
    assert summary.startswith("1 finding; looked at")
    told = callhouse("check", "--json", data=data, check=False)
    body = json.loads(told.stdout)
    assert (told.returncode, body["ok"], body["findings"][0]["session_id"]) == (1, False, "s0016")


def test_it_looks_at_one_instant_of_a_store_that_a_server_writes_to(own_server):
    server = own_server(*KEEP)
    login = server.account()
    send(server, login, [call(number) for number in range(100)])
    numbers = iter(range(100, 10_000))
    asked = []

    def write(*_):
        asked.append(send(server, login, [call(next(numbers))]))

    report = check_store(stores.location(server.data), write)
    assert (report.findings, report.checked["calls"]) == ([], 100)
    assert len(asked) > 20
