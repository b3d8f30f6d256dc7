"""What SQLite is told while a test runs."""

import apsw
import pytest


@pytest.fixture
def statements():
    """All statements that this process runs meanwhile, with their values."""
    seen = {}

    def hook(connection):
        def trace(_cursor, sql, bindings):
            seen.setdefault(sql, bindings)
            return True

        connection.set_exec_trace(trace)

    apsw.connection_hooks.append(hook)
    yield seen
    apsw.connection_hooks.remove(hook)
