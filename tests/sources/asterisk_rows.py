"""Rows of Asterisk for tests: the captured ones by file, and CEL rows of calls made up for what was not captured."""

import csv
import io
import json
from collections import defaultdict
from pathlib import Path

from callhouse.model.call import merge
from callhouse.model.record import Part
from callhouse.sources import cuts
from callhouse.sources.asterisk import Options, plugin, readers

SAMPLES = Path(__file__).parent / "samples" / "asterisk"
CEL = "local-ivr/cel_full.csv"
CEL_20 = "local-ivr/cel_legacy.csv"
CDR = "local-ivr/Master.csv"
CDR_CUSTOM = "local-ivr/cdr_full.csv"
COLUMNS = [
    "EventType",
    "eventenum",
    "userdeftype",
    "EventTime",
    "Name",
    "Num",
    "ani",
    "rdnis",
    "dnid",
    "Exten",
    "Context",
    "ChanName",
    "AppName",
    "AppData",
    "AMAFlags",
    "AccountCode",
    "UniqueID",
    "LinkedID",
    "Peer",
    "PeerAccount",
    "UserField",
    "EventExtra",
    "TenantID",
]


def split(body):
    return [row for _, row in cuts(plugin.splitter(), body)]


def rows_of(*files):
    return [row for file in files for row in split((SAMPLES / file).read_bytes())]


def read(row, **options):
    return readers(Options(**options))["asterisk"](row, 32)


def joined(rows, **options):
    """The calls that *rows* make, by session id, however many calls they are of, with their logs."""
    groups = defaultdict(list)
    for row in rows:
        fragment = read(row, **options)
        groups[fragment.group].append(fragment)
    whole = {}
    for name, of in groups.items():
        parts = of[0].join(name, [fragment.content for fragment in of])
        assert len({part.session_id for part in parts}) == len(parts)
        for part in parts:
            whole[part.session_id] = _both(whole.get(part.session_id), part)
    return whole


def _both(known, part):
    """What two groups say of one call, put together as the store does."""
    if known is None:
        return part
    events = sorted((*known.events, *part.events), key=lambda event: event.position)
    return Part(session_id=part.session_id, call=merge(known.call, part.call), events=tuple(events))


def calls(rows, **options):
    return {session: part.call for session, part in joined(rows, **options).items()}


def cel(kind, time, channel, uniqueid, linkedid="a.1", extra=None, **more):
    """A CEL row as cel_custom writes it; *time* in seconds after 1,795,000,000."""
    given = {
        "EventType": kind,
        "eventenum": kind,
        "EventTime": f"{1_795_000_000 + time:.6f}",
        "ChanName": channel,
        "UniqueID": uniqueid,
        "LinkedID": linkedid,
        "AMAFlags": "DOCUMENTATION",
        "EventExtra": json.dumps(extra, separators=(",", ":")) if extra is not None else "",
        **more,
    }
    return line(given.get(column, "") for column in COLUMNS)


def ended(time, channel, uniqueid, linkedid="a.1", cause=16, source="", **more):
    """The two rows of a channel's end; *source* is who hung up."""
    extra = {"hangupcause": cause, "hangupsource": source, "dialstatus": more.pop("status", "")}
    return [
        cel("HANGUP", time, channel, uniqueid, linkedid, extra=extra, **more),
        cel("CHAN_END", time, channel, uniqueid, linkedid, **more),
    ]


def cdr(uniqueid, channel, dstchannel, src, dst, app, times, linkedid="a.1", sequence=0, **more):
    """A row of Master.csv with all 21 columns; *times* are start, answer and end as for cel, or None."""
    start, answer, end = times
    stamps = ["" if time is None else f"{1_795_000_000 + time}" for time in times]
    lengths = [str(end - start), "0" if answer is None else str(end - answer)]
    disposition = more.get("disposition", "NO ANSWER" if answer is None else "ANSWERED")
    context = more.get("context", "from-trunk")
    named = ["", src, dst, context, f'"" <{src}>', channel, dstchannel, app, more.get("data", "")]
    return line([*named, *stamps, *lengths, disposition, "3", uniqueid, "", "", linkedid, str(sequence)])


def line(values):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(values)
    return text.getvalue().encode()
