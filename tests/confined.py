"""Runs a command confined as deploy/callhouse.service confines the server: ``confined.py UNIT COMMAND...``.

Not root, no new privileges, no memory both writable and executable, no system call but those that the unit allows.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, REFUSE_EXEC_GAIN = 38, 65, 1
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM = 1


def system_calls(unit):
    """The names that the unit's SystemCallFilter lines leave."""
    allowed = set()
    for line in Path(unit).read_text().splitlines():
        key, _, value = line.partition("=")
        if key == "SystemCallFilter":
            for group in value.removeprefix("~").split():
                allowed = allowed - members(group) if value.startswith("~") else allowed | members(group)
    return allowed


def members(group):
    if not group.startswith("@"):
        return {group}
    shown = subprocess.run(["systemd-analyze", "syscall-filter", group], check=True, capture_output=True, text=True)
    names = [line.strip() for line in shown.stdout.splitlines()[1:]]
    return set().union(*(members(name) for name in names if name and not name.startswith("#")))


def main():
    unit, *command = sys.argv[1:]
    names = system_calls(unit)
    libc, libseccomp = ctypes.CDLL(None), ctypes.CDLL("libseccomp.so.2")
    if os.geteuid() == 0:
        sys.exit("this is root")
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_MDWE, REFUSE_EXEC_GAIN)):
        if libc.prctl(option, value, 0, 0, 0):
            sys.exit(f"prctl {option} is not to be had here")
    libseccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(libseccomp.seccomp_init(ERRNO | EPERM))
    for name in sorted(names):
        number = libseccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert libseccomp.seccomp_rule_add(context, ALLOW, number, 0) == 0, name
    assert libseccomp.seccomp_load(context) == 0
    os.execvp(command[0], command)


main()
