"""Real sockets on loopback: transports that send at once, listeners and what can go wrong with them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.server.harness import GREETING, LOGIN, Harness, listen
from tpops.errors import ConfigError
from tpops.server.listeners import Listener, bind, where
from tpops.server.transport import TCPServer


class ShortPaths(TestCase):
    """UNIX sockets need paths of at most 107 octets."""

    def short_path(self) -> str:
        """A path where nothing is."""
        directory = tempfile.mkdtemp(prefix="tpops-")
        self.addCleanup(shutil.rmtree, directory)
        return os.path.join(directory, "socket")


class SocketTests(ShortPaths):
    """The server on TCP and UNIX sockets, with the real reactor's I/O."""

    def setUp(self) -> None:
        self.big = b"Subject: big\n\n" + b"0123456789" * 7 + b"\n.\n" * 2000000
        self.harness = Harness(messages={b"big": self.big, b"small": b"x\n"})
        self.harness.shared.clock = reactor

    def serve(self, listener: Listener) -> Any:
        """Open a listener for the time of the test."""
        port = listen(listener, self.harness.shared, reactor)
        self.addCleanup(port.stopListening)
        return port

    def talk(self, family: int, address: Any, said: bytes, pause: bool = False) -> bytes:
        """In a thread: send everything, close our side, read to the end; with C{pause}, begin reading late."""
        with socket.socket(family) as client:
            client.settimeout(30)
            client.connect(address)
            heard = client.recv(len(GREETING))
            client.sendall(said)
            if pause:
                # The server has filled the socket's buffers when the message's first line is there to be read.
                while len(client.recv(200000, socket.MSG_PEEK)) < 1000:
                    continue
            client.shutdown(socket.SHUT_WR)
            while data := client.recv(1 << 20):
                heard += data
        return heard

    @inlineCallbacks
    def test_session_over_ipv4_ipv6_and_unix(self) -> Any:
        """The same session over each kind of socket; the log knows where the client arrived."""
        path = self.short_path()
        for listener, family in (
            (Listener("127.0.0.1", 0), socket.AF_INET),
            (Listener("0.0.0.0", 0), socket.AF_INET),
            (Listener("::1", 0), socket.AF_INET6),
            (Listener(f"unix:{path}", mode=0o600), socket.AF_UNIX),
        ):
            port = self.serve(listener)
            address = (
                path if listener.path else (("::1" if family == socket.AF_INET6 else "127.0.0.1"), port.getHost().port)
            )
            heard = yield deferToThread(self.talk, family, address, LOGIN + b"RETR 2\r\nQUIT\r\n")
            self.assertTrue(heard.endswith(b"x\r\n.\r\n+OK bye (2 messages left)\r\n"), heard)
            peer = self.harness.events.sessions[-1].peer
            self.assertEqual(peer.local_host, path if listener.path else address[0])
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)

    @inlineCallbacks
    def test_big_message_to_a_client_that_reads_late(self) -> Any:
        """What the kernel does not take at once comes later, every octet of it, and then the close."""
        port = self.serve(Listener("127.0.0.1", 0))
        address = ("127.0.0.1", port.getHost().port)
        heard = yield deferToThread(self.talk, socket.AF_INET, address, LOGIN + b"RETR 1\r\nQUIT\r\n", True)
        wire = self.big.replace(b"\n.", b"\n..").replace(b"\n", b"\r\n")
        self.assertIn(wire + b".\r\n+OK bye", heard)

    @inlineCallbacks
    def test_half_closed_client_over_tcp(self) -> Any:
        """Commands sent before the client closed its side are all answered."""
        port = self.serve(Listener("127.0.0.1", 0))
        heard = yield deferToThread(
            self.talk, socket.AF_INET, ("127.0.0.1", port.getHost().port), LOGIN + b"NOOP\r\n" * 20000
        )
        self.assertEqual(heard.count(b"+OK\r\n"), 20000)

    @inlineCallbacks
    def test_connection_that_twisted_s_client_closes(self) -> Any:
        """A client that goes without QUIT ends its session."""
        port = self.serve(Listener("127.0.0.1", 0))
        over: Deferred[None] = Deferred()

        class Goes(Protocol):
            """Closes as soon as it is greeted."""

            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()

            def connectionLost(self, reason: Any = ConnectionDone) -> None:
                over.callback(None)

        factory = ClientFactory()
        factory.protocol = Goes
        factory.noisy = False
        reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        yield over
        while self.harness.shared.connections:
            later: Deferred[None] = Deferred()
            reactor.callLater(0, later.callback, None)
            yield later
        self.assertEqual(self.harness.events.sessions[-1].reason, "client closed")


