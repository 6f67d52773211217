"""Sessions on spools that others use at the same time, and what is kept of them."""

from __future__ import annotations

import errno
import os
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.mailbox.spools import JOE, SpoolCase, separator, spool_of
from tests.mailbox.support import Later
from tpops.errors import MaildropBroken, MaildropBusy, MessageVanished, RemoveFailed, StorageUnavailable
from tpops.mailbox import mbox_listings, mbox_rewrite
from tpops.mailbox.mbox_scan import scan
from tpops.mailbox.spool_locks import try_lock

MAIL = [b"Subject: %d\n\n%s\n" % (number, b"text\n" * number) for number in range(1, 6)]


class MboxCase(SpoolCase):
    """A spool of five messages."""

    def setUp(self) -> None:
        super().setUp()
        self.write(spool_of(MAIL))

    def wait(self, coroutine: Any) -> Any:
        """The result of a coroutine that has nothing to wait for."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def fails(self, coroutine: Any, *errors: type[Exception]) -> Any:
        """Its exception."""
        return self.failureResultOf(Deferred.fromCoroutine(coroutine), *errors).value

    def open(self, driver: Any = None, **options: Any) -> Any:
        """A session that ends with the test."""
        session = self.wait((driver or self.driver(**options)).open_maildrop(JOE))
        self.addCleanup(lambda: self.wait(session.close()))
        return session

    def look(self, driver: Any = None, **options: Any) -> list[bytes]:
        """The unique-ids of a short session."""
        session = self.open(driver, **options)
        self.wait(session.close())
        return session.messages.unique_ids()

    def text(self, session: Any, number: int) -> bytes:
        """A whole message."""
        message = self.wait(session.open(number))
        chunks = []
        while chunk := self.chunk(message.read(1 << 16)):
            chunks.append(chunk)
        message.close()
        return b"".join(chunks)

    def chunk(self, answer: Any) -> bytes:
        """What a read gave, at once or later."""

        async def waiting() -> bytes:
            return await answer

        return answer if isinstance(answer, bytes) else self.wait(waiting())

    def scanned(self) -> Any:
        """Counts the octets that are read to find messages."""
        self.octets_read = 0
        real = mbox_listings.pread

        def counting(descriptor: int, offset: int, octets: int) -> bytes:
            found = real(descriptor, offset, octets)
            self.octets_read += len(found)
            return found

        return mock.patch.object(mbox_listings, "pread", counting)


class ListingTests(MboxCase):
    """What is read again, and what is not."""

    def test_an_unchanged_spool_is_not_read(self) -> None:
        """From memory it is not even opened; from the index, its separators are not looked for."""
        driver = self.driver()
        first = self.look(driver)
        with self.scanned():
            with mock.patch("tpops.mailbox.spool_locks.try_lock", side_effect=AssertionError):
                self.assertEqual(self.look(driver), first)
            self.assertEqual(self.look(), first)
        self.assertEqual(self.octets_read, 0)

    def test_of_an_appended_one_only_the_new_part_is_read(self) -> None:
        """And the last message before it, which may have been in the making."""
        self.write(spool_of([b"Subject: x\n\n" + b"line\n" * 200_000, *MAIL]))
        before = self.look()
        self.append(b"Subject: new\n\n")
        with self.scanned():
            after = self.look()
        self.assertEqual(after[:-1], before)
        self.assertLess(self.octets_read, 3000)

    def test_others_of_the_same_sizes_are_no_appended_ones(self) -> None:
        """A spool that was emptied and filled again, octet for octet as long, is read whole: memory and index alike."""
        for last in (b"Subject: d\n\nmore\n", b"Subject: d\n\nmore and longer\n"):
            for many in (1, 2, 40):
                olds = [b"Subject: %02d\n\nx\n" % number for number in range(many)] + [b"Subject: b\n\nmore\n"]
                self.write(spool_of(olds))
                driver = self.driver()
                inode = os.stat(self.spool).st_ino
                before = self.look(driver)
                news = [b"Subject: %02d\n\ny\n" % number for number in range(many)] + [last, b"Subject: new\n\n"]
                self.write(spool_of(news))
                self.assertEqual(os.stat(self.spool).st_ino, inode)
                expected = [one.unique_id for one in self.fresh()]
                self.assertFalse(set(before) & set(expected))
                self.assertEqual(self.look(), expected, (last, many))
                self.assertEqual(self.look(driver), expected, (last, many))

    def test_a_message_in_the_making(self) -> None:
        """Its end came later: it is read again, and what follows is found."""
        whole = spool_of([*MAIL, b"Subject: late\n\nsome more text\n", b"Subject: next\n\n"])
        cut = whole.index(b"some more")
        self.write(whole[:cut])
        driver = self.driver()
        before = self.look(driver)
        self.write_more(whole[cut:])
        session = self.open(driver)
        self.assertEqual(self.text(session, 6), b"Subject: late\n\nsome more text\n")
        self.assertEqual(session.messages.count, 7)
        self.assertEqual(session.messages.unique_ids()[:5], before[:5])
        self.assertEqual(session.messages.unique_ids(), [one.unique_id for one in self.fresh()])

    def write_more(self, octets: bytes) -> None:
        """Append as it is."""
        with open(self.spool, "ab") as file:
            file.write(octets)

    def fresh(self) -> list[Any]:
        """What a scan finds that knows nothing."""
        octets = self.octets()
        return list(scan(lambda at, many: octets[at : at + many], 0, len(octets), "hash"))

    def test_any_other_change_is_read_whole(self) -> None:
        """Shorter, rewritten with marks, replaced; the unique-ids stay all the same."""
        driver = self.driver()
        before = self.look(driver)
        marked = self.octets().replace(b"Subject:", b"Status: RO\nSubject:")
        self.write(marked)
        self.assertEqual(self.look(driver), before)
        os.rename(self.spool, self.spool + ".old")
        self.write(marked)
        self.assertEqual(self.look(driver), before)
        self.write(marked[marked.index(b"From sender1") :])
        self.assertEqual(self.look(driver), before[1:])

    def test_growth_that_is_no_append(self) -> None:
        """Something became longer in the middle: the separators are not where they were."""
        driver = self.driver()
        before = self.look(driver)
        self.write(self.octets().replace(b"Subject: 2", b"Subject: 2, and more") + spool_of([b"new\n"], 9))
        session = self.open(driver)
        self.assertEqual(session.messages.count, 6)
        self.assertNotEqual(session.messages.unique_id(2), before[1])
        self.assertEqual(self.text(session, 3), MAIL[2])

    def test_an_index_that_cannot_be_used(self) -> None:
        """Torn, of other settings, or a directory that cannot be written: the spool is read; once complained."""
        before = self.look()
        (path,) = [name for name in os.listdir(self.index_dir) if name.endswith(".index")]
        with open(os.path.join(self.index_dir, path), "r+b") as file:
            file.truncate(100)
        self.assertEqual(self.look(), before)
        self.assertNotEqual(self.look(unique_ids="tpop3d"), before)
        with mock.patch("tpops.mailbox.index.save", return_value="full"), capturedLogs() as logs:
            driver = self.driver()
            for number in range(3):
                self.append(b"%d\n" % number)
                self.look(driver)
        self.assertEqual(len([one for one in logs if "no index kept" in one["log_format"]]), 1)

    def test_copies_keep_their_unique_ids_when_others_go(self) -> None:
        """The listing remembers which is which."""
        copy = separator(1) + MAIL[0] + b"\n"
        self.write(copy * 3)
        before = self.look()
        self.assertEqual(len(set(before)), 3)
        session = self.open()
        self.wait(session.remove([1]))
        self.wait(session.close())
        self.assertEqual(self.look(), before[1:])

    def test_after_a_removal_nothing_is_read_again(self) -> None:
        """The listing without what went is kept, in memory and on disk."""
        session = self.open()
        self.wait(session.remove([2, 4]))
        self.wait(session.close())
        with self.scanned():
            again = self.open()
        self.assertEqual(self.octets_read, 0)
        self.assertEqual([self.text(again, number) for number in (1, 2, 3)], [MAIL[0], MAIL[2], MAIL[4]])


class SharedTests(MboxCase):
    """Others write while a session is open."""

    def test_rewritten_during_the_session(self) -> None:
        """Messages are found again by their unique-ids, also when they have marks now; gone ones are gone."""
        session = self.open()
        self.write(self.octets().replace(b"Subject:", b"Status: RO\nSubject:")[: -len(spool_of(MAIL[4:], 4)) - 11])
        self.assertEqual(self.text(session, 3), b"Status: RO\n" + MAIL[2])
        self.assertEqual(self.text(session, 1), b"Status: RO\n" + MAIL[0])
        self.fails(session.open(5), MessageVanished)
        self.wait(session.remove([1, 5]))
        self.assertEqual(self.messages(), [b"Status: RO\n" + one for one in MAIL[1:4]])

    def test_rewritten_while_a_message_is_sent(self) -> None:
        """The transfer ends rather than going on with another's octets; an append does not disturb it."""
        for change, fails in (
            (lambda: self.append(b"new\n"), False),
            (lambda: self.write(b"From x Tue Nov 24 07:02:15 2026\n\n" + self.octets()), True),
            (lambda: self.write(self.octets()[:100]), True),
        ):
            self.write(spool_of([b"Subject: big\n\n" + b"x" * 1000 + b"\n", *MAIL]))
            session = self.open(self.driver())
            message = self.wait(session.open(1))
            self.assertEqual(len(self.chunk(message.read(500))), 500)
            change()
            if fails:
                self.assertRaises(StorageUnavailable, lambda message=message: self.chunk(message.read(500)))
            else:
                self.assertEqual(len(self.chunk(message.read(600))), 515)
            message.close()
            self.wait(session.close())

    def test_the_spool_is_gone(self) -> None:
        """Its messages have vanished, and what was to go counts as gone."""
        session = self.open()
        os.unlink(self.spool)
        self.fails(session.open(1), MessageVanished)
        self.wait(session.remove([1, 2]))
        self.assertFalse(os.path.exists(self.spool))

    def test_a_message_that_is_sent_with_another_size(self) -> None:
        """Logged, and read anew the next time."""
        driver = self.driver()
        session = self.open(driver)
        with capturedLogs() as logs:
            session.sent(1, 99)
        self.assertEqual(logs[0]["octets"], 99)
        self.assertEqual([name for name in os.listdir(self.index_dir) if name.endswith(".index")], [])
        self.wait(session.mark_seen([1]))
        self.wait(session.close())
        with self.scanned():
            self.look(driver)
        self.assertGreater(self.octets_read, 0)


