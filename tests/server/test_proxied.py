"""Connections with a PROXY header in front, in memory."""

from __future__ import annotations

import ipaddress
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.protocol.test_proxy_header import ONE, TCP4, TLS, two
from tests.server.harness import GREETING, LOGIN, Harness
from tpops.server.factory import POP3Factory
from tpops.server.offers import NETWORKS
from tpops.server.proxied import HEADER_SECONDS

BALANCER = IPv4Address("TCP", "10.0.0.1", 4000)


class Transport(StringTransport):
    """Hands octets to whoever is its protocol now."""

    aborted = False

    def abortConnection(self) -> None:
        """See ITCPTransport."""
        self.aborted = True


class ProxiedTests(SynchronousTestCase):
    """The header first, then the greeting."""

    def setUp(self) -> None:
        self.harness = Harness(messages={b"one": b"x\n"}, plaintext=NETWORKS, networks=("192.0.2.0/24",))
        self.factory = POP3Factory(self.harness.shared)
        self.factory.balancers = [ipaddress.ip_network("10.0.0.0/30")]

    def connect(self, address: Any = BALANCER) -> Transport:
        """A connection of a balancer."""
        transport = Transport()
        transport.protocol = self.factory.buildProtocol(address)
        transport.protocol.makeConnection(transport)
        return transport

    def say(self, transport: Transport, octets: bytes) -> bytes:
        """Send, and get what comes back."""
        transport.protocol.dataReceived(octets)
        heard: bytes = transport.value()
        transport.clear()
        return heard

    def test_client_is_who_the_header_says(self) -> None:
        """Promise: nothing is sent before the header; then address, ports and networks are the client's."""
        transport = self.connect()
        self.assertEqual(self.say(transport, ONE[:20]), b"")
        self.assertEqual(self.harness.events.kinds, [])
        self.assertTrue(self.say(transport, ONE[20:] + LOGIN).startswith(GREETING + b"+OK"))
        peer = self.harness.events.sessions[0].peer
        self.assertEqual(
            (peer.host, peer.port, peer.local_host, peer.local_port), ("192.0.2.7", 56324, "198.51.100.1", 110)
        )
        self.assertIn("login", self.harness.events.kinds)

    def test_every_cut(self) -> None:
        """Promise: however the header and what follows are cut, the client gets the same."""
        sent = two(0x21, 0x11, TCP4) + b"CAPA\r\nQUIT\r\n"
        whole = self.say(self.connect(), sent)
        self.assertIn(b"\r\n.\r\n+OK", whole)
        for cut in range(1, len(sent)):
            transport = self.connect()
            self.assertEqual(self.say(transport, sent[:cut]) + self.say(transport, sent[cut:]), whole)

    def test_far_clients_are_far(self) -> None:
        """Promise: that the balancer is near gives nobody the right to send a password."""
        self.factory.balancers = [ipaddress.ip_network("192.0.2.0/24")]
        transport = self.connect(IPv4Address("TCP", "192.0.2.9", 4000))
        said = b"PROXY TCP4 203.0.113.5 198.51.100.1 1 110\r\nUSER joe\r\n"
        self.assertIn(b"\r\n-ERR ", self.say(transport, said))

    def test_tls_that_ends_at_the_balancer(self) -> None:
        """PP2_TYPE_SSL: such a client may send its password, is not offered STLS, and the log shows its TLS."""
        self.factory.tls = "optional"
        transport = self.connect()
        heard = self.say(transport, two(0x21, 0x11, TCP4 + TLS) + b"CAPA\r\n" + LOGIN)
        self.assertNotIn(b"STLS", heard)
        self.assertIn(b"+OK joe has", heard)
        self.assertEqual(self.harness.events.sessions[-1].tls, "TLSv1.3 TLS_AES_256_GCM_SHA384")

    def test_balancer_itself(self) -> None:
        """Section 2.2, LOCAL: a health check is a connection of the balancer."""
        self.assertEqual(self.say(self.connect(), two(0x20, 0, b"")), GREETING)
        self.assertEqual(self.harness.events.sessions[0].peer.host, "10.0.0.1")

    def test_strangers(self) -> None:
        """Promise: who is not trusted may say what he likes: he is cut off, and the log has his address."""
        transport = self.connect(IPv4Address("TCP", "10.0.0.4", 4000))
        self.assertEqual(self.say(transport, ONE), b"")
        self.assertTrue(transport.aborted)
        self.assertEqual(self.harness.events.kinds, [])
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])

    def test_unix_sockets_are_trusted(self) -> None:
        """Promise: permissions say who may connect there."""
        self.assertEqual(self.say(self.connect(UNIXAddress("")), ONE), GREETING)

    def test_wrong_header(self) -> None:
        """Promise: a client that comes without a balancer is not served, whatever it sends."""
        transport = self.connect()
        self.assertEqual(self.say(transport, b"USER joe\r\n") + self.say(transport, ONE), b"")
        self.assertTrue(transport.aborted)
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])

    def test_no_header(self) -> None:
        """Promise: whoever says nothing is cut off after a time; who goes before leaves nothing behind."""
        transport = self.connect()
        self.harness.clock.advance(HEADER_SECONDS - 0.1)
        self.assertFalse(transport.aborted)
        self.harness.clock.advance(0.2)
        self.assertTrue(transport.aborted)
        other = self.connect()
        other.protocol.connectionLost()
        self.assertEqual(self.harness.clock.getDelayedCalls(), [])
