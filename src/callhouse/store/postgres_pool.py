"""A pool of connections to one server, and transactions on them that outlive a restart of it."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TypeVar
from weakref import WeakSet

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from callhouse.errors import StoreUnavailable
from callhouse.store import postgres_connection
from callhouse.store.postgres_connection import (
    CONNECT_SECONDS,
    Connection,
    cut,
    failure,
    is_lost,
    is_repeatable,
)
from callhouse.store.watch import Watch

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""So much longer than a statement may take the server is waited for."""

QUICK_SECONDS = 2.0
"""So long looking up a few rows may always take."""

HOPE_SECONDS = 0.5
"""How long a connection is waited for when the last who waited got none: many may be waiting for their turn to wait."""

ATTEMPTS = 3


class Pool:
    """At most *size* connections to the server at *url*. A statement may take *read_limit* seconds, or if that is less
    QUICK_SECONDS, unless its transaction says otherwise. For a connection is waited *patience* seconds.
    """

    def __init__(self, url: str, size: int, read_limit: float | None, *, patience: float = CONNECT_SECONDS) -> None:
        self._watches: list[Watch[Connection]] = []
        limit = None if read_limit is None else max(read_limit, QUICK_SECONDS)
        self._reading = None if limit is None else self.watch(limit + GRACE_SECONDS)
        self._connecting = self.watch(CONNECT_SECONDS)
        self._silent: WeakSet[Connection] = WeakSet()
        self._limit = limit
        self._is_reached = True
        self._patience = patience
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            postgres_connection.conninfo(url),
            kwargs={"autocommit": True},
            min_size=0,
            max_size=size,
            configure=self._set_up,
            timeout=CONNECT_SECONDS,
            # Who comes next tries again, and need not wait for the end of a pause.
            reconnect_timeout=CONNECT_SECONDS,
            open=True,
            name="callhouse",
        )

    def _set_up(self, connection: Connection) -> None:
        with self._connecting.over(connection):
            postgres_connection.set_up(connection, self._limit)

    def watch(self, seconds: float) -> Watch[Connection]:
        """A watch that ends connections whose work takes longer; it is over when the pool is closed."""
        self._watches.append(Watch(seconds, self._cut))
        return self._watches[-1]

    def run(
        self,
        work: Callable[[Connection], T],
        begin: bytes | None,
        watch: Watch[Connection] | None = None,
        *,
        before: Callable[[Connection], None] | None = None,
    ) -> T:
        """The result of *work* in a transaction, or with no *begin* in one for each statement; as long as *watch*
        lets it, or else as a read may take. *before* is done on the same connection first.

        What was not about to be committed is tried again where its connection was lost, as when the server was
        restarted, and where it and another transaction were in each other's way. Raises StoreUnavailable.
        """
        watch = watch or self._reading
        for attempt in range(ATTEMPTS):
            connection = self._lent()
            is_committing = False
            try:
                with nullcontext() if watch is None else watch.over(connection):
                    if before is not None:
                        before(connection)
                    if begin is not None:
                        connection.execute(begin)
                    result = work(connection)
                    if begin is not None:
                        is_committing = True
                        connection.execute(b"COMMIT")
            except psycopg.Error as error:
                if connection in self._silent:
                    raise StoreUnavailable("the database does not answer") from error
                if is_committing or attempt + 1 == ATTEMPTS or not (is_lost(connection) or is_repeatable(error)):
                    raise failure(error) from error
            else:
                return result
            finally:
                self._give_back(connection)
        raise AssertionError

    def _lent(self) -> Connection:
        try:
            connection = self._pool.getconn(self._patience if self._is_reached else HOPE_SECONDS)
        except psycopg.Error as error:
            self._is_reached = False
            raise failure(error) from error
        self._is_reached = True
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.info.transaction_status != TransactionStatus.IDLE:
            # This ends also where the server does not answer any more.
            with self._connecting.over(connection), suppress(psycopg.Error):
                connection.rollback()
        if is_lost(connection):
            # The others that lie in the pool are lost with it, most likely.
            self._pool.drain()
        self._pool.putconn(connection)

    def _cut(self, connection: Connection) -> None:
        self._silent.add(connection)
        cut(connection)

    def close(self) -> None:
        """Let go of the server; nothing may be under way."""
        self._pool.close()
        for watch in self._watches:
            watch.end()
