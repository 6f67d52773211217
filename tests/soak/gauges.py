"""
What the processes of the servers hold, from the beginning to the end: memory of their own, and descriptors.

Three comparisons.  Each process at the end, when nobody is connected, with those of its kind at the beginning: what one
of them has lost since it began.  The most that any process of a kind had at any time, with the beginning: what grows
for a while only.  And a process that lives long with itself, when its caches are filled and in its last minutes: what
is lost a little at a time.  The processes of C{single} and the first one of C{classic} live from the beginning to the
end.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from tests.soak.sites import Process

#: How many more descriptors a process may have at the end: connections to the database that wait for work.
_MORE_DESCRIPTORS = 14
#: The same for a process that has none.
_MORE_DESCRIPTORS_WITHOUT = 2
_WITHOUT_DATABASE = ("supervisor", "broker")

#: How much more memory a process may take at the end, and at any time.
_MORE_MIB = 48.0
_MOST_MORE_MIB = 128.0

#: How much memory a process may take on the way from its settled state to its end, if it lives for so long.
_LOST_MIB = 16.0
_LONG_SECONDS = 240.0


@attrs.define
class Life:
    """
    What one process held.

    @ivar moments: when it was looked at
    """

    process: Process
    moments: list[float] = attrs.Factory(list)
    memory_mib: list[float] = attrs.Factory(list)
    descriptors: list[int] = attrs.Factory(list)

    @property
    def seconds(self) -> float:
        """How long it was seen."""
        return self.moments[-1] - self.moments[0]

    def settled_mib(self) -> float:
        """Its memory when its caches are filled: the middle of what it had from a quarter to a half of its life."""
        return self._between(0.25, 0.5)

    def last_mib(self) -> float:
        """Its memory in its last sixth."""
        return self._between(5 / 6, 1.0)

    def _between(self, first: float, last: float) -> float:
        begin, whole = self.moments[0], self.seconds
        within = [
            mib
            for at, mib in zip(self.moments, self.memory_mib, strict=True)
            if first * whole <= at - begin <= last * whole
        ]
        return statistics.median(within or self.memory_mib)


class Gauges:
    """
    See the module.

    @ivar first: what each process held at the beginning
    @ivar last: the same at the end
    @param measured: what each process holds now
    """

    def __init__(
        self, measured: Callable[[], Sequence[Process]], seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._measured = measured
        self._seconds = seconds
        self._lives: dict[tuple[str, str, int, int], Life] = {}
        self.first: Sequence[Process] = ()
        self.last: Sequence[Process] = ()

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """Look at everything now and then."""
        while not stop.wait(pause_seconds):
            self.look()

    def look(self) -> Sequence[Process]:
        """What everybody holds now."""
        found = self._measured()
        now = self._seconds()
        for one in found:
            # What USR2 has made of a process is another program in it.
            life = self._lives.setdefault((one.site, one.role, one.pid, one.started), Life(one))
            life.moments.append(now)
            life.memory_mib.append(one.memory_mib)
            life.descriptors.append(one.descriptors)
        return found

    def peaks(self) -> Mapping[tuple[str, str], tuple[int, float]]:
        """The most descriptors and the most memory that a process of a site and role had."""
        found: dict[tuple[str, str], tuple[int, float]] = {}
        for life in self._lives.values():
            kind = life.process.site, life.process.role
            descriptors, mib = found.get(kind, (0, 0.0))
            found[kind] = max(descriptors, *life.descriptors), max(mib, *life.memory_mib)
        return dict(sorted(found.items()))

    def long_lives(self) -> list[Life]:
        """Those that have lived for long."""
        return [life for life in self._lives.values() if life.seconds >= _LONG_SECONDS]

    def broken(self) -> Iterator[tuple[str, str]]:
        """Promises that are not kept, and how."""
        first: dict[tuple[str, str], list[Process]] = {}
        for one in self.first:
            first.setdefault((one.site, one.role), []).append(one)
        for one in self.last:
            before = first.get((one.site, one.role))
            if before is None:
                continue
            more = _MORE_DESCRIPTORS_WITHOUT if one.role in _WITHOUT_DATABASE else _MORE_DESCRIPTORS
            descriptors = max(other.descriptors for other in before) + more
            memory = max(other.memory_mib for other in before) + _MORE_MIB
            if one.descriptors > descriptors:
                yield "no descriptor is left", f"{one}, at most {descriptors}"
            if one.memory_mib > memory:
                yield "memory does not grow", f"{one}, at most {memory:.0f} MiB"
        for kind, (_, mib) in self.peaks().items():
            before_mib = max((other.memory_mib for other in first.get(kind, ())), default=0.0)
            if before_mib and mib > before_mib + _MOST_MORE_MIB:
                yield "memory is bounded", f"{' '.join(kind)}: {mib:.0f} MiB, at the beginning {before_mib:.0f}"
        for life in self.long_lives():
            if life.last_mib() > life.settled_mib() + _LOST_MIB:
                text = f"{life.process}: {life.settled_mib():.0f} MiB, then {life.last_mib():.0f}"
                yield "memory does not grow", f"{text}, in {life.seconds / 60:.0f} minutes"
