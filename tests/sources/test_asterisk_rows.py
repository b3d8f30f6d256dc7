"""Rows as Asterisk writes them, in all its formats: what is read, and what is refused with which reason."""

import csv
import io
import json
from datetime import UTC

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callhouse.errors import RecordError
from callhouse.model import log as log_document
from callhouse.sources.asterisk import Options, columns, readers
from callhouse.sources.asterisk.rows import RowReader, repaired
from sources.asterisk_rows import CDR, CDR_CUSTOM, CEL, CEL_20, COLUMNS, SAMPLES, calls, cel, line, read, rows_of, split

FULL = ["acc", "100", "200", "from-trunk", '"A" <100>', "SIP/t-1", "", "Dial", "SIP/200"]
FULL += ["2026-11-20 10:00:00", "", "2026-11-20 10:00:09", "9", "0", "NO ANSWER", "DOCUMENTATION"]
EXTRA = {"uniqueid": "1795213272.5", "userfield": "u", "peer_account": "p", "linkedid": "1795213272.4", "sequence": "3"}
NEW = ["p", "1795213272.4", "3"]
ODD = ["odd/Master_quote_in_name.csv", "odd/cdr_json_invalid_backslash_quote.json", "odd/cel_of_call_lost_by_kill9.csv"]


def normal(row, **options):
    fragment = read(row, **options)
    return fragment.group, json.loads(fragment.content)


@pytest.mark.parametrize(
    ("more", "group", "userfield"),
    [
        ([], "SIP/t-1@1795168800", ""),
        (["1795213272.5"], "1795213272.5", ""),
        (["lab1-1795213272.5"], "lab1-1795213272.5", ""),
        (["u"], "SIP/t-1@1795168800", "u"),
        (["1795213272.5", "u"], "1795213272.5", "u"),
        (NEW, "1795213272.4", ""),
        (["1795213272.5", *NEW], "1795213272.4", ""),
        (["u", *NEW], "1795213272.4", "u"),
        (["1795213272.5", "u", *NEW], "1795213272.4", "u"),
        (["1795213272.5", "u", *NEW, "17", "SIP/t-1", "inbound", "x@y"], "1795213272.4", "u"),
    ],
)
def test_the_columns_of_master_csv_are_told_by_their_number(more, group, userfield):
    found, row = normal(line([*FULL, *more]))
    assert found == group
    assert row[18] == userfield
    if len(more) == 9:
        assert row[19] == {"direction": "inbound", "hangupcause": "17", "hangupsource": "SIP/t-1", "sip_call_id": "x@y"}


def test_the_orders_of_cdr_custom_are_known():
    values = [FULL[4], *FULL[1:4], *FULL[5:], "acc"]
    shipped = calls([line([*values, "1795213272.5", "u", "3"])])["1795213272.5"]
    assert (shipped.src, shipped.dest, shipped.extra["userfield"]) == ("100", "200", "u")
    ours = calls([line([*values, "1795213272.5", "1795213272.5", "u", "3", "17"])])["1795213272.5"]
    assert (ours.hangup_original_code, ours.extra["userfield"]) == ("17", "u")


def test_columns_can_be_named_in_the_settings():
    row = line(["NO ANSWER", "100", "200", "1795213272.5", "1795213272"])
    with pytest.raises(RecordError, match="5 columns in an order that is not known"):
        read(row)
    call = calls([row], cdr_columns="disposition, src, dst, uniqueid, calldate")["1795213272.5"]
    assert (call.src, call.dest, call.start, call.hangup_original_code) == ("100", "200", 1_795_213_272_000, "19")
    event = line(["1795213272.5", "CHAN_START", "1795213272.5", "SIP/t-1"])
    call = calls([event], cel_columns="eventtime,eventtype,uniqueid,channame")["1795213272.5"]
    assert call.channel == "SIP/t-1"
    # Files in the usual order are read all the same.
    assert read(line(FULL), cel_columns="eventtime,eventtype,uniqueid,channame").content == read(line(FULL)).content


