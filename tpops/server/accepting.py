"""
Lets clients in as long as there are descriptors for them.

Purpose: Twisted's ports close every new client when descriptors run out, with lines in the log for each, and the
loop spins when the descriptor that they keep for that is gone.  Here new clients wait, in the kernel's queue, before
the last one is taken, so that those who are there can still open their mail; it goes on when there is room.
Limits: a part of the descriptors is kept back, see L{reserve}.  The queue has the listener's C{backlog}; the kernel
refuses or ignores who comes then.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

_log = Logger()

#: Seconds between two looks at whether there is room again, and between two entries in the log.
PAUSE_SECONDS = 0.2
_QUIET_SECONDS = 60.0

#: Descriptors that are kept back at most.
_MOST_RESERVED = 256

#: Errors of accept(2) that belong to one client, who is gone.
_GONE = frozenset(
    (
        *(errno.ECONNABORTED, errno.EPERM, errno.EINTR, errno.EPROTO, errno.ENETDOWN, errno.ENOPROTOOPT),
        *(errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH),
    )
)


def reserve(most: int) -> int:
    """How many of so many descriptors are kept for other things than new clients."""
    return min(_MOST_RESERVED, most // 8)


class AcceptsWithinMeans:
    """A part of the ports of L{tpops.server.transport}, in front of Twisted's."""

    # What Twisted's ports have.
    socket: Any
    factory: Any
    transport: Any
    reactor: Any
    connected: Any
    disconnecting: Any
    numberAccepts: Any
    sessionno: Any
    fileno: Callable[[], int]
    stopReading: Callable[[], None]
    startReading: Callable[[], None]
    _buildAddr: Callable[[Any], Any]

    _first_reserved = 0
    _told_at = float("-inf")

    def doRead(self) -> None:
        """Let in who is waiting."""
        if not self._first_reserved:
            self._count()
        accepted = 0
        for _ in range(self.numberAccepts):
            try:
                opened, place = self.socket.accept()
            except BlockingIOError:
                break
            except OSError as problem:
                if problem.errno in _GONE:
                    continue
                self._wait(problem.strerror or str(problem))
                break
            accepted += 1
            descriptor = opened.fileno()
            self._serve(opened, place)
            # The kernel gives the lowest that is free.
            if descriptor >= self._first_reserved:
                self._wait("the rest is for those who are here")
                break
        # As many as came may come again; more when there may be more.
        self.numberAccepts = self.numberAccepts + 20 if accepted == self.numberAccepts else max(1, accepted)

    def _serve(self, opened: socket.socket, place: Any) -> None:
        try:
            if len(place) == 4:
                # With the scope of an IPv6 address.
                host, _ = socket.getnameinfo(place, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
                place = (host, *place[1:])
            protocol = self.factory.buildProtocol(self._buildAddr(place))
            if protocol is None:
                opened.close()
                return
            number = self.sessionno
            self.sessionno = number + 1
            protocol.makeConnection(self.transport(opened, protocol, place, self, number, self.reactor))
        except Exception:
            # Raised further, it would close the port.
            _log.failure("a client could not be served")
            opened.close()

    def _count(self) -> int:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._first_reserved = most - reserve(most)
        return most

    def _wait(self, why: str) -> None:
        """Let nobody in until there is room."""
        self.stopReading()
        self.reactor.callLater(PAUSE_SECONDS, self._look)
        most, now = self._count(), self.reactor.seconds()
        if now - self._told_at >= _QUIET_SECONDS:
            self._told_at = now
            _log.error(
                "no-descriptors: new clients wait: {why}; at most {most} files may be open, {reserved} of them for "
                "mail. Raise that (systemd: LimitNOFILE=, else ulimit -n), or lower limits.connections",
                event="no-descriptors",
                why=why,
                most=most,
                reserved=reserve(most),
            )

    def _look(self) -> None:
        if self.disconnecting or not self.connected:
            return
        self._count()
        try:
            lowest = os.dup(self.fileno())
        except OSError:
            lowest = self._first_reserved
        else:
            os.close(lowest)
        if lowest < self._first_reserved:
            self.startReading()
        else:
            self.reactor.callLater(PAUSE_SECONDS, self._look)
