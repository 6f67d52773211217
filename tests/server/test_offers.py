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

    def test_apop_only_takes_no_password_without_tls(self) -> None:
        """Promise: whatever C{plaintext} says; with TLS all is as C{plaintext} says."""
        for policy in (ALWAYS, NETWORKS, TLS, NEVER):
            offers = Offers(BASE, policy, ["192.0.2.0/24"], apop_only=True)
            for mode in (OFF, OPTIONAL):
                offer = offers.at_first(NEAR, mode)
                self.assertEqual((offer.plaintext, offer.apop, list(offer.mechanisms)), (False, True, [b"CRAM-MD5"]))
                self.assertTrue(offer.apop_only)
            for offer in (offers.with_tls(), offers.at_first(FAR, IMPLICIT)):
                self.assertEqual((offer.plaintext, offer.apop_only), (policy != NEVER, False), policy)
                self.assertEqual(b"PLAIN" in offer.mechanisms, policy != NEVER)

    def test_bearer_tokens_count_as_passwords(self) -> None:
        """RFC 7628 section 4: whoever reads a token has it."""
        base = Offer(mechanisms={b"OAUTHBEARER": Plain, b"XOAUTH2": Plain})
        self.assertEqual(Offers(base, NETWORKS, []).at_first(FAR, OPTIONAL).mechanisms, {})
        self.assertEqual(list(Offers(base, TLS, []).with_tls().mechanisms), [b"OAUTHBEARER", b"XOAUTH2"])

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

    def test_apop_only_sends_away_who_begins_with_user(self) -> None:
        """tpop3d's apop-only: the connection is closed before a password can come; what comes is not looked at."""
        harness = Harness(offer=Offer(apop=True, mechanisms={b"PLAIN": Plain}), apop_only=True)
        for said in (b"USER joe\r\n", LOGIN, b"PASS secret\r\n", b"USER\r\n"):
            client = harness.connect()
            self.assertNotIn(b"USER\r\n", client.say(b"CAPA\r\n"))
            answer = client.say(said)
            self.assertEqual((answer[:36], answer.count(b"\n")), (b"-ERR passwords are not taken without", 1))
            self.assertTrue(client.closed)
            client.vanish()
            self.assertEqual(client.server.session.reason, "plaintext refused")
        self.assertEqual(harness.events.kinds.count("limit"), 4)
        self.assertNotIn("login-failed", harness.events.kinds)
        client = harness.connect()
        self.assertEqual(client.say(b"AUTH PLAIN\r\n"), b"-ERR SASL mechanism not available\r\n")
        self.assertFalse(client.closed)

    def test_apop_timestamp_does_not_survive_stls(self) -> None:
        """RFC 2595 §4: what was said in the clear may have been said by somebody else."""
        harness = Harness(offer=Offer(apop=True), tls=OPTIONAL)
        client = harness.connect()
        client.transport.startTLS = lambda context: None
        client.say(b"STLS\r\n")
        self.assertTrue(client.say(b"APOP joe " + b"0" * 32 + b"\r\n").startswith(b"-ERR APOP is not available"))
        self.assertIn(b"+OK joe has", client.say(LOGIN))
