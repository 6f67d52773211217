"""L{tpops.policy.shared}: what several processes remember together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tpops.errors import LimitReached
from tpops.interfaces import ITicket
from tpops.policy import shared
from tpops.policy.memory import FORGET_SECONDS, Memory
from tpops.policy.shared import SharedMemory, Table

SECRET = b"s" * 32

#: Takes as many places as it gets, says how many, gives back what it is told to, and waits.
PROGRAM = """
import sys
from tpops.errors import LimitReached
from tpops.policy.shared import SharedMemory, Table

memory = SharedMemory(Table(int(sys.argv[1])), int(sys.argv[2]), b"s" * 32)
most = int(sys.argv[3])
print("begun", flush=True)
sys.stdin.readline()
places = []
refused = 0
for _ in range(2000):
    try:
        places.append(memory.enter("192.0.2.1", 0, most))
    except LimitReached:
        refused += 1
        if places and refused % 3 == 0:
            places.pop().release()
print(len(places), flush=True)
sys.stdin.readline()
"""


class SharedCase(SynchronousTestCase):
    """Two workers in one process."""

    def setUp(self) -> None:
        self.table = Table(shared.make())
        self.addCleanup(self.table.close)
        for row in range(3):
            self.table.clear(row)
        self.one, self.two = (SharedMemory(self.table, row, SECRET) for row in range(2))


class ConnectionTests(SharedCase):
    """Places."""

    def test_all_together(self) -> None:
        """Promise: a place that one worker gave is taken for the other."""
        ticket = self.one.enter(None, 2, 0)
        self.assertTrue(verifyObject(ITicket, ticket))
        self.two.enter(None, 2, 0)
        self.assertEqual(self.one.open_connections, 2)
        refused = self.assertRaises(LimitReached, self.two.enter, None, 2, 0)
        self.assertEqual((refused.limit, str(refused)), ("connections", "2 connections, at most 2"))
        ticket.release()
        ticket.release()
        self.assertEqual(self.one.open_connections, 1)
        self.two.enter(None, 2, 0)

    def test_of_one_client(self) -> None:
        """Promise: counted over all workers; other clients have places of their own."""
        tickets = [memory.enter("192.0.2.1", 0, 3) for memory in (self.one, self.two, self.one)]
        refused = self.assertRaises(LimitReached, self.two.enter, "192.0.2.1", 0, 3)
        self.assertEqual(str(refused), "3 connections from 192.0.2.1, at most 3")
        self.assertEqual(refused.limit, "connections_per_address")
        self.one.enter("192.0.2.2", 0, 3)
        tickets[0].release()
        self.two.enter("192.0.2.1", 0, 3)
        self.assertEqual(self.two.open_connections, 4)

    def test_random_histories(self) -> None:
        """Promise: whoever comes and goes in whatever order, the counts are those of one process."""
        import random

        chance = random.Random(7)
        memory = Memory()
        pairs: list[tuple[ITicket, ITicket]] = []
        for _ in range(3000):
            if pairs and chance.random() < 0.45:
                for ticket in pairs.pop(chance.randrange(len(pairs))):
                    ticket.release()
                continue
            key = f"10.0.0.{chance.randrange(8)}"
            worker = chance.choice((self.one, self.two))
            outcomes: list[Any] = []
            for one in (memory, worker):
                try:
                    outcomes.append(one.enter(key, 40, 7))
                except LimitReached as refused:
                    outcomes.append(str(refused))
            if isinstance(outcomes[0], str):
                self.assertEqual(outcomes[0], outcomes[1])
            else:
                pairs.append((outcomes[0], outcomes[1]))
            self.assertEqual(memory.open_connections, worker.open_connections)

    def test_of_one_user(self) -> None:
        """Promise: sessions of a user, and those of him at an address, are counted over all workers."""
        tickets = [memory.enter_user("joe", "192.0.2.1", 3, 2) for memory in (self.one, self.two)]
        refused = self.assertRaises(LimitReached, self.two.enter_user, "joe", "192.0.2.1", 3, 2)
        self.assertEqual(str(refused), "2 connections of joe from 192.0.2.1, at most 2")
        self.one.enter_user("joe", None, 3, 2)
        refused = self.assertRaises(LimitReached, self.two.enter_user, "joe", "192.0.2.2", 3, 2)
        self.assertEqual((refused.limit, str(refused)), ("connections_per_user", "3 connections of joe, at most 3"))
        self.one.enter_user("ann", "192.0.2.1", 3, 2)
        tickets[1].release()
        tickets[1].release()
        self.two.enter_user("joe", "192.0.2.1", 3, 2)
        self.assertEqual(self.one.open_connections, 0)
        for _ in range(5):
            self.one.enter("192.0.2.1", 0, 5)
        self.table.clear(0)
        for _ in range(2):
            self.two.enter_user("joe", None, 3, 2)
        self.assertRaises(LimitReached, self.two.enter_user, "joe", None, 3, 2)

    def test_random_sessions_of_users(self) -> None:
        """Promise: whatever the order, with connections in between, the counts are those of one process."""
        import random

        chance = random.Random(11)
        memory = Memory()
        pairs: list[tuple[ITicket, ITicket]] = []
        for _ in range(2000):
            if pairs and chance.random() < 0.45:
                for ticket in pairs.pop(chance.randrange(len(pairs))):
                    ticket.release()
                continue
            user, client = chance.choice("abc"), chance.choice(("192.0.2.1", "192.0.2.2", None))
            worker = chance.choice((self.one, self.two))
            worker.enter(None, 0, 0)
            outcomes: list[Any] = []
            for one in (memory, worker):
                try:
                    outcomes.append(one.enter_user(user, client, 8, 4))
                except LimitReached as refused:
                    outcomes.append(str(refused))
            if isinstance(outcomes[0], str):
                self.assertEqual(outcomes[0], outcomes[1])
            else:
                pairs.append((outcomes[0], outcomes[1]))
                self.assertNotIsInstance(outcomes[1], str)

    def test_dead_worker(self) -> None:
        """Promise: its places are free when its row is cleared, and the row can be had again."""
        for _ in range(5):
            self.one.enter("192.0.2.1", 0, 6)
        self.two.enter("192.0.2.1", 0, 6)
        self.assertRaises(LimitReached, self.two.enter, "192.0.2.1", 0, 6)
        self.table.clear(0)
        self.assertEqual(self.two.open_connections, 1)
        again = SharedMemory(self.table, 0, SECRET)
        for _ in range(5):
            again.enter("192.0.2.1", 0, 6)
        self.assertRaises(LimitReached, self.two.enter, "192.0.2.1", 0, 6)

    def test_more_than_a_worker_can_count(self) -> None:
        """Promise: refused, never miscounted."""
        self.patch(shared, "PLACES", 2)
        self.one.enter(None, 0, 0)
        self.one.enter(None, 0, 0)
        refused = self.assertRaises(LimitReached, self.one.enter, None, 0, 0)
        self.assertIn("in one worker", str(refused))
        self.assertEqual(self.one.open_connections, 2)


class ProcessTests(SharedCase):
    """Real processes at the same time."""

    def start(self, row: int, most: int) -> subprocess.Popen[str]:
        """A worker that waits for its beginning."""
        descriptor = self.table.descriptor
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(descriptor), str(row), str(most)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[descriptor],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def test_limit_is_exact(self) -> None:
        """Promise: four processes that take and give back all the time never have more than the limit together."""
        processes = [self.start(row, 50) for row in range(4)]
        self.table.clear(3)
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        taken = []
        for process in processes:
            assert process.stdout is not None
            taken.append(int(process.stdout.readline()))
        self.assertEqual(list(self.table.counts[:4]), taken)
        self.assertLessEqual(sum(taken), 50)
        self.assertGreaterEqual(sum(taken), 46)

    def test_lock_of_a_process_that_is_killed_or_stopped(self) -> None:
        """Promise: one that is stopped with the lock delays nobody for long; one that is killed has it no more."""
        code = (
            "import fcntl, sys, time\n"
            "fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX)\n"
            "print('locked', flush=True)\ntime.sleep(600)\n"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(self.table.descriptor)],
            stdout=subprocess.PIPE,
            pass_fds=[self.table.descriptor],
        )
        self.addCleanup(holder.communicate)
        self.addCleanup(holder.kill)
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        ticket = self.one.enter("192.0.2.1", 1, 1)
        self.assertEqual(self.one.open_connections, 0)
        ticket.release()
        self.assertIsNone(self.one.login("joe", 100.0, 60.0))
        self.assertEqual(self.one.failed("192.0.2.1", b"joe", b"x", 100.0), 1)
        holder.kill()
        holder.wait()
        self.one.enter("192.0.2.1", 1, 1)
        self.assertRaises(LimitReached, self.two.enter, "192.0.2.1", 1, 1)


class LoginTests(SharedCase):
    """The time between two logins."""

    def test_pause(self) -> None:
        """Promise: a login at one worker counts at the other; one that is refused does not."""
        self.assertIsNone(self.one.login("joe", 100.0, 60.0))
        self.assertEqual(self.two.login("joe", 130.0, 60.0), 30.0)
        self.assertIsNone(self.two.login("ann", 130.0, 60.0))
        self.assertIsNone(self.two.login("joe", 160.0, 60.0))
        self.assertEqual(self.one.login("joe", 161.0, 60.0), 1.0)

    def test_clock_set_back(self) -> None:
        """Promise: a login that lies in the future does not count."""
        self.one.login("joe", 1000.0, 60.0)
        self.assertIsNone(self.one.login("joe", 10.0, 60.0))

    def test_full(self) -> None:
        """Promise: where there is no room, the oldest login is forgotten."""
        self.patch(shared, "LOGIN_BUCKETS", 1)
        for number in range(shared.WAYS + 1):
            self.one.login(f"user{number}", 100.0 + number, 600.0)
        self.assertIsNone(self.one.login("user0", 110.0, 600.0))
        self.assertIsNotNone(self.one.login(f"user{shared.WAYS}", 110.0, 600.0))


class FailureTests(SharedCase):
    """Who guesses."""

    def test_counts(self) -> None:
        """Promise: failures of a client, or of a name, at all workers; the same wrong password counts once."""
        now = 100.0
        workers = (self.one, self.two) * 3
        counts = [one.failed("192.0.2.1", b"u%d" % number, b"x", now) for number, one in enumerate(workers)]
        self.assertEqual(counts, [1, 2, 3, 4, 5, 6])
        self.assertEqual([one.failed("192.0.2.9", b"joe", b"old", now) for one in workers], [1] * 6)
        counts = [one.failed(f"198.51.100.{number}", b"ann", b"%d" % number, now) for number, one in enumerate(workers)]
        self.assertEqual(counts, [1, 2, 3, 4, 5, 6])

    def test_few_old_passwords_in_turn(self) -> None:
        """Promise: as many as are remembered do not count again."""
        for _ in range(4):
            for wrong in (b"a", b"b", b"c"):
                count = self.one.failed("192.0.2.1", b"joe", wrong, 100.0)
        self.assertEqual(count, 3)

    def test_forgets(self) -> None:
        """Promise: five minutes without a failure, and it begins anew."""
        for number in range(4):
            self.one.failed("192.0.2.1", b"joe", b"%d" % number, 100.0)
        self.assertEqual(self.two.failed("192.0.2.1", b"joe", b"x", 101.0 + FORGET_SECONDS), 1)

    def test_no_secret_is_there(self) -> None:
        """Promise: neither names nor passwords nor addresses are in the memory."""
        self.one.enter("192.0.2.77", 0, 9)
        self.one.failed("192.0.2.77", b"geheimname", b"geheimwort", 100.0)
        self.one.login("geheimname", 100.0, 60.0)
        for text in (b"192.0.2.77", b"geheim"):
            self.assertEqual(self.table.memory.find(text), -1)
