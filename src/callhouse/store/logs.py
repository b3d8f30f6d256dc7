"""Logs, compressed: zstd with a dictionary trained on what the applications of this store say again and again."""

import threading
from collections import Counter
from collections.abc import Sequence
from heapq import nlargest

import msgspec
import zstandard

from callhouse.errors import StoreDamaged
from callhouse.model import log as log_document
from callhouse.store import accounts
from callhouse.store.engine import Reader, Row, Transaction

LEVEL = 3
DICTIONARY_BYTES = 64 * 1024
SAMPLES = 2_000
"""Logs to train on; fewer are not worth a dictionary."""

SHARED_BY = 20
"""A text enters the dictionary only if it stands in this many calls: a dictionary outlives the retention of the logs
it was trained on, so it may hold what an application says to everybody and nothing that one caller said."""

_DICTIONARIES = "SELECT number, content FROM dictionaries ORDER BY number"
_ADD_DICTIONARY = """
INSERT INTO dictionaries (number, content) VALUES (:number, :content) ON CONFLICT (number) DO NOTHING
"""
_NEWEST = """
SELECT ended, account_id, call_id FROM logs WHERE account_id = :account_id ORDER BY ended DESC LIMIT :limit
"""
_LOG = "SELECT dictionary, document FROM logs WHERE account_id = :account_id AND call_id = :call_id"


class LogCodec:
    """Packs and unpacks the documents of callhouse.model.log; may be used by several threads at once."""

    def __init__(self) -> None:
        self._dictionaries: dict[int, zstandard.ZstdCompressionDict] = {}
        self._newest = 0
        # A zstd context serves one thread at a time.
        self._local = threading.local()

    @property
    def has_dictionary(self) -> bool:
        return self._newest > 0

    def load(self, reader: Reader) -> None:
        """Learn the dictionaries of the store."""
        for number, content in reader.rows(_DICTIONARIES, {}):
            if number not in self._dictionaries:
                self._dictionaries[number] = zstandard.ZstdCompressionDict(content)
                self._dictionaries[number].precompute_compress(level=LEVEL)
            self._newest = max(self._newest, number)

    def compress(self, document: bytes) -> tuple[int, bytes]:
        """The number of the dictionary used, and the compressed *document*."""
        newest = self._newest
        known: tuple[int, zstandard.ZstdCompressor] | None = getattr(self._local, "compressor", None)
        if known is None or known[0] != newest:
            dictionary = self._dictionaries.get(newest)
            # The checksum costs four bytes, and tells damage that would otherwise be read as another log.
            compressor = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary, write_checksum=True)
            known = self._local.compressor = (newest, compressor)
        return newest, known[1].compress(document)

    def decompress(self, reader: Reader, number: int, blob: bytes) -> bytes:
        """The document that compress was given; another process's dictionary is fetched through *reader*.

        Raises StoreDamaged.
        """
        known: dict[int, zstandard.ZstdDecompressor] | None = getattr(self._local, "decompressors", None)
        if known is None:
            known = self._local.decompressors = {}
        decompressor = known.get(number)
        if decompressor is None:
            if number and number not in self._dictionaries:
                self.load(reader)
            decompressor = zstandard.ZstdDecompressor(dict_data=self._dictionaries[number] if number else None)
            known[number] = decompressor
        try:
            return decompressor.decompress(blob)
        except zstandard.ZstdError as error:
            raise StoreDamaged(f"a log cannot be unpacked: {error}; `callhouse check` tells which") from error


def train(reader: Reader, codec: LogCodec) -> bytes | None:
    """The first dictionary of a store that has logs enough and none yet; None when it is not time. Takes a second."""
    codec.load(reader)
    if codec.has_dictionary:
        return None
    newest: list[Row] = []
    for account_id in accounts.ids(reader):
        found = reader.rows(_NEWEST, {"account_id": account_id, "limit": SAMPLES})
        newest = nlargest(SAMPLES, [*newest, *found])
    if len(newest) < SAMPLES:
        return None
    keys = ({"account_id": account_id, "call_id": call_id} for _, account_id, call_id in newest)
    blobs = (row for key in keys for row in reader.rows(_LOG, key))
    logs = [log_document.decode_entries(codec.decompress(reader, number, blob)) for number, blob in blobs]
    return zstandard.train_dictionary(DICTIONARY_BYTES, _without_rare_texts(logs), level=LEVEL).as_bytes()


def add(tx: Transaction, dictionary: bytes) -> None:
    """Keep *dictionary* for the logs to come, unless another process was quicker to bring one."""
    tx.each(_ADD_DICTIONARY, [{"number": 1, "content": dictionary}])


def _without_rare_texts(
    logs: Sequence[Sequence[log_document.LogEntry]],
) -> list[bytes | bytearray | memoryview]:
    """The logs as JSON, with every text blank that stands in fewer than SHARED_BY of them."""
    spread: Counter[str] = Counter()
    for entries in logs:
        spread.update({text for entry in entries for text in _texts(entry)})

    def shared(value: object) -> object:
        return value if not isinstance(value, str) or spread[value] >= SHARED_BY else ""

    samples: list[bytes | bytearray | memoryview] = []
    for entries in logs:
        kept = []
        for entry in entries:
            # Nested values and numbers of the sender are left out whole: they are as rare as they are short.
            data = {
                key: shared(value)
                for key, value in entry.event.data.items()
                if spread[key] >= SHARED_BY and isinstance(value, str | bool)
            }
            step = msgspec.structs.replace(entry.event, line=shared(entry.event.line), data=data)
            kept.append(msgspec.structs.replace(entry, event=step, timestamp=0))
        samples.append(msgspec.json.encode(kept))
    return samples


def _texts(entry: log_document.LogEntry) -> list[str]:
    values = (value for value in entry.event.data.values() if isinstance(value, str))
    return [entry.event.line, *entry.event.data, *values]
