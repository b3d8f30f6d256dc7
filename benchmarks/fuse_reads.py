"""What reading through the Fuse API costs, beside the same SQL alone and beside a static answer of the same bytes.

    .venv/bin/python benchmarks/fuse_reads.py [--calls 1000000] [--data DIR] [--json FILE]

It measures and does not judge: the exit status is 0 whether the aims are met or not. benchmarks/README.md says more.
"""

from collections import Counter

from reads import Benchmark, Case, main
from stand import DAYS, Stand

from callhouse.model import log as log_document
from callhouse.model.instant import DAY, SECOND
from callhouse.model.query import CallQuery
from callhouse.store.calls import Calls, _large_page
from callhouse.store.engine import Reader
from callhouse.store.logs import LogCodec
from callhouse.wire.fuse.schema import FIELDS

SMALL_ROUNDS, SEARCH_ROUNDS, LARGE_ROUNDS, HUGE_ROUNDS = 1_000, 500, 40, 10
MONTH = 30
XML = "application/xml"
SAMPLED_LOGS = 200


class Direct:
    """The store's own statements on a connection of this process: no thread, no event loop, no HTTP.

    Satisfies as much of Engine as reading needs.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._codec = LogCodec()
        self._codec.load(reader)
        self._calls = Calls(self, self._codec)

    async def quick(self, work):
        self._reader.rows("BEGIN", {})
        result = work(self._reader)
        self._reader.rows("COMMIT", {})
        return result

    read = quick

    def page(self, query: CallQuery) -> list[tuple]:
        """The rows by one statement, however many; the total is counted as well."""
        return _finished(self.quick(lambda reader: _large_page(reader, query, FIELDS))).rows

    def log(self, account_id: int, session_id: str) -> bytes:
        return _finished(self._calls.log(account_id, session_id, since=0, details_since=0)).document

    def logs(self, query: CallQuery) -> list[bytes | None]:
        call_ids = [row[0] for row in self.page(query)]
        documents: list[bytes | None] = []
        while len(documents) < len(call_ids):
            documents += _finished(self._calls.logs(query.account_ids[0], call_ids[len(documents) :], 0))
        return documents

    def search(self, query: CallQuery, word: str) -> list:
        return _finished(self._calls.search(query, [word], 0))

    def words(self, query: CallQuery) -> Counter[str]:
        """In how many of the logs of *query* each word stands."""
        logs = [log_document.decode_entries(document) for document in self.logs(query) if document]
        return Counter(
            word for entries in logs for word in {w for e in entries for w in e.event.line.split() if w.isalpha()}
        )

    def newest(self, account_id: int) -> int:
        """The first whole second, in ms, after all calls began."""
        sql = "SELECT max(started) FROM calls WHERE account_id = :id AND started IS NOT NULL AND ended IS NOT NULL"
        return (self._reader.rows(sql, {"id": account_id})[0][0] // SECOND + 1) * SECOND


def _finished(coroutine):
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("the store waited for something; measure it through its own engine")


def cases(on: Stand) -> list[Case]:
    direct, account_id = Direct(on.read_only()), on.login.id
    until = direct.newest(account_id)
    deep = min(2_000_000, on.calls // 2)

    def query(days: int, limit: int, offset: int = 0) -> CallQuery:
        return CallQuery(account_ids=(account_id,), since=until - days * DAY, until=until, limit=limit, offset=offset)

    def path(route: str, asked: CallQuery) -> str:
        window = f"{asked.since // SECOND}/{asked.until // SECOND}"
        return f"/api/{route}/{window}?limit={asked.limit}" + (f"&offset={asked.offset}" if asked.offset else "")

    def listed(name: str, asked: CallQuery, rounds: int, accept: str = "*/*") -> Case:
        return Case(name, path("calls", asked), lambda: direct.page(asked), rounds, accept)

    def with_logs(name: str, asked: CallQuery, rounds: int, accept: str = "*/*") -> Case:
        return Case(name, path("all_logs", asked), lambda: direct.logs(asked), rounds, accept)

    def searched(name: str, word: str) -> Case:
        return Case(name, None, lambda: direct.search(query(MONTH, 20), word), SEARCH_ROUNDS)

    have_log = (row for row in direct.page(query(DAYS, 1_000)) if row[FIELDS.index("event_count")])
    session = next(have_log)[FIELDS.index("session_id")]
    words = [word for word, _ in direct.words(query(DAYS, SAMPLED_LOGS)).most_common()]
    all_calls = query(DAYS, 10_000)
    return [
        listed("list of 20, day", query(1, 20), SMALL_ROUNDS),
        listed("list of 20, year", query(DAYS, 20), SMALL_ROUNDS),
        listed("20 at offset", query(DAYS, 20, deep), SMALL_ROUNDS),
        Case("one log", f"/api/call/{session}", lambda: direct.log(account_id, session), SMALL_ROUNDS),
        listed("list of 10,000", all_calls, LARGE_ROUNDS),
        listed("list of 10,000, XML", all_calls, LARGE_ROUNDS, XML),
        with_logs("all_logs of 1,000", query(DAYS, 1_000), LARGE_ROUNDS),
        with_logs("all_logs of 10,000", all_calls, HUGE_ROUNDS),
        with_logs("all_logs of 10,000, XML", all_calls, HUGE_ROUNDS, XML),
        # Asked beside the searches, lest what lies in the processor's caches differ.
        Case("no word, month", None, lambda: direct.page(query(MONTH, 20)), SEARCH_ROUNDS),
        searched("a common word, month", words[0]),
        searched("a less common word, month", words[len(words) // 2]),
        searched("a rare word, month", words[-1]),
    ]


def aims(p50: dict[str, dict[str, float]], rate: dict[str, float]) -> list[tuple[str, float, float]]:
    """Each aim in words, what was measured, and the most that meets it."""
    day, year, deep = (p50[name]["server"] for name in ("list of 20, day", "list of 20, year", "20 at offset"))
    many, many_xml = p50["list of 10,000"], p50["list of 10,000, XML"]
    logs, logs_xml = p50["all_logs of 10,000"], p50["all_logs of 10,000, XML"]
    log = p50["one log"]
    plain, common, less_common, rare = (
        p50[f"{which} word, month"]["sql"] for which in ("no", "a common", "a less common", "a rare")
    )
    return [
        ("list of 20: p50 within 2 times the static answer's", day / p50["list of 20, day"]["static"], 2.0),
        ("list of 20: static requests/s within 2 times the server's", rate["static"] / rate["server"], 2.0),
        ("list of 20: the year as fast as the day (within a tenth)", year / day, 1.1),
        ("deep page within 1.5 times the first", deep / year, 1.5),
        ("one log: p50 within 2 times the static answer's", log["server"] / log["static"], 2.0),
        ("list of 10,000: p50 within 2 times the SQL alone", many["server"] / many["sql"], 2.0),
        ("list of 10,000, XML: p50 within 4 times the SQL alone", many_xml["server"] / many_xml["sql"], 4.0),
        ("all_logs of 10,000: p50 within 2 times reading and unpacking alone", logs["server"] / logs["sql"], 2.0),
        ("all_logs of 10,000: the first byte within a tenth of the whole", logs["first byte"] / logs["server"], 0.1),
        ("the same in XML", logs_xml["first byte"] / logs_xml["server"], 0.1),
        ("a common word: the store's p50 within 5 times the unfiltered list's", common / plain, 5.0),
        ("a less common word: the same", less_common / plain, 5.0),
        ("a rare word: the same", rare / plain, 5.0),
    ]


def more_aims(found: dict) -> list[tuple[str, float, float]]:
    names = ("all_logs of 1,000", "all_logs of 10,000", "all_logs of 10,000, XML")
    return [(f"{name}: MB by which the process grew", found["grown_by"][name] / 1e6, 64.0) for name in names]


if __name__ == "__main__":
    main(Benchmark("fuse", 1_000_000, cases, aims, more_aims=more_aims))
