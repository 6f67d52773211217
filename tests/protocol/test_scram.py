"""SCRAM: the RFCs' own exchanges, clients that lie, and messages that are none."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient as Scramp
from twisted.trial.unittest import SynchronousTestCase

from tests.scram_client import ScramClient
from tpops.errors import BadCommand
from tpops.protocol.actions import LoginProven, LoginRejected
from tpops.protocol.sasl import Ask, Challenge, Outcome
from tpops.protocol.saslprep import prepared
from tpops.protocol.scram import DIGESTS, Bindings, Keys, KeysOf, Scram, derive

NONCE = b"3rfcNHYJY1ZVvWVs7j"
SALT = b"salt of joe, 16."
PASSWORD = b"pencil"

ENDPOINT = b"tls-server-end-point"
BINDINGS = {ENDPOINT: b"hash of the certificate", b"tls-exporter": b"key of the connection"}


def keys(digest: str = "sha256", salt: bytes = SALT, password: bytes = PASSWORD, source: str | None = "users") -> Keys:
    """What the server has of the password."""
    return Keys(salt, 4096, *derive(digest, prepared(password), salt, 4096), source, "" if source else "unknown user")


def answered(outcome: Outcome, answer: Keys) -> Outcome:
    """Go on with the keys that were asked for."""
    assert isinstance(outcome, Ask), outcome
    return outcome.consulted(answer)


def sent(outcome: Outcome) -> bytes:
    """The challenge's octets."""
    assert isinstance(outcome, Challenge), outcome
    return outcome.data


class ScramCase(SynchronousTestCase):
    """Runs exchanges."""

    def start(self, digest: str = "sha256", plus: bool = False, bindings: Bindings | None = None) -> Scram:
        """A new exchange."""
        return Scram(digest, plus, bindings or {}, lambda: NONCE)

    def run_through(self, client: ScramClient, exchange: Scram, stored: Keys) -> Outcome:
        """The whole exchange; gives what the proof led to."""
        first = sent(answered(exchange.respond(client.first()), stored))
        return exchange.respond(client.final(first))


