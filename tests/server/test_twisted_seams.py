"""Twisted's seams, both ways: our Mailbox under Twisted's server, our server over anybody's IMailboxPOP3."""

from __future__ import annotations

import io
from typing import Any

from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.testing import StringTransport
from twisted.mail import pop3
from twisted.mail.interfaces import IMailboxPOP3, IServerFactoryPOP3
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.server.harness import LOGIN, Client, Harness
from tpops.mailbox.memory import MemoryDriver
from tpops.mailbox.view import Mailbox
from tpops.model import Account
from tpops.protocol.commands import COMMANDS
from tpops.server.factory import POP3Factory
from tpops.server.pop3 import POP3Server


class OurMailboxTests(SynchronousTestCase):
    """Our Mailbox is a complete IMailboxPOP3 for Twisted's own POP3 server."""

    def setUp(self) -> None:
        self.stored = {b"a": b"Subject: a\r\n\r\nx\r\n", b"b": b"Subject: b\n\ny\n", b"c": b"z\n"}
        driver = MemoryDriver({"joe": self.stored})
        maildrop = self.successResultOf(Deferred.fromCoroutine(driver.open_maildrop(Account("joe", "test"))))
        self.mailbox = Mailbox(maildrop, Account("joe", "test"))
        self.server = pop3.POP3()
        self.server.schedule = self.at_once
        self.transport = StringTransport()
        self.server.makeConnection(self.transport)
        self.server.mbox = self.mailbox
        self.transport.clear()

    def at_once(self, work: Any) -> Deferred[None]:
        """Instead of Twisted's cooperator."""
        for _ in work:
            continue
        return succeed(None)

    def tearDown(self) -> None:
        self.server.setTimeout(None)

    def say(self, line: bytes) -> bytes:
        """One command, carried out to its end."""
        self.server.lineReceived(line)
        heard: bytes = self.transport.value()
        self.transport.clear()
        return heard

    def test_interface_is_complete(self) -> None:
        """IMailboxPOP3, with the attributes that servers read."""
        verifyObject(IMailboxPOP3, self.mailbox)

    def test_twisted_server_lists_it(self) -> None:
        """STAT, LIST and UIDL."""
        self.assertTrue(self.say(b"STAT").startswith(b"+OK 3 37"), self.say(b"STAT"))
        self.assertEqual(self.say(b"LIST 2"), b"+OK 2 17\r\n")
        self.assertEqual(self.say(b"UIDL"), b"+OK \r\n1 a\r\n2 b\r\n3 c\r\n.\r\n")

    def test_twisted_server_sends_its_messages(self) -> None:
        """CRLF in the store does not become CR CR LF on Twisted's wire."""
        self.server.lineReceived(b"RETR 1")
        self.transport.producer.resumeProducing()
        while self.transport.producer is not None:
            self.transport.producer.resumeProducing()
        self.assertEqual(self.transport.value(), b"+OK 17\r\nSubject: a\r\n\r\nx\r\n.\r\n")

    def test_twisted_server_deletes_at_quit(self) -> None:
        """DELE marks, RSET takes back, QUIT removes."""
        self.say(b"DELE 1")
        self.assertEqual(self.mailbox.listMessages(0), 0)
        self.say(b"RSET")
        self.assertEqual(self.mailbox.listMessages(), [17, 17, 3])
        self.say(b"DELE 2")
        self.say(b"QUIT")
        self.assertEqual(list(self.stored), [b"a", b"c"])


