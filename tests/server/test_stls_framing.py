"""STLS up to the handshake (RFC 2595 section 4); tests/integration has the handshake itself."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Client, Harness
from tpops.server.offers import OPTIONAL


class StartTLSTests(SynchronousTestCase):
    """What happens around the switch."""

    def setUp(self) -> None:
        self.harness = Harness(tls=OPTIONAL)
        self.harness.shared.tls_context = self.context = object()

    def client(self) -> tuple[Client, list[object]]:
        """A connection, and the contexts that TLS was started with."""
        client = self.harness.connect()
        started: list[object] = []
        client.transport.startTLS = started.append
        return client, started

    def test_answer_leaves_before_tls_begins(self) -> None:
        """+OK in the clear, then the handshake; the name given before is forgotten."""
        client, started = self.client()
        client.transport.startTLS = lambda context: started.append((context, client.heard()))
        client.say(b"USER joe\r\nSTLS\r\n")
        self.assertEqual(started, [(self.context, b"+OK send PASS\r\n+OK begin TLS negotiation\r\n")])
        self.assertTrue(client.say(b"PASS secret\r\n").startswith(b"-ERR send USER"))
        self.assertIn(b"+OK joe has", client.say(LOGIN))

    def test_second_stls_is_refused(self) -> None:
        """TLS is on: STLS is neither offered nor done."""
        client, started = self.client()
        client.say(b"STLS\r\n")
        self.assertNotIn(b"STLS", client.say(b"CAPA\r\n"))
        self.assertTrue(client.say(b"STLS\r\n").startswith(b"-ERR"))
        self.assertEqual(len(started), 1)

    def test_octets_behind_stls_end_the_connection(self) -> None:
        """CVE-2011-0411: whatever came in the clear behind STLS is never carried out."""
        for behind in (b"USER evil\r\n", b"x", b"\r\n"):
            client, started = self.client()
            heard = client.say(b"STLS\r\n" + behind)
            self.assertEqual(heard, b"-ERR commands behind STLS are not allowed, closing the connection\r\n")
            self.assertEqual((started, client.closed), ([], True))
            self.assertEqual(client.say(b"USER joe\r\n"), b"")
            client.vanish()

    def test_not_offered_without_a_certificate(self) -> None:
        """-ERR, and the session goes on."""
        client = Harness().connect()
        self.assertEqual(client.say(b"STLS\r\nUSER joe\r\n"), b"-ERR TLS is not available\r\n+OK send PASS\r\n")