class VectorTests(ScramCase):
    """The exchanges in the RFCs."""

    def check(self, digest: str, nonce: bytes, salt: bytes, messages: tuple[bytes, ...]) -> None:
        """Feed what the client says and compare what the server says."""
        exchange = Scram(digest, False, {}, lambda: nonce)
        asked = exchange.respond(messages[0])
        assert isinstance(asked, Ask)
        self.assertEqual(asked.question, KeysOf(b"user", digest))
        self.assertEqual(sent(asked.consulted(keys(digest, base64.b64decode(salt)))), messages[1])
        self.assertEqual(sent(exchange.respond(messages[2])), messages[3])
        proven = exchange.respond(b"")
        assert isinstance(proven, LoginProven)
        self.assertEqual((proven.name, proven.source), (b"user", "users"))

    def test_sha_1(self) -> None:
        """RFC 5802 section 5."""
        self.check(
            "sha1",
            b"3rfcNHYJY1ZVvWVs7j",
            b"QSXCR+Q6sek8bf92",
            (
                b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
                b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
        )

    def test_sha_256(self) -> None:
        """RFC 7677 section 3."""
        self.check(
            "sha256",
            b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
            b"W22ZaJ0SNY7soEsUEjb6gQ==",
            (
                b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        )


class ClientTests(ScramCase):
    """Another implementation as the peer: scramp."""

    def check(self, mechanism: str, password: str, plus: bool = False) -> None:
        """It gets in, and believes us."""
        binding = (ENDPOINT.decode("ascii"), BINDINGS[ENDPOINT]) if plus else None
        client = Scramp([mechanism], "Jürgen, = x", password, channel_binding=binding)
        digest = DIGESTS[mechanism.removesuffix("-PLUS").encode()]
        exchange = self.start(digest, plus, BINDINGS)
        asked = exchange.respond(client.get_client_first().encode())
        assert isinstance(asked, Ask)
        self.assertEqual(asked.question, KeysOf("Jürgen, = x".encode(), digest))
        client.set_server_first(sent(asked.consulted(keys(digest, password=password.encode()))).decode())
        client.set_server_final(sent(exchange.respond(client.get_client_final().encode())).decode())
        self.assertIsInstance(exchange.respond(b""), LoginProven)

    def test_mechanisms(self) -> None:
        """RFC 5802: names with comma and equals sign; with channel binding and without."""
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            self.check(mechanism, "pencil")
            self.check(mechanism + "-PLUS", "pencil", plus=True)

    def test_passwords_are_prepared(self) -> None:
        """RFC 4013: ligatures, soft hyphens and other spaces are one password with what they stand for."""
        for password in ("\ufb01sch", "I\u00adX", "a\u00a0b", "Straße", "\u0627\u0031\u0628"):
            self.check("SCRAM-SHA-256", password)


class RefusalTests(ScramCase):
    """Who does not get in, and what the log says."""

    def refused(self, client: ScramClient, exchange: Scram | None = None, stored: Keys | None = None) -> str:
        """Run it; gives the reason for the log."""
        outcome = self.run_through(client, exchange or self.start(), stored or keys())
        assert isinstance(outcome, LoginRejected), outcome
        self.assertEqual(outcome.name, b"joe")
        self.assertTrue(outcome.proof)
        return outcome.why

    def test_wrong_password(self) -> None:
        """RFC 5802 section 3."""
        self.assertEqual(self.refused(ScramClient(b"joe", b"wrong")), "wrong password")

    def test_proof_of_another_length(self) -> None:
        """Promise: neither a part of the proof is enough, nor a proof with something behind it."""
        for change in (lambda proof: proof[:-1], lambda proof: proof + b"x", lambda proof: b""):
            client, exchange = ScramClient(b"joe", PASSWORD), self.start()
            final = client.final(sent(answered(exchange.respond(client.first()), keys())))
            begin, _, proof = final.partition(b",p=")
            changed = base64.b64encode(change(base64.b64decode(proof))) or b"===="
            try:
                outcome = exchange.respond(begin + b",p=" + changed)
            except BadCommand:
                continue
            self.assertIsInstance(outcome, LoginRejected)

    def test_names_without_keys(self) -> None:
        """Promise: a name that cannot log in looks like a wrong password, even if somebody guesses its made up keys."""
        for password in (b"wrong", PASSWORD):
            self.assertEqual(self.refused(ScramClient(b"joe", password), stored=keys(source=None)), "unknown user")

    def test_changed_channel_binding(self) -> None:
        """RFC 5802 section 6: the TLS connection that the client sees is not ours."""
        client = ScramClient(b"joe", PASSWORD, flag=b"p=" + ENDPOINT, binding=b"another certificate")
        self.assertIn("channel binding", self.refused(client, self.start(plus=True, bindings=BINDINGS)))

    def test_changed_header(self) -> None:
        """RFC 5802 section 5.1: the header in the last message is the one of the first."""
        client, exchange = ScramClient(b"joe", PASSWORD), self.start()
        first = sent(answered(exchange.respond(client.first()), keys()))
        client.gs2 = b"y,,"
        outcome = exchange.respond(client.final(first))
        assert isinstance(outcome, LoginRejected)
        self.assertIn("channel binding", outcome.why)

    def test_hidden_offer(self) -> None:
        """RFC 5802 section 6: "y" says that we do not offer channel binding; where we do, somebody is in between."""
        client = ScramClient(b"joe", PASSWORD, flag=b"y")
        outcome = self.start(bindings=BINDINGS).respond(client.first())
        assert isinstance(outcome, LoginRejected)
        self.assertIn("hidden", outcome.why)
        self.assertIsInstance(self.run_through(client, self.start(), keys()), Challenge)

    def test_nonce_of_another_exchange(self) -> None:
        """RFC 5802 section 5.1: what was sent once proves nothing the next time."""
        client = ScramClient(b"joe", PASSWORD)
        exchange = self.start()
        final = client.final(sent(answered(exchange.respond(client.first()), keys())))
        again = Scram("sha256", False, {}, lambda: b"another")
        answered(again.respond(client.first()), keys())
        outcome = again.respond(final)
        assert isinstance(outcome, LoginRejected)
        self.assertEqual(outcome.why, "nonce of another exchange")

    def test_nothing_secret_in_representations(self) -> None:
        """No secret gets into a log by way of repr."""
        self.assertNotIn(repr(keys().stored_key)[2:-1], repr(keys()))
        self.assertNotIn(repr(keys().server_key)[2:-1], repr(keys()))


class FormTests(ScramCase):
    """RFC 5802 section 7."""

    def test_server_waits_for_the_client(self) -> None:
        """RFC 5034 section 4: without an initial response the server asks with an empty challenge."""
        exchange = self.start()
        self.assertEqual(exchange.respond(None), Challenge(b""))
        self.assertIsInstance(exchange.respond(ScramClient(b"joe", PASSWORD).first()), Ask)

    def test_both_kinds_of_channel_binding(self) -> None:
        """RFC 9266 and RFC 5929: the client chooses."""
        for kind, binding in BINDINGS.items():
            client = ScramClient(b"joe", PASSWORD, flag=b"p=" + kind, binding=binding)
            outcome = self.run_through(client, self.start(plus=True, bindings=BINDINGS), keys())
            self.assertEqual(outcome, Challenge(client.expected))

    def test_channel_binding_goes_with_plus(self) -> None:
        """RFC 5802 section 6: a mechanism with it and a client without, and the other way round."""
        for plus, flag in ((True, b"n"), (True, b"y"), (False, b"p=tls-exporter")):
            exchange = self.start(plus=plus, bindings=BINDINGS)
            error = self.assertRaises(BadCommand, exchange.respond, ScramClient(b"joe", PASSWORD, flag=flag).first())
            self.assertIn("-PLUS", error.public)

    def test_unknown_kind_of_channel_binding(self) -> None:
        """RFC 5802 section 6: the answer names the kinds that there are."""
        exchange = self.start(plus=True, bindings=BINDINGS)
        client = ScramClient(b"joe", PASSWORD, flag=b"p=tls-unique")
        error = self.assertRaises(BadCommand, exchange.respond, client.first())
        self.assertIn("tls-server-end-point, tls-exporter", error.public)

    def test_authorization_identity(self) -> None:
        """RFC 5802 section 5.1: the own name is fine, another's is not."""
        outcome = self.start().respond(b"n,a=a=2Cb,n=a=2Cb,r=x")
        assert isinstance(outcome, Ask)
        self.assertEqual(outcome.question, KeysOf(b"a,b", "sha256"))
        self.assertRaises(BadCommand, self.start().respond, b"n,a=other,n=joe,r=x")

    def test_extensions(self) -> None:
        """RFC 5802 section 5.1: unknown ones are passed over, and signed all the same; mandatory ones are refused."""
        client = ScramClient(b"joe", PASSWORD)
        client._bare += b",x=1,y=2=3"
        self.assertEqual(self.run_through(client, self.start(), keys()), Challenge(client.expected))
        self.assertRaises(BadCommand, self.start().respond, b"n,,m=x,n=joe,r=x")

    def test_malformed_first_messages(self) -> None:
        """Promise: each is refused."""
        for message in (
            b"",
            b"n,,",
            b"n,n=joe,r=x",
            b"x,,n=joe,r=x",
            b"p=,,n=joe,r=x",
            b"p=a b,,n=joe,r=x",
            b"n,b=x,n=joe,r=x",
            b"n,a=,n=joe,r=x",
            b"n,,n=,r=x",
            b"n,,n=joe",
            b"n,,n=joe,r=",
            b"n,,n=joe,r=a b",
            b"n,,n=joe,r=x,",
            b"n,,n=joe,r=x,xx",
            b"n,,n=a=b,r=x",
            b"n,,n=a=2c,r=x",
            b"n,,n=a=,r=x",
            b"n,,n=j\0e,r=x",
            b"n,,n=joe,r=x\n",
        ):
            self.assertRaises(BadCommand, self.start().respond, message)

    def test_malformed_last_messages(self) -> None:
        """Promise: each is refused."""
        for message in (
            b"",
            b"c=biws,r=x",
            b"c=biws,p=QQ==",
            b"c=biws,r=x,p=",
            b"c=biws,r=x,p=QQ=",
            b"c=biw,r=x,p=QQ==",
            b"c=,r=x,p=QQ==",
            b"c=biws,r=x,p=Q\0==",
            b"c=biws,r=x,p=QQ==,x=1",
        ):
            exchange = self.start()
            answered(exchange.respond(ScramClient(b"joe", PASSWORD).first()), keys())
            self.assertRaises(BadCommand, exchange.respond, message)

    def test_something_behind_the_end(self) -> None:
        """RFC 5034 section 4: to the server's signature the client answers with nothing."""
        client, exchange = ScramClient(b"joe", PASSWORD), self.start()
        self.assertEqual(self.run_through(client, exchange, keys()), Challenge(client.expected))
        self.assertRaises(BadCommand, exchange.respond, b"x")


class AnyMessageTests(ScramCase):
    """Whatever comes, nothing but a refusal comes of it."""

    TEXT = st.one_of(
        st.binary(max_size=60),
        st.text("nyp=,arc v0,=2CD3tls-exporter\0", max_size=60).map(str.encode),
        st.from_regex(rb"[nyp](=[a-z-]*)?,(a=\w*)?,n=\w*,r=\w*(,.*)?", fullmatch=True),
        st.from_regex(rb"c=[\w+/=]*,r=[\w]*(,.*)?,p=[\w+/=]*", fullmatch=True),
    )

    @given(TEXT, st.booleans())
    def test_first(self, message: bytes, plus: bool) -> None:
        """Promise: a question, a refusal, or BadCommand."""
        try:
            outcome = self.start(plus=plus, bindings=BINDINGS).respond(message)
        except BadCommand:
            return
        self.assertIsInstance(outcome, Ask | LoginRejected)

    @given(TEXT)
    def test_final(self, message: bytes) -> None:
        """Promise: nobody gets in with something made up."""
        exchange = self.start()
        answered(exchange.respond(ScramClient(b"joe", PASSWORD).first()), keys())
        try:
            outcome = exchange.respond(message)
        except BadCommand:
            return
        self.assertIsInstance(outcome, LoginRejected)

    @given(TEXT.filter(bool))
    def test_end(self, message: bytes) -> None:
        """Promise: only the empty response ends it well."""
        client, exchange = ScramClient(b"joe", PASSWORD), self.start()
        self.run_through(client, exchange, keys())
        self.assertRaises(BadCommand, exchange.respond, message)
