"""Application passwords before the accounts sources."""

from __future__ import annotations

import hashlib
import hmac
import os

import attrs
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Answers, Threads, Time, login, verifier
from tpops.cred.app_password_store import AppPassword, AppPasswordStore, create
from tpops.cred.app_passwords import AppPasswords, LastUses
from tpops.cred.hashes import hash_password
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker
from tpops.cred.sealing import KeyFile
from tpops.credentials import APOPCredentials, CRAMMD5Credentials, Proven
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser

GENERATED = "abcde-fghij-kmnpq-rstuv"
STAMP = b"<1.2@mail.example.org>"


class OwnPassword(Answers):
    """A source with one account, whose own password is "secret"."""

    def requestAvatarId(self, credentials: object):
        if IUsernamePassword.providedBy(credentials):
            self.asked.append(credentials.username)
            right = credentials.password == b"secret"
        else:
            right = credentials.checkPassword(b"secret")
        if credentials.username != b"joe":
            raise UnknownUser
        if not right:
            raise BadCredentials("wrong password")
        return f"{self.name}:joe".encode()

    async def account(self, name: str):
        if name != "joe":
            raise UnknownUser
        if isinstance(self.answer, Exception):
            raise self.answer
        return await super().account(name)


def apop(secret: str, name: str = "joe") -> APOPCredentials:
    """What a client sends that knows this secret."""
    digest = hashlib.md5(STAMP + secret.encode()).hexdigest().encode()
    return APOPCredentials(name.encode(), STAMP, digest)


def cram(secret: str) -> CRAMMD5Credentials:
    """The same for CRAM-MD5."""
    return CRAMMD5Credentials(b"joe", STAMP, hmac.digest(secret.encode(), STAMP, "md5").hex().encode())


class AppPasswordCase(SynchronousTestCase):
    """A checker with a database of application passwords."""

    def setUp(self) -> None:
        self.path, self.key_path = (os.path.abspath(self.mktemp()) for _ in range(2))
        create(self.path)
        self.keys = KeyFile(self.key_path)
        self.keys.make()
        self.threads = Threads()
        self.time = Time()
        self.own = OwnPassword("own", None)

    def add(self, name: str = "phone", password: str = GENERATED, account: str = "joe", apop: bool = False) -> None:
        """As "tpops apppasswd add"."""
        chosen = password != GENERATED
        stored = password if chosen else password.replace("-", "")
        hashed = hash_password(stored.encode(), "ARGON2ID" if chosen else "SSHA256")
        new = AppPassword(account, name, hashed, chosen, None, 500)
        if apop:
            new = attrs.evolve(new, secret=self.keys.seal(password.encode(), new.about))
        with AppPasswordStore(self.path).writing() as writer:
            writer.add(new)

    def checker(self, instead: bool = False, keys: bool = True, every_seconds: float = 600) -> OrderedChecker:
        """A server's, with sources of its own."""
        self.store = AppPasswordStore(self.path)
        self.addCleanup(self.store.close)
        checks = verifier(self.threads)
        uses = LastUses(self.store, self.threads, self.time, every_seconds)
        self.subject = AppPasswords(self.store, checks, uses, self.keys if keys else None, instead)
        return OrderedChecker([Answers("other", UnknownUser()), self.own], LoginNames(), checks, self.subject)

    def outcome(self, checker: OrderedChecker, credentials: object) -> object:
        """The avatar id or the error, at once or later."""
        try:
            answer = checker.requestAvatarId(credentials)
        except UnauthorizedLogin as error:
            return error
        if isinstance(answer, bytes):
            return answer
        results: list[object] = []
        answer.addCallbacks(results.append, lambda failure: results.append(failure.value))
        return results[0]

    def lets_in(self, checker: OrderedChecker, credentials: object) -> None:
        self.assertEqual(self.outcome(checker, credentials), b"own:joe")

    def refuses(self, checker: OrderedChecker, credentials: object, kind: type[Exception] = BadCredentials) -> str:
        """The reason for the log."""
        error = self.outcome(checker, credentials)
        self.assertIs(type(error), kind)
        return str(error)

    def last_used(self) -> dict[str, int | None]:
        return {one.name: one.last_used_at for one in self.store.all()}