class TransportTests(SynchronousTestCase):
    """The transport's own decisions, on a socket pair."""

    def setUp(self) -> None:
        ours, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.addCleanup(self.peer.close)
        self.protocol = Protocol()
        self.transport = TCPServer(ours, self.protocol, ("127.0.0.1", 1), None, 1, reactor)
        self.protocol.makeConnection(self.transport)
        self.addCleanup(self.transport.connectionLost, Failure(ConnectionDone()))

    def test_small_reply_is_sent_at_once(self) -> None:
        """No turn of the loop, no EPOLLOUT."""
        self.transport.write(b"+OK\r\n")
        self.assertEqual(self.peer.recv(100), b"+OK\r\n")
        self.assertNotIn(self.transport, reactor.getWriters())

    def test_what_the_kernel_does_not_take_is_kept_in_order(self) -> None:
        """The rest goes Twisted's way, and later writes behind it."""
        first, second = b"a" * 4000000, b"b" * 100
        self.transport.write(first)
        self.assertIn(self.transport, reactor.getWriters())
        self.transport.write(second)
        heard = b""
        while len(heard) < len(first) + len(second):
            try:
                heard += self.peer.recv(1 << 20)
            except BlockingIOError:
                self.transport.doWrite()
        self.assertEqual(heard, first + second)

    def test_knows_what_the_client_has_not_taken(self) -> None:
        """The kernel's buffer and ours together; it shrinks with every octet that is read."""
        self.assertEqual(self.transport.unsent(), 0)
        self.transport.write(b"a" * 4000000)
        before = self.transport.unsent()
        self.assertGreater(before, 3000000)
        while self.peer.recv(1 << 16, socket.MSG_PEEK) and self.transport.unsent() == before:
            self.peer.recv(1 << 16)
        self.assertLess(self.transport.unsent(), before)

    def test_unknown_kernel_buffer_counts_as_empty(self) -> None:
        """A descriptor that cannot be asked."""
        real, self.transport.fileno = self.transport.fileno, lambda: 999999
        try:
            self.assertEqual(self.transport.unsent(), 0)
        finally:
            self.transport.fileno = real

    def test_nothing_is_taken_from_a_full_socket(self) -> None:
        """A write that finds no room at all is kept whole."""
        self.transport.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with self.assertRaises(BlockingIOError):
            while True:
                self.transport.socket.send(b"x" * 1000)
        self.transport.write(b"later")
        self.assertEqual(self.transport._tempDataBuffer, [b"later"])

    def test_broken_connection_is_found_by_the_reactor(self) -> None:
        """A write to a reset connection raises nothing."""
        self.peer.close()
        self.transport.write(b"x")
        self.transport.write(b"y")
        self.assertIn(self.transport, reactor.getWriters())

    def test_close_inside_read_is_over_in_the_same_turn(self) -> None:
        """doRead itself reports the end."""
        self.protocol.dataReceived = lambda data: self.transport.loseConnection()
        self.peer.send(b"QUIT\r\n")
        self.assertIsInstance(self.transport.doRead(), ConnectionDone)

    def test_close_with_octets_waiting_goes_on_until_they_are_sent(self) -> None:
        """Nothing that was written is lost by closing."""

        def closes(data: bytes) -> None:
            self.transport.write(b"z" * 4000000)
            self.transport.loseConnection()

        self.protocol.dataReceived = closes
        self.peer.send(b"QUIT\r\n")
        self.assertIsNone(self.transport.doRead())
        self.assertTrue(self.transport.disconnecting)
        self.assertIn(self.transport, reactor.getWriters())


class ListenerTests(ShortPaths):
    """Listeners that cannot be opened say what to do."""

    def refusal(self, listener: Listener) -> str:
        """Why it cannot be opened."""
        return str(self.assertRaises(ConfigError, bind, listener))

    def test_port_in_use(self) -> None:
        """The message names the address and the ways out."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            number = other.getsockname()[1]
            text = self.refusal(Listener("127.0.0.1", number))
        self.assertIn(f"cannot listen on 127.0.0.1:{number}: Address already in use", text)
        self.assertIn("choose another port", text)

    def test_address_that_is_not_ours(self) -> None:
        """An address of another machine (RFC 5737)."""
        self.assertIn("no such address", self.refusal(Listener("192.0.2.1", 0)))

    def test_directory_that_is_missing(self) -> None:
        """The message names the path."""
        text = self.refusal(Listener("unix:/no/such/directory/socket"))
        self.assertIn("cannot listen on unix:/no/such/directory/socket: its directory does not exist", text)

    def test_unix_path_that_is_taken(self) -> None:
        """A file that is no socket, and a socket that somebody listens on, stay as they are."""
        path = self.short_path()
        with open(path, "w", encoding="ascii") as file:
            file.write("precious")
        self.assertIn("a file that is no socket is there", self.refusal(Listener(f"unix:{path}")))
        self.assertTrue(os.path.isfile(path))
        path = self.short_path()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
            self.assertIn("another program listens on it", self.refusal(Listener(f"unix:{path}")))

    def test_unix_socket_that_cannot_be_asked(self) -> None:
        """A socket of another kind stays where it is."""
        path = self.short_path()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.bind(path)
            self.assertIn("cannot listen on unix:", self.refusal(Listener(f"unix:{path}")))
        self.assertTrue(os.path.exists(path))

    def test_stale_unix_socket_is_replaced(self) -> None:
        """A socket that nobody listens on is what a crash leaves."""
        path = self.short_path()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen()
        port = listen(Listener(f"unix:{path}"), Harness().shared, reactor)
        return port.stopListening()

    def test_listeners_show_where_they_are(self) -> None:
        """For messages: host and port, brackets around IPv6."""
        self.assertEqual(str(Listener("::1", 995)), "[::1]:995")
        self.assertEqual(str(Listener("127.0.0.1")), "127.0.0.1:110")
        self.assertEqual(str(Listener("unix:/x")), "unix:/x")
        for address, text in (
            (IPv4Address("TCP", "127.0.0.1", 110), "127.0.0.1:110"),
            (IPv6Address("TCP", "::1", 110), "[::1]:110"),
            (UNIXAddress(b"/x"), "unix:/x"),
        ):
            self.assertEqual(where(address), text)
