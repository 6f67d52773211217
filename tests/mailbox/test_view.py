"""The session's view of its maildrop: numbers, marks, UPDATE."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.mailbox.support import JOE, unhurried
from tpops.errors import MessageDeleted, NoSuchMessage, RemoveFailed, StorageUnavailable
from tpops.interfaces import IMaildrop, INotesRetrieval
from tpops.mailbox import view
from tpops.mailbox.memory import MemoryDriver, MemoryMaildrop
from tpops.mailbox.view import Mailbox


class Recorder(MemoryMaildrop):
    """A maildrop in memory that cannot remove everything."""

    def __init__(self, driver: MemoryDriver, name: str) -> None:
        super().__init__(driver, name)
        self.asked: list[list[int]] = []
        self.sticky: set[int] = set()
        self.broken = False
        self.closed = 0

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        self.asked.append(list(numbers))
        if self.broken:
            raise StorageUnavailable("gone fishing")
        await super().remove([number for number in numbers if number not in self.sticky])
        kept = self.sticky.intersection(numbers)
        if kept:
            raise RemoveFailed(kept)

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        self.closed += 1
        await super().close()


@implementer(IMaildrop, INotesRetrieval)
class Noter(Recorder):
    """The same, taking notes of what was sent."""

    def __init__(self, driver: MemoryDriver, name: str) -> None:
        super().__init__(driver, name)
        self.notes: list[tuple[int, int]] = []
        self.seen: list[list[int]] = []

    def sent(self, number: int, octets: int) -> None:
        """See L{INotesRetrieval.sent}."""
        self.notes.append((number, octets))

    async def mark_seen(self, numbers: Collection[int]) -> None:
        """See L{INotesRetrieval.mark_seen}."""
        self.seen.append(list(numbers))


class ViewTestCase(SynchronousTestCase):
    """A mailbox of ten messages; message n has n + 2 octets and the unique-id "id<n>"."""

    def mailbox(self, count: int = 10, kind: type[Recorder] = Noter) -> Mailbox:
        """A mailbox of so many messages."""
        self.driver = MemoryDriver({JOE.name: {b"id%d" % n: b"x" * n + b"\n" for n in range(1, count + 1)}})
        return Mailbox(kind(self.driver, JOE.name), JOE)

    def wait(self, coroutine: Any) -> Any:
        """The result of a coroutine that has nothing to wait for."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def left(self) -> list[bytes]:
        """The unique-ids that are still stored."""
        return list(self.driver.stored[JOE.name])


def text(body: Any) -> bytes:
    """A body of LIST or UIDL in one piece."""
    return body if isinstance(body, bytes) else b"".join(body)


class HistoryTests(ViewTestCase):
    """Random histories against a plain model."""

    @unhurried
    @given(
        st.integers(0, 12),
        st.lists(
            st.one_of(
                st.tuples(st.just("mark"), st.integers(-1, 14)),
                st.tuples(st.just("reset"), st.just(0)),
                st.tuples(st.just("commit"), st.just(0)),
                st.tuples(st.just("retrieve"), st.integers(1, 12)),
            ),
            max_size=40,
        ),
    )
    def test_agrees_with_a_model(self, count: int, history: list[tuple[str, int]]) -> None:
        """RFC 1939 §5: STAT, LIST, UIDL and errors follow DELE, RSET and QUIT, whatever their order."""
        box = self.mailbox(count)
        marked: set[int] = set()
        removed: set[int] = set()
        top = 0
        for act, number in history:
            if act == "mark":
                if not 1 <= number <= count:
                    self.assertRaises(NoSuchMessage, box.mark, number)
                elif number in marked:
                    self.assertRaises(MessageDeleted, box.mark, number)
                else:
                    box.mark(number)
                    marked.add(number)
            elif act == "reset":
                box.reset()
                marked = set(removed)
                top = 0
            elif act == "commit":
                self.wait(box.commit())
                removed |= marked
            elif number <= count and number not in marked:
                box.sent(number, number + 2)
                top = max(top, number)
            self.compare(box, count, marked, top)
            self.assertEqual(self.left(), [b"id%d" % n for n in range(1, count + 1) if n not in removed])

    def compare(self, box: Mailbox, count: int, marked: set[int], top: int) -> None:
        """Check all that can be asked."""
        left = [n for n in range(1, count + 1) if n not in marked]
        self.assertEqual(box.stat(), (len(left), sum(n + 2 for n in left)))
        self.assertEqual(box.marked(), len(marked))
        self.assertEqual(box.last(), top)
        self.assertEqual(text(box.list_body()), b"".join(b"%d %d\r\n" % (n, n + 2) for n in left))
        self.assertEqual(text(box.uidl_body()), b"".join(b"%d id%d\r\n" % (n, n) for n in left))
        for number in range(-1, count + 3):
            if number in left:
                self.assertEqual((box.size(number), box.unique_id(number)), (number + 2, b"id%d" % number))
            else:
                error = MessageDeleted if number in marked else NoSuchMessage
                self.assertRaises(error, box.size, number)
                self.assertRaises(error, box.unique_id, number)
        self.assertEqual(box.listMessages(), [0 if n in marked else n + 2 for n in range(1, count + 1)])


