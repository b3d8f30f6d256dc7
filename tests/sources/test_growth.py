"""No reader takes time out of proportion to what is sent, however that was made: n times as much takes about n times as
long, from cutting a body up to joining its rows.
"""

import gc
import time

import pytest

from sources.asterisk_rows import cel, line
from sources.reading import PLUGINS, parts, records

ENOUGH = 0.02
"""Seconds of the processor from which on a measurement tells something."""

LONGEST = 500_000
"""Bytes of a body at which it is quick enough whatever its shape; eight times as many are the longest record."""

TIMES = 8
AT_MOST = 3
"""Eight times as much may take twenty-four times as long, as caches are small; quadratic time takes sixty-four."""

ATTEMPTS = 4


def seconds(plugin, body):
    # It would run more often the more there is.
    gc.disable()
    try:
        start = time.process_time()
        for _ in parts(plugin, body):
            pass
        return time.process_time() - start
    finally:
        gc.enable()


def is_proportional(plugin, made):
    """Whether the body that *made* gives for a number takes time in proportion to it, for any that is large enough."""
    size = 200
    while seconds(plugin, made(size)) < ENOUGH and len(made(size)) < LONGEST:
        size *= 2
    small, large = made(size), made(TIMES * size)
    # What else the machine does makes one measurement longer, but hardly all of them.
    quickest = quickest_large = float("inf")
    for _ in range(ATTEMPTS):
        quickest = min(quickest, seconds(plugin, small))
        quickest_large = min(quickest_large, seconds(plugin, large))
        if quickest_large <= TIMES * AT_MOST * max(quickest, ENOUGH):
            return True
    return False


def repeated(before, piece, after):
    """A maker of bodies in which *piece* stands again and again."""
    return lambda count: before + piece * count + after


def numbered(before, piece, after, between=b""):
    """The same with a number of its own in the place of each ``#`` of *piece*."""
    return lambda count: before + between.join(piece.replace(b"#", b"%d" % n) for n in range(count)) + after


