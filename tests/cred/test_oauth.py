"""Bearer tokens as a means to log in, from the configuration's keys to the answer."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.cred.fakes import Threads
from tests.tokens import AUDIENCE, ISSUER, SigningKey, claims, key_set
from tests.web_server import WebServer
from tpops.config.oauth import OAuth as Keys
from tpops.config.schema import Config
from tpops.cred import oauth
from tpops.cred.names import LoginNames
from tpops.cred.oauth import OAuth
from tpops.errors import LookupUnavailable
from tpops.protocol.oauth import TokenAnswer, TokenQuestion

KEY = SigningKey("one", "ES256")
SIGNED = {"issuer": ISSUER, "audience": [AUDIENCE]}


class AnswerTests(TestCase):
    """See L{OAuth.answer}; with real servers."""

    timeout = 60

    def subject(self, **keys: Any) -> OAuth:
        made = OAuth(LoginNames(), reactor, Threads(), **Keys.model_validate(keys).settings())
        self.addCleanup(made.stop)
        return made

    def file(self, text: str) -> str:
        """The path of a file that nobody else may read."""
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    async def ask(self, subject: OAuth, token: str, name: str = "joe") -> TokenAnswer:
        return await subject.answer(TokenQuestion(name.encode(), token.encode()))

    async def test_signed_tokens_with_keys_at_an_address(self) -> None:
        """Promise: over verified TLS; the owner's name comes back, canonical."""
        server = WebServer(self, key_set(KEY), names=("127.0.0.1",))
        subject = self.subject(jwks_url=server.address, ca_file=server.certificate, **SIGNED)
        token = KEY.sign(claims(email="Joe@Example.ORG"))
        for name in ("joe@example.org", "JOE@example.org", ""):
            self.assertEqual(await self.ask(subject, token, name), TokenAnswer(b"joe@example.org"))
        self.assertEqual(len(server.requests), 1)

    async def test_somebody_elses_token(self) -> None:
        """RFC 7628 section 3.1: the name must be the token's owner."""
        subject = self.subject(jwks_file=self.file(json.dumps(key_set(KEY))), **SIGNED)
        for name, why in (("ann", "the token is of joe"), ("a/b", "login name would be dangerous in a path")):
            self.assertEqual(await self.ask(subject, KEY.sign(claims()), name), TokenAnswer(b"", why))
        for name in ("a/b", "\ud800", "\x00"):
            answer = await self.ask(subject, KEY.sign(claims(email=name)), "")
            self.assertEqual(answer.name, b"")

    async def test_rules_of_the_configuration(self) -> None:
        """Promise: issuer, audience, scopes, name and leeway are what [oauth] says."""
        keys = {"jwks_file": self.file(json.dumps(key_set(KEY))), **SIGNED}
        for changes, token, why in (
            ({}, claims(), ""),
            ({"issuer": "https://other/"}, claims(), "the token is of another issuer"),
            ({"audience": ["pop"]}, claims(), "the token is for another audience"),
            ({"scopes": ["mail", "pop"]}, claims(), "the token has not the scope pop"),
            ({"name_claim": "sub"}, claims(), "the token has no claim sub with a name"),
            ({"name_claim": "sub"}, claims(sub="joe", email=None), ""),
            ({"algorithms": ["RS256"]}, claims(), "the token is signed with an algorithm that is not allowed"),
            ({}, claims(exp=int(time.time()) - 10), ""),
            ({"leeway_seconds": 5}, claims(exp=int(time.time()) - 10), "the token has expired"),
            ({}, claims(exp=None), "the token has no end (exp)"),
        ):
            answer = await self.ask(self.subject(**{**keys, **changes}), KEY.sign(token))
            self.assertEqual(answer.why, why, (changes, token))
            self.assertEqual(answer.name, b"" if why else b"joe")

    async def test_introspection(self) -> None:
        """RFC 7662: asked with our name and password, from a file; the rules hold for its answer as well."""
        secret = self.file("pass word\n")
        server = WebServer(self, {"active": True, "username": "joe", "scope": "mail"})
        subject = self.subject(
            introspection_url=server.address, client_id="tpops", client_secret_file=secret, scopes=["mail"]
        )
        self.assertEqual(await self.ask(subject, "opaque"), TokenAnswer(b"joe"))
        self.assertEqual(server.requests[0].headers["Authorization"], "Basic dHBvcHM6cGFzcyt3b3Jk")
        self.assertEqual(await self.ask(subject, "opaque", "ann"), TokenAnswer(b"", "the token is of joe"))
        self.assertEqual(len(server.requests), 1)
        server.answer = {"active": False}
        self.assertEqual(await self.ask(subject, "withdrawn"), TokenAnswer(b"", "the token is not active"))
        server.answer = {"active": True, "username": "joe", "scope": "web"}
        self.assertEqual(await self.ask(subject, "web"), TokenAnswer(b"", "the token has not the scope mail"))

    async def test_server_down_or_hanging_is_no_verdict(self) -> None:
        """Promise: LookupUnavailable, never a bad token; with the reason, without the token."""
        server = WebServer(self, None)
        for keys in ({"introspection_url": server.address}, {"jwks_url": server.address, **SIGNED}):
            subject = self.subject(**keys, timeout_seconds=0.2)
            with self.assertRaisesRegex(LookupUnavailable, "no answer within 0.2 seconds"):
                await self.ask(subject, KEY.sign(claims()))
        server.stop()
        for keys in ({"introspection_url": server.address}, {"jwks_url": server.address, **SIGNED}):
            with self.assertRaisesRegex(LookupUnavailable, "refused"):
                await self.ask(self.subject(**keys), KEY.sign(claims()))


