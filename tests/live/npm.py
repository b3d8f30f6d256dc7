"""Packages of npm, as a lock file pins them."""

import fcntl
import shutil
import subprocess

import pytest


def packages(directory):
    """The node_modules of *directory*, kept in the checkout; without npm the test fails, it is not skipped."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.fail("node or npm is missing: `make test` installs them, or `apt-get install nodejs npm`")
    installed, pinned = directory / "node_modules/.package-lock.json", directory / "package-lock.json"
    # Processes that run tests side by side must not take away what another one is reading.
    with pinned.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < pinned.stat().st_mtime:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=directory, check=True, timeout=600)
            installed.touch()
    return directory / "node_modules"
