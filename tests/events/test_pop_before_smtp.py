"""L{tpops.events.pop_before_smtp}."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.db.relay import Login, StoreFailed
from tpops.events.pop_before_smtp import PopBeforeSMTP
from tpops.interfaces import IEventSink
from tpops.model import Event


class Store:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Login]] = []

    def record(self, logins: Sequence[Login]) -> None:
        """See IRelayStore."""
        self.batches.append(logins)


class SinkTests(SynchronousTestCase):
    """Logins are written down."""

    def setUp(self) -> None:
        self.store = Store()
        self.jobs: list[tuple[Deferred[Any], Callable[..., Any], Any]] = []
        self.sink = PopBeforeSMTP(self.store, self.run_in_thread, 64)  # type: ignore[arg-type]

    def run_in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Remember a job for later."""
        self.jobs.append((Deferred(), work, arguments))
        return self.jobs[-1][0]

    def finish(self, error: Exception | None = None) -> None:
        """Carry the oldest job out."""
        done, work, arguments = self.jobs.pop(0)
        work(*arguments)
        if error is None:
            done.callback(None)
        else:
            done.errback(error)

    def log_in(self, host: str = "192.0.2.7", user: str | None = "joe") -> Any:
        """What the bus gets for a login."""
        facts = session(user=user)
        facts.peer = attrs.evolve(facts.peer, host=host)
        return self.sink.notify(Event("login", MOMENT, facts))

    def test_provides_its_interface(self) -> None:
        """Promise: an IEventSink that the +OK of logins waits for."""
        self.assertTrue(verifyObject(IEventSink, self.sink))
        self.assertTrue(self.sink.before_ok)
        self.assertEqual(self.sink.wants, {"login"})

    def test_login_is_written_before_it_is_done(self) -> None:
        """Promise: address, user and time, in a thread."""
        done = self.log_in("::ffff:192.0.2.7")
        self.assertFalse(done.called)
        self.finish()
        self.assertEqual(self.successResultOf(done), None)
        self.assertEqual(self.store.batches, [(Login("192.0.2.7", "joe", int(MOMENT)),)])

    def test_ipv6_counts_for_a_network(self) -> None:
        """Promise: so many leading bits."""
        self.log_in("2001:db8:1:2:3::4")
        self.finish()
        self.assertEqual(self.store.batches[0][0].address, "2001:db8:1:2::/64")

    def test_client_without_an_address(self) -> None:
        """Promise: a UNIX socket, or a session without a user, opens nothing."""
        for host, user in (("/run/tpops.sock", "joe"), ("unix", "joe"), ("192.0.2.7", None)):
            self.assertIsNone(self.log_in(host, user))
        self.assertEqual(self.jobs, [])

    def test_master_user_opens_nothing(self) -> None:
        """Promise: who logs in as another cannot send as him afterwards."""
        facts = session(user="joe", named=b"joe", master=b"admin")
        self.assertIsNone(self.sink.notify(Event("login", MOMENT, facts)))
        self.assertEqual(self.jobs, [])

    def test_logins_during_a_write_are_written_together(self) -> None:
        """Promise: one write at a time; the same user from the same place once."""
        waiting = [self.log_in(f"192.0.2.{last}") for last in (1, 2, 3, 3)]
        self.assertEqual(len(self.jobs), 1)
        self.finish()
        self.assertEqual([one.called for one in waiting], [True, False, False, False])
        self.assertEqual(len(self.jobs), 1)
        self.finish()
        self.assertTrue(all(one.called for one in waiting))
        self.assertEqual([len(batch) for batch in self.store.batches], [1, 2])

    def test_failure_is_that_of_those_who_were_written(self) -> None:
        """Promise: all of a write fail, the next one has another chance."""
        first, second = self.log_in("192.0.2.1"), self.log_in("192.0.2.2")
        self.finish(StoreFailed("full"))
        self.failureResultOf(first, StoreFailed)
        self.finish()
        self.successResultOf(second)

    def test_who_does_not_wait_any_longer(self) -> None:
        """Promise: a cancelled wait changes nothing for the write."""
        done = self.log_in()
        done.cancel()
        self.failureResultOf(done)
        self.finish()
        self.assertEqual(len(self.store.batches), 1)

    def test_stop_waits_for_writes(self) -> None:
        """Promise: when stop has ended, no thread is in the store."""
        for last in (1, 2):
            self.log_in(f"192.0.2.{last}")
        stopped = Deferred.fromCoroutine(self.sink.stop())
        self.finish()
        self.assertFalse(stopped.called)
        self.finish()
        self.successResultOf(stopped)
        self.successResultOf(Deferred.fromCoroutine(self.sink.stop()))
