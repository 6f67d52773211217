"""Maildrops on another server: what is lost when something dies, how much memory it takes, our own servers behind."""

from __future__ import annotations

import os
import subprocess

from tests.integration.dovecot import Dovecot
from tests.integration.proxy_case import ProxyCase
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program, wait_until

BIG = b"Subject: big\n\n" + b"0123456789abcdef" * 64 * 16384 + b"\n"


class OutageTests(ProxyCase):
    """The other server goes."""

    def setUp(self) -> None:
        """A server that may be ended."""
        self.dovecot = Dovecot()
        self.addCleanup(self.dovecot.remove)
        self.dovecot.start()

    def test_server_dies_in_the_middle(self) -> None:
        """Promise: killed in RETR, in a session and at QUIT, the other server loses no mail, and clients are told."""
        user = self.dovecot.user(b"Subject: one\n\nfirst\n", BIG)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        (in_retr,) = (server.session(user, "secret", receive_octets=4096),)
        in_retr.send(b"RETR 2\r\n")
        self.assertIn(b"+OK", in_retr.line())
        self.dovecot.kill()
        self.assertNotIn(b"\r\n.\r\n", in_retr.rest())
        self.dovecot.start()
        wire = self.in_session(server, user)
        wire.command(b"DELE 1")
        self.dovecot.kill()
        self.assertIn(b"[SYS/TEMP]", wire.command(b"RETR 2"))
        self.assertIn(b"+OK 1 ", wire.command(b"STAT"))
        self.assertEqual(wire.command(b"QUIT"), b"-ERR [SYS/TEMP] some deleted messages not removed")
        self.assertEqual(self.dovecot.stored(user), [b"Subject: one\n\nfirst\n", BIG])
        self.assertIn(b"[SYS/TEMP]", self.answer(server, user))
        self.dovecot.start()
        self.assertIn(b" 2 messages", self.answer(server, user))

    def test_server_dies_in_quit(self) -> None:
        """Promise: killed between our QUIT and its answer, the client is told that his messages may still be there."""
        user = self.dovecot.user(b"Subject: one\n\nfirst\n", b"Subject: two\n\nsecond\n")
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        wire = self.in_session(server, user)
        wire.command(b"DELE 1")
        self.dovecot.freeze()
        wire.send(b"QUIT\r\n")
        self.dovecot.kill()
        self.assertEqual(wire.line(), b"-ERR [SYS/TEMP] some deleted messages not removed")
        self.assertEqual(len(self.dovecot.stored(user)), 2)
        self.assertEqual(server.events("remove"), [])
        self.assertEqual(server.event("logout")["user"], user)

    def test_server_that_hangs(self) -> None:
        """Promise: a server that does not answer any more is given up, in a session and at a login."""
        user = self.dovecot.user(b"Subject: one\n\nfirst\n")
        server = self.behind(f"{user}:{{PLAIN}}secret::::::", proxy={"timeout_seconds": 0.5})
        wire = self.in_session(server, user)
        self.dovecot.freeze()
        self.assertIn(b"[SYS/TEMP]", wire.command(b"RETR 1"))
        self.assertIn(b"[SYS/TEMP]", self.answer(server, user))
        self.assertIn("no answer within 0.5 seconds", server.event("login-refused")["detail"])