@implementer(IMailboxPOP3)
class ListMailbox:
    """The plainest mailbox that somebody may have written for Twisted's server."""

    loginDelay = 0
    messageExpiration = None

    def __init__(self, messages: list[bytes], later: bool = False) -> None:
        self.messages = messages
        self.marked: set[int] = set()
        self.answer = succeed if later else lambda value: value
        self.synced = 0
        self.files: list[io.BytesIO] = []

    def listMessages(self, i: int | None = None) -> Any:
        sizes = [len(message.replace(b"\n", b"\r\n")) for message in self.messages]
        return self.answer(sizes if i is None else sizes[i])

    def getMessage(self, index: int) -> Any:
        self.files.append(io.BytesIO(self.messages[index]))
        return self.answer(self.files[-1])

    def getUidl(self, index: int) -> Any:
        return self.answer(b"id-%d" % index)

    def deleteMessage(self, index: int) -> None:
        self.marked.add(index)

    def undeleteMessages(self) -> None:
        raise AssertionError("marks are the session's")

    def sync(self) -> Any:
        self.synced += 1
        return self.answer(None)


@implementer(IRealm)
class MailboxRealm:
    """Gives one mailbox to everybody."""

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox
        self.logouts = 0

    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: Any) -> Any:
        def logout() -> None:
            self.logouts += 1

        return IMailboxPOP3, self.mailbox, logout


class AnybodysMailboxTests(SynchronousTestCase):
    """Our server serves any avatar that is a plain IMailboxPOP3."""

    def client(self, mailbox: Any) -> tuple[Client, MailboxRealm]:
        """A connection to a server that has only this mailbox."""
        harness = Harness()
        realm = MailboxRealm(mailbox)
        harness.shared.portal = Portal(realm, [harness.checker])
        return harness.connect(), realm

    def test_synchronous_and_deferred_mailboxes(self) -> None:
        """Everything works the same with answers at once and with Deferreds."""
        for later in (False, True):
            mailbox = ListMailbox([b"Subject: 1\n\n.x\n", b"Subject: 2\n\ny\n"], later)
            client, realm = self.client(mailbox)
            heard = client.say(LOGIN + b"STAT\r\nLIST\r\nUIDL 2\r\nRETR 1\r\nTOP 2 0\r\nDELE 2\r\nSTAT\r\n")
            self.assertEqual(
                heard,
                b"+OK send PASS\r\n+OK joe has 2 messages (35 octets)\r\n+OK 2 35\r\n"
                b"+OK message sizes follow\r\n1 18\r\n2 17\r\n.\r\n+OK 2 id-1\r\n"
                b"+OK 18 octets\r\nSubject: 1\r\n\r\n..x\r\n.\r\n"
                b"+OK top of message follows\r\nSubject: 2\r\n\r\n.\r\n+OK message 2 deleted\r\n+OK 1 18\r\n",
            )
            self.assertEqual((mailbox.marked, mailbox.synced), (set(), 0))
            self.assertTrue(all(file.closed for file in mailbox.files))
            client.say(b"QUIT\r\n")
            self.assertEqual((mailbox.marked, mailbox.synced, realm.logouts), ({1}, 1, 1))

    def test_session_without_quit_tells_it_of_no_deletion(self) -> None:
        """RFC 1939 §6."""
        mailbox = ListMailbox([b"x\n"])
        client, realm = self.client(mailbox)
        client.say(LOGIN + b"DELE 1\r\n")
        client.vanish()
        self.assertEqual((mailbox.marked, mailbox.synced, realm.logouts), (set(), 0, 1))

    def test_failures_of_the_mailbox(self) -> None:
        """A message that is gone, one that cannot be read, a sync that fails: -ERR each, and the session goes on."""
        mailbox = ListMailbox([b"x\n"])
        client, _ = self.client(mailbox)
        client.say(LOGIN)
        mailbox.getMessage = lambda index: fail(ValueError("gone"))
        self.assertEqual(client.say(b"RETR 1\r\n"), b"-ERR message is no longer there\r\n")
        mailbox.getMessage = lambda index: fail(OSError("disk"))
        self.assertTrue(client.say(b"RETR 1\r\n").startswith(b"-ERR [SYS/TEMP]"))
        broken = io.BytesIO(b"x")
        broken.read = lambda octets: (_ for _ in ()).throw(OSError("disk"))
        mailbox.getMessage = lambda index: broken
        self.assertTrue(client.say(b"RETR 1\r\n").startswith(b"-ERR [SYS/TEMP]"))
        mailbox.sync = lambda: fail(OSError("disk"))
        client.say(b"DELE 1\r\n")
        self.assertEqual(client.say(b"QUIT\r\n"), b"-ERR [SYS/TEMP] some deleted messages not removed\r\n")

    def test_mailbox_that_cannot_list_is_logged_out(self) -> None:
        """[SYS/TEMP], and the portal's logout runs."""
        mailbox = ListMailbox([])
        mailbox.listMessages = lambda i=None: fail(OSError("disk"))
        client, realm = self.client(mailbox)
        self.assertTrue(client.say(LOGIN).endswith(b"-ERR [SYS/TEMP] mail storage is temporarily unavailable,"
                                                   b" try again later\r\n"))  # fmt: skip
        self.assertEqual(realm.logouts, 1)

    def test_avatar_that_is_no_mailbox_is_a_bug_that_is_logged(self) -> None:
        """Nothing is served, the client gets one text."""
        client, realm = self.client(object())
        self.assertIn(b"-ERR [SYS/TEMP] internal", client.say(LOGIN))
        self.assertEqual((len(self.flushLoggedErrors(TypeError)), realm.logouts), (1, 1))


