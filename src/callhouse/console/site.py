"""All that is at the console's path, and what it needs."""

from collections.abc import Callable, Mapping

from litestar import Litestar, route
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response.base import ASGIResponse

from callhouse.auth import Authenticator
from callhouse.console import account, call, calls, dashboard, export, ingest, mirrors, sign_in, storage
from callhouse.console.access import Access
from callhouse.console.export import Downloads
from callhouse.console.mirrors import StatusOf
from callhouse.console.views import STATIC
from callhouse.ingest.readers import Reader
from callhouse.render import READ
from callhouse.store import Store
from callhouse.wire import Upstream, Wire

_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}


@route("/static/{name:str}", http_method=READ, include_in_schema=False, sync_to_thread=False)
def static(name: FromPath[str]) -> ASGIResponse:
    """A script or the style sheet; a page names it with a digest of its content, so it may be kept."""
    if name not in STATIC:
        raise NotFoundException
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return ASGIResponse(body=STATIC[name], headers=headers, media_type=_TYPES[name.rpartition(".")[2]])


HANDLERS: list[HTTPRouteHandler] = [
    sign_in.home,
    sign_in.form,
    sign_in.sign_in,
    sign_in.sign_out,
    sign_in.accounts,
    sign_in.show,
    sign_in.timezone,
    dashboard.dashboard,
    calls.calls,
    calls.count,
    calls.live_calls,
    export.progress,
    export.export,
    call.call,
    call.live_call,
    call.events,
    call.record,
    call.moment,
    ingest.ingest,
    ingest.sources,
    mirrors.mirrors,
    storage.days,
    storage.storage,
    ingest.entry,
    ingest.change,
    account.account,
    account.rotate,
    account.set_timezone,
    account.set_retention,
    static,
]


def start(
    app: Litestar,
    store: Store,
    authenticator: Authenticator,
    token: str | None,
    wires: list[Wire],
    readers: Mapping[str, Reader],
    upstreams: Mapping[str, Upstream],
    status_of_mirror: StatusOf,
    is_stopping: Callable[[], bool],
) -> None:
    """Let the handlers find what they need; *token* is an operator's."""
    app.state.console = Access(store, authenticator, token)
    app.state.downloads = Downloads()
    app.state.is_stopping = is_stopping
    app.state.wires = wires
    app.state.readers = readers
    app.state.upstreams = upstreams
    app.state.status_of_mirror = status_of_mirror
