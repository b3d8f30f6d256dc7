"""What the API is made of."""

from callhouse.wire import Wire
from callhouse.wire.fuse.errors import render_error
from callhouse.wire.fuse.routes import all_logs, call, calls, show
from callhouse.wire.fuse.upstream import upstream

plugin = Wire(
    name="fuse",
    title="Fuse",
    description="Read completed calls and their logs, as Plum Fuse call-log scripts do. JSON by default, XML when the "
    "client prefers `application/xml`. HTTP Basic with the account's e-mail address and developer key.",
    path="/api",
    handlers=[calls, all_logs, call],
    render_error=render_error,
    upstream=upstream,
    show=show,
)
