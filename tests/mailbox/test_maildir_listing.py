"""What a Maildir's listing has, in which order, and when there is none."""

from __future__ import annotations

import os
import socket
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.mailbox.support import JOE, Maildir, MaildirTestCase, public_folder, without_rights
from tpops.errors import MaildropBroken, StorageUnavailable
from tpops.mailbox import maildir_scan, sizes, unique_ids
from tpops.mailbox.maildir import MaildirDriver, create
from tpops.model import Account


class OrderTests(MaildirTestCase):
    """Promise: architecture.md section 4: leading number, then name; new and cur both."""

    def test_new_and_cur_are_one_maildrop(self) -> None:
        """Promise: mail that another program has seen is still mail."""
        self.maildir.deliver("3.c", b"ccc\n", "cur")
        self.maildir.deliver("1.a:2,S", b"a\n", "cur")
        self.maildir.deliver("2.b", b"bb\n")
        self.assertEqual(self.listing(), [(3, b"1.a"), (4, b"2.b"), (5, b"3.c")])

    def test_numbers_count_as_numbers(self) -> None:
        """Promise: 9 comes before 10, whatever octets say; equal numbers go by name; no number comes last."""
        ordered = ["9.z", "10.a", "10.b", "0011.a", "999999999999999999999999.x", "B", "a", "x1.y"]
        for name in reversed(ordered):
            self.maildir.deliver(name)
        self.assertEqual(self.unique_ids(), [name.encode() for name in ordered])

    def test_flags_do_not_change_the_order(self) -> None:
        """Promise: numbers in the next session are the same when only flags changed."""
        for name in ("1.a", "1.b", "1.c"):
            self.maildir.deliver(name)
        before = self.unique_ids()
        self.maildir.move("1.a", "1.a:2,S")
        self.maildir.move("1.b", "1.b:2,RS")
        self.assertEqual(self.unique_ids(), before)


class NamesTests(MaildirTestCase):
    """Foreign names are tolerated."""

    def test_any_file_is_a_message(self) -> None:
        """Promise: names that no Maildir program makes are served: they may be somebody's mail."""
        names = [b"x", b"a b", b"a\nb", b"\xff\xfe", b"a\r\n1 2", b"x" * 71, b"y" * 200, b":2,S", b"1:1,x:2,", b"~"]
        for name in names:
            self.maildir.deliver(name, b"of " + name.hex().encode() + b"\n")
        driver = self.driver()
        maildrop = self.open(driver)
        found = [maildrop.messages.unique_id(number) for number in range(1, len(names) + 1)]
        self.assertTrue(all(map(unique_ids.valid, found)), found)
        self.assertEqual(len(set(found)), len(names))
        contents = {self.content(maildrop, number) for number in range(1, len(names) + 1)}
        self.assertEqual(contents, {b"of " + name.hex().encode() + b"\n" for name in names})
        self.wait(maildrop.remove([1, 2, 3]))
        self.wait(maildrop.close())
        self.assertEqual(self.unique_ids(driver), found[3:])
        self.assertEqual(self.unique_ids(), found[3:])
        self.assertEqual(len(self.maildir.files()), len(names) - 3)

    def test_unique_ids_of_bad_names_outlive_the_index(self) -> None:
        """RFC 1939 §7: a base name that is no unique-id has a stable one, also after flags changed."""
        self.maildir.deliver(b"1 \xff")
        before = self.unique_ids(index=False)
        self.maildir.move(b"1 \xff", b"1 \xff:2,S")
        self.assertEqual(self.unique_ids(index=False), before)

    def test_what_is_no_file_is_no_message(self) -> None:
        """Promise: dotfiles, directories, links, FIFOs and sockets are not mail and do not hold anybody up."""
        for directory in ("new", "cur"):
            self.maildir.deliver(".hidden", directory=directory)
            os.mkdir(self.maildir.file("1.directory", directory))
            os.symlink("/etc/passwd", self.maildir.file("2.link", directory))
            os.symlink("nowhere", self.maildir.file("3.dangling", directory))
            os.mkfifo(self.maildir.file("4.fifo", directory))
        with socket.socket(socket.AF_UNIX) as one:
            folder = os.open(self.maildir.root + "/new", os.O_RDONLY)
            one.bind(f"/proc/self/fd/{folder}/5.socket")
            os.close(folder)
        self.maildir.deliver("6.mail")
        self.assertEqual(self.unique_ids(), [b"6.mail"])

    def test_empty_messages(self) -> None:
        """Promise: a file without octets is a message of 0 octets."""
        self.maildir.deliver("1.a", b"")
        self.assertEqual(self.listing(), [(0, b"1.a")])
        maildrop = self.open()
        self.assertEqual(self.content(maildrop, 1), b"")
        self.wait(maildrop.close())


