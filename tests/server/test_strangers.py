"""Clients that have not logged in: the oldest makes room."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Harness
from tpops.server.strangers import Strangers

GOODBYE = b"-ERR [SYS/TEMP] too many clients that have not logged in, closing the connection\r\n"


class StrangersTests(SynchronousTestCase):
    """RFC 3206 section 4: a later try may succeed."""

    def harness(self, most: int, **settings: object) -> Harness:
        """Parts of a server with so many strangers."""
        harness = Harness(**settings)
        harness.shared.strangers = Strangers(most)
        return harness

    def test_oldest_makes_room(self) -> None:
        """Promise: he is told why, the others stay, and the log names the limit."""
        harness = self.harness(2)
        first, second, third = (harness.connect() for _ in range(3))
        self.assertEqual(first.heard(), GOODBYE)
        self.assertTrue(first.closed)
        first.vanish()
        self.assertEqual(harness.events.sessions[-1].reason, "made room for a newer client")
        self.assertIn("unauthenticated_connections: made room for a newer client", harness.events.details)
        self.assertEqual((second.closed, third.closed), (False, False))
        harness.clock.advance(5)
        self.assertEqual((second.closed, third.closed), (False, False))

    def test_who_does_not_take_the_last_word_is_cut_off(self) -> None:
        """Promise: nobody keeps his connection by not reading, or by not ending TLS."""
        harness = self.harness(1)
        first, second = harness.connect(), harness.connect()
        harness.clock.advance(1)
        self.assertTrue(first.transport.disconnected)
        second.server.pauseProducing()
        harness.connect()
        self.assertEqual(second.heard(), b"")
        self.assertTrue(second.transport.disconnected)

    def test_those_who_have_logged_in_or_gone_do_not_count(self) -> None:
        """Promise: a login, and an end of whatever kind, makes room."""
        harness = self.harness(1)
        joe = harness.logged_in()
        gone = harness.connect()
        gone.vanish()
        waiting = harness.connect()
        self.assertEqual((joe.closed, waiting.closed), (False, False))
        self.assertEqual(joe.say(b"NOOP\r\n"), b"+OK\r\n")
        harness.connect()
        self.assertTrue(waiting.closed)

    def test_login_that_is_under_way(self) -> None:
        """Promise: who makes room while his password is being looked at leaves no lock behind."""
        harness = self.harness(1)
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN)
        harness.connect()
        self.assertTrue(client.closed)
        client.vanish()
        assert harness.checker.waiting is not None
        harness.checker.waiting.callback(b"test:joe")
        self.assertEqual((harness.realm.logouts, harness.driver.locked), (1, set()))

    def test_no_limit(self) -> None:
        """Promise: 0 is any number."""
        harness = self.harness(0)
        clients = [harness.connect() for _ in range(90)]
        self.assertFalse(any(client.closed for client in clients))

    def test_exempt_networks(self) -> None:
        """Promise: who is exempt neither counts nor makes room."""
        harness = self.harness(1, limits={"exempt": ("192.0.2.0/24",)})
        exempt = [harness.connect(host="192.0.2.1") for _ in range(3)]
        other = harness.connect()
        harness.connect(host="192.0.2.1")
        self.assertFalse(any(client.closed for client in (other, *exempt)))
