"""
A reactor that is made before a fork.

Purpose: what a session's process needs of Twisted is made once, in the process that it is forked from, and used there
until nothing of it is new any more.
How: it asks the kernel by poll(2), so nothing of it is in the kernel that parent and child would share, as an epoll
descriptor would be; with the two connections that a session has, that also costs less.  There is no descriptor to wake
it: there are neither threads nor signal handlers.  Timers go by the clock that never goes back.
Limits: for processes that are forked while nothing waits in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from twisted.internet import pollreactor
from twisted.internet.main import installReactor


class EarlyReactor(pollreactor.PollReactor):
    """See the module."""

    seconds = staticmethod(time.monotonic)

    def installWaker(self) -> None:
        """There is nobody else who could wake it."""

    def callFromThread(self, f: Callable[..., object], *args: object, **kwargs: object) -> None:
        """There is one thread, and it is this one."""
        self.callLater(0, f, *args, **kwargs)

    def start(self) -> None:
        """Be ready to serve, which L{serve} then need not do."""
        if not self.running:
            self.startRunning(installSignalHandlers=False)

    def serve(self, first: Callable[[], object]) -> None:
        """
        Serve until it is stopped by C{crash}.

        @param first: called first
        """
        self.start()
        first()
        self.mainLoop()

    def timeout(self) -> float | None:
        """In whole milliseconds, as poll(2) counts; a part of one would be turned round for."""
        seconds: float | None = super().timeout()
        return None if seconds is None else math.ceil(seconds * 1000) / 1000


def install() -> EarlyReactor:
    """Make one, the only reactor of this process and those that are forked from it."""
    reactor = EarlyReactor()
    installReactor(reactor)
    return reactor
