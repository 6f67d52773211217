"""tpops.cred.pam with libpam and its module pam_debug, which answers whatever it is told to."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.cred.fakes import means
from tests.integration.test_accounts_pam import need_pam
from tpops.cred import pam_worker
from tpops.cred.pam import PAMAccounts
from tpops.credentials import APOPCredentials, NamePassword
from tpops.errors import AccountDisabled, BadCredentials, ConfigError, LookupUnavailable, UnknownUser
from tpops.model import Account

_ME = pwd.getpwuid(os.geteuid())


class PAMTests(TestCase):
    """A service in a directory of its own, and accounts without an entry in passwd."""

    timeout = 120

    def setUp(self) -> None:
        need_pam(self)
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-"))
        self.addCleanup(shutil.rmtree, self.directory)

    def source(self, **more: object) -> PAMAccounts:
        """A source that runs until the test ends."""
        settings = {"directory": str(self.directory), "mail_user": _ME.pw_name, "processes": 2, **more}
        source = PAMAccounts("pam", means(reactor=reactor, seconds=reactor.seconds), **settings)
        source.start()
        self.addCleanup(source.stop)
        return source

    def service(self, auth: str = "success", account: str = "success", name: str = "tpops") -> None:
        """Write what pam_debug answers."""
        lines = (f"auth required pam_debug.so auth={auth}", f"account required pam_debug.so acct={account}")
        (self.directory / name).write_text("\n".join(lines) + "\n")

    def ask(self, source: PAMAccounts, name: str = "somebody", password: bytes = b"x") -> Deferred[Account]:
        """Verify a password."""
        return Deferred.fromCoroutine(source.verify(NamePassword(name.encode(), password)))

    async def test_results_of_pam(self) -> None:
        """Promise: no of the first phase is a wrong password, of the second a refusal; the rest is no answer at all."""
        source = self.source()
        for auth, account, error in (
            ("auth_err", "success", BadCredentials),
            ("perm_denied", "success", BadCredentials),
            ("maxtries", "success", BadCredentials),
            ("acct_expired", "success", BadCredentials),
            ("user_unknown", "success", UnknownUser),
            ("authinfo_unavail", "success", LookupUnavailable),
            ("system_err", "success", LookupUnavailable),
            ("abort", "success", LookupUnavailable),
            ("success", "acct_expired", AccountDisabled),
            ("success", "new_authtok_reqd", AccountDisabled),
            ("success", "perm_denied", AccountDisabled),
            ("success", "user_unknown", AccountDisabled),
            ("success", "authinfo_unavail", LookupUnavailable),
            ("success", "system_err", LookupUnavailable),
        ):
            self.service(auth, account)
            with self.assertRaises(error) as caught:
                await self.ask(source)
            self.assertIs(type(caught.exception), error, (auth, account))
            self.assertTrue(str(caught.exception))

    async def test_accounts(self) -> None:
        """Promise: uid and gid of mail_user for a name without an account; those of the machine for all others."""
        self.service()
        source = self.source(minimum_uid=0)
        self.assertEqual(await self.ask(source), Account("somebody", "pam", home=None, uid=_ME.pw_uid, gid=_ME.pw_gid))
        nobody = pwd.getpwnam("nobody")
        self.assertEqual(
            await self.ask(source, "nobody"),
            Account("nobody", "pam", home=nobody.pw_dir, uid=nobody.pw_uid, gid=nobody.pw_gid),
        )
        self.assertEqual((await self.ask(source, "joe@example.com")).name, "joe@example.com")

    async def test_domains(self) -> None:
        """Promise: a domain of the machine is left out, any other one is nobody's without mail_user."""
        self.service()
        source = self.source(minimum_uid=0, mail_user="", domains=("example.org",))
        self.assertEqual((await self.ask(source, "nobody@example.org")).name, "nobody")
        for name in ("nobody@example.com", "somebody"):
            with self.assertRaises(UnknownUser):
                await self.ask(source, name)

    async def test_low_uids(self) -> None:
        """Promise: accounts below the minimum do not exist, whatever PAM would say."""
        self.service()
        source = self.source(minimum_uid=1)
        with self.assertRaises(UnknownUser):
            await self.ask(source, "root")

    async def test_names_verified_by_other_means(self) -> None:
        """Promise: the account phase has its say without a password; after a password the account is at hand."""
        self.service(auth="auth_err")
        source = self.source(minimum_uid=0)
        self.assertEqual((await source.account("nobody")).uid, pwd.getpwnam("nobody").pw_uid)
        self.service(account="acct_expired")
        with self.assertRaises(AccountDisabled):
            await source.account("nobody")
        self.service()
        await source.requestAvatarId(NamePassword(b"nobody", b"x"))
        self.service(account="acct_expired")
        self.assertEqual((await source.account("nobody")).name, "nobody")

    async def test_what_cannot_be_asked(self) -> None:
        """Promise: empty passwords, NULs and what is too long are wrong passwords; digests are not judged."""
        self.service()
        source = self.source()
        for password in (b"", b"a\0b", 20000 * b"x"):
            with self.assertRaises(BadCredentials):
                await self.ask(source, password=password)
        with self.assertRaises(UnknownUser):
            await source.requestAvatarId(APOPCredentials(b"somebody", b"<1@x>", b"0" * 32))
        self.assertEqual(list(source.mechanisms()), [frozenset()])

    async def test_messages_of_modules(self) -> None:
        """Promise: what a module says is in the reason, on one line and without the password."""
        lines = ("auth optional pam_echo.so one%%\x1b[1m hunter2 two", "auth required pam_deny.so")
        (self.directory / "tpops").write_text("\n".join(lines) + "\n")
        with self.assertRaises(BadCredentials) as caught:
            await self.ask(self.source(), password=b"hunter2")
        self.assertEqual(str(caught.exception), "PAM: Authentication failure: one%\\x1b[1m (left out) two")

    async def test_many_at_once(self) -> None:
        """Promise: more questions than processes are all answered."""
        self.service()
        source = self.source()
        asked = [self.ask(source, f"name{number}") for number in range(30)]
        self.assertEqual([(await one).name for one in asked], [f"name{number}" for number in range(30)])

    def converse(self, *questions: bytes, strangers: str = "yes", minimum_uid: int = 0) -> list[bytes]:
        """What the worker answers, here in the test's own process."""
        (requests, ours), (theirs, replies) = os.pipe(), os.pipe()
        os.write(ours, b"".join(len(one).to_bytes(4, "big") + one for one in questions))
        os.close(ours)
        try:
            pam_worker.main(["tpops", str(self.directory), str(minimum_uid), strangers], requests, replies)
        except SystemExit as ended:
            self.assertEqual(ended.code, 0)
        finally:
            for descriptor in (requests, replies):
                os.close(descriptor)
            with open(theirs, "rb") as answers:
                said = answers.read()
        return said.split(b"\0\0")[:-1]

    def test_worker(self) -> None:
        """Promise: one answer for each question, until there are no more."""
        question = b"op\0password\0user\0nobody\0pass\0x\0rhost\000192.0.2.1\0\0"
        self.service()
        nobody = pwd.getpwnam("nobody")
        facts = f"uid\0{nobody.pw_uid}\0gid\0{nobody.pw_gid}\0home\0{nobody.pw_dir}".encode()
        self.assertEqual(self.converse(question, question), 2 * [b"result\0yes\0" + facts])
        self.assertEqual(self.converse(b"op\0account\0user\0somebody\0\0"), [b"result\0yes"])
        for more, answer in (
            ({"strangers": "no"}, b"result\0unknown\0reason\0no account of this machine"),
            ({"minimum_uid": 70000}, b"result\0unknown\0reason\0uid %d is below the minimum" % nobody.pw_uid),
        ):
            asked = question if "minimum_uid" in more else question.replace(b"nobody", b"somebody")
            self.assertEqual(self.converse(asked, **more), [answer])
        self.service(auth="auth_err")
        self.assertEqual(self.converse(question), [b"result\0wrong\0reason\0Authentication failure: auth=auth_err"])

    def test_questions_that_are_none(self) -> None:
        """Promise: a worker that is asked nonsense ends."""
        for question in (b"", b"op\0password", b"op\0shout\0user\0joe\0\0", b"op\0password\0\0", b"user\0a\0x\0y\0\0"):
            self.assertRaises(ValueError, self.converse, question)
        self.assertRaises(ValueError, self.converse, 20000 * b"x")

    def test_check(self) -> None:
        """Promise: a service that is not there is named with the place where it should be."""
        source = PAMAccounts("pam", means(), directory=str(self.directory))
        (problem,) = source.check()
        self.assertIn(f"there is no PAM service tpops: write {self.directory}/tpops", problem)
        self.service()
        self.assertEqual(source.check(), [])

    def test_mail_user_must_exist(self) -> None:
        """Promise: a configuration error names the key."""
        with self.assertRaisesRegex(ConfigError, "mail_user: there is no user 'no-such-user'"):
            PAMAccounts("pam", means(), mail_user="no-such-user")
