"""Logins with bearer tokens: real keys, a real web server, real clients."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import Any

from tests.integration import corpus
from tests.integration.clients import ClientCase
from tests.integration.server import USER, temporary, wait_until
from tests.integration.wire import Wire
from tests.support import need
from tests.tokens import AUDIENCE, ISSUER, SigningKey, claims, key_set, raw
from tests.web_server import WebServer

FAILED = b"-ERR [AUTH] authentication failed"
UNAVAILABLE = b"-ERR [SYS/TEMP]"


class OAuthCase(ClientCase):
    """A server with one message that takes tokens of one issuer, whose keys are at an HTTPS address."""

    messages = {"lf": corpus.ALL["lf"]}

    def setUp(self) -> None:
        """Make the keys, then start."""
        self.key = SigningKey("first")
        self.web = WebServer(self, key_set(self.key), names=("127.0.0.1",))
        super().setUp()
        self.use(
            jwks_url=self.web.address,
            ca_file=self.web.certificate,
            issuer=ISSUER,
            audience=[AUDIENCE],
            scopes=["mail"],
            refetch_seconds=0.1,
            openid_configuration="https://login.example.org/.well-known/openid-configuration",
        )

    def use(self, **keys: Any) -> None:
        """Restart with this [oauth]."""
        self.server.stop()
        self.server.configuration["oauth"] = keys
        self.server.configuration["protocol"] = {
            "auth_delay_seconds": 0.05,
            "auth_delay_max_seconds": 0.05,
            "auth_tries": 100,
        }
        self.server.configuration["limits"] = {"errors_before_login": 1000}
        self.server.start()

    def wire(self) -> Wire:
        """A connection after its greeting."""
        wire = self.server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        return wire

    def answer(self, token: str, name: str = USER, mechanism: bytes = b"XOAUTH2", wire: Wire | None = None) -> bytes:
        """What the client gets in the end; a challenge is answered as the mechanism wants it."""
        own = wire is None
        wire = wire or self.wire()
        bearer = b"auth=Bearer " + token.encode() + b"\x01\x01"
        start = b"user=%s\x01" if mechanism == b"XOAUTH2" else b"n,a=%s,\x01host=x\x01port=110\x01"
        response = base64.b64encode(start % name.encode() + bearer)
        answer = wire.command(b"AUTH " + mechanism + b" " + response)
        if answer.startswith(b"+ "):
            json.loads(base64.b64decode(answer[2:]))
            answer = wire.command(b"" if mechanism == b"XOAUTH2" else b"AQ==")
        if own:
            wire.command(b"QUIT")
        return answer

    def assertLogsIn(self, token: str, **options: Any) -> None:
        """The token is good."""
        self.assertIn(b"+OK joe has 1 message", self.answer(token, **options))

    def assertNothingLogged(self, *tokens: str) -> None:
        """No part of a token is in any log."""
        logs = self.server.output() + self.server.json_log.read_text() + "".join(self.server.access())
        self.assertNotIn("Traceback", logs)
        for token in tokens:
            for part in token.split("."):
                self.assertTrue(not part or part[:40] not in logs)


class TokenTests(OAuthCase):
    """The wire."""

    def test_mechanisms_are_announced(self) -> None:
        """RFC 5034 section 3."""
        capabilities = self.wire().multi_line(b"CAPA")[1]
        self.assertIn(b"SASL PLAIN LOGIN CRAM-MD5 OAUTHBEARER XOAUTH2 SCRAM-SHA-1 SCRAM-SHA-256\r\n", capabilities)

    def test_good_tokens_in_every_form(self) -> None:
        """RFC 7628: both mechanisms, with the command and in a line of its own, then mail."""
        token = self.key.sign(claims())
        for mechanism in (b"OAUTHBEARER", b"XOAUTH2"):
            wire = self.wire()
            self.assertLogsIn(token, mechanism=mechanism, wire=wire)
            self.assertEqual(wire.multi_line(b"RETR 1")[1], corpus.wire(self.messages["lf"]))
            wire.command(b"QUIT")
        wire = self.wire()
        self.assertEqual(wire.command(b"AUTH XOAUTH2"), b"+ ")
        response = base64.b64encode(f"user=Joe\x01auth=Bearer {token}\x01\x01".encode())
        self.assertIn(b"+OK joe has 1 message", wire.command(response))
        self.assertNothingLogged(token)

    def test_tokens_that_are_not_good(self) -> None:
        """RFC 8725: refused with [AUTH], counted, and told to the log; the next try on the connection works."""
        payload = json.dumps(claims()).encode()
        stranger = SigningKey("first")
        wire = self.wire()
        for token, why in (
            (self.key.sign(claims(exp=int(time.time()) - 60)), "the token has expired"),
            (self.key.sign(claims(nbf=int(time.time()) + 600)), "the token is not valid yet"),
            (self.key.sign(claims(aud="web")), "the token is for another audience"),
            (self.key.sign(claims(iss="https://evil.example/")), "the token is of another issuer"),
            (self.key.sign(claims(scope="openid")), "the token has not the scope mail"),
            (self.key.sign(claims(email="ann")), "the token is of ann"),
            (raw({"alg": "none", "kid": "first"}, payload), "an algorithm that is not allowed"),
            (raw({"alg": "HS256", "kid": "first"}, payload, self.key.public_pem()), "an algorithm that is not allowed"),
            (stranger.sign(claims()), "the signature of the token is wrong"),
            ("opaque", "the token is no signed token"),
        ):
            for mechanism in (b"OAUTHBEARER", b"XOAUTH2"):
                self.assertEqual(self.answer(token, mechanism=mechanism, wire=wire), FAILED, why)
                event = self.server.events("login-failed")[-1]
                self.assertIn(why, event["detail"])
                self.assertEqual(event["named"], USER)
            self.assertNothingLogged(token)
        self.assertLogsIn(self.key.sign(claims()), wire=wire)

    def test_challenge_tells_where_there_are_tokens(self) -> None:
        """RFC 7628 section 3.2.2."""
        wire = self.wire()
        answer = wire.command(b"AUTH OAUTHBEARER " + base64.b64encode(b"n,a=joe,\x01auth=Bearer x\x01\x01"))
        self.assertEqual(
            json.loads(base64.b64decode(answer[2:])),
            {
                "status": "invalid_token",
                "scope": "mail",
                "openid-configuration": "https://login.example.org/.well-known/openid-configuration",
            },
        )
        self.assertEqual(wire.command(b"AQ=="), FAILED)

    def test_owner_without_an_account(self) -> None:
        """Promise: a token alone makes no account."""
        self.assertEqual(self.answer(self.key.sign(claims(email="ann")), name="ann"), FAILED)
        self.assertIn("unknown user", self.server.event("login-failed")["detail"])

    def test_not_without_tls_where_passwords_are_not(self) -> None:
        """RFC 7628 section 4: a token is as good as a password."""
        self.server.stop()
        self.server.configuration["protocol"]["plaintext"] = "tls"
        self.server.start()
        wire = self.wire()
        self.assertNotIn(b"XOAUTH2", wire.multi_line(b"CAPA")[1])
        self.assertEqual(self.answer(self.key.sign(claims()), wire=wire), b"-ERR SASL mechanism not available")


class KeyTests(OAuthCase):
    """Keys that change while the server runs."""

    def test_rotation(self) -> None:
        """Promise: a new key counts without a restart, an old one not any more."""
        old = self.key.sign(claims())
        self.assertLogsIn(old)
        new = SigningKey("second", "ES256")
        self.web.answer = key_set(new)
        token = new.sign(claims())
        wait_until(lambda: self.answer(token).startswith(b"+OK"), "the new key")
        self.assertEqual(self.answer(old), FAILED)

    def test_issuer_down(self) -> None:
        """Promise: known keys stay good; an unknown one is [SYS/TEMP] and no wrong token, until the issuer is back."""
        self.assertLogsIn(self.key.sign(claims()))
        self.web.stop()
        unknown = SigningKey("second", "EdDSA")
        token = unknown.sign(claims())
        wait_until(lambda: self.answer(token).startswith(UNAVAILABLE), "no verdict")
        self.assertLogsIn(self.key.sign(claims()))
        self.assertEqual(self.answer(self.key.sign(claims(exp=1))), FAILED)
        self.web.answer = key_set(self.key, unknown)
        self.web.start()
        wait_until(lambda: self.answer(token).startswith(b"+OK"), "the issuer is back")
        self.assertNothingLogged(token)

    def test_issuer_hangs(self) -> None:
        """Promise: who needs no new key is not kept waiting, and others no longer than timeout_seconds."""
        self.web.answer = None
        self.use(**{**self.server.configuration["oauth"], "timeout_seconds": 0.2})
        self.assertTrue(self.answer(self.key.sign(claims())).startswith(UNAVAILABLE))
        self.assertIn("no answer within 0.2 seconds", self.server.event("login-failed")["detail"])
        self.web.answer = key_set(self.key)
        wait_until(lambda: self.answer(self.key.sign(claims())).startswith(b"+OK"), "the keys")

    def test_keys_in_a_file(self) -> None:
        """Promise: Ed25519 and a key set in a file, which may change."""
        key = SigningKey("file", "EdDSA")
        path = self.server.directory / "jwks.json"
        path.write_text(json.dumps(key_set(key)))
        self.use(jwks_file="jwks.json", issuer=ISSUER, audience=[AUDIENCE])
        self.assertLogsIn(key.sign(claims()))
        self.assertEqual(self.answer(self.key.sign(claims())), FAILED)
        path.write_text(json.dumps(key_set(self.key)))
        wait_until(lambda: self.answer(self.key.sign(claims())).startswith(b"+OK"), "the new file")


class IntrospectionTests(OAuthCase):
    """RFC 7662."""

    def test_introspection(self) -> None:
        """Promise: asked once for a token within the time; withdrawn tokens are refused; down is [SYS/TEMP]."""
        secret = self.server.directory / "secret"
        secret.touch(0o600)
        secret.write_text("geheim\n")
        self.web.answer = {"active": True, "username": USER, "scope": "mail"}
        self.use(
            introspection_url=self.web.address,
            ca_file=self.web.certificate,
            client_id="tpops",
            client_secret_file="secret",
            scopes=["mail"],
            timeout_seconds=0.3,
        )
        for _ in range(2):
            self.assertLogsIn("0123456789abcdef")
        (request,) = self.web.requests
        self.assertEqual(request.form["token"], "0123456789abcdef")
        self.assertEqual(base64.b64decode(request.headers["Authorization"].split()[1]), b"tpops:geheim")
        self.web.answer = {"active": False}
        self.assertEqual(self.answer("withdrawn"), FAILED)
        self.web.answer = None
        self.assertTrue(self.answer("hanging").startswith(UNAVAILABLE))
        self.web.status, self.web.answer = 401, {}
        self.assertTrue(self.answer("notforus").startswith(UNAVAILABLE))
        self.assertIn("status 401", self.server.events("login-failed")[-1]["detail"])
        self.web.stop()
        self.assertTrue(self.answer("down").startswith(UNAVAILABLE))
        self.assertLogsIn("0123456789abcdef")
        self.assertNothingLogged("0123456789abcdef", "geheim", "withdrawn")


class CurlTests(OAuthCase):
    """curl."""

    skip = need(None, "curl")

    def curl(self, mechanism: str, token: str, *options: str, statuses: tuple[int, ...] = (0,)) -> bytes:
        """Fetch the message; 67 is "login denied"."""
        url = f"pop3://{USER}@127.0.0.1:{self.server.port}/1"
        login = ("--oauth2-bearer", token, "--login-options", f"AUTH={mechanism}")
        return self.run_client("curl", "-sS", *login, *options, url, statuses=statuses)

    def test_both_mechanisms(self) -> None:
        """Promise: with and without an initial response; a bad token gets nothing."""
        bad = self.key.sign(claims(exp=1))
        for mechanism in ("OAUTHBEARER", "XOAUTH2"):
            for options in ((), ("--sasl-ir",)):
                got = self.curl(mechanism, self.key.sign(claims()), *options)
                self.assertEqual(got, corpus.wire(self.messages["lf"]))
                self.curl(mechanism, bad, *options, statuses=(67,))
        self.assertEqual(len(self.server.events("login")), 4)
        self.assertEqual(len(self.server.events("login-failed")), 4)


class MpopTests(OAuthCase):
    """mpop, which sends the token with the command, whatever its length."""

    skip = need(None, "mpop")

    def poll(self, mechanism: str, token: str, statuses: tuple[int, ...] = (0,)) -> list[Path]:
        """Fetch into a new Maildir; gives what is there then."""
        home = temporary(self)
        for part in ("tmp", "new", "cur"):
            (home / "Maildir" / part).mkdir(parents=True)
        (home / "token").write_text(token)
        settings = home / "mpoprc"
        settings.touch(0o600)
        settings.write_text(
            f"account default\nhost 127.0.0.1\nport {self.server.port}\nuser {USER}\npasswordeval cat {home}/token\n"
            f"auth {mechanism}\ntls off\nkeep on\ndelivery maildir {home}/Maildir\nuidls_file {home}/uidls\n"
        )
        command = ("mpop", "-C", str(settings), "--debug")
        self.said = self.run_client(*command, env={**os.environ, "HOME": str(home)}, statuses=statuses)
        return list((home / "Maildir" / "new").iterdir())

    def test_both_mechanisms(self) -> None:
        """Promise: a good token gets the mail, a bad one nothing; 77 is EX_NOPERM."""
        for mechanism in ("oauthbearer", "xoauth2"):
            self.assertEqual(len(self.poll(mechanism, self.key.sign(claims()))), 1, self.said)
            self.assertIn(b"--> AUTH " + mechanism.upper().encode(), self.said)
            self.assertEqual(self.poll(mechanism, self.key.sign(claims(exp=1)), statuses=(77,)), [], self.said)
