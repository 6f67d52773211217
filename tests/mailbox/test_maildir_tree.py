"""A Maildir and all its folders as one maildrop."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.mailbox.support import JOE, Later, LocatedDriver, Maildir, MaildirTestCase, unhurried
from tpops.errors import MaildropBroken, MessageVanished, RemoveFailed
from tpops.mailbox import listings, maildir
from tpops.mailbox.maildir_tree import Tree
from tpops.mailbox.unique_ids import in_folder, valid
from tpops.model import Account


class TreeCase(MaildirTestCase):
    """A Maildir with the folders .Lists and .Work, and what clients see."""

    def setUp(self) -> None:
        super().setUp()
        self.lists, self.work = self.folder(".Lists"), self.folder(".Work")

    def folder(self, directory: str) -> Maildir:
        """Make a folder."""
        return Maildir(os.path.join(self.maildir.root, directory))

    def driver(self, *arguments: Any, **options: Any) -> LocatedDriver:
        """A driver that shows all folders but Trash."""
        defaults: dict[str, Any] = {"recursive": True, "ignored_folders": ("Trash",), "lock_wait_seconds": 0.0}
        return super().driver(*arguments, **{**defaults, **options})


class ListingTests(TreeCase):
    """Which messages there are, in which order, with which unique-ids."""

    def test_messages_of_all_folders_in_order(self) -> None:
        """Promise: by the numbers of their names, whatever folder they are in; without those of ignored folders."""
        for folder, name in ((self.lists, "2.b"), (self.maildir, "3.c"), (self.work, "1.a"), (self.maildir, "10.d")):
            folder.deliver(name, name.encode())
        self.folder(".Trash").deliver("0.x")
        maildrop = self.open()
        self.assertEqual([self.content(maildrop, number) for number in (1, 2, 3, 4)], [b"1.a", b"2.b", b"3.c", b"10.d"])
        self.assertEqual(maildrop.messages.count, 4)

    def test_own_messages_keep_their_unique_ids(self) -> None:
        """Promise: nothing of the Maildir itself is downloaded twice when all folders are shown, or no longer."""
        self.maildir.deliver("1.a")
        self.lists.deliver("2.b")
        self.maildir.deliver("3.c")
        self.assertEqual(self.unique_ids(recursive=False), [b"1.a", b"3.c"])
        self.assertEqual(self.unique_ids()[::2], [b"1.a", b"3.c"])
        self.assertEqual(self.unique_ids(recursive=False), [b"1.a", b"3.c"])

    def test_same_name_in_several_folders(self) -> None:
        """RFC 1939 section 7: all differ, and none changes when another goes or the indexes are lost."""
        everywhere = (self.maildir, self.lists, self.work)
        for folder in everywhere:
            folder.deliver("1.a", folder.path)
        before = dict(zip(self.contents(), self.unique_ids(), strict=True))
        self.assertEqual(before[self.maildir.path], b"1.a")
        self.assertEqual(before[self.lists.path], in_folder(b"1.a", b".Lists"))
        self.assertEqual((len(set(before.values())), [one for one in before.values() if not valid(one)]), (3, []))
        for folder in everywhere:
            os.unlink(folder.path + b"tpops_index")
        self.maildir.delete("1.a")
        after = dict(zip(self.contents(), self.unique_ids(), strict=True))
        del before[self.maildir.path]
        self.assertEqual(after, before)

    def test_same_name_with_unique_ids_of_tpop3d(self) -> None:
        """RFC 1939 section 7: where tpop3d would give two messages one unique-id, the second has another."""
        self.maildir.deliver("1.b")
        self.lists.deliver("1.a")
        with mock.patch.object(Tree, "_identity", return_value=b"same"):
            self.assertEqual(len(set(self.unique_ids(tpop3d=True))), 2)
            self.assertIn(b"same", self.unique_ids(tpop3d=True))

    def test_a_hash_that_a_message_has_by_chance(self) -> None:
        """Promise: a message of the Maildir that is called like the unique-id of another keeps its name."""
        self.lists.deliver("2.b")
        taken = in_folder(b"2.b", b".Lists")
        self.assertEqual(self.unique_ids(), [taken])
        driver = self.driver()
        self.unique_ids(driver)
        self.maildir.deliver(taken)
        for one in (driver, None):
            found = self.unique_ids(one)
            self.assertEqual((len(set(found)), found[1]), (2, taken))

    def test_folders_come_and_go(self) -> None:
        """Promise: a folder that is made, renamed or removed shows at the next login, whatever was known."""
        driver = self.driver()
        self.lists.deliver("1.a")
        self.assertEqual(len(self.unique_ids(driver)), 1)
        self.folder(".New").deliver("2.b")
        self.assertEqual(len(self.unique_ids(driver)), 2)
        os.rename(self.lists.root, f"{self.maildir.root}/.Trash")
        self.assertEqual(self.unique_ids(driver), [in_folder(b"2.b", b".New")])
        os.rename(f"{self.maildir.root}/.Trash", f"{self.maildir.root}/.Back")
        self.assertEqual(len(self.unique_ids(driver)), 2)

    def test_changes_within_one_tick_of_the_clock(self) -> None:
        """Promise: what comes, and a folder that is made, in the moment after a listing is in the next one."""
        self.patch(listings, "_file_system_clock", self.real_clock)
        driver = self.driver()
        for number in range(1, 30, 3):
            with open(self.lists.file(f"{number}.a"), "wb"):
                self.assertEqual(len(self.unique_ids(driver)), number)
            with open(self.lists.file(f"{number + 1}.a"), "wb"):
                self.assertEqual(len(self.unique_ids(driver)), number + 1)
            for part in ("new", "cur"):
                os.makedirs(f"{self.maildir.root}/.F{number}/{part}")
            with open(f"{self.maildir.root}/.F{number}/new/{number + 2}.a", "wb"):
                self.assertEqual(len(self.unique_ids(driver)), number + 2)

    real_clock = staticmethod(listings._file_system_clock)

    def test_maildir_that_is_not_there(self) -> None:
        """Promise: empty, or made; as without folders."""
        missing = os.path.abspath(self.mktemp())
        self.assertEqual(self.listing(location=f"maildir:{missing}"), [])
        self.assertFalse(os.path.exists(missing))
        self.assertEqual(self.listing(location=f"maildir:{missing}", create=True), [])
        self.assertTrue(os.path.isdir(f"{missing}/new"))

    def test_folder_that_cannot_be_read(self) -> None:
        """Promise: an error that needs an administrator, never a listing with less; and no lock stays."""
        os.rmdir(f"{self.lists.root}/new")
        with open(f"{self.lists.root}/new", "w"):
            pass
        driver = self.driver()
        self.fails(driver.open_maildrop(JOE), MaildropBroken)
        self.assertFalse(self.locked())

    @unhurried
    @given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("+-m"), st.integers(1, 30)), max_size=12))
    def test_what_is_kept_is_what_a_new_driver_sees(self, steps: list[tuple[int, str, int]]) -> None:
        """Promise: whatever comes, goes or moves in any folder, memory and index tell what the directories have."""
        top = Maildir(self.mktemp())
        folders = [top, Maildir(f"{top.root}/.Lists"), Maildir(f"{top.root}/.Work")]
        driver = self.driver(maildir=top)
        for which, step, number in steps:
            folder, name = folders[which], f"{number}.a"
            there = [one.partition("/")[2] for one in folder.files()]
            if step == "+" and not any(one.partition(":")[0] == name for one in there):
                folder.deliver(name, b"x" * number)
            elif step == "-" and there:
                one = folder.files()[number % len(there)]
                os.unlink(f"{folder.root}/{one}")
                folder.touch()
            elif step == "m" and f"new/{name}" in folder.files():
                folder.move(name, f"{name}:2,S")
            kept = self.open(driver)
            self.wait(kept.close())
            fresh = self.open(self.driver(maildir=top, index=False))
            self.wait(fresh.close())
            for body in ("list_body", "uidl_body", "octets", "count"):
                self.assertEqual(getattr(kept.messages, body), getattr(fresh.messages, body))
            expected = sorted(
                (int(one.split("/")[1].split(".")[0]), one.split("/")[1], len(which.root))
                for which in folders
                for one in which.files()
            )
            self.assertEqual(list(kept.messages.sizes), [number + 2 for number, _, _ in expected])

    def contents(self) -> list[bytes]:
        """All messages in order."""
        maildrop = self.open()
        found = [self.content(maildrop, number) for number in range(1, maildrop.messages.count + 1)]
        self.wait(maildrop.close())
        return found


class CostTests(TreeCase):
    """What a login costs."""

    def test_unchanged_maildrop_is_not_read(self) -> None:
        """Promise: three C{stat} for the Maildir and each folder, one for the lock; nothing is read."""
        for number, folder in enumerate((self.maildir, self.lists, self.work), 1):
            folder.deliver(f"{number}.a")
        driver = self.driver()
        # The first look writes the indexes, which the second one sees in the directories.
        first = self.open(driver)
        self.wait(first.close())
        second = self.open(driver)
        self.wait(second.close())
        self.assertIs(first.messages, second.messages)
        real, seen = os.stat, []

        def counting(path: Any, **named: Any) -> os.stat_result:
            seen.append(path)
            return real(path, **named)

        nothing = mock.Mock(side_effect=AssertionError("read"))
        with mock.patch.multiple(os, stat=counting, scandir=nothing):
            third = self.open(driver)
        self.assertIs(third.messages, first.messages)
        self.assertEqual(len(seen), 3 * 3 + (1 if os.geteuid() else 2))
        self.wait(third.close())

    def test_many_folders_are_looked_at_in_a_thread(self) -> None:
        """Promise: the reactor waits for no more than some hundreds of C{stat}."""
        self.patch(maildir, "MANY_DIRECTORIES", 3)
        threads = Later()
        driver = self.driver(threads)
        for _ in range(2):
            opening = self.deferred(driver)
            while threads.waiting:
                threads.run()
            self.wait(self.successResultOf(opening).close())
        opening = self.deferred(driver)
        self.assertNoResult(opening)
        ((_, asked, _),) = threads.waiting
        self.assertEqual(asked, driver.trees.current)
        threads.run()
        self.wait(self.successResultOf(opening).close())

    def test_new_mail_behind_all_other_is_no_merge(self) -> None:
        """Promise: it costs a copy of the listing, not the sorting of all."""
        driver = self.driver()
        for number in range(1, 6):
            self.lists.deliver(f"{number}.a")
        self.unique_ids(driver)
        self.work.deliver("6.b")
        self.lists.deliver("7.c")
        with mock.patch.object(Tree, "_merge", side_effect=AssertionError("merged")):
            found = self.unique_ids(driver)
        self.assertEqual(found, self.unique_ids())

    def test_what_is_kept_is_bounded(self) -> None:
        """Promise: with no room nothing is kept, and all is right."""
        driver = self.driver(cache_octets=0)
        self.lists.deliver("1.a")
        self.assertEqual(self.unique_ids(driver), self.unique_ids(driver))
        self.assertIsNone(driver.trees.cache.get(self.maildir.path))

    def deferred(self, driver: LocatedDriver) -> Any:
        """A login under way."""
        return Deferred.fromCoroutine(driver.open_maildrop(JOE))


class SessionTests(TreeCase):
    """What a session does to messages."""

    def test_removes_what_was_marked_where_it_lies(self) -> None:
        """RFC 1939 section 6: of three files with one name the one that was meant, also when it has a new name."""
        for folder in (self.maildir, self.lists, self.work):
            folder.deliver("1.a", folder.path)
        maildrop = self.open()
        (number,) = [one for one in (1, 2, 3) if self.content(maildrop, one) == self.lists.path]
        self.lists.move("1.a", "1.a:2,S")
        self.wait(maildrop.remove([number]))
        self.assertEqual([one.files() for one in (self.maildir, self.lists, self.work)], [["new/1.a"], [], ["new/1.a"]])

    def test_moved_message_stays(self) -> None:
        """Promise: what an IMAP client has put into another folder since login is not deleted there, and not sent."""
        self.maildir.deliver("1.a")
        self.lists.deliver("2.b")
        maildrop = self.open()
        os.rename(self.maildir.file("1.a"), self.work.file("1.a:2,S", "cur"))
        os.rename(self.lists.file("2.b"), self.maildir.file("2.b"))
        self.fails(maildrop.open(1), MessageVanished)
        self.wait(maildrop.remove([1, 2]))
        self.wait(maildrop.close())
        self.assertEqual((self.work.files(), self.maildir.files()), (["cur/1.a:2,S"], ["new/2.b"]))

    def test_tells_which_messages_stayed(self) -> None:
        """Promise: what cannot be removed in one folder is told by its number in the maildrop; the others go."""
        self.maildir.deliver("1.a")
        self.lists.deliver("2.b")
        self.work.deliver("3.c")
        maildrop = self.open()
        os.unlink(self.lists.file("2.b"))
        os.makedirs(self.lists.file("2.b"))
        failed = self.fails(maildrop.remove([1, 2, 3]), RemoveFailed)
        self.assertEqual(list(failed.kept), [2])
        self.assertEqual((self.maildir.files(), self.work.files()), ([], []))

    def test_deletion_keeps_maildirsize_right(self) -> None:
        """Maildir++: the Maildir's C{maildirsize} is told of what goes from each folder that counts."""
        for folder in (self.maildir, self.lists, self.folder(".Trash"), self.folder("sub")):
            folder.deliver("1.a,S=5", b"12345")
        size = f"{self.maildir.root}/maildirsize"
        with open(size, "w") as file:
            file.write("100S\n50 5\n")
        maildrop = self.open(ignored_folders=())
        self.wait(maildrop.remove([1, 2, 3, 4]))
        with open(size) as file:
            first, before, *changes = file.read().splitlines()
        self.assertEqual((first, before), ("100S", "50 5"))
        self.assertEqual(sum(int(line.split()[0]) for line in changes), -10)

    def test_marks_seen_in_each_folder(self) -> None:
        """Promise: C{mark_seen} flags a message in its folder."""
        self.maildir.deliver("1.a")
        self.lists.deliver("2.b")
        self.work.deliver("3.c")
        maildrop = self.open(mark_seen=True)
        self.wait(maildrop.mark_seen([1, 2]))
        self.wait(maildrop.close())
        self.assertEqual(self.maildir.files() + self.lists.files(), ["cur/1.a:2,S", "cur/2.b:2,S"])
        self.assertEqual(self.work.files(), ["new/3.c"])

    def test_corrected_sizes_are_known_from_the_next_session_on(self) -> None:
        """Promise: what was edited in place is announced right after it was sent once, after a restart too."""
        self.lists.deliver("2.b,W=99", b"four")
        self.maildir.deliver("1.a", b"x\n")
        driver = self.driver()
        maildrop = self.open(driver)
        self.assertEqual(list(maildrop.messages.sizes), [3, 99])
        maildrop.sent(2, 6)
        self.wait(maildrop.close())
        self.assertFalse(self.locked())
        for one in (driver, None):
            self.assertEqual([octets for octets, _ in self.listing(one)], [3, 6])
        folder = self.driver(recursive=False).open_maildrop(Account("joe", "test", folder="Lists"))
        self.assertEqual(list(self.wait(folder).messages.sizes), [6])
