"""The account: credentials, time zone, retention, subaccounts, and commands to begin with."""

import shlex
from typing import Any

import msgspec
from litestar import Request, Response, post, route

from callhouse.console import told
from callhouse.console.access import MAX_FORM, PATH, Visitor, access
from callhouse.console.sign_in import redirect
from callhouse.console.views import page
from callhouse.errors import BadParameter
from callhouse.model.account import RetentionOverride
from callhouse.model.instant import format_duration, parse_duration, time_zone
from callhouse.observability import log
from callhouse.render import READ
from callhouse.store import Store
from callhouse.store.accounts import Secrets

HERE = f"{PATH}/account"


@route("/account", http_method=READ, include_in_schema=False)
async def account(request: Request[Any, Any, Any]) -> Response[Any]:
    """The page of the account."""
    visitor, _ = await access(request).signed_in(request)
    return await _page(request, visitor, None)


async def _page(request: Request[Any, Any, Any], visitor: Visitor, secrets: Secrets | None) -> Response[Any]:
    store: Store = request.app.state.store
    assert visitor.account is not None
    retention = visitor.account.retention
    return page(
        request,
        "account.html",
        visitor,
        active="account",
        path=HERE,
        account=visitor.account,
        secrets=secrets,
        subaccounts=await store.accounts.subaccounts(visitor.account.id),
        kept={name: format_duration(getattr(retention, name)) for name in RetentionOverride.__struct_fields__},
        origin=str(request.base_url).rstrip("/"),
        quote=shlex.quote,
        told=told.message(request),
    )


@post("/account/rotate", include_in_schema=False, request_max_body_size=MAX_FORM)
async def rotate(request: Request[Any, Any, Any]) -> Response[Any]:
    """Replace all secrets of the account, and show the new ones, this once."""
    visitor, before, sent = await access(request).changing_account(request)
    if sent.get("sure") != "1":
        raise BadParameter("sure", sent.get("sure", ""), "that you are: tick the box")
    _, secrets = await request.app.state.store.accounts.rotate(before.id)
    log.info("console.rotated", account=before.id, operator=visitor.is_operator)
    if visitor.is_operator:
        return await _page(request, visitor, secrets)
    # The credential that opened this session is worth nothing any more; who replaced it stays signed in.
    token = await access(request).enter(request, before.email, secrets.developer_key)
    await request.app.state.store.sign_ins.end(visitor.token)
    shown = await _page(request, access(request).renewed(visitor, token), secrets)
    shown.set_cookie(access(request).cookie(request, token))
    return shown


@post("/account/timezone", include_in_schema=False, request_max_body_size=MAX_FORM)
async def set_timezone(request: Request[Any, Any, Any]) -> Response[Any]:
    """Change the time zone of the account, in which its APIs show times."""
    _, shown, sent = await access(request).changing_account(request)
    name = sent.get("timezone", "").strip()
    try:
        time_zone(name)
    except ValueError:
        raise BadParameter("timezone", name, "a name such as Europe/Berlin") from None
    await request.app.state.store.accounts.change(shown.id, timezone=name, retention=None)
    return redirect(f"{HERE}?{told.query('timezone')}")


@post("/account/retention", include_in_schema=False, request_max_body_size=MAX_FORM)
async def set_retention(request: Request[Any, Any, Any]) -> Response[Any]:
    """Change how long things of the account are kept, which is for an operator: it costs disk, or calls."""
    visitor, shown, sent = await access(request).changing_account(request)
    if not visitor.is_operator:
        raise BadParameter("retention", "", "an operator to change it")
    wishes = {name: _duration(name, sent.get(name, "").strip()) for name in RetentionOverride.__struct_fields__}
    override = msgspec.structs.replace(shown.override, **wishes)
    await request.app.state.store.accounts.change(shown.id, timezone=None, retention=override)
    return redirect(f"{HERE}?{told.query('retention')}")


def _duration(name: str, text: str) -> str | None:
    """A wish as the store keeps it; None for the server's."""
    if not text:
        return None
    try:
        return format_duration(parse_duration(text))
    except ValueError:
        raise BadParameter(name, text, "a duration such as 30d or 1y, up to 100y, or forever") from None
