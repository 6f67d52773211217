"""Mechanisms that another process carries out: what is passed on, and what the answers lead to."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import AuthenticationFailed, BadCommand
from tpops.protocol.actions import LoginByTicket, LoginRejected
from tpops.protocol.relayed import Over, Passed, Refused, Relayed, Step
from tpops.protocol.sasl import Ask, Challenge


class RelayedTests(SynchronousTestCase):
    """One exchange."""

    def ask(self, exchange: Relayed, response: bytes) -> Ask:
        """What is asked for a response."""
        asked = exchange.respond(response)
        assert isinstance(asked, Ask)
        return asked

    def test_messages_and_tickets(self) -> None:
        """Promise: each message goes with the ticket of the one before; the last ticket is the login."""
        exchange = Relayed(b"SCRAM-SHA-256", {b"kind": b"value"})
        self.assertEqual(exchange.respond(None), Challenge(b""))
        asked = self.ask(exchange, b"first")
        self.assertEqual(asked.question, Step(b"SCRAM-SHA-256", b"", b"first", {b"kind": b"value"}))
        self.assertNotIn("first", repr(asked.question))
        self.assertEqual(asked.consulted(Passed(b"server", b"t1")), Challenge(b"server"))
        asked = self.ask(exchange, b"final")
        self.assertEqual(asked.question, Step(b"SCRAM-SHA-256", b"t1", b"final", {b"kind": b"value"}))
        self.assertEqual(asked.consulted(Over(b"joe", b"t2")), LoginByTicket(b"joe", b"t2"))

    def test_refusals(self) -> None:
        """Promise: a wrong proof is a failed login, a malformed message an error; then the exchange is over."""
        rejected = LoginRejected(b"joe", b"proof", "no", b"{}")
        exchange = Relayed(b"XOAUTH2", {})
        self.assertEqual(self.ask(exchange, b"token").consulted(Refused(rejected)), rejected)
        self.assertRaises(AuthenticationFailed, exchange.respond, b"")
        asked = self.ask(Relayed(b"XOAUTH2", {}), b"x")
        self.assertRaises(BadCommand, asked.consulted, Refused(None, "malformed"))
