"""``callhouse import`` as a user runs it: a process of its own beside the server, from which the calls are read."""

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

import stores
from callhouse.cli import import_progress
from callhouse.ingest.importer import Progress
from command import Started
from serving import COMMAND, callhouse, create_account, get, wait_until
from sources.switch_calls import OF_ARRIVAL, SAMPLES, stored_calls

NOW = int(time.time())
KEPT = ("--set", "retention.details=forever", "--set", "retention.sessions=forever", "--set", "retention.plivo=forever")


def line(number):
    """A row of mod_cdr_csv in its template ``example``."""
    start = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW - 4000 + number % 3000))
    end = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(NOW - 3990 + number % 3000))
    values = ["A", "1", "2", "default", start, start, end, 10, 10, "NORMAL_CLEARING", f"leg-{number}", "", "", "", ""]
    return ",".join(f'"{value}"' for value in values).encode() + b"\n"


def lines(*numbers):
    return b"".join(map(line, range(*numbers)))


def sessions(server, login):
    """What the Fuse API lists of the last two hours."""
    answer = get(server, login, f"/api/calls/{NOW - 7200}/{NOW + 3600}?limit=10000")
    assert answer.status_code == 200, answer.text
    return {call["session_id"] for call in answer.json()["calls"]}


def legs(*numbers):
    return {f"leg-{number}" for number in range(*numbers)}


@contextmanager
def following(server, login, *arguments):
    """``import freeswitch ARGUMENTS --follow`` in a process of its own, which is stopped in the end."""
    words = ["import", "freeswitch", *arguments, "--follow", "--account", login.id, *stores.options(server.data)]
    process = Started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.output, process.errors = process.communicate(timeout=60)


def test_calls_can_be_read_over_http_as_soon_as_their_file_was_imported(own_server, tmp_path):
    server = own_server()
    login = server.account()
    (tmp_path / "Master.csv").write_bytes(lines(5))
    done = callhouse("import", "freeswitch", tmp_path / "Master.csv", "--account", login.id, data=server.data)
    assert done.stdout.startswith("5 records of 1 file in ")
    assert "5 accepted, 0 duplicate, 0 quarantined." in done.stdout
    assert sessions(server, login) == legs(5)
    again = callhouse("import", "freeswitch", tmp_path / "Master.csv", "--account", login.id, data=server.data)
    assert "0 records of 1 file" in again.stdout
    assert "1 file had been imported before; --again reads such files anew." in again.stdout


CAPTURED = {
    "asterisk": [*(f"local-ivr/{name}.csv" for name in ("Master", "cdr_full", "cel_full", "cel_legacy")), "odd"],
    "freeswitch": ["err-dir"],
    "kamailio": ["*.json"],
}


@pytest.mark.parametrize("source", CAPTURED)
def test_captured_files_become_the_calls_that_posting_them_makes(own_server, source):
    server = own_server("retention.details=forever")
    posted, imported = server.account("posted@example.com"), server.account("imported@example.com")
    names = [SAMPLES / source / name for name in CAPTURED[source]]
    done = callhouse(
        "import",
        source,
        *names,
        "--account",
        imported.id,
        "--json",
        "--set",
        "retention.details=forever",
        data=server.data,
    )
    result = json.loads(done.stdout)
    assert (result["quarantined"], result["failed"]) == (0, [])
    for name in names:
        for path in sorted(name.rglob("*") if name.is_dir() else name.parent.glob(name.name)):
            answer = server.client.post(f"/ingest/{source}", content=path.read_bytes(), auth=posted.fuse)
            assert answer.json()["rejected"] == []
    ours, theirs = stored_calls(server, imported), stored_calls(server, posted)
    assert ours.keys() == theirs.keys()
    assert len(ours) >= 2
    own = {*OF_ARRIVAL, "call_uuid"}
    for session_id, call in ours.items():
        assert {k: v for k, v in call.items() if k not in own} == {
            k: v for k, v in theirs[session_id].items() if k not in own
        }


