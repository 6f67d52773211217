"""What the driver of mail in MySQL does around its schema: who waits, what is released, what is renewed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tpops.db.mysql import DatabaseFailed
from tpops.errors import MaildropBroken, MaildropBusy, RemoveFailed, StorageUnavailable
from tpops.mailbox.mysql import MySQLDriver, MySQLOptions
from tpops.mailbox.mysql_schema import LockLost
from tpops.mailbox.snapshot import Snapshot
from tpops.model import Account

JOE = Account("joe", "test")

LISTING = Snapshot.of([5], [b"a"], [b"1"])


class Held:
    """A mailbox that somebody has."""

    mailbox = 1


class Tables:
    """
    A schema that writes down what it is asked.

    @ivar problem: raised by whatever is asked next, if it is there
    """

    lease_seconds = 30

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.free = True
        self.problem: Exception | None = None

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem

    def key(self, name: str) -> bytes:
        """The name."""
        return name.encode()

    def take(self, client: Any, until: float, name: str) -> Held | None:
        """A mailbox, while there is one."""
        self._ask("take")
        return Held() if self.free else None

    def listing(self, client: Any, until: float, held: Held, kept: Any) -> Any:
        """One message."""
        self._ask("listing")
        return (1,), LISTING

    def remove(self, client: Any, held: Held, places: Sequence[bytes]) -> None:
        """Nothing."""
        self._ask("remove")

    def renew(self, client: Any, until: float, held: Sequence[Held]) -> None:
        """Nothing."""
        self._ask(f"renew {len(held)}")

    def release(self, client: Any, until: float | None, held: Held) -> None:
        """Nothing."""
        self._ask("release")


class Later:
    """A pool whose work is done when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[..., Any], Deferred[Any]]] = []
        self.stopped = False
        self.at_once = True

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """Take note."""
        self.stopped = True

    def run(self, work: Callable[..., Any], to_the_end: bool = False) -> Deferred[Any]:
        """See tpops.db.mysql_pool.Pool."""
        if self.at_once:
            return maybeDeferred(work, None, 0.0)
        answer: Deferred[Any] = Deferred()
        self.waiting.append((work, answer))
        return answer

    def go(self) -> None:
        """Do what waits."""
        waiting, self.waiting = self.waiting, []
        for work, answer in waiting:
            maybeDeferred(work, None, 0.0).chainDeferred(answer)


