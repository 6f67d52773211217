"""EXTERNAL."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import BadCredentials
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.external import External
from tpops.protocol.sasl import Challenge


def canonical(name: bytes) -> str:
    """Lower case; names with spaces are none."""
    if b" " in name:
        raise BadCredentials("no name")
    return name.decode().lower()


class ExternalTests(SynchronousTestCase):
    """RFC 4422 appendix A."""

    def setUp(self) -> None:
        self.exchange = External((b"joe@example.org", b"j@example.org"), canonical)

    def test_no_name(self) -> None:
        """RFC 4422 appendix A.1: the server asks; an empty response stands for the certificate's name."""
        self.assertEqual(self.exchange.respond(None), Challenge(b""))
        self.assertEqual(self.exchange.respond(b""), LoginProven(b"joe@example.org", b"joe@example.org"))

    def test_own_names(self) -> None:
        """Promise: any that the certificate has, compared as login names are."""
        for name in (b"joe@example.org", b"J@Example.ORG"):
            self.assertEqual(self.exchange.respond(name), LoginProven(name, name))

    def test_names_of_others(self) -> None:
        """RFC 4422 appendix A.1: a failed login."""
        for name in (b"eve@example.org", b"joe", b"a b", b"joe@example.org\0"):
            outcome = self.exchange.respond(name)
            assert isinstance(outcome, LoginRejected)
            self.assertEqual((outcome.name, outcome.proof), (name, name))

    def test_names_that_are_none(self) -> None:
        """Promise: what stands in a certificate and cannot be a name opens nothing."""
        self.assertIsInstance(External((b"a b",), canonical).respond(b"x"), LoginRejected)