LEG = b'{"variables":{"uuid":"u","start_epoch":"1795213960","end_epoch":"1795213970"'
XML = b"<cdr><variables><uuid>u</uuid><start_epoch>1795213960</start_epoch><end_epoch>1795213970</end_epoch>"
STEP = b'{"app_name":"%b","app_data":"'
FREESWITCH = {
    "a list of values": repeated(LEG + b',"x":"', b"ARRAY::a|:", b'"}}'),
    "a list of transfers": repeated(LEG + b',"transfer_history":"ARRAY::', b"1:u:bl_xfer:1|:", b'"}}'),
    "transfers and steps": lambda n: (
        LEG
        + b',"transfer_history":"ARRAY::'
        + b"1:u:bl_xfer:1|:" * n
        + b'"},"app_log":{"applications":['
        + b",".join([b'{"app_name":"transfer","app_stamp":"9000000"}'] * n)
        + b"]}}"
    ),
    "variables": numbered(LEG, b',"v#":"#"', b"}}"),
    "percent signs": repeated(LEG + b',"x":"', b"%25", b'"}}'),
    "backslashes": repeated(LEG + b',"x":"', b"\\\\", b'"}}'),
    "quotes": repeated(LEG + b',"x":"', b'\\"', b'"}}'),
    "half pairs": repeated(LEG + b',"x":"', b"\\ud83d\\ude00", b'\\ud83d"}}'),
    "depth": lambda n: LEG + b',"x":' + b"[" * n + b"]" * n + b"}}",
    "applications": numbered(
        LEG + b'},"app_log":{"applications":[', b'{"app_name":"read","app_data":"1 1 a v#"}', b"]}}", b","
    ),
    "arguments": repeated(LEG + b'},"app_log":{"applications":[' + STEP % b"play_and_get_digits", b"' '", b'"}]}}'),
    "pairs": numbered(LEG + b'},"app_log":{"applications":[' + STEP % b"log", b" a#=#", b'"}]}}'),
    "words that are no pairs": repeated(LEG + b'},"app_log":{"applications":[' + STEP % b"log", b" a.a", b'"}]}}'),
    "callflows": numbered(LEG + b'},"callflow":[', b'{"profile_index":"#"}', b"]}", b","),
    "elements of one name": repeated(XML, b"<x>1</x>", b"</variables></cdr>"),
    "elements of many names": numbered(XML, b"<x#>1</x#>", b"</variables></cdr>"),
    "broken elements": repeated(XML, b"<1>", b"</variables></cdr>"),
    "open elements": repeated(XML, b"<a>", b"</cdr>"),
    "open tags": repeated(XML, b"<a ", b"</cdr>"),
    "attributes": numbered(XML + b"<x", b' a#="#"', b"/></variables></cdr>"),
    "broken references": repeated(XML + b"<x>", b"&a ", b"</x></variables></cdr>"),
    "characters": repeated(XML + b"<x>", b"&#65;", b"</x></variables></cdr>"),
    "base64": repeated(b"cdr=", b"e30 ", b""),
    "columns": repeated(b'"1"', b',"1"', b""),
    "rows": repeated(b"", b'"a"\n', b""),
    "lines of JSON": repeated(b"", b"{}\n", b""),
}
CALL = b'{"call_id":"c","start_time":"1","end_time":"2"'
KAMAILIO = {
    "a long header": lambda n: b"callid,method,time" + b",c" * n + b"\n" + b"a\n" * n,
    "a long name in a header": lambda n: b"callid,method,time," + b"c" * n + b"\n" + b"a\n" * n,
    "columns": lambda n: b"callid,method,time" + b",c" * n + b"\nc,INVITE,1" + b",1" * n,
    "quotes": repeated(b"callid,method,time\n", b'"', b""),
    "causes": repeated(CALL + b',"reason_hdr":"', b"Q.850;", b'"}'),
    "spaces before a cause": repeated(CALL + b',"reason_hdr":"Q.850', b" ", b'"}'),
    "a name with backslashes": repeated(CALL + b',"from_name":"\\"', b"\\\\", b'\\""}'),
    "members": numbered(CALL, b',"m#":#', b"}"),
    "digits": repeated(CALL + b',"final_time":"', b"1", b'"}'),
    "lines of JSON": repeated(b"", b"{}\n", b""),
}
NATIVE = {
    "events": repeated(b'{"session_id":"a","events":[', b'{"timestamp":1,"class":"info","line":""},', b"{}]}"),
    "events that are kept": lambda n: (
        b'{"session_id":"a","events":[' + b",".join([b'{"timestamp":1,"class":"info","line":""}'] * n) + b"]}"
    ),
    "depth": lambda n: b'{"session_id":"a","x":' + b'{"y":' * n + b"1" + b"}" * n + b"}",
    "breadth": repeated(b'{"session_id":"a","x":[', b"[[]],", b"1]}"),
    "digits": repeated(b'{"session_id":"a","amount":', b"1", b"}"),
    "digits in a text": repeated(b'{"session_id":"a","amount":"', b"1", b'"}'),
    "members of an array": repeated(b"[", b'{"session_id":"a"},', b"1]"),
    "a broken array": repeated(b"[", b'{"session_id":"a"},', b""),
    "brackets": repeated(b"", b"[", b""),
    "quotes": repeated(b"[", b'"', b""),
    "backslashes": repeated(b'["', b"\\", b""),
    "lines": repeated(b"{}\n", b'{"session_id":"a"}\n', b""),
    "half pairs": repeated(b'{"session_id":"', b"\\ud83d\\ude00", b'\\ud83d"}'),
}


def rows(*kinds, uniqueid=lambda n: f"a.{n}", channel=lambda n: f"SIP/a-{n}", **more):
    """A maker of the rows of one call: of each of its channels one of each of *kinds*."""
    return lambda count: b"\n".join(
        cel(kind, n / 1_000, channel(n), uniqueid(n), **more) for n in range(count) for kind in kinds
    )


def cdrs(channel, dstchannel):
    """A maker of the CDRs of one call."""
    return lambda count: b"\n".join(
        line(
            f",1,2,c,,{channel(n)},{dstchannel(n)},Dial,SIP/1,1795000000,,1795000009,9,0,ANSWERED,,a.{n},,,a.1,{n}".split(
                ","
            )
        )
        for n in range(count)
    )


