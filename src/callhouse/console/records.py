"""A call as each API shows it, with the command that asks for it there."""

import shlex
from typing import Any

import msgspec
from litestar import Request

from callhouse.console.views import path_of
from callhouse.model.account import Account
from callhouse.model.browsing import ListedCall
from callhouse.sources.native import written
from callhouse.store import Store
from callhouse.store.calls import StoredCall

LARGEST = 64 * 1024
"""Characters of a record that a page shows; the command gets all of it."""


class ShownRecord(msgspec.Struct, frozen=True):
    """*command* is None where the account has no credentials of the API, *text* where the API shows no such call."""

    title: str
    command: str | None
    text: str | None
    is_cut: bool


async def records(
    request: Request[Any, Any, Any], account: Account, call: ListedCall, stored: StoredCall
) -> list[ShownRecord]:
    """The call in the words of every API, and in Callhouse's own."""
    store: Store = request.app.state.store
    origin = str(request.base_url).rstrip("/")
    shown = []
    for api in request.app.state.wires:
        if api.show is not None:
            one = await api.show(store, account, call)
            shown.append(_shown(api.title, one.user, one.secret, origin + one.path, one.body))
    path = path_of("record", call.session_id)
    return [*shown, _shown("Callhouse", account.email, "DEVELOPER_KEY", origin + path, native(stored))]


def native(stored: StoredCall) -> bytes:
    """What POST /ingest/calls reads as the same call."""
    return written(stored.call, stored.events or ())


def _shown(title: str, user: str | None, secret: str, url: str, body: bytes | None) -> ShownRecord:
    command = None if user is None else f'curl -u {shlex.quote(user)}:"${secret}" {shlex.quote(url)}'
    text = None if body is None else msgspec.json.format(body, indent=2).decode()
    if text is not None and len(text) > LARGEST:
        return ShownRecord(title, command, text[:LARGEST], is_cut=True)
    return ShownRecord(title, command, text, is_cut=False)
