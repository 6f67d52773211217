"""Bearer tokens: signatures with real keys, the rules for claims, keys that change."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import jwt
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Threads, Time
from tests.tokens import AUDIENCE, ISSUER, SigningKey, claims, key_set, raw
from tpops.cred import token_keys
from tpops.cred.claims import Rules, TokenRefused
from tpops.cred.signed_tokens import SignedTokens
from tpops.cred.token_keys import ALGORITHMS, FRESH_SECONDS, KeysAtAddress, KeysInFile
from tpops.cred.watched import LOOK_SECONDS
from tpops.errors import LookupUnavailable

RSA, EC, ED = SigningKey("rsa"), SigningKey("ec", "ES256"), SigningKey("ed", "EdDSA")


class Address:
    """An address with a key set, that can be down."""

    def __init__(self, *keys: SigningKey) -> None:
        self.document: object = key_set(*keys)
        self.problem: Exception | None = None
        self.asked = 0
        self.held: Deferred[object] | None = None

    def __call__(self) -> Awaitable[object]:
        self.asked += 1
        return self.held or self._answer()

    async def _answer(self) -> object:
        if self.problem is not None:
            raise self.problem
        return self.document


class TokenCase(SynchronousTestCase):
    """Keys at an address."""

    def setUp(self) -> None:
        self.clock = Time()
        self.address = Address(RSA, EC, ED)
        self.keys = KeysAtAddress(self.address, self.clock, refetch_seconds=30)
        self.tokens = SignedTokens(self.keys, ALGORITHMS)

    def claims(self, token: str) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.tokens.claims(token)))

    def refusal(self, token: str) -> str:
        failure = self.failureResultOf(Deferred.fromCoroutine(self.tokens.claims(token)), TokenRefused)
        self.assertNotIn(token, failure.getErrorMessage())
        return failure.getErrorMessage()

    def unavailable(self, token: str) -> str:
        failure = self.failureResultOf(Deferred.fromCoroutine(self.tokens.claims(token)), LookupUnavailable)
        return failure.getErrorMessage()


class SignatureTests(TokenCase):
    """RFC 7515, RFC 7518, RFC 8725."""

    def test_every_algorithm(self) -> None:
        """Promise: RSA with both paddings, three curves and Ed25519 are verified."""
        for algorithm in ALGORITHMS:
            key = SigningKey("one", algorithm)
            self.tokens = SignedTokens(KeysAtAddress(Address(key), self.clock, 30), ALGORITHMS)
            self.assertEqual(self.claims(key.sign(claims()))["email"], "joe", algorithm)
            other = SigningKey("one", algorithm)
            self.assertEqual(self.refusal(other.sign(claims())), "the signature of the token is wrong")

    def test_only_algorithms_that_are_allowed(self) -> None:
        """RFC 8725 section 3.1: what the token says of itself decides nothing."""
        self.tokens = SignedTokens(self.keys, ("ES256",))
        self.assertEqual(self.claims(EC.sign(claims()))["email"], "joe")
        self.assertIn("algorithm", self.refusal(RSA.sign(claims())))

    def test_unsigned_and_secretly_signed_tokens_are_refused(self) -> None:
        """RFC 8725 section 2.1: "none", and HMAC with the public key, which everybody has, as its secret."""
        payload = json.dumps(claims()).encode()
        for kid in ("rsa", "ec"):
            for name in ("none", "None", "nOnE", "", None, 5, ["RS256"]):
                self.assertTrue(self.refusal(raw({"alg": name, "kid": kid}, payload)), name)
        self.assertTrue(self.refusal(raw({"kid": "rsa"}, payload)))
        for secret in (RSA.public_pem(), json.dumps(RSA.public()).encode()):
            for name in ("HS256", "RS256"):
                self.assertTrue(self.refusal(raw({"alg": name, "kid": "rsa"}, payload, secret)))

    def test_key_of_the_token_itself_counts_for_nothing(self) -> None:
        """RFC 8725 section 3.10: neither "jwk" nor "jku" in the header; "crit" and "b64" are refused."""
        stranger = SigningKey("rsa")
        headers: tuple[dict[str, Any], ...] = ({"jwk": stranger.public()}, {"jku": "https://evil.example/keys"})
        for header in headers:
            self.assertEqual(self.refusal(stranger.sign(claims(), **header)), "the signature of the token is wrong")
        payload = json.dumps(claims()).encode()
        for header in ({"crit": ["exp"]}, {"b64": True}):
            self.assertTrue(self.refusal(raw({"alg": "RS256", "kid": "rsa", **header}, payload)))

    def test_changed_tokens_are_refused(self) -> None:
        """Promise: header, claims or signature, and what is no token at all; without any internal error."""
        header, payload, signature = RSA.sign(claims()).split(".")
        _, other, _ = RSA.sign(claims(email="ann")).split(".")
        for token in (
            f"{header}.{other}.{signature}",
            f"{header}.{payload}.{signature[:-8]}AAAAAAAA",
            f"{header}.{payload}.",
            f"{header}.{payload}",
            f"{header}.{payload}.{signature}.{signature}",
            "opaque",
            "a.b.c",
            "..",
        ):
            self.assertTrue(self.refusal(token), token)

    def test_deeply_nested_header(self) -> None:
        """Promise: a header made to exhaust the parser is refused like any other."""
        token = raw({}, b"[" * 20000).split(".")[1] + ".e30.e30"
        self.assertEqual(self.refusal(token), "the token is no signed token (JWT)")

    def test_signed_but_without_claims(self) -> None:
        """Promise: a payload that is no JSON object is refused after its signature was found right."""
        for payload in (b"no json", b"[]", b"[" * 20000, b"\xff"):
            token = jwt.PyJWS().encode(payload, RSA.key, "RS256", headers={"kid": "rsa"})
            self.assertEqual(self.refusal(token), "the token holds no claims")

    def test_a_key_is_for_what_it_says(self) -> None:
        """RFC 7517 section 4: "use", "key_ops" and "alg" of a key are obeyed; private parts are not needed."""
        for changes, usable in (
            ({"alg": None, "use": None}, True),
            ({"key_ops": ["verify"]}, True),
            ({"key_ops": ["encrypt"]}, False),
            ({"use": "enc"}, False),
            ({"alg": "PS256"}, False),
            ({"alg": "RSA-OAEP"}, False),
            ({"kty": "oct", "k": "c2VjcmV0"}, False),
            ({"n": "!"}, False),
            ({"kty": ["RSA"]}, False),
        ):
            data = {name: value for name, value in RSA.public(**changes).items() if value is not None}
            self.address.document = {"keys": [data, EC.public(), "nonsense"]}
            self.keys = KeysAtAddress(self.address, self.clock, 30)
            self.tokens = SignedTokens(self.keys, ALGORITHMS)
            token = RSA.sign(claims())
            if usable:
                self.assertEqual(self.claims(token)["email"], "joe", changes)
            else:
                self.assertEqual(self.refusal(token), "the token is signed with an unknown key", changes)

    def test_short_keys_are_not_used(self) -> None:
        """RFC 7518 section 3.3: RSA from 2048 bits."""
        short = SigningKey("short", bits=1024)
        self.address.document = key_set(short, EC)
        with capturedLogs() as logs:
            self.assertIn("unknown key", self.refusal(raw({"alg": "RS256", "kid": "short"}, b"{}", b"")))
        self.assertIn("key 'short' of the key set is too short and not used", [formatEvent(one) for one in logs])

    def test_token_without_the_name_of_its_key(self) -> None:
        """RFC 7515 section 4.1.4: "kid" is optional; every key that fits is tried."""
        others = [SigningKey(f"k{number}") for number in range(2)]
        self.address.document = key_set(*others, EC, RSA)
        token = jwt.encode(claims(), RSA.key, "RS256")
        self.assertEqual(self.claims(token)["email"], "joe")


class KeysAtAddressTests(TokenCase):
    """Keys that are fetched."""

    def test_fetched_once(self) -> None:
        """Promise: the first token fetches, those after it do not."""
        self.assertEqual(self.address.asked, 0)
        for _ in range(3):
            self.claims(RSA.sign(claims()))
        self.assertEqual(self.address.asked, 1)

    def test_rotation(self) -> None:
        """Promise: an unknown key is looked for, at most every refetch_seconds; what is gone is not used any more."""
        self.claims(RSA.sign(claims()))
        new = SigningKey("new")
        self.address.document = key_set(new)
        self.assertEqual(self.refusal(new.sign(claims())), "the token is signed with an unknown key")
        self.clock.now += 30
        self.assertEqual(self.claims(new.sign(claims()))["email"], "joe")
        self.assertEqual(self.address.asked, 2)
        self.assertIn("unknown key", self.refusal(RSA.sign(claims())))
        self.assertEqual(self.address.asked, 2)

    def test_old_keys_serve_while_the_address_is_down(self) -> None:
        """Promise: known keys stay in use without a wait; unknown ones cannot be judged."""
        self.claims(RSA.sign(claims()))
        self.address.problem = LookupUnavailable("https://x: Connection refused")
        self.clock.now += FRESH_SECONDS
        with capturedLogs() as logs:
            self.assertEqual(self.claims(RSA.sign(claims()))["email"], "joe")
            self.assertEqual(self.claims(RSA.sign(claims()))["email"], "joe")
        self.assertEqual([formatEvent(one) for one in logs], ["keys for tokens: https://x: Connection refused"])
        self.assertEqual(self.address.asked, 2)
        unknown = SigningKey("unknown").sign(claims())
        self.assertEqual(self.unavailable(unknown), "keys for tokens: https://x: Connection refused")
        self.address.problem = None
        self.clock.now += 60
        self.claims(RSA.sign(claims()))
        self.assertIn("unknown key", self.refusal(unknown))

    def test_no_keys_is_no_verdict(self) -> None:
        """Promise: where the keys never came, or the document is none, no token is called wrong."""
        for document in ({}, [], {"keys": {}}, {"keys": []}, {"keys": [{"kty": "oct"}]}):
            self.address.document = document
            self.keys = KeysAtAddress(self.address, self.clock, 30)
            self.tokens = SignedTokens(self.keys, ALGORITHMS)
            for _ in range(2):
                self.assertTrue(self.unavailable(RSA.sign(claims())), document)

    def test_old_keys_are_refreshed_beside(self) -> None:
        """Promise: after an hour the set is fetched anew, and nobody waits for it."""
        self.claims(RSA.sign(claims()))
        self.clock.now += FRESH_SECONDS
        self.address.held = Deferred()
        self.assertEqual(self.claims(RSA.sign(claims()))["email"], "joe")
        self.assertEqual(self.address.asked, 2)
        self.address.held.callback(key_set(EC))
        self.assertIn("unknown key", self.refusal(RSA.sign(claims())))

    def test_one_fetch_for_all_who_wait(self) -> None:
        """Promise: many logins at the same time ask once."""
        self.address.held = Deferred()
        waiting = [Deferred.fromCoroutine(self.tokens.claims(RSA.sign(claims()))) for _ in range(5)]
        for one in waiting:
            self.assertNoResult(one)
        self.address.held.callback(self.address.document)
        for one in waiting:
            self.assertEqual(self.successResultOf(one)["email"], "joe")
        self.assertEqual(self.address.asked, 1)

    def test_a_fetch_that_breaks_is_logged(self) -> None:
        """Promise: whatever happens, who waits gets an answer."""
        self.address.problem = RuntimeError("bug")
        self.assertEqual(self.unavailable(RSA.sign(claims())), "keys for tokens: internal error")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_stop(self) -> None:
        """Promise: a fetch that hangs does not outlive the server."""
        self.address.held = Deferred()
        waiting = Deferred.fromCoroutine(self.tokens.claims(RSA.sign(claims())))
        self.tokens.stop()
        self.failureResultOf(waiting, TokenRefused)
        self.tokens.stop()


class KeysInFileTests(TokenCase):
    """Keys that lie in a file."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp())
        self.tokens = SignedTokens(KeysInFile(str(self.path), Threads(), self.clock), ALGORITHMS)
        self.addCleanup(self.tokens.stop)

    def test_changes_count(self) -> None:
        """Promise: a new file is read within a second, and replaces the old keys."""
        self.path.write_text(json.dumps(key_set(RSA)))
        self.assertEqual(self.claims(RSA.sign(claims()))["email"], "joe")
        self.assertIn("unknown key", self.refusal(EC.sign(claims())))
        self.path.write_text(json.dumps(key_set(EC)))
        self.clock.now += LOOK_SECONDS
        self.assertEqual(self.claims(EC.sign(claims()))["email"], "joe")
        self.assertIn("unknown key", self.refusal(RSA.sign(claims())))

    def test_unusable_files_are_no_verdict(self) -> None:
        """Promise: a missing or broken file is [SYS/TEMP], with its name in the log."""
        self.assertIn(f"cannot read {self.path}", self.unavailable(RSA.sign(claims())))
        for text in ("{", "[]", '{"keys": []}', "[" * 20000):
            self.path.write_text(text)
            self.assertIn(str(self.path), self.unavailable(RSA.sign(claims())))

    def test_most_keys(self) -> None:
        """Promise: a set of any size costs a bounded time."""
        many = [{**EC.public(), "kid": str(number)} for number in range(token_keys.MOST_KEYS + 1)]
        self.assertEqual(len(token_keys.parse({"keys": many})), token_keys.MOST_KEYS)


