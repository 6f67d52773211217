"""EXTERNAL."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import BadCredentials
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.external import External
from tpops.protocol.sasl import Challenge


def same(wanted: bytes, proven: bytes) -> bool:
    """Lower case; names with spaces are none."""
    if b" " in wanted + proven:
        raise BadCredentials("no name")
    return wanted.lower() == proven.lower()


class ExternalTests(SynchronousTestCase):
    """RFC 4422 appendix A."""

    def setUp(self) -> None:
        self.exchange = External((b"joe@example.org", b"j@example.org"), same)

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
        """Promise: what stands in a certificate and cannot be a name opens nothing; the other names still do."""
        for response in (b"x", b""):
            outcome = External((b"a b",), same).respond(response)
            assert isinstance(outcome, LoginRejected)
            self.assertEqual(outcome.why, "no name")
        self.assertEqual(External((b"a b", b"x"), same).respond(b"x"), LoginProven(b"x", b"x"))
