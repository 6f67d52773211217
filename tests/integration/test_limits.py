"""Limits and timers of a running server: who is refused, with which words, and what the log says about it."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tests.integration.wire import Wire
from tests.support import need_root


class LimitCase(SynchronousTestCase):
    """Starts servers with one message."""

    timeout = 240

    def start(self, directory: Path | None = None, **tables: Any) -> RunningServer:
        """A server with this configuration."""
        server = RunningServer(self, directory, **tables)
        server.deliver("1.host", corpus.ALL["lf"])
        return server.start()


class ConnectionLimitTests(LimitCase):
    """How many may connect."""

    def check_refused(self, server: RunningServer, limit: str) -> None:
        """A further client is refused, and the log says which limit it was."""
        wire = server.connect()
        self.assertEqual(wire.rest(), b"-ERR [SYS/TEMP] too many connections, try again later\r\n")
        event = server.event("greeting-refused")
        self.assertTrue(event["detail"].startswith(f"{limit}: "), event)
        self.assertEqual(event["peer"], "127.0.0.1")
        self.assertEqual(server.event("disconnect", session=event["session"])["reason"], "refused")

    def check_slot_is_freed(self, server: RunningServer, wire: Wire) -> None:
        """When one goes, another one is let in."""
        server.json_log.write_bytes(b"")
        wire.close()
        server.event("disconnect", reason="client closed")
        self.assertTrue(server.connect().line().startswith(b"+OK"))

    def test_all_connections_together(self) -> None:
        """RFC 3206 section 4: [SYS/TEMP]; the slot is free again after a close."""
        server = self.start(limits={"connections": 2})
        wires = [server.connect() for _ in range(2)]
        for wire in wires:
            self.assertTrue(wire.line().startswith(b"+OK"))
        self.check_refused(server, "connections")
        self.check_slot_is_freed(server, wires[0])

    def test_connections_of_one_address(self) -> None:
        """RFC 3206 section 4: [SYS/TEMP]; another address has slots of its own."""
        server = self.start(
            limits={"connections_per_address": 1},
            listen=({"address": "127.0.0.1", "port": 0}, {"address": "::1", "port": 0}),
        )
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.check_refused(server, "connections_per_address")
        port = server.configuration["listen"][1]["port"]
        self.assertTrue(Wire.connect(self, ("::1", port)).line().startswith(b"+OK"))
        self.check_slot_is_freed(server, wire)

    def test_exempt_networks(self) -> None:
        """Promise: no limit per address and no pause between logins, but the limit of all together."""
        server = self.start(
            limits={
                "connections": 4,
                "connections_per_address": 1,
                "login_delay_seconds": 60,
                "exempt": ["192.0.2.0/24", "127.0.0.0/8"],
            }
        )
        for _ in range(4):
            wire = server.session()
            wire.command(b"QUIT")
        wires = [server.connect() for _ in range(4)]
        for wire in wires:
            self.assertTrue(wire.line().startswith(b"+OK"))
        self.check_refused(server, "connections")


class LoginTests(LimitCase):
    """Who gets in, and what the others are told."""

    def refusal(self, server: RunningServer, password: str = PASSWORD, user: str = USER) -> bytes:
        """What a new client is told after PASS."""
        wire = server.connect()
        wire.line()
        wire.command(b"USER " + user.encode())
        answer = wire.command(b"PASS " + password.encode())
        wire.send(b"QUIT\r\n")
        wire.rest()
        return answer

    def test_failed_logins_close_the_connection(self) -> None:
        """Promise: after auth_tries of them; unknown user and wrong password look the same and take the same time."""
        server = self.start(protocol={"auth_tries": 2, "auth_delay_seconds": 0.3})
        answers = []
        for user in (USER, "nobody-knows-her"):
            wire = server.connect()
            wire.line()
            for _ in range(2):
                wire.command(b"USER " + user.encode())
                began = time.monotonic()
                answers.append(wire.command(b"PASS wrong"))
                self.assertGreaterEqual(time.monotonic() - began, 0.29)
            self.assertEqual(wire.rest(), b"")
            event = server.event("disconnect", named=user)
            self.assertEqual((event["reason"], event["login_failures"]), ("authentication failed", 2))
        self.assertEqual(set(answers), {b"-ERR [AUTH] authentication failed"})
        self.assertNotIn("wrong", server.access_log.read_text())
        self.assertEqual([line.split()[5] for line in server.access()], [f"({USER})", "(nobody-knows-her)"])

    def test_pause_between_logins(self) -> None:
        """RFC 2449 section 8.1.1: [LOGIN-DELAY], as CAPA announces."""
        server = self.start(limits={"login_delay_seconds": 60})
        wire = server.session()
        self.assertIn(b"LOGIN-DELAY 60\r\n", wire.multi_line(b"CAPA")[1])
        wire.command(b"QUIT")
        self.assertTrue(self.refusal(server).startswith(b"-ERR [LOGIN-DELAY] "))
        server.event("login-refused")

    def test_locked_maildrop(self) -> None:
        """RFC 2449 section 8.1.2: [IN-USE] after the wait; within the wait the second session follows the first."""
        server = self.start(maildir={"lock_wait_seconds": 0.3})
        first = server.session()
        began = time.monotonic()
        self.assertTrue(self.refusal(server).startswith(b"-ERR [IN-USE] "))
        self.assertGreaterEqual(time.monotonic() - began, 0.29)
        first.close()
        server.configuration["maildir"]["lock_wait_seconds"] = 60.0
        server.restart()
        first = server.session()
        second = server.connect()
        second.line()
        second.send(b"USER %s\r\nPASS %s\r\nSTAT\r\n" % (USER.encode(), PASSWORD.encode()))
        second.line()
        self.assertTrue(first.command(b"DELE 1").startswith(b"+OK"))
        self.assertTrue(first.command(b"QUIT").startswith(b"+OK"))
        self.assertTrue(second.line().startswith(b"+OK joe has 0 messages"))
        self.assertEqual(second.line(), b"+OK 0 0")

    def test_missing_accounts_database(self) -> None:
        """RFC 3206 section 4: [SYS/TEMP], never a wrong password; it works again when the file is back."""
        server = RunningServer(self)
        server.deliver("1.host", corpus.ALL["lf"])
        server.configuration["accounts"] = [{"driver": "sqlite", "path": "gone.sqlite"}]
        server.start()
        self.assertTrue(self.refusal(server).startswith(b"-ERR [SYS/TEMP] "))
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "later"}]
        server.restart()
        self.assertTrue(self.refusal(server).startswith(b"-ERR [SYS/TEMP] "))
        shutil.copy(server.directory / "users", server.directory / "later")
        self.assertTrue(self.refusal(server).startswith(b"+OK joe has 1 message"))
        self.assertNotIn("Traceback", server.output())

    def test_unreadable_maildir(self) -> None:
        """RFC 3206 section 4: [SYS/PERM], never an empty listing."""
        need_root(self, "making a Maildir that the server must not read")
        directory = Path(tempfile.mkdtemp(prefix="tpops-limits-"))
        self.addCleanup(shutil.rmtree, directory)
        directory.chmod(0o777)
        server = RunningServer(self, directory, server={"user": "nobody"})
        server.deliver("1.host", corpus.ALL["lf"])
        new = server.maildir(part="new")
        server.start()
        new.chmod(0o700)
        self.assertTrue(self.refusal(server).startswith(b"-ERR [SYS/PERM] "))
        new.chmod(0o755)
        self.assertTrue(self.refusal(server).startswith(b"+OK joe has 1 message"))
        server.maildir().chmod(0o700)
        self.assertTrue(self.refusal(server).startswith(b"-ERR [SYS/PERM] "))
        self.assertNotIn("Traceback", server.output())


class TimerTests(LimitCase):
    """Timers end a session without a word and without deleting (RFC 1939 section 3)."""

    def test_idle(self) -> None:
        """
        RFC 1939 section 3: no UPDATE and no -ERR when time runs out; any command resets the timer.

        A second is against the RFC, so the server warns.
        """
        server = self.start(protocol={"idle_timeout_seconds": 1}, users={USER: PASSWORD, "ann": "secret"})
        self.assertIn("protocol.idle_timeout_seconds is 1; RFC 1939", server.output())
        active = server.session("ann", "secret")
        wire = server.session()
        wire.command(b"DELE 1")
        began = time.monotonic()
        while not server.events("disconnect") and time.monotonic() < began + 30:
            self.assertEqual(active.command(b"NOOP"), b"+OK")
            time.sleep(0.05)
        self.assertGreater(time.monotonic() - began, 0.5)
        self.assertEqual(wire.rest(), b"")
        self.assertEqual(server.event("disconnect", user=USER)["reason"], "idle")
        self.assertEqual(active.command(b"NOOP"), b"+OK")
        self.assertEqual(server.names(), {"1.host"})
        self.assertTrue(server.session().command(b"STAT").startswith(b"+OK 1 "))

    def test_login(self) -> None:
        """Promise: who does not log in is sent away, whatever else he says."""
        server = self.start(protocol={"login_timeout_seconds": 1})
        silent, busy = server.connect(), server.connect()
        silent.line()
        busy.line()
        began = time.monotonic()
        with self.assertRaises((EOFError, OSError)):
            while time.monotonic() < began + 30:
                busy.multi_line(b"CAPA")
                time.sleep(0.05)
        self.assertGreater(time.monotonic() - began, 0.5)
        self.assertEqual(silent.rest(), b"")
        wait_until(lambda: len(server.events("disconnect")) == 2)
        self.assertEqual({event["reason"] for event in server.events("disconnect")}, {"login timeout"})

    def test_session(self) -> None:
        """Promise: the whole session is bounded, also with commands all the time."""
        server = self.start(protocol={"session_max_seconds": 1})
        wire = server.session()
        self.assertTrue(wire.command(b"DELE 1").startswith(b"+OK"))
        with self.assertRaises((EOFError, OSError)):
            end = time.monotonic() + 30
            while time.monotonic() < end:
                wire.command(b"NOOP")
                time.sleep(0.05)
        self.assertEqual(server.event("disconnect")["reason"], "session limit")
        self.assertEqual(server.names(), {"1.host"})

    def test_clients_that_read_slowly_or_not_at_all(self) -> None:
        """Promise: who takes nothing is cut off, and the maildrop is free; who takes some now and then gets it all."""
        server = self.start(protocol={"write_timeout_seconds": 1}, users={USER: PASSWORD, "ann": "secret"})
        big = b"Subject: big\n\n" + b"line\n" * (4 << 20)
        server.deliver("2.host", big)
        server.deliver("2.host", big, user="ann")
        stalled = server.session(receive_octets=4096)
        stalled.command(b"DELE 1")
        stalled.send(b"RETR 2\r\n")
        slow = server.session("ann", "secret", receive_octets=65536)
        announced = len(corpus.wire(big))
        slow.send(b"RETR 1\r\n")
        self.assertEqual(slow.line(), b"+OK %d octets" % announced)
        began = time.monotonic()
        got = 0
        while not server.events("disconnect") and time.monotonic() < began + 30:
            if got < announced * 3 // 4:
                got += slow.more(131072)
            time.sleep(0.01)
        self.assertEqual(server.event("disconnect")["reason"], "write stalled")
        self.assertTrue(server.session().command(b"STAT").startswith(b"+OK 2 "))
        stalled.rest()
        self.assertEqual(len(slow.body()), announced)
        self.assertTrue(slow.command(b"QUIT").startswith(b"+OK"))
