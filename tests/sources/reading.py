"""What the tests that feed readers with damage share: captured records to begin with, how a body is read, and what may
come of it.
"""

import json
from collections import defaultdict
from pathlib import Path

import msgspec

from callhouse import discovery, sources
from callhouse.errors import RecordError, TooLarge, Unreadable
from callhouse.ingest.body import split
from callhouse.model import call as calls
from callhouse.model.log import in_order, pack
from callhouse.model.record import Fragment
from callhouse.sources import Source
from callhouse.sources.asterisk.columns import CEL_KINDS, DISPOSITIONS
from callhouse.store.log_writer import GROWTH

SAMPLES = Path(__file__).parent / "samples"
MAX_DEPTH = 32
FRAME = 200
"""Bytes of an event in a log that no byte of its record stands for."""

PLUGINS = {plugin.name: plugin for plugin in discovery.discover(sources, Source)}


def _bodies(pattern):
    """The bodies of the requests in the files that *pattern* matches."""
    return [json.loads(file.read_text())["body"].encode() for file in sorted(SAMPLES.glob(pattern))]


def _files(pattern):
    return [file.read_bytes() for file in sorted(SAMPLES.glob(pattern))]


def _calls(file, rows_of_a_call=25):
    """A captured file of rows in pieces that are about as long as one call's."""
    rows = (SAMPLES / file).read_bytes().splitlines(keepends=True)
    return [b"".join(rows[at : at + rows_of_a_call]) for at in range(0, len(rows), rows_of_a_call)]


def _cel(kind, second, channel, extra=""):
    """A row of CEL of a call that is transferred, which no captured one is."""
    return (
        f'"{kind}","{kind}","","17952134{second}.000000","A","1","","","","2","c","SIP/{channel}","","","","",'
        f'"1795213457.{channel}","1795213457.1","","","","{{{extra}}}",""\n'
    ).encode()


_TRANSFERRED = b"".join(
    [
        _cel("CHAN_START", 57, 1),
        _cel("CHAN_START", 58, 2),
        _cel("BLINDTRANSFER", 60, 2, '""extension"":""601"",""transferee_channel_uniqueid"":""1795213457.1""'),
        _cel("BRIDGE_ENTER", 61, 1),
        _cel("ATTENDEDTRANSFER", 62, 2, '""transfer_target_channel_name"":""SIP/2""'),
        _cel("HANGUP", 63, 1, '""hangupcause"":16,""hangupsource"":""SIP/1""'),
        _cel("LINKEDID_END", 64, 1),
    ]
)

SEEDS = {
    "freeswitch": [
        *_bodies("freeswitch/posts/*.json"),
        *_bodies("freeswitch/encodings/*/*.json"),
        b'"A","1","2","d","2026-11-20 22:32:36","","2026-11-20 22:32:40","4","0","NO_ANSWER","u","","","",""',
    ],
    "kamailio": [
        *_files("kamailio/*.json"),
        b"callid,method,time,sip_code\nc,INVITE,2026-11-20 22:32:36,200",
        b"1,BYE,a,b,c1@x,200,OK,2026-11-20 22:33:06,14155550101,x,192.0.2.1,1000,1000,x",
    ],
    "asterisk": [
        *_calls("asterisk/local-ivr/cel_full.csv"),
        *_calls("asterisk/local-ivr/cel_legacy.csv"),
        *_calls("asterisk/local-ivr/Master.csv"),
        *_calls("asterisk/local-ivr/cdr_full.csv"),
        *_files("asterisk/odd/*"),
        _TRANSFERRED,
        b'[{"EventName":"ANSWER","EventTime":1795213457.1,"Linkedid":"a.1"},{"start":"2026-11-20","duration":4}]',
        (
            b"calldate,clid,src,dst,channel,dstchannel,lastapp,duration,billsec,disposition,uniqueid,linkedid\n"
            b'2026-11-20 22:24:17,"""A"" <1>",1,2,Local/2@a-1;2,SIP/b-1,Dial,4,3,ANSWERED,1795213457.1,1795213457.0'
        ),
    ],
    "native": [
        (
            b'{"session_id":"a","src":"1","dest":"2","start":1529552581.25,"answer":"2018-06-21T03:43:02Z","end":1529552600,'
            b'"rate":"0.0085","amount":1e-3,"hangup_original_code":"16","hangup_original_scheme":"q850","direction":"inbound",'
            b'"duration":18.75,"hangup_cause_code":4000,"x":{"y":[1,null,true]},"events":[{"timestamp":1529552582,"seq":1,'
            b'"class":"prompt","line":"Playing","data":{"module_type":"menu","result_variable":"choice"}}]}'
        ),
        b'{"session_id":"a","events":[{"timestamp":"2018-06-21T03:43:02.5+02:00","class":"error","line":"\\u00e9"}]}',
        b'[{"session_id":"a","start":1},{"session_id":"b","end":2.5}]',
    ],
}

