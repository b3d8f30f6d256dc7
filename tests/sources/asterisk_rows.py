"""Rows of Asterisk for tests: the captured ones by file, and CEL rows of calls made up for what was not captured."""

import csv
import io
import json
from collections import defaultdict
from pathlib import Path

from callhouse.sources import cuts
from callhouse.sources.asterisk import Options, readers
from callhouse.sources.asterisk.split import Splitter

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
    return [row for _, row in cuts(Splitter(), body)]


def rows_of(*files):
    return [row for file in files for row in split((SAMPLES / file).read_bytes())]


def read(row, **options):
    return readers(Options(**options))["asterisk"](row, 32)


def joined(rows, **options):
    """The parts that *rows* make, by session id, however many calls they are of."""
    groups = defaultdict(list)
    for row in rows:
        fragment = read(row, **options)
        groups[fragment.group].append(fragment)
    parts = [part for name, of in groups.items() for part in of[0].join(name, [f.content for f in of])]
    assert len({part.session_id for part in parts}) == len(parts)
    return {part.session_id: part for part in parts}


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


def line(values):
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(values)
    return text.getvalue().encode()