def test_a_bad_record_is_told_with_file_line_and_reason_and_ends_in_status_1(tmp_path):
    login = create_account(tmp_path / "data")
    log = tmp_path / "Master.csv"
    log.write_bytes(line(1) + b"no,row\n" + line(2))
    done = callhouse("import", "freeswitch", log, "--account", login.id, data=tmp_path / "data", check=False)
    assert done.returncode == 1
    assert "2 accepted, 0 duplicate, 1 quarantined." in done.stdout
    assert f"{log}:2: is neither JSON nor XML nor a row of" in done.stderr
    assert "callhouse quarantine list --account 1" in done.stderr
    [entry] = json.loads(callhouse("quarantine", "list", "--json", data=tmp_path / "data").stdout)
    assert (entry["origin"], entry["record"]) == (f"{log}:2", "no,row")
    table = callhouse("quarantine", "list", data=tmp_path / "data").stdout
    assert "\n1 record. Most frequent:" in table
    assert f"{log}:2" in re.sub(r"[│┃\s]", "", table)


def test_what_is_older_than_its_retention_is_quarantined_with_its_line(tmp_path):
    login = create_account(tmp_path / "data")
    log = tmp_path / "Master.csv"
    log.write_bytes(line(1) + line(2).replace(time.strftime("%Y-", time.gmtime(NOW)).encode(), b"2001-"))
    done = callhouse("import", "freeswitch", log, "--account", login.id, "--json", data=tmp_path / "data", check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout)["refused"] == [
        {"origin": f"{log}:2", "reason": "the call is older than its retention of 1y"}
    ]


def test_standard_input_patterns_and_time_zones(own_server, tmp_path):
    server = own_server()
    login = server.account()
    common = ("--account", login.id)
    (tmp_path / "one.csv").write_bytes(line(1))
    (tmp_path / "two.csv").write_bytes(line(2))
    piped = callhouse("import", "freeswitch", "-", *common, data=server.data, typed=line(0).decode())
    assert "1 record of 1 file" in piped.stdout
    assert "2 files" in callhouse("import", "freeswitch", tmp_path / "*.csv", *common, data=server.data).stdout
    assert sessions(server, login) == legs(3)
    (tmp_path / "three.csv").write_bytes(line(3))
    zoned = ("--timezone", "Asia/Kolkata")
    callhouse("import", "freeswitch", tmp_path / "three.csv", *common, *zoned, data=server.data)
    calls = stored_calls(server, login)
    assert calls["leg-3"]["started"] - calls["leg-2"]["started"] == 1000 - 5.5 * 3_600_000