@pytest.mark.parametrize(
    "options",
    [
        {"timezone": "Nowhere/Land"},
        {"timezone": "../etc"},
        {"lost_after": "soon"},
        {"cdr_columns": "src,dst"},
        {"cel_columns": "eventtype"},
    ],
)
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        readers(Options(**options))


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("2026-07-01 12:00:00", 1_782_900_000_000),
        ("2026-07-01 12:00:00.25", 1_782_900_000_250),
        ("2026-07-01T12:00:00+00:00", 1_782_907_200_000),
        ("1782907200.250000", 1_782_907_200_250),
        ("1782907200", 1_782_907_200_000),
        # Twice in that night, and never in the other one.
        ("2026-10-25 02:30:00", 1_792_888_200_000),
        ("2026-03-29 02:30:00", 1_774_747_800_000),
    ],
)
def test_times_without_a_zone_are_of_the_zone_in_the_settings(written, milliseconds):
    row = line([*FULL[:9], written, "", written, *FULL[12:]])
    [call] = calls([row], timezone="Europe/Berlin").values()
    assert call.start == milliseconds


@pytest.mark.parametrize(
    ("start", "answer", "end", "lengths", "seconds"),
    [
        # The clock goes back from 03:00 to 02:00: begun before that, and after it.
        ("02:50:00", "02:50:10", "02:10:00", (1200, 1190), (0, 10, 1200)),
        ("02:50:00", "02:10:00", "02:20:00", (1800, 600), (0, 1200, 1800)),
        ("02:50:00", "02:50:10", "03:10:00", (1200, 1190), (3600, 3610, 4800)),
        ("02:50:00", "02:50:10", "03:10:00", (4800, 4790), (0, 10, 4800)),
        ("02:50:00", "02:50:10", "02:55:00", (300, 290), (0, 10, 300)),
    ],
)
def test_lengths_tell_which_of_two_hours_with_one_name_it_was(start, answer, end, lengths, seconds):
    stamps = [f"2026-10-25 {time}" for time in (start, answer, end)]
    row = line([*FULL[:9], *stamps, *map(str, lengths), *FULL[14:]])
    [call] = calls([row], timezone="Europe/Berlin").values()
    assert [(time - 1_792_889_400_000) / 1000 for time in (call.start, call.answer, call.end)] == list(seconds)


@pytest.mark.parametrize("never", ["", "0", "0.000000", "0000-00-00 00:00:00", "1970-01-01 00:00:00", "NULL", "\\N"])
def test_databases_have_many_ways_to_say_never(never):
    header = "calldate,channel,src,dst,answer,end,disposition,uniqueid,linkedid,userfield"
    row = f"2026-07-01 12:00:00,SIP/a,1,2,{never},2026-07-01 12:00:09,NO ANSWER,1.1,1.1,NULL"
    [call] = calls(split(f"{header}\n{row}".encode())).values()
    assert (call.answer, call.end - call.start, call.hangup_original_code) == (None, 9_000, "19")
    assert "userfield" not in call.extra


