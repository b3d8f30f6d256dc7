"""What the API is made of."""

from callhouse.wire import Wire
from callhouse.wire.dev.errors import render_error
from callhouse.wire.dev.routes import errors, log, logs, sessions, show
from callhouse.wire.dev.upstream import upstream

plugin = Wire(
    name="dev",
    title="DEV",
    description="Read call logs, session lines and error lines, as Plum DEV scripts do. JSON by default, XML when the "
    "client prefers `application/xml`; every value is a string. HTTP Basic with the account's login and password, "
    "which `accounts create --login` makes.",
    path="/ws",
    handlers=[logs, log, sessions, errors],
    render_error=render_error,
    upstream=upstream,
    show=show,
)
