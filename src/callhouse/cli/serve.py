"""``callhouse serve`` and ``callhouse config``."""

import asyncio
import ctypes
import errno
import functools
import multiprocessing
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import setproctitle
import typer
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops, SSLProtocols
from granian.utils.proxies import wrap_asgi_with_proxy_headers
from rich.table import Column, Table

from callhouse.child import end_with_parent
from callhouse.cli.context import Config, Data, Database, Json, Set, opened, out, plain, print_json, run, settings
from callhouse.errors import CallhouseError
from callhouse.observability import configure_logging
from callhouse.settings import InForce, ServerSettings, Settings, document

MAX_CONNECTIONS = 10_000
"""Open connections, idle ones included; how many requests may be under way is a setting."""

STOP_SECONDS = 30
"""How long requests may take to finish after SIGTERM."""

_HOST_HINT = "--host takes an address of this machine: 127.0.0.1, or 0.0.0.0 for all it has."


def serve(
    data: Data = None,
    database: Database = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    tls_cert: Annotated[
        str | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate (PEM); with --tls-key, HTTPS alone.")
    ] = None,
    tls_key: Annotated[
        str | None, typer.Option("--tls-key", metavar="FILE", help="Private key of the certificate (PEM).")
    ] = None,
    config: Config = None,
    chosen: Set = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C; requests under way are finished and all that was accepted is kept.

    Example: `callhouse serve --data /var/lib/callhouse --port 8080 --set retention.details=30d`
    """
    in_force, _ = settings(
        config,
        data,
        chosen,
        database,
        server__host=host,
        server__port=port,
        server__tls_cert=tls_cert,
        server__tls_key=tls_key,
    )
    configure_logging(in_force.log.format, in_force.log.level)
    certificate, key = _tls_files(in_force.server)
    run(_check(in_force))
    # The port stays ours until the server listens on it.
    with _reserved(in_force.server.host, in_force.server.port) as reservation:
        taken = reservation.getsockname()[1]
        server = Granian(
            "callhouse",
            address=in_force.server.host,
            port=taken,
            interface=Interfaces.ASGI,
            loop=Loops.uvloop,
            websockets=False,
            # The mode that finds out the protocol waits for ever for a client that says nothing.
            http=HTTPModes.http1,
            log_enabled=False,
            backlog=2048,
            backpressure=MAX_CONNECTIONS,
            ssl_cert=certificate,
            ssl_key=key,
            # Switches on systems of ten years ago know nothing newer.
            ssl_protocol_min=SSLProtocols.tls12,
            # Otherwise it takes a name of its own.
            process_name=setproctitle.getproctitle(),
            respawn_failed_workers=True,
            workers_kill_timeout=STOP_SECONDS,
        )
        # Shared with the worker, which would wait for streams that have no end.
        stopping = multiprocessing.RawValue(ctypes.c_bool, False)
        server.on_startup(functools.partial(_note_signals, stopping))
        server.serve(target_loader=functools.partial(_application, in_force, taken, stopping))


def _note_signals(stopping: Any) -> None:
    """Have the signals that stop the server set *stopping* too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        stop = signal.getsignal(number)

        def noted(given: int, frame: Any, stop: Any = stop) -> None:
            stopping.value = True
            stop(given, frame)

        signal.signal(number, noted)


def _application(in_force: Settings, port: int, stopping: Any, _target: str) -> Any:
    # Lest it keep the port for ever.
    end_with_parent()
    # The process that starts this one needs nothing of it, and no other command does.
    from callhouse.app import create_app  # noqa: PLC0415

    configure_logging(in_force.log.format, in_force.log.level)
    host = in_force.server.host
    scheme = "https" if in_force.server.tls_cert else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    async def announce() -> None:
        await _listening(host, port)
        sys.stdout.write(f"Callhouse is ready on {address}\n")
        sys.stdout.flush()

    app = create_app(in_force, announce, environment=os.environ, is_stopping=lambda: bool(stopping.value))
    trusted = in_force.server.trusted_proxies
    return wrap_asgi_with_proxy_headers(app, trusted) if trusted else app


async def _listening(host: str, port: int) -> None:
    """Return once the port takes connections: granian begins to listen after the application has started."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 — names it, does not bind it
    while True:
        try:
            _, writer = await asyncio.open_connection(reachable, port)
        except OSError:
            await asyncio.sleep(0.005)
        else:
            writer.close()
            return


async def _check(in_force: Settings) -> None:
    """Fail here, with a clear message, rather than in the server's worker."""
    in_force.console.admin_token()
    async with opened(in_force, create=True, replicas=True) as store:
        await store.probe()


def _tls_files(server: ServerSettings) -> tuple[Path | None, Path | None]:
    """The certificate and its key, or neither; files that are no such pair fail here, before anything listens."""
    if bool(server.tls_cert) != bool(server.tls_key):
        missing = "server.tls_key" if server.tls_cert else "server.tls_cert"
        raise CallhouseError(f"TLS takes a certificate and its key; {missing} is not set.")
    if not server.tls_cert:
        return None, None
    files = Path(server.tls_cert), Path(server.tls_key)
    for name, file in zip(("certificate", "key"), files, strict=True):
        try:
            file.read_bytes()
        except OSError as error:
            raise CallhouseError(f"The TLS {name} {file} cannot be read: {error.strerror}.") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password=_no_passphrase)
    except ssl.SSLError as error:
        reason = "the key is not that of the certificate" if error.reason == "KEY_VALUES_MISMATCH" else str(error)
        raise CallhouseError(f"The TLS files {files[0]} and {files[1]} cannot be used: {reason}.") from None
    return files


def _no_passphrase() -> str:
    raise CallhouseError("The TLS key is encrypted; give one without a passphrase that only the server may read.")


def _reserved(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise CallhouseError(f"Cannot listen on {host}: {reason}. {_HOST_HINT}") from None
    reservation = None
    try:
        reservation = socket.socket(family, socket.SOCK_STREAM)
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(address)
    except OSError as error:
        if reservation is not None:
            reservation.close()
        hint = "Try another --port."
        if error.errno == errno.EACCES and port < 1024:
            hint = "Ports below 1024 take a privilege (CAP_NET_BIND_SERVICE); try another --port."
        elif error.errno not in {errno.EADDRINUSE, errno.EACCES}:
            hint = _HOST_HINT
        raise CallhouseError(f"Cannot listen on {host} port {port}: {error.strerror}. {hint}") from None
    return reservation


def config(
    data: Data = None,
    database: Database = None,
    config: Config = None,
    chosen: Set = None,
    as_json: Json = False,
    reference: Annotated[bool, typer.Option("--reference", help="Print the page of all settings instead.")] = False,
) -> None:
    """Print the settings in force, and for each where it came from.

    Example: `CALLHOUSE_LOG_LEVEL=warning callhouse config --config callhouse.toml`
    """
    if reference:
        sys.stdout.write(document())
        return
    _, in_force = settings(config, data, chosen, database)
    if as_json:
        print_json({entry.key: msgspec.to_builtins(entry) for entry in in_force})
        return
    table = Table(Column("key", no_wrap=True), Column("value", overflow="fold"), Column("from", overflow="fold"))
    for entry in in_force:
        _row(table, entry)
    out.print(table)


def _row(table: Table, entry: InForce) -> None:
    style = "dim" if entry.origin == "default" else "bold"
    table.add_row(entry.key, plain(entry.value), plain(entry.origin), style=style)