NAMES = [
    *sorted(CEL_KINDS | DISPOSITIONS),
    "uuid", "originator", "start_uepoch", "answer_stamp", "end_epoch", "transfer_history", "call_id", "start_time",
    "end_time", "answer_time", "reason_hdr", "applications", "caller_profile", "extension", "app_stamp", "app_data",
]  # fmt: skip
TOKENS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b"<", b">", b"</", b"&", b"%", b"%00", b"%zz", b"cdr=", b",", b"\n", b"\0",
    b"null", b"true", b"1e999", b"-1", b"99999999999999999999", b"\\ud800", b"\\u0000", b"ARRAY::", b"|:", b"\xff",
    b"\xef\xbf\xbf", b"0001-01-01", b"9999-12-31 23:59:59", b"variables", b"Q.850;cause=",
]  # fmt: skip


def records(plugin, body):
    """The records of *body*, as ingest cuts it for *plugin*; none if it says what is wrong with the whole."""
    try:
        return split(body, "", len(body) + 1, plugin.splitter and plugin.splitter())
    except (Unreadable, TooLarge) as error:
        assert str(error)
        return []


def parts(plugin, body):
    """All that *body* says: what each record was read from, and a part of a call.

    Rows are joined, and joined once more as if their call had been cut off.
    """
    groups = defaultdict(list)
    for raw in records(plugin, body):
        for read in plugin.readers.values():
            try:
                said = read(raw, MAX_DEPTH)
            except RecordError as error:
                assert 0 < len(str(error)) < 1_000
                continue
            if isinstance(said, Fragment):
                groups[said.group].append(said)
            else:
                yield len(raw), said
    closing = [] if plugin.silence is None else [plugin.silence(plugin.options).row.content]
    for name, rows in groups.items():
        contents = [row.content for row in rows]
        size = sum(map(len, contents))
        for joined in (rows[0].join(name, contents), rows[0].join(name, contents + closing)):
            yield from ((size, part) for part in joined)
        for content in contents:
            assert b"\n" not in content
        assert 1 <= len(name) <= sources.MAX_ID


def examined(plugin, body):
    """Read *body*, and hold what comes of it against what the store expects."""
    for size, part in parts(plugin, body):
        assert 1 <= len(part.session_id) <= sources.MAX_ID
        if part.call is not None:
            _check_call(part)
        for event in part.events:
            assert 0 <= event.timestamp < 2**63
            assert event.seq is None or abs(event.seq) < 2**63
        packed = pack(in_order(part.events))
        assert len(packed) <= GROWTH * size + FRAME * (len(part.events) + 1)


def _check_call(part):
    calls.check(part.call)
    assert part.call.session_id == part.session_id
    for field in calls.FIELDS:
        value = getattr(part.call, field)
        assert not isinstance(value, str) or "\0" not in value
        assert not isinstance(value, int) or abs(value) < 2**63
    # Text that is none, half a surrogate pair, does not pass.
    msgspec.json.encode(part.call)