class MissingTests(MaildirTestCase):
    """Directories that are not there."""

    def nowhere(self, name: str = "deep/down/Maildir", **options: Any) -> MaildirDriver:
        """A driver for a Maildir that is not there."""
        self.root = os.path.join(self.maildir.root, name)
        return self.driver(location="maildir:" + self.root, **options)

    def test_missing_maildir_is_empty(self) -> None:
        """Promise: nobody has delivered yet: no mail, no error, nothing made, no complaint."""
        with capturedLogs() as events:
            driver = self.nowhere()
            self.assertEqual(self.listing(driver), [])
            self.assertEqual(self.listing(driver), [])
        self.assertFalse(os.path.exists(os.path.join(self.maildir.root, "deep")))
        self.assertEqual(events, [])

    def test_missing_maildir_is_looked_for_again(self) -> None:
        """Promise: the first mail shows in the next session."""
        driver = self.nowhere("later")
        maildrop = self.open(driver)
        self.assertEqual(maildrop.messages.count, 0)
        Maildir(self.root).deliver("1.a")
        self.wait(maildrop.remove([]))
        self.wait(maildrop.close())
        self.assertEqual(self.unique_ids(driver), [b"1.a"])

    def test_missing_new_or_cur_is_empty(self) -> None:
        """Promise: each of the two may be missing."""
        self.maildir.deliver("1.a")
        os.rmdir(self.maildir.root + "/cur")
        self.assertEqual(self.unique_ids(), [b"1.a"])
        self.maildir.delete("1.a")
        os.rmdir(self.maildir.root + "/new")
        self.assertEqual(self.unique_ids(), [])

    def test_is_created_on_request(self) -> None:
        """Promise: create = true makes tmp, new and cur, and what is above, for their owner alone."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        driver = self.nowhere(create=True)
        self.assertEqual(self.listing(driver), [])
        for name in ("deep", "deep/down", "deep/down/Maildir", *(f"deep/down/Maildir/{one}" for one in self.parts)):
            found = os.stat(os.path.join(self.maildir.root, name))
            self.assertEqual(found.st_mode & 0o777, 0o700, name)

    parts = ("tmp", "new", "cur")

    def test_creating_leaves_what_is_there(self) -> None:
        """Promise: a Maildir that is there is not touched by create."""
        self.maildir.deliver("1.a")
        os.chmod(self.maildir.root, 0o750)
        self.assertEqual(self.unique_ids(create=True), [b"1.a"])
        self.assertEqual(os.stat(self.maildir.root).st_mode & 0o777, 0o750)

    def test_missing_parts_are_created(self) -> None:
        """Promise: a Maildir without new or cur gets them; made by root, they belong to its owner."""
        os.rmdir(self.maildir.root + "/new")
        os.rmdir(self.maildir.root + "/cur")
        if os.geteuid() == 0:
            os.chown(self.maildir.root, 12345, 12346)
        self.assertEqual(self.unique_ids(create=True), [])
        owner = os.stat(self.maildir.root)
        for name in ("new", "cur"):
            made = os.stat(f"{self.maildir.root}/{name}")
            self.assertEqual((made.st_uid, made.st_gid), (owner.st_uid, owner.st_gid))

    def test_somebody_else_creates_it_meanwhile(self) -> None:
        """Promise: a delivery agent that is faster is no error."""
        before = self.maildir.tree()
        create(self.maildir.path)
        create(self.maildir.path)
        self.assertEqual(self.maildir.tree(), before)

    def test_trouble_without_a_lock(self) -> None:
        """Promise: a disk error is one also where there is no Maildir to lock."""
        with mock.patch.object(maildir_scan, "names", side_effect=OSError(5, "Input/output error")):
            self.fails(self.nowhere().open_maildrop(JOE), StorageUnavailable)

    def test_cannot_be_created(self) -> None:
        """Promise: a file in the way needs an administrator."""
        self.maildir.deliver("file")
        error = self.fails(self.nowhere("new/file/Maildir", create=True).open_maildrop(JOE), MaildropBroken)
        self.assertEqual(error.code, "SYS/PERM")


class BrokenTests(MaildirTestCase):
    """Promise: what cannot be read is [SYS/PERM] and never an empty listing."""

    def assert_broken(self, *modes: tuple[str, int]) -> None:
        """Without rights, and with these modes, the maildrop is broken; descriptors and the lock are given back."""
        with public_folder() as folder:
            maildir = Maildir(os.path.join(folder, "Maildir"))
            maildir.deliver("1.a")
            for path, mode in modes:
                os.chmod(os.path.join(maildir.root, path), mode)

            def login() -> str:
                opening = Deferred.fromCoroutine(self.driver(maildir=maildir).open_maildrop(JOE))
                return self.failureResultOf(opening).type.__name__

            self.assertEqual(without_rights(login), "MaildropBroken")

    def test_unreadable_maildir(self) -> None:
        """Promise: no right to enter."""
        self.assert_broken((".", 0o000))

    def test_unreadable_new(self) -> None:
        """Promise: no right to list new."""
        self.assert_broken(("new", 0o000))

    def test_unreadable_cur(self) -> None:
        """Promise: no right to list cur, though new can be read and has mail."""
        self.assert_broken(("cur", 0o000))

    def test_is_no_directory(self) -> None:
        """Promise: a file instead of a Maildir, of new, or of the lock's place."""
        self.maildir.deliver("1.file")
        driver = self.driver(location=f"maildir:{self.maildir.root}/new/1.file")
        self.fails(driver.open_maildrop(JOE), MaildropBroken)
        os.rename(self.maildir.root + "/cur", self.maildir.root + "/old")
        with open(self.maildir.root + "/cur", "w"):
            self.fails(self.driver().open_maildrop(JOE), MaildropBroken)
        self.assertFalse(self.locked())

    def test_lock_file_that_is_none(self) -> None:
        """Promise: a directory or a link instead of tpops_lock."""
        os.mkdir(self.maildir.path + b"tpops_lock")
        self.fails(self.driver().open_maildrop(JOE), MaildropBroken)
        os.rmdir(self.maildir.path + b"tpops_lock")
        os.symlink("elsewhere", self.maildir.path + b"tpops_lock")
        self.fails(self.driver().open_maildrop(JOE), MaildropBroken)

    def test_location_that_does_not_fit_the_account(self) -> None:
        """Promise: an account without a home cannot have its mail there."""
        self.fails(self.driver(location="maildir:~/Maildir").open_maildrop(Account("ann", "x")), MaildropBroken)

    def test_passing_trouble_is_temporary(self) -> None:
        """RFC 3206 §4: a disk error is [SYS/TEMP]; the lock is given back."""
        self.maildir.deliver("1.a")
        for error in (OSError(5, "Input/output error"), OSError(24, "Too many open files")):
            with mock.patch.object(maildir_scan.os, "scandir", side_effect=error):
                failed = self.fails(self.driver().open_maildrop(JOE), StorageUnavailable)
            self.assertEqual(failed.code, "SYS/TEMP")
            self.assertFalse(self.locked())