class FileTests(SynchronousTestCase):
    """What C{tpops check} says of the files."""

    def test_problems(self) -> None:
        """Promise: each file that cannot be used, and no secret."""
        path, secret = Path(self.mktemp()), Path(self.mktemp())
        self.assertEqual(oauth.problems("", "", ""), [])
        found = oauth.problems(str(path), str(secret), "")
        self.assertEqual(len(found), 2)
        self.assertIn("client_secret_file", found[0])
        path.write_text("{}")
        self.assertIn("not a JSON Web Key Set", oauth.problems(str(path), "", "")[0])
        path.write_text(json.dumps(key_set(KEY)))
        self.assertEqual(oauth.problems(str(path), "", ""), [])
        self.assertIn("has no certificate", oauth.problems("", "", str(path))[0])

    def test_files_of_the_secret(self) -> None:
        """Promise: one line that nobody else may read."""
        path = Path(self.mktemp())
        path.write_text("geheim\n")
        path.chmod(0o644)
        (problem,) = oauth.problems("", str(path), "")
        self.assertIn(f"{path} is open to everybody on this machine; chmod 600", problem)
        path.chmod(0o640)
        self.assertEqual(oauth.problems("", str(path), ""), [])
        bad = ((b"", "is empty"), (b"\nx\n", "is empty"), (b"\xff\n", "is not UTF-8"), (b"a\x00b\n", "ASCII"))
        for content, why in bad:
            path.write_bytes(content)
            (problem,) = oauth.problems("", str(path), "")
            self.assertIn("oauth.client_secret_file: ", problem)
            self.assertIn(why, problem)


class MasterKeysTests(SynchronousTestCase):
    """What [masters] may have."""

    def problem(self, **tables: Any) -> str:
        return str(self.assertRaises(ValidationError, Config.model_validate, tables))

    def test_combinations(self) -> None:
        """Promise: nothing is ignored; the sign between the names parts nothing else."""
        for masters, why in (
            ({"separator": "*"}, "has separator, which means nothing without names"),
            ({"targets": ["x*"]}, "has targets, which means nothing without names"),
            ({"networks": ["192.0.2.0/24"]}, "has networks, which means nothing without names"),
            ({"names": ["admin"], "separator": "%"}, "which is one of names.separators"),
            ({"names": ["admin"], "separator": "@"}, "must be one punctuation sign"),
            ({"names": ["admin"], "separator": "**"}, "must be one punctuation sign"),
            ({"names": ["admin"], "separator": "x"}, "must be one punctuation sign"),
        ):
            self.assertIn(why, self.problem(masters=masters), masters)
        Config.model_validate({"masters": {"names": ["admin"], "separator": "*"}})


