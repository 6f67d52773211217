"""
Changes that count as a whole or not at all, and of which it is known which.

Purpose: a transaction that the server refused because of another one (a deadlock, a wait for a lock that took too long,
a certification that failed in a cluster) is done again.  When the connection is lost while a transaction is being
completed, the database is looked at until it answers.
Limits: blocking, for threads.  The work is called again for each try.  Where the database does not come back in time,
the outcome stays unknown, and that is said.
Errors: L{DatabaseFailed}: nothing was changed; L{OutcomeUnknown}.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tpops.db.mysql import Client, CommitLost, DatabaseFailed, Execute

_T = TypeVar("_T")

#: Errors after which the whole transaction, which counts for nothing, should be done again.
_AGAIN = frozenset(
    (
        1205,  # waited too long for a lock
        1213,  # a deadlock, or a conflict with another node of a cluster
        1020,  # MariaDB: the row has changed since it was read
        1047,  # Galera: the node is not ready
        3101,  # MySQL: group replication has rolled it back
        3572,
    )
)

#: How often it is tried.
TRIES = 12

#: Longest pause between two tries, in seconds; the first ones are shorter.
_PAUSE_SECONDS = 0.5


class OutcomeUnknown(DatabaseFailed):
    """The connection was lost while a transaction was being completed, and the database cannot be asked."""


class Changes:
    """
    See the module.

    @param patience_seconds: how long is tried
    @param seconds: the time
    @param pause: waits for so many seconds
    """

    def __init__(
        self,
        patience_seconds: float,
        seconds: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience = patience_seconds
        self._seconds = seconds
        self._pause = pause

    def make(self, client: Client, work: Callable[[Execute], _T], landed: Callable[[Execute], bool]) -> _T | None:
        """
        Do the work in a transaction.

        @param work: is given what runs statements
        @param landed: finds out, in a transaction of its own, whether the work counts.  It has to lock a row that the
            work has locked, so that it waits for a transaction that is not over yet
        @return: what the work gave; None where only C{landed} could tell that it counts
        """
        until = self._seconds() + self._patience
        for tried in range(TRIES):
            try:
                return client.transaction(work)
            except CommitLost as lost:
                if self._look(client, landed, lost):
                    return None
                raise DatabaseFailed(f"{lost}; nothing was changed", lost.number) from None
            except DatabaseFailed as failed:
                if failed.number not in _AGAIN or tried + 1 == TRIES or self._seconds() >= until:
                    raise
            self._rest(tried)
        raise AssertionError("unreachable")

    def _look(self, client: Client, landed: Callable[[Execute], bool], lost: CommitLost) -> bool:
        """Whether what was being completed counts."""
        until = self._seconds() + self._patience
        tried = 0
        while True:
            try:
                return client.transaction(landed)
            except DatabaseFailed as failed:
                if self._seconds() >= until:
                    raise OutcomeUnknown(f"{lost}, and whether it counts is unknown: {failed}") from None
            self._rest(tried)
            tried += 1

    def _rest(self, tried: int) -> None:
        """A pause, a different one for each who runs into the other."""
        longest = min(_PAUSE_SECONDS, 0.01 * 2 ** min(tried, 10))
        self._pause(random.uniform(longest / 2, longest))  # noqa: S311  # no secret