def test_a_dry_run_shows_calls_and_needs_no_store(tmp_path):
    log = tmp_path / "Master.csv"
    log.write_bytes(lines(3))
    done = callhouse("import", "freeswitch", log, "--dry-run", data=tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    first, *calls = done.stdout.splitlines()
    assert first == f"{log}: 3 records → 3 calls, 0 refused"
    assert re.fullmatch(r"  \S+ \S+ UTC  1 → 2  inbound, talked 10\.0 s, NORMAL_CLEARING, session leg-0", calls[0]), (
        calls[0]
    )
    [shown] = json.loads(callhouse("import", "freeswitch", log, "--dry-run", "--json").stdout)
    assert [call["session_id"] for call in shown["calls"]] == ["leg-0", "leg-1", "leg-2"]
    log.write_bytes(line(0) + b"broken\n")
    refused = callhouse("import", "freeswitch", log, "--dry-run", check=False)
    assert refused.returncode == 1
    assert f"{log}:2: is neither" in refused.stdout


def test_a_dry_run_joins_the_rows_of_a_call():
    file = SAMPLES / "asterisk/local-ivr/cel_full.csv"
    [shown] = json.loads(callhouse("import", "asterisk", file, "--dry-run", "--json").stdout)
    assert shown["records"] > 100
    assert len(shown["calls"]) == 10
    assert all(call["events"] for call in shown["calls"][:3])


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("freeswich", "FILE", "--account", "1"), "native, freeswitch, asterisk or kamailio"),
        (("freeswitch", "FILE"), "say whose calls they are"),
        (("freeswitch", "missing.csv", "--account", "1"), "there is no file missing.csv"),
        (("freeswitch", "nothing*", "--account", "1"), "there is no file nothing*"),
        (("native", "FILE", "--account", "1", "--timezone", "UTC"), "native records say"),
        (("freeswitch", "-", "--account", "1", "--follow"), "standard input ends by itself"),
        (("freeswitch", "/dev/null", "--account", "1", "--follow"), "no file that could be followed"),
    ],
)
def test_wrong_usage_ends_in_status_2_with_a_hint(tmp_path, arguments, hint):
    log = tmp_path / "Master.csv"
    log.write_bytes(line(1))
    given = [str(log) if each == "FILE" else each for each in arguments]
    done = callhouse("import", *given, data=tmp_path / "data", check=False)
    assert done.returncode == 2
    assert hint in " ".join(re.sub(r"[│╭╰─╮╯]", "", done.stderr).split())
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        pytest.param(("--account", "1"), "holds no store", marks=pytest.mark.sqlite_only),
        (("--account", "1", "--timezone", "Mars/Phobos"), "sources.freeswitch.timezone is 'Mars/Phobos'"),
    ],
)
def test_what_cannot_be_done_ends_in_status_1_with_a_hint(tmp_path, arguments, hint):
    log = tmp_path / "Master.csv"
    log.write_bytes(line(1))
    done = callhouse("import", "freeswitch", log, *arguments, data=tmp_path / "data", check=False)
    assert done.returncode == 1
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


COMMANDS_THAT_PRINT = [
    ("import", "native", "LOG", "--account", "1"),
    ("import", "native", "LOG", "--dry-run"),
    ("import", "native", "LOG", "--dry-run", "--json"),
    ("accounts", "list"),
]


