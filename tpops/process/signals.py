"""
What signals mean.

    TERM    stop, and let sessions come to their end for a while; the second one: stop now
    INT     stop now
    HUP     read the configuration again, and open the logs anew
    USR1    open the logs anew
    USR2    go on with the program that is installed now

Purpose: one place that takes them over from Twisted, and calls the service in the reactor's loop, once it runs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import attrs

#: Seconds until a stop begins that was asked for: the answer is to leave before.
_BEFORE_STOP_SECONDS = 0.1


@attrs.frozen(kw_only=True)
class Orders:
    """
    What to do.

    @ivar hurry: a stop is under way or begins now: wait for nobody
    """

    hurry: Callable[[], None]
    reload: Callable[[], object]
    reopen: Callable[[], None]
    upgrade: Callable[[], None]


class Signals:
    """See the module."""

    def __init__(self, reactor: Any, orders: Orders) -> None:
        self._reactor = reactor
        self._orders = orders
        self._stopping = False
        self._stop: dict[int, Any] = {}
        self._set(signal.SIGHUP, orders.reload)
        self._set(signal.SIGUSR2, orders.upgrade)
        # twistd has one, which moves its log file away and begins another.
        self._before: Any = signal.getsignal(signal.SIGUSR1)
        self._set(signal.SIGUSR1, self._reopen)
        reactor.callWhenRunning(self._take_stop)

    def _take_stop(self) -> None:
        """After Twisted has set its own."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._stop[number] = signal.signal(number, self._end)

    def _set(self, number: int, order: Callable[[], object]) -> None:
        signal.signal(number, lambda *_: self._reactor.callFromThread(order))

    def _end(self, number: int, frame: FrameType | None) -> None:
        if self._stopping or number == signal.SIGINT:
            self._reactor.callFromThread(self._orders.hurry)
        if not self._stopping:
            self._stopping = True
            before = self._stop[number]
            if callable(before):
                before(number, frame)

    def _reopen(self) -> None:
        if callable(self._before):
            self._before(signal.SIGUSR1, None)
        self._orders.reopen()


def stop_soon(reactor: Any) -> None:
    """Do what TERM does, in a moment."""
    reactor.callLater(_BEFORE_STOP_SECONDS, os.kill, os.getpid(), signal.SIGTERM)
