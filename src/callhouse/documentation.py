"""The pages of the API reference, and the OpenAPI documents that they show."""

import html
import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, route
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import FromPath
from litestar.response import File
from litestar.serialization import encode_json

from callhouse import __version__
from callhouse.ingest import reference as ingest_reference
from callhouse.reference import complete, of_tag
from callhouse.render import JSON, READ
from callhouse.wire import Wire

_PAGES = Path(__file__).parent / "pages"


def _swagger_ui() -> Path:
    # Found and not imported: the package loads much that serves other frameworks.
    found = find_spec("swagger_ui")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "static"


DOCS_FILES = {
    **{name: _PAGES / name for name in ("docs.css", "docs.js")},
    **{name: _swagger_ui() / name for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")},
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


class Reference(msgspec.Struct, frozen=True):
    """A part of the API reference: its page, and the document that this shows."""

    page: bytes
    document: bytes


class Documents(msgspec.Struct, frozen=True):
    """The *whole* OpenAPI document, and the *references* that it is cut into, by their names."""

    whole: bytes
    references: Mapping[str, Reference]


class Documentation:
    """Documents *app*, when that is first asked for: it takes a fifth of a second, so ask in a thread."""

    def __init__(self, app: Litestar, wires: Sequence[Wire]) -> None:
        self._app = app
        self._titles = {**{api.name: api.title for api in wires}, "ingest": INGEST, "operation": OPERATION}
        self._documents: Documents | None = None
        self._making = threading.Lock()

    def documents(self) -> Documents:
        with self._making:
            if self._documents is None:
                self._documents = self._made()
            return self._documents

    def _made(self) -> Documents:
        schemes = {title: name for name, title in self._titles.items() if title != OPERATION}
        complete(self._app.openapi_schema, ingest_reference.schemas(), schemes)
        document = self._app.openapi_schema.to_schema()
        return Documents(encode_json(document), _references(document, self._titles))


def _references(document: dict[str, Any], titles: Mapping[str, str]) -> dict[str, Reference]:
    """A reference for each of *titles*, by name; each page links to all."""
    template = Template((_PAGES / "docs.html").read_text())

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


@route("/docs", http_method=READ, include_in_schema=False, sync_to_thread=True)
def docs(request: Request[Any, Any, Any]) -> Response[Any]:
    """The first part of the API reference."""
    return _page(next(iter(_documents(request).references.values())))


@route("/docs/{name:str}", http_method=READ, include_in_schema=False, sync_to_thread=True)
def docs_of(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[Any]:
    """The part of the API reference of that name."""
    return _page(_reference(request, name))


@route("/openapi/{file:str}", http_method=READ, include_in_schema=False, sync_to_thread=True)
def document_of(request: Request[Any, Any, Any], file: FromPath[str]) -> Response[Any]:
    """The document of a part of the API reference: ``<name>.json``."""
    name, dot, suffix = file.rpartition(".")
    return Response(_reference(request, name if (dot, suffix) == (".", "json") else "").document, media_type=JSON)


def _documents(request: Request[Any, Any, Any]) -> Documents:
    documentation: Documentation = request.app.state.documentation
    return documentation.documents()


def _reference(request: Request[Any, Any, Any], name: str) -> Reference:
    references = _documents(request).references
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
    return File(DOCS_FILES[name], filename=name, content_disposition_type="inline", headers=headers)


@route("/openapi.json", http_method=READ, include_in_schema=False, sync_to_thread=True)
def openapi(request: Request[Any, Any, Any]) -> Response[Any]:
    """The whole document."""
    return Response(_documents(request).whole, media_type=JSON)


HOW_TO_TRY = """
Every operation can be tried here against this server. First **authorize**; `callhouse accounts create` prints an
account's credentials.
""".strip()

INTRODUCTION = f"""
Send calls and their logs, and read them through the APIs that your scripts already speak.

{HOW_TO_TRY}
""".strip()


def openapi_config(wires: Sequence[Wire]) -> OpenAPIConfig:
    """What stands in the OpenAPI document above the operations."""
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


HANDLERS = [docs, docs_of, docs_file, document_of, openapi]