class PasswordTests(AppPasswordCase):
    """USER and PASS, AUTH PLAIN and LOGIN."""

    def test_each_of_several_logs_in_and_so_does_the_own(self) -> None:
        """As the account that the sources find; the sources see no application password."""
        self.add()
        self.add("scanner", "chosen by joe")
        checker = self.checker()
        for password in (GENERATED, GENERATED.replace("-", ""), GENERATED.upper(), "chosen by joe"):
            self.lets_in(checker, login("joe", password))
        self.assertEqual(self.own.asked, [])
        self.lets_in(checker, login("Joe", "secret"))
        self.assertIn("wrong password", self.refuses(checker, login("joe", "wrong")))
        self.assertEqual(self.own.asked, [b"joe", b"joe"])

    def test_who_has_none_is_asked_for_his_own_at_once(self) -> None:
        """No Deferred and no thread for it."""
        self.add(account="ann")
        self.assertEqual(self.checker().requestAvatarId(login("joe", "secret")), b"own:joe")
        self.assertEqual(self.threads.runs, 0)

    def test_passwords_are_those_of_one_account(self) -> None:
        """Nobody logs in with somebody else's."""
        self.add(account="ann")
        checker = self.checker()
        self.refuses(checker, login("joe", GENERATED))
        self.assertEqual(self.refuses(checker, login("ann", GENERATED)), "unknown user")

    def test_a_chosen_one_is_as_it_was_typed(self) -> None:
        """Dashes, spaces and capitals count in what somebody chose himself."""
        self.add(password="Chosen-by Joe")
        checker = self.checker()
        for password in ("chosen-by joe", "ChosenbyJoe"):
            self.refuses(checker, login("joe", password))
        self.lets_in(checker, login("joe", "Chosen-by Joe"))

    def test_a_revoked_one_is_refused_at_the_next_login(self) -> None:
        """Also where the right answer was remembered."""
        self.add()
        self.add("scanner", "chosen by joe")
        checker = self.checker()
        for password in (GENERATED, "chosen by joe"):
            self.lets_in(checker, login("joe", password))
        with AppPasswordStore(self.path).writing() as writer:
            writer.revoke_all("joe")
        for password in (GENERATED, "chosen by joe"):
            self.refuses(checker, login("joe", password))
        self.lets_in(checker, login("joe", "secret"))

    def test_a_disabled_account_stays_shut(self) -> None:
        """It is told only to whoever has a right password."""
        self.add()
        self.own.answer = AccountDisabled("account has expired")
        checker = self.checker()
        self.refuses(checker, login("joe", GENERATED), AccountDisabled)
        self.refuses(checker, login("joe", "wrong"))
        self.assertEqual(self.last_used(), {"phone": None})

    def test_what_the_source_cannot_say_is_no_wrong_password(self) -> None:
        """LookupUnavailable stays what it is."""
        self.add()
        self.own.answer = LookupUnavailable("gone")
        self.refuses(self.checker(), login("joe", GENERATED), LookupUnavailable)


class InsteadTests(AppPasswordCase):
    """Only application passwords count for those who have such."""

    def test_the_own_password_is_refused_like_a_wrong_one(self) -> None:
        """In class, public text and work; the sources are not even asked."""
        self.add()
        checker = self.checker(instead=True)
        self.lets_in(checker, login("joe", GENERATED))
        for password in ("secret", "wrong"):
            self.threads.runs = 0
            reason = self.refuses(checker, login("joe", password))
            self.assertIn("only those count", reason)
            self.assertEqual(self.threads.runs, 1)
        self.assertEqual(self.own.asked, [])

    def test_who_has_none_logs_in_with_his_own(self) -> None:
        """Until he gets the first."""
        checker = self.checker(instead=True)
        self.lets_in(checker, login("joe", "secret"))
        self.add()
        self.refuses(checker, login("joe", "secret"))

    def test_the_own_password_is_refused_in_every_form(self) -> None:
        """As a digest, and when a mechanism proved it (SCRAM); other proofs do not concern passwords."""
        self.add()
        checker = self.checker(instead=True)
        self.refuses(checker, apop("secret"))
        self.refuses(checker, Proven(b"joe", source="own"))
        self.lets_in(checker, Proven(b"joe"))
        self.lets_in(self.checker(instead=False), Proven(b"joe", source="own"))

    def test_a_database_that_fails_lets_nobody_in(self) -> None:
        """Nobody knows then whose own password counts."""
        checker = self.checker(instead=True)
        os.rename(self.path, self.path + ".away")
        for credentials in (login("joe", "secret"), login("joe", "wrong"), Proven(b"joe", source="own")):
            self.assertIn(self.path, self.refuses(checker, credentials, LookupUnavailable))
        os.rename(self.path + ".away", self.path)
        self.lets_in(checker, login("joe", "secret"))


class FailureTests(AppPasswordCase):
    """The database is gone; own passwords are still good."""

    def test_the_own_password_still_logs_in(self) -> None:
        """What is none is LookupUnavailable: it may be an application password.  The operator reads it once."""
        self.add()
        checker = self.checker()
        os.rename(self.path, self.path + ".away")
        with capturedLogs() as logs:
            for _ in range(3):
                self.lets_in(checker, login("joe", "secret"))
                self.assertIn(self.path, self.refuses(checker, login("joe", GENERATED), LookupUnavailable))
        self.assertEqual(len(logs), 1)
        os.rename(self.path + ".away", self.path)
        self.lets_in(checker, login("joe", GENERATED))
        self.refuses(checker, login("joe", "wrong"))


