"""What an operator sees from outside: metrics, and one structured log line a request."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Literal, cast

import msgspec
import structlog
from prometheus_client import Counter, Gauge, Histogram

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_FINE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter("callhouse_requests_total", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "callhouse_request_seconds", "Time from request to the last byte of its answer.", ["route"], buckets=_FINE
)
IN_FLIGHT = Gauge("callhouse_requests_in_flight", "Requests being answered.")
INGESTED = Counter(
    "callhouse_ingest_records_total",
    "Records received, by outcome: accepted, repeated (accepted, changed nothing) or rejected.",
    ["source", "outcome"],
)
EXPIRED_EVENTS = Counter("callhouse_ingest_expired_events_total", "Events left out for their age.")
BATCH_SIZE = Histogram(
    "callhouse_store_batch_records", "Records in a commit.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
STORE_SECONDS = Histogram("callhouse_store_seconds", "Time in the store, by operation.", ["operation"], buckets=_FINE)
QUEUE_DEPTH = Gauge("callhouse_ingest_queue_records", "Records on their way to the disk.")
STORED_ROWS = Gauge("callhouse_store_rows", "Rows stored, by table.", ["table"])
STORED_BYTES = Gauge("callhouse_store_bytes", "Bytes on disk.")
FREE_BYTES = Gauge("callhouse_store_free_bytes", "Bytes free on the disk of the store.")
HORIZON = Gauge(
    "callhouse_retention_horizon_timestamp_seconds", "Start of the oldest call and end of the oldest log.", ["kind"]
)
EXPIRED_ROWS = Counter("callhouse_retention_removed_rows_total", "Rows removed for their age.")
MIRROR_REQUESTS = Counter(
    "callhouse_mirror_requests_total",
    "Requests of this process to vendors, by status (none: no answer).",
    ["mirror", "status"],
)
MIRROR_CALLS = Gauge("callhouse_mirror_calls", "Calls that the vendor told of, repeats included.", ["mirror"])
MIRROR_RATE = Gauge("callhouse_mirror_calls_per_second", "Calls a second, while there were some to be had.", ["mirror"])
MIRROR_SUCCESS = Gauge(
    "callhouse_mirror_last_success_timestamp_seconds", "When the vendor last told what was asked for.", ["mirror"]
)
MIRROR_LAG = Gauge("callhouse_mirror_lag_seconds", "Age of the newest instant up to which was asked.", ["mirror"])
MIRROR_BACKLOG = Gauge("callhouse_mirror_backlog_seconds", "Time of which nothing was asked for yet.", ["mirror"])
MIRROR_DAYS_LEFT = Gauge(
    "callhouse_mirror_days_until_loss", "Days until the vendor deletes something that is not had yet.", ["mirror"]
)
MIRROR_LOST = Gauge("callhouse_mirror_lost_calls", "Calls that the vendor deleted unseen, or their logs.", ["mirror"])
MIRROR_UP = Gauge("callhouse_mirror_up", "1 while the mirror is active and nothing stands in its way.", ["mirror"])
AUTH_FAILURES = Counter("callhouse_authentication_failures_total", "Requests with missing or wrong credentials.")

STALLED_SECONDS = 300
"""How long a client may take for the next part of a long answer, some hundred kilobytes."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("callhouse")


class _Unfailing:
    """*stream*, whose failures cost a line of the log and never a request: it may lie on the disk that is full."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, line: Any) -> None:
        with suppress(OSError):
            self._stream.write(line)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure_logging(log_format: LogFormat, level: LogLevel) -> None:
    """Write log lines to standard error: JSON for machines, colours for a terminal; ``auto`` looks which it is."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    rank = {"debug": 10, "info": 20, "warning": 30, "error": 40}[level]
    shared: list[Any] = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level]
    if console:
        processors = [
            *shared,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            # The usual one would show local variables, and with them secrets.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
        ]
        factory: Any = structlog.PrintLoggerFactory(cast("Any", _Unfailing(sys.stderr)))
    else:
        processors = [
            *shared,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ]
        factory = structlog.BytesLoggerFactory(cast("Any", _Unfailing(sys.stderr.buffer)))
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(rank),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )


def _json(fields: dict[str, Any], **_: Any) -> bytes:
    return msgspec.json.encode(fields, enc_hook=str)


class Access:
    """ASGI middleware around the whole application: counts, times and logs each request, and refuses too many at once.

    ``scope["callhouse.account"]`` is logged when the application sets it. *overloaded* answers a request that comes
    while *max_in_flight* others are being answered. Who takes nothing of a long answer for STALLED_SECONDS is cut off,
    lest the others find no room.
    """

    def __init__(self, app: ASGIApp, max_in_flight: int, overloaded: ASGIApp) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._overloaded = overloaded
        self._in_flight = 0
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, outcome = 0, "client_gone"

        async def watched_send(message: Message) -> None:
            nonlocal status, outcome
            if message["type"] == "http.response.start":
                status = message["status"]
            async with asyncio.timeout(STALLED_SECONDS if message.get("more_body") else None):
                await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                outcome = "done"

        self._in_flight += 1
        IN_FLIGHT.set(self._in_flight)
        try:
            app = self._app if self._in_flight <= self._max_in_flight else self._overloaded
            await app(scope, receive, watched_send)
        finally:
            self._in_flight -= 1
            IN_FLIGHT.set(self._in_flight)
            self._record(scope, status, time.perf_counter() - began, outcome)

    def _record(self, scope: Scope, status: int, seconds: float, outcome: str) -> None:
        # Unknown paths share one label: a scanner must not grow the metrics.
        route = scope.get("path_template") or "none"
        key = (scope["method"] if route != "none" else "any", route, status)
        if key not in self._children:
            self._children[key] = (REQUESTS.labels(*key), REQUEST_SECONDS.labels(route))
        requests, histogram = self._children[key]
        requests.inc()
        histogram.observe(seconds)
        client = scope.get("client")
        log.info(
            "http.request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 2),
            client=client[0] if client else None,
            account=scope.get("callhouse.account"),
            outcome=outcome,
        )
