"""AUTH OAUTHBEARER and XOAUTH2 on a connection: both line forms, and what becomes of a token that is not good."""

from __future__ import annotations

import base64
import json
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Client, Harness
from tpops.credentials import IProven
from tpops.errors import BadCredentials, LookupUnavailable
from tpops.protocol.capabilities import Offer
from tpops.protocol.commands import SASL_LINE_OCTETS
from tpops.protocol.oauth import Advice, OAuthBearer, TokenAnswer, TokenQuestion, XOAuth2

FAILED = b"-ERR [AUTH] authentication failed\r\n"
ADVICE = Advice("mail", "https://login.example.org/.well-known/openid-configuration")


def bearer(token: bytes, name: bytes = b"joe") -> bytes:
    """A response of OAUTHBEARER."""
    return base64.b64encode(b"n,a=" + name + b",\x01host=x\x01port=110\x01auth=Bearer " + token + b"\x01\x01")


def xoauth2(token: bytes, name: bytes = b"joe") -> bytes:
    """A response of XOAUTH2."""
    return base64.b64encode(b"user=" + name + b"\x01auth=Bearer " + token + b"\x01\x01")


class BearerTests(SynchronousTestCase):
    """The token "good" is joe's, "down" cannot be judged, others are bad."""

    def setUp(self) -> None:
        mechanisms = {b"OAUTHBEARER": partial(OAuthBearer, ADVICE), b"XOAUTH2": partial(XOAuth2, ADVICE)}
        self.harness = Harness(offer=Offer(mechanisms=mechanisms))
        self.harness.shared.portal.registerChecker(self.harness.checker, IProven)
        self.harness.checker.requestAvatarId = self.checked
        self.harness.shared.consult = self.consult
        self.questions: list[TokenQuestion] = []

    def checked(self, credentials: Any) -> bytes:
        if credentials.username != b"joe":
            raise BadCredentials("unknown user")
        return b"test:joe"

    async def consult(self, question: object) -> TokenAnswer:
        assert isinstance(question, TokenQuestion)
        self.questions.append(question)
        if question.token == b"down":
            raise LookupUnavailable("no answer")
        if question.token == b"stranger":
            return TokenAnswer(b"ann")
        return TokenAnswer(b"joe") if question.token.startswith(b"good") else TokenAnswer(b"", "the token has expired")

    def rejected(self, client: Client, said: bytes) -> dict[str, str]:
        """What the client is told in the challenge, after the delay of a failed login."""
        self.assertEqual(client.say(said), b"")
        self.harness.clock.advance(2)
        heard = client.heard()
        self.assertTrue(heard.startswith(b"+ "), heard)
        told: dict[str, str] = json.loads(base64.b64decode(heard[2:]))
        return told

    def test_both_line_forms(self) -> None:
        """RFC 5034 section 4: with the command, and in a line of its own after an empty challenge."""
        for mechanism, response in ((b"OAUTHBEARER", bearer(b"good")), (b"XOAUTH2", xoauth2(b"good"))):
            client = self.harness.connect()
            self.assertIn(b"+OK joe has", client.say(b"AUTH " + mechanism + b" " + response + b"\r\n"))
            client.vanish()
            client = self.harness.connect()
            self.assertEqual(client.say(b"auth " + mechanism.lower() + b"\r\n"), b"+ \r\n")
            self.assertIn(b"+OK joe has", client.say(response + b"\r\n"))
            client.vanish()

    def test_long_tokens_in_both_line_forms(self) -> None:
        """Promise: tokens are longer than the 255 octets of a command; up to 64 KiB they are taken, in any pieces."""
        long = bearer(b"good" + b"x" * 20000)
        client = self.harness.connect()
        self.assertIn(b"+OK joe has", client.say(b"AUTH OAUTHBEARER " + long + b"\r\n"))
        client.vanish()
        client = self.harness.connect()
        client.say(b"AUTH OAUTHBEARER\r\n")
        self.assertIn(b"+OK joe has", client.say(long + b"\r\n"))
        client.vanish()
        client = self.harness.connect()
        line = b"AUTH OAUTHBEARER " + long[:8000] + b"\r\n"
        for position in range(len(line) - 1):
            self.assertEqual(client.say(line[position : position + 1]), b"")
        self.assertIn(b"+OK joe has", client.say(b"\n"))

    def test_length_has_an_end(self) -> None:
        """Promise: longer lines end the connection, in both forms and without a line end; after login at once."""
        for said in (b"AUTH XOAUTH2 " + b"A" * SASL_LINE_OCTETS, b"AUTH XOAUTH2\r\n" + b"A" * (SASL_LINE_OCTETS + 1)):
            for end in (b"", b"\r\n"):
                client = self.harness.connect()
                self.assertTrue(client.say(said + end).endswith(b"-ERR line too long\r\n"))
                self.assertTrue(client.closed)
        client = self.harness.connect()
        client.say(b"AUTH XOAUTH2 " + xoauth2(b"good") + b"\r\n")
        self.assertIn(b"-ERR line too long", client.say(b"AUTH XOAUTH2 " + b"A" * 2000))
        self.assertTrue(client.closed)
        client = self.harness.connect()
        self.assertIn(b"-ERR line too long", client.say(b"AUTHX " + b"A" * 2000))

    def test_bad_token(self) -> None:
        """RFC 7628 section 3.2.3: advice, the client's answer, -ERR [AUTH]; a failed login like any other."""
        client = self.harness.connect()
        told = self.rejected(client, b"AUTH OAUTHBEARER " + bearer(b"bad") + b"\r\n")
        self.assertEqual(told["status"], "invalid_token")
        self.assertEqual(told["openid-configuration"], ADVICE.configuration)
        self.assertEqual(client.server.session.login_failures, 1)
        self.assertEqual(client.say(b"AQ==\r\n"), FAILED)
        told = self.rejected(client, b"AUTH XOAUTH2 " + xoauth2(b"bad") + b"\r\n")
        self.assertEqual(told, {"status": "401", "schemes": "bearer", "scope": "mail"})
        self.assertEqual(client.say(b"\r\n"), FAILED)
        self.assertEqual(self.harness.events.kinds.count("login-failed"), 2)
        self.assertIn("BadCredentials: the token has expired", self.harness.events.details)
        self.assertEqual(client.server.session.named, b"joe")
        self.assertIn(b"+OK joe has", client.say(b"AUTH XOAUTH2 " + xoauth2(b"good") + b"\r\n"))

    def test_the_failure_counts_whatever_the_client_does_then(self) -> None:
        """Promise: who cancels, sends nonsense or goes does not guess for nothing."""
        for last, answer in (
            (b"*\r\n", b"-ERR authentication cancelled\r\n"),
            (b"no base64\r\n", b"-ERR not valid base64\r\n"),
        ):
            client = self.harness.connect()
            self.rejected(client, b"AUTH XOAUTH2 " + xoauth2(b"bad") + b"\r\n")
            self.assertEqual(client.say(last), answer)
            self.assertEqual(client.server.session.login_failures, 1)
            self.assertIn(b"+OK", client.say(b"CAPA\r\n"))
        client = self.harness.connect()
        client.say(b"AUTH XOAUTH2 " + xoauth2(b"bad") + b"\r\n")
        client.vanish()
        self.assertEqual(client.server.session.login_failures, 1)
        self.assertEqual(self.harness.events.kinds.count("login-failed"), 3)

    def test_too_many_bad_tokens_end_the_connection(self) -> None:
        """Promise: auth_tries holds for tokens."""
        client = self.harness.connect()
        for _ in range(2):
            self.rejected(client, b"AUTH XOAUTH2 " + xoauth2(b"bad") + b"\r\n")
            client.say(b"\r\n")
        client.say(b"AUTH XOAUTH2 " + xoauth2(b"bad") + b"\r\n")
        self.harness.clock.advance(2)
        self.assertEqual(client.heard(), FAILED)
        self.assertTrue(client.closed)

    def test_commands_behind_a_bad_token_are_not_carried_out(self) -> None:
        """RFC 2449 section 6.6: what was pipelined is the answer to the advice, then commands."""
        client = self.harness.connect()
        client.say(b"AUTH XOAUTH2 " + xoauth2(b"bad") + b"\r\n\r\nSTAT\r\n")
        self.harness.clock.advance(2)
        self.assertTrue(client.heard().endswith(FAILED + b"-ERR command not allowed now\r\n"))

    def test_discovery(self) -> None:
        """RFC 7628 section 4.3: without a token nobody is asked, and the client learns where there are some."""
        client = self.harness.connect()
        told = self.rejected(client, b"AUTH OAUTHBEARER " + base64.b64encode(b"n,,\x01auth=\x01\x01") + b"\r\n")
        self.assertEqual(told["openid-configuration"], ADVICE.configuration)
        self.assertEqual(client.say(b"AQ==\r\n"), FAILED)
        self.assertEqual(self.questions, [])

    def test_no_verdict_is_no_bad_token(self) -> None:
        """Promise: [SYS/TEMP], not counted, with the name in the log, and the next try works."""
        client = self.harness.connect()
        self.assertIn(b"-ERR [SYS/TEMP]", client.say(b"AUTH XOAUTH2 " + xoauth2(b"down") + b"\r\n"))
        self.assertEqual(client.server.session.login_failures, 0)
        self.assertEqual(client.server.session.named, b"joe")
        self.assertIn(b"+OK joe has", client.say(b"AUTH XOAUTH2 " + xoauth2(b"good") + b"\r\n"))

    def test_good_token_of_somebody_without_an_account(self) -> None:
        """Promise: refused as any unknown name."""
        client = self.harness.connect()
        client.say(b"AUTH XOAUTH2 " + xoauth2(b"stranger") + b"\r\n")
        self.harness.clock.advance(2)
        self.assertEqual(client.heard(), FAILED)
        self.assertIn("BadCredentials: unknown user", self.harness.events.details)
