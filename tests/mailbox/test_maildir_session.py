"""A session over a Maildir while other programs work in it."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from zope.interface.verify import verifyObject

from tests.mailbox.support import JOE, Later, MaildirTestCase, descriptors
from tpops.errors import MessageVanished, RemoveFailed, StorageUnavailable
from tpops.interfaces import INotesRetrieval
from tpops.mailbox import index, maildir_session, sizes
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.view import Mailbox


class SessionTestCase(MaildirTestCase):
    """Three messages in new, one in cur."""

    def setUp(self) -> None:
        """Deliver them."""
        super().setUp()
        for name in ("1.a", "2.b", "3.c"):
            self.maildir.deliver(name, name.encode())
        self.maildir.deliver("4.d:2,S", b"4.d", "cur")

    def session(self, **options: Any) -> Any:
        """An open maildrop, closed when the test ends."""
        maildrop = self.open(**options)
        self.addCleanup(lambda: self.wait(maildrop.close()))
        return maildrop


class RenamedTests(SessionTestCase):
    """Promise: a file that another program renames is found again by its base name."""

    def test_opens_renamed_messages(self) -> None:
        """Promise: RETR and TOP find what moved from new to cur, got flags, lost them, or moved back."""
        maildrop = self.session()
        self.maildir.move("1.a", "1.a:2,S")
        self.maildir.move("2.b", "2.b:2,", target="new")
        self.maildir.move("4.d:2,S", "4.d", "cur", "new")
        self.assertEqual([self.content(maildrop, number) for number in (1, 2, 3, 4)], [b"1.a", b"2.b", b"3.c", b"4.d"])
        self.maildir.move("1.a:2,S", "1.a:2,RS", "cur")
        self.assertEqual(self.content(maildrop, 1), b"1.a")

    def test_removes_renamed_messages(self) -> None:
        """Promise: QUIT removes them wherever they are, and no others."""
        maildrop = self.session()
        self.maildir.move("1.a", "1.a:2,S")
        self.maildir.move("2.b", "2.b:2,S")
        self.maildir.deliver("1.ab", b"not 1.a")
        self.wait(maildrop.remove([1, 3]))
        self.assertEqual(self.maildir.files(), ["cur/2.b:2,S", "cur/4.d:2,S", "new/1.ab"])

    def test_looks_once_for_all_that_moved(self) -> None:
        """Promise: a mail program that takes everything from new to cur does not make QUIT quadratic."""
        maildrop = self.session()
        for name in ("1.a", "2.b", "3.c"):
            self.maildir.move(name, f"{name}:2,S")
        with mock.patch.object(maildir_session, "names", wraps=maildir_session.names) as names:
            self.wait(maildrop.remove([1, 2, 3]))
        self.assertEqual(names.call_count, 3)
        self.assertEqual(self.maildir.files(), ["cur/4.d:2,S"])

    def test_one_search_serves_every_retrieval(self) -> None:
        """Promise: nor does it make fetching everything quadratic."""
        maildrop = self.session()
        for name in ("1.a", "2.b", "3.c"):
            self.maildir.move(name, f"{name}:2,S")
        with mock.patch.object(maildir_session, "names", wraps=maildir_session.names) as names:
            self.assertEqual([self.content(maildrop, number) for number in (1, 2, 3)], [b"1.a", b"2.b", b"3.c"])
        self.assertEqual(names.call_count, 3)
        self.maildir.move("2.b:2,S", "2.b:2,RS", "cur")
        self.maildir.delete("3.c:2,S", "cur")
        self.wait(maildrop.remove([2, 3]))
        self.assertEqual(self.maildir.files(), ["cur/1.a:2,S", "cur/4.d:2,S"])

    def test_renamed_while_it_is_looked_for(self) -> None:
        """Promise: a file that is renamed between looking and removing is looked for again."""
        maildrop = self.session()
        self.maildir.move("1.a", "1.a:2,")
        real = os.unlink
        renames = [("1.a:2,", "1.a:2,S")]

        def unlink(path: bytes) -> None:
            if path.endswith(b":2,") and renames:
                self.maildir.move(*renames.pop(), "cur")
            real(path)

        with mock.patch.object(maildir_session.os, "unlink", unlink):
            self.wait(maildrop.remove([1]))
        self.assertEqual(self.maildir.files(), ["cur/4.d:2,S", "new/2.b", "new/3.c"])

    def test_renamed_again_and_again(self) -> None:
        """RFC 1939 §6: what could not be caught stayed, and QUIT says so."""
        maildrop = self.session()
        names = ["1.a", *(f"1.a:2,{flags}" for flags in "PRSTDF")]

        def unlink(path: bytes) -> None:
            old, new = names.pop(0), names[0]
            self.maildir.move(old, new, "new", "new")
            raise FileNotFoundError(2, "just gone")

        with mock.patch.object(maildir_session.os, "unlink", unlink):
            failed = self.fails(maildrop.remove([1]), RemoveFailed)
        self.assertEqual(list(failed.kept), [1])

    def test_gone_before_it_is_opened(self) -> None:
        """Promise: what is found and gone again is vanished."""
        maildrop = self.session()
        self.maildir.move("1.a", "1.a:2,S")
        real = os.open

        def opening(path: bytes, flags: int, *rest: Any, **more: Any) -> int:
            if bytes(path).endswith(b":2,S"):
                raise FileNotFoundError(2, "just gone")
            return real(path, flags, *rest, **more)

        with mock.patch.object(maildir_session.os, "open", opening):
            self.fails(maildrop.open(1), MessageVanished)


class OpenTests(SessionTestCase):
    """RETR and TOP."""

    def test_vanished_message(self) -> None:
        """Promise: MessageVanished, and no descriptor stays open."""
        maildrop = self.session()
        self.maildir.delete("2.b")
        before = descriptors()
        self.fails(maildrop.open(2), MessageVanished)
        self.assertEqual(descriptors(), before)

    def test_message_that_cannot_be_read(self) -> None:
        """Promise: no right to read is a failure of the store, and not a message that has gone."""
        maildrop = self.session()
        with mock.patch.object(maildir_session.os, "open", side_effect=PermissionError(13, "Permission denied")):
            self.fails(maildrop.open(2), StorageUnavailable)

    def test_link_in_its_place_is_not_followed(self) -> None:
        """Promise: a name that turned into a link does not lead out of the Maildir."""
        maildrop = self.session()
        self.maildir.delete("2.b")
        os.symlink("/etc/passwd", self.maildir.file("2.b"))
        self.fails(maildrop.open(2), StorageUnavailable)

    def test_searching_is_done_in_a_thread(self) -> None:
        """Promise: architecture.md §3: looking for a renamed file does not block; cancelling leaves nothing open."""
        threads = Later()
        opening = Deferred.fromCoroutine(self.driver(threads).open_maildrop(JOE))
        threads.run()
        maildrop = self.successResultOf(opening)
        self.maildir.move("1.a", "1.a:2,S")
        before = descriptors()
        answer = Deferred.fromCoroutine(maildrop.open(1))
        self.assertNoResult(answer)
        answer.cancel()
        threads.run()
        self.failureResultOf(answer)
        self.assertEqual(descriptors(), before)
        self.wait(maildrop.close())

    def test_index_cannot_lead_out_of_the_maildir(self) -> None:
        """Promise: who may write an index gets nothing read or removed that is not in his Maildir."""
        victim = self.maildir.path + b"victim"
        with open(victim, "wb") as file:
            file.write(b"secret")
        found = index.load(self.maildir.path + b"tpops_index", "exact/0")
        assert found is None
        driver = self.driver()
        self.listing(driver)
        stamp, _ = driver.listings.cache.get(self.maildir.path) or self.fail("nothing kept")
        for rows in (([6], [b"../victim"], [b"n"]), ([6], [b"x"], [b"N.."])):
            forged = Snapshot.of(*rows)
            forged.places = forged.places.replace(b"..", b"../victim")
            forged.place_ends = type(forged.place_ends)("I", [len(forged.places)])
            index.save(self.maildir.path + b"tpops_index", index.pack(forged, stamp, "exact/0"))
            maildrop = self.open()
            self.assertEqual(maildrop.messages.count, 1)
            self.fails(maildrop.open(1), StorageUnavailable)
            self.fails(maildrop.remove([1]), RemoveFailed)
            self.wait(maildrop.close())
            self.assertTrue(os.path.exists(victim))


class RemoveTests(SessionTestCase):
    """UPDATE."""

    def test_failures_name_exactly_what_stayed(self) -> None:
        """RFC 1939 §6: what could not be removed is told by number; all else is removed, before and after it."""
        real = os.unlink
        for error in (PermissionError(13, "Permission denied"), PermissionError(1, "Operation not permitted")):
            self.maildir.deliver("1.a", b"1.a")
            self.maildir.deliver("4.d:2,S", b"4.d", "cur")
            maildrop = self.open()

            def unlink(path: bytes, error: OSError = error) -> None:
                if path.endswith((b"2.b", b"3.c")):
                    raise error
                real(path)

            with mock.patch.object(maildir_session.os, "unlink", unlink):
                failed = self.fails(maildrop.remove([1, 2, 3, 4]), RemoveFailed)
            self.assertEqual(sorted(failed.kept), [2, 3])
            self.assertIn(error.strerror, str(failed))
            self.wait(maildrop.close())
            self.assertEqual(self.maildir.files(), ["new/2.b", "new/3.c"])

    def test_renamed_message_that_cannot_be_removed(self) -> None:
        """RFC 1939 §6: the same for one that had to be looked for."""
        maildrop = self.session()
        self.maildir.move("2.b", "2.b:2,S")
        real = os.unlink

        def unlink(path: bytes) -> None:
            if path.endswith(b":2,S"):
                raise PermissionError(13, "Permission denied")
            real(path)

        with mock.patch.object(maildir_session.os, "unlink", unlink):
            failed = self.fails(maildrop.remove([1, 2]), RemoveFailed)
        self.assertEqual(list(failed.kept), [2])

    def test_directory_that_cannot_be_searched_any_more(self) -> None:
        """RFC 1939 §6: where nobody can say whether a message is gone, it counts as stayed."""
        maildrop = self.session()
        self.maildir.move("2.b", "2.b:2,S")
        with mock.patch.object(maildir_session, "names", side_effect=PermissionError(13, "Permission denied")):
            failed = self.fails(maildrop.remove([1, 2]), RemoveFailed)
        self.assertEqual(list(failed.kept), [2])

    def test_gone_is_removed(self) -> None:
        """Promise: ENOENT at QUIT is success."""
        maildrop = self.session()
        for name in ("1.a", "2.b", "3.c"):
            self.maildir.delete(name)
        self.wait(maildrop.remove([1, 2, 4]))
        self.assertEqual(self.maildir.files(), [])


class SeenTests(SessionTestCase):
    """mark_seen."""

    def quit(self, *retrieved: int, deleted: tuple[int, ...] = (), **options: Any) -> None:
        """A whole session."""
        box = Mailbox(self.open(**options), JOE)
        verifyObject(INotesRetrieval, box.maildrop)
        for number in retrieved:
            self.content(box.maildrop, number)
            box.sent(number, box.size(number))
        for number in deleted:
            box.mark(number)
        self.wait(box.commit())
        self.successResultOf(box.logout())

    def test_default_moves_nothing(self) -> None:
        """Promise: a whole session with RETR leaves every name, inode and time as it was."""
        before = self.maildir.tree()
        self.quit(1, 2, 3, 4)
        self.assertEqual(self.maildir.tree(), before)

    def test_retrieved_messages_get_the_flag(self) -> None:
        """Promise: mark_seen = "retr": retrieved and kept messages are in cur with S among their flags, in order."""
        self.maildir.deliver("5.e:2,RT", b"5.e", "cur")
        self.maildir.deliver("6.f:1,x", b"6.f", "cur")
        before = self.unique_ids()
        self.quit(1, 3, 4, 5, 6, deleted=(3,), mark_seen=True)
        self.assertEqual(
            self.maildir.files(), ["cur/1.a:2,S", "cur/4.d:2,S", "cur/5.e:2,RST", "cur/6.f:1,x", "new/2.b"]
        )
        self.assertEqual(self.unique_ids(), [one for one in before if one != b"3.c"])

    def test_renamed_message_gets_the_flag(self) -> None:
        """Promise: the flag goes to the file wherever it is now, and keeps the flags it has now."""
        maildrop = self.session(mark_seen=True)
        self.maildir.move("1.a", "1.a:2,F")
        self.maildir.delete("2.b")
        self.wait(maildrop.mark_seen([1, 2]))
        self.assertEqual(self.maildir.files(), ["cur/1.a:2,FS", "cur/4.d:2,S", "new/3.c"])

    def test_failures_are_logged(self) -> None:
        """INotesRetrieval.mark_seen: never raised; another file of that name is not overwritten."""
        maildrop = self.session(mark_seen=True)
        self.maildir.deliver("1.a:2,S", b"somebody else's", "cur")
        with capturedLogs() as events:
            self.wait(maildrop.mark_seen([1, 2]))
        self.assertEqual(len(events), 1)
        self.assertIn("cur/1.a:2,S", self.maildir.files())
        self.assertIn("new/1.a", self.maildir.files())
        self.assertIn("cur/2.b:2,S", self.maildir.files())


class CorrectionTests(SessionTestCase):
    """A ",W=" that is not true."""

    def setUp(self) -> None:
        """A message whose name says too much, and one whose name says too little."""
        super().setUp()
        self.maildir.deliver("5.e,W=999", b"x\n")
        self.maildir.deliver("6.f,W=1", b"xy\n")

    def sizes(self, *arguments: Any, **options: Any) -> list[int]:
        """The octets that a short session announces for the two."""
        return [octets for octets, _ in self.listing(*arguments, **options)][4:]

    def send_all(self, driver: Any) -> None:
        """A session in which both are sent."""
        box = Mailbox(self.open(driver), JOE)
        with capturedLogs() as events:
            box.sent(5, 3)
            box.sent(6, 4)
            box.sent(1, box.size(1))
        self.assertEqual([event["octets"] for event in events if "octets" in event], [3, 4])
        self.assertEqual([box.size(5), box.size(6)], [999, 1])
        self.successResultOf(box.logout())

    def test_is_corrected_for_good(self) -> None:
        """Promise: what sending showed is logged and announced from the next session on, also by other processes."""
        driver = self.driver()
        self.assertEqual(self.sizes(driver), [999, 1])
        self.send_all(driver)
        self.assertEqual(self.sizes(driver), [3, 4])
        self.assertEqual(self.sizes(), [3, 4])
        self.maildir.move("5.e,W=999", "5.e,W=999:2,S")
        self.maildir.deliver("7.g")
        self.assertEqual(self.sizes()[:2], [3, 4])

    def test_is_corrected_where_memory_keeps_nothing(self) -> None:
        """Promise: the correction is in the index, however small the memory for listings is."""
        driver = self.driver(cache_octets=0)
        self.send_all(driver)
        self.assertEqual(self.sizes(driver), [3, 4])

    def test_is_corrected_without_an_index(self) -> None:
        """Promise: without index files the same process remembers."""
        driver = self.driver(index=False)
        self.send_all(driver)
        self.assertEqual(self.sizes(driver), [3, 4])

    def test_inexact_settings_are_not_corrected(self) -> None:
        """Promise: sizes that were never meant to be exact stay as they are, without a word."""
        maildrop = self.session(sizes=sizes.FILE)
        with capturedLogs() as events:
            maildrop.sent(5, 3)
        self.assertEqual(events, [])

    def test_cancelled_correction_releases_the_lock(self) -> None:
        """IMaildrop.close: never raises, releases the lock whatever happens."""
        threads = Later()
        opening = Deferred.fromCoroutine(self.driver(threads).open_maildrop(JOE))
        threads.run()
        maildrop = self.successResultOf(opening)
        maildrop.sent(5, 3)
        with capturedLogs() as events:
            closing = Deferred.fromCoroutine(maildrop.close())
            self.assertTrue(self.locked())
            closing.cancel()
            self.successResultOf(closing)
        self.assertEqual(len(events), 1)
        self.assertFalse(self.locked())
        threads.run()
