"""
Turns: so many at once, the others wait in order.

Purpose: what bounds how many checks run at the same time, how many wait for theirs and how long.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred

from tpops.errors import LookupUnavailable

#: How many wait at most, and how long.
MOST_WAITING = 500
MOST_SECONDS = 10.0


class Turns:
    """
    See the module.

    @param name: the accounts source, for the log
    @param most: how many have a turn at once
    @param reactor: for time
    """

    def __init__(self, name: str, most: int, reactor: Any) -> None:
        self._name = name
        self._free = most
        self._reactor = reactor
        self._waiting: deque[Deferred[None]] = deque()

    async def take(self) -> None:
        """
        Wait for a turn; whoever gets one gives it back with L{give}.

        @raise LookupUnavailable: when too many wait, or it takes too long
        """
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= MOST_WAITING:
            raise LookupUnavailable(f"{self._name}: {MOST_WAITING} checks are waiting already")
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        too_long = self._reactor.callLater(MOST_SECONDS, self._give_up, turn)
        try:
            await turn
        finally:
            if too_long.active():
                too_long.cancel()

    def give(self) -> None:
        """The turn is over."""
        if self._waiting:
            self._waiting.popleft().callback(None)
        else:
            self._free += 1

    def _give_up(self, turn: Deferred[None]) -> None:
        self._waiting.remove(turn)
        turn.errback(LookupUnavailable(f"{self._name}: all checks are busy"))
