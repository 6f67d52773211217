"""What an unchanged Maildir costs, what a changed one costs, and when a listing may be kept."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.logger import capturedLogs

from tests.mailbox.support import Maildir, MaildirTestCase, public_folder, without_rights
from tpops.mailbox import index, listings, maildir_scan, sizes
from tpops.mailbox.maildir import MaildirDriver
from tpops.mailbox.snapshot import Snapshot


class WorkTestCase(MaildirTestCase):
    """Counts what a look at a Maildir does."""

    def setUp(self) -> None:
        """Three messages in cur and two in new."""
        super().setUp()
        for name in ("1.a:2,S", "2.b:2,S", "3.c:2,"):
            self.maildir.deliver(name, directory="cur")
        for name in ("4.d", "5.e"):
            self.maildir.deliver(name)

    def work(self, driver: MaildirDriver) -> tuple[list[bytes], list[str], list[bytes]]:
        """Unique-ids, directories that were scanned, names that were read."""
        with (
            mock.patch.object(maildir_scan, "names", wraps=maildir_scan.names) as names,
            mock.patch.object(sizes, "read_size", wraps=sizes.read_size) as read_size,
        ):
            unique_ids = self.unique_ids(driver)
        return (
            unique_ids,
            [os.path.basename(os.fsdecode(call.args[0]).rstrip("/")) for call in names.call_args_list],
            sorted(call.args[0] for call in read_size.call_args_list),
        )


class CostTests(WorkTestCase):
    """Promise: architecture.md section 3: work only for what is new."""

    ALL = [b"1.a", b"2.b", b"3.c", b"4.d", b"5.e"]

    def test_first_look_reads_all(self) -> None:
        """Promise: each message once."""
        _, scanned, read = self.work(self.driver())
        self.assertEqual((scanned, read), (["new", "cur"], [b"1.a:2,S", b"2.b:2,S", b"3.c:2,", b"4.d", b"5.e"]))

    def test_unchanged_maildir_is_two_stats(self) -> None:
        """Promise: in the same process nothing is scanned, read or opened but the lock."""
        driver = self.driver()
        self.work(driver)
        with (
            mock.patch.object(index, "load", side_effect=AssertionError),
            mock.patch.object(maildir_scan.os, "stat", wraps=os.stat) as stat,
        ):
            maildrop = self.open(driver)
        of_directories = [call.args[0] for call in stat.call_args_list if call.args[0].endswith((b"new", b"cur"))]
        self.assertEqual(len(of_directories), 2)
        self.wait(maildrop.close())
        self.assertEqual(self.work(driver), (self.ALL, [], []))

    def test_restart_reads_the_index_only(self) -> None:
        """Promise: another process, or the next one, scans and reads nothing."""
        self.work(self.driver())
        self.assertEqual(self.work(self.driver()), (self.ALL, [], []))

    def test_new_mail_reads_the_new_message_only(self) -> None:
        """Promise: one scan of the changed directory, one read, in this process and in another one."""
        self.work(self.driver())
        for driver in (self.driver(), self.driver()):
            self.work(driver)
        self.maildir.deliver("6.f")
        other = self.driver()
        self.assertEqual(self.work(driver), ([*self.ALL, b"6.f"], ["new"], [b"6.f"]))
        self.assertEqual(self.work(other), ([*self.ALL, b"6.f"], [], []))

    def test_new_mail_into_an_empty_new(self) -> None:
        """Promise: the common case, all else in cur: the listing is extended, and is as one made at once."""
        for name in ("4.d", "5.e"):
            self.maildir.move(name, f"{name}:2,S")
        driver = self.driver()
        self.work(driver)
        self.maildir.deliver("7.g")
        self.maildir.deliver("6.f")
        with mock.patch.object(maildir_scan, "_merge", side_effect=AssertionError):
            self.assertEqual(self.work(driver), ([*self.ALL, b"6.f", b"7.g"], ["new"], [b"6.f", b"7.g"]))
        self.assertEqual(self.work(driver), ([*self.ALL, b"6.f", b"7.g"], [], []))

    def test_nothing_is_read_when_flags_change(self) -> None:
        """Promise: a message that moved or got flags keeps the size that was learnt."""
        driver = self.driver()
        self.work(driver)
        self.maildir.move("1.a:2,S", "1.a:2,RS", "cur")
        self.assertEqual(self.work(driver), (self.ALL, ["cur"], []))
        self.maildir.move("4.d", "4.d:2,S")
        self.assertEqual(self.work(driver), (self.ALL, ["new", "cur"], []))

    def test_deletions_read_nothing(self) -> None:
        """Promise: after QUIT with deletions only names are read."""
        driver = self.driver()
        maildrop = self.open(driver)
        self.wait(maildrop.remove([1, 4]))
        self.maildir.touch()
        self.wait(maildrop.close())
        self.assertEqual(self.work(driver), ([b"2.b", b"3.c", b"5.e"], ["new", "cur"], []))

    def test_new_names_that_are_no_mail(self) -> None:
        """Promise: a change that is none, and mail that went before it was looked at, change no listing."""
        for name in ("4.d", "5.e"):
            self.maildir.move(name, f"{name}:2,S")
        driver = self.driver()
        self.work(driver)
        self.maildir.deliver(".hidden")
        self.assertEqual(self.work(driver), (self.ALL, ["new"], []))

    def test_lost_index_changes_nothing(self) -> None:
        """RFC 1939 §7: index loss gives the same numbers, sizes and unique-ids."""
        before = self.listing()
        for damage in (b"", b"junk", None):
            path = self.maildir.path + index.INDEX_FILE
            if damage is None:
                os.unlink(path)
            else:
                with open(path, "wb") as file:
                    file.write(damage)
            self.assertEqual(self.listing(), before)


class PlaceTests(WorkTestCase):
    """Where the index is."""

    def test_in_the_maildir(self) -> None:
        """Promise: tpops_index, and no temporary beside it."""
        self.listing()
        self.assertEqual(sorted(os.listdir(self.maildir.root)), ["cur", "new", "tmp", "tpops_index", "tpops_lock"])

    def test_elsewhere(self) -> None:
        """Promise: index_dir keeps the indexes of all Maildirs, each its own."""
        folder = os.path.abspath(self.mktemp())
        os.mkdir(folder)
        other = Maildir(self.mktemp())
        other.deliver("9.z")
        self.listing(index_dir=folder)
        self.assertEqual(self.unique_ids(self.driver(maildir=other, index_dir=folder)), [b"9.z"])
        self.assertEqual(len(os.listdir(folder)), 2)
        self.assertNotIn("tpops_index", os.listdir(self.maildir.root))
        self.assertEqual(self.work(self.driver(index_dir=folder))[1:], ([], []))

    def test_nowhere(self) -> None:
        """Promise: index = false writes none and reads none."""
        self.listing()
        os.utime(self.maildir.path + b"tpops_index", ns=(1, 1))
        driver = self.driver(index=False)
        self.assertEqual(len(self.work(driver)[2]), 5)
        self.assertEqual(self.work(driver)[1:], ([], []))
        self.assertEqual(os.stat(self.maildir.path + b"tpops_index").st_mtime_ns, 1)

    def test_failure_is_logged_once(self) -> None:
        """Promise: an index that cannot be written is told once a Maildir, and the listing comes from memory."""
        driver = self.driver(index_dir="/nowhere/at/all")
        with capturedLogs() as events:
            self.work(driver)
            self.maildir.deliver("6.f")
            self.assertEqual(self.work(driver)[2], [b"6.f"])
            self.assertEqual(self.work(driver)[1:], ([], []))
        self.assertEqual([event["maildir"] for event in events], [self.maildir.path])

    def test_complaints_are_bounded(self) -> None:
        """Promise: memory does not grow with the Maildirs that have no index."""
        self.patch(listings, "_MOST_COMPLAINTS", 0)
        with capturedLogs() as events:
            self.listing(index_dir="/nowhere/at/all")
        self.assertEqual(events, [])

    def test_maildir_that_went_meanwhile_is_logged(self) -> None:
        """Promise: saving a listing never raises."""
        driver = self.driver()
        with capturedLogs() as events:
            driver.listings.save(b"/nowhere/at/all/", ((0, 0, 0),) * 3, Snapshot.of([], [], []))
        self.assertEqual(len(events), 1)

    def test_read_only_maildir(self) -> None:
        """Promise: a Maildir that cannot be written is served, by memory or with index_dir."""
        with public_folder() as folder:
            maildir = Maildir(os.path.join(folder, "Maildir"))
            maildir.deliver("1.a", b"x\n")
            elsewhere = os.path.join(folder, "index")
            os.mkdir(elsewhere)
            os.chmod(elsewhere, 0o777)
            os.chmod(maildir.root, 0o555)

            def looks() -> str:
                driver = self.driver(maildir=maildir)
                found = [self.listing(driver), self.work(driver)]
                driver = self.driver(maildir=maildir, index_dir=elsewhere)
                self.listing(driver)
                found.append(self.work(self.driver(maildir=maildir, index_dir=elsewhere)))
                return repr(found)

            self.assertEqual(without_rights(looks), repr([[(3, b"1.a")], ([b"1.a"], [], []), ([b"1.a"], [], [])]))
            self.assertEqual(sorted(os.listdir(maildir.root)), ["cur", "new", "tmp"])
            os.chmod(maildir.root, 0o755)


class RacyTests(WorkTestCase):
    """Promise: a listing is kept only when a later change is sure to show in the directories' times."""

    SECOND = 1_000_000_000
    NOW = 1_700_000_000 * SECOND + 123_456_789

    def setUp(self) -> None:
        """The directories changed at a moment of the test's choice."""
        super().setUp()
        self.changed = self.NOW
        self.patch(listings.Listings, "stamp", self.stamp)

    def stamp(self, maildir: bytes) -> Any:
        """Stamps that never change though the directories do: all within one tick."""
        return ((1, self.changed, self.changed), (2, 5, 5), (0, 0, 0))

    def time_is(self, now: int) -> None:
        """Set the file system's clock."""
        self.patch(listings, "_file_system_clock", lambda lock: now)

    def seen_after(self, nanoseconds: int) -> bool:
        """Whether a delivery in the same tick as the last change is seen when the scan was so long after that."""
        self.time_is(self.changed + nanoseconds)
        driver = self.driver()
        self.work(driver)
        self.maildir.deliver("6.f")
        try:
            self.assertEqual(self.work(driver)[0], self.work(self.driver())[0])
            return b"6.f" in self.work(driver)[0]
        finally:
            self.maildir.delete("6.f")
            if os.path.exists(self.maildir.path + b"tpops_index"):
                os.unlink(self.maildir.path + b"tpops_index")

    def test_two_deliveries_in_one_tick_are_both_seen(self) -> None:
        """Promise: a listing made in the tick of the last change, or by a clock that is behind, is not kept."""
        for nanoseconds in (0, 1, 10_000_000, 19_999_999, -5 * self.SECOND):
            self.assertTrue(self.seen_after(nanoseconds), nanoseconds)

    def test_settled_listing_is_kept(self) -> None:
        """Promise: later changes have another time, so the listing counts (the test forges the stamp)."""
        self.assertFalse(self.seen_after(20_000_001))

    def test_file_systems_with_whole_seconds(self) -> None:
        """Promise: where times have no fraction, two seconds have to pass."""
        self.changed = 1_700_000_000 * self.SECOND
        self.assertTrue(self.seen_after(1_999_999_999))
        self.assertFalse(self.seen_after(2_000_000_001))

    def test_racy_listing_is_in_no_index_and_reads_nothing_twice(self) -> None:
        """Promise: it is scanned again, with the sizes that are known."""
        self.time_is(self.changed)
        driver = self.driver()
        self.assertEqual(len(self.work(driver)[2]), 5)
        self.assertFalse(os.path.exists(self.maildir.path + b"tpops_index"))
        self.assertEqual(self.work(driver), (CostTests.ALL, ["new", "cur"], []))


