"""
Where the listings of Maildirs and spools in this process have come from, for metrics.

Purpose: plain counts, for the whole life of the process.  Counting happens in the reactor's thread and, under a lock,
in others.
"""

from __future__ import annotations

from threading import Lock


class Tally:
    """
    See the module.

    @ivar memory: from memory, after a look at what could have changed
    @ivar index: from an index file
    @ivar scan: from the directories, or the spool, themselves
    """

    def __init__(self) -> None:
        self.memory = 0
        self.index = 0
        self.scan = 0
        self._lock = Lock()

    def add(self, index: int, scan: int) -> None:
        """What another process has found."""
        with self._lock:
            self.index += index
            self.scan += scan

    def found_in_memory(self) -> None:
        """Counted in the reactor's thread only."""
        self.memory += 1

    def found_in_index(self) -> None:
        """Counted in any thread."""
        with self._lock:
            self.index += 1

    def scanned(self) -> None:
        """Counted in any thread."""
        with self._lock:
            self.scan += 1


#: That of this process.
TALLY = Tally()
