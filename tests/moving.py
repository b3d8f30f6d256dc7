"""A move of a store in a process of its own, which ends it at a certain step."""

import multiprocessing
import os
import signal
from pathlib import Path

from callhouse.store import move, move_part, move_source, move_target

SECONDS = 120
OWNERS = {"Source": move_source.Source, "Target": move_target.Target, "_Move": move._Move}

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["moving"])


def killed(data, url, step, after, rows=None):
    """Begin to move the store in *data* to *url*, or go on, until a SIGKILL: before *step*, ``Class.method``, comes to
    pass once more than *after* times. So many *rows* are copied at once.
    """
    process = started(data, url, step, after, rows)
    process.join(SECONDS)
    assert process.exitcode == -signal.SIGKILL, f"{step}: {process.exitcode}"
    process.close()


def started(data, url, *how):
    """A process that moves the store."""
    process = _processes.Process(target=_move, args=(str(data), url, *how))
    process.start()
    return process


def _move(data, url, step=None, after=0, rows=None):
    if step is not None:
        _kill_at(step, after)
    if rows is not None:
        move_part.ROWS = move_part.ROWS_WITH_BLOBS = rows
    move.move(Path(data), url, lambda *_: None)


def _kill_at(step, after):
    owner, _, name = step.partition(".")
    method, times = getattr(OWNERS[owner], name), iter(range(after))

    def counted(*arguments, **options):
        if next(times, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)

    setattr(OWNERS[owner], name, counted)
