"""The composition root: settings in, an ASGI application out."""

import asyncio
import gc
import html
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import msgspec
import prometheus_client
from litestar import Litestar, Request, Response, Router, route
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import FromPath
from litestar.response import File
from litestar.serialization import encode_json

from callhouse import __version__, console, sources, wire
from callhouse.auth import Authenticator
from callhouse.discovery import discover
from callhouse.errors import Busy, RequestError, StoreDamaged, StoreUnavailable
from callhouse.ingest import reference as ingest_reference
from callhouse.ingest import routes as ingest_routes
from callhouse.ingest.pump import Pump
from callhouse.ingest.readers import readers
from callhouse.mirror.service import Service, upstreams
from callhouse.mirror.status import measure, status_of
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
from callhouse.reference import PlainOperation, answer, complete, of_tag, operation
from callhouse.render import JSON, READ
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

DOCS_FILES = {
    **{name: files("callhouse") / "pages" / name for name in ("docs.css", "docs.js")},
    **{
        name: files("swagger_ui") / "static" / name
        for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    },
}
"""What the page of the API reference loads; all of it is installed here, so no request leaves the machine."""

DOCS_HEADERS = {
    # The icons are data within Swagger UI's style sheet; all else is a file of this server.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


INGEST = "Ingest"
OPERATION = "Operation"
"""Titles of the parts of the API reference that belong to no wire API."""


def now() -> int:
    """The clock of a running server: milliseconds since 1970."""
    return time.time_ns() // 1_000_000


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
    renderers = [*((f"{api.path}/", api.render_error) for api in wires), (console.PATH, console.render_error)]
    silences = [
        silence
        for source in discover(sources, Source)
        if source.silence is not None and (silence := source.silence(settings.sources.get(source.name, source.options)))
    ]

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        store = await open_store(
            Path(settings.store.data),
            retention=settings.retention.parsed(),
            clock=clock,
            max_events=settings.ingest.max_events,
            max_log=settings.ingest.max_log,
            read_limit=settings.store.read_seconds(),
        )
        app.state.store = store
        app.state.authenticator = Authenticator(store)
        app.state.pump = Pump(store, settings.ingest)
        console.start(
            app,
            store,
            app.state.authenticator,
            admin_token,
            wires,
            readers(settings.sources),
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
        log.info("server.started", version=__version__, data=settings.store.data)
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
            Router(console.PATH, route_handlers=console.HANDLERS),
            Router(ingest_routes.PATH, route_handlers=ingest_routes.routes(settings.sources)),
            healthz,
            readyz,
            metrics,
            docs,
            docs_of,
            docs_file,
            document_of,
            openapi,
        ],
        lifespan=[lifespan],
        exception_handlers={Exception: render_error},
        openapi_config=_openapi(wires),
        logging_config=None,
        # Our own limit names what to do and holds after decompression too.
        request_max_body_size=None,
    )
    _describe(app, wires)
    return Access(answered, settings.server.max_in_flight, overloaded)


def _describe(app: Litestar, wires: Sequence[Wire]) -> None:
    """Complete the OpenAPI document, and cut it into the references of the APIs."""
    titles = {**{api.name: api.title for api in wires}, "ingest": INGEST, "operation": OPERATION}
    schemes = {title: name for name, title in titles.items() if title != OPERATION}
    complete(app.openapi_schema, ingest_reference.schemas(), schemes)
    document = app.openapi_schema.to_schema()
    app.state.openapi = encode_json(document)
    app.state.references = _references(document, titles)


async def keep_up(store: Store, silences: Sequence[Silence]) -> None:
    """Now and then close the calls that were cut off, remove what has expired, find out peaks and train the dictionary,
    a little at a time; never returns.
    """
    while True:
        try:
            for silence in silences:
                while closed := await store.close_lost(silence.route, silence.row, store.clock() - silence.limit):
                    log.info("calls.closed_after_silence", source=silence.route, calls=closed)
            for account in await store.accounts.all():
                await _expire(store, account)
                while await store.settle(account):
                    pass
            while removed := await store.expire_quarantine():
                EXPIRED_ROWS.inc(removed)
            if await store.train():
                log.info("store.dictionary_trained")
        except Exception:  # noqa: BLE001 — whatever it was, the next round may succeed
            log.exception("store.upkeep_failed")
        await asyncio.sleep(UPKEEP_SECONDS)


