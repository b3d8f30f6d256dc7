"""The composition root: settings in, an ASGI application out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import prometheus_client
from litestar import Litestar, Request, Response, Router, get
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.static_files import create_static_files_router

from callhouse import __version__, wire
from callhouse.auth import Authenticator
from callhouse.discovery import discover
from callhouse.errors import Busy, CallhouseError, RequestError, StoreUnavailable
from callhouse.ingest import routes as ingest_routes
from callhouse.ingest.pump import Pump
from callhouse.observability import (
    EXPIRED_ROWS,
    HORIZON,
    QUEUE_DEPTH,
    STORED_BYTES,
    STORED_ROWS,
    Access,
    ASGIApp,
    log,
)
from callhouse.settings import Settings
from callhouse.store import Store, open_store
from callhouse.wire import Wire

UPKEEP_SECONDS = 30.0
"""Pause between two rounds of removing what has expired."""

PROBE_SECONDS = 2.0
"""How long the store may take to prove that it is writable."""

DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"
)


def now() -> int:
    """The clock of a running server: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def create_app(settings: Settings, on_ready: Callable[[], None] = lambda: None) -> ASGIApp:
    """The whole server; it opens the store when it starts and closes it when it stops."""
    wires = discover(wire, Wire)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        store = await open_store(
            Path(settings.store.data),
            retention=settings.retention.parsed(),
            clock=now,
            max_events=settings.ingest.max_events,
        )
        app.state.store = store
        app.state.authenticator = Authenticator(store)
        app.state.pump = Pump(store, settings.ingest)
        upkeep = asyncio.create_task(keep_up(store))
        log.info("server.started", version=__version__, data=settings.store.data)
        on_ready()
        try:
            yield
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await store.close()
            log.info("server.stopped")

    def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        if not isinstance(error, RequestError | Busy | HTTPException):
            log.error("request.failed", path=request.scope["path"], exc_info=error)
        for api in wires:
            if request.scope["path"].startswith(api.path + "/"):
                return api.render_error(request, error)
        return ingest_routes.render_error(request, error)

    async def overloaded(scope: Any, receive: Any, send: Any) -> None:
        request: Request[Any, Any, Any] = Request(scope)
        answer = render_error(request, Busy()).to_asgi_response(None, request)
        await answer(scope, receive, send)

    app = Litestar(
        route_handlers=[
            *(Router(api.path, route_handlers=api.handlers) for api in wires),
            Router(ingest_routes.PATH, route_handlers=ingest_routes.routes()),
            healthz,
            readyz,
            metrics,
            create_static_files_router("/docs/static", [_swagger_ui()], include_in_schema=False),
        ],
        lifespan=[lifespan],
        dependencies={
            name: Provide(_from_state(name), sync_to_thread=False) for name in ("store", "authenticator", "pump")
        },
        exception_handlers={Exception: render_error},
        openapi_config=_openapi(wires),
        # Our own limit names what to do and holds after decompression too.
        request_max_body_size=None,
    )
    return Access(app, settings.server.max_in_flight, overloaded)  # type: ignore[arg-type]


def _from_state(name: str) -> Callable[..., Any]:
    def provide(request: Request[Any, Any, Any]) -> Any:
        return getattr(request.app.state, name)

    return provide


async def keep_up(store: Store) -> None:
    """Now and then remove what has expired and train the dictionary, a little at a time; never returns."""
    while True:
        try:
            for account in await store.accounts.all():
                while removed := await store.expire(account):
                    EXPIRED_ROWS.inc(removed)
            while removed := await store.expire_quarantine():
                EXPIRED_ROWS.inc(removed)
            if await store.train():
                log.info("store.dictionary_trained")
        except CallhouseError:
            log.exception("store.upkeep_failed")
        await asyncio.sleep(UPKEEP_SECONDS)


@get("/healthz", include_in_schema=False)
async def healthz() -> Response[Any]:
    """The process is alive and answers."""
    return Response({"status": "ok"})


@get("/readyz", include_in_schema=False)
async def readyz(store: NamedDependency[Store]) -> Response[Any]:
    """The store answers and can be written."""
    try:
        await asyncio.wait_for(store.probe(), PROBE_SECONDS)
    except (StoreUnavailable, TimeoutError) as error:
        log.error("store.not_ready", error=str(error.__cause__ or error))
        return Response({"status": "the store cannot be written"}, status_code=503)
    return Response({"status": "ok"})


@get("/metrics", include_in_schema=False)
async def metrics(store: NamedDependency[Store]) -> Response[Any]:
    """Prometheus' text format."""
    try:
        statistics = await store.statistics()
    except StoreUnavailable:
        log.exception("store.statistics_failed")
    else:
        for table, rows in statistics.rows.items():
            STORED_ROWS.labels(table).set(rows)
        STORED_BYTES.set(statistics.bytes)
        for kind, oldest in (("calls", statistics.oldest_call), ("logs", statistics.oldest_log)):
            HORIZON.labels(kind).set(0 if oldest is None else oldest / 1000)
    QUEUE_DEPTH.set(store.waiting)
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _swagger_ui() -> Path:
    """The folder of Swagger UI's scripts and styles, from the installed package: no request leaves the machine."""
    return Path(str(files("swagger_ui") / "static"))


def _openapi(wires: list[Wire]) -> OpenAPIConfig:
    basic = SecurityScheme(type="http", scheme="basic", description="A name and secret of the account.")
    return OpenAPIConfig(
        title="Callhouse",
        version=__version__,
        description="Send calls and their logs, and read them through the APIs that your scripts already speak.",
        components=Components(security_schemes={"basic": basic}),
        tags=[
            *(Tag(name=api.title, description=api.description) for api in wires),
            Tag(
                name="Ingest",
                description="Send calls and events, with HTTP Basic and any of the account's credentials.",
            ),
        ],
        path="/docs",
        render_plugins=[
            SwaggerRenderPlugin(
                path="/",
                js_url="/docs/static/swagger-ui-bundle.js",
                css_url="/docs/static/swagger-ui.css",
                standalone_preset_js_url="/docs/static/swagger-ui-standalone-preset.js",
                favicon="<link rel='icon' type='image/png' href='/docs/static/favicon-32x32.png'>",
            )
        ],
    )
