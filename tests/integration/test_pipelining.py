"""Raw sockets: sessions cut into any segments, clients that do not read, and lines that are no commands."""

from __future__ import annotations

import selectors
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.server import PASSWORD, PATIENCE_SECONDS, USER, RunningServer, wait_until
from tests.integration.wire import Wire

#: What the server may need more while it serves a client that does not read.
MOST_GROWTH_MIB = 20.0

_MIB = 1 << 20


class PipeliningTests(SynchronousTestCase):
    """A session is the same however its octets arrive (RFC 2449 section 6.6)."""

    timeout = 240

    def setUp(self) -> None:
        """One small message, and short delays."""
        self.server = RunningServer(self, protocol={"auth_delay_seconds": 0.05})
        self.message = corpus.ALL["lone-dot"]
        self.start_mail()
        self.server.start()

    def start_mail(self) -> None:
        """The maildrop as it is before each session."""
        self.server.deliver("1.host", self.message)
        self.server.deliver("2.host", corpus.ALL["lf"])

    def session(self) -> bytes:
        """A whole session that deletes one message."""
        return b"CAPA\r\nUSER %s\r\nPASS %s\r\nSTAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 1 0\r\nDELE 1\r\nQUIT\r\n" % (
            USER.encode(),
            PASSWORD.encode(),
        )

    def expected(self) -> bytes:
        """What the server says to it, command by command."""
        wire = self.server.connect()
        self.assertTrue(wire.line().startswith(b"+OK "))
        said = b""
        for line in self.session().splitlines():
            first = wire.command(line)
            self.assertTrue(first.startswith(b"+OK"), f"{line!r}: {first!r}")
            said += first + b"\r\n"
            if line.split()[0] in (b"CAPA", b"LIST", b"UIDL", b"RETR", b"TOP"):
                said += wire.body() + b".\r\n"
        self.assertEqual(wire.rest(), b"")
        self.assertIn(corpus.wire(self.message).replace(b"\r\n.", b"\r\n..") + b".\r\n", said)
        return said

    def test_any_segments_and_line_ends(self) -> None:
        """
        RFC 2449 section 6.6: the same replies, whether it comes at once, before the greeting is read, octet by octet,
        with LF alone as people with netcat type, with spaces behind commands, or from a half-closed client.
        """
        expected = self.expected()
        whole = self.session()
        spaced = whole.replace(b"\r\n", b"  \r\n").replace(PASSWORD.encode() + b"  ", PASSWORD.encode())
        for way, session in (
            ("one write", whole),
            ("octet by octet", whole),
            ("line feeds", whole.replace(b"\r\n", b"\n")),
            ("spaces", spaced),
            ("half-closed", whole),
        ):
            self.start_mail()
            wire = self.server.connect()
            pieces = [bytes([octet]) for octet in session] if way == "octet by octet" else [session]
            for piece in pieces:
                wire.send(piece)
                time.sleep(0.0002)
            if way == "half-closed":
                wire.half_close()
            self.assertEqual(wire.rest().partition(b"\r\n")[2], expected, way)
            self.assertEqual(self.server.names(), {"2.host"}, way)

    def test_spaces_behind_a_password_are_part_of_it(self) -> None:
        """RFC 1939 section 7: PASS takes the rest of the line."""
        wire = self.server.connect()
        wire.send(b"USER %s\r\nPASS %s \r\nQUIT\r\n" % (USER.encode(), PASSWORD.encode()))
        self.assertIn(b"-ERR [AUTH]", wire.rest())

    def test_half_close_without_quit_deletes_nothing(self) -> None:
        """RFC 1939 section 6: only QUIT enters UPDATE."""
        wire = self.server.connect()
        wire.send(self.session().removesuffix(b"QUIT\r\n"))
        wire.half_close()
        self.assertTrue(wire.rest().endswith(b"+OK message 1 deleted\r\n"))
        self.assertEqual(self.server.event("disconnect")["reason"], "client closed")
        self.assertEqual(self.server.names(), {"1.host", "2.host"})

    def test_commands_behind_a_failed_password_are_refused(self) -> None:
        """RFC 1939 section 3: they are in AUTHORIZATION still; and they are answered after PASS, in order."""
        wire = self.server.connect()
        wire.send(b"USER %s\r\nPASS wrong\r\nSTAT\r\nDELE 1\r\nNOOP\r\nCAPA\r\nQUIT\r\n" % USER.encode())
        wire.lines(2)
        self.assertTrue(wire.line().startswith(b"-ERR [AUTH] "))
        self.assertEqual([line[:4] for line in wire.lines(3)], [b"-ERR"] * 3)
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertIn(b"SASL PLAIN", wire.body())
        self.assertTrue(wire.rest().startswith(b"+OK"))
        self.assertEqual(self.server.names(), {"1.host", "2.host"})

    def test_lines_that_are_too_long(self) -> None:
        """RFC 2449 section 4: over 255 octets is an error; one far longer ends the connection."""
        wire = self.server.session()
        self.assertTrue(wire.command(b"NOOP " + b"x" * 300).startswith(b"-ERR"))
        self.assertTrue(wire.command(b"STAT").startswith(b"+OK 2 "))
        wire.command(b"DELE 1")
        wire.send(b"x" * 2000 + b"\r\nQUIT\r\n")
        self.assertTrue(wire.rest().startswith(b"-ERR"))
        endless = self.server.connect()
        endless.send(b"y" * 2000)
        self.assertEqual(endless.rest().count(b"\r\n"), 2)
        self.server.event("disconnect", reason="line too long", user=USER)
        self.server.event("disconnect", reason="line too long", user=None)
        self.assertEqual(self.server.names(), {"1.host", "2.host"})

    def test_empty_lines_are_ignored(self) -> None:
        """Promise: they are neither answered nor errors."""
        wire = self.server.session()
        wire.send(b"\r\n" * 100 + b"\n\n\nNOOP\r\n\r\nQUIT\r\n")
        self.assertEqual(wire.rest(), b"+OK\r\n+OK bye (2 messages left)\r\n")


