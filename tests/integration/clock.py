"""
A clock that can be wrong, for the processes of a server and for nothing else on the machine.

Limits: see docs/decisions/0028; only what Python asks the time module for jumps.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

#: What Python reads before anything else: its clock is wrong by as much as a file says, which it sees at once.
_SITE = """
import mmap, os, struct, time
with open(os.environ["SOAK_CLOCK"], "rb") as file:
    offset = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
true, true_ns = time.time, time.time_ns
time.time = lambda: true() + struct.unpack_from("<q", offset)[0]
time.time_ns = lambda: true_ns() + struct.unpack_from("<q", offset)[0] * 1_000_000_000
"""


class Clock:
    """
    See the module; right at first.

    @ivar environment: for the processes that have this clock
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        (directory / "sitecustomize.py").write_text(_SITE)
        self._offset = directory / "offset"
        self._offset.write_bytes(bytes(8))
        self.environment = {**os.environ, "SOAK_CLOCK": str(self._offset), "PYTHONPATH": str(directory)}

    def jump(self, seconds: int) -> None:
        """Be so far from the true time."""
        with open(self._offset, "r+b") as file:
            file.write(struct.pack("<q", seconds))
