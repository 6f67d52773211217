"""Connections for the reactor: threads that are stuck cost their own logins only."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_pool import Pool
from tpops.db.mysql_servers import Access, Server

_NOBODY = Server(path="/nowhere/at/all")


class PoolTests(TestCase):
    """The pool with work that touches no server; see tests/integration/test_mysql_faults.py for real ones."""

    timeout = 60

    def pool(self, connections: int, seconds: float = 40.0) -> Pool:
        """A pool that has started."""
        from twisted.internet import reactor

        pool = Pool(Access((_NOBODY,), "", "", "", timeout_seconds=seconds), connections, reactor)
        pool.start()
        self.addCleanup(pool.stop)
        return pool

    async def test_the_client_that_was_used_last_is_used_next(self) -> None:
        """So that few connections are open when little happens."""
        pool = self.pool(3)
        used = [await pool.run(lambda client, until: client) for _ in range(4)]
        self.assertEqual(len({id(client) for client in used}), 1)

    async def test_so_many_at_once_and_no_more(self) -> None:
        """The others wait in line."""
        pool, go, running, most = self.pool(2), threading.Event(), set(), []

        def work(client: Client, until: float) -> int:
            running.add(client)
            most.append(len(running))
            go.wait(40)
            running.discard(client)
            return len(most)

        answers = [pool.run(work) for _ in range(6)]
        go.set()
        self.assertEqual(len(await gatherResults(answers)), 6)
        self.assertLessEqual(max(most), 2)

    async def test_whoever_waits_for_a_stuck_thread_is_answered(self) -> None:
        """In line or in a thread: the time is up for all, and the pool goes on afterwards."""
        pool, go = self.pool(1, 0.2), threading.Event()
        self.addCleanup(go.set)

        def stuck(client: Client, until: float) -> str:
            go.wait(40)
            return "late"

        for answer in [pool.run(stuck) for _ in range(3)]:
            failure = await self.assertFailure(answer, DatabaseFailed)
            self.assertEqual(str(failure), "no answer within 0.2 seconds")
        go.set()
        done = False
        while not done:
            try:
                done = await pool.run(lambda client, until: True)
            except DatabaseFailed:
                continue
        self.assertTrue(done)

    async def test_to_the_end(self) -> None:
        """Whoever changes something is told how it ended, however long that takes; waiting in line is limited."""
        pool, go = self.pool(1, 0.2), threading.Event()
        self.addCleanup(go.set)
        changing = pool.run(lambda client, until: go.wait(40), to_the_end=True)
        waiting = pool.run(lambda client, until: None, to_the_end=True)
        await self.assertFailure(waiting, DatabaseFailed)
        self.assertNoResult(changing)
        go.set()
        self.assertTrue(await changing)

    async def test_what_work_raises(self) -> None:
        """It is the answer."""

        def wrong(client: Client, until: float) -> None:
            raise ValueError("a strange row")

        failure = await self.assertFailure(self.pool(1).run(wrong), ValueError)
        self.assertEqual(str(failure), "a strange row")

    async def test_stop(self) -> None:
        """What waits fails at once, what comes later too."""
        pool, go = self.pool(1), threading.Event()
        begun: Deferred[Any] = pool.run(lambda client, until: go.wait(40))
        waiting = pool.run(lambda client, until: None)
        pool.stop()
        self.assertEqual(str(await self.assertFailure(waiting, DatabaseFailed)), "the server is shutting down")
        self.assertEqual(str(await self.assertFailure(pool.run(len), DatabaseFailed)), "not started")
        go.set()
        self.assertTrue(await begun)
