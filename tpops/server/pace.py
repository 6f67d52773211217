"""
Bandwidth: how fast messages and listings leave, for one session and for all of them.

Purpose: token buckets that hold one second's worth.  Whoever wants to send takes what he needs, and is told how long to
wait; who comes next waits behind him, so all get their turn, slice by slice.
Limits: those of one process.  What a client that goes while it waits had taken is lost for the others: one slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpops.server.connection import Connection

PER_SESSION = "octets_per_second_per_session"
TOGETHER = "octets_per_second"

#: How much may leave at once after a pause, in seconds.
_BURST_SECONDS = 1.0

#: Slices: so many a second at most, but none shorter than the first length or longer than the second.
_SLICES = 64
_LEAST_OCTETS = 1024
_MOST_OCTETS = 65536


class Bucket:
    """
    So much a second.

    @param limit: the configuration's key
    @param octets_per_second: how much
    @param seconds: a clock
    """

    __slots__ = ("_octets_per_second", "_paid_until", "_seconds", "limit")

    def __init__(self, limit: str, octets_per_second: int, seconds: Callable[[], float]) -> None:
        self.limit = limit
        self._octets_per_second = octets_per_second
        self._seconds = seconds
        self._paid_until = float("-inf")

    def take(self, octets: int) -> float:
        """Take so much, and wait so many seconds before it is used."""
        now = self._seconds()
        self._paid_until = max(self._paid_until, now - _BURST_SECONDS) + octets / self._octets_per_second
        return max(0.0, self._paid_until - now)


class Pace:
    """
    What one session may send.

    @ivar slice_octets: how much is sent at a time
    @ivar waited: seconds that it has waited for each limit
    """

    __slots__ = ("_buckets", "slice_octets", "waited")

    def __init__(self, buckets: tuple[Bucket, ...], slice_octets: int) -> None:
        self._buckets = buckets
        self.slice_octets = slice_octets
        self.waited: dict[str, float] = {}

    def take(self, octets: int) -> float:
        """Take so much from all buckets; the longest wait."""
        wait, limit = max((bucket.take(octets), bucket.limit) for bucket in self._buckets)
        if wait > 0:
            self.waited[limit] = self.waited.get(limit, 0.0) + wait
        return wait

    def slowed(self) -> Iterator[str]:
        """What the log says of each limit that has made itself felt."""
        for limit, seconds in self.waited.items():
            yield f"{limit}: slowed down by {seconds:.1f} seconds"


class Bandwidth:
    """
    What all sessions of a process may send.

    @param per_session: octets a second of each, 0 for any number
    @param together: those of all of them, 0 for any number; one of the two is there
    @param seconds: a clock
    """

    def __init__(self, per_session: int, together: int, seconds: Callable[[], float]) -> None:
        self._per_session = per_session
        self._seconds = seconds
        self._together = (Bucket(TOGETHER, together, seconds),) if together else ()
        slowest = min(rate for rate in (per_session, together) if rate)
        self._slice_octets = min(_MOST_OCTETS, max(_LEAST_OCTETS, slowest // _SLICES))

    def pace(self) -> Pace:
        """For a new session."""
        own = (Bucket(PER_SESSION, self._per_session, self._seconds),) if self._per_session else ()
        return Pace((*own, *self._together), self._slice_octets)


async def send_at_pace(server: Connection, pace: Pace, octets: bytes) -> None:
    """Send this slice by slice; ends early when the client has gone."""
    view = memoryview(octets)
    for at in range(0, len(octets), pace.slice_octets):
        part = bytes(view[at : at + pace.slice_octets])
        await server.sleep(pace.take(len(part)))
        server.send(part)
        if server.paused:
            await server.drained()
        if server.gone:
            return
