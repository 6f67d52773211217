"""OAUTHBEARER and XOAUTH2: what clients send, and what they are told."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import AuthenticationFailed, BadCommand
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.oauth import Advice, OAuthBearer, TokenAnswer, TokenQuestion, XOAuth2
from tpops.protocol.sasl import Ask, Challenge, Outcome

ADVICE = Advice("mail openid", "https://login.example.org/.well-known/openid-configuration")

#: RFC 7628 section 4.1.
OF_THE_RFC = (
    b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
    b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
)
RFC_TOKEN = b"vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="


def question(outcome: Outcome) -> TokenQuestion:
    """What is asked."""
    assert isinstance(outcome, Ask), outcome
    assert isinstance(outcome.question, TokenQuestion)
    return outcome.question


class OAuthBearerTests(SynchronousTestCase):
    """RFC 7628."""

    def test_without_initial_response_it_asks(self) -> None:
        """RFC 5034 section 4: an empty challenge, then the response in a line of its own."""
        exchange = OAuthBearer(ADVICE)
        self.assertEqual(exchange.respond(None), Challenge(b""))
        self.assertEqual(question(exchange.respond(OF_THE_RFC)), TokenQuestion(b"user@example.com", RFC_TOKEN))

    def test_name_and_token(self) -> None:
        """RFC 7628 section 3.1: names with escapes or none at all, fields in any order, any case of "Bearer"."""
        for response, name, token in (
            (OF_THE_RFC, b"user@example.com", RFC_TOKEN),
            (b"n,,\x01auth=Bearer a.b-c_d~e+f/g=\x01\x01", b"", b"a.b-c_d~e+f/g="),
            (b"y,a=a=2Cb=3Dc,\x01auth=bearer  x \x01\x01", b"a,b=c", b"x"),
            (b"n,a=j\xc3\xb6,\x01auth=BEARER x\x01future=1\x01port=\x01\x01", b"j\xc3\xb6", b"x"),
            (b"n,a=joe,\x01auth=Bearer x\x01", b"joe", b"x"),
        ):
            self.assertEqual(question(OAuthBearer(ADVICE).respond(response)), TokenQuestion(name, token), response)

    def test_malformed_responses_are_refused(self) -> None:
        """Another header, channel binding, broken escapes, fields twice, another scheme, an empty response."""
        for response in (
            b"",
            b"\x01",
            b"n,a=joe\x01auth=Bearer x\x01\x01",
            b"n,a=joe,x\x01auth=Bearer x\x01\x01",
            b"n,b=joe,\x01auth=Bearer x\x01\x01",
            b"n,a=,\x01auth=Bearer x\x01\x01",
            b"p=tls-exporter,a=joe,\x01auth=Bearer x\x01\x01",
            b"F,n,a=joe,\x01auth=Bearer x\x01\x01",
            b"n,a=jo=e,\x01auth=Bearer x\x01\x01",
            b"n,a=jo=2ce,\x01auth=Bearer x\x01\x01",
            b"n,a=joe,\x01auth=Bearer x\x01auth=Bearer y\x01\x01",
            b"n,a=joe,\x01auth=Basic am9l\x01\x01",
            b"n,a=joe,\x01auth=Bearer \x01\x01",
            b"n,a=joe,\x01auth=Bearer x y\x01\x01",
            b"n,a=joe,\x01auth=Bearer \xff\x01\x01",
            b"n,a=joe,\x01auth\x01\x01",
            b"n,a=joe,\x01=x\x01\x01",
        ):
            self.assertRaises(BadCommand, OAuthBearer(ADVICE).respond, response)

    def test_good_token_logs_its_owner_in(self) -> None:
        """The name is the token's, not what the client has called itself."""
        exchange = OAuthBearer(ADVICE)
        exchange.respond(b"n,a=Joe,\x01auth=Bearer x\x01\x01")
        self.assertEqual(exchange.consulted(TokenAnswer(b"joe@example.org")), LoginProven(b"joe@example.org", b"x"))

    def test_bad_token_is_a_failed_login_with_advice(self) -> None:
        """RFC 7628 section 3.2.2: status, scope and where there are tokens; any answer ends the exchange."""
        for answer in (b"\x01", b"", OF_THE_RFC):
            exchange = OAuthBearer(ADVICE)
            exchange.respond(b"n,a=joe,\x01auth=Bearer x\x01\x01")
            outcome = exchange.consulted(TokenAnswer(b"", "the token has expired"))
            assert isinstance(outcome, LoginRejected)
            self.assertEqual((outcome.name, outcome.proof, outcome.why), (b"joe", b"x", "the token has expired"))
            assert outcome.challenge is not None
            self.assertEqual(
                json.loads(outcome.challenge),
                {"status": "invalid_token", "scope": ADVICE.scope, "openid-configuration": ADVICE.configuration},
            )
            self.assertRaises(AuthenticationFailed, exchange.respond, answer)

    def test_no_token_is_a_question_where_there_are_some(self) -> None:
        """RFC 7628 section 4.3: the same advice, and nobody is asked."""
        for response in (b"n,a=joe,\x01auth=\x01\x01", b"n,a=joe,\x01host=x\x01\x01", b"n,,\x01\x01"):
            outcome = OAuthBearer(Advice()).respond(response)
            assert isinstance(outcome, LoginRejected)
            self.assertEqual((outcome.why, outcome.challenge), ("no token", b'{"status": "invalid_token"}'))

    def test_token_is_not_in_any_representation(self) -> None:
        """No secret gets into a log by way of repr."""
        asked = OAuthBearer(ADVICE).respond(OF_THE_RFC)
        for value in (asked, question(asked), LoginProven(b"joe", RFC_TOKEN), LoginRejected(b"joe", RFC_TOKEN)):
            self.assertNotIn(RFC_TOKEN.decode(), repr(value))


class XOAuth2Tests(SynchronousTestCase):
    """XOAUTH2 as Google and Microsoft describe it."""

    def test_name_and_token(self) -> None:
        """Both line forms, and clients that leave the last separator out."""
        expected = TokenQuestion(b"joe@example.org", b"x.y")
        for end in (b"\x01\x01", b"\x01", b""):
            response = b"user=joe@example.org\x01auth=Bearer x.y" + end
            self.assertEqual(question(XOAuth2(ADVICE).respond(response)), expected)
            exchange = XOAuth2(ADVICE)
            self.assertEqual(exchange.respond(None), Challenge(b""))
            self.assertEqual(question(exchange.respond(response)), expected)

    def test_malformed_responses_are_refused(self) -> None:
        """A name is needed; a field is there once."""
        for response in (
            b"",
            b"auth=Bearer x\x01\x01",
            b"user=\x01auth=Bearer x\x01\x01",
            b"user=joe\x01user=ann\x01auth=Bearer x\x01\x01",
            b"user=joe\x01auth=x\x01\x01",
            b"n,a=joe,\x01auth=Bearer x\x01\x01",
        ):
            self.assertRaises(BadCommand, XOAuth2(ADVICE).respond, response)

    def test_advice_is_as_google_gives_it(self) -> None:
        """A status of HTTP, the scheme, the scope; then the failure."""
        exchange = XOAuth2(ADVICE)
        exchange.respond(b"user=joe\x01auth=Bearer x\x01\x01")
        outcome = exchange.consulted(TokenAnswer(b"", "why"))
        assert isinstance(outcome, LoginRejected)
        assert outcome.challenge is not None
        self.assertEqual(json.loads(outcome.challenge), {"status": "401", "schemes": "bearer", "scope": "mail openid"})
        self.assertRaises(AuthenticationFailed, exchange.respond, b"")