class DigestTests(AppPasswordCase):
    """APOP and CRAM-MD5."""

    def test_a_secret_that_is_kept_encrypted_proves(self) -> None:
        """As it was shown, or without dashes; chosen ones as they are; others not at all."""
        self.add(apop=True)
        self.add("scanner", "chosen by joe", apop=True)
        self.add("plain", "without a secret")
        checker = self.checker()
        for secret in (GENERATED, GENERATED.replace("-", ""), "chosen by joe", "secret"):
            self.lets_in(checker, apop(secret))
            self.lets_in(checker, cram(secret))
        for secret in ("without a secret", "chosenbyjoe", "wrong", ""):
            self.refuses(checker, apop(secret))
        self.refuses(checker, apop(GENERATED, "ann"))

    def test_a_wrong_key_is_no_wrong_password(self) -> None:
        """LookupUnavailable with password, account and file; what another one proves is still good."""
        self.add(apop=True)
        os.unlink(self.key_path)
        self.keys.make()
        self.add("scanner", "chosen by joe", apop=True)
        checker = self.checker()
        with capturedLogs() as logs:
            for _ in range(2):
                for secret in ("chosen by joe", "secret"):
                    self.lets_in(checker, apop(secret))
                reason = self.refuses(checker, apop(GENERATED), LookupUnavailable)
        self.assertIn(f"application password 'phone' of joe: {self.key_path} has not the key", reason)
        self.assertEqual([event["reason"] for event in logs], [reason])
        self.lets_in(checker, login("joe", GENERATED))

    def test_no_key_file_is_no_wrong_password(self) -> None:
        """Neither where the configuration names none nor where it is gone."""
        self.add(apop=True)
        self.assertIn("key_file is not set", self.refuses(self.checker(keys=False), apop("x"), LookupUnavailable))
        os.unlink(self.key_path)
        self.assertIn("No such file", self.refuses(self.checker(), apop("x"), LookupUnavailable))
        self.assertIn("No such file", self.refuses(self.checker(instead=True), apop("x"), LookupUnavailable))

    def test_tells_what_the_accounts_can_prove(self) -> None:
        """For each that has application passwords; nothing where it cannot be known."""
        nothing, digests = frozenset[str](), frozenset(("APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"))
        self.add(apop=True)
        self.add("scanner", "chosen by joe")
        self.add("scanner", "chosen by ann", "ann")
        self.checker()
        self.assertEqual(list(self.subject.mechanisms()), [nothing, digests])
        self.checker(keys=False)
        self.assertEqual(list(self.subject.mechanisms()), [nothing, nothing])
        os.rename(self.path, self.path + ".away")
        self.assertEqual(list(self.subject.mechanisms()), [nothing])


class LastUseTests(AppPasswordCase):
    """When a password was used last."""

    def test_is_noted_in_a_thread_once_in_a_while(self) -> None:
        """The first use, and then when the time has passed; for each password by itself."""
        self.add()
        self.add("scanner", "chosen by joe")
        checker = self.checker()
        for seconds, expected in ((0, 1000), (599, 1000), (1, 1600), (0, 1600)):
            self.time.now += seconds
            self.lets_in(checker, login("joe", GENERATED))
            self.assertEqual(self.last_used(), {"phone": expected, "scanner": None})
        self.assertEqual(self.threads.runs, 2)

    def test_nobody_waits_for_it(self) -> None:
        """The login is done before; uses that come meanwhile are written together, and a stop waits for them."""
        self.add()
        checker = self.checker()
        self.threads.at_once = False
        self.lets_in(checker, login("joe", GENERATED))
        for account in ("ann", "eve"):
            self.subject._uses.used(AppPassword(account, "x", "", False, None, 0))
        self.assertEqual(self.last_used(), {"phone": None})
        stopped = Deferred.fromCoroutine(self.subject.stop())
        self.assertNoResult(stopped)
        self.threads.run()
        self.successResultOf(stopped)
        self.assertEqual(self.threads.runs, 2)
        self.assertEqual(self.last_used(), {"phone": 1000})
        self.successResultOf(Deferred.fromCoroutine(self.subject.stop()))

    def test_a_database_that_cannot_be_written_hurts_nobody(self) -> None:
        """It is logged once, not tried at every login, and noted when it can be again."""
        self.add()
        checker = self.checker()
        locker = AppPasswordStore(self.path)
        self.patch(self.store, "writing", lambda: (_ for _ in ()).throw(LookupUnavailable("locked")))
        with capturedLogs() as logs:
            for _ in range(3):
                self.lets_in(checker, login("joe", GENERATED))
                self.time.now += 400
        self.assertEqual([event["reason"] for event in logs], ["locked"])
        self.assertEqual(self.threads.runs, 2)
        self.patch(self.store, "writing", locker.writing)
        self.time.now += 600
        self.lets_in(checker, login("joe", GENERATED))
        self.assertEqual(self.last_used(), {"phone": 2800})

    def test_is_not_noted_where_nobody_wants_it(self) -> None:
        """0 writes nothing at all."""
        self.add()
        self.lets_in(self.checker(every_seconds=0), login("joe", GENERATED))
        self.assertEqual((self.last_used(), self.threads.runs), ({"phone": None}, 0))

    def test_of_the_own_password_nothing_is_noted(self) -> None:
        """Nor of a wrong one."""
        self.add()
        checker = self.checker()
        self.lets_in(checker, login("joe", "secret"))
        self.refuses(checker, login("joe", "wrong"))
        self.assertEqual(self.last_used(), {"phone": None})
