"""Folders of a Maildir, one at a time."""

from __future__ import annotations

import os
from typing import Any

from tests.mailbox.support import JOE, Maildir, MaildirTestCase
from tpops.errors import MaildropBroken, MaildropBusy, NoSuchFolder
from tpops.mailbox import maildir, maildir_folders
from tpops.mailbox.locks import LOCK_FILE
from tpops.mailbox.maildir_folders import find
from tpops.model import Account

LISTS = Account("joe@example.org", "test", home="/home/joe", folder="Lists")


class FolderCase(MaildirTestCase):
    """A Maildir with the folder Lists."""

    def setUp(self) -> None:
        super().setUp()
        self.lists = self.folder(".Lists")

    def folder(self, directory: str) -> Maildir:
        """Make a folder."""
        return Maildir(os.path.join(self.maildir.root, directory))

    def open_as(self, account: Account, **options: Any) -> Any:
        """An open maildrop, closed at the end."""
        maildrop = self.wait(self.driver(lock_wait_seconds=0.0, **options).open_maildrop(account))
        self.addCleanup(lambda: self.wait(maildrop.close()))
        return maildrop

    def refused(self, account: Account, *errors: type[Exception], **options: Any) -> str:
        """Why it cannot be opened."""
        driver = self.driver(lock_wait_seconds=0.0, **options)
        return str(self.fails(driver.open_maildrop(account), *errors))


class FolderTests(FolderCase):
    """What a session in a folder sees and changes."""

    def test_only_its_own_mail(self) -> None:
        """Maildir++: the folder's messages, the Maildir's stay as they are; "INBOX" is the Maildir itself."""
        self.maildir.deliver("1.a", b"inbox\n")
        self.lists.deliver("2.b", b"lists\n")
        maildrop = self.open_as(LISTS)
        self.assertEqual([self.content(maildrop, 1), maildrop.messages.count], [b"lists\n", 1])
        self.wait(maildrop.remove([1]))
        self.assertEqual((self.lists.files(), self.maildir.files()), ([], ["new/1.a"]))
        inbox = self.open_as(Account("joe", "test", folder="inbox"))
        self.assertEqual(self.content(inbox, 1), b"inbox\n")

    def test_index_and_seen_flag(self) -> None:
        """Promise: what is done for a Maildir is done for a folder, in it."""
        self.lists.deliver("2.b", b"a\nb\n")
        maildrop = self.open_as(LISTS, mark_seen=True)
        self.assertEqual(list(maildrop.messages.sizes), [6])
        self.wait(maildrop.mark_seen([1]))
        self.assertEqual(self.lists.files(), ["cur/2.b:2,S"])
        self.assertTrue(os.path.exists(f"{self.lists.root}/tpops_index"))
        self.assertFalse(os.path.exists(f"{self.maildir.root}/tpops_index"))

    def test_missing_folder(self) -> None:
        """Promise: it is refused, and nothing is made; so is what is no folder, and a link to somebody else's mail."""
        other = Maildir(self.mktemp())
        os.symlink(other.root, f"{self.maildir.root}/.Linked")
        os.makedirs(f"{self.maildir.root}/.ssh")
        with open(f"{self.maildir.root}/.file", "wb"):
            pass
        before = sorted(os.listdir(self.maildir.root))
        for name in ("Nowhere", "lists", "Linked", "ssh", "file", "Lists/more", "Lists.cur"):
            for options in ({}, {"recursive": True}):
                why = self.refused(Account("joe", "test", folder=name), NoSuchFolder, **options)
                self.assertIn("has no folder", why)
        for name in ("../x", "a//b", ".ssh"):
            self.refused(Account("joe", "test", folder=name), NoSuchFolder)
        self.assertEqual(sorted(os.listdir(self.maildir.root)), before)
        self.assertEqual(os.listdir(f"{self.maildir.root}/.ssh"), [])

    def test_missing_folder_is_made_where_create_says_so(self) -> None:
        """Maildir++: with C{create}, with the file C{maildirfolder}; with the Maildir where that is missing, too."""
        for root in (self.maildir.root, os.path.abspath(self.mktemp())):
            for options in ({}, {"recursive": True}):
                name = "New" if not options else "Newer"
                account = Account("joe", "test", folder=name)
                driver = self.driver(create=True, location=f"maildir:{root}", **options)
                maildrop = self.wait(driver.open_maildrop(account))
                self.assertEqual(maildrop.messages.count, 0)
                self.wait(maildrop.close())
                made = sorted(os.listdir(f"{root}/.{name}"))
                self.assertEqual(made, ["cur", "maildirfolder", "new", "tmp", "tpops_index", "tpops_lock"])
                self.assertEqual(os.stat(f"{root}/.{name}/maildirfolder").st_mode & 0o777, 0o600)
        os.symlink(self.maildir.root, f"{self.maildir.root}/.Linked")
        self.refused(Account("joe", "test", folder="Linked"), NoSuchFolder, create=True)

    def test_deletion_keeps_maildirsize_right(self) -> None:
        """Maildir++: the Maildir's C{maildirsize} has what is in folders as well, but for Trash."""
        trash = self.folder(".Trash")
        for folder in (self.lists, trash):
            folder.deliver("1.a,S=5", b"12345")
        size = f"{self.maildir.root}/maildirsize"
        with open(size, "w") as file:
            file.write("100S\n50 5\n")
        for name in ("Lists", "Trash"):
            self.wait(self.open_as(Account("joe", "test", folder=name)).remove([1]))
        with open(size) as file:
            self.assertEqual(file.read(), "100S\n50 5\n-5 -1\n")
        self.assertEqual(os.listdir(trash.root + "/new"), [])
        self.assertFalse(os.path.exists(f"{self.lists.root}/maildirsize"))

    def test_unique_ids_of_tpop3d(self) -> None:
        """tpop3d 1.5.5: an MD5 of what it took for the name; the index keeps it when the message moves to cur."""
        self.maildir.deliver("1.a", directory="new")
        self.maildir.deliver("2.b:2,S", directory="cur")
        self.lists.deliver("3.c")
        # md5sum of "1.a", "2.b" and "ists/new/3.c".
        inbox = [b"4e98ad274faf47a40d5d4a0ccfad4843", b"4d17423dfce3bb2aa69549522d99884b"]
        there = [b"13b094371fea71d7711e467429e90ce9"]
        self.assertEqual(self.unique_ids(tpop3d=True), inbox)
        for move in (False, True):
            if move:
                self.lists.move("3.c", "3.c:2,S")
                self.maildir.move("1.a", "1.a:2,S")
            for recursive in (False, True):
                maildrop = self.open_as(LISTS, tpop3d=True, recursive=recursive)
                self.assertEqual([maildrop.messages.unique_id(1)], there)
                self.wait(maildrop.close())
            self.assertEqual(self.unique_ids(tpop3d=True, recursive=True), inbox + there)
        self.assertEqual(self.unique_ids(), [b"1.a", b"2.b"])

    def test_find_looks_at_directories_only(self) -> None:
        """Promise: links, other directories and what is ignored are no folders; folders may be within folders."""
        for name in (".Lists/.in", "sub", "sub/.x", ".Old", ".Old/.in"):
            self.folder(name)
        os.makedirs(f"{self.maildir.root}/.half/cur")
        os.makedirs(f"{self.maildir.root}/half/cur")
        os.makedirs(f"{self.maildir.root}/.empty/x")
        os.symlink(self.lists.root, f"{self.maildir.root}/.Linked")
        found, looked = find(self.maildir.path, lambda directory: directory == b".Old")
        self.assertEqual(found, (b".Lists", b".Lists/.in", b".half", b"sub", b"sub/.x"))
        self.assertEqual(
            {name for name, _ in looked}, {b"", b".Lists/", b".Lists/.in/", b".half/", b"sub/", b"sub/.x/"}
        )
        self.assertEqual(find(self.maildir.path + b"nowhere/", bool)[0], ())
        self.patch(maildir_folders, "MOST_FOLDERS", 3)
        self.assertRaises(MaildropBroken, find, self.maildir.path, lambda directory: False)


