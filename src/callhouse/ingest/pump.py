"""Records in, outcomes out: the way from a source's reader to the store, over HTTP or from the quarantine."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from callhouse.errors import Unreadable
from callhouse.ingest import body as bodies
from callhouse.ingest.limits import IngestLimits
from callhouse.ingest.readers import Reader, read_record
from callhouse.model.account import Account
from callhouse.model.record import Outcome, Record
from callhouse.observability import EXPIRED_EVENTS, INGESTED, QUEUE_DEPTH
from callhouse.sources import ReadRecord, is_json
from callhouse.store import Store
from callhouse.store.origins import MIRROR
from callhouse.store.quarantine import Quarantined
from callhouse.wire import Upstream

LARGE = 64 * 1024
"""A body above this many bytes is taken apart in another thread."""


class Rejection(msgspec.Struct):
    """A record that was not kept: its place in the body, from 0, and the reason."""

    index: int
    error: str


class Reply(msgspec.Struct, omit_defaults=True):
    """What became of a body. *expired_events* counts events that were left out because they are older than their
    retention while their call was kept; it is absent when there are none.
    """

    accepted: int
    rejected: list[Rejection]
    expired_events: int = 0


class Sent(msgspec.Struct):
    """A body as it was sent, with the headers that say how to read it."""

    body: bytes
    content_type: str
    content_encoding: str


class Pump:
    """Reads what is sent with the reader of its route and hands it to the store."""

    def __init__(self, store: Store, limits: IngestLimits) -> None:
        self._store = store
        self._limits = limits

    @property
    def limits(self) -> IngestLimits:
        return self._limits

    async def take(self, sent: Sent, account: Account, route: str, reader: Reader) -> Reply:
        """Keep what can be kept of *sent*; the reply tells once all of it is on disk.

        Raises Unreadable, TooLarge, Busy or StoreUnavailable; then nothing of it need have been kept, and sending it
        again is safe.
        """

        def work() -> list[Record]:
            splitter = None if reader.splitter is None else reader.splitter()
            decoded = bodies.decode(sent.body, sent.content_encoding, self._limits.max_body)
            found = [
                Record(account=account, source=route, raw=raw, read=read_record(raw, reader.read, self._limits))
                for raw in bodies.split(decoded, sent.content_type, self._limits.max_records, splitter)
            ]
            reasons = [record.read for record in found if isinstance(record.read, str)]
            all_refused = found and len(reasons) == len(found) and splitter is None
            if all_refused and not any(is_json(record.raw) for record in found):
                raise Unreadable(f"Nothing in the body could be read. Its first record {reasons[0]}.")
            return found

        records = await asyncio.to_thread(work) if len(sent.body) > LARGE or sent.content_encoding else work()
        QUEUE_DEPTH.set(self._store.waiting + len(records))
        outcomes = await self._store.ingest(records)
        QUEUE_DEPTH.set(self._store.waiting)
        return _reply(route, outcomes)

    async def replay(self, entry: Quarantined, raw: bytes, account: Account, read: ReadRecord) -> Outcome:
        """Try the *raw* record of a quarantine's entry again under today's limits and retention."""
        found = read_record(raw, read, self._limits)
        record = Record(account=account, source=entry.source, raw=raw, read=found, origin=entry.origin)
        return await self._store.replay(record, entry.id)


def reader_of(
    source: str, known: Mapping[str, Reader], upstreams: Mapping[str, Upstream], account: Account
) -> ReadRecord | None:
    """What reads records of *source* for *account*: that of a route, or of a mirror of one of *upstreams*."""
    if source.startswith(MIRROR):
        upstream = upstreams.get(source.removeprefix(MIRROR))
        return None if upstream is None else lambda record, max_depth: upstream.read(record, account, max_depth)
    return known[source].read if source in known else None


def _reply(route: str, outcomes: Sequence[Outcome]) -> Reply:
    rejected = [
        Rejection(index, outcome.refusal) for index, outcome in enumerate(outcomes) if outcome.refusal is not None
    ]
    repeated = sum(outcome.repeated for outcome in outcomes if outcome.refusal is None)
    expired = sum(outcome.expired_events for outcome in outcomes)
    INGESTED.labels(route, "rejected").inc(len(rejected))
    INGESTED.labels(route, "repeated").inc(repeated)
    INGESTED.labels(route, "accepted").inc(len(outcomes) - len(rejected) - repeated)
    EXPIRED_EVENTS.inc(expired)
    return Reply(accepted=len(outcomes) - len(rejected), rejected=rejected, expired_events=expired)
