"""``callhouse demo``: a server with an account, five days of simulated calls, and new ones coming in."""

import base64
import heapq
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress

from callhouse import simulation
from callhouse.cli.context import Config, Set, err, opened, run, settings
from callhouse.cli.generate import fill
from callhouse.clock import now
from callhouse.errors import CallhouseError
from callhouse.model.account import Account
from callhouse.model.instant import DAY, HOUR, SECOND
from callhouse.model.query import CallQuery
from callhouse.settings import Settings
from callhouse.store.accounts import Secrets

EMAIL = "demo@callhouse.example"
LOGIN = "demo"
SECONDS_BETWEEN_CALLS = 4.0
PREFERRED_PORT = 8080


def demo(
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DIR", help="Directory of the store; by default one that is removed at the end."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port to listen on; by default 8080, or a free one.")] = None,
    calls: Annotated[int, typer.Option(min=1, help="Simulated calls of the last five days.")] = 3_000,
    config: Config = None,
    chosen: Set = None,
) -> None:
    """Start a server with a demo account and live simulated IVR calls, and print what to try. Ctrl-C ends it.

    Example: `callhouse demo`
    """
    with _until_interrupted(), _directory(data) as directory:
        in_force, _ = settings(config, directory, chosen)
        if in_force.server.tls_cert or in_force.server.tls_key:
            raise CallhouseError("The demo has no TLS; leave server.tls_cert and server.tls_key unset for it.")
        account, secrets, session_id = run(_prepare(in_force, calls))
        with _server(directory, host, _port(host, port), config, chosen or []) as address:
            _print_commands(address, account, secrets, session_id)
            _send_live_calls(address, secrets, account.id)


@contextmanager
def _until_interrupted() -> Iterator[None]:
    """Whatever is under way inside, Ctrl-C and SIGTERM end it in good order."""
    # What a script runs in the background ignores Ctrl-C from the start, and SIGTERM is to end it all the same.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _interrupt}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    except KeyboardInterrupt:
        err.print("Stopped.")
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _interrupt(_signal: int, _frame: Any) -> None:
    # As Ctrl-C does, which cancels what a loop is at. An exception that is raised wherever that is may leave a thread
    # that was just being started without anybody to end it.
    signal.raise_signal(signal.SIGINT)


@contextmanager
def _directory(given: str | None) -> Iterator[str]:
    if given is not None:
        yield given
        return
    made = tempfile.mkdtemp(prefix="callhouse-demo-")
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _port(host: str, asked: int | None) -> int:
    if asked is not None:
        return asked
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, PREFERRED_PORT))
        except OSError:
            return 0
    return PREFERRED_PORT


async def _prepare(in_force: Settings, calls: int) -> tuple[Account, Secrets, str]:
    """The demo account, its secrets, and the session of a recent call that has a log."""
    async with opened(in_force, create=True) as store:
        known = [account for account in await store.accounts.all() if account.email == EMAIL]
        if known:
            account, secrets = await store.accounts.rotate(known[0].id)
        else:
            account, secrets = await store.accounts.create(
                email=EMAIL, login=LOGIN, plan="standard", timezone="UTC", parent_id=None
            )
            with Progress(
                "Simulating calls", BarColumn(), MofNCompleteColumn(), console=err, transient=True
            ) as progress:
                until = now() - HOUR // 2
                await fill(store, account, progress, calls=calls, since=until - 5 * DAY + HOUR, until=until, seed=1)
        query = CallQuery(account_ids=(account.id,), since=now() - 5 * DAY, until=now(), limit=100)
        recent = (await store.calls.page(query, ("event_count", "start", "session_id"))).rows
        return account, secrets, next((row[2] for row in recent if row[0] > 5), "none")