class KeysTests(SynchronousTestCase):
    """What [oauth] may have."""

    def problem(self, **keys: Any) -> str:
        return str(self.assertRaises(ValidationError, Keys.model_validate, keys))

    def test_combinations(self) -> None:
        """Promise: nothing is ignored, and nothing dangerous is left out by mistake."""
        url = "https://login.example.org/x"
        for keys, why in (
            ({"jwks_url": url, "introspection_url": url}, "may have one of"),
            ({"issuer": ISSUER}, "means nothing without one of"),
            ({"jwks_url": url, "issuer": ISSUER}, "needs audience"),
            ({"jwks_file": "/x", "audience": ["mail"]}, "needs issuer"),
            ({"introspection_url": url, "client_id": "x"}, "needs client_secret"),
            ({"introspection_url": url, "client_secret": "x"}, "needs client_id"),
            (
                {"introspection_url": url, "client_id": "x", "client_secret": "a", "client_secret_file": "/b"},
                "not both",
            ),
            ({"jwks_url": url, **SIGNED, "client_id": "x", "client_secret": "a"}, "goes with introspection_url"),
            ({"jwks_url": url, **SIGNED, "cache_ttl_seconds": 5}, "goes with introspection_url"),
            ({"introspection_url": url, "algorithms": ["RS256"]}, "goes with jwks"),
            ({"introspection_url": url, "refetch_seconds": 5}, "goes with jwks_url"),
            ({"jwks_url": url, **SIGNED, "algorithms": ["none"]}, "algorithms"),
            ({"jwks_url": url, **SIGNED, "algorithms": ["HS256"]}, "algorithms"),
            ({"jwks_url": url, **SIGNED, "algorithms": []}, "algorithms"),
            ({"introspection_url": url, "client_id": "ö", "client_secret": "x"}, "printable ASCII"),
        ):
            self.assertIn(why, self.problem(**keys), keys)
        self.assertFalse(Keys().used)
        self.assertTrue(Keys.model_validate({"jwks_url": url, **SIGNED}).used)

    def test_addresses(self) -> None:
        """Promise: HTTPS, and HTTP to this machine only."""
        for address in (
            "https://login.example.org/x?y=z",
            "https://[2001:db8::1]:8443/",
            "http://127.0.0.1:80/",
            "http://[::1]/",
            "http://localhost/",
        ):
            self.assertEqual(Keys.model_validate({"introspection_url": address}).introspection_url, address)
        for address, why in (
            ("http://login.example.org/", "must begin with https://"),
            ("http://127.0.0.1.example.org/", "must begin with https://"),
            ("ftp://login.example.org/", "must be a web address"),
            ("login.example.org", "must be a web address"),
            ("https://", "must be a web address"),
            ("https://user:pass@login.example.org/", "must be a web address"),
            ("https://login.example.org/ x", "must be a web address"),
            ("https://login.example.org:99999/", "must be a web address"),
            ("https://[/", "must be a web address"),
            ("https://jörg.example/", "must be a web address"),
        ):
            self.assertIn(why, self.problem(introspection_url=address), address)

    def test_name_claim(self) -> None:
        """Promise: its default goes with the source."""
        url = "https://login.example.org/x"
        self.assertEqual(Keys.model_validate({"introspection_url": url}).name_claim, "username")
        self.assertEqual(Keys.model_validate({"jwks_url": url, **SIGNED}).name_claim, "email")
