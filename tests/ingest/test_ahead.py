"""What another process reads is what would have been read here."""

import asyncio
from contextlib import closing
from pathlib import Path

import pytest

from callhouse.ingest.ahead import WORTHWHILE, ReadAhead
from callhouse.ingest.importer import splitter_of
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.readers import readers
from callhouse.model.record import Fragment
from callhouse.sources import cuts

SAMPLES = Path(__file__).parents[1] / "sources/samples"
KAMAILIO_ROWS = b"callid,method,time,sip_code\n" + b"".join(
    b"%d@x,INVITE,2026-11-20 10:00:00,200\n%d@x,BYE,2026-11-20 10:01:00,200\n" % (n, n) for n in range(1_000)
)
FREESWITCH_ROWS = b"".join(
    b'"Ann","1","800","public","2026-11-20 10:00:00","","2026-11-20 10:01:00","9","0","NO_ANSWER","%d","","","A","B"\n'
    % n
    for n in range(1_000)
)
FILES = {
    "asterisk": b"".join(
        (SAMPLES / "asterisk/local-ivr" / name).read_bytes() for name in ("cel_full.csv", "Master.csv")
    ),
    "kamailio": KAMAILIO_ROWS,
    "freeswitch": FREESWITCH_ROWS,
}


def told(found):
    """*found* with what comes of the rows of each group in the place of the function that joins them."""
    rows = {}
    for read in found:
        if isinstance(read, Fragment):
            rows.setdefault(read.group, {})[read.content] = read.join
    joined = {group: next(iter(joins.values()))(group, list(joins)) for group, joins in rows.items()}
    alone = [read.join(read.group, [read.content]) for read in found if isinstance(read, Fragment)]
    return [(r.group, r.content) if isinstance(r, Fragment) else r for r in found], joined, alone


@pytest.mark.parametrize("route", FILES)
def test_another_process_reads_and_joins_as_this_one_does(route):
    records = [raw for _, raw in cuts(splitter_of(readers({})[route]), FILES[route])]
    records = [b"no record", *records, *records, b'{"neither": "is this"}']
    records *= 1 + WORTHWHILE // sum(map(len, records))

    async def work():
        with closing(ReadAhead(route, {}, IngestLimits())) as ahead:
            here = await ahead.read(records)
            await asyncio.wrap_future(ahead._has_started)
            return here, await ahead.read(records)

    here, there = asyncio.run(work())
    assert len(here) == len(there) == len(records)
    assert isinstance(there[0], str)
    assert told(there) == told(here)


def test_a_batch_of_refused_records_alone_comes_back_whole():
    records = [b"x" * 1_000] * 200

    async def work():
        with closing(ReadAhead("asterisk", {}, IngestLimits())) as ahead:
            here = await ahead.read(records)
            await asyncio.wrap_future(ahead._has_started)
            return here, await ahead.read(records)

    here, there = asyncio.run(work())
    assert there == here
    assert all(isinstance(reason, str) for reason in there)