@contextmanager
def _server(directory: str, host: str, port: int, config: Path | None, chosen: list[str]) -> Iterator[str]:
    """A real server in a process of its own; gives its address."""
    command = [sys.executable, "-m", "callhouse", "serve", "--data", directory, "--host", host, "--port", str(port)]
    command += [] if config is None else ["--config", str(config)]
    # Request lines would bury what the user is to paste.
    for assignment in ("log.level=warning", *chosen):
        command += ["--set", assignment]
    # In a group of its own, so that Ctrl-C reaches this process first, which then stops the server in good order.
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0)  # noqa: S603
    try:
        assert server.stdout is not None
        ready = server.stdout.readline()
        if " on " not in ready:
            raise CallhouseError("The server did not start; its messages are above.")
        yield ready.rpartition(" on ")[2].strip()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _print_commands(address: str, account: Account, secrets: Secrets, session_id: str) -> None:
    user = f"-u {EMAIL}:{secrets.developer_key}"
    since, until = (now() - DAY) // SECOND, (now() + DAY) // SECOND
    lines = [
        f"Callhouse runs on {address} and simulated calls are coming in.",
        "",
        f"The console is at {address}/console: sign in as {EMAIL} with {secrets.developer_key}",
        f"and see calls arrive at {address}/console/calls?live=1",
        "",
        "Or try:",
        "",
        "# the three newest calls of the last day",
        f"curl -s {user} '{address}/api/calls/{since}/{until}?limit=3'",
        "",
        "# what happened in one call",
        f"curl -s {user} '{address}/api/call/{quote(session_id, safe='')}'",
        "",
        "# two calls with their logs, as XML",
        f"curl -s {user} -H 'Accept: application/xml' '{address}/api/all_logs/{since}/{until}?limit=2'",
        "",
        "# three calls of the last day as lines of the DEV API",
        f"curl -s -u {LOGIN}:{secrets.password} '{address}/ws/calls/sessions/{since}/{until}?limit=3'",
        "",
        "# the calls that are going on now, as the Plivo API lists them",
        f"curl -s -u {account.auth_id}:{secrets.auth_token} '{address}/v1/Account/{account.auth_id}/Call/?status=live'",
        "",
        f"The references are at {address}/docs: for Fuse with user {EMAIL}, password {secrets.developer_key},",
        f"for DEV with user {LOGIN}, password {secrets.password},",
        f"for Plivo with user {account.auth_id}, password {secrets.auth_token}. Ctrl-C ends the demo.",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _send_live_calls(address: str, secrets: Secrets, account_id: int) -> None:
    """Post calls as a platform does: the call when it starts, each event when it happens, the call again at its end."""
    credentials = base64.b64encode(f"{EMAIL}:{secrets.developer_key}".encode()).decode()
    headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=30)
    rng = random.Random(f"{account_id} {os.getpid()}")  # noqa: S311 — simulated callers, not secrets
    due: list[tuple[int, int, str, dict[str, Any]]] = []
    next_call, number = now(), 0
    while True:
        if now() >= next_call:
            next_call = now() + int(rng.expovariate(1 / SECONDS_BETWEEN_CALLS) * SECOND)
            for when, route, record in _as_sent(simulation.call_starting(rng, now())):
                number += 1
                heapq.heappush(due, (when, number, route, record))
        while due and due[0][0] <= now():
            _, _, route, record = heapq.heappop(due)
            try:
                connection.request("POST", f"/ingest/{route}", msgspec.json.encode(record), headers)
                connection.getresponse().read()
            except (OSError, http.client.HTTPException) as error:
                raise CallhouseError(f"The server does not answer any more: {error}.") from error
        time.sleep(max(0.0, min(next_call, due[0][0] if due else next_call) - now()) / SECOND)


def _as_sent(simulated: simulation.SimulatedCall) -> Iterator[tuple[int, str, dict[str, Any]]]:
    call, events = simulated
    fields = {
        key: value
        for key, value in msgspec.to_builtins(call).items()
        if value is not None and key not in {"answer", "end", "duration", "billed_duration"}
    }
    fields["start"] = (call.start or 0) / SECOND
    yield call.start or 0, "calls", fields
    for event in events:
        sent = {
            "timestamp": event.timestamp / SECOND,
            "class": event.class_,
            "line": event.line,
            "data": event.data,
        }
        yield event.timestamp, "events", {"session_id": call.session_id, "events": [sent]}
    lengths = {
        "duration": call.duration,
        "billed_duration": call.billed_duration,
        "answer": call.answer,
        "end": call.end,
    }
    known = {key: value / SECOND for key, value in lengths.items() if value is not None}
    yield call.end or 0, "calls", {**fields, **known}