class RuleTests(SynchronousTestCase):
    """RFC 7519 section 4.1, RFC 8693 section 4.2, RFC 8725."""

    now = 1_000_000.0

    def rules(self, **changes: Any) -> Rules:
        settings: dict[str, Any] = {
            "issuer": ISSUER,
            "audience": (AUDIENCE, "pop"),
            "scopes": ("mail",),
            "name_claim": "email",
            "must_expire": True,
            "leeway_seconds": 30.0,
        }
        return Rules(**{**settings, **changes})

    def claims(self, **changes: Any) -> dict[str, Any]:
        return claims(**{"exp": self.now + 100, **changes})

    def refusal(self, rules: Rules | None = None, **changes: Any) -> str:
        refused = self.assertRaises(TokenRefused, (rules or self.rules()).owner, self.claims(**changes), self.now)
        return str(refused)

    def test_good_claims(self) -> None:
        """Promise: audiences and scopes in every form that issuers use; times within the leeway."""
        for changes in (
            {},
            {"aud": ["other", "pop"]},
            {"scope": ["openid", "mail"]},
            {"scope": None, "scp": "mail"},
            {"scope": None, "scp": ["a", "mail"]},
            {"exp": self.now - 29.5},
            {"nbf": self.now + 30},
            {"nbf": self.now - 1000, "exp": 10**400},
            {"email_verified": True},
            {"email_verified": "true"},
        ):
            self.assertEqual(self.rules().owner(self.claims(**changes), self.now), "joe", changes)

    def test_bad_claims(self) -> None:
        """Promise: each rule alone refuses, and the log is told which."""
        for changes, why in (
            ({"iss": "https://evil.example/"}, "of another issuer"),
            ({"iss": None}, "of another issuer"),
            ({"iss": [ISSUER]}, "of another issuer"),
            ({"aud": "web"}, "for another audience"),
            ({"aud": None}, "for another audience"),
            ({"aud": []}, "for another audience"),
            ({"aud": 5}, "aud is neither"),
            ({"aud": [{}]}, "aud is neither"),
            ({"scope": "openid email"}, "has not the scope mail"),
            ({"scope": "mailbox"}, "has not the scope mail"),
            ({"scope": None}, "has not the scope mail"),
            ({"scope": 5}, "scope is neither"),
            ({"exp": None}, "has no end"),
            ({"exp": self.now - 30}, "has expired"),
            ({"exp": -(10**400)}, "has expired"),
            ({"exp": "2099-01-01"}, "exp is no number"),
            ({"exp": True}, "exp is no number"),
            ({"exp": float("nan")}, "exp is no number"),
            ({"exp": float("inf")}, "exp is no number"),
            ({"nbf": self.now + 31}, "not valid yet"),
            ({"nbf": []}, "nbf is no number"),
            ({"email": None}, "has no claim email"),
            ({"email": ""}, "has no claim email"),
            ({"email": ["joe"]}, "has no claim email"),
            ({"email_verified": False}, "is not verified"),
            ({"email_verified": "false"}, "is not verified"),
        ):
            self.assertIn(why, self.refusal(**changes), changes)

    def test_what_is_not_asked_for_does_not_matter(self) -> None:
        """Promise: an introspection server may leave out what it has looked at itself."""
        rules = self.rules(issuer="", audience=(), scopes=(), must_expire=False, name_claim="username")
        claims = {"username": "ann", "email_verified": False}
        self.assertEqual(rules.owner(claims, self.now), "ann")
        self.assertIn("has expired", self.refusal(rules, exp=self.now - 31))
