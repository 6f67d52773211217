"""
Deliveries whose reply came too late: what keeps the client's next try from making a second copy.

Purpose: a client that loses patience, or its connection, during a delivery sends the message again to a recipient who
has got it, or is about to.  Both are known here by the digest of message, sender and recipient: of what is still being
delivered the next try is put off, and of what was delivered it is answered and left out, once.
Limits: what was answered before the connection broke looks like any other delivery; there is no remedy for that.  In
memory, for the L{MOST} latest of the last L{SECONDS} seconds; gone with the process.
An MTA puts its own number of a message into the header before its first try (Received), so two messages differ.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

#: Deliveries that are remembered.
MOST = 10_000

#: For how long.
SECONDS = 86400.0

#: Digest, sender, recipient.
Key = tuple[bytes, str, str]


class Verdict(enum.Enum):
    """What to do with a delivery."""

    DELIVER = "deliver"
    DONE = "an earlier try has delivered it, and its client had gone"
    UNDER_WAY = "an earlier try, whose client has gone, is still under way"


class LateReplies:
    """
    See the module.

    @param seconds: a clock
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._under_way: dict[Key, Callable[[], bool]] = {}
        self._late: dict[Key, float] = {}

    def begin(self, key: Key, wanted: Callable[[], bool]) -> Verdict:
        """
        A delivery would begin; with L{Verdict.DELIVER} it does, and L{end} has to be called.

        @param wanted: whether its client still waits
        """
        before = self._under_way.get(key)
        if before is not None and not before():
            return Verdict.UNDER_WAY
        delivered = self._late.pop(key, None)
        if delivered is not None and self._seconds() - delivered < SECONDS:
            return Verdict.DONE
        self._under_way[key] = wanted
        return Verdict.DELIVER

    def end(self, key: Key, wanted: Callable[[], bool], stored: bool) -> None:
        """A delivery has ended."""
        if self._under_way.get(key) is wanted:
            del self._under_way[key]
        if stored and not wanted():
            self._late[key] = self._seconds()
            if len(self._late) > MOST:
                del self._late[next(iter(self._late))]
