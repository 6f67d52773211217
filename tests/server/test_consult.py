"""SASL mechanisms that ask the server something, and what comes of their answers."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Client, Harness
from tpops.credentials import IProven
from tpops.errors import BadCommand, LookupUnavailable
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import Ask, Challenge, Outcome


class Riddle:
    """Asks whether what the client says is right: "yes", "no", "more" or something else."""

    said = b""

    def respond(self, response: bytes | None) -> Outcome:
        if response is None:
            return Challenge(b"?")
        self.said = response
        return Ask(response, self.consulted)

    def consulted(self, answer: object) -> Outcome:
        if answer == b"yes":
            return LoginProven(b"joe", self.said, "test")
        if answer == b"no":
            return LoginRejected(b"joe", self.said, "wrong answer")
        if answer == b"more":
            return Challenge(b"more")
        if answer == b"again":
            return Ask(b"yes", self.consulted)
        raise BadCommand("nonsense")


class ConsultTests(SynchronousTestCase):
    """From the client's line to the reply, with the server's answer between."""

    def setUp(self) -> None:
        self.harness = Harness(offer=Offer(mechanisms={b"RIDDLE": Riddle}))
        self.harness.checker.credentialInterfaces += (IProven,)
        self.harness.shared.portal.registerChecker(self.harness.checker, IProven)
        self.harness.checker.requestAvatarId = self.checked
        self.harness.shared.consult = self.consult
        self.waiting: Deferred[None] | None = None
        self.credentials: list[Any] = []

    def checked(self, credentials: Any) -> bytes:
        self.credentials.append(credentials)
        return b"test:joe"

    async def consult(self, question: object) -> object:
        if self.waiting is not None:
            await self.waiting
        if question == b"down":
            raise LookupUnavailable("nobody there")
        return question

    def auth(self, client: Client, text: bytes, more: bytes = b"") -> bytes:
        return client.say(b"AUTH RIDDLE " + base64.b64encode(text) + b"\r\n" + more)

    def test_a_proven_name_logs_in(self) -> None:
        """The portal is asked for the name, with the peer and the source."""
        client = self.harness.connect()
        self.assertIn(b"+OK joe has 2 messages", self.auth(client, b"yes"))
        (proven,) = self.credentials
        self.assertEqual((proven.username, proven.source), (b"joe", "test"))
        self.assertEqual(proven.peer, client.server.session.peer)

    def test_a_question_may_follow_a_question(self) -> None:
        """As often as the exchange likes."""
        self.assertIn(b"+OK joe has", self.auth(self.harness.connect(), b"again"))

    def test_a_challenge_may_follow(self) -> None:
        """The exchange goes on."""
        client = self.harness.connect()
        self.assertEqual(self.auth(client, b"more"), b"+ bW9yZQ==\r\n")
        self.assertIn(b"+OK joe has", client.say(base64.b64encode(b"yes") + b"\r\n"))

    def test_a_rejected_proof_is_a_failed_login(self) -> None:
        """Delay, text, count and log as for a wrong password."""
        client = self.harness.connect()
        self.assertEqual(self.auth(client, b"no"), b"")
        self.harness.clock.advance(2)
        self.assertEqual(client.heard(), b"-ERR [AUTH] authentication failed\r\n")
        self.assertEqual(client.server.session.login_failures, 1)
        self.assertIn("BadCredentials: wrong answer", self.harness.events.details)
        self.assertEqual(self.credentials, [])

    def test_no_answer_is_no_wrong_password(self) -> None:
        """[SYS/TEMP], and the connection goes on."""
        client = self.harness.connect()
        self.assertIn(b"-ERR [SYS/TEMP]", self.auth(client, b"down"))
        self.assertIn("LookupUnavailable: nobody there", self.harness.events.details)
        self.assertIn(b"+OK joe has", self.auth(client, b"yes"))

    def test_nonsense_ends_the_exchange(self) -> None:
        """The next line is a command again."""
        client = self.harness.connect()
        self.assertEqual(self.auth(client, b"what"), b"-ERR nonsense\r\n")
        self.assertIn(b"+OK", client.say(b"CAPA\r\n"))

    def test_lines_behind_wait(self) -> None:
        """While the server finds out, nothing else is carried out."""
        self.waiting = Deferred()
        client = self.harness.connect()
        self.assertEqual(self.auth(client, b"yes", b"STAT\r\n"), b"")
        self.waiting.callback(None)
        heard = client.heard()
        self.assertIn(b"+OK joe has", heard)
        self.assertIn(b"+OK 2 ", heard)

    def test_gone_meanwhile(self) -> None:
        """Nobody is logged in for a client that left, and nothing is left over."""
        self.waiting = Deferred()
        client = self.harness.connect()
        self.auth(client, b"yes")
        client.vanish()
        self.waiting.callback(None)
        self.assertEqual(self.harness.shared.connections, set())
        self.assertEqual(self.harness.realm.logouts, len(self.credentials))

    def test_where_nothing_is_offered_that_asks_nobody_answers(self) -> None:
        """The default."""
        harness = Harness(offer=Offer(mechanisms={b"RIDDLE": Riddle}))
        self.assertIn(b"-ERR [SYS/TEMP]", self.auth(harness.connect(), b"yes"))
