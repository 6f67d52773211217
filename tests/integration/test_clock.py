"""The clock of the machine is set while a server runs."""

from __future__ import annotations

import time

from twisted.internet.pollreactor import PollReactor
from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.clock import Clock
from tests.integration.server import PASSWORD, RunningServer, wait_until
from tpops.process.steady import steady

DAY = 86_400


class ClockTests(SynchronousTestCase):
    """One process."""

    timeout = 240
    workers = 1

    def start(self, **protocol: float) -> RunningServer:
        """A server with a message; its clock is wrong when it is told so."""
        server = RunningServer(
            self, users={"joe": PASSWORD, "ann": PASSWORD}, protocol=protocol, server={"workers": self.workers}
        )
        server.deliver("1.host", corpus.ALL["lf"])
        self.clock = Clock(server.directory / "clock")
        return server.start(env=self.clock.environment)

    def test_forth(self) -> None:
        """RFC 1939 section 3: a session that was not idle for so long is not ended; mail that was marked goes."""
        server = self.start()
        wire = server.session()
        wire.command(b"DELE 1")
        self.clock.jump(DAY)
        for _ in range(8 * self.workers):
            # The server has something to do, and looks at its timers.
            other = server.session("ann")
            self.assertTrue(other.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(server.names(), set())

    def test_back(self) -> None:
        """Promise: who says nothing is sent away after idle_timeout_seconds all the same."""
        server = self.start(idle_timeout_seconds=2)
        wire = server.session()
        self.clock.jump(-DAY)
        wire.rest()
        self.assertEqual(server.event("disconnect", user="joe")["reason"], "idle")


class WorkersClockTests(ClockTests):
    """Several processes."""

    workers = 2


class SteadyTests(SynchronousTestCase):
    """A reactor and its timers."""

    def test_timers_that_were_set_before(self) -> None:
        """Promise: they ring when they should have, each once, in their order."""
        reactor = PollReactor()
        self.addCleanup(reactor.waker.connectionLost, None)
        rung: list[int] = []
        for number, seconds in ((2, 0.02), (1, 0.0), (3, DAY)):
            reactor.callLater(seconds, rung.append, number)
        steady(reactor)
        steady(reactor)
        last = max(reactor.getDelayedCalls(), key=lambda call: call.getTime())
        self.assertTrue(DAY - 60 < last.getTime() - time.monotonic() <= DAY)
        last.delay(1)

        def both() -> bool:
            reactor.runUntilCurrent()
            return rung == [1, 2]

        wait_until(both)
