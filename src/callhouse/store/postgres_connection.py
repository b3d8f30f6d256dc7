"""Connections to PostgreSQL: how they are set up, and what their failures mean."""

import re
import socket
from contextlib import suppress
from os import dup
from urllib.parse import unquote

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper, NumericBinaryLoader
from psycopg_pool import PoolTimeout

from callhouse.errors import StoreDamaged, StoreRefused, StoreUnavailable, TookTooLong
from callhouse.store.engine import Row

Connection = psycopg.Connection[Row]

CONNECT_SECONDS = 5

IDLE_SECONDS = 60.0
"""A transaction whose node asks for nothing more is given up after so long: others wait for what it has locked."""

# What libpq would read otherwise, such as a password with a slash as a part of the host's name, it would also tell.
_URL = re.compile(r"\w+://[^/@]*(?:@[^/@]*)?(?:/[^@?]*)?(?:\?.*)?")
_PASSWORD = re.compile(r"(?<=://)([^:/@]*):[^/@]*(?=@)")

# What a URL may say otherwise. A server that is gone without a word is noticed after twenty seconds.
_DEFAULTS = {
    "application_name": "callhouse",
    "connect_timeout": str(CONNECT_SECONDS),
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",
}

# Whatever the database or the role has for a default: what is acknowledged must be on disk, and a transaction may wait
# for another. The compiler of expressions takes longer than our statements do. A plan that was made while a table was
# small, when one index is as good as another, and kept, would be a bad one when the table is large.
_SET_UP = """
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = {idle};
SET tcp_keepalives_idle = 10;
SET tcp_keepalives_interval = 5;
SET tcp_keepalives_count = 2;
SET tcp_user_timeout = 20000;
SET statement_timeout = {statement_timeout};
SET jit = off;
SET plan_cache_mode = force_custom_plan;
SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off';
SELECT set_config('transaction_timeout', '0', FALSE) WHERE current_setting('transaction_timeout', TRUE) <> '0';
"""

_REFUSALS = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, psycopg.NotSupportedError)
_DAMAGES = (errors.DataCorrupted, errors.IndexCorrupted)
_OF_OTHERS = (errors.UndefinedColumn, errors.DuplicateTable, errors.DuplicateObject)
_REPEATABLE = (errors.SerializationFailure, errors.DeadlockDetected)


class _Whole(NumericBinaryLoader):
    """Sums of whole numbers, which PostgreSQL adds up as decimal ones."""

    def load(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        return int(super().load(data))


def conninfo(url: str) -> str:
    """*url* as libpq takes it, with our defaults. Raises StoreUnavailable when it is none."""
    unreadable = StoreUnavailable(
        "The URL of the database cannot be read: postgresql://user@host/name expected, with every sign of a password "
        "that is no letter and no digit percent-encoded."
    )
    if not _URL.fullmatch(url):
        raise unreadable
    try:
        given = conninfo_to_dict(url)
        return make_conninfo(url, **{key: value for key, value in _DEFAULTS.items() if key not in given},
                             client_encoding="UTF8")  # fmt: skip
    except psycopg.Error:
        # Not as its cause: libpq's message may repeat the whole, with its password.
        raise unreadable from None


def place_of(url: str) -> str:
    """What *url* names, without its password: ``host:port/name``."""
    given = conninfo_to_dict(conninfo(url))
    hosts = str(given.get("host", "")).split(",")
    ports = str(given.get("port", "")).split(",")
    if len(ports) < len(hosts):
        ports = ports[:1] * len(hosts)
    places = ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))
    return f"{places}/{given.get('dbname', given.get('user', ''))}"


def without_password(url: str) -> str:
    """*url* as it is, but for its password and what else libpq shows nobody."""
    conninfo(url)
    secret = {option.keyword.decode() for option in Conninfo.parse(url.encode()) if option.dispchar == b"*"}
    place, _, options = _PASSWORD.sub(r"\1", url, count=1).partition("?")
    shown = "&".join(option for option in options.split("&") if unquote(option.partition("=")[0]) not in secret)
    return f"{place}?{shown}" if shown else place


def set_up(connection: Connection, read_limit: float | None) -> None:
    """Make a new *connection* ready, on which a statement may take *read_limit* seconds unless it is told otherwise."""
    # Both, as lists are written as text and else take the type of the first one's largest number for that of all.
    connection.adapters.register_dumper(int, Int8Dumper)
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    connection.adapters.register_loader("numeric", _Whole)
    timeouts = {"statement_timeout": milliseconds(read_limit), "idle": milliseconds(IDLE_SECONDS)}
    connection.execute(_SET_UP.format(**timeouts).encode())


def milliseconds(limit: float | None) -> int:
    """A limit in seconds as PostgreSQL's timeouts take it."""
    return 0 if limit is None else max(1, int(limit * 1000))


def cut(connection: Connection) -> None:
    """End *connection* from another thread, so that who waits for the server waits no longer."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def is_lost(connection: Connection) -> bool:
    """Whether nothing can be asked of *connection* any more."""
    return connection.closed or connection.broken


def is_repeatable(error: psycopg.Error) -> bool:
    """Whether the transaction may succeed when it is tried again at once."""
    return isinstance(error, _REPEATABLE)


def failure(error: Exception) -> StoreUnavailable:
    """*error* of psycopg as one of ours."""
    if isinstance(error, errors.QueryCanceled):
        return TookTooLong()
    if isinstance(error, _DAMAGES):
        return StoreDamaged(f"{reason(error)}; `callhouse check` tells what is hit")
    # A row that is too long for an index is among the failures that are of the server's making.
    if isinstance(error, (*_REFUSALS, errors.ProgramLimitExceeded)):
        return StoreRefused(reason(error))
    if isinstance(error, PoolTimeout):
        return StoreUnavailable("no connection to the database could be had in time")
    return StoreUnavailable(reason(error))


def reason(error: Exception) -> str:
    """What the server or libpq says, in one line."""
    if isinstance(error, _OF_OTHERS):
        return f"it holds what is not Callhouse's: {error.diag.message_primary}"
    said = isinstance(error, psycopg.Error) and error.diag.message_primary
    # Libpq's own guesses begin with a tab.
    lines = (said or str(error)).splitlines()
    return " ".join(word for line in lines if not line.startswith("\t") for word in line.split()).rstrip(".")