async def _expire(store: Store, account: Account) -> None:
    """Remove what *account* keeps no longer; where its rows are damaged, that keeps none of the others waiting."""
    try:
        while removed := await store.expire(account):
            EXPIRED_ROWS.inc(removed)
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
        if statistics.free is not None:
            FREE_BYTES.set(statistics.free)
        for kind, oldest in (("calls", statistics.oldest_call), ("logs", statistics.oldest_log)):
            HORIZON.labels(kind).set(0 if oldest is None else oldest / 1000)
    QUEUE_DEPTH.set(store.waiting)
    return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)


class Reference(msgspec.Struct, frozen=True):
    """A part of the API reference: its page, and the document that this shows."""

    page: bytes
    document: bytes


def _references(document: dict[str, Any], titles: Mapping[str, str]) -> dict[str, Reference]:
    """A reference for each of *titles*, by name; each page links to all."""
    template = Template((files("callhouse") / "pages" / "docs.html").read_text())

    def link(name: str, shown: str) -> str:
        current = ' aria-current="page"' if name == shown else ""
        return f'<a href="/docs/{name}"{current}>{html.escape(titles[name])}</a>'

    return {
        name: Reference(
            template.substitute(
                name=name, title=html.escape(title), links="\n      ".join(link(n, name) for n in titles)
            ).encode(),
            encode_json(of_tag(document, title, HOW_TO_TRY)),
        )
        for name, title in titles.items()
    }


@route("/docs", http_method=READ, include_in_schema=False, sync_to_thread=False)
def docs(request: Request[Any, Any, Any]) -> Response[Any]:
    """The first part of the API reference."""
    return _page(next(iter(request.app.state.references.values())))


@route("/docs/{name:str}", http_method=READ, include_in_schema=False, sync_to_thread=False)
def docs_of(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
    """The part of the API reference of that name."""
    return _page(_reference(request, name))


@route("/openapi/{file:str}", http_method=READ, include_in_schema=False, sync_to_thread=False)
def document_of(request: Request[Any, Any, Any], file: FromPath[str]) -> Response[Any]:
    """The document of a part of the API reference: ``<name>.json``."""
    name, dot, suffix = file.rpartition(".")
    return Response(_reference(request, name if (dot, suffix) == (".", "json") else "").document, media_type=JSON)


def _reference(request: Request[Any, Any, Any], name: str) -> Reference:
    references: dict[str, Reference] = request.app.state.references
    if name not in references:
        raise NotFoundException
    return references[name]


def _page(reference: Reference) -> Response[Any]:
    return Response(reference.page, media_type="text/html; charset=utf-8", headers=DOCS_HEADERS)


@route("/docs/static/{name:str}", http_method=READ, include_in_schema=False, sync_to_thread=False)
def docs_file(name: FromPath[str]) -> File:
    """A file that the page of the API reference loads."""
    if name not in DOCS_FILES:
        raise NotFoundException
    headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
    path = Path(str(DOCS_FILES[name]))
    return File(path, filename=name, content_disposition_type="inline", headers=headers)


@route("/openapi.json", http_method=READ, include_in_schema=False, sync_to_thread=False)
def openapi(request: Request[Any, Any, Any]) -> Response[Any]:
    """The whole document."""
    return Response(request.app.state.openapi, media_type=JSON)


HOW_TO_TRY = """
Every operation can be tried here against this server. First **authorize**; `callhouse accounts create` prints an
account's credentials.
""".strip()

INTRODUCTION = f"""
Send calls and their logs, and read them through the APIs that your scripts already speak.

{HOW_TO_TRY}
""".strip()


def _openapi(wires: list[Wire]) -> OpenAPIConfig:
    secured = {
        **{api.name: api.description for api in wires},
        "ingest": "Any name and secret of the account: its e-mail address and developer key, its login and password, "
        "or its auth id and auth token.",
    }
    schemes = {
        name: SecurityScheme(type="http", scheme="basic", description=description)
        for name, description in secured.items()
    }
    return OpenAPIConfig(
        title="Callhouse",
        version=__version__,
        description=INTRODUCTION,
        components=Components(security_schemes={**schemes}),
        tags=[
            *(Tag(name=api.title, description=api.description) for api in wires),
            Tag(
                name=INGEST,
                description="Send calls and events, with HTTP Basic and any of the account's credentials. A body may "
                "be compressed: `Content-Encoding: gzip` or `zstd`.",
            ),
            Tag(name=OPERATION, description="For load balancers and monitoring; without credentials."),
        ],
        # Litestar's own routes answer GET alone; they stand where nobody looks.
        path="/docs/openapi",
        render_plugins=[JsonRenderPlugin()],
    )
