"""Asking an authorization server (RFC 7662), and what is remembered of its answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Time
from tpops.cred import introspection
from tpops.cred.claims import TokenRefused
from tpops.cred.introspection import Introspection
from tpops.errors import LookupUnavailable


class IntrospectionTests(SynchronousTestCase):
    """See L{Introspection}."""

    def setUp(self) -> None:
        self.clock = Time()
        self.asked: list[Mapping[str, str]] = []
        self.document: object = {"active": True, "username": "joe"}
        self.subject = Introspection(self.answer, self.clock, 60)

    async def answer(self, form: Mapping[str, str]) -> object:
        self.asked.append(form)
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    def claims(self, token: str = "opaque") -> Mapping[str, Any]:
        return self.successResultOf(Deferred.fromCoroutine(self.subject.claims(token)))

    def failure(self, kind: type[Exception]) -> str:
        failed = self.failureResultOf(Deferred.fromCoroutine(self.subject.claims("opaque")), kind)
        return failed.getErrorMessage()

    def test_asks_and_remembers(self) -> None:
        """RFC 7662 section 2.1 and 4: one question for a token within the time; each token is its own."""
        self.assertEqual(self.claims()["username"], "joe")
        self.assertEqual(self.asked, [{"token": "opaque", "token_type_hint": "access_token"}])
        self.clock.now += 59
        self.claims()
        self.assertEqual(len(self.asked), 1)
        self.claims("other")
        self.assertEqual(len(self.asked), 2)
        self.clock.now += 1
        self.claims()
        self.assertEqual(len(self.asked), 3)

    def test_never_beyond_the_end_of_the_token(self) -> None:
        """Promise: what is remembered ends with the token."""
        self.document = {"active": True, "exp": self.clock.now + 10}
        self.claims()
        self.clock.now += 10
        self.document = {"active": False}
        self.assertEqual(self.failure(TokenRefused), "the token is not active")

    def test_a_clock_that_is_set_back_makes_nothing_longer(self) -> None:
        """Promise: then it is asked again."""
        self.claims()
        self.clock.now -= 3600
        self.claims()
        self.assertEqual(len(self.asked), 2)

    def test_nothing_is_remembered_where_that_is_not_wanted(self) -> None:
        """Promise: cache_ttl_seconds = 0."""
        self.subject = Introspection(self.answer, self.clock, 0)
        for count in (1, 2):
            self.claims()
            self.assertEqual(len(self.asked), count)

    def test_refusals_and_failures_are_not_remembered(self) -> None:
        """Promise: only the server says "not active"; the next answer counts."""
        self.document = {"active": False}
        self.assertEqual(self.failure(TokenRefused), "the token is not active")
        for document in ({}, [], {"active": "true"}, {"active": 1}, None):
            self.document = document
            self.assertIn('no "active"', self.failure(LookupUnavailable))
        self.document = LookupUnavailable("https://x: Connection refused")
        self.assertEqual(self.failure(LookupUnavailable), "https://x: Connection refused")
        self.document = {"active": True}
        self.claims()

    def test_memory_is_bounded_and_has_no_tokens(self) -> None:
        """Promise: the oldest is forgotten first; what is kept cannot be used to log in."""
        self.patch(introspection, "MOST_TOKENS", 3)
        for number in range(5):
            self.claims(f"secret-{number}")
        self.assertEqual(len(self.subject._known), 3)
        self.assertNotIn("secret", repr(self.subject._known))
        self.claims("secret-4")
        self.assertEqual(len(self.asked), 5)
        self.claims("secret-0")
        self.assertEqual(len(self.asked), 6)
        self.subject.stop()
