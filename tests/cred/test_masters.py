"""Accounts that may log in as others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import means
from tpops.cred.masters import Masters
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker
from tpops.cred.passwd_file import PasswdFile
from tpops.credentials import Acting, NamePassword, Proven
from tpops.errors import AccountDisabled, BadCredentials, ConfigError
from tpops.model import Account, Peer

USERS = (
    "admin:{PLAIN}secret\nhelp:{PLAIN}other\njoe:{PLAIN}x\nann@example.org:{PLAIN}x\n"
    "gone:{PLAIN}x::::::nologin\nretired:{PLAIN}old::::::nologin\n"
)


class Silent:
    """A source that says no more of an account than that it is disabled."""

    name = "silent"

    def requestAvatarId(self, credentials: NamePassword) -> bytes:
        raise AccountDisabled("locked")

    async def account(self, name: str) -> Account:
        raise AccountDisabled("locked")


class MastersTests(SynchronousTestCase):
    """With real accounts from a file."""

    def setUp(self) -> None:
        path = Path(self.mktemp())
        path.write_text(USERS)
        made = means()
        self.names = LoginNames()
        self.checker = OrderedChecker([PasswdFile("users", made, str(path))], self.names, made.verifier)

    def masters(self, **settings: Any) -> Masters:
        settings = {"names": ("Admin",), **settings}
        return Masters(self.checker.requestAvatarId, self.names, **settings)

    def answer(
        self, target: str, name: str = "admin", password: str = "secret", peer: Peer | None = None, **settings: Any
    ) -> bytes:
        credentials = Acting(name.encode(), password.encode(), target.encode(), peer)
        return self.successResultOf(self.masters(**settings).requestAvatarId(credentials))

    def refusal(self, target: str, name: str = "admin", password: str = "secret", **settings: Any) -> str:
        credentials = Acting(name.encode(), password.encode(), target.encode(), settings.pop("peer", None))
        failure = self.failureResultOf(self.masters(**settings).requestAvatarId(credentials), BadCredentials)
        return failure.getErrorMessage()

    def test_master_logs_in_as_another(self) -> None:
        """RFC 4616 section 2: the master's own password, the other's account; names are made canonical."""
        verifyObject(ICredentialsChecker, self.masters())
        self.assertEqual(self.answer("joe"), b"users:joe")
        self.assertEqual(self.answer("JOE", name="ADMIN"), b"users:joe")
        self.assertEqual(self.answer("Ann@Example.org"), b"users:ann@example.org")
        self.assertNotIn("secret", repr(Acting(b"admin", b"secret", b"joe")))

    def test_everybody_may_act_for_himself(self) -> None:
        """Promise: the same name written in another way is no other."""
        self.assertEqual(self.answer("JOE", name="joe", password="x"), b"users:joe")
        self.assertEqual(self.answer("joe", name="joe", password="x", names=()), b"users:joe")

    def test_refusals(self) -> None:
        """Promise: all are wrong passwords to the client; the log is told the reason."""
        for target, name, password, why in (
            ("joe", "admin", "wrong", "as a master user: wrong password"),
            ("joe", "nobody", "secret", "as a master user: unknown user"),
            ("joe", "help", "other", "help is no master user"),
            ("joe", "help", "wrong", "as a master user: wrong password"),
            ("nobody", "admin", "secret", "master user admin asks for nobody, who has no account"),
            ("a/b", "admin", "secret", "login name would be dangerous in a path"),
        ):
            self.assertEqual(self.refusal(target, name, password), why)
        self.assertEqual(self.refusal("joe", names=()), "admin is no master user")

    def test_disabled_accounts(self) -> None:
        """Promise: neither a disabled master nor a disabled account."""
        for target, name, password in (("gone", "admin", "secret"), ("joe", "retired", "old")):
            credentials = Acting(name.encode(), password.encode(), target.encode())
            answer = self.masters(names=("admin", "retired")).requestAvatarId(credentials)
            self.failureResultOf(answer, AccountDisabled)

    def test_disabled_accounts_where_that_is_wanted(self) -> None:
        """Promise: C{disabled_targets} opens the mail of disabled accounts, for masters only."""
        avatar_id = self.answer("gone", disabled_targets=True)
        account = self.successResultOf(Deferred.fromCoroutine(self.checker.account(avatar_id)))
        self.assertEqual((account.driver, account.name), ("users", "gone"))
        self.assertEqual(self.answer("joe", disabled_targets=True), b"users:joe")
        self.failureResultOf(Deferred.fromCoroutine(self.checker.account(b"users:gone")), AccountDisabled)
        own = NamePassword(b"gone", b"x")
        self.assertRaises(AccountDisabled, self.checker.requestAvatarId, own)
        self.failureResultOf(self.checker.requestAvatarId(Proven(b"gone")), AccountDisabled)

    def test_disabled_accounts_that_a_source_does_not_tell_of(self) -> None:
        """Promise: then they stay shut."""
        silent = OrderedChecker([Silent()], self.names, means().verifier)
        self.failureResultOf(silent.requestAvatarId(Proven(b"gone", disabled=True)), AccountDisabled)
        self.failureResultOf(Deferred.fromCoroutine(silent.account(b"!silent:gone")), AccountDisabled)

    def test_targets(self) -> None:
        """Promise: patterns say as whom; a name must fit as a whole."""
        for targets, target, allowed in (
            (("*@example.org",), "ann@example.org", True),
            (("*@example.org",), "joe", False),
            (("jo", "o*"), "joe", False),
            (("j?e",), "joe", True),
            ((), "joe", False),
        ):
            if allowed:
                self.answer(target, targets=targets)
            else:
                self.assertIn(f"may not log in as {target}", self.refusal(target, targets=targets))

    def test_networks(self) -> None:
        """Promise: from these only, IPv4 inside IPv6 counts as what it is; UNIX sockets always."""
        networks = ("192.0.2.0/24", "2001:db8::/32")
        for host in ("192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1%eth0", "/run/tpops.sock"):
            self.answer("joe", peer=Peer(host), networks=networks)
        for peer in (Peer("198.51.100.7"), Peer("::ffff:198.51.100.7"), Peer("::1"), None):
            self.assertIn("may not come from", self.refusal("joe", peer=peer, networks=networks))
        self.answer("joe", peer=Peer("198.51.100.7"))

    def test_names_that_cannot_be(self) -> None:
        """Promise: a mistake in the configuration is told at the start."""
        problem = self.assertRaises(ConfigError, self.masters, names=("../etc",))
        self.assertIn("masters.names", str(problem))
