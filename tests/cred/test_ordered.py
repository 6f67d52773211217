"""All sources behind one checker."""

from __future__ import annotations

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword, IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import Answers, Threads, login, verifier
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker
from tpops.credentials import CRAMMD5Credentials, IProven, NamePassword, Proven
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.model import Peer


class OrderedCheckerTests(SynchronousTestCase):
    """Who is asked, and what comes of it."""

    def setUp(self) -> None:
        self.threads = Threads()

    def checker(self, *answers: object, names: LoginNames | None = None) -> OrderedChecker:
        self.sources = [Answers(f"s{number}", answer) for number, answer in enumerate(answers)]
        return OrderedChecker(self.sources, names or LoginNames(), verifier(self.threads))

    def asked(self) -> list[int]:
        return [len(source.asked) for source in self.sources]

    def refusal(self, checker: OrderedChecker) -> Exception:
        """What a login fails with, at once or later."""
        try:
            answer = checker.requestAvatarId(login("joe"))
        except UnauthorizedLogin as error:
            return error
        assert isinstance(answer, Deferred)
        return self.failureResultOf(answer).value

    def test_is_a_checker_of_name_and_password(self) -> None:
        """What the Portal needs."""
        checker = self.checker()
        verifyObject(ICredentialsChecker, checker)
        self.assertEqual(checker.credentialInterfaces, (IUsernamePassword, IUsernameHashedPassword, IProven))

    def test_the_first_yes_wins_at_once(self) -> None:
        """Sources that answer at once make an answer at once, and the rest is not asked."""
        checker = self.checker(UnknownUser(), BadCredentials(), b"s2:joe", b"s3:joe")
        self.assertEqual(checker.requestAvatarId(login("joe")), b"s2:joe")
        self.assertEqual(self.asked(), [1, 1, 1, 0])
        self.assertEqual(self.threads.runs, 0)

    def test_a_proven_name_is_found_without_a_password(self) -> None:
        """In the first source that knows it, or in the one whose secret proved it."""
        checker = self.checker(UnknownUser(), b"", b"")
        verifyObject(IProven, Proven(b"JOE"))
        self.assertEqual(self.successResultOf(checker.requestAvatarId(Proven(b"JOE"))), b"s1:joe")
        self.assertEqual(self.successResultOf(checker.requestAvatarId(Proven(b"JOE", source="s2"))), b"s2:joe")
        self.failureResultOf(checker.requestAvatarId(Proven(b"joe", source="s0")), BadCredentials)
        self.assertEqual(self.asked(), [0, 0, 0])

    def test_the_far_end_and_the_digest_reach_the_sources(self) -> None:
        """Under the canonical name."""
        checker = self.checker(b"s0:joe")
        peer = Peer("192.0.2.7")
        checker.requestAvatarId(NamePassword(b"JOE", b"secret", peer))
        self.assertEqual(self.sources[0].last, NamePassword(b"joe", b"secret", peer))
        checker.requestAvatarId(CRAMMD5Credentials(b"JOE", b"<1>", b"ab", peer))
        self.assertEqual(self.sources[0].last, CRAMMD5Credentials(b"joe", b"<1>", b"ab", peer))

    def test_the_first_yes_wins_later(self) -> None:
        """A source that answers later is waited for, then the others are asked in order."""
        for answers in (
            (UnknownUser(), succeed(b"s1:joe")),
            (fail(UnknownUser()), b"s1:joe"),
            (fail(BadCredentials()), succeed(b"s1:joe")),
        ):
            answer = self.checker(*answers).requestAvatarId(login("joe"))
            assert isinstance(answer, Deferred)
            self.assertEqual(self.successResultOf(answer), b"s1:joe")

    def test_sources_get_the_canonical_name(self) -> None:
        """The name is made canonical once, for all."""
        checker = self.checker(b"s0:joe@x", names=LoginNames("x"))
        checker.requestAvatarId(login("JOE"))
        self.assertEqual(self.sources[0].asked, [b"joe@x"])

    def test_a_name_that_cannot_be_is_refused_before_anybody_is_asked(self) -> None:
        """BadCredentials, as for every wrong name."""
        checker = self.checker(b"s0:joe")
        self.assertRaises(BadCredentials, checker.requestAvatarId, login("../x"))
        self.assertEqual(self.asked(), [0])

    def test_disabled_and_cannot_say_stop(self) -> None:
        """No later source may turn them into a wrong password or a yes."""
        for stop in (AccountDisabled("x"), LookupUnavailable("x")):
            for answer in (stop, fail(stop)):
                error = self.refusal(self.checker(BadCredentials(), answer, b"s2:joe"))
                self.assertIs(type(error), type(stop))
                self.assertEqual(self.asked(), [1, 1, 0])
            self.assertIs(type(self.refusal(self.checker(fail(UnknownUser()), stop))), type(stop))

    def test_unknown_users_and_wrong_passwords_look_the_same(self) -> None:
        """The same class and public text; an unknown user costs the work of a password check."""
        for answers, work in (
            ((), 1),
            ((UnknownUser(),), 1),
            ((UnknownUser(), fail(UnknownUser())), 1),
            ((fail(UnknownUser()), UnknownUser()), 1),
            ((UnknownUser(), BadCredentials()), 0),
            ((BadCredentials(), UnknownUser()), 0),
            ((BadCredentials(), fail(UnknownUser())), 0),
            ((fail(UnknownUser()), fail(BadCredentials())), 0),
            ((UnauthorizedLogin(),), 0),
        ):
            self.threads.runs = 0
            error = self.refusal(self.checker(*answers))
            self.assertIs(type(error), BadCredentials)
            self.assertEqual(self.threads.runs, work, answers)

    def test_the_reason_of_a_source_that_knew_the_name_is_kept_for_the_log(self) -> None:
        """Of several the last; the client never sees it."""
        locked = BadCredentials("password is locked")
        for answers, reason in (
            ((locked, UnknownUser("x")), "password is locked"),
            ((fail(locked), fail(UnknownUser("x"))), "password is locked"),
            ((BadCredentials("wrong password"), locked), "password is locked"),
            ((UnknownUser("x"),), "unknown user"),
            ((UnauthorizedLogin(),), "wrong password"),
        ):
            error = self.refusal(self.checker(*answers))
            self.assertEqual(str(error), reason)
            self.assertEqual(error.public, BadCredentials.public)

    def test_finds_the_account_in_the_source_that_said_yes(self) -> None:
        """The avatar id names it; names may have colons."""
        checker = self.checker(b"", b"")
        account = self.successResultOf(Deferred.fromCoroutine(checker.account(b"s1:joe:x")))
        self.assertEqual((account.driver, account.name), ("s1", "joe:x"))
        self.failureResultOf(Deferred.fromCoroutine(checker.account(b"s9:joe")), LookupUnavailable)
        self.failureResultOf(Deferred.fromCoroutine(self.checker(UnknownUser()).account(b"s0:joe")), UnknownUser)
