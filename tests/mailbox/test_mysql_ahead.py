"""How many messages are read together; see L{tpops.mailbox.mysql_ahead}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.mailbox.mysql_ahead import MOST_MESSAGES, MOST_OCTETS, Ahead, Budget
from tpops.mailbox.mysql_schema import FIRST_OCTETS


class AheadTests(SynchronousTestCase):
    """A session's."""

    def setUp(self) -> None:
        self.budget = Budget(1 << 20)

    def read(self, ahead: Ahead, number: int, octets: int = 10) -> int:
        """Read a message as a session does; how many were asked for, 0 when it was there."""
        if ahead.take(number) is not None:
            return 0
        asked = ahead.numbers(number)
        self.assertEqual(asked[0], number)
        ahead.keep(dict.fromkeys(asked[1:], (b"x" * octets, None)))
        return len(asked)

    def test_one_after_the_other(self) -> None:
        """Promise: twice as many each time, and no more than there are."""
        ahead = Ahead(self.budget, [10] * 100)
        asked = [count for count in (self.read(ahead, number) for number in range(1, 101)) if count]
        self.assertEqual(asked, [1, 2, 4, 8, 16, MOST_MESSAGES, MOST_MESSAGES, 5])
        self.assertEqual(self.budget.left, 1 << 20)

    def test_here_and_there(self) -> None:
        """Promise: who does not take the next one gets what he asks for; what was kept is let go."""
        ahead = Ahead(self.budget, [10] * 100)
        self.assertEqual([self.read(ahead, number) for number in (5, 6, 50, 3, 2)], [1, 2, 1, 1, 1])
        self.assertEqual(self.budget.left, 1 << 20)

    def test_twice(self) -> None:
        """Promise: a message that is asked for once more is read once more."""
        ahead = Ahead(self.budget, [10] * 100)
        self.assertEqual([self.read(ahead, number) for number in (1, 2, 3, 3, 4)], [1, 2, 0, 1, 2])

    def test_octets(self) -> None:
        """Promise: no more octets than the limit are asked for; a big message is none that is read ahead."""
        half = MOST_OCTETS // 4
        ahead = Ahead(self.budget, [half] * 20)
        self.assertEqual([self.read(ahead, number, half) for number in range(1, 9)], [1, 2, 0, 4, 0, 0, 0, 4])
        ahead.forget()
        self.assertEqual(self.budget.left, 1 << 20)
        ahead = Ahead(self.budget, [1, 1, FIRST_OCTETS + 1, 1])
        self.assertEqual([self.read(ahead, number) for number in range(1, 5)], [1, 1, 2, 0])

    def test_budget(self) -> None:
        """Promise: what all sessions keep stays within their memory, also when sizes are other than was said."""
        self.budget.left = 100
        first, second = Ahead(self.budget, [40] * 10), Ahead(self.budget, [40] * 10)
        self.assertEqual([self.read(first, number, 60) for number in (1, 2)], [1, 2])
        self.assertEqual(self.budget.left, 40)
        self.assertEqual([self.read(second, number, 60) for number in (1, 2)], [1, 1])
        self.assertEqual(self.budget.left, 40)
        first.forget()
        self.assertEqual(self.budget.left, 100)
        self.assertEqual([self.read(second, number, 200) for number in (3, 4)], [2, 2])
        self.assertEqual(self.budget.left, 100)