class SlowClientTests(SynchronousTestCase):
    """A client that does not read costs no memory and loses nothing."""

    timeout = 240

    def test_a_flood_of_commands(self) -> None:
        """Promise: the server stops reading, and answers every one when the client reads."""
        server = RunningServer(self)
        for number in range(50):
            server.deliver(f"{number}.host.example.org", b"Subject: x\n\n")
        server.start()
        # 100,000 times UIDL are 120 MB of replies.
        for command, replies in ((b"NOOP\r\n", 1), (b"UIDL\r\n", 52)):
            wire = server.session(receive_octets=4096)
            before = server.memory_mib()
            count = 100_000
            sent = self.send_unread(wire, command * count)
            self.assertLess(server.memory_mib() - before, MOST_GROWTH_MIB)
            self.assertEqual(self.send_and_count_lines(wire, command * count, sent, replies * count), replies * count)
            self.assertLess(server.memory_mib() - before, MOST_GROWTH_MIB)
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))

    def send_unread(self, wire: Wire, octets: bytes) -> int:
        """Send until it is all sent or the server takes nothing more for a while; gives how much was."""
        wire.socket.setblocking(False)
        sent, last = 0, time.monotonic()
        while sent < len(octets) and time.monotonic() - last < 0.5:
            try:
                sent += wire.socket.send(octets[sent : sent + 65536])
                last = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        return sent

    def send_and_count_lines(self, wire: Wire, octets: bytes, sent: int, expected: int) -> int:
        """Send the rest and read what is there, both as they can, until the expected number of lines."""
        lines = 0
        end = time.monotonic() + PATIENCE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(wire.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while lines < expected and time.monotonic() < end:
                for _, events in selector.select(1.0):
                    if events & selectors.EVENT_READ:
                        lines += wire.socket.recv(1 << 20).count(b"\n")
                    if events & selectors.EVENT_WRITE and sent < len(octets):
                        sent += wire.socket.send(octets[sent : sent + 65536])
                if sent == len(octets):
                    selector.modify(wire.socket, selectors.EVENT_READ)
        wire.socket.settimeout(PATIENCE_SECONDS)
        return lines

    def test_a_big_message(self) -> None:
        """RFC 1939 section 11: 100 MB arrive whole, as many octets as announced, also after a long pause."""
        server = RunningServer(self)
        block = b"".join(b".%07d\n" % number for number in range(_MIB // 9)).ljust(_MIB - 1, b"x") + b"\n"
        with server.deliver("1.host", b"Subject: big\n\n").open("ab") as file:
            for _ in range(100):
                file.write(block)
        server.start()
        wire = server.session(receive_octets=65536)
        before = server.memory_mib()
        announced = int(wire.command(b"LIST 1").split()[2])
        wire.send(b"RETR 1\r\n")
        wait_until(lambda: self.has_stalled(server), "the server waits for the client")
        self.assertLess(server.memory_mib() - before, MOST_GROWTH_MIB)
        self.assertEqual(wire.line(), b"+OK %d octets" % announced)
        body = wire.body().replace(b"\r\n..", b"\r\n.")
        self.assertEqual(len(body), announced)
        self.assertTrue(body == b"Subject: big\r\n\r\n" + block.replace(b"\n", b"\r\n") * 100)
        self.assertLess(server.memory_mib() - before, MOST_GROWTH_MIB)
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        event = server.event("disconnect")
        self.assertEqual((event["retr_count"], event["retr_octets"]), (1, announced))

    def has_stalled(self, server: RunningServer) -> bool:
        """Whether the server has begun to read the message and then used no processor for a while."""

        def used() -> int:
            with open(f"/proc/{server.pid}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
            return int(fields[11]) + int(fields[12])

        first = used()
        time.sleep(0.3)
        return used() == first