class LockTests(FolderCase):
    """Who excludes whom (RFC 1939 section 4)."""

    def test_folders_are_maildrops_of_their_own(self) -> None:
        """Promise: without C{recursive}, the Maildir and each folder at the same time; none of them twice."""
        self.folder(".Other")
        self.open_as(JOE)
        self.open_as(LISTS)
        self.open_as(Account("joe", "test", folder="Other"))
        self.refused(JOE, MaildropBusy)
        self.refused(LISTS, MaildropBusy)

    def test_all_folders_exclude_each(self) -> None:
        """Promise: who has all folders is alone; folders do not exclude each other."""
        self.folder(".Other")
        lists = self.open_as(LISTS, recursive=True)
        other = self.open_as(Account("joe", "test", folder="Other"), recursive=True)
        self.refused(JOE, MaildropBusy, recursive=True)
        self.refused(LISTS, MaildropBusy, recursive=True)
        self.wait(lists.close())
        self.refused(JOE, MaildropBusy, recursive=True)
        self.wait(other.close())
        everything = self.open_as(JOE, recursive=True)
        self.refused(LISTS, MaildropBusy, recursive=True)
        self.wait(everything.close())
        self.wait(everything.close())
        self.open_as(LISTS, recursive=True)

    def test_who_waits_holds_nothing(self) -> None:
        """Promise: while a folder's lock is waited for, the Maildir's is not held; two who wait cannot meet."""
        lists = self.open_as(LISTS, recursive=True)
        self.refused(LISTS, MaildropBusy, recursive=True)
        self.wait(lists.close())
        self.open_as(JOE, recursive=True)

    def test_no_lock_is_left_where_a_folder_cannot_be_locked(self) -> None:
        """Promise: whatever fails, the Maildir is free again."""
        os.mkdir(f"{self.lists.root}/{LOCK_FILE.decode()}")
        self.refused(LISTS, MaildropBroken, recursive=True)
        self.open_as(JOE, recursive=True)

    def test_folder_that_goes_meanwhile(self) -> None:
        """Promise: a folder that is removed while its lock is waited for is missing, and is not made again."""
        self.patch(maildir, "is_folder", lambda path: True)
        self.refused(Account("joe", "test", folder="Gone"), NoSuchFolder, recursive=True)
        self.assertFalse(os.path.exists(f"{self.maildir.root}/.Gone"))
        self.open_as(JOE, recursive=True)
