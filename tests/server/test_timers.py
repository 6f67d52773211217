"""Limits in time: login, idle, session, and clients that do not read."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Client, Harness
from tpops.server.reasons import LIMITS


class TimerTests(SynchronousTestCase):
    """RFC 1939 §3: an autologout says nothing and removes nothing."""

    def assertEnds(self, harness: Harness, client: Client, reason: str) -> None:
        """It was closed silently, for this reason."""
        self.assertEqual(client.heard(), b"")
        self.assertTrue(client.closed)
        client.vanish()
        self.assertEqual(harness.events.sessions[-1].reason, reason)
        self.assertEqual(harness.events.details[harness.events.kinds.index("limit")], f"{LIMITS[reason]}: {reason}")
        self.assertEqual(harness.clock.getDelayedCalls(), [])

    def test_login_phase_is_limited(self) -> None:
        """Whatever the client says, it has to log in in time."""
        harness = Harness(login_timeout_seconds=60)
        client = harness.connect()
        for _ in range(5):
            harness.clock.advance(11)
            client.say(b"CAPA\r\n")
        self.assertFalse(client.closed)
        harness.clock.advance(6)
        self.assertEnds(harness, client, "login timeout")

    def test_login_that_takes_too_long_is_ended(self) -> None:
        """A verification that does not come back does not keep the connection."""
        harness = Harness(login_timeout_seconds=60)
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN)
        harness.clock.advance(61)
        self.assertTrue(client.closed)

    def test_idle_limit_counts_from_the_last_command(self) -> None:
        """600 seconds by default; each command starts it again."""
        harness = Harness()
        client = harness.logged_in()
        for _ in range(4):
            harness.clock.advance(599)
            self.assertEqual(client.say(b"NOOP\r\n"), b"+OK\r\n")
        harness.clock.advance(599)
        self.assertFalse(client.closed)
        harness.clock.advance(2)
        self.assertEnds(harness, client, "idle")

    def test_idle_limit_shorter_than_the_login_limit(self) -> None:
        """The timer is set anew at login where that is needed."""
        harness = Harness(idle_timeout_seconds=5, login_timeout_seconds=100)
        client = harness.logged_in()
        harness.clock.advance(6)
        self.assertEnds(harness, client, "idle")

    def test_session_limit_holds_whatever_the_client_does(self) -> None:
        """TPOPS' ConnectionKeepTime."""
        harness = Harness(session_max_seconds=100)
        client = harness.logged_in()
        for _ in range(10):
            harness.clock.advance(9.9)
            client.say(b"NOOP\r\n")
        harness.clock.advance(2)
        self.assertTrue(client.closed)
        client.vanish()
        self.assertEqual(harness.events.sessions[-1].reason, "session limit")

    def test_client_that_does_not_read_is_cut_off(self) -> None:
        """Only its not reading counts, not its silence."""
        harness = Harness(write_timeout_seconds=50)
        client = harness.logged_in()
        client.server.pauseProducing()
        harness.clock.advance(49)
        client.server.resumeProducing()
        harness.clock.advance(500)
        self.assertFalse(client.closed)
        client.server.pauseProducing()
        harness.clock.advance(51)
        self.assertTrue(client.closed)
        client.vanish()
        self.assertEqual(harness.events.sessions[-1].reason, "write stalled")

    def test_client_that_reads_slowly_is_not_cut_off(self) -> None:
        """Any octet that it takes counts, even when the transport has no room for more yet."""
        harness = Harness(write_timeout_seconds=50)
        client = harness.logged_in()
        left = [1000000]
        client.transport.unsent = lambda: left[0]
        client.server.pauseProducing()
        for _ in range(5):
            left[0] -= 1
            harness.clock.advance(51)
            self.assertFalse(client.closed)
        harness.clock.advance(51)
        self.assertTrue(client.closed)

    def test_client_that_does_not_read_the_last_reply_is_cut_off(self) -> None:
        """A connection that we have closed does not stay because of it."""
        harness = Harness(write_timeout_seconds=50)
        client = harness.logged_in()
        client.say(b"QUIT\r\n")
        aborted: list[bool] = []
        client.transport.abortConnection = lambda: aborted.append(True)
        harness.clock.advance(181)
        self.assertEqual(aborted, [True])

    def test_limits_of_zero_are_none(self) -> None:
        """Then there is no timer at all."""
        harness = Harness(
            login_timeout_seconds=0, idle_timeout_seconds=0, session_max_seconds=0, write_timeout_seconds=0
        )
        client = harness.logged_in()
        client.server.pauseProducing()
        self.assertEqual(harness.clock.getDelayedCalls(), [])
        client.vanish()

    def test_twisted_name_of_the_idle_limit(self) -> None:
        """TimeoutMixin's timeoutConnection does the same."""
        harness = Harness()
        client = harness.logged_in()
        client.server.timeoutConnection()
        self.assertEnds(harness, client, "idle")
