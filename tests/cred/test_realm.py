"""From a verified user to his mailbox."""

from __future__ import annotations

from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred
from twisted.mail.interfaces import IMailboxPOP3
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import Interface, implementer
from zope.interface.verify import verifyObject

from tests.cred.fakes import Answers, login, verifier
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker
from tpops.cred.realm import Realm
from tpops.errors import LimitReached, MaildropBusy, TooSoon, UnknownUser
from tpops.interfaces import IMaildropDriver
from tpops.mailbox.memory import MemoryDriver
from tpops.model import Account, Peer
from tpops.policy.limits import Limits
from tpops.policy.memory import Memory
from tpops.policy.penalties import Penalties


@implementer(IMaildropDriver)
class Waiting:
    """A driver that waits for its lock until the test lets it go on; releases it when it is cancelled."""

    def __init__(self) -> None:
        self.lock: Deferred[None] = Deferred()
        self.released = False

    async def open_maildrop(self, account: Account):
        try:
            await self.lock
        except CancelledError:
            self.released = True
            raise
        raise MaildropBusy("x")


class RealmTests(SynchronousTestCase):
    """A login's second half."""

    def setUp(self) -> None:
        self.admitted: list[tuple[Peer, str]] = []
        self.peer = Peer("192.0.2.1", 4711)
        self.memory = Memory()
        self.most = 5

    def realm(self, maildrops: IMaildropDriver, answer: object = b"s:joe") -> Realm:
        checker = OrderedChecker([Answers("s", answer)], LoginNames(), verifier())
        self.checker = checker
        limits = Limits(0, 0, 64, (), 0, Penalties(0, 0, float, self.memory), self.memory, float, 2, self.most)
        return Realm(checker, maildrops, lambda peer, name: self.admitted.append((peer, name)), limits.admit_user)

    def test_opens_the_mailbox_without_leaving_the_turn(self) -> None:
        """Where nobody has to wait, the whole login is done when Portal.login returns; logout lets go."""
        drops = MemoryDriver()
        realm = self.realm(drops)
        verifyObject(IRealm, realm)
        portal = Portal(realm, [self.checker])
        interface, mailbox, logout = self.successResultOf(portal.login(login("Joe"), self.peer, IMailboxPOP3))
        self.assertIs(interface, IMailboxPOP3)
        self.assertTrue(IMailboxPOP3.providedBy(mailbox))
        self.assertEqual(self.admitted, [(self.peer, "joe")])
        self.failureResultOf(portal.login(login("joe"), self.peer, IMailboxPOP3), MaildropBusy)
        self.successResultOf(logout())
        self.successResultOf(portal.login(login("joe"), None, IMailboxPOP3))

    def test_gives_mailboxes_only(self) -> None:
        """IRealm: an interface that is not there is NotImplementedError."""
        self.assertRaises(NotImplementedError, self.realm(MemoryDriver()).requestAvatar, b"s:joe", None, Interface)

    def test_who_may_not_log_in_now_leaves_no_lock(self) -> None:
        """TooSoon gives the maildrop back."""

        def too_soon(peer: Peer, name: str) -> None:
            raise TooSoon("x")

        driver = MemoryDriver()
        self.realm(driver)
        self.failureResultOf(
            Realm(self.checker, driver, too_soon, lambda peer, name: None).requestAvatar(
                b"s:joe", self.peer, IMailboxPOP3
            ),
            TooSoon,
        )
        self.assertEqual(driver.locked, set())

    def test_place_of_a_user_is_taken_before_the_lock_and_given_back_behind_it(self) -> None:
        """Promise: who waits for the maildrop counts; whatever ends the session or hinders it, the place is free."""
        self.most = 1
        waiting = Waiting()
        pending = self.realm(waiting).requestAvatar(b"s:joe", self.peer, IMailboxPOP3)
        here = ("192.0.2.1", "joe")
        self.assertEqual(self.memory.by_user, {("", "joe"): 1, here: 1})
        second = self.realm(MemoryDriver()).requestAvatar(b"s:joe", self.peer, IMailboxPOP3)
        refused = self.failureResultOf(second, LimitReached).value
        self.assertEqual(refused.limit, "connections_per_user_and_address")
        self.assertEqual(str(refused), "1 connections of joe from 192.0.2.1, at most 1")
        pending.cancel()
        self.failureResultOf(pending, CancelledError)
        self.assertEqual(self.memory.by_user, {})
        driver = MemoryDriver()
        realm = self.realm(driver)
        _, _, logout = self.successResultOf(realm.requestAvatar(b"s:joe", self.peer, IMailboxPOP3))
        self.failureResultOf(realm.requestAvatar(b"s:joe", Peer("192.0.2.2"), IMailboxPOP3), MaildropBusy)
        self.assertEqual(self.memory.by_user, {("", "joe"): 1, here: 1})
        self.successResultOf(logout())
        self.successResultOf(logout())
        self.assertEqual(self.memory.by_user, {})

    def test_only_a_login_that_succeeds_counts(self) -> None:
        """A maildrop that is in use does not make the next login too soon; an account that has gone does not either."""
        driver = MemoryDriver()
        realm = self.realm(driver)
        driver.locked.add("joe")
        self.failureResultOf(realm.requestAvatar(b"s:joe", self.peer, IMailboxPOP3), MaildropBusy)
        gone = self.realm(driver, UnknownUser()).requestAvatar(b"s:joe", self.peer, IMailboxPOP3)
        self.failureResultOf(gone, UnknownUser)
        self.assertEqual(self.admitted, [])

    def test_cancelling_releases_what_was_taken(self) -> None:
        """A client that goes away while his maildrop is being opened leaves nothing behind."""
        waiting = Waiting()
        pending = self.realm(waiting).requestAvatar(b"s:joe", self.peer, IMailboxPOP3)
        self.assertNoResult(pending)
        pending.cancel()
        self.failureResultOf(pending, CancelledError)
        self.assertTrue(waiting.released)
