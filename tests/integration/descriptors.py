"""Processes that can open a few descriptors and no more."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def few_descriptors(pid: int, free: int) -> Iterator[None]:
    """
    Let a process open so many more at a time, as long as this lasts.

    @raise FileNotFoundError: when there is no such process
    @raise subprocess.CalledProcessError: when it ends meanwhile
    """
    before = re.search(r"Max open files +(\d+)", Path(f"/proc/{pid}/limits").read_text())
    assert before is not None
    used = set(map(int, os.listdir(f"/proc/{pid}/fd")))
    unused = itertools.filterfalse(used.__contains__, itertools.count())
    _limit(pid, next(itertools.islice(unused, free, None)))
    try:
        yield
    finally:
        _limit(pid, int(before[1]))


def _limit(pid: int, most: int) -> None:
    """Set the limit."""
    ids = re.search(r"Uid:\t(\d+).*\nGid:\t(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert ids is not None
    # Root in a container may not do this to others' processes, so they have to do it themselves.
    other: dict[str, Any] = {"user": int(ids[1]), "group": int(ids[2]), "extra_groups": []}
    command = ["prlimit", f"--pid={pid}", f"--nofile={most}:"]
    subprocess.run(command, check=True, capture_output=True, **(other if os.geteuid() == 0 else {}))
