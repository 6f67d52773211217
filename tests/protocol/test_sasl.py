"""SASL framing and the mechanisms."""

from __future__ import annotations

import base64

from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import BadCommand
from tpops.protocol import sasl
from tpops.protocol.actions import Consult, Login, LoginByKeyedDigest
from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import Ask, Challenge, CramMD5, LoginExchange, Outcome, Plain
from tpops.protocol.states import Authorization, Conversation


class Base64Tests(SynchronousTestCase):
    """RFC 5034 §4."""

    def test_strict_base64_only(self) -> None:
        """Anything that is not base64 is refused, nothing is skipped."""
        self.assertEqual(sasl.decode(b"YWJj"), b"abc")
        self.assertEqual(sasl.decode(b""), b"")
        for text in (b"YWJ", b"Y W J j", b"YWJj!", b"\xff\xfe", b"YWJj\x00", b"===="):
            self.assertRaises(BadCommand, sasl.decode, text)

    def test_equals_sign_is_an_empty_initial_response(self) -> None:
        """RFC 5034 §4: '=' stands for a response of no octets."""
        self.assertEqual(sasl.decode_initial(b"="), b"")
        self.assertEqual(sasl.decode_initial(b"YQ=="), b"a")

    def test_challenges_are_base64(self) -> None:
        """RFC 5034 §4."""
        self.assertEqual(sasl.encode(b"\x00\xff"), base64.b64encode(b"\x00\xff"))


class PlainTests(SynchronousTestCase):
    """RFC 4616."""

    def test_without_initial_response_it_asks(self) -> None:
        """An empty challenge asks for the response."""
        self.assertEqual(Plain().respond(None), Challenge(b""))

    def test_name_and_password(self) -> None:
        """NUL parts, spaces and 8-bit octets are kept."""
        self.assertEqual(Plain().respond(b"\0joe\0pass word\xe9"), Login(b"joe", b"pass word\xe9"))

    def test_own_name_as_authorization_identity(self) -> None:
        """RFC 4616 §2: acting for oneself is no special case."""
        self.assertEqual(Plain().respond(b"joe\0joe\0x"), Login(b"joe", b"x"))

    def test_another_name_as_authorization_identity(self) -> None:
        """RFC 4616 §2: the name for whom the client wants to act goes with the login; the server judges."""
        self.assertEqual(Plain().respond(b"ann\0joe\0x"), Login(b"joe", b"x", b"ann"))

    def test_malformed_responses_are_refused(self) -> None:
        """Missing parts, too many, empty name or password."""
        for response in (b"", b"joe", b"\0joe", b"\0\0x", b"\0joe\0", b"\0a\0b\0c"):
            self.assertRaises(BadCommand, Plain().respond, response)

    def test_password_is_not_in_the_representation(self) -> None:
        """No secret gets into a log by way of repr."""
        self.assertNotIn("geheim", repr(Login(b"joe", b"geheim")))


class LoginTests(SynchronousTestCase):
    """LOGIN, which has no RFC (draft-murchison-sasl-login)."""

    def test_name_and_password_are_asked_for(self) -> None:
        """The two prompts that clients wait for; spaces and 8-bit octets are kept."""
        exchange = LoginExchange()
        self.assertEqual(exchange.respond(None), Challenge(b"Username:"))
        self.assertEqual(exchange.respond(b"joe"), Challenge(b"Password:"))
        self.assertEqual(exchange.respond(b" pass word\xe9"), Login(b"joe", b" pass word\xe9"))

    def test_initial_response_is_the_name(self) -> None:
        """Clients that send one are asked for the password only."""
        exchange = LoginExchange()
        self.assertEqual(exchange.respond(b"joe"), Challenge(b"Password:"))
        self.assertEqual(exchange.respond(b"x"), Login(b"joe", b"x"))

    def test_empty_name_or_password_is_refused(self) -> None:
        """As with PLAIN, and before anything is looked up."""
        self.assertRaises(BadCommand, LoginExchange().respond, b"")
        exchange = LoginExchange()
        exchange.respond(b"joe")
        self.assertRaises(BadCommand, exchange.respond, b"")


class CramMD5Tests(SynchronousTestCase):
    """RFC 2195 §2."""

    def asked(self) -> CramMD5:
        """An exchange whose challenge was sent."""
        exchange = CramMD5(b"<1.2@host>")
        self.assertEqual(exchange.respond(None), Challenge(b"<1.2@host>"))
        return exchange

    def test_name_and_digest_over_the_challenge(self) -> None:
        """The digest comes last, in either case; a name may have spaces."""
        digest = b"B913A602C7EDA7A495B4E6E7334D3890"
        for name in (b"tim", b"tim of x", b"t\xc3\xafm"):
            expected = LoginByKeyedDigest(name, b"<1.2@host>", digest.lower())
            self.assertEqual(self.asked().respond(name + b" " + digest), expected)

    def test_no_initial_response(self) -> None:
        """RFC 2195 §2: the server speaks first, so a response with the command is refused, an empty one too."""
        for response in (b"", b"joe " + b"0" * 32):
            self.assertRaises(BadCommand, CramMD5(b"<1@h>").respond, response)

    def test_malformed_responses_are_refused(self) -> None:
        """No name, no digest, one of another length."""
        for response in (b"", b"joe", b"joe ", b"joe 0", b" " + b"0" * 32, b"0" * 32, b"joe " + b"0" * 33):
            self.assertRaises(BadCommand, self.asked().respond, response)

    def test_digest_is_not_in_the_representation(self) -> None:
        """No secret gets into a log by way of repr."""
        self.assertNotIn("0" * 32, repr(self.asked().respond(b"joe " + b"0" * 32)))


class AskTests(SynchronousTestCase):
    """Exchanges that need an answer of the server."""

    def test_the_answer_goes_to_the_exchange(self) -> None:
        """Until it is there the conversation is where it was before AUTH; then the exchange decides."""

        class Asking:
            def respond(self, response: bytes | None) -> Outcome:
                return Ask("who", lambda answer: Challenge(b"c") if answer == "me" else Login(b"joe", b"x"))

        conversation = Conversation(Offer(mechanisms={b"ASKING": Asking}))
        action = conversation.handle(b"AUTH ASKING")
        assert isinstance(action, Consult)
        self.assertEqual(action.question, "who")
        self.assertIsInstance(conversation.state, Authorization)
        self.assertEqual(action.resume("me"), b"+ Yw==\r\n")
        self.assertEqual(action.resume("you"), Login(b"joe", b"x"))