class SettlingTests(MaildirTestCase):
    """Changes while a scan runs."""

    def delivering(self, times: int) -> Any:
        """A scan during which mail comes, so often."""
        real = maildir_scan.names
        left = list(range(times))

        def names(path: bytes) -> list[bytes]:
            found = real(path)
            if path.endswith(b"cur/") and left:
                self.maildir.deliver(f"{10 + left.pop(0)}.x", b"x\n")
            return found

        return mock.patch.object(maildir_scan, "names", names)

    def test_scan_begins_again(self) -> None:
        """Promise: mail that comes during the scan is in the listing."""
        with self.delivering(1):
            self.assertEqual(self.unique_ids(), [b"10.x"])
        self.assertEqual(self.unique_ids(), [b"10.x"])

    def test_never_settling_maildir_is_listed_all_the_same(self) -> None:
        """Promise: mail that never stops coming keeps nobody out; such a listing is not kept."""
        driver = self.driver()
        with self.delivering(9):
            self.assertEqual(self.unique_ids(driver), [b"10.x", b"11.x"])
        self.assertFalse(os.path.exists(self.maildir.path + b"tpops_index"))
        self.assertEqual(self.unique_ids(driver), [b"10.x", b"11.x", b"12.x"])

    def test_message_that_moves_during_the_scan_is_one(self) -> None:
        """Promise: new is read first: what moves to cur meanwhile is seen twice, never missed, and listed once."""
        self.maildir.deliver("1.a", b"x\n")
        real = maildir_scan.names
        left = [1]

        def names(path: bytes) -> list[bytes]:
            if path.endswith(b"cur/") and left:
                left.pop()
                self.maildir.move("1.a", "1.a:2,S")
            return real(path)

        for tries in (1, 3):
            self.patch(listings, "_TRIES", tries)
            with mock.patch.object(maildir_scan, "names", names):
                self.assertEqual(self.listing(index=False), [(3, b"1.a")])
            self.maildir.move("1.a:2,S", "1.a", "cur", "new")
            left.append(1)
