"""Accounts of another POP3 server."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Threads
from tests.upstream.fakes import Script, split, upstream
from tpops.cred.hashes import Verifier
from tpops.cred.proxy import ProxyAccounts
from tpops.cred.source import Means
from tpops.credentials import NamePassword
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, MaildropBusy, UnknownUser
from tpops.mailbox.proxy import ProxyStore
from tpops.model import Account, Caller, Elsewhere, Peer


class ProxyAccountsTests(SynchronousTestCase):
    """See the module."""

    def make(self, script: Script | None, **settings: Any) -> ProxyAccounts:
        """A source in front of a script."""
        self.clock = Clock()
        self.upstream = upstream(script, self.clock)
        means = Means(
            Verifier(Threads(), self.clock.seconds), Threads(), self.clock.seconds, None, split, "x", self.upstream
        )
        return ProxyAccounts("there", means, **settings)

    def ask(self, source: ProxyAccounts, name: bytes = b"joe", peer: Peer | None = None) -> Any:
        """Log in."""
        running: Any = source.requestAvatarId(NamePassword(name, b"secret", peer))
        self.clock.advance(0)
        return running

    def test_password_is_right_when_the_server_says_so(self) -> None:
        """Promise: the other server judges; without use for the session it is closed."""
        script = Script()
        source = self.make(script)
        self.assertEqual(self.successResultOf(self.ask(source)), b"there:joe")
        self.assertEqual(script.said, [b"CAPA", b"USER joe", b"PASS secret"])
        self.assertEqual(script.pipe.ended, "aborted")
        self.assertEqual(source.check(), [])

    def test_one_login_serves_for_the_maildrop(self) -> None:
        """Promise: the session that verified the password is the maildrop's; it is nobody else's."""
        script = Script()
        source = self.make(script)

        async def nothing(account: Account) -> Elsewhere | None:
            return None

        store = ProxyStore(False, self.upstream, nothing)
        caller = Caller.of(Peer("192.0.2.1", 7), b"secret")
        self.successResultOf(self.ask(source, peer=caller))
        account = self.successResultOf(Deferred.fromCoroutine(source.account("joe")))
        self.assertEqual(account.maildrop, "proxy:")
        maildrop = self.successResultOf(Deferred.fromCoroutine(store.open_for(account, b"", caller)))
        self.assertEqual((maildrop.messages.count, len(script.pipes)), (2, 1))
        caller.empty()
        self.assertEqual(script.pipe.ended, "")

    def test_unused_session_ends_with_the_login(self) -> None:
        """Promise: when the mail is elsewhere, or the login goes wrong, no session stays."""
        script = Script()
        source = self.make(script, mailbox="")
        caller = Caller.of(Peer("192.0.2.1", 7), b"secret")
        for _ in range(2):
            self.successResultOf(self.ask(source, peer=caller))
        self.assertEqual([pipe.ended for pipe in script.pipes], ["aborted", ""])
        caller.empty()
        self.assertEqual(script.pipe.ended, "aborted")
        self.assertIsNone(self.successResultOf(Deferred.fromCoroutine(source.account("joe"))).maildrop)

    def test_refusals(self) -> None:
        """Promise: wrong is wrong, busy is busy, and what cannot be said is not a wrong password."""
        cases: tuple[tuple[Script | None, type[Exception]], ...] = (
            (Script(PASS=b"-ERR [AUTH]\r\n"), BadCredentials),
            (Script(PASS=b"-ERR [IN-USE]\r\n"), MaildropBusy),
            (Script(PASS=b"-ERR [SYS/TEMP]\r\n"), LookupUnavailable),
            (Script(PASS=b"-ERR [SYS/PERM]\r\n"), LookupUnavailable),
            (None, LookupUnavailable),
        )
        for script, error in cases:
            problem = self.failureResultOf(self.ask(self.make(script)), error).value
            self.assertIs(type(problem), error)

    def test_domains(self) -> None:
        """Promise: names of other domains are nobody's there, and no password goes there for them."""
        script = Script()
        source = self.make(script, domains=("example.org",))
        for name in (b"joe", b"joe@example.com"):
            self.failureResultOf(self.ask(source, name), UnknownUser)
        self.assertEqual(script.pipes, [])
        self.assertEqual(self.successResultOf(self.ask(source, b"joe@example.org")), b"there:joe@example.org")

    def test_needs_a_server(self) -> None:
        """Promise: a source without a [proxy] is told as such."""
        means = Means(Verifier(Threads(), Clock().seconds), Threads(), Clock().seconds, None, split, "x")
        self.assertRaises(ConfigError, ProxyAccounts, "there", means)