DIAL = b'"APP_START","APP_START","","1795000000.000000","","","","","","","","SIP/a","Dial","'
PIECES = [
    b'"', b'"\n', b'""', b'"a\nb\n', b"\\", b'\\"', b'{"', b',"', b'{"a":"', b'"a","b"\n', b"{\n", b"[", b'"{""', b'}"',
    b"{}\n",
]  # fmt: skip
ASTERISK = {
    **{repr(piece): repeated(b"", piece, b"") for piece in PIECES},
    "channels": rows("CHAN_START", "ANSWER", "HANGUP", "CHAN_END"),
    "steps": rows("APP_START", "APP_END", uniqueid=lambda _: "a.1", channel=lambda _: "SIP/a"),
    "transfers": rows("BRIDGE_ENTER", "BLINDTRANSFER", uniqueid=lambda _: "a.1", channel=lambda _: "SIP/a"),
    "halves": rows("CHAN_START", "HANGUP", channel=lambda n: f"Local/a-{n // 2};{1 + n % 2}"),
    "halves of one": rows("CHAN_START", "HANGUP", channel=lambda n: f"Local/a;{1 + n % 2}"),
    "things like halves": cdrs(lambda n: "Local/a;2", lambda n: f"Local/a;{chr(0x4E00 + n % 20_000)}"),
    "CDRs of channels": cdrs(lambda n: f"SIP/a-{n}", lambda n: f"SIP/b-{n}"),
    "CDRs of a channel": cdrs(lambda _: "SIP/a", lambda _: "SIP/b"),
    "things to dial": repeated(DIAL, b"&SIP/1/1", b'","","","a.1","a.1","","","","",""'),
    "things to dial, again and again": rows("APP_START", AppName="Dial", AppData="&SIP/1" * 50),
    "pairs": numbered(
        cel("X", 0, "SIP/a", "a.1", eventenum="USER_DEFINED", EventExtra="@").partition(b"@")[0] + b'{""extra"":""',
        b"a#=1,",
        b'b=1""}",""',
    ),
    "a long header": lambda n: b"calldate,disposition" + b",c" * n + b"\n" + b"a\n" * n,
    "a long name in a header": lambda n: b"calldate,disposition," + b"c" * n + b"\n" + b"1,ANSWERED,\n" * n,
    "columns": lambda n: b"calldate,disposition,linkedid" + b",c" * n + b"\n1,ANSWERED,a" + b",1" * n,
    "members": numbered(b'{"start":"1","disposition":"BUSY","linkedid":"a"', b',"m#":"#"', b"}"),
    "members to be repaired": numbered(b'{"start":"1","disposition":"\\\\\\""', b',"m#":"#"', b"}"),
    "rows that lack a quote": repeated(b"", b'"a\n', b""),
    "rows after one that lacks a quote": repeated(b'"a\n', b'{"a":1}\n "a"\n', b""),
    "backslashes": repeated(b'{"', b"\\", b'":1}'),
    "depth": lambda n: b'{"start":"1","disposition":"BUSY","linkedid":"a","x":' + b"[" * n + b"]" * n + b"}",
}
SHAPES = [
    pytest.param(name, made, id=f"{name}: {shape}")
    for name, shapes in [
        ("asterisk", ASTERISK), ("freeswitch", FREESWITCH), ("kamailio", KAMAILIO), ("native", NATIVE)
    ]
    for shape, made in shapes.items()
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("kamailio", b"callid,method,time,%b", b"c,INVITE,1,1"),
        ("asterisk", b"calldate,disposition,linkedid,%b", b"1,ANSWERED,a,1"),
    ],
)
def test_a_line_of_column_names_does_not_multiply_a_body(name, header, row):
    def split(name_of_a_column):
        body = header % name_of_a_column + b"\n" + b"\n".join([row] * 1_000)
        return len(body), records(PLUGINS[name], body)

    size, rows = split(b"extra")
    assert len(rows) == 1_000
    size, rows = split(b"x" * 100_000)
    assert sum(map(len, rows)) <= size


@pytest.mark.parametrize(("name", "made"), SHAPES)
def test_time_grows_with_what_is_sent(name, made):
    assert is_proportional(PLUGINS[name], made)
