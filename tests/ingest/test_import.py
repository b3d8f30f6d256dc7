"""Files go in once, whatever happens to them and to the import in between."""

import asyncio
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import tempfile
from pathlib import Path

import apsw
import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import stores
from callhouse import __version__
from callhouse.clock import now
from callhouse.errors import StoreUnavailable
from callhouse.ingest import importer as importing
from callhouse.ingest.body import JsonSplitter
from callhouse.ingest.files import expanded
from callhouse.ingest.importer import Importer
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.reading import Places, digest
from callhouse.model.account import Retention
from callhouse.sources import CUT_OFF, cuts
from callhouse.sources.asterisk import Options
from callhouse.store import open_store
from callhouse.store.sqlite import FILE_NAME
from sources.switch_calls import SAMPLES

FOREVER = Retention(details=None, sessions=None, plivo=None)
START = 1_700_000_000
PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}


class Killed(Exception):
    """Stands for the end of the process: what was not committed by then is gone."""


def line(number):
    record = {"session_id": f"s{number}", "src": "1", "dest": "2", "start": START + number, "end": START + number + 5}
    return json.dumps(record).encode() + b"\n"


@contextlib.asynccontextmanager
async def store_in(directory):
    store = await open_store(stores.location(directory), retention=FOREVER, clock=now)
    try:
        known = await store.accounts.all()
        if not known:
            await store.accounts.create(
                email="a@example.com", login=None, plan="standard", timezone="UTC", parent_id=None
            )
        yield store, (await store.accounts.all())[0]
    finally:
        await store.close()


async def imported(store, account, paths, route="calls", *, on_progress=None, **options):
    """The progress of an import of *paths*, which *on_progress* may stop or kill."""
    importer = Importer(
        store,
        account,
        route,
        options.pop("sources", {}),
        options.pop("limits", IngestLimits()),
        on_progress=lambda _: on_progress and on_progress(importer),
        **options,
    )
    await importer.start()
    with contextlib.closing(importer):
        for path in paths:
            if not importer.stopping.is_set():
                await importer.take_file(path)
        await importer.flush()
        await importer.settle()
    return importer.progress


def in_store(work):
    """Run a coroutine function with a store and its account, in a directory that it may use."""
    with tempfile.TemporaryDirectory() as directory:

        async def opened():
            async with store_in(f"{directory}/data") as (store, account):
                return await work(store, account, Path(directory))

        return asyncio.run(opened())


async def sessions(store, account):
    found = await store._engine.read(
        lambda reader: reader.rows("SELECT session_id FROM calls WHERE account_id = :id", {"id": account.id})
    )
    return {session for (session,) in found}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 12)),
        st.tuples(st.sampled_from(["rename", "truncate", *PACKED]), st.just(0)),
        st.tuples(st.sampled_from(["import", "stop", "kill"]), st.integers(1, 4)),
    ),
    max_size=14,
)


class Log:
    """A file that is written, and rotated in every way that there is, beside what was rotated before."""

    def __init__(self, directory):
        directory.mkdir()
        self.directory = directory
        self.path = directory / "calls"
        self.written = self.rotated = 0

    def append(self, count):
        with self.path.open("ab") as file:
            file.writelines(line(self.written + n) for n in range(count))
        self.written += count

    def rotate(self, kind):
        if not self.path.exists():
            return
        self.rotated += 1
        aside = self.directory / f"calls.{self.rotated}"
        if kind == "truncate":
            shutil.copy2(self.path, aside)
            os.truncate(self.path, 0)
        elif kind == "rename":
            self.path.rename(aside)
        else:
            Path(f"{aside}.{kind}").write_bytes(PACKED[kind](self.path.read_bytes()))
            self.path.unlink()


def ending(kind, flushes):
    """What stops or kills an import after so many batches."""
    left = [flushes]

    def on_progress(importer):
        left[0] -= 1
        if left[0] == 0 and kind == "stop":
            importer.stopping.set()
        if left[0] == 0 and kind == "kill":
            raise Killed

    return on_progress


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_every_record_goes_in_once_through_rotation_compression_stops_and_kills(steps):
    async def work(store, account, directory):
        log = Log(directory / "logs")
        done = []
        for kind, number in [*steps, ("import", 0)]:
            if kind == "append":
                log.append(number)
            elif kind in {"import", "stop", "kill"}:
                paths = expanded([str(log.directory)])
                with contextlib.suppress(Killed):
                    done.append(await imported(store, account, paths, on_progress=ending(kind, number)))
            else:
                log.rotate(kind)
        assert not any(progress.failed or progress.quarantined for progress in done)
        assert await sessions(store, account) == {f"s{n}" for n in range(log.written)}
        if not any(kind == "kill" for kind, _ in steps):
            assert sum(progress.accepted for progress in done) == log.written
            assert sum(progress.duplicate for progress in done) == 0
        assert (await imported(store, account, expanded([str(log.directory)]))).records == 0

    batch, importing.BATCH_RECORDS = importing.BATCH_RECORDS, 3
    try:
        in_store(work)
    finally:
        importing.BATCH_RECORDS = batch


