"""What signals do to a server of one process."""

from __future__ import annotations

import os
import signal
import socket
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import USER, RunningServer, wait_until


class DrainTests(SynchronousTestCase):
    """TERM lets sessions come to their end."""

    timeout = 240

    def start(self, drain_seconds: float) -> RunningServer:
        """A server with two messages."""
        server = RunningServer(self, server={"drain_seconds": drain_seconds})
        for name in ("1.host", "2.host"):
            server.deliver(name, corpus.ALL["lf"])
        return server.start()

    def wait_closed(self, server: RunningServer) -> None:
        """Wait until nobody can connect."""

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), 5).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refused, "the port is closed")

    def test_sessions_go_on(self) -> None:
        """Promise: nobody is let in any more, whoever is in can finish, and the server ends with the last session."""
        server = self.start(3600)
        wire = server.session()
        os.kill(server.pid, signal.SIGTERM)
        self.wait_closed(server)
        self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(corpus.ALL["lf"]))
        self.assertTrue(wire.command(b"DELE 1").startswith(b"+OK"))
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        assert server.process is not None
        self.assertEqual(server.process.wait(60), -signal.SIGTERM)
        self.assertEqual(server.names(), {"2.host"})
        self.assertEqual(server.event("disconnect", user=USER)["reason"], "quit")

    def test_time_is_over(self) -> None:
        """RFC 1939 section 6: a session that is ended deletes nothing."""
        server = self.start(0.5)
        wire = server.session()
        wire.command(b"DELE 1")
        began = time.monotonic()
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertGreater(time.monotonic() - began, 0.4)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.names(), {"1.host", "2.host"})
        self.assertEqual([event["reason"] for event in server.events("disconnect")], ["server shutdown"])

    def check_second(self, number: int) -> None:
        """A second signal ends the waiting."""
        server = self.start(3600)
        wire = server.session()
        wire.command(b"DELE 1")
        os.kill(server.pid, signal.SIGTERM)
        self.wait_closed(server)
        self.assertEqual(wire.command(b"NOOP"), b"+OK")
        self.assertEqual(server.stop(number), -signal.SIGTERM)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.names(), {"1.host", "2.host"})
        self.assertNotIn("Traceback", server.output())

    def test_second_term(self) -> None:
        """Promise: now means now."""
        self.check_second(signal.SIGTERM)

    def test_interrupt_after_term(self) -> None:
        """Promise: INT does the same."""
        self.check_second(signal.SIGINT)

    def test_interrupt(self) -> None:
        """Promise: INT waits for nobody."""
        server = self.start(3600)
        wire = server.session()
        self.assertEqual(server.stop(signal.SIGINT), -signal.SIGINT)
        self.assertEqual(wire.rest(), b"")


class ReopenTests(SynchronousTestCase):
    """Logs after logrotate."""

    def check(self, number: int) -> None:
        """Lines go into a new file after the signal, and sessions go on."""
        server = RunningServer(self).start()
        wire = server.session()
        moved = server.directory / "moved"
        server.access_log.rename(moved)
        os.kill(server.pid, number)
        wait_until(server.access_log.exists, "the new file")
        wire.command(b"QUIT")
        wait_until(server.access, "the line")
        self.assertEqual(moved.read_bytes(), b"")

    def test_usr1(self) -> None:
        """Promise: USR1 opens the logs anew."""
        self.check(signal.SIGUSR1)

    def test_hup(self) -> None:
        """Promise: so does HUP, as logrotate knows it from other servers."""
        self.check(signal.SIGHUP)

    def test_output_of_twistd(self) -> None:
        """Promise: USR1 opens twistd's own log anew as well, at the same path."""
        server = RunningServer(self)
        log = server.directory / "twistd.log"
        configuration = str(server.configuration_file)
        server.launch("-n", "--pidfile=", "--logfile", str(log), "tpops", "--config", configuration)
        wait_until(lambda: log.exists() and "ready on" in log.read_text(), "it is ready")
        log.rename(server.directory / "moved")
        os.kill(server.pid, signal.SIGUSR1)
        wait_until(log.exists, "the new file")
        self.assertEqual(server.stop(), -signal.SIGTERM)
        self.assertIn("Server Shut Down", log.read_text())
        self.assertIn("ready on", (server.directory / "moved").read_text())
