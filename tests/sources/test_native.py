"""Callhouse's own records: what is read, and what is refused with which reason."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callhouse.errors import RecordError
from callhouse.model.call import Call
from callhouse.model.log import pack
from callhouse.sources.native import read_call, read_events
from callhouse.store.log_writer import GROWTH

EVENT = {"timestamp": 1_700_000_001, "class": "info", "line": "Sending"}


def read(record, reader=read_call, depth=32):
    return reader(json.dumps(record).encode(), depth)


def test_a_call_record_fills_every_field_of_the_model():
    given_fields = {
        "session_id": "300060;001;1529552581",
        "call_uuid": "u",
        "parent_call_uuid": "p",
        "direction": "transfer",
        "src": "1",
        "dest": "2",
        "start": 1_700_000_000,
        "answer": 1_700_000_001.25,
        "end": "2023-11-14T23:13:22.5+01:00",
        "duration": 2.5,
        "billed_duration": 60,
        "hangup_cause_code": 4000,
        "hangup_cause_name": "Normal Hangup",
        "hangup_source": "Caller",
        "hangup_original_code": "16",
        "hangup_original_scheme": "q850",
        "rate": "0.00850",
        "amount": 0.1,
        "conference_uuid": "c",
        "stir_verification": "Verified",
        "stir_attestation": "A",
        "source_ip": "192.0.2.1",
        "voice_network_group": "g",
        "application_name": "Welcome",
        "application_version": "1.0",
        "location": "Boston",
        "channel": "26",
        "sip_call_id": "1-457@192.0.2.1",
    }
    call = read({**given_fields, "x-carrier": {"z": 1, "a": [True]}}).call
    assert call == Call(
        **{
            **given_fields,
            "start": 1_700_000_000_000,
            "answer": 1_700_000_001_250,
            "end": 1_700_000_002_500,
            "duration": 2_500,
            "billed_duration": 60_000,
            "rate": Decimal("0.00850"),
            "amount": Decimal("0.1"),
        },
        extra={"x-carrier": {"z": 1, "a": [True]}},
    )
    # The last two are what vendors tell of calls that are mirrored.
    assert set(given_fields) | {"extra", "log_id", "told"} == set(Call.__struct_fields__)


@pytest.mark.parametrize(
    ("sent", "milliseconds"),
    [
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.001, 1_700_000_000_001),
        (1_700_000_000.9996, 1_700_000_000_999),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("2023-11-14 22:13:20.123456+00:00", 1_700_000_000_123),
        ("2023-11-14T17:13:20-05:00", 1_700_000_000_000),
        (0, 0),
    ],
)
def test_an_instant_may_be_epoch_seconds_or_rfc_3339(sent, milliseconds):
    assert read({"session_id": "s", "start": sent}).call.start == milliseconds


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "session_id"),
        ({"session_id": ""}, "session_id must have 1 to 256 characters"),
        ({"session_id": "x" * 257}, "session_id must have 1 to 256 characters"),
        ({"session_id": "a\0b"}, "session_id holds a NUL"),
        ({"session_id": 7}, "Expected `str`, got `int` - at `$.session_id`"),
        ({"session_id": "s", "src": "\0"}, "src holds a NUL"),
        ({"session_id": "s", "start": True}, "start"),
        ({"session_id": "s", "start": 1_700_000_000_000}, "start is out of range: seconds since 1970 expected"),
        ({"session_id": "s", "start": -1}, "start is out of range"),
        ({"session_id": "s", "start": "2023-11-14T22:13:20"}, "start has no time zone"),
        ({"session_id": "s", "start": "yesterday"}, "start is neither epoch seconds nor an RFC 3339 time"),
        ({"session_id": "s", "start": "2023-02-30T00:00:00Z"}, "start is neither"),
        ({"session_id": "s", "start": 2, "end": 1}, "end is before start"),
        ({"session_id": "s", "start": 2, "answer": 1}, "answer is before start"),
        ({"session_id": "s", "answer": 2, "end": 1}, "answer is after end"),
        ({"session_id": "s", "direction": "sideways"}, "$.direction"),
        ({"session_id": "s", "duration": -1}, "duration is out of range"),
        ({"session_id": "s", "hangup_cause_code": 2**63}, "hangup_cause_code is out of range"),
        ({"session_id": "s", "rate": "NaN"}, "rate is no decimal number"),
        ({"session_id": "s", "rate": "much"}, "rate is no decimal number"),
        ({"session_id": "s", "events": [{**EVENT, "class": "fatal"}]}, "$.events[0].class"),
        ({"session_id": "s", "events": [{**EVENT, "message": "x"}]}, "unknown field `message`"),
        ({"session_id": "s", "events": [EVENT, {**EVENT, "timestamp": "x"}]}, "events[1].timestamp"),
        ({"session_id": "s", "events": [{**EVENT, "data": []}]}, "$.events[0].data"),
        ({"session_id": "s", "events": [{**EVENT, "seq": 2**63}]}, "events[0].seq is out of range"),
        ({"session_id": "s", "a": [[[[[[]]]]]]}, "nests deeper than 5"),
        ([], "is no JSON object"),
    ],
)
def test_a_record_that_cannot_be_kept_is_refused_with_the_reason(record, reason):
    with pytest.raises(RecordError) as refused:
        read(record, depth=5)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (rb'{"session_id":"\ud800"}', r"holds half a surrogate pair, \ud800 without its other half (byte 15)"),
        (rb'{"session_id":"s","\uDC00":1}', r"holds half a surrogate pair, \uDC00 without its other half (byte 19)"),
        (rb'{"a":"\\\ud83d\ude00","b":"\ud83d\ud83d"}', r"pair, \ud83d without its other half (byte 27)"),
        (rb'{"a":"\ud83d\ude00","b":"\ud83dx', r"pair, \ud83d without its other half (byte 25)"),
        (rb'{"a":"\\ud800', "is no JSON object: it ends too early (byte 13)"),
        (rb'{"a":"\ud83d\ude00","b":"\ud8', "is no JSON object: it ends too early (byte 29)"),
        (b'{"session_id":"s"', "is no JSON object: it ends too early (byte 17)"),
        (b'{"session_id":"\xff"}', "is no JSON object: it is not UTF-8 (byte 15)"),
        (b'{"a":"\xc3\xa9","b":"\xed\xa0\x80"}', "is no JSON object: it is not UTF-8 (byte 15)"),
        ('{"session_id":"s"}'.encode("utf-16"), "is no JSON object: it is not UTF-8 (byte 0)"),
        (b'{"session_id":"s","a":1e999}', "holds a number that is out of range"),
        (b'{"session_id":"s",}', "is no JSON object: JSON is malformed: trailing comma in object (byte 18)"),
    ],
)
def test_bytes_that_cannot_be_decoded_are_refused_with_what_is_wrong_and_where(raw, reason):
    for reader in (read_call, read_events):
        with pytest.raises(RecordError) as refused:
            reader(raw, 32)
        assert str(refused.value).endswith(reason)


def test_a_long_record_is_searched_for_what_is_wrong_once():
    # Quadratic time would take hours here.
    for cut in (
        rb"\ud83d\ude00" * 300_000,
        rb"\\" * 2_000_000,
        rb"\u0041" * 600_000,
        rb"\ud83" * 600_000,
        b"a" * 4_000_000,
    ):
        with pytest.raises(RecordError):
            read_call(b'{"session_id":"' + cut, 32)


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"session_id":"\\ud800"}',
        b'{"session_id":"\xff"}',
        b'{"session_id":"s","a":NaN}',
        b'{"session_id":"s","a":1e999}',
        b'{"session_id":"s","a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b"",
        b"null",
    ],
)
def test_bytes_that_are_no_json_object_are_refused_with_a_reason(raw):
    for reader in (read_call, read_events):
        with pytest.raises(RecordError):
            reader(raw, 32)


def test_data_keeps_its_keys_their_order_and_their_types():
    data = {"z": 1, "a": 1.0, "ü": True, "n": None, "l": [1, "1", {"y": {}, "x": -0.5}], "big": 10**30, "": "\u0000"}
    [event] = read({"session_id": "s", "events": [{**EVENT, "data": data}]}, read_events).events
    assert json.dumps(event.data) == json.dumps(data)


def test_an_events_record_needs_events_and_nothing_else():
    assert read({"session_id": "s", "events": [EVENT]}, read_events).events[0].line == "Sending"
    for wrong in (
        {"session_id": "s"},
        {"session_id": "s", "events": []},
        {"session_id": "s", "events": [EVENT], "x": 1},
    ):
        with pytest.raises(RecordError):
            read(wrong, read_events)


@given(st.binary(max_size=200), st.integers(1, 5))
def test_no_bytes_raise_anything_but_the_reason(raw, depth):
    for reader in (read_call, read_events):
        try:
            reader(raw, depth)
        except RecordError as refused:
            assert str(refused)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda i: (
            st.lists(i)
            | st.dictionaries(
                st.sampled_from(
                    ["session_id", "start", "end", "events", "data", "class", "line", "timestamp", "seq", "rate", "src"]
                ),
                i,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_raises_anything_but_the_reason(value):
    for reader in (read_call, read_events):
        try:
            reader(json.dumps(value).encode(errors="surrogatepass"), 32)
        except RecordError as refused:
            assert str(refused)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"session_id":"s","events":[{"timestamp":1,"class":"info","line":""}]}',
        b'{"session_id":"s","events":[' + b'{"timestamp":1.5,"class":"info","line":"","seq":1},' * 500
        + b'{"timestamp":1,"class":"info","line":""}]}',
        b'{"session_id":"s","events":[{"timestamp":1e9,"class":"info","line":"","data":{"a":[' + b"1e15," * 5000
        + b"1]}}]}",
        b'{"session_id":"s","events":[{"timestamp":1e9,"class":"info","line":"","data":{"a":[' + b"-9e-5,1E2," * 5000
        + b"1]}}]}",
        b'{"session_id":"s","events":[{"timestamp":1e9,"class":"info","line":"' + "\u007f\u2028\u00e9/<".encode() * 5000
        + rb'\u0001\n\/"}]}',
    ],
)  # fmt: skip
def test_a_log_is_not_longer_than_the_record_that_brought_it_may_make_it(raw):
    assert len(pack(read_events(raw, 32).events)) <= GROWTH * len(raw)
