"""What every driver of maildrops has to keep to (tpops.interfaces: IMaildropDriver, IMaildrop, ISnapshot)."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any, ClassVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.strategies import messages
from tpops.errors import MaildropBusy, MessageVanished
from tpops.interfaces import IMaildrop, IMaildropDriver, ISnapshot, IStoredMessage
from tpops.mailbox.unique_ids import valid
from tpops.model import Account
from tpops.protocol.transparency import Encoder

_unhurried = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))

MAIL = (
    b"Subject: one\n\nfirst\n",
    b"Subject: two\r\n\r\n.dots\r\n..more\r\n",
    b"",
    b"Subject: only a header\n",
    b"Subject: mixed\r\n\nbare \r and \0 and \xff\nno line end",
)


def on_the_wire(message: bytes) -> bytes:
    """A message with CRLF line ends, the last line included (RFC 1939 section 3)."""
    text = message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return text if not text or text.endswith(b"\r\n") else text + b"\r\n"


class MaildropContract:
    """
    Mixin for a SynchronousTestCase.

    @cvar keeps_line_ends: reading gives stored octets as they are, not with other line ends
    """

    keeps_line_ends: ClassVar[bool] = True
    account: ClassVar[Account] = Account("joe", "test")

    def as_stored(self, message: bytes) -> bytes:
        """What comes back of a message that was delivered; the format may want a line end, or quote something."""
        return message

    def make_driver(self) -> Any:
        """A driver over the same store, as another process or a restarted server has it."""
        raise NotImplementedError

    def store(self, message: bytes) -> None:
        """Deliver a message behind all others, as somebody else does."""
        raise NotImplementedError

    def stored(self) -> list[bytes]:
        """What is stored now, in order."""
        raise NotImplementedError

    def take_away(self, index: int) -> None:
        """Remove one of the stored messages as another program does; 0-based."""
        raise NotImplementedError

    # Small words for the tests.

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that has nothing to wait for."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fails(self, coroutine: Coroutine[Any, Any, Any], *errors: type[Exception]) -> Any:
        """The exception of such a coroutine."""
        return self.failureResultOf(Deferred.fromCoroutine(coroutine), *errors).value

    def store_all(self) -> None:
        """Store all of MAIL."""
        for message in MAIL:
            self.store(message)

    def session(self) -> Any:
        """An open maildrop of a driver of its own; closed when the test ends."""
        maildrop = self.wait(self.make_driver().open_maildrop(self.account))
        self.addCleanup(lambda: self.wait(maildrop.close()))
        return maildrop

    def unique_ids(self, maildrop: Any) -> list[bytes]:
        """The unique-ids of a maildrop's messages."""
        return [maildrop.messages.unique_id(number) for number in range(1, maildrop.messages.count + 1)]

    def look(self) -> list[bytes]:
        """The unique-ids that a short session sees."""
        maildrop = self.session()
        self.wait(maildrop.close())
        return self.unique_ids(maildrop)

    def read(self, maildrop: Any, number: int, octets: int = 1 << 16) -> bytes:
        """All of a message."""
        message = self.wait(maildrop.open(number))
        chunks = []
        while chunk := self.chunk(message.read(octets)):
            self.assertLessEqual(len(chunk), octets)
            chunks.append(chunk)
        self.assertEqual(self.chunk(message.read(octets)), b"")
        message.close()
        message.close()
        return b"".join(chunks)

    def chunk(self, answer: Any) -> bytes:
        """What read gave, at once or later."""

        async def waiting() -> bytes:
            return await answer

        return answer if isinstance(answer, bytes) else self.wait(waiting())

    # The contract.

    def test_provides_its_interfaces(self) -> None:
        """Promise: driver, maildrop, listing and open message are what tpops.interfaces says."""
        self.store(MAIL[0])
        driver = self.make_driver()
        verifyObject(IMaildropDriver, driver)
        maildrop = self.session()
        verifyObject(IMaildrop, maildrop)
        verifyObject(ISnapshot, maildrop.messages)
        message = self.wait(maildrop.open(1))
        verifyObject(IStoredMessage, message)
        message.close()

    def test_empty_maildrop(self) -> None:
        """RFC 1939 §5: no mail is no error."""
        maildrop = self.session()
        found = maildrop.messages
        self.assertEqual((found.count, found.octets, list(found.sizes)), (0, 0, []))
        self.assertEqual((found.list_body, found.uidl_body), (b"", b""))
        self.wait(maildrop.remove([]))

    def test_sizes_are_octets_on_the_wire(self) -> None:
        """RFC 1939 §11: sizes count every line end as two octets, and the one that the last line lacks."""
        self.store_all()
        found = self.session().messages
        self.assertEqual(list(found.sizes), [len(on_the_wire(self.as_stored(message))) for message in MAIL])
        self.assertEqual(found.octets, sum(found.sizes))
        self.assertEqual(found.count, len(MAIL))

    def test_bodies_of_list_and_uidl_agree_with_the_rest(self) -> None:
        """RFC 1939 §5 and §7: one line a message: number and octets, number and unique-id."""
        self.store_all()
        maildrop = self.session()
        found = maildrop.messages
        self.assertEqual(found.list_body, b"".join(b"%d %d\r\n" % pair for pair in enumerate(found.sizes, 1)))
        unique_ids = self.unique_ids(maildrop)
        self.assertEqual(found.uidl_body, b"".join(b"%d %s\r\n" % pair for pair in enumerate(unique_ids, 1)))

    def test_messages_are_read_as_stored(self) -> None:
        """Promise: reading gives the message's own octets, whatever is in them, by chunks of any size."""
        self.store_all()
        maildrop = self.session()
        for octets in (1, 7, 1 << 16):
            for number, message in enumerate(MAIL, 1):
                expected = self.as_stored(message)
                expected = expected if self.keeps_line_ends else expected.replace(b"\r\n", b"\n")
                self.assertEqual(self.read(maildrop, number, octets), expected)

    @_unhurried
    @given(messages(), st.integers(1, 60))
    def test_announced_octets_are_sent_octets(self, message: bytes, octets: int) -> None:
        """RFC 1939 §11: for every message and every way to read it, what LIST says is what RETR sends."""
        if not self.keeps_line_ends:
            # With LF line ends CR CR LF is CR LF, and nobody can tell it from a line end any more.
            message = re.sub(rb"\r\r+\n", b"\r\n", message)
        self.store(message)
        maildrop = self.wait(self.make_driver().open_maildrop(self.account))
        last = maildrop.messages.count
        try:
            encoder = Encoder()
            stored = self.wait(maildrop.open(last))
            while chunk := self.chunk(stored.read(octets)):
                encoder.feed(chunk)
            encoder.finish()
            stored.close()
            announced = maildrop.messages.sizes[last - 1]
        finally:
            self.wait(maildrop.close())
        self.assertEqual((encoder.octets, announced), (len(on_the_wire(self.as_stored(message))),) * 2)

    def test_two_readers_of_one_message_do_not_meet(self) -> None:
        """Promise: an open message is nobody else's."""
        self.store(MAIL[0])
        maildrop = self.session()
        one, two = self.wait(maildrop.open(1)), self.wait(maildrop.open(1))
        first = self.chunk(one.read(5))
        self.assertEqual(self.chunk(two.read(5)), first)
        one.close()
        self.assertEqual(self.chunk(two.read(1 << 16)), MAIL[0][5:])
        two.close()

    def test_unique_ids_are_valid_and_unique(self) -> None:
        """RFC 1939 §7: 1 to 70 octets in 0x21-0x7E, no two alike, the same content or not."""
        for message in (*MAIL, *MAIL):
            self.store(message)
        unique_ids = self.unique_ids(self.session())
        self.assertEqual([one for one in unique_ids if not valid(one)], [])
        self.assertEqual(len(set(unique_ids)), 2 * len(MAIL))

    def test_unique_ids_stay(self) -> None:
        """RFC 1939 §7: a message keeps its unique-id over sessions, restarts, deletions and deliveries."""
        self.store_all()
        before = self.look()
        self.assertEqual(self.look(), before)
        maildrop = self.session()
        self.wait(maildrop.remove([2, 4]))
        self.wait(maildrop.close())
        self.store(b"new\n")
        after = self.look()
        self.assertEqual(after[:-1], [before[0], before[2], before[4]])
        self.assertNotIn(after[-1], before)

    def test_listing_is_fixed_during_the_session(self) -> None:
        """RFC 1939 §4: neither delivery nor deletion by others changes numbers or sizes of an open maildrop."""
        self.store_all()
        maildrop = self.session()
        before = (maildrop.messages.count, list(maildrop.messages.sizes), self.unique_ids(maildrop))
        self.store(b"new\n")
        self.take_away(1)
        self.assertEqual((maildrop.messages.count, list(maildrop.messages.sizes), self.unique_ids(maildrop)), before)
        self.assertEqual(self.read(maildrop, 1), MAIL[0])
        self.assertEqual(self.read(maildrop, 4), MAIL[3])

    def test_vanished_message_does_not_end_the_session(self) -> None:
        """Promise: a message that another program removed is an error of its own, and all else goes on."""
        self.store_all()
        maildrop = self.session()
        self.take_away(0)
        self.fails(maildrop.open(1), MessageVanished)
        self.assertEqual(self.read(maildrop, 4), MAIL[3])

    def test_removes_exactly_what_it_is_told(self) -> None:
        """RFC 1939 §6: UPDATE removes the marked messages and no others."""
        self.store_all()
        maildrop = self.session()
        self.wait(maildrop.remove([1, 3]))
        self.wait(maildrop.close())
        self.assertEqual(self.stored(), [self.as_stored(MAIL[index]) for index in (1, 3, 4)])

    def test_delivery_during_the_session_is_not_removed(self) -> None:
        """RFC 1939 §6: what came after login stays, though everything that was there is removed."""
        self.store_all()
        maildrop = self.session()
        self.store(b"new\n")
        self.wait(maildrop.remove(range(1, len(MAIL) + 1)))
        self.wait(maildrop.close())
        self.assertEqual(self.stored(), [b"new\n"])

    def test_vanished_message_counts_as_removed(self) -> None:
        """Promise: what was to go and is gone is no failure, and the others go, too."""
        self.store_all()
        maildrop = self.session()
        self.take_away(1)
        self.wait(maildrop.remove([1, 2, 3]))
        self.wait(maildrop.close())
        self.assertEqual(self.stored(), [self.as_stored(MAIL[index]) for index in (3, 4)])

    def test_session_without_update_removes_nothing(self) -> None:
        """RFC 1939 §6: a session that does not reach UPDATE leaves everything as it was."""
        self.store_all()
        maildrop = self.session()
        self.read(maildrop, 1)
        self.wait(maildrop.close())
        self.assertEqual(self.stored(), [self.as_stored(message) for message in MAIL])

    def test_lock_is_exclusive(self) -> None:
        """RFC 1939 §4: a second session is refused until the first one is over; the first does not notice."""
        self.store_all()
        driver = self.make_driver()
        maildrop = self.wait(driver.open_maildrop(self.account))
        self.fails(driver.open_maildrop(self.account), MaildropBusy)
        self.assertEqual(self.read(maildrop, 1), MAIL[0])
        self.wait(maildrop.close())
        self.wait(self.wait(driver.open_maildrop(self.account)).close())

    def test_closing_twice_does_not_harm_another_session(self) -> None:
        """Promise: close is idempotent; the second one does not release what is another's now."""
        driver = self.make_driver()
        maildrop = self.wait(driver.open_maildrop(self.account))
        self.wait(maildrop.close())
        other = self.wait(driver.open_maildrop(self.account))
        self.wait(maildrop.close())
        self.fails(driver.open_maildrop(self.account), MaildropBusy)
        self.wait(other.close())
