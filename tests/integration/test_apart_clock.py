"""The clock of the machine is set while a session runs as the owner of the mail."""

from __future__ import annotations

from tests.integration.apart_case import ApartCase, sessions_of
from tests.integration.clock import Clock
from tests.integration.server import RunningServer

DAY = 86_400


class ClockTests(ApartCase):
    """The timers of a session's process."""

    def begin(self, idle_timeout_seconds: float) -> RunningServer:
        """A server whose clock is wrong when it is told so."""
        server = self.server(protocol={"idle_timeout_seconds": idle_timeout_seconds})
        self.clock = Clock(server.directory / "clock")
        return server.start(env=self.clock.environment)

    def test_forth(self) -> None:
        """RFC 1939 section 3: a session that was not idle for so long is not ended; mail that was marked goes."""
        wire = self.session(self.begin(600))
        self.assertEqual(wire.command(b"DELE 1"), b"+OK message 1 deleted")
        self.clock.jump(DAY)
        for _ in range(3):
            self.assertEqual(wire.command(b"NOOP"), b"+OK")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (0 messages left)")

    def test_back(self) -> None:
        """Promise: who says nothing is sent away after idle_timeout_seconds, and his process and lock are gone."""
        server = self.begin(2)
        wire = self.session(server)
        self.clock.jump(-DAY)
        wire.rest()
        self.assertEqual(server.event("disconnect", user=self.account.name)["reason"], "idle")
        sessions_of(server, 0)
        self.assertEqual(self.session(server).command(b"QUIT"), b"+OK bye (1 message left)")