class DriverTests(SynchronousTestCase):
    """One process."""

    def setUp(self) -> None:
        self.pool, self.tables, self.clock = Later(), Tables(), Clock()
        options = MySQLOptions(lock_wait_seconds=1.0, stop_seconds=2.0)
        tables: Any = self.tables
        self.driver = MySQLDriver(options, tables, lambda: self.pool, self.clock)
        self.driver.start()

    def opening(self) -> Deferred[Any]:
        """A session that begins."""
        return Deferred.fromCoroutine(self.driver.open_at(JOE, b"joe"))

    def opened(self) -> Any:
        """A session."""
        return self.successResultOf(self.opening())

    def close(self, session: Any) -> None:
        """It ends."""
        self.successResultOf(Deferred.fromCoroutine(session.close()))

    def test_second_session_waits(self) -> None:
        """Promise: sessions of one process wait for each other without asking the database."""
        first = self.opened()
        second, third = self.opening(), self.opening()
        self.clock.advance(0.5)
        self.assertEqual(self.tables.asked, ["take", "listing"])
        self.close(first)
        self.clock.advance(0.3)
        self.successResultOf(second)
        self.clock.advance(0.3)
        self.failureResultOf(third, MaildropBusy)

    def test_session_elsewhere_is_waited_for(self) -> None:
        """Promise: the database is asked again until the time is up."""
        self.tables.free = False
        waiting = self.opening()
        for _ in range(4):
            self.clock.advance(0.25)
        self.failureResultOf(waiting, MaildropBusy)
        self.assertGreater(self.tables.asked.count("take"), 2)
        self.tables.free = True
        self.close(self.opened())

    def test_cancelled_while_it_is_locked(self) -> None:
        """Promise: what was taken for nobody is released, and the next one gets it."""
        self.pool.at_once = False
        opening = self.opening()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.pool.go()
        self.pool.at_once = True
        self.pool.go()
        self.assertEqual(self.tables.asked, ["take", "listing", "release"])
        self.opened()

    def test_cancelled_and_failed(self) -> None:
        """Promise: the same where nothing could be taken."""
        self.pool.at_once = False
        opening = self.opening()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.tables.problem = DatabaseFailed("gone")
        self.pool.go()
        self.pool.at_once = True
        self.opened()

    def test_cancelled_while_it_waits(self) -> None:
        """Promise: nothing is left of who waited for another session."""
        self.opened()
        opening = self.opening()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.clock.advance(0.3)
        self.assertEqual(self.tables.asked, ["take", "listing"])

    def test_listing_fails(self) -> None:
        """Promise: the lock goes, and the reason is told; a table that is missing wants an administrator."""
        for number, error in ((0, StorageUnavailable), (1146, MaildropBroken), (1290, MaildropBroken)):
            taken = self.tables.asked.count("release")
            self.tables.take = self._failing_later(number)  # type: ignore[method-assign]
            self.failureResultOf(self.opening(), error)
            self.assertEqual(self.tables.asked.count("release"), taken + 1)

    def _failing_later(self, number: int) -> Callable[..., Held]:
        def take(*_: object) -> Held:
            self.tables.problem = DatabaseFailed("no", number)
            return Held()

        return take

    def test_release_that_fails(self) -> None:
        """Promise: close never raises; the mailbox can be taken again here."""
        session = self.opened()
        self.tables.problem = DatabaseFailed("gone")
        self.close(session)
        self.close(session)
        self.close(self.opened())
        self.assertEqual(self.tables.asked.count("release"), 2)

    def test_close_that_is_cancelled(self) -> None:
        """Promise: the lock is released all the same."""
        session = self.opened()
        self.pool.at_once = False
        closing = Deferred.fromCoroutine(session.close())
        closing.cancel()
        self.failureResultOf(closing, CancelledError)
        self.pool.go()
        self.assertEqual(self.tables.asked[-1], "release")

    def test_renewal(self) -> None:
        """Promise: locks are renewed, all at once, while there are any, also after that has failed."""
        sessions = [self.opened(), self.successResultOf(Deferred.fromCoroutine(self.driver.open_at(JOE, b"ann")))]
        self.tables.problem = DatabaseFailed("gone")
        for _ in range(2):
            self.clock.advance(10)
        self.assertEqual(self.tables.asked[4:], ["renew 2"] * 2)
        for session in sessions:
            self.close(session)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_removal_fails(self) -> None:
        """Promise: a lost lock or database is RemoveFailed, for all of them; nothing to remove asks nobody."""
        session = self.opened()
        self.successResultOf(Deferred.fromCoroutine(session.remove([])))
        for problem in (LockLost("another"), DatabaseFailed("gone")):
            self.tables.problem = problem
            failed = self.failureResultOf(Deferred.fromCoroutine(session.remove([1])), RemoveFailed)
            self.assertEqual(list(failed.value.kept), [1])

    def test_stop(self) -> None:
        """Promise: a stop waits for what is released, and not for ever; without a start there is nothing."""
        session = self.opened()
        self.pool.at_once = False
        Deferred.fromCoroutine(session.close())
        stopping = Deferred.fromCoroutine(self.driver.stop())
        self.clock.advance(0.1)
        self.assertNoResult(stopping)
        self.pool.go()
        self.clock.advance(0.1)
        self.successResultOf(stopping)
        self.assertTrue(self.pool.stopped)
        self.pool.at_once = True
        self.opened()
        stopping = Deferred.fromCoroutine(self.driver.stop())
        for _ in range(150):
            self.clock.advance(0.02)
        self.successResultOf(stopping)
        tables: Any = self.tables
        idle = MySQLDriver(MySQLOptions(), tables, lambda: self.pool, self.clock)
        self.failureResultOf(Deferred.fromCoroutine(idle.open_at(JOE, b"joe")), StorageUnavailable)
        self.successResultOf(Deferred.fromCoroutine(idle.stop()))