def test_a_line_that_was_half_written_is_read_again_when_it_is_whole():
    async def work(store, account, directory):
        log = directory / "calls"
        log.write_bytes(line(1) + line(2)[:30])
        first = await imported(store, account, [log])
        assert (first.accepted, first.quarantined, first.unfinished) == (1, 0, [str(log)])
        log.write_bytes(line(1) + line(2) + line(3))
        second = await imported(store, account, [log])
        assert (second.accepted, second.duplicate, second.quarantined) == (2, 0, 0)
        # Who wrote this has given up.
        log.write_bytes(line(1) + line(2) + line(3) + line(4)[:30])
        os.utime(log, (START, START))
        third = await imported(store, account, [log])
        assert (third.accepted, third.quarantined, third.unfinished) == (0, 1, [])
        assert third.refused[0].origin == f"{log}:4"
        log.write_bytes(line(1) + line(2) + line(3) + line(4))
        assert (await imported(store, account, [log])).accepted == 1

    in_store(work)


def test_a_last_line_without_its_end_is_a_record():
    async def work(store, account, directory):
        log = directory / "calls"
        log.write_bytes((line(1) + line(2)).rstrip())
        assert (await imported(store, account, [log])).accepted == 2
        assert (await imported(store, account, [log])).known_files == 1

    in_store(work)


def test_a_file_with_something_else_in_it_is_another_file():
    async def work(store, account, directory):
        log = directory / "calls"
        log.write_bytes(b"".join(map(line, range(5))))
        assert (await imported(store, account, [log])).accepted == 5
        # As long as before, and with the same beginning.
        log.write_bytes(b"".join(map(line, [0, 1, 2, 3, 9])))
        assert (await imported(store, account, [log])).accepted == 1
        log.write_bytes(line(7))
        assert (await imported(store, account, [log])).accepted == 1

    in_store(work)


def test_files_that_only_begin_alike_do_not_hide_one_another():
    async def work(store, account, directory):
        header = b"callid,method,time,sip_code,src_user,dst_ouser\n"
        for number in range(3):
            export = directory / f"acc{number}.csv"
            export.write_bytes(header)
            assert (await imported(store, account, [export], "kamailio")).records == 0
            export.write_bytes(header + b"c%d@x,INVITE,2023-11-20 10:00:00,486,1,2\n" % number)
            assert (await imported(store, account, [export], "kamailio")).accepted == 1

    in_store(work)


def test_what_was_imported_under_other_options_or_by_another_account_is_imported_anew():
    async def work(store, account, _):
        file = SAMPLES / "asterisk/local-ivr/Master.csv"
        assert (await imported(store, account, [file], "asterisk")).accepted == 45
        berlin = {"asterisk": Options(timezone="Europe/Berlin")}
        assert (await imported(store, account, [file], "asterisk", sources=berlin)).accepted == 45
        assert (await imported(store, account, [file], "asterisk", sources=berlin)).records == 0
        again = await imported(store, account, [file], "asterisk", again=True)
        assert (again.accepted, again.duplicate) == (0, 45)
        other, _ = await store.accounts.create(
            email="b@example.com", login=None, plan="standard", timezone="UTC", parent_id=None
        )
        assert (await imported(store, other, [file], "asterisk")).accepted == 45

    in_store(work)


def test_a_bad_record_is_quarantined_with_its_file_and_line_and_the_rest_goes_on():
    async def work(store, account, directory):
        log = directory / "calls"
        log.write_bytes(line(1) + b"\n" + b"garbage\n" + line(2) + b'{"session_id": 7}\n' + line(3))
        progress = await imported(store, account, [log])
        assert (progress.accepted, progress.quarantined) == (3, 2)
        entries = await store.quarantine.list(account.id)
        assert [entry.origin for entry in entries] == [f"{log}:3", f"{log}:5"]
        assert [await store.quarantine.record(entry) for entry in entries] == [b"garbage", b'{"session_id": 7}']

    in_store(work)


