"""Bandwidth: as much as allowed, no more, and the timers do not mind."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Client, Harness
from tpops.server.pace import Bandwidth, Bucket

BODY = b"Subject: big\n\n" + b"0123456789abcdef012345678901234\n" * 2000
WIRE = BODY.replace(b"\n", b"\r\n")


class BucketTests(SynchronousTestCase):
    """So much a second."""

    def test_one_second_at_once_then_as_fast_as_allowed(self) -> None:
        """Promise: over any time not more than the rate, and one second's worth."""
        clock = Clock()
        bucket = Bucket("x", 1000, clock.seconds)
        clock.advance(500)
        self.assertEqual([bucket.take(500) for _ in range(4)], [0, 0, 0.5, 1.0])
        clock.advance(1)
        self.assertEqual(bucket.take(500), 0.5)
        clock.advance(500)
        self.assertEqual([bucket.take(1000), bucket.take(1000)], [0, 1.0])


class PaceTests(SynchronousTestCase):
    """Sessions that are held back."""

    def harness(self, per_session: int = 0, together: int = 0, **settings: object) -> Harness:
        """A server with joe's big message; its clock has been running for a while."""
        harness = Harness({b"a": BODY}, **settings)
        harness.shared.bandwidth = Bandwidth(per_session, together, harness.clock.seconds)
        harness.clock.advance(10)
        return harness

    def received(self, harness: Harness, client: Client, line: bytes, seconds: float) -> list[bytes]:
        """What comes at once, and in each of the following seconds."""
        got = [client.say(line)]
        for _ in range(int(seconds)):
            for _ in range(100):
                harness.clock.advance(0.01)
            got.append(client.heard())
        return got

    def test_message(self) -> None:
        """Promise: smooth, whole, and neither idle timer nor write timer minds."""
        harness = self.harness(8192, idle_timeout_seconds=3, write_timeout_seconds=3)
        client = harness.logged_in()
        got = self.received(harness, client, b"RETR 1\r\n", 9)
        self.assertEqual(b"".join(got).partition(b"\r\n")[2], WIRE + b".\r\n")
        sizes = [len(one) for one in got]
        self.assertLessEqual(sizes[0], 8192 + 100)
        for size in sizes[1:7]:
            self.assertLessEqual(abs(size - 8192), 1024)
        self.assertFalse(client.closed)
        self.assertEqual(client.say(b"NOOP\r\n"), b"+OK\r\n")
        client.vanish()
        limits = [one for one in harness.events.details if one.startswith("octets_per_second_per_session: slowed down")]
        self.assertEqual(len(limits), 1)

    def test_top_and_listings(self) -> None:
        """Promise: they count, too; short ones again and again as well as a long one."""
        harness = self.harness(4096)
        client = harness.logged_in()
        got = self.received(harness, client, b"TOP 1 500\r\n", 5)
        self.assertLessEqual(len(got[0]), 4096 + 100)
        self.assertTrue(b"".join(got).endswith(b"\r\n.\r\n"))
        got = self.received(harness, client, b"UIDL\r\n" * 600, 5)
        self.assertEqual(b"".join(got).count(b"+OK"), 600)
        self.assertLessEqual(len(got[0]), 4096 + 100)
        self.assertLessEqual(max(map(len, got[1:])), 4096 + 1024)

    def test_long_listing(self) -> None:
        """Promise: a listing of many messages comes slice by slice."""
        harness = self.harness(16384)
        harness.stored.clear()
        harness.stored.update({b"%060d" % number: b"x\n" for number in range(1500)})
        client = harness.logged_in()
        got = self.received(harness, client, b"UIDL\r\n", 8)
        self.assertLessEqual(len(got[0]), 16384 + 100)
        self.assertEqual(b"".join(got).count(b"\r\n"), 1502)

    def test_all_sessions_together(self) -> None:
        """Promise: they share it, slice by slice; the log says which limit it was."""
        messages = {b"a": BODY}
        harness = self.harness(together=8192)
        first, second = Harness(messages), Harness(messages)
        for other in (first, second):
            other.clock = other.shared.clock = harness.clock
            other.shared.bandwidth = harness.shared.bandwidth
        clients = [first.logged_in(), second.logged_in()]
        got = [len(client.say(b"RETR 1\r\n")) for client in clients]
        self.assertLessEqual(sum(got), 8192 + 200)
        for _ in range(500):
            harness.clock.advance(0.01)
        later = [len(client.heard()) for client in clients]
        self.assertLessEqual(abs(sum(later) - 5 * 8192), 2048)
        self.assertLess(abs(later[0] - later[1]), 2 * 4096)
        clients[0].vanish()
        self.assertTrue(any(one.startswith("octets_per_second: slowed down by") for one in first.events.details))

    def test_client_that_goes_while_it_waits(self) -> None:
        """Promise: the maildrop is free at once, and nothing is left to be done."""
        harness = self.harness(1024)
        client = harness.logged_in()
        client.say(b"RETR 1\r\n")
        client.vanish()
        self.assertEqual(harness.realm.logouts, 1)
        self.assertEqual(harness.clock.getDelayedCalls(), [])

    def test_exempt_networks(self) -> None:
        """Promise: they get all at once."""
        harness = self.harness(1024, limits={"exempt": ("192.0.2.0/24",)})
        client = harness.connect(host="192.0.2.1")
        client.say(b"USER joe\r\nPASS secret\r\n")
        self.assertTrue(client.say(b"RETR 1\r\n").endswith(WIRE + b".\r\n"))
