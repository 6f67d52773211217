"""
Messages that are read together with the one that a client wants.

Purpose: a client that takes one message after the other takes the next one, too.  One statement, and one trip to a
thread, then brings several: twice as many as the last time, as long as they come one after the other.
Limits: so many messages and octets for a session, and L{Budget} for all of them; only messages that come whole with
their first octets.  What is kept is what the message was when it was read, at most as old as the session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from tpops.mailbox.mysql_schema import FIRST_OCTETS, First

#: Most messages of a statement, and most octets of them, as LIST says.
MOST_MESSAGES = 32
MOST_OCTETS = 1 << 17


@attrs.define
class Budget:
    """
    Memory for what sessions have read ahead.

    @ivar left: octets
    """

    left: int


class Ahead:
    """
    What a session has read ahead.

    @param sizes: octets of its messages
    """

    __slots__ = ("_budget", "_found", "_next", "_sizes", "_window")

    def __init__(self, budget: Budget, sizes: Sequence[int]) -> None:
        self._budget = budget
        self._sizes = sizes
        self._found: dict[int, First] = {}
        self._next = 0
        self._window = 1

    def take(self, number: int) -> First | None:
        """The message, which is then not kept any more."""
        found = self._found.pop(number, None)
        if found is not None:
            self._budget.left += len(found[0])
            self._next = number + 1
        return found

    def numbers(self, number: int) -> Sequence[int]:
        """The messages that should be asked for when this one is wanted and was not there: it, and those behind it."""
        self.forget()
        self._window = min(2 * self._window, MOST_MESSAGES) if number == self._next else 1
        self._next = number + 1
        last = min(number + self._window - 1, len(self._sizes))
        room = min(MOST_OCTETS, self._budget.left) - self._sizes[number - 1]
        for other in range(number + 1, last + 1):
            octets = self._sizes[other - 1]
            room -= octets
            if octets > FIRST_OCTETS or room < 0:
                return range(number, other)
        return range(number, last + 1)

    def keep(self, found: Mapping[int, First]) -> None:
        """These were read."""
        for number, first in found.items():
            # Their sizes may be other than was said.
            if len(first[0]) <= self._budget.left:
                self._budget.left -= len(first[0])
                self._found[number] = first

    def forget(self) -> None:
        """Keep nothing."""
        self._budget.left += sum(len(begin) for begin, _ in self._found.values())
        self._found.clear()
