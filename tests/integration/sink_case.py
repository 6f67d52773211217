"""What the tests of sinks share."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import RunningServer
from tests.integration.wire import Wire


class SinkCase(SynchronousTestCase):
    """Starts servers with sinks."""

    timeout = 240

    def quit(self, wire: Wire) -> None:
        """End a session in peace."""
        wire.send(b"QUIT\r\n")
        self.assertTrue(wire.rest().startswith(b"+OK"))

    def poll(self, server: RunningServer, user: str) -> None:
        """Log in and out."""
        self.quit(server.session(user, "secret"))

    def server(self, *sinks: dict[str, Any], **tables: Any) -> RunningServer:
        """A server for joe and ann."""
        return RunningServer(self, users={"joe": "secret", "ann": "secret"}, sink=list(sinks), **tables).start()