def test_events_may_have_numbers_for_names():
    header = "eventtype,eventtime,cid_num,exten,context,channame,uniqueid,linkedid"
    kinds = [(1, "12:00:00"), (4, "12:00:05"), (3, "12:00:09"), (14, "12:00:09")]
    rows = [f"{kind},2026-07-01 {time},1,200,from-trunk,SIP/a,1.1,1.1" for kind, time in kinds]
    [call] = calls(split("\n".join([header, *rows]).encode())).values()
    assert (call.src, call.dest, call.direction, call.duration) == ("1", "200", "inbound", 4_000)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'"a","b', "no row of CSV"),
        (b'"a""b"c', "no row of CSV"),
        (b"", "empty"),
        (b'"a","b"', "2 columns"),
        (b"{", "not one that Asterisk would write"),
        (b'{"a":1}', "neither a disposition nor an eventtime"),
        (b'{"eventtime":"1","uniqueid":"a\\u0000"}', "NUL"),
        (line([*FULL[:5], "x" * 200, *FULL[6:]]), "channel of more than 100"),
        (line([*FULL, "x" * 200, "u"]), "uniqueid or linkedid of more than 150"),
        (line([*FULL[:9], "", "", "", *FULL[12:]]), "start is empty"),
        (line([*FULL[:9], "yesterday", *FULL[10:]]), "start is 'yesterday'; a date or epoch seconds expected"),
        (line([*FULL[:9], "1795213272123", *FULL[10:]]), "not milliseconds"),
        (line([*FULL[:9], "1960-01-01 00:00:00", *FULL[10:]]), "before 1970"),
        (line([*FULL[:13], "x", *FULL[14:]]), "billsec is 'x'; seconds expected"),
        (line([*FULL[:11], "", "999999999999999", *FULL[13:]]), "duration is out of range"),
        (line([*FULL, "u", "p", "l.1", "x"]), "sequence is no number"),
        (cel("ANSWER", 1, "SIP/t-1", "", ""), "names no call"),
        (cel("ANSWER", 1, "SIP/t-1", "a.1", EventTime=""), "eventtime is empty"),
        (cel("ANSWER", 1, "SIP/t-1", "a.1", UserField="\0"), "NUL"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(row, reason):
    with pytest.raises(RecordError, match=reason):
        read(row)


def test_a_row_is_the_same_one_in_every_format():
    assert [read(row) for row in rows_of(CEL)] != []
    for row, legacy in zip(rows_of(CEL), rows_of(CEL_20), strict=True):
        values = next(csv.reader([row.decode()]))
        as_json = json.dumps(dict(zip(COLUMNS, values, strict=True))).encode()
        assert read(row).content == read(legacy).content == read(as_json).content


def test_the_quick_way_reads_the_same_as_the_other():
    slow = RowReader(UTC, cel=("never",))
    odd = [{"Name": "Tür"}, {"EventTime": "0795213457.123456"}, {"EventTime": "0000000000.000000"}]
    for row in [*rows_of(CEL, *ODD[2:]), *(cel("ANSWER", 1, "SIP/t-1", "a.1", **values) for values in odd)]:
        assert slow.read(row) == (read(row).group, read(row).content)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ['"', '","', '""', "\\", '\\"', "{", '}","', ',"{""', "\n", "é", "'", ", ", " "]
)


# Numbers are another matter: databases have them for the names of events and of AMA flags.
@given(st.lists(texts.filter(lambda text: not text.isdecimal()), min_size=23, max_size=23))
@example(["a\\"] * 23)
@example(['{"a":"b"}'] * 23)
@example(['"'] * 23)
def test_whatever_stands_in_a_row_is_read_as_it_was_written(values):
    values[1], values[3], values[16], values[17] = "DTMF", "1795213272.721490", "a.2", "a.1"
    _, row = normal(line(values))
    assert row[3:] == values


@given(st.dictionaries(st.sampled_from(["src", "dst", "clid", "lastdata", "userfield"]), texts))
def test_json_lines_that_asterisk_fails_to_escape_are_read_as_they_were_meant(values):
    whole = {"uniqueid": "a.1", "disposition": "ANSWERED", "start": 1795213272.5, **values}
    written = ",".join(
        f'"{name}":{value}' if isinstance(value, float) else '"{}":"{}"'.format(name, value.replace('"', '\\"'))
        for name, value in whole.items()
    )
    assert repaired(f"{{{written}}}") == {**whole, "start": "1795213272.5"}


def test_a_row_in_which_no_order_of_quotes_makes_sense_is_refused():
    with pytest.raises(RecordError, match="not one that Asterisk would write"):
        read(b'{"src":"a"b","dst":"c\\"}')


def test_bytes_that_are_no_utf8_are_read_as_latin_1():
    [call] = calls([line([*FULL[:4], '"Jörg" <100>', *FULL[5:]]).decode().encode("latin-1")]).values()
    assert call.extra["caller_name"] == "Jörg"


def test_a_body_is_cut_into_rows():
    assert split(b"") == split(b" \r\n") == []
    assert split(b'\xef\xbb\xbf"a","b"\r\n\r\n"c","d"\n') == [b'"a","b"', b'"c","d"']
    assert split(b'{"a":1}\n{"b":2}\n') == [b'{"a":1}', b'{"b":2}']
    assert split(b'[{"a":1},{"b":2}]') == [b'{"a":1}', b'{"b":2}']
    assert split(b'[{"a":1},{"b"') == [b'{"a":1}', b'{"b"']