class ClientTests(ProxyCase):
    """The client goes, or is slow."""

    def test_client_gone_in_the_middle_of_a_message(self) -> None:
        """Promise: the session there ends at once, and its lock with it; nothing is removed."""
        user = self.dovecot.user(BIG)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        for _ in range(2):
            wire = server.session(user, "secret", receive_octets=4096)
            wire.command(b"DELE 1")
            wire.send(b"RSET\r\nRETR 1\r\n")
            wire.line()
            self.assertIn(b"+OK", wire.line())
            wire.reset()
        self.assertEqual(self.dovecot.stored(user), [BIG])

    def test_memory_does_not_grow_with_the_message(self) -> None:
        """Promise: 100 MB for a client that reads slowly, and many at a time, take a few MiB; every octet arrives."""
        line = b"0123456789" * 7 + b"\n"
        message = b"Subject: big\n\n" + line * (100_000_000 // len(line))
        user = self.dovecot.user(message)
        server = self.behind(f"{user}:{{PLAIN}}secret::::::")
        wire = server.session(user, "secret", receive_octets=65536)
        before = server.memory_mib()
        wire.send(b"RETR 1\r\n")
        self.assertIn(b"+OK", wire.line())
        size = len(message) + message.count(b"\n") + len(b".\r\n")
        received, most, looked = wire.unread(), 0.0, 0
        while received < size:
            octets = len(wire.socket.recv(1 << 20))
            self.assertTrue(octets, "the server has closed")
            received += octets
            if received - looked > 1 << 22:
                most, looked = max(most, server.memory_mib()), received
        self.assertEqual(received, size)
        self.assertLess(most - before, 12)

    def test_slow_clients_make_the_server_wait(self) -> None:
        """Promise: clients that do not read at all leave the messages where they are."""
        users = [self.dovecot.user(BIG) for _ in range(8)]
        server = self.behind(*(f"{user}:{{PLAIN}}secret::::::" for user in users))
        wires = [server.session(user, "secret", receive_octets=4096) for user in users]
        before = server.memory_mib()
        for wire in wires:
            wire.send(b"RETR 1\r\n")
        for wire in wires:
            self.assertIn(b"+OK", wire.line())
        self.assertLess(server.memory_mib() - before, 8 * 4)
        wires[0].send(b"NOOP\r\n")
        self.assertEqual(len(wires[0].body()), len(BIG) + BIG.count(b"\n"))
        self.assertIn(b"+OK", wires[0].line())


class OwnServersTests(ProxyCase):
    """A tpops behind a tpops."""

    skip = None

    def setUp(self) -> None:
        """No Dovecot."""

    def pair(self, **tables: object) -> tuple[RunningServer, RunningServer]:
        """A server with joe's mail, and one in front of it."""
        behind = RunningServer(self, protocol={"auth_delay_seconds": 0})
        behind.deliver("1.one", b"Subject: one\n\n.first\n")
        behind.deliver("2.two", b"Subject: two\n\nsecond")
        behind.start()
        front = RunningServer(self, users={}, proxy={"server": f"127.0.0.1:{behind.port}", "tls": "off"}, **tables)
        front.configuration["accounts"] = [{"driver": "proxy"}]
        return behind, front.start()

    def test_session_through_both(self) -> None:
        """Promise: reading, the beginnings of messages, removal and unique-ids pass through, and busy is busy."""
        behind, front = self.pair()
        wire = front.session()
        self.assertEqual(wire.multi_line(b"UIDL")[1], b"1 1.one\r\n2 2.two\r\n")
        self.assertEqual(wire.multi_line(b"RETR 1"), (b"+OK 24 octets", b"Subject: one\r\n\r\n..first\r\n"))
        self.assertEqual(wire.multi_line(b"TOP 2 0")[1], b"Subject: two\r\n\r\n")
        self.assertEqual(wire.command(b"RETR 3"), b"-ERR no such message")
        wire.command(b"DELE 2")
        self.assertEqual(wire.command(b"QUIT"), b"+OK bye (1 message left)")
        self.assertEqual(behind.names(), {"1.one"})

    def test_wrong_passwords_and_busy_maildrops(self) -> None:
        """Promise: what the other server says with a code is said with that code."""
        behind, front = self.pair()
        self.assertIn(b"[AUTH]", self.answer(front, "joe", "wrong"))
        behind.configuration["maildir"] = {"lock_wait_seconds": 0}
        behind.restart()
        held = behind.session()
        self.assertIn(b"-ERR [IN-USE]", self.answer(front, "joe", "secret of joe"))
        held.close()
        behind.stop()
        self.assertIn(b"-ERR [SYS/TEMP]", self.answer(front, "joe", "secret of joe"))
        wait_until(lambda: any("refused" in one["detail"] for one in front.events("login-failed")), "the log says why")

    def test_a_server_in_front_of_itself(self) -> None:
        """Promise: it is noticed at the first login, and said."""
        server = RunningServer(self, users={}, proxy={"server": "127.0.0.1:1", "tls": "off"})
        server.configuration["accounts"] = [{"driver": "proxy"}]
        server.start()
        server.configuration["proxy"]["server"] = f"127.0.0.1:{server.port}"
        server.restart()
        self.assertIn(b"-ERR", self.answer(server, "joe", "x"))
        details = [event["detail"] for event in server.events("login-failed")]
        self.assertTrue(any("is this server itself" in one for one in details), details)
        self.assertLess(len(server.events("connect")), 5)

    def test_check_looks_at_the_files(self) -> None:
        """Promise: "tpops check" tells what would be found out at the start."""
        server = RunningServer(self, proxy={"server": "x", "tls_ca": "nowhere.pem"})
        server.write_configuration()
        command = [program("tpops"), "-c", str(server.configuration_file), "check"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("proxy.tls_ca: cannot read", done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertIn("proxy.tls_ca: cannot read", server.refuses_to_start())
        server.configuration["proxy"] = {"server": "x", "password_file": "word"}
        (server.directory / "word").write_text("secret\n")
        (server.directory / "word").chmod(0o644)
        self.assertIn("word is open to everybody", server.refuses_to_start())
        os.chmod(server.directory / "word", 0o600)
        server.start()
