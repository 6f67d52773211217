"""What is offered to whom."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Harness
from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import Plain
from tpops.server.offers import ALWAYS, IMPLICIT, NETWORKS, NEVER, OFF, OPTIONAL, REQUIRED, TLS, Offers

NEAR, FAR = "192.0.2.7", "198.51.100.7"
BASE = Offer(apop=True, mechanisms={b"PLAIN": Plain, b"CRAM-MD5": Plain})


class PolicyTests(SynchronousTestCase):
    """Who may send a password as it is."""

    def test_plaintext_by_policy_mode_and_network(self) -> None:
        """Promise: every combination, as the reference page says; STLS is offered where the listener has it."""
        for policy, mode, host, plaintext in (
            (ALWAYS, OFF, FAR, True),
            (ALWAYS, OPTIONAL, FAR, True),
            (ALWAYS, REQUIRED, NEAR, False),
            (NETWORKS, OFF, NEAR, True),
            (NETWORKS, OFF, FAR, False),
            (NETWORKS, OPTIONAL, NEAR, True),
            (NETWORKS, OPTIONAL, FAR, False),
            (NETWORKS, REQUIRED, NEAR, False),
            (NETWORKS, IMPLICIT, FAR, True),
            (TLS, OFF, NEAR, False),
            (TLS, OPTIONAL, NEAR, False),
            (TLS, IMPLICIT, FAR, True),
            (NEVER, OFF, NEAR, False),
            (NEVER, IMPLICIT, NEAR, False),
        ):
            offers = Offers(BASE, policy, ["192.0.2.0/24"])
            for _ in range(2):
                offer = offers.at_first(host, mode)
                self.assertEqual(offer.plaintext, plaintext, (policy, mode, host))
                self.assertEqual(b"PLAIN" in offer.mechanisms, plaintext)
                self.assertEqual(offer.stls, mode in (OPTIONAL, REQUIRED))

    def test_nothing_but_stls_where_tls_is_required(self) -> None:
        """Promise: no mechanism at all and no APOP before the handshake; everything after it."""
        offers = Offers(BASE, NETWORKS, ["192.0.2.0/24"])
        offer = offers.at_first(NEAR, REQUIRED)
        self.assertEqual((offer.plaintext, offer.apop, offer.mechanisms), (False, False, {}))
        offer = offers.with_tls()
        self.assertEqual((offer.plaintext, offer.apop, offer.stls, len(offer.mechanisms)), (True, True, False, 2))

    def test_mechanisms_without_a_password_stay(self) -> None:
        """Promise: far clients without TLS may prove themselves without sending the password."""
        offer = Offers(BASE, NETWORKS, []).at_first(FAR, OFF)
        self.assertEqual((offer.plaintext, offer.apop, list(offer.mechanisms)), (False, True, [b"CRAM-MD5"]))

    def test_addresses_of_all_kinds(self) -> None:
        """Promise: IPv6, IPv4 inside IPv6, scopes and UNIX sockets count as what they are."""
        offers = Offers(BASE, NETWORKS, ["127.0.0.0/8", "::1/128", "fe80::/10"])
        for host, near in (
            ("127.0.0.9", True),
            ("::1", True),
            ("::ffff:127.0.0.1", True),
            ("fe80::1%eth0", True),
            ("unix", True),
            ("::2", False),
            ("::ffff:192.0.2.1", False),
        ):
            self.assertEqual(offers.at_first(host, OFF).plaintext, near, host)


class ConnectionTests(SynchronousTestCase):
    """The same on a connection."""

    def test_far_client_cannot_send_its_password(self) -> None:
        """Promise: USER and AUTH PLAIN are refused before any secret is sent, and CAPA does not name them."""
        client = Harness(plaintext=TLS).connect()
        capabilities = client.say(b"CAPA\r\n")
        self.assertNotIn(b"USER\r\n", capabilities)
        self.assertNotIn(b"PLAIN", capabilities)
        self.assertTrue(client.say(b"USER joe\r\n").startswith(b"-ERR USER and PASS are not available"))
        self.assertTrue(client.say(b"AUTH PLAIN\r\n").startswith(b"-ERR"))

    def test_apop_timestamp_does_not_survive_stls(self) -> None:
        """RFC 2595 §4: what was said in the clear may have been said by somebody else."""
        harness = Harness(offer=Offer(apop=True), tls=OPTIONAL)
        client = harness.connect()
        client.transport.startTLS = lambda context: None
        client.say(b"STLS\r\n")
        self.assertTrue(client.say(b"APOP joe " + b"0" * 32 + b"\r\n").startswith(b"-ERR APOP is not available"))
        self.assertIn(b"+OK joe has", client.say(LOGIN))
