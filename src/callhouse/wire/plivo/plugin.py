"""What the API is made of."""

from callhouse.wire import Wire
from callhouse.wire.plivo.errors import render_error
from callhouse.wire.plivo.routes import call, calls, show
from callhouse.wire.plivo.upstream import upstream

plugin = Wire(
    name="plivo",
    title="Plivo",
    description="Read completed calls and calls in progress, as the Plivo SDKs do. HTTP Basic with the account's auth "
    "id, which is in the path too, and auth token.",
    path="/v1",
    handlers=[calls, call],
    render_error=render_error,
    upstream=upstream,
    show=show,
)