class LockTests(MboxCase):
    """Who waits for whom."""

    def test_a_delivery_is_waited_for(self) -> None:
        """As long as the configuration says, then [IN-USE]."""
        delivery = try_lock(self.path)
        assert delivery is not None
        self.addCleanup(delivery.release)
        opening = Deferred.fromCoroutine(self.driver(lock_wait_seconds=5.0).open_maildrop(JOE))
        self.clock.advance(1)
        self.assertNoResult(opening)
        delivery.release()
        self.clock.advance(1)
        self.wait(self.successResultOf(opening).close())

        delivery = try_lock(self.path)
        assert delivery is not None
        self.append(b"new\n")
        opening = Deferred.fromCoroutine(self.driver(lock_wait_seconds=5.0).open_maildrop(JOE))
        self.clock.pump([0.5] * 11)
        self.failureResultOf(opening, MaildropBusy)
        delivery.release()
        self.wait(self.open().close())

    def test_delivery_does_not_wait_for_a_session(self) -> None:
        """The spool's locks are free between login and QUIT."""
        session = self.open()
        delivery = try_lock(self.path)
        assert delivery is not None
        self.append(b"Subject: new\n\n")
        delivery.release()
        self.wait(session.remove([1, 2, 3, 4, 5]))
        self.assertEqual(self.messages(), [b"Subject: new\n\n"])

    def test_a_lock_at_quit_that_is_not_released(self) -> None:
        """Nothing is removed, and that is told."""
        session = self.open()
        delivery = try_lock(self.path)
        assert delivery is not None
        self.addCleanup(delivery.release)
        failed = self.fails(session.remove([1, 2]), RemoveFailed)
        self.assertEqual(sorted(failed.kept), [1, 2])
        self.assertEqual(self.messages(), MAIL)

    def test_gone_while_waiting(self) -> None:
        """A login that is cancelled leaves no lock behind."""
        threads = Later()
        opening = Deferred.fromCoroutine(self.driver(threads).open_maildrop(JOE))
        opening.cancel()
        threads.run()
        self.assertIsNotNone(self.failureResultOf(opening))
        self.wait(self.open().close())
        self.assertFalse(os.path.exists(self.spool + ".lock"))


