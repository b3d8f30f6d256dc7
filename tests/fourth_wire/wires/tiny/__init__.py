"""A wire API as small as one can be: ``GET /tiny/{session_id}`` tells how many steps a call had."""

from typing import Any

import msgspec
from callhouse.wire.tiny.schema import ErrorBody, Steps
from litestar import Request, Response, get
from litestar.params import FromPath

from callhouse.auth import authenticate
from callhouse.errors import Busy, NotAuthenticated, NotFound, TooManyFailures, matching
from callhouse.model.log import decode_entries
from callhouse.reference import JsonOperation, answers, operation
from callhouse.render import JSON
from callhouse.wire import Wire

STATUS = {NotAuthenticated: 401, NotFound: 404, TooManyFailures: 429, Busy: 429}

STEPS = operation(
    "tiny_steps",
    "Tiny",
    "Count steps",
    "How many steps a call had.",
    answers(
        Steps,
        "The number.",
        {"n": 3},
        {401: ("Who?", ErrorBody(oops="who are you?")), 404: ("No such call.", ErrorBody(oops="no such thing"))},
    ),
    JsonOperation,
)


@get("/{session_id:str}", **STEPS)
async def steps(request: Request[Any, Any, Any], session_id: FromPath[str]) -> Response[Any]:
    """How many steps a call had."""
    account = await authenticate(request, "fuse")
    found = await request.app.state.store.calls.log(account.id, session_id, since=0, details_since=0)
    if found is None or found.document is None:
        raise NotFound
    return Response(Steps(n=len(decode_entries(found.document))))


def render_error(_request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Every failure as ``{"oops": ...}``."""
    status = matching(error, STATUS, getattr(error, "status_code", 500))
    headers = dict(getattr(error, "headers", None) or {})
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="Tiny"'
    if status == 429:
        headers["Retry-After"] = "1"
    texts = {401: "who are you?", 404: "no such thing", 405: "not like that", 429: "not so fast"}
    body = msgspec.json.encode(ErrorBody(oops=texts.get(status, "sorry")))
    return Response(body, status_code=status, headers=headers, media_type=JSON)


plugin = Wire(
    name="tiny",
    title="Tiny",
    description="Counts the steps of calls. HTTP Basic with the e-mail address and developer key.",
    path="/tiny",
    handlers=[steps],
    render_error=render_error,
)
