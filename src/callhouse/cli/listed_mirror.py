"""A mirror as the commands show it: for people, and as JSON."""

from datetime import UTC, date, datetime

import msgspec

from callhouse.cli.context import counted, local_time, out, plain
from callhouse.clock import now
from callhouse.mirror.status import Status, status_of
from callhouse.mirror.upstreams import upstreams
from callhouse.model.instant import DAY, SECOND, format_duration
from callhouse.store import Store
from callhouse.store.mirrors import UNKNOWN, Mirror


class Lost(msgspec.Struct):
    """What was lost of a day; *calls* is null where nobody can tell how many."""

    day: date
    calls: int | None


class ListedMirror(msgspec.Struct):
    """What ``mirror show --json`` prints, and ``list --json`` of each; instants and lengths are in seconds."""

    name: str
    api: str
    account: int
    url: str
    user: str
    secret: str
    since: float
    overlap: str
    rate: float
    state: str
    trouble: str
    last_success: float | None
    lag: float
    backlog: float
    days_until_loss: float | None
    calls: int
    calls_per_second: float
    lost: list[Lost]


def day_of(instant: int) -> date:
    return datetime.fromtimestamp(instant / SECOND, UTC).date()


async def listed_of(store: Store, mirror: Mirror) -> ListedMirror:
    losses = [
        Lost(day_of(day * DAY), None if calls == UNKNOWN else calls)
        for day, calls in await store.mirrors.losses(mirror.id)
    ]
    return listed(mirror, status_of(mirror, upstreams()[mirror.api], now()), losses)


def listed(mirror: Mirror, status: Status, losses: list[Lost]) -> ListedMirror:
    return ListedMirror(
        name=mirror.name,
        api=mirror.api,
        account=mirror.account_id,
        url=mirror.url,
        user=mirror.user,
        secret=mirror.secret,
        since=mirror.since / SECOND,
        overlap=format_duration(mirror.overlap),
        rate=mirror.rate,
        state=mirror.state,
        trouble=mirror.trouble,
        last_success=None if mirror.succeeded is None else mirror.succeeded / SECOND,
        lag=status.lag / SECOND,
        backlog=status.backlog / SECOND,
        days_until_loss=status.days_left,
        calls=mirror.calls,
        calls_per_second=mirror.speed,
        lost=losses,
    )


def print_mirror(each: ListedMirror) -> None:
    last = each.last_success
    shown = {
        "name": each.name,
        "follows": f"{each.api} account {each.user} at {each.url}",
        "into account": each.account,
        "secret": each.secret.replace(":", " ", 1),
        "since": local_time(int(each.since * SECOND)),
        "asked for again": f"for {each.overlap}, at most {each.rate:g} requests a second",
        "state": each.state,
        "trouble": each.trouble or "none",
        "last success": "never" if last is None else local_time(int(last * SECOND)),
        "lag": length_in_words(each.lag),
        "backlog": length_in_words(each.backlog),
        "until a loss": "" if each.days_until_loss is None else f"{each.days_until_loss:.2f} days",
        "calls": f"{each.calls:,} told, {each.calls_per_second:,.0f}/s at last",
        "lost": lost_in_words(each.lost),
    }
    for key, value in shown.items():
        out.print(f"[bold]{key:>15}[/]  {plain(str(value))}", highlight=False, soft_wrap=True)
    for lost in each.lost:
        calls = "nobody can tell how many calls" if lost.calls is None else counted(lost.calls, "call")
        out.print(f"{'':>15}  {lost.day}: {calls}", highlight=False)


def lost_in_words(lost: list[Lost]) -> str:
    if not lost:
        return "nothing"
    known = sum(each.calls or 0 for each in lost)
    unknown = "" if all(each.calls is not None for each in lost) else " and more"
    return f"{counted(known, 'call')}{unknown} of {counted(len(lost), 'day')}"


def length_in_words(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