def test_line_feeds_within_quotes_belong_to_the_value():
    rows = [line(["a\nb\n\nc", *FULL[1:]]), line(FULL)]
    assert split(b"\n".join(rows)) == rows


def test_a_row_that_lacks_a_quote_costs_only_itself():
    rows = [line(FULL), line(FULL)[:40], line(FULL), line(FULL), line(FULL)[:40], line(FULL)]
    assert split(b"\n".join(rows)) == rows


def test_a_header_line_names_the_columns_of_what_follows():
    header = "calldate,clid,src,dst,disposition,uniqueid,cost_centre"
    rows = split(f'{header}\n"2026-11-20 10:00:00","""A"" <1>",1,2,BUSY,a.1,"7\n8"\nbroken\n'.encode())
    assert json.loads(rows[0])["cost_centre"] == "7\n8"
    assert rows[1] == b"broken"
    [call] = calls(rows[:1]).values()
    assert (call.hangup_original_code, call.extra["cost_centre"], call.extra["caller_name"]) == ("17", "7\n8", "A")
    exported = "id,eventtype,eventtime,cid_name,cid_num,cid_ani,cid_rdnis,cid_dnid,exten,context,channame,appname,"
    exported += "appdata,amaflags,accountcode,uniqueid,linkedid,peer,userdeftype,extra"
    values = "1,CHAN_START,2026-11-20 10:00:00,A,1,,,,2,from-trunk,SIP/t-1,,,3,,a.1,a.1,,,"
    [call] = calls(split(f"{exported}\n{values}\n".encode())).values()
    assert (call.src, call.dest, call.direction) == ("1", "2", "inbound")


def test_names_of_columns_are_known_however_they_are_written():
    assert columns.named("EventType, eventenum ,linkedid,accountcode,AMAFlags,cost") == (
        "title", "kind", "linkedid", "account", "ama", "cost",
    )  # fmt: skip


SAMPLE_BYTES = [(SAMPLES / file).read_bytes() for file in (CEL, CEL_20, CDR, CDR_CUSTOM, *ODD)]


@st.composite
def mutated(draw):
    """A stretch of a captured file with bytes replaced, doubled, dropped or put in."""
    data = draw(st.sampled_from(SAMPLE_BYTES))
    start = draw(st.integers(0, len(data) - 1))
    body = bytearray(data[start : start + draw(st.integers(1, 3000))])
    for _ in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, len(body)))
        piece = draw(
            st.sampled_from([b'"', b",", b"\n", b"{", b"}", b"\\", b"\0", b"\xff", b"", b'"","', b"[", b"9" * 20])
        )
        body[at : at + draw(st.integers(0, 3))] = piece
    return bytes(body)


@settings(max_examples=500)
@given(mutated() | st.binary(max_size=300))
def test_no_bytes_bring_the_reader_or_the_join_down(body):
    rows = split(body)
    good = []
    for row in rows:
        try:
            good.append(read(row))
        except RecordError:
            continue
    for fragment in good:
        for part in fragment.join(fragment.group, [f.content for f in good if f.group == fragment.group]):
            call = part.call
            log_document.unpack(log_document.pack(part.events))
            # Only the rows of its own call, which may be missing, tell when a channel began that came from another one.
            assert call.start is not None or call.extra["linkedid"] == fragment.group
            assert call.start is None or call.end is None or call.end >= call.start
            assert call.start is None or call.answer is None or call.answer >= call.start


def test_numbers_need_no_quotes():
    text = io.StringIO()
    csv.writer(text).writerow(FULL)
    assert read(text.getvalue().encode()).content == read(line(FULL)).content


def test_files_that_were_put_together_have_a_header_line_for_each():
    rows = ["calldate,src,dst,disposition,uniqueid", "2026-11-20 10:00:00,1,2,BUSY,9.1"]
    other = ["src,dst,uniqueid,start,disposition", "3,4,9.2,2026-11-20 10:00:00,BUSY"]
    found = [json.loads(row) for row in split("\n".join([*rows, *rows, *other]).encode())]
    assert [(row["src"], row["dst"], row["uniqueid"]) for row in found] == [
        ("1", "2", "9.1"),
        ("1", "2", "9.1"),
        ("3", "4", "9.2"),
    ]