class TroubleTests(MboxCase):
    """Disks and rights."""

    def test_a_killed_session_is_brought_to_its_end(self) -> None:
        """The next login finds the journal."""
        session = self.open()
        with mock.patch.object(mbox_rewrite.os, "ftruncate", side_effect=OSError(errno.EIO, "broken")):
            failed = self.fails(session.remove([1]), RemoveFailed)
        self.assertIn("broken", str(failed))
        self.wait(session.close())
        self.append(b"Subject: new\n\n")
        driver = self.driver()
        self.assertEqual(len(self.look(driver)), 5)
        self.assertEqual(self.messages(), [*MAIL[1:], b"Subject: new\n\n"])
        self.assertEqual([name for name in os.listdir(self.index_dir) if "journal" in name], [])

    def test_what_needs_an_administrator(self) -> None:
        """Another format, a directory, an index directory that cannot be made."""
        self.write(b"no spool\n")
        error = self.fails(self.driver().open_maildrop(JOE), MaildropBroken)
        self.assertIn("does not begin with a line 'From ADDRESS DATE'", str(error))
        os.unlink(self.spool)
        os.mkdir(self.spool)
        self.fails(self.driver().open_maildrop(JOE), MaildropBroken)
        os.rmdir(self.spool)
        error = self.fails(self.driver(directory="/proc/nowhere/mbox").open_maildrop(JOE), MaildropBroken)
        self.assertIn("mbox.index_dir", str(error))

    def test_the_index_directory_is_made(self) -> None:
        """For its owner alone."""
        directory = os.path.join(self.directory, "a", "b")
        self.wait(self.open(directory=directory).close())
        self.assertEqual(os.stat(directory).st_mode & 0o777, 0o700)

    def test_no_spool_is_no_mail(self) -> None:
        """And no file is made."""
        os.unlink(self.spool)
        self.assertEqual(self.look(), [])
        self.assertFalse(os.path.exists(self.spool))

    def test_a_disk_that_fails(self) -> None:
        """Try again later; nothing is held."""
        with mock.patch.object(mbox_listings, "pread", side_effect=OSError(errno.EIO, "broken")):
            self.fails(self.driver().open_maildrop(JOE), StorageUnavailable)
        self.assertEqual(len(self.look()), 5)

    def test_no_descriptor_and_no_room_for_our_own_files(self) -> None:
        """Promise: a lock file that cannot be made for now is a login to be tried again, nobody's mistake."""
        for name, number in (("open", errno.EMFILE), ("open", errno.ENOSPC), ("makedirs", errno.ENOSPC)):
            directory = os.path.join(self.directory, f"{name}-{number}")
            if name == "open":
                os.mkdir(directory)
            driver = self.driver(directory=directory)
            with mock.patch(f"tpops.mailbox.mbox.os.{name}", side_effect=OSError(number, os.strerror(number))):
                self.fails(driver.open_maildrop(JOE), StorageUnavailable)
            self.assertEqual(len(self.look(driver)), 5)

    def test_a_spool_that_may_only_be_read(self) -> None:
        """Is served; removing is refused."""
        real = os.open

        def read_only(path: bytes, flags: int, *more: int) -> int:
            if flags & os.O_RDWR and path == self.path:
                raise OSError(errno.EACCES, "read only")
            return real(path, flags, *more)

        with mock.patch("tpops.mailbox.spool_locks.os.open", read_only):
            session = self.open()
            self.assertEqual(self.text(session, 1), MAIL[0])
            failed = self.fails(session.remove([1]), RemoveFailed)
        self.assertIn("may not be written", str(failed))
        self.assertEqual(self.messages(), MAIL)

    def test_long_paths(self) -> None:
        """Names of our files about a spool are no longer than a file name may be."""
        listings = self.driver().listings
        for length in (10, 300, 3000):
            path = listings.path(b"/" + b"x" * length, b".journal.unused")
            self.assertLess(len(os.path.basename(path)), 256)
        self.assertNotEqual(listings.path(b"/a/b", b""), listings.path(b"/a_b", b""))