class LogoutTests(SynchronousTestCase):
    """What a portal's logout may be."""

    def test_logout_that_takes_time_is_waited_for(self) -> None:
        """QUIT is answered when the realm has let go."""
        gate: Deferred[None] = Deferred()
        harness = Harness()
        realm = MailboxRealm(ListMailbox([b"x\n"]))
        realm.requestAvatar = lambda *_: (IMailboxPOP3, realm.mailbox, lambda: gate)  # type: ignore[method-assign]
        harness.shared.portal = Portal(realm, [harness.checker])
        client = harness.connect()
        client.say(LOGIN)
        self.assertEqual(client.say(b"QUIT\r\n"), b"")
        gate.callback(None)
        self.assertEqual(client.heard(), b"+OK bye (1 message left)\r\n")


class SeamTests(SynchronousTestCase):
    """What we take from Twisted, and what we do not."""

    def test_server_and_factory_are_twisted_s(self) -> None:
        """A subclass of its protocol; a factory with its interface."""
        harness = Harness()
        self.assertTrue(issubclass(POP3Server, pop3.POP3))
        verifyObject(IServerFactoryPOP3, harness.factory)
        self.assertEqual(harness.factory.cap_IMPLEMENTATION(), b"tpops")
        self.assertEqual(harness.factory.cap_LOGIN_DELAY(), 0)
        self.assertIsNone(harness.factory.cap_EXPIRE())
        self.assertFalse(harness.factory.perUserExpiration() or harness.factory.perUserLoginDelay())

    def test_no_inherited_command_is_reachable(self) -> None:
        """Whatever do_* Twisted's class has, no line gets there."""
        harness = Harness()
        reached: list[str] = []
        verbs = [name[3:] for name in dir(pop3.POP3) if name.startswith("do_")]
        self.assertIn("RETR", verbs)
        for client in (harness.connect(), harness.logged_in()):
            for verb in verbs:
                setattr(client.server, f"do_{verb}", lambda *args, verb=verb: reached.append(verb))
                if verb != "QUIT":
                    self.assertTrue(client.say(verb.encode() + b"\r\n"))
            client.say(b"RPOP x\r\nCELERITY\r\nQUIT\r\n")
        self.assertEqual(reached, [])
        self.assertNotIn(b"RPOP", COMMANDS)

    def test_local_address_of_the_listener_is_used(self) -> None:
        """Logs tell at which of our addresses a client arrived."""
        harness = Harness()
        harness.factory.local = ("192.0.2.1", 110)
        peer = harness.connect().server.session.peer
        self.assertEqual((peer.local_host, peer.local_port), ("192.0.2.1", 110))
        peer = Harness().connect().server.session.peer
        self.assertEqual((peer.local_host, peer.local_port), ("10.0.0.1", 12345))
        self.assertIsInstance(POP3Factory(harness.shared).local, tuple)
