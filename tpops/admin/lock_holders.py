"""
Who holds a lock on a file.

Purpose: whoever finds mail in use is told which process to look at.
Limits: Linux (C{/proc/locks}); processes of this machine, or container, only, and none for locks that belong to an open
file instead of a process; nothing is said rather than something that is not sure.
"""

from __future__ import annotations

import os
import re

_LOCK = re.compile(r"^\d+: (?:FLOCK|POSIX) +\S+ +\S+ (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", re.MULTILINE)


def holders(path: bytes) -> list[str]:
    """The processes that have a lock on a file, each as "process 4711 (twistd)"."""
    try:
        facts = os.stat(path)
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            locks = file.read()
    except OSError:
        return []
    device = os.major(facts.st_dev), os.minor(facts.st_dev)
    pids = {
        int(pid)
        for pid, major, minor, inode in _LOCK.findall(locks)
        if (int(major, 16), int(minor, 16)) == device and int(inode) == facts.st_ino and int(pid)
    }
    return [f"process {pid} ({_name(pid)})" for pid in sorted(pids)]


def _name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="backslashreplace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "ended meanwhile"
