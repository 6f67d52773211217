"""tpops.cred.turns: how many at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.turns import MOST_SECONDS, MOST_WAITING, Turns
from tpops.errors import LookupUnavailable


class TurnsTests(SynchronousTestCase):
    """Two turns."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns("source", 2, self.clock)

    def take(self) -> Deferred[None]:
        """Ask for a turn."""
        return Deferred.fromCoroutine(self.turns.take())

    def test_in_order(self) -> None:
        """Promise: two at once; who comes later gets his turn in order."""
        first, second, third, fourth = (self.take() for _ in range(4))
        for taken in (first, second):
            self.successResultOf(taken)
        self.assertNoResult(third)
        self.turns.give()
        self.successResultOf(third)
        self.assertNoResult(fourth)
        for _ in range(3):
            self.turns.give()
        self.successResultOf(fourth)
        for _ in range(2):
            self.successResultOf(self.take())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_not_too_long(self) -> None:
        """Promise: who waits too long is told so, and takes no turn from the next."""
        self.take(), self.take()
        late = self.take()
        self.clock.advance(MOST_SECONDS / 2)
        next_one = self.take()
        self.clock.advance(MOST_SECONDS / 2)
        self.failureResultOf(late, LookupUnavailable)
        self.turns.give()
        self.successResultOf(next_one)

    def test_not_too_many(self) -> None:
        """Promise: the queue is bounded."""
        waiting = [self.take() for _ in range(MOST_WAITING + 2)]
        self.failureResultOf(self.take(), LookupUnavailable)
        self.assertNoResult(waiting[-1])

    def test_cancelled(self) -> None:
        """Promise: who does not want it any more leaves the queue."""
        self.take(), self.take()
        waits, after = self.take(), self.take()
        waits.addErrback(lambda _: None)
        waits.cancel()
        self.turns.give()
        self.successResultOf(after)
