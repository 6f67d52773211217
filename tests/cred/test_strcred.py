"""tpops.cred.strcred: what checkers answer, and which can be made."""

from __future__ import annotations

from twisted.cred.checkers import ANONYMOUS, ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.cred.fakes import login, means
from tpops.cred.strcred import StrcredAccounts
from tpops.credentials import APOPCredentials, CRAMMD5Credentials
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, TooSoon, UnknownUser
from tpops.model import Account


@implementer(ICredentialsChecker)
class Answering:
    """A checker with a fixed answer."""

    def __init__(self, answer: object, *judges: type) -> None:
        self.credentialInterfaces = judges or (IUsernamePassword,)
        self.answer = answer

    def requestAvatarId(self, credentials: object) -> object:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class StrcredTests(SynchronousTestCase):
    """One source for each test."""

    def source(self, checker: object) -> StrcredAccounts:
        """A source of a description, or with a checker of the test."""
        if isinstance(checker, str):
            return StrcredAccounts("theirs", means(), checker)
        source = StrcredAccounts("theirs", means(), "memory:")
        source._checker = checker
        source._judges = checker.credentialInterfaces
        return source

    def ask(self, source: StrcredAccounts, credentials: object = None) -> Deferred[bytes]:
        """Ask for an avatar id."""
        return source.requestAvatarId(credentials or login("joe"))

    def test_names(self) -> None:
        """Promise: octets or text, at once or later; the account has that name and is at hand."""
        later: Deferred[bytes] = Deferred()
        for answer, name in ((b"joe", "joe"), ("j\xf6", "j\xf6"), (later, "joe@example.org")):
            source = self.source(Answering(answer))
            asked = self.ask(source)
            if answer is later:
                self.assertNoResult(asked)
                later.callback(b"joe@example.org")
            self.assertEqual(self.successResultOf(asked), f"theirs:{name}".encode())
            found = self.successResultOf(Deferred.fromCoroutine(source.account(name)))
            self.assertEqual(found, Account(name, "theirs"))
        self.failureResultOf(Deferred.fromCoroutine(source.account("ann")), UnknownUser)

    def test_no(self) -> None:
        """Promise: UnauthorizedLogin, and no name, are a wrong password; our own errors stay what they are."""
        for answer in (UnauthorizedLogin("x"), fail(UnauthorizedLogin("x")), ANONYMOUS, (), None):
            self.failureResultOf(self.ask(self.source(Answering(answer))), BadCredentials)
        self.failureResultOf(self.ask(self.source(Answering(TooSoon("wait")))), TooSoon)

    def test_names_that_cannot_be(self) -> None:
        """Promise: a name that is no UTF-8, or would leave a directory, is the checker's mistake."""
        for answer in (b"\xff", "a/b", "..", "joe@..", "joe@a/b", "a\nb"):
            self.failureResultOf(self.ask(self.source(Answering(answer))), LookupUnavailable)
        self.failureResultOf(self.ask(self.source(Answering(b""))), LookupUnavailable, BadCredentials)

    def test_failures(self) -> None:
        """Promise: whatever else it raises is [SYS/TEMP], with a traceback in the log and none of it in the reason."""
        failure = self.failureResultOf(self.ask(self.source(Answering(KeyError("hidden")))), LookupUnavailable)
        self.assertEqual(str(failure.value), "theirs: the checker failed: KeyError")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_credentials(self) -> None:
        """Promise: digests only where the checker judges them; "memory:" does, for octets as clients send them."""
        digest = APOPCredentials(b"joe", b"<1@x>", b"0" * 32)
        source = self.source(Answering(b"joe"))
        self.assertRaises(UnknownUser, source.requestAvatarId, digest)
        self.assertEqual(list(source.mechanisms()), [frozenset()])
        source = self.source(Answering(b"joe", IUsernameHashedPassword))
        self.assertRaises(UnknownUser, source.requestAvatarId, login("joe"))
        self.assertEqual(self.successResultOf(self.ask(source, digest)), b"theirs:joe")
        source = self.source("memory:joe:secret")
        self.assertEqual(list(source.mechanisms()), [frozenset({"APOP", "CRAM-MD5"})])
        self.assertEqual(self.successResultOf(self.ask(source, login("joe", "secret"))), b"theirs:joe")
        wrong = CRAMMD5Credentials(b"joe", b"<1@x>", b"0" * 32)
        for credentials in (login("joe", "wrong"), login("ann", "secret"), digest, wrong):
            self.failureResultOf(self.ask(source, credentials), BadCredentials)
        self.assertEqual(source.check(), [])

    def test_descriptions(self) -> None:
        """Promise: what cannot be made is a configuration error, which does not show the argument."""
        for description, reason in (
            ("nothing:word", "there is no checker 'nothing'; known are anonymous, "),
            ("memory:joe:word:odd", "the checker 'memory' cannot be made"),
            ("anonymous", "verifies neither passwords nor digests"),
        ):
            problem = self.assertRaises(ConfigError, self.source, description)
            self.assertIn(reason, str(problem))
            self.assertNotIn("word", str(problem).replace("passwords", ""))
