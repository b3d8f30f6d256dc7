"""The composition root: settings in, an ASGI application out."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from math import nan
from time import monotonic
from typing import Any

import msgspec
import prometheus_client
from litestar import Litestar, Request, Response, Router, route
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.openapi import ResponseSpec

from callhouse import __version__, documentation, sources, wire
from callhouse.auth import Authenticator
from callhouse.clock import now
from callhouse.console import access, errors, site
from callhouse.discovery import discover
from callhouse.documentation import OPERATION
from callhouse.errors import Busy, RequestError, StoreDamaged, StoreUnavailable
from callhouse.ingest import routes as ingest_routes
from callhouse.ingest.pump import Pump
from callhouse.ingest.readers import readers
from callhouse.mirror.service import Service
from callhouse.mirror.status import measure, status_of
from callhouse.mirror.upstreams import upstreams
from callhouse.model.account import Account
from callhouse.observability import (
    EXPIRED_ROWS,
    FREE_BYTES,
    HORIZON,
    QUEUE_DEPTH,
    STORED_BYTES,
    STORED_ROWS,
    Access,
    ASGIApp,
    log,
)
from callhouse.reference import PlainOperation, answer, operation
from callhouse.render import READ
from callhouse.settings import Settings
from callhouse.sources import Silence, Source
from callhouse.store import Store, open_store
from callhouse.wire import Wire

UPKEEP_SECONDS = 30.0
"""Pause between two rounds of removing what has expired."""

PROBES = ("/healthz", "/readyz", "/metrics")
"""Paths that are answered under any load, lest a busy server be taken for a dead one."""

PROBE_SECONDS = 2.0
"""How long the store may take to prove that it is writable."""


NO_VARIABLES: Mapping[str, str] = {}


async def _nothing() -> None:
    """What create_app does when it has started, unless it is told otherwise."""


def create_app(
    settings: Settings,
    announce: Callable[[], Coroutine[Any, Any, None]] = _nothing,
    *,
    environment: Mapping[str, str] = NO_VARIABLES,
    clock: Callable[[], int] = now,
    is_stopping: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """The whole server; it opens the store when it starts and closes it when it stops.

    *announce* runs beside the application from when that is ready to answer. *environment* may hold secrets of mirrors.
    Answers without an end look now and then whether it *is_stopping*.
    """
    wires = discover(wire, Wire)
    followed = upstreams()
    admin_token = settings.console.admin_token()
    renderers = [*((f"{api.path}/", api.render_error) for api in wires), (access.PATH, errors.render_error)]
    silences = [
        silence
        for source in discover(sources, Source)
        if source.silence is not None and (silence := source.silence(settings.sources.get(source.name, source.options)))
    ]

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        store = await _opened(settings, clock)
        app.state.store = store
        app.state.authenticator = Authenticator(store)
        app.state.pump = Pump(store, settings.ingest)
        site.start(
            app,
            store,
            app.state.authenticator,
            admin_token,
            wires,
            readers(settings.sources),
            followed,
            lambda mirror: status_of(mirror, followed[mirror.api], clock()),
            is_stopping,
        )
        # What may be set of an API is the section of its name.
        app.state.update({api.name: getattr(settings, api.name, None) for api in wires})
        service = Service(store, environment, settings.ingest, settings.mirror.every_ms())
        mirroring = service.run() if settings.mirror.background else _nothing()
        tasks = [asyncio.create_task(work) for work in (keep_up(store, silences), mirroring, announce())]
        # What there is now stays; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        log.info("server.started", version=__version__, store=settings.store.shown())
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()
            log.info("server.stopped")

    def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        if not isinstance(error, RequestError | Busy | HTTPException):
            account = request.scope.get("callhouse.account")
            log.error("request.failed", path=request.scope["path"], account=account, exc_info=error)
        if isinstance(error, MethodNotAllowedException) and error.headers:
            allowed = [method for method in error.headers["allow"].split(", ") if method != "OPTIONS"]
            error.headers["allow"] = ", ".join(sorted(allowed))
        path = request.scope["path"]
        render = next((render for start, render in renderers if path.startswith(start)), ingest_routes.render_error)
        return render(request, error)

    async def answered(scope: Any, receive: Any, send: Any) -> None:
        # The framework would answer OPTIONS by itself; here it is one of the methods that get a 405.
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            scope = {**scope, "method": "TRACE"}
        await app(scope, receive, send)

    async def overloaded(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in PROBES:
            await app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope)
        answer = render_error(request, Busy()).to_asgi_response(None, request)
        await answer(scope, receive, send)

    app = Litestar(
        route_handlers=[
            *(Router(api.path, route_handlers=api.handlers) for api in wires),
            Router(access.PATH, route_handlers=site.HANDLERS),
            Router(ingest_routes.PATH, route_handlers=ingest_routes.routes(settings.sources)),
            healthz,
            readyz,
            metrics,
            *documentation.HANDLERS,
        ],
        lifespan=[lifespan],
        exception_handlers={Exception: render_error},
        openapi_config=documentation.openapi_config(wires),
        logging_config=None,
        # Our own limit names what to do and holds after decompression too.
        request_max_body_size=None,
    )
    app.state.documentation = documentation.Documentation(app, wires)
    return Access(answered, settings.server.max_in_flight, overloaded)


async def _opened(settings: Settings, clock: Callable[[], int]) -> Store:
    try:
        return await open_store(
            settings.store.location(),
            retention=settings.retention.parsed(),
            clock=clock,
            max_events=settings.ingest.max_events,
            max_log=settings.ingest.max_log,
            read_limit=settings.store.read_seconds(),
            distributed=settings.store.distributed,
            replicas=settings.store.replica_urls(),
            replica_lag=settings.store.replica_seconds(),
        )
    except StoreUnavailable as error:
        # Who starts this process sees only that it ended.
        log.error("server.not_started", error=str(error))
        raise


async def keep_up(store: Store, silences: Sequence[Silence]) -> None:
    """Now and then close the calls that were cut off, remove what has expired, find out peaks and train the dictionary,
    a little at a time; never returns.
    """
    while True:
        try:
            accounts = await store.accounts.all()
            for account in accounts:
                await _close_lost(store, account, silences)
            for account in accounts:
                await _expire(store.expire, account)
                await _expire(store.expire_quarantine, account)
                while await store.settle(account):
                    pass
            if await store.train():
                log.info("store.dictionary_trained")
        except Exception:  # noqa: BLE001 — whatever it was, the next round may succeed
            log.exception("store.upkeep_failed")
        await asyncio.sleep(UPKEEP_SECONDS)


async def _close_lost(store: Store, account: Account, silences: Sequence[Silence]) -> None:
    """Close the calls of *account* that were cut off."""
    for silence in silences:
        since = store.clock() - silence.limit
        while closed := await store.close_lost(account, silence.route, silence.row, since):
            log.info("calls.closed_after_silence", account=account.id, source=silence.route, calls=closed)


async def _expire(chunk: Callable[[Account], Awaitable[int]], account: Account) -> None:
    """Remove what *account* keeps no longer, a *chunk* at a time and resting as long after each as it took, lest those
    who read meanwhile wait twice as long; where its rows are damaged, that keeps none of the others waiting.
    """
    began = monotonic()
    try:
        while removed := await chunk(account):
            EXPIRED_ROWS.inc(removed)
            await asyncio.sleep(monotonic() - began)
            began = monotonic()
    except StoreDamaged as error:
        log.error("store.upkeep_failed", account=account.id, error=str(error))


class Health(msgspec.Struct):
    """What the probes answer."""

    status: str


def _operational(operation_id: str, summary: str, description: str, *responses: ResponseSpec) -> dict[str, Any]:
    statuses = dict(zip((200, 503), responses, strict=False))
    return operation(operation_id, OPERATION, summary, description, statuses, PlainOperation)


ALIVE = _operational("healthz", "Alive", "The process answers.", answer(Health, "It does.", {"status": "ok"}))
READY = _operational(
    "readyz",
    "Ready",
    "The store answers and can be written, and its disk is not nearly full (64 MiB free).",
    answer(Health, "It can.", {"status": "ok"}),
    answer(Health, "It cannot, or not in time, or not for long.", {"status": "the store cannot be written"}),
)
METRICS = _operational(
    "metrics",
    "Metrics",
    "Counters, gauges and histograms for Prometheus.",
    answer(str, "The text format.", "callhouse_requests_in_flight 1.0\n", "text/plain"),
)


@route("/healthz", http_method=READ, **ALIVE)
async def healthz() -> Response[Any]:
    """The process is alive and answers."""
    return Response({"status": "ok"})


@route("/readyz", http_method=READ, **READY)
async def readyz(request: Request[Any, Any, Any]) -> Response[Any]:
    """The store answers and can be written, now and for a while."""
    store: Store = request.app.state.store
    try:
        await asyncio.wait_for(store.probe(), PROBE_SECONDS)
        if await store.is_nearly_full():
            log.error("store.nearly_full")
            return Response({"status": "the disk is nearly full"}, status_code=503)
    except (StoreUnavailable, TimeoutError) as error:
        log.error("store.not_ready", error=str(error.__cause__ or error))
        return Response({"status": "the store cannot be written"}, status_code=503)
    return Response({"status": "ok"})


@route("/metrics", http_method=READ, **METRICS)
async def metrics(request: Request[Any, Any, Any]) -> Response[Any]:
    """Prometheus' text format."""
    store: Store = request.app.state.store
    try:
        statistics = await store.statistics()
        await measure(store, upstreams())
    except StoreUnavailable:
        log.exception("store.statistics_failed")
    else:
        for table, rows in statistics.rows.items():
            STORED_ROWS.labels(table).set(rows)
        STORED_BYTES.set(statistics.bytes)
        # Zero would tell of a full disk.
        FREE_BYTES.set(nan if statistics.free is None else statistics.free)
        for kind, oldest in (("calls", statistics.oldest_call), ("logs", statistics.oldest_log)):
            HORIZON.labels(kind).set(0 if oldest is None else oldest / 1000)
    QUEUE_DEPTH.set(store.waiting)
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)
