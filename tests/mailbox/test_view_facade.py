"""Our mailbox as anybody's IMailboxPOP3."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from twisted.internet.defer import Deferred, fail, succeed
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface.verify import verifyObject

from tests.mailbox.support import JOE, unhurried
from tests.mailbox.test_view import ViewTestCase
from tests.strategies import messages
from tpops.errors import MessageVanished, RemoveFailed, StorageUnavailable
from tpops.mailbox import view
from tpops.mailbox.memory import MemoryDriver
from tpops.mailbox.view import Mailbox


class LateMessage:
    """An open message whose octets are never at hand."""

    def __init__(self, chunks: list[Deferred[bytes]]) -> None:
        self.chunks = chunks
        self.closed = False

    def read(self, octets: int) -> Deferred[bytes]:
        """See IStoredMessage."""
        return self.chunks.pop(0)

    def close(self) -> None:
        """See IStoredMessage."""
        self.closed = True


class FacadeTests(ViewTestCase):
    """Promise: any Twisted POP3 server can serve our mailbox."""

    def file(self, box: Mailbox, index: int) -> bytes:
        """What getMessage fires with."""
        with self.successResultOf(box.getMessage(index)) as file:
            content: bytes = file.read()
        return content

    def test_provides_the_interface(self) -> None:
        """Promise: a complete IMailboxPOP3, with its two attributes."""
        box = self.mailbox()
        verifyObject(IMailboxPOP3, box)
        self.assertEqual((box.loginDelay, box.messageExpiration), (0, None))

    def test_lists_marked_messages_with_no_octets(self) -> None:
        """IMailboxPOP3.listMessages: 0 stands for a deleted message; the others keep their places."""
        box = self.mailbox(4)
        self.assertEqual(box.listMessages(), [3, 4, 5, 6])
        box.deleteMessage(1)
        self.assertEqual(box.listMessages(), [3, 0, 5, 6])
        self.assertEqual([box.listMessages(index) for index in range(4)], [3, 0, 5, 6])
        self.assertEqual(box.messages.sizes[1], 4)

    def test_unique_ids(self) -> None:
        """IMailboxPOP3.getUidl: also of a marked message."""
        box = self.mailbox(2)
        box.deleteMessage(0)
        self.assertEqual([box.getUidl(0), box.getUidl(1)], [b"id1", b"id2"])

    def test_bad_index_is_a_value_error(self) -> None:
        """IMailboxPOP3: an index without a message raises ValueError, a negative one, too."""
        box = self.mailbox(2)
        for method in (box.listMessages, box.getMessage, box.getUidl, box.deleteMessage):
            for index in (-1, 2, 10**20):
                self.assertRaises(ValueError, method, index)

    def test_deleting_twice_is_deleting_once(self) -> None:
        """IMailboxPOP3.deleteMessage: the octets are not counted twice."""
        box = self.mailbox(3)
        box.deleteMessage(1)
        box.deleteMessage(1)
        self.assertEqual(box.stat(), (2, 3 + 5))

    def test_undelete_forgets_all_marks(self) -> None:
        """IMailboxPOP3.undeleteMessages."""
        box = self.mailbox(3)
        box.deleteMessage(1)
        box.deleteMessage(2)
        box.undeleteMessages()
        self.assertEqual((box.listMessages(), box.stat()), ([3, 4, 5], (3, 12)))

    def test_sync_removes(self) -> None:
        """IMailboxPOP3.sync: only now the store hears of deletions."""
        box = self.mailbox(3)
        box.deleteMessage(1)
        self.assertEqual(len(self.left()), 3)
        self.successResultOf(box.sync())
        self.assertEqual(self.left(), [b"id1", b"id3"])
        self.assertEqual(box.listMessages(), [3, 0, 5])

    def test_sync_tells_what_failed(self) -> None:
        """Promise: a server that waits for sync hears of messages that stayed."""
        box = self.mailbox(3)
        box.maildrop.sticky = {2}
        box.deleteMessage(1)
        self.failureResultOf(box.sync(), RemoveFailed)

    @unhurried
    @given(messages())
    def test_message_has_lf_line_ends(self, message: bytes) -> None:
        """Promise: Twisted's server makes CRLF of every LF, so CRLF has to come as LF, and a bare CR as it is."""
        driver = MemoryDriver({JOE.name: {b"a": message}})
        box = Mailbox(self.wait(driver.open_maildrop(JOE)), JOE)
        self.assertEqual(self.file(box, 0), message.replace(b"\r\n", b"\n"))

    def test_crlf_across_chunks(self) -> None:
        """Promise: line ends hold across the borders of what is read at once."""
        self.patch(view, "_CHUNK", 3)
        driver = MemoryDriver({JOE.name: {b"a": b"ab\r\ncd\r\r\nefg\r"}})
        box = Mailbox(self.wait(driver.open_maildrop(JOE)), JOE)
        self.assertEqual(self.file(box, 0), b"ab\ncd\r\nefg\r")

    def test_large_message_goes_to_a_temporary_file(self) -> None:
        """Promise: memory is bounded: what is large is not kept in it."""
        self.patch(view, "_SPOOL_OCTETS", 10)
        box = self.mailbox(30)
        with self.successResultOf(box.getMessage(29)) as file:
            self.assertTrue(file.fileno() >= 0)
            self.assertEqual(file.read(), b"x" * 30 + b"\n")

    def test_vanished_message(self) -> None:
        """Promise: a message that is gone fails the Deferred."""
        box = self.mailbox(2)
        self.driver.stored[JOE.name].clear()
        self.failureResultOf(box.getMessage(0), MessageVanished)

    def late(self, *chunks: Deferred[bytes]) -> tuple[Mailbox, LateMessage]:
        """A mailbox whose message comes later."""
        box = self.mailbox(1)
        message = LateMessage(list(chunks))

        async def open_late(number: int) -> Any:
            return message

        box.maildrop.open = open_late
        return box, message

    def test_waits_for_octets(self) -> None:
        """Promise: octets that are not at hand are waited for, and the message is closed."""
        first: Deferred[bytes] = Deferred()
        box, message = self.late(first, succeed(b"b\r\n"), succeed(b""))
        answer = box.getMessage(0)
        self.assertNoResult(answer)
        first.callback(b"a\r\n")
        with self.successResultOf(answer) as file:
            self.assertEqual(file.read(), b"a\nb\n")
        self.assertTrue(message.closed)

    def test_failed_read_closes_the_message(self) -> None:
        """Promise: a read error reaches the server, and nothing stays open."""
        box, message = self.late(succeed(b"a"), fail(StorageUnavailable("disk")))
        self.failureResultOf(box.getMessage(0), StorageUnavailable)
        self.assertTrue(message.closed)
