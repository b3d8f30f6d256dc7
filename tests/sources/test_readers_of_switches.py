"""Whatever comes, a reader of a switch gives a part or says why not: random bytes, and records with random damage."""

import json
import os
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callhouse.errors import RecordError
from callhouse.model import call as calls
from callhouse.model.record import Fragment
from callhouse.sources import freeswitch, kamailio
from sources.switch_calls import SAMPLES

MUTATIONS = int(os.environ.get("CALLHOUSE_TEST_MUTATIONS", "2000"))
"""Damaged records that each reader gets; more of them take longer and find more."""

FREESWITCH = [
    *(json.loads(f.read_text())["body"].encode() for f in sorted((SAMPLES / "freeswitch/posts").glob("*.json"))),
    *(json.loads(f.read_text())["body"].encode() for f in sorted((SAMPLES / "freeswitch/encodings").glob("*/*.json"))),
    b'"A","1","2","d","2026-11-20 22:32:36","","2026-11-20 22:32:40","4","0","NO_ANSWER","u","","","",""',
]
KAMAILIO = [
    *(f.read_bytes() for f in sorted((SAMPLES / "kamailio").glob("*.json"))),
    b"callid,method,time,sip_code\nc,INVITE,2026-11-20 22:32:36,200",
    b"1,BYE,a,b,c1@x,200,OK,2026-11-20 22:33:06,14155550101,x,192.0.2.1,1000,1000,x",
]
READERS = [(freeswitch.plugin, FREESWITCH), (kamailio.plugin, KAMAILIO)]
NAMES = [
    "uuid", "originator", "start_uepoch", "answer_stamp", "end_epoch", "transfer_history", "call_id", "start_time",
    "end_time", "answer_time", "reason_hdr", "applications", "caller_profile", "extension", "app_stamp", "app_data",
]  # fmt: skip
TOKENS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b"<", b">", b"</", b"&", b"%", b"%00", b"%zz", b"cdr=", b",", b"\n", b"\0",
    b"null", b"true", b"1e999", b"-1", b"99999999999999999999", b"\\ud800", b"\\u0000", b"ARRAY::", b"|:", b"\xff",
    b"\xef\xbf\xbf", b"0001-01-01", b"9999-12-31 23:59:59", b"variables", b"Q.850;cause=",
]  # fmt: skip


def examined(plugin, record):
    """Read *record* as a body is read, and hold what comes of it against what the store expects."""
    [read] = plugin.readers.values()
    for raw in plugin.split(record):
        try:
            told = read(raw, 32)
        except RecordError as error:
            assert str(error)
            assert len(str(error)) < 1_000
            continue
        parts = [told]
        if isinstance(told, Fragment):
            assert b"\n" not in told.content
            assert 1 <= len(told.group) <= 256
            parts = told.join(told.group, [told.content])
        for part in parts:
            check(part)


def check(part):
    calls.check(part.call)
    assert 1 <= len(part.session_id) <= 256
    for field in calls.FIELDS:
        value = getattr(part.call, field)
        assert not isinstance(value, str) or "\0" not in value
        assert not isinstance(value, int) or abs(value) < 2**63
    msgspec.json.encode(part.call.extra)
    for event in part.events:
        assert 0 <= event.timestamp < 2**63
        msgspec.json.encode(event)


@pytest.mark.parametrize(("plugin", "samples"), READERS, ids=lambda value: getattr(value, "name", ""))
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_random_bytes_and_random_objects_raise_nothing_else(plugin, samples, data):
    texts = st.text(max_size=20) | st.sampled_from(["0", "-1", "1795213960", "1795213960000000", "ARRAY::a|:b", "%41"])
    values = st.recursive(
        texts
        | st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.integers(-(2**63), 2**63),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=10,
    )
    names = st.sampled_from(NAMES)
    objects = st.dictionaries(names, values, max_size=8)
    documents = st.fixed_dictionaries(
        {"variables": objects}, optional={"callflow": st.lists(objects), "app_log": objects, "channel_data": values}
    )
    record = data.draw(st.binary(max_size=200) | (objects | documents).map(lambda o: json.dumps(o).encode()))
    examined(plugin, record)


@pytest.mark.parametrize(("plugin", "samples"), READERS, ids=lambda value: getattr(value, "name", ""))
def test_records_with_damage_raise_nothing_else(plugin, samples):
    dice = random.Random(MUTATIONS)
    for _ in range(MUTATIONS):
        record = bytearray(dice.choice(samples))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(record) + 1)
            end = at + dice.choice([0, 0, 1, 2, 10, 500])
            kind = dice.random()
            if kind < 0.4:
                record[at:end] = dice.choice(TOKENS)
            elif kind < 0.6:
                record[at:end] = dice.randbytes(dice.randint(1, 4))
            elif kind < 0.8:
                other = dice.choice(samples)
                start = dice.randrange(len(other))
                record[at:end] = other[start : start + dice.choice([5, 50, 500])]
            else:
                del record[at:end]
        try:
            examined(plugin, bytes(record))
        except Exception:
            print(bytes(record))
            raise
