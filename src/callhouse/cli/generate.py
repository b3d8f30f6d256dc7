"""``callhouse generate``: synthetic calls, through the store's bulk path."""

import contextlib
import gc
import multiprocessing
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.connection import Connection
from typing import Annotated, NamedTuple

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from callhouse import simulation
from callhouse.cli.context import (
    LARGEST_ID,
    Config,
    Data,
    Database,
    Json,
    Set,
    err,
    opened,
    out,
    print_json,
    run,
    settings,
)
from callhouse.clock import now
from callhouse.errors import CallhouseError
from callhouse.model.account import Account
from callhouse.model.call import Call
from callhouse.model.event import Event
from callhouse.model.instant import DAY
from callhouse.model.record import Part, Record
from callhouse.sources import native
from callhouse.store import Store

BATCH = 2_000


class _Sent(NamedTuple):
    """A simulated call and the record that a sender would send of it."""

    raw: bytes
    call: Call
    events: tuple[Event, ...]


_decode = msgspec.msgpack.Decoder(list[_Sent]).decode


class Generated(msgspec.Struct):
    """What ``generate --json`` prints."""

    calls: int
    refused: int
    seconds: float


def generate(
    calls: Annotated[int, typer.Option(min=1, help="How many calls to make.")],
    account: Annotated[int, typer.Option("--account", metavar="ID", max=LARGEST_ID, help="Whose calls they are.")],
    days: Annotated[float, typer.Option(min=0.01, help="Spread their starts over so many days up to now.")] = 5.0,
    log_days: Annotated[
        float | None, typer.Option(min=0, help="Give a log only to the calls of the newest so many days.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same calls (at the same time of day).")] = 1,
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
) -> None:
    """Fill the store with synthetic IVR calls and their logs, for trying things out and for benchmarks.

    Example: `callhouse generate --calls 1000000 --days 30 --account 1`
    """
    in_force, _ = settings(config, data, chosen, database)

    async def work() -> Generated:
        async with opened(in_force, create=True) as store:
            owner = await store.accounts.get(account)
            # The last calls must be over by now.
            until = now() - DAY // 48
            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]} calls/s"),
                TimeRemainingColumn(),
            )
            with Progress("Generating", *columns, console=err, transient=True) as progress:
                since = until - int(days * DAY)
                logs_since = since if log_days is None else until - int(log_days * DAY)
                return await fill(
                    store, owner, progress, calls=calls, since=since, until=until, seed=seed, logs_since=logs_since
                )

    done = run(work())
    if as_json:
        print_json(done)
    else:
        out.print(f"{done.calls:,} calls in {done.seconds:.1f} s ({done.calls / done.seconds:,.0f} calls/s).")
    if done.refused:
        raise CallhouseError(
            f"{done.refused:,} calls were refused; `callhouse quarantine list` says why. "
            "Are they older than their retention, or did you generate them before with another --seed or time?"
        )


async def fill(
    store: Store,
    owner: Account,
    progress: Progress,
    *,
    calls: int,
    since: int,
    until: int,
    seed: int,
    logs_since: int = 0,
) -> Generated:
    """Load simulated calls that start in the window, with their logs from *logs_since* on; those that are refused go to
    the quarantine, as everywhere.
    """
    # Millions of objects without a single cycle: to look for some takes a tenth of the time.
    gc.disable()
    task = progress.add_task("", total=calls, rate="")
    began = time.perf_counter()
    records = _records(owner, _simulated_elsewhere(seed, calls, since, until, logs_since))
    done = refused = 0
    while batch := list(islice(records, BATCH)):
        refused += sum(outcome.refusal is not None for outcome in await store.load(batch))
        await store.train()
        done += len(batch)
        progress.update(task, completed=done, rate=f"{done / (time.perf_counter() - began):,.0f}")
    return Generated(done - refused, refused, time.perf_counter() - began)


def _simulated_elsewhere(seed: int, calls: int, since: int, until: int, logs_since: int) -> Iterator[_Sent]:
    """The simulated calls, made by another process meanwhile: making them takes a third as long as storing them."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_simulate, args=(sender, seed, calls, since, until, logs_since), daemon=True)
    process.start()
    sender.close()
    left = calls
    try:
        while left:
            batch = _decode(receiver.recv_bytes())
            left -= len(batch)
            yield from batch
    except EOFError:
        raise CallhouseError(f"The process that simulates calls ended too early; {left:,} calls are missing.") from None
    finally:
        receiver.close()
        process.join()


def _simulate(sender: Connection, seed: int, calls: int, since: int, until: int, logs_since: int) -> None:
    encode = msgspec.msgpack.Encoder().encode
    simulated = (
        (call, events if call.start is not None and call.start >= logs_since else ())
        for call, events in simulation.calls(seed, calls, since, until)
    )
    # The other side may stop before the end.
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        while batch := list(islice(simulated, BATCH)):
            sender.send_bytes(encode([_Sent(native.written(*each), *each) for each in batch]))


def _records(owner: Account, simulated: Iterator[_Sent]) -> Iterator[Record]:
    for raw, call, events in simulated:
        part = Part(session_id=call.session_id, call=call, events=events)
        yield Record(account=owner, source="calls", raw=raw, read=part, origin="generate")
