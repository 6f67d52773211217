"""Real sockets on loopback: transports that send at once, listeners and what can go wrong with them."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.server.harness import GREETING, LOGIN, Harness
from tpops.errors import ConfigError
from tpops.server.listeners import Listener, listen


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


class ListenerTests(ShortPaths):
    """Listeners that cannot be opened say what to do."""

    def refusal(self, listener: Listener) -> str:
        """Why it cannot be opened."""
        return str(self.assertRaises(ConfigError, listen, listener, Harness().shared, reactor))

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
