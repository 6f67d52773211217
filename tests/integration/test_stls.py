"""STLS (RFC 2595) over real sockets, with a certificate made for the test."""

from __future__ import annotations

import poplib
import ssl
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.integration.server import temporary
from tests.integration.wire import ANSWER_SECONDS, Wire
from tests.pki import self_signed
from tests.server.harness import Harness, listen
from tpops.server.listeners import Listener
from tpops.server.offers import OPTIONAL


@cache
def certificate() -> tuple[str, str]:
    """A certificate for 127.0.0.1, and its key: the same one for all tests."""
    made, key = self_signed("127.0.0.1")
    return made.decode(), key.decode()


class StartTLSTests(TestCase):
    """What a client can and cannot do with STLS; each client runs in a thread of its own."""

    timeout = 240

    def setUp(self) -> None:
        """A server in this process, with the real reactor."""
        self.big = b"Subject: big\n\n" + b".dots and 76 other octets".ljust(99, b"x") * 200_000 + b"\n"
        self.harness = Harness(
            messages={b"small": b"Subject: small\n\n.\nx\n", b"big": self.big.replace(b"xx.", b"x\n.")},
            limits={"auth_delay_seconds": 0.05},
        )
        shared = self.harness.shared
        shared.clock = reactor
        files = [str(temporary(self) / "pem") for _ in range(2)]
        for path, pem in zip(files, certificate(), strict=True):
            Path(path).write_text(pem)
        shared.tls_context = DefaultOpenSSLContextFactory(files[1], files[0], sslmethod=SSL.TLS_METHOD)
        port = listen(Listener("127.0.0.1", 0), shared, reactor, OPTIONAL)
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.client = ssl.create_default_context(cadata=certificate()[0])

    def finish(self, wire: Wire) -> None:
        """QUIT, and wait for the end."""
        assert wire.command(b"QUIT").startswith(b"+OK")
        assert wire.rest() == b""
        wire.close()

    async def check(self, talk: Callable[[], None]) -> None:
        """Run a client; then the server is without connections, and has logged no error."""
        await deferToThread(talk)
        end = time.monotonic() + 30
        while self.harness.shared.connections:
            self.assertLess(time.monotonic(), end, "a connection is left")
            await deferLater(reactor, 0.01)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.harness.events.kinds[-1], "disconnect")

    def connect(self) -> Wire:
        """A connection that has read the greeting."""
        wire = Wire.connect(self, ("127.0.0.1", self.port))
        assert wire.line().startswith(b"+OK")
        return wire

    def secure(self, wire: Wire) -> Wire:
        """The same connection after STLS and the handshake; an end without a close alert is an error."""
        assert wire.command(b"STLS").startswith(b"+OK")
        wire.socket = self.client.wrap_socket(wire.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
        self.addCleanup(wire.socket.close)
        return wire

    async def test_poplib(self) -> None:
        """RFC 2595 section 4: CAPA has STLS before, and not after; then all is as ever."""

        def talk() -> None:
            client = poplib.POP3("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
            self.addCleanup(client.close)
            self.assertIn("STLS", client.capa())
            self.assertTrue(client.stls(self.client).startswith(b"+OK"))
            self.assertEqual(client.sock.version(), "TLSv1.3")
            capabilities = client.capa()
            self.assertNotIn("STLS", capabilities)
            self.assertEqual(capabilities["SASL"], ["PLAIN"])
            client.user("joe")
            client.pass_("secret")
            self.assertEqual(client.retr(1)[1], [b"Subject: small", b"", b".", b"x"])
            client.dele(1)
            self.assertEqual(client.quit(), b"+OK bye (1 message left)")

        await self.check(talk)
        self.assertEqual(set(self.harness.stored), {b"big"})

    async def test_end_is_announced(self) -> None:
        """RFC 8446 section 6.1: a close alert, so that the client knows that nothing was cut off."""

        def talk() -> None:
            wire = self.secure(self.connect())
            wire.send(b"USER joe\r\nPASS secret\r\nSTAT\r\nQUIT\r\n")
            self.assertTrue(wire.rest().endswith(b"+OK bye (2 messages left)\r\n"))
            wire.close()

        await self.check(talk)

    async def test_nothing_from_before_is_kept(self) -> None:
        """RFC 2595 section 4: a name that was given in plain text, where anybody could have given it, is forgotten."""

        def talk() -> None:
            wire = self.connect()
            wire.command(b"USER joe")
            self.secure(wire)
            self.assertTrue(wire.command(b"PASS secret").startswith(b"-ERR"))
            self.assertTrue(wire.command(b"USER joe").startswith(b"+OK"))
            self.assertTrue(wire.command(b"PASS secret").startswith(b"+OK"))
            self.finish(wire)

        await self.check(talk)

    async def test_commands_behind_stls_end_the_connection(self) -> None:
        """RFC 2595 section 4, CVE-2011-0411: plaintext in the same segment is never taken for a secured command."""

        def talk() -> None:
            for behind in (b"USER joe\r\nPASS secret\r\nSTAT\r\n", b"N", b"\r\n"):
                wire = self.connect()
                wire.send(b"STLS\r\n" + behind)
                answer = wire.rest()
                self.assertTrue(answer.startswith(b"-ERR"), answer)
                self.assertEqual(answer.count(b"\r\n"), 1)

        await self.check(talk)
        self.assertNotIn("login", self.harness.events.kinds)

    async def test_where_stls_is_refused(self) -> None:
        """RFC 2595 section 4, RFC 6856 section 2.1: not twice, not after login, not after UTF8; the session goes on."""

        def talk() -> None:
            wire = self.secure(self.connect())
            self.assertTrue(wire.command(b"STLS").startswith(b"-ERR"))
            self.assertTrue(wire.command(b"USER joe").startswith(b"+OK"))
            self.finish(wire)
            for first in ((b"USER joe", b"PASS secret"), (b"UTF8",)):
                wire = self.connect()
                for line in first:
                    self.assertTrue(wire.command(line).startswith(b"+OK"))
                self.assertTrue(wire.command(b"STLS").startswith(b"-ERR"))
                self.assertTrue(wire.command(b"CAPA").startswith(b"+OK"))
                wire.body()
                self.finish(wire)

        await self.check(talk)

    async def test_failed_handshakes(self) -> None:
        """Promise: they close the connection, and nobody reads a traceback for what any client can do."""

        def talk() -> None:
            garbage = self.connect()
            self.assertTrue(garbage.command(b"STLS").startswith(b"+OK"))
            garbage.send(b"USER joe\r\nPASS secret\r\n")
            self.assertNotIn(b"+OK", garbage.rest())
            for leave in (Wire.close, Wire.reset, Wire.half_close):
                silent = self.connect()
                self.assertTrue(silent.command(b"STLS").startswith(b"+OK"))
                leave(silent)
                if leave is Wire.half_close:
                    silent.rest()
            wire = self.connect()
            wire.command(b"STLS")
            distrustful = ssl.create_default_context()
            with self.assertRaises(ssl.SSLCertVerificationError):
                distrustful.wrap_socket(wire.socket, server_hostname="127.0.0.1")

        await self.check(talk)

    async def test_big_message_to_a_slow_reader(self) -> None:
        """RFC 1939 section 11: 20 MB arrive whole, as many octets as announced."""
        stored = self.harness.stored[b"big"]
        paused = []

        def talk() -> None:
            wire = self.secure(self.connect())
            wire.send(b"USER joe\r\nPASS secret\r\n")
            wire.lines(2)
            announced = int(wire.command(b"LIST 2").split()[2])
            wire.send(b"RETR 2\r\n")
            end = time.monotonic() + ANSWER_SECONDS
            while not paused and time.monotonic() < end:
                paused.extend(one for one in list(self.harness.shared.connections) if one.paused)
                time.sleep(0.01)
            self.assertTrue(paused, "the server does not wait for the client")
            self.assertEqual(wire.line(), b"+OK %d octets" % announced)
            body = wire.body().replace(b"\r\n..", b"\r\n.")
            self.assertEqual(len(body), announced)
            self.assertTrue(body == stored.replace(b"\n", b"\r\n"))
            self.assertTrue(wire.command(b"NOOP").startswith(b"+OK"))
            self.finish(wire)

        await self.check(talk)