class ListingTests(ViewTestCase):
    """Listings of large maildrops."""

    def test_marked_maildrop_is_listed_in_chunks(self) -> None:
        """Promise: style.md section 3: a big listing is never one string once it has to be made."""
        self.patch(view, "_LINES", 3)
        box = self.mailbox(8)
        for number in (4, 5, 6):
            box.mark(number)
        self.assertEqual(list(box.list_body()), [b"1 3\r\n2 4\r\n3 5\r\n", b"7 9\r\n8 10\r\n"])
        self.assertEqual(list(box.uidl_body()), [b"1 id1\r\n2 id2\r\n3 id3\r\n", b"7 id7\r\n8 id8\r\n"])

    def test_unmarked_listing_is_the_shared_one(self) -> None:
        """Promise: architecture.md §3: sessions share the ready-made bodies."""
        box = self.mailbox()
        self.assertIs(box.list_body(), box.messages.list_body)
        self.assertIs(box.uidl_body(), box.messages.uidl_body)


class UpdateTests(ViewTestCase):
    """RFC 1939 section 6."""

    def test_removes_what_is_marked_in_one_call(self) -> None:
        """RFC 1939 §6: UPDATE removes all that is marked, once."""
        box = self.mailbox()
        box.mark(7)
        box.mark(2)
        self.wait(box.commit())
        self.assertEqual(box.maildrop.asked, [[2, 7]])
        self.assertEqual(box.stat(), (8, 55 + 20 - 2 - 7 - 4))

    def test_nothing_marked_asks_for_nothing(self) -> None:
        """Promise: a poll does not touch the store at QUIT."""
        box = self.mailbox()
        self.wait(box.commit())
        self.assertEqual((box.maildrop.asked, box.maildrop.seen), ([], []))

    def test_second_update_removes_nothing_again(self) -> None:
        """Promise: IMaildrop.remove is not told twice about a message, even when a foreign server syncs twice."""
        box = self.mailbox()
        box.mark(3)
        self.wait(box.commit())
        box.undeleteMessages()
        self.wait(box.commit())
        box.mark(4)
        self.wait(box.commit())
        self.assertEqual(box.maildrop.asked, [[3], [4]])
        self.assertEqual(box.stat()[0], 8)

    def test_what_could_not_be_removed_is_counted_as_left(self) -> None:
        """RFC 1939 §6: QUIT says -ERR when something stayed, and the counts tell what is really there."""
        box = self.mailbox()
        box.maildrop.sticky = {2, 9}
        for number in (1, 2, 3):
            box.mark(number)
        failure = self.failureResultOf(Deferred.fromCoroutine(box.commit()), RemoveFailed)
        self.assertEqual(failure.value.kept, {2})
        self.assertEqual(box.stat(), (8, 55 + 20 - 3 - 5))
        self.assertEqual(box.size(2), 4)

    def test_failed_storage_leaves_no_marks(self) -> None:
        """Promise: when the store fails as a whole, nothing counts as removed."""
        box = self.mailbox()
        box.maildrop.broken = True
        box.sent(2, 4)
        box.mark(1)
        self.failureResultOf(Deferred.fromCoroutine(box.commit()), StorageUnavailable)
        self.assertEqual((box.stat()[0], box.marked(), box.maildrop.seen), (10, 0, []))

    def test_retrieved_and_kept_messages_are_noted(self) -> None:
        """Promise: INotesRetrieval.mark_seen hears of what was retrieved and stays, and of nothing else."""
        box = self.mailbox()
        for number in (5, 3, 8):
            box.sent(number, number + 2)
        box.mark(3)
        box.mark(4)
        self.wait(box.commit())
        self.assertEqual(box.maildrop.seen, [[5, 8]])

    def test_retrieved_message_that_could_not_be_removed_is_noted(self) -> None:
        """Promise: a message that stays against the client's will was retrieved all the same."""
        box = self.mailbox()
        box.maildrop.sticky = {3}
        box.sent(3, 5)
        box.mark(3)
        self.failureResultOf(Deferred.fromCoroutine(box.commit()), RemoveFailed)
        self.assertEqual(box.maildrop.seen, [[3]])

    def test_only_retrieved_and_removed_notes_nothing(self) -> None:
        """Promise: no note of messages that are gone."""
        box = self.mailbox()
        box.sent(3, 5)
        box.mark(3)
        self.wait(box.commit())
        self.assertEqual(box.maildrop.seen, [])

    def test_only_wrong_sizes_are_noted(self) -> None:
        """Promise: the store hears of a retrieval at once only when the announced octets were wrong."""
        box = self.mailbox()
        box.sent(1, 3)
        box.sent(2, 77)
        self.assertEqual(box.maildrop.notes, [(2, 77)])

    def test_works_without_notes(self) -> None:
        """Promise: INotesRetrieval is an add-on; a maildrop without it is as good."""
        box = self.mailbox(kind=Recorder)
        box.sent(2, 77)
        self.wait(box.commit())
        self.assertEqual(box.last(), 2)

    def test_reset_forgets_last_but_not_what_was_retrieved(self) -> None:
        """RFC 1460 §LAST: RSET sets the last number back; the message was read all the same."""
        box = self.mailbox()
        box.sent(4, 6)
        box.reset()
        self.assertEqual(box.last(), 0)
        self.wait(box.commit())
        self.assertEqual(box.maildrop.seen, [[4]])

    def test_open_gives_the_message(self) -> None:
        """Promise: what the session sends is the maildrop's message."""
        message = self.wait(self.mailbox().open(4))
        self.assertEqual(message.read(100), b"xxxx\n")

    def test_logout_closes_once(self) -> None:
        """Promise: logout runs exactly once, however often it is called, and removes nothing."""
        box = self.mailbox()
        box.mark(1)
        self.successResultOf(box.logout())
        self.successResultOf(box.logout())
        self.assertEqual((box.maildrop.closed, len(self.left())), (1, 10))