@pytest.mark.parametrize("kind", PACKED)
def test_a_compressed_file_that_was_cut_off_gives_what_can_be_read_and_says_so(kind):
    async def work(store, account, directory):
        records = 30_000
        whole = PACKED[kind](b"".join(map(line, range(records))))
        log = directory / f"calls.{kind}"
        log.write_bytes(whole[: len(whole) * 2 // 3])
        progress = await imported(store, account, [log])
        assert 0 <= progress.accepted < records
        [failed] = progress.failed
        assert str(log) in failed
        assert "cut off" in failed
        log.write_bytes(whole)
        rest = await imported(store, account, [log])
        assert progress.accepted + rest.accepted + rest.duplicate == records
        assert not rest.failed

    in_store(work)


@pytest.mark.parametrize("kind", PACKED)
def test_what_stands_before_something_else_in_a_compressed_file_is_kept(kind):
    async def work(store, account, directory):
        log = directory / f"calls.{kind}"
        log.write_bytes(PACKED[kind](line(1)) + PACKED[kind](line(2)) + b"junk")
        progress = await imported(store, account, [log])
        assert progress.accepted == 2
        [failed] = progress.failed
        assert "is damaged" in failed
        log.write_bytes(PACKED[kind](line(3)) + bytes(1024))
        padded = await imported(store, account, [log])
        assert (padded.accepted, padded.failed) == (1, [])

    in_store(work)


def test_frames_and_members_one_after_another_are_one_file():
    async def work(store, account, directory):
        for kind, pack in PACKED.items():
            log = directory / f"calls.{kind}"
            first = 10 * list(PACKED).index(kind)
            log.write_bytes(pack(line(first)) + pack(line(first + 1)))
            assert (await imported(store, account, [log])).accepted == 2

    in_store(work)


def test_a_line_that_is_too_long_costs_only_itself():
    async def work(store, account, directory):
        limits = IngestLimits(max_body=10_000, max_record=5_000)
        log = directory / "calls"
        log.write_bytes(line(1) + b"x" * 35_000 + b"\n" + line(2) + b"y" * 10_000 + b"\n" + line(3))
        progress = await imported(store, account, [log], limits=limits)
        assert (progress.accepted, progress.quarantined, progress.failed) == (3, 2, [])
        assert [each.origin for each in progress.refused] == [f"{log}:2", f"{log}:4"]
        assert all(each.reason == "has more than 5000 bytes" for each in progress.refused)
        assert (await imported(store, account, [log], limits=limits)).known_files == 1

    in_store(work)


def test_a_document_without_an_end_is_refused_and_not_kept_in_memory():
    async def work(store, account, directory):
        limits = IngestLimits(max_body=10_000)
        endless, good = directory / "endless", directory / "good"
        endless.write_bytes(b"{\n" + b'"a":\n' * 5_000)
        good.write_bytes(line(1))
        progress = await imported(store, account, [endless, good], limits=limits)
        assert progress.accepted == 1
        [failed] = progress.failed
        assert "more than 10000 bytes" in failed

    in_store(work)


def test_members_of_an_array_come_with_the_lines_that_they_begin_on():
    array = b'\n[\n {"a": 1},\n {"b":\n 2}, {"c": 3}\n]\n'
    assert list(cuts(JsonSplitter(), array)) == [(3, b'{"a": 1}'), (4, b'{"b":\n 2}'), (5, b'{"c": 3}')]
    assert list(cuts(JsonSplitter(), b'[{"a": 1}, oops, {"b": 2}]')) == [
        (1, b'{"a": 1}'),
        (1, b"oops"),
        (1, b'{"b": 2}'),
    ]
    assert list(cuts(JsonSplitter(), b'[{"a": 1},\n{"b": 2},\n{"c"')) == [
        (1, b'{"a": 1}'),
        (2, b'{"b": 2}'),
        (3, b'{"c"'),
    ]


def test_an_array_that_is_cut_off_between_members_says_so():
    for array in (b"[", b"[\n", b'[{"a": 1},\n', b'[{"a": 1}'):
        *members, (number, last) = cuts(JsonSplitter(), array)
        assert (members, number, last) == ([(1, b'{"a": 1}')] if b"a" in array else [], 1, CUT_OFF)

    async def work(store, account, directory):
        cut = directory / "calls.json"
        cut.write_bytes(b"[" + line(1) + b"," + line(2))
        progress = await imported(store, account, [cut])
        assert (progress.accepted, progress.quarantined) == (2, 1)
        assert "was cut off" in progress.refused[0].reason

    in_store(work)


def test_an_array_an_indented_object_and_lines_give_the_same_calls():
    async def work(store, account, directory):
        records = [json.loads(line(n)) for n in range(4)]
        for number, text in enumerate(
            [
                json.dumps(records),
                json.dumps(records, indent=2),
                "\n".join(json.dumps(record, indent=1) for record in records),
                "\ufeff" + "\r\n".join(map(json.dumps, records)),
            ]
        ):
            file = directory / f"{number}.json"
            file.write_text(text)
            progress = await imported(store, account, [file])
            assert (progress.accepted, progress.duplicate) == ((4, 0) if number == 0 else (0, 4)), text
            assert (await imported(store, account, [file])).records == 0

    in_store(work)


def test_the_oldest_file_of_a_directory_comes_first_and_hidden_ones_never(tmp_path):
    for age, name in enumerate(["c", "sub/a", "b", ".hidden", ".git/x"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (1000 - age, 1000 - age))
    os.mkfifo(tmp_path / "pipe")
    names = [str(path.relative_to(tmp_path)) for path in expanded([str(tmp_path)])]
    assert names == ["b", "sub/a", "c"]
    assert [path.name for path in expanded([str(tmp_path / "*"), str(tmp_path / "b")])] == ["b", "c"]
    assert expanded([str(tmp_path / "nothing*")]) == []


def test_a_file_that_is_named_twice_is_read_once(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(line(1))
    monkeypatch.chdir(tmp_path)
    assert expanded(["a", f"{tmp_path}/a", "./a", "../" + tmp_path.name, "*"]) == [Path("a")]
    assert expanded(["-", "-"]) == [Path("-")]


@pytest.mark.sqlite_only
def test_with_patience_a_store_that_cannot_be_written_is_waited_for(monkeypatch):
    monkeypatch.setattr(importing, "STORE_RETRY_SECONDS", 0.01)

    async def work(store, account, directory):
        await store.probe()
        store._engine._engine._writing.set_busy_timeout(10)
        other = apsw.Connection(str(directory / "data" / FILE_NAME))
        log = directory / "calls"
        log.write_bytes(line(1))
        tries = []

        def on_progress(importer):
            if importer.progress.waiting:
                tries.append(importer.progress.waiting)
            if len(tries) == 3:
                other.execute("COMMIT")
                tries.append("the store is free")

        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await imported(store, account, [log])
        progress = await imported(store, account, [log], patience=True, on_progress=on_progress)
        assert (progress.accepted, progress.waiting) == (1, "")
        assert tries[-1] == "the store is free"
        other.close()

    in_store(work)


def test_thousands_of_small_files_are_told_from_one_another_quickly():
    async def work(store, account, directory):
        for number in range(3_000):
            (directory / f"{number}.json").write_bytes(line(number))
        paths = expanded([str(directory / "*.json")])
        assert (await imported(store, account, paths)).accepted == 3_000
        place = await store.imports.places(
            account.id, "calls", digest(msgspec.json.encode((__version__, None))).digest()
        )
        known, looked_at = Places(place), []
        find = known._fitting
        known._fitting = lambda head: looked_at.extend(found := find(head)) or found
        for path in paths:
            assert known.find(io.BytesIO(path.read_bytes()))[1]
        assert len(looked_at) == 3_000

    in_store(work)


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        (b"PK\x03\x04\x14\x00", "is a zip archive"),
        ("{}".encode("utf-16"), "iconv -f UTF-16"),
    ],
)
def test_a_file_that_must_be_converted_first_is_named_and_not_quarantined(content, advice):
    async def work(store, account, directory):
        foreign = directory / "foreign"
        foreign.write_bytes(content)
        progress = await imported(store, account, [foreign])
        assert (progress.records, len(progress.failed)) == (0, 1)
        assert advice in progress.failed[0]

    in_store(work)


def test_a_hole_where_a_file_was_truncated_costs_nothing():
    async def work(store, account, directory):
        log = directory / "calls"
        log.write_bytes(b"\0" * 5_000 + line(1) + line(2))
        assert (await imported(store, account, [log])).accepted == 2

    in_store(work)