class SizesTests(MaildirTestCase):
    """The three settings, through the driver."""

    def test_settings(self) -> None:
        """Promise: ",W=" or reading; ",S=" or reading; ",S=" or the file's size."""
        self.maildir.deliver("1.a,S=50,W=60", b"x\n")
        self.maildir.deliver("2.b", b"x\n")
        for how, found in ((sizes.EXACT, [60, 3]), (sizes.NAME, [50, 3]), (sizes.FILE, [50, 2])):
            self.assertEqual([octets for octets, _ in self.listing(sizes=how, index=False)], found)

    def test_changed_setting_is_learnt_again(self) -> None:
        """Promise: an index made with another setting does not count."""
        self.maildir.deliver("1.a,S=50,W=60", b"x\n")
        for how, found in ((sizes.EXACT, 60), (sizes.NAME, 50), (sizes.EXACT, 60)):
            self.assertEqual(self.listing(sizes=how), [(found, b"1.a,S=50,W=60")])

    def test_file_that_cannot_be_read_is_listed(self) -> None:
        """Promise: one bad file does not close the maildrop: its stored size is a guess, and the log says so."""
        self.maildir.deliver("1.a", b"x\n")
        self.maildir.deliver("2.b", b"x\n")
        real = sizes.read_size

        def broken(name: bytes, directory: int) -> int:
            if name == b"1.a":
                raise OSError(5, "Input/output error")
            return real(name, directory)

        with mock.patch.object(sizes, "read_size", broken), capturedLogs() as events:
            self.assertEqual(self.listing(), [(2, b"1.a"), (3, b"2.b")])
        self.assertEqual([b"1.a" in event["path"] for event in events], [True])

    def test_lack_of_descriptors_is_no_bad_file(self) -> None:
        """Promise: what is the machine's passing trouble must not put guesses into the index for good."""
        self.maildir.deliver("1.a", b"x\n")
        with mock.patch.object(sizes, "read_size", side_effect=OSError(24, "Too many open files")):
            self.fails(self.driver().open_maildrop(JOE), StorageUnavailable)
        self.assertEqual(self.listing(), [(3, b"1.a")])

    def test_file_that_goes_while_it_is_measured(self) -> None:
        """Promise: it is not listed, in a first look and in a later one."""
        self.maildir.deliver("1.a", b"x\n")
        self.maildir.deliver("2.b", b"x\n")
        real = sizes.read_size

        def going(name: bytes, directory: int) -> int:
            if name != b"1.a":
                os.unlink(name, dir_fd=directory)
            return real(name, directory)

        with mock.patch.object(sizes, "read_size", going):
            driver = self.driver()
            self.assertEqual(self.listing(driver), [(3, b"1.a")])
            self.maildir.move("1.a", "1.a:2,")
            self.listing(driver)
            self.maildir.deliver("3.c", b"x\n")
            self.assertEqual(self.listing(driver), [(3, b"1.a")])
