"""What a process that another one started does so as not to outlive it."""

import ctypes
import multiprocessing
import os
import signal

_SET_PARENT_DEATH_SIGNAL = 1


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel end this process of multiprocessing *by* that signal when the one that started it is gone."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, by)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        # It was gone before the kernel knew.
        os._exit(0)