def printing(command, tmp_path, **options):
    """The finished process of *command*, about a file of calls and a store with an account."""
    create_account(tmp_path / "data")
    log = tmp_path / "calls.json"
    log.write_bytes(b'{"session_id":"s","start":%d}\n' % NOW)
    words = [str(log) if word == "LOG" else word for word in command]
    return subprocess.run(
        [*COMMAND, *words, *stores.options(tmp_path / "data")],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


@pytest.mark.parametrize("command", COMMANDS_THAT_PRINT)
def test_output_that_cannot_be_written_costs_a_line_of_error(tmp_path, command):
    with Path("/dev/full").open("wb") as full:
        done = printing(command, tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (1, "Error: Reading or writing failed: No space left on device.\n")


@pytest.mark.parametrize("command", COMMANDS_THAT_PRINT)
def test_output_that_nobody_reads_any_more_ends_the_command_as_it_ends_others(tmp_path, command):
    reader, writer = os.pipe()
    os.close(reader)
    done = printing(command, tmp_path, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_output_in_an_encoding_that_lacks_a_letter_is_told(tmp_path):
    create_account(tmp_path / "data", "é@ascii.example.com")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = printing(["accounts", "list"], tmp_path, stdout=subprocess.PIPE, env=environment)
    reason = "Error: The output is to be ascii, which has no '\\xe9': choose a UTF-8 locale.\n"
    assert (done.returncode, done.stderr) == (1, reason)


@pytest.mark.parametrize("option", [("--account", "1"), ("--dry-run",)])
def test_a_standard_input_that_is_closed_is_told(tmp_path, option):
    command = [*COMMAND, "import", "native", "-", *option, *stores.options(tmp_path)]
    done = subprocess.run(
        ["bash", "-c", 'exec "$@" <&-', "bash", *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "Error: Standard input is closed.\n")


def test_an_import_into_an_inactive_account_says_so(tmp_path):
    login = create_account(tmp_path / "data")
    callhouse("accounts", "deactivate", login.id, data=tmp_path / "data")
    log = tmp_path / "Master.csv"
    log.write_bytes(line(1))
    done = callhouse("import", "freeswitch", log, "--account", login.id, data=tmp_path / "data")
    assert "1 accepted" in done.stdout
    assert "Account 1 is inactive" in done.stderr


@pytest.mark.parametrize("follow", [False, True])
def test_the_progress_of_millions_of_records_fits_a_narrow_terminal(tmp_path, monkeypatch, follow):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=60, height=20)
    monkeypatch.setattr(import_progress, "err", terminal)
    (tmp_path / "calls").write_bytes(line(1))
    shown = import_progress.ShownProgress([str(tmp_path)], follow=follow)
    with shown.over(Progress(accepted=1_234_567, duplicate=2_345_678, quarantined=3_456_789)):
        shown.update(None)
    text = " ".join(re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", terminal.file.getvalue()).split())
    assert "1,234,567 accepted, 2,345,678 duplicate, 3,456,789 quarantined" in text
    if not follow:
        assert re.search(r"━━━━ -:--:-- [\d,]+ records/s 1,234,567", text), text


def test_an_account_that_does_not_exist_is_named(tmp_path):
    create_account(tmp_path / "data")
    log = tmp_path / "Master.csv"
    log.write_bytes(line(1))
    done = callhouse("import", "freeswitch", log, "--account", "7", data=tmp_path / "data", check=False)
    assert done.returncode == 1
    assert "7" in done.stderr


RECORDS = 24_000


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_import_that_is_ended_goes_on_where_it_was(own_server, tmp_path, end):
    server = own_server()
    login = server.account()
    log = tmp_path / "Master.csv"
    log.write_bytes(lines(RECORDS))
    words = ["import", "freeswitch", log, "--account", login.id, *stores.options(server.data)]
    first = Started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: stored(server, login) >= 4_000, "the first calls")
    # As Ctrl-C and systemd do: every process of the import gets it.
    os.killpg(first.pid, end)
    _, errors = first.communicate(timeout=60)
    assert first.returncode != 0
    if end != signal.SIGKILL:
        assert "Interrupted. What was imported is kept; run the same command again to go on." in errors
        assert "Traceback" not in errors
    before = stored(server, login)
    assert before < RECORDS
    done = callhouse("import", "freeswitch", log, "--account", login.id, "--json", data=server.data)
    result = json.loads(done.stdout)
    assert (result["accepted"], result["duplicate"], result["quarantined"]) == (RECORDS - before, 0, 0)
    assert stored(server, login) == RECORDS


def stored(server, login):
    """How many calls the account has, as the Plivo API counts them."""
    answer = server.client.get(f"/v1/Account/{login.auth_id}/Call/?limit=1", auth=login.plivo)
    assert answer.status_code == 200, answer.text
    return answer.json()["meta"]["total_count"]


def test_a_growing_file_is_followed_through_rename_truncation_and_a_restart(own_server, tmp_path):
    server = own_server()
    login = server.account()
    log = tmp_path / "Master.csv"

    def append(path, *numbers):
        with path.open("ab") as file:
            file.write(lines(*numbers))

    def wait_for(*numbers):
        wait_until(lambda: sessions(server, login) == legs(*numbers), f"the calls {numbers}")

    with following(server, login, log) as process:
        assert process.stderr.readline() == f"Waiting for {log}.\n"
        append(log, 3)
        wait_for(3)
        append(log, 3, 5)
        wait_for(5)
        # Renamed, and written to a little longer by who has not heard of it.
        log.rename(tmp_path / "Master.csv.1")
        append(tmp_path / "Master.csv.1", 5, 7)
        append(log, 7, 9)
        wait_for(9)
        append(tmp_path / "Master.csv.1", 9, 10)
        wait_for(10)
        # Truncated, and filled at once to a greater length than it had.
        log.write_bytes(lines(10, 14))
        wait_for(14)
        # A line comes in two pieces.
        with log.open("ab") as file:
            file.write(line(14)[:40])
            file.flush()
            append(tmp_path / "Master.csv.1", 15, 16)
            wait_until(lambda: "leg-15" in sessions(server, login), "another call")
            file.write(line(14)[40:])
        wait_for(16)
    assert process.returncode == 0, process.errors
    assert "16 accepted, 0 duplicate, 0 quarantined." in process.output
    # Meanwhile it grows, is rotated twice and compressed.
    append(log, 16, 18)
    log.rename(tmp_path / "Master.csv.1")
    subprocess.run(["gzip", str(tmp_path / "Master.csv.1")], check=True)
    append(log, 18, 19)
    with following(server, login, log) as process:
        wait_for(19)
    assert "3 accepted, 0 duplicate, 0 quarantined." in process.output
    assert process.returncode == 0, process.errors


def test_what_is_written_while_nobody_looks_is_found_wherever_rotation_put_it(own_server, tmp_path):
    server = own_server()
    login = server.account()
    log = tmp_path / "Master.csv"
    log.write_bytes(lines(3))

    def wait_for(number):
        wait_until(lambda: sessions(server, login) == legs(number), f"{number} calls")

    with following(server, login, log) as process:
        wait_for(3)
        process.send_signal(signal.SIGSTOP)
        # Copied and truncated, twice, with lines in between that nobody saw.
        for number in (3, 6):
            with log.open("ab") as file:
                file.write(lines(number, number + 2))
            shutil.copy(log, tmp_path / f"Master.csv-{number}")
            log.write_bytes(line(number + 2))
        process.send_signal(signal.SIGCONT)
        wait_for(9)
    assert process.returncode == 0, process.errors
    # Nobody follows; one file is written and moved away as a whole.
    with log.open("ab") as file:
        file.write(lines(9, 11))
    log.rename(tmp_path / "Master.csv.2")
    log.write_bytes(lines(11, 14))
    log.rename(tmp_path / "Master.csv.1")
    log.write_bytes(lines(14, 15))
    with following(server, login, log) as process:
        wait_for(15)
    assert process.returncode == 0, process.errors


def test_an_import_that_is_ended_again_and_again_while_it_catches_up_reads_every_file_to_its_end(own_server, tmp_path):
    server = own_server()
    login = server.account()
    log = tmp_path / "Master.csv"
    log.write_bytes(lines(10))
    with following(server, login, log) as process:
        wait_until(lambda: stored(server, login) == 10, "10 calls")
    # Nobody follows while it is rotated three times; one of the files is compressed.
    with log.open("ab") as file:
        file.write(lines(10, 6_000))
    log.rename(tmp_path / "Master.csv.3")
    log.write_bytes(lines(6_000, 12_000))
    log.rename(tmp_path / "Master.csv.2")
    (tmp_path / "Master.csv.1.gz").write_bytes(gzip.compress(lines(12_000, 12_010)))
    log.write_bytes(lines(12_010, 12_020))
    for end, enough in ((signal.SIGKILL, 11), (signal.SIGTERM, 6_001)):
        with following(server, login, log) as process:
            wait_until(lambda enough=enough: stored(server, login) >= enough, "more calls")
            process.send_signal(end)
    with following(server, login, log) as process:
        wait_until(lambda: stored(server, login) == 12_020, "all calls")
    assert process.returncode == 0, process.errors


def test_a_file_that_was_written_and_rotated_after_the_wait_for_it_ended_is_found(own_server, tmp_path):
    server = own_server()
    login = server.account()
    log = tmp_path / "Master.csv"
    with following(server, login, log, tmp_path / "other.csv") as process:
        assert process.stderr.readline() == f"Waiting for {log}.\n"
        (tmp_path / "other.csv").write_bytes(line(0))
        wait_until(lambda: stored(server, login) == 1, "a call of the other file")
    log.write_bytes(lines(1, 5))
    log.rename(tmp_path / "Master.csv.1")
    with following(server, login, log):
        wait_until(lambda: stored(server, login) == 5, "the calls of the rotated file")


def test_files_that_fit_a_pattern_are_read_to_their_end_when_they_are_moved_elsewhere(own_server, tmp_path):
    server = own_server()
    login = server.account()
    log, aside = tmp_path / "Master.csv", tmp_path / "old"
    aside.mkdir()
    log.write_bytes(lines(2))
    with following(server, login, tmp_path / "*.csv") as process:
        wait_until(lambda: sessions(server, login) == legs(2), "the first calls")
        log.rename(aside / "Master.csv")
        with (aside / "Master.csv").open("ab") as file:
            file.write(lines(2, 4))
        wait_until(lambda: sessions(server, login) == legs(4), "what was written after it was moved")
    assert process.returncode == 0, process.errors


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, None])
def test_what_comes_through_a_pipe_is_stored_as_it_comes_and_waiting_can_be_ended(own_server, end):
    server = own_server()
    login = server.account()
    command = [*COMMAND, "import", "freeswitch", "-", "--account", str(login.id), *stores.options(server.data)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(lines(3))
    process.stdin.flush()
    wait_until(lambda: sessions(server, login) == legs(3), "the calls, while the pipe is open")
    process.stdin.write(lines(3, 5))
    process.stdin.flush()
    wait_until(lambda: sessions(server, login) == legs(5), "two more")
    if end is not None:
        process.send_signal(end)
        # Its input stays open until it has ended.
        assert process.wait(timeout=60) == 1
    output, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    assert b"5 accepted, 0 duplicate, 0 quarantined." in output
    assert process.returncode == (0 if end is None else 1), errors


def test_a_pipe_that_nobody_writes_to_can_be_given_up(tmp_path):
    login = create_account(tmp_path / "data")
    os.mkfifo(tmp_path / "pipe")
    words = ["import", "native", tmp_path / "pipe", "--account", login.id, *stores.options(tmp_path / "data")]
    process = Started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: has_open(process.pid, tmp_path / "pipe"), "the pipe is open")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Interrupted." in errors


def has_open(pid, path):
    with contextlib.suppress(OSError):
        return any(fd.readlink() == path for fd in Path(f"/proc/{pid}/fd").iterdir())


def test_a_directory_is_swept_for_what_a_switch_could_not_send(own_server, tmp_path):
    server = own_server("retention.details=forever")
    login = server.account()
    swept = tmp_path / "cdr-not-sent"
    swept.mkdir()
    captured = sorted((SAMPLES / "freeswitch/err-dir").iterdir())
    known = {"03ebdbb5-b154-4ae6-8dc4-6d80ab131320", "280491e4-9ffe-4975-8421-3809718db2d3"}
    with following(server, login, swept, *KEPT) as process:
        shutil.copy(captured[0], swept)
        wait_until(lambda: len(stored_calls(server, login)) == 1, "the first leg")
        for path in captured[1:]:
            shutil.copy(path, swept)
        wait_until(lambda: stored_calls(server, login).keys() == known, "the other leg")
    assert process.returncode == 0, process.errors
    with following(server, login, swept, *KEPT) as process:
        (swept / "bad.json").write_text("{")
        wait_until(lambda: quarantined(server), "the bad file")
    assert process.returncode == 1
    assert " 1 quarantined." in process.output
    assert f"{swept}/bad.json:1: " in process.errors


def quarantined(server):
    return json.loads(callhouse("quarantine", "list", "--json", data=server.data).stdout)
