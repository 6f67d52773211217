"""Who guesses waits longer and longer; who has an old password does not."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tpops.policy import memory
from tpops.policy.memory import FORGET_SECONDS, Memory
from tpops.policy.penalties import Penalties


class PenaltyTests(SynchronousTestCase):
    """Seconds that failed logins last."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.memory = Memory()
        self.penalties = Penalties(2, 15, self.clock.seconds, self.memory)

    def test_doubles_for_one_client(self) -> None:
        """Promise: 2 seconds, doubled by each failure, 15 at most, whatever names are tried."""
        waits = [self.penalties.failed("192.0.2.1", b"user%d" % number, b"x") for number in range(5)]
        self.assertEqual(waits, [2, 4, 8, 15, 15])

    def test_doubles_for_one_name_from_many_clients(self) -> None:
        """Promise: a name that is guessed from everywhere is slowed down as well."""
        waits = [self.penalties.failed(f"192.0.2.{number}", b"joe", b"x%d" % number) for number in range(5)]
        self.assertEqual(waits, [2, 4, 8, 15, 15])
        self.assertEqual(self.penalties.failed("198.51.100.1", b"jim", b"x"), 2)

    def test_the_same_wrong_password_again_does_not_count(self) -> None:
        """Promise: a mail program with an old password waits as at first, also with a few of them in turn."""
        for _ in range(10):
            self.assertEqual(self.penalties.failed("192.0.2.1", b"joe", b"old"), 2)
        self.assertEqual(self.penalties.failed("192.0.2.1", b"joe", b"older"), 4)
        for wrong in (b"old", b"older") * 5:
            self.assertEqual(self.penalties.failed("192.0.2.1", b"joe", wrong), 4)

    def test_name_and_password_are_not_confused(self) -> None:
        """Promise: the same password for another name is another try."""
        self.penalties.failed("192.0.2.1", b"a", b"bc")
        self.assertEqual(self.penalties.failed("192.0.2.1", b"ab", b"c"), 4)

    def test_forgets_after_a_while(self) -> None:
        """Promise: five minutes without a failure, and it begins anew."""
        for number in range(4):
            self.penalties.failed("192.0.2.1", b"joe", b"%d" % number)
        self.clock.advance(FORGET_SECONDS + 1)
        self.assertEqual(self.penalties.failed("192.0.2.1", b"joe", b"x"), 2)

    def test_memory_is_bounded(self) -> None:
        """Promise: however many clients and names there are; the oldest goes first, no password is kept."""
        self.patch(memory, "MOST_ENTRIES", 10)
        for number in range(50):
            self.penalties.failed(f"c{number}", b"n%d" % number, b"geheim%d" % number)
        self.assertEqual(len(self.memory.clients), 10)
        self.assertEqual(len(self.memory.names), 10)
        self.assertNotIn("geheim", repr(self.memory.names))
        self.assertEqual(self.penalties.failed("c0", b"n0", b"geheim0"), 2)
        for number in range(100):
            self.penalties.failed("c0", b"n0", b"%d" % number)
        self.assertEqual(self.penalties.failed("c0", b"n0", b"x"), 15)

    def test_limits_in_the_wrong_order(self) -> None:
        """Promise: a maximum below the first delay is the first delay."""
        self.assertEqual(Penalties(5, 1, self.clock.seconds, self.memory).failed("c", b"n", b"x"), 5)
        self.assertEqual(Penalties(0, 15, self.clock.seconds, self.memory).failed("c", b"n", b"x"), 0)
