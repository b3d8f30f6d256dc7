"""The accounts at vendors that are followed into this one, and how that goes."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from litestar import Request, Response, route

from callhouse.console.access import Visitor, access
from callhouse.console.views import HEADERS, HTML, render
from callhouse.model.instant import DAY
from callhouse.render import READ
from callhouse.store import Store
from callhouse.store.mirrors import UNKNOWN, Mirror


class MirrorStatus(Protocol):
    """How far a mirror is, in milliseconds: *lag* is the age of the newest that was asked for, *backlog* how much time
    of a *total* was never asked for. *days_left* are the days until the vendor deletes something that is not had yet.
    """

    @property
    def lag(self) -> int: ...
    @property
    def backlog(self) -> int: ...
    @property
    def total(self) -> int: ...
    @property
    def days_left(self) -> float | None: ...


StatusOf = Callable[[Mirror], MirrorStatus]


class ShownMirror(msgspec.Struct, frozen=True):
    """*losses* are the days of which something was lost, in milliseconds, the latest first, and how many calls; None
    where nobody can tell. *lost* is their sum, as far as it is known.
    """

    mirror: Mirror
    account: str
    status: MirrorStatus
    losses: list[tuple[int, int | None]]
    lost: int


async def shown(request: Request[Any, Any, Any], visitor: Visitor) -> Sequence[ShownMirror]:
    """The mirrors of the account; an operator sees those of all."""
    store: Store = request.app.state.store
    status_of: StatusOf = request.app.state.status_of_mirror
    emails = {account.id: account.email for account in await store.accounts.all()}
    found = []
    for mirror in await store.mirrors.all():
        if visitor.is_operator or (visitor.account is not None and mirror.account_id == visitor.account.id):
            losses = [
                (day * DAY, None if calls == UNKNOWN else calls)
                for day, calls in reversed(await store.mirrors.losses(mirror.id))
            ]
            lost = sum(calls or 0 for _, calls in losses)
            found.append(ShownMirror(mirror, emails[mirror.account_id], status_of(mirror), losses, lost))
    return found


@route("/ingest/mirrors", http_method=READ, include_in_schema=False)
async def mirrors(request: Request[Any, Any, Any]) -> Response[Any]:
    """The mirrors alone, for a page that shows them again and again."""
    visitor, _ = await access(request).signed_in(request)
    store: Store = request.app.state.store
    html = render("mirrors.html", visitor, mirrors=await shown(request, visitor), now=store.clock())
    return Response(html.encode(), headers=HEADERS, media_type=HTML)
