"""Signing in and out; whose calls an operator sees; in which time zone."""

from typing import Any
from urllib.parse import quote, urlsplit

from litestar import Request, Response, post, route

from callhouse.console.access import COOKIE, MAX_FORM, PATH, SignInNeeded, Visitor, access
from callhouse.console.views import HEADERS, page
from callhouse.errors import BadParameter, InactiveAccount, NotAuthenticated, TooManyFailures
from callhouse.model.instant import time_zone
from callhouse.observability import log
from callhouse.render import READ
from callhouse.store import Store
from callhouse.store.accounts import AccountError

HOME = f"{PATH}/calls"


@route("/", http_method=READ, include_in_schema=False)
async def home(request: Request[Any, Any, Any]) -> Response[Any]:
    """The calls, or the form for signing in."""
    visitor = await access(request).visitor(request)
    return redirect(HOME if visitor.sign_in else f"{PATH}/sign-in")


@route("/sign-in", http_method=READ, include_in_schema=False)
async def form(request: Request[Any, Any, Any]) -> Response[Any]:
    """The form for signing in."""
    visitor = await access(request).visitor(request)
    target = local(request.query_params.get("next", ""))
    if visitor.sign_in is not None:
        return redirect(target)
    return page(request, "sign_in.html", visitor, target=target, name="", as_operator=False, problem=None)


@post("/sign-in", include_in_schema=False, request_max_body_size=MAX_FORM)
async def sign_in(request: Request[Any, Any, Any]) -> Response[Any]:
    """Sign in with the credentials, or the admin token, of the form."""
    known = access(request)
    visitor, sent = await known.changing(request)
    target = local(sent.get("next", ""))
    name, secret, as_operator = sent.get("name", "").strip(), sent.get("secret", "").strip(), "as_operator" in sent
    try:
        if as_operator:
            token = await known.enter_as_operator(request, secret)
        else:
            token = await known.enter(request, name, secret)
    except (NotAuthenticated, InactiveAccount, TooManyFailures) as error:
        log.info("console.sign_in_refused", operator=as_operator, reason=type(error).__name__)
        return _refused(request, visitor, error, target, name, as_operator=as_operator)
    if visitor.sign_in is not None:
        await _store(request).sign_ins.end(visitor.token)
    log.info("console.signed_in", operator=as_operator)
    answer = redirect(target)
    answer.set_cookie(known.cookie(request, token))
    return answer


def _refused(
    request: Request[Any, Any, Any], visitor: Visitor, error: Exception, target: str, name: str, *, as_operator: bool
) -> Response[Any]:
    status, headers = 401, {}
    problem = "This is no name and secret of an account."
    if as_operator:
        problem = "This is not the admin token."
    if isinstance(error, InactiveAccount):
        problem = "This account is switched off."
    if isinstance(error, TooManyFailures):
        status, headers = 429, {"Retry-After": str(error.retry_after)}
        problem = f"Too many failed attempts from your address. Wait {error.retry_after} seconds and try again."
    values = {"target": target, "name": name, "as_operator": as_operator, "problem": problem}
    shown = page(request, "sign_in.html", visitor, status=status, **values)
    shown.headers.update(headers)
    return shown


@post("/sign-out", include_in_schema=False, request_max_body_size=MAX_FORM)
async def sign_out(request: Request[Any, Any, Any]) -> Response[Any]:
    """End the sign-in, here and wherever else its cookie may be."""
    visitor, _ = await access(request).changing(request)
    await _store(request).sign_ins.end(visitor.token)
    answer = redirect(f"{PATH}/sign-in")
    answer.delete_cookie(COOKIE, path=PATH)
    return answer


@route("/accounts", http_method=READ, include_in_schema=False)
async def accounts(request: Request[Any, Any, Any]) -> Response[Any]:
    """The accounts, for an operator to choose from."""
    visitor = await access(request).visitor(request)
    if not visitor.is_operator:
        raise SignInNeeded
    target = local(request.query_params.get("next", ""))
    listed = await _store(request).accounts.all()
    return page(request, "accounts.html", visitor, accounts=listed, target=target, active="accounts")


@post("/show", include_in_schema=False, request_max_body_size=MAX_FORM)
async def show(request: Request[Any, Any, Any]) -> Response[Any]:
    """Let an operator see another account's calls."""
    visitor, sent = await access(request).changing(request)
    if not visitor.is_operator:
        raise SignInNeeded
    text = sent.get("account", "")
    try:
        account = await _store(request).accounts.get(int(text) if text.isascii() and text.isdigit() else 0)
    except (AccountError, OverflowError):
        raise BadParameter("account", text, "the number of an account") from None
    await _store(request).sign_ins.show(visitor.token, account.id)
    return redirect(local(sent.get("next", "")))


@post("/timezone", include_in_schema=False, request_max_body_size=MAX_FORM)
async def timezone(request: Request[Any, Any, Any]) -> Response[Any]:
    """Show times in another zone from now on."""
    visitor, sent = await access(request).changing(request)
    if visitor.sign_in is None:
        raise SignInNeeded
    name = sent.get("timezone", "")
    try:
        if name:
            time_zone(name)
    except ValueError:
        raise BadParameter("timezone", name, "a name such as Europe/Berlin") from None
    await _store(request).sign_ins.set_timezone(visitor.token, name or None)
    return redirect(local(sent.get("next", "")))


def local(target: str) -> str:
    """*target* where it is a path of the console, else its first page: a link must not lead away from here."""
    try:
        parts = urlsplit(target) if target.isprintable() and "\\" not in target else None
    except ValueError:
        # Brackets that hold no address, characters that are others once they are normalized.
        parts = None
    if parts is None or parts.scheme or parts.netloc or not target.startswith((f"{PATH}/", f"{PATH}?")):
        return HOME
    return quote(target, safe="/?&=%:;,~+@!$'()*-._")


def redirect(target: str) -> Response[Any]:
    return Response(b"", status_code=303, headers={**HEADERS, "Location": target}, media_type="text/plain")


def _store(request: Request[Any, Any, Any]) -> Store:
    store: Store = request.app.state.store
    return store
