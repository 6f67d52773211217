"""Delivery into Maildirs, beyond what every driver promises (tests/contracts/append.py)."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from tests.contracts.append import ENVELOPE, Incoming, letter
from tests.mailbox.support import JOE, MaildirTestCase, at_once, killed_at, public_folder
from tests.support import need_root
from tpops.errors import MaildropBroken, StorageUnavailable
from tpops.mailbox import maildir_append, sizes
from tpops.mailbox.maildir import MaildirDriver, MaildirOptions
from tpops.model import Account

_NAME = re.compile(r"new/\d{10}\.M\d{6}P\d+Q\d+\.([^,:/]+),S=(\d+),W=(\d+)")

_MEMORY = """
import resource, sys
from tests.contracts.append import Incoming
from tpops.mailbox import maildir_append

class Big:
    octets = 100_000_000
    def chunks(self):
        piece = b"x" * 99_999 + b"\\n"
        for _ in range(int(sys.argv[2])):
            yield piece

maildir_append.append(sys.argv[1].encode() + b"/", Big(), "joe", None, lambda base, directory: base)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class AppendTests(MaildirTestCase):
    """Names, rights, and what is left when it fails."""

    def deliver(self, message: bytes = letter(1), account: Account = JOE, **options: Any) -> bytes:
        """Deliver; gives the unique-id."""
        return self.wait(self.driver(**options).append(account, Incoming(message), ENVELOPE))

    def failing(self, *errors: type[Exception], account: Account = JOE, **options: Any) -> Any:
        """Deliver what cannot be; gives the exception."""
        return self.fails(self.driver(**options).append(account, Incoming(letter(1)), ENVELOPE), *errors)

    def empty(self) -> None:
        """Remove all messages, in a session."""
        maildrop = self.open()
        self.wait(maildrop.remove(range(1, maildrop.messages.count + 1)))
        self.wait(maildrop.close())

    def everything(self) -> list[str]:
        """All files of the Maildir."""
        return sorted(str(one.relative_to(self.maildir.root)) for one in Path(self.maildir.root).rglob("*"))

    def test_name_and_mode(self) -> None:
        """Promise: time, process and host are in the name, and both sizes, so that no listing reads the file."""
        unique_id = self.deliver(b"Subject: x\n\ntext\n")
        (name,) = self.maildir.files()
        found = _NAME.fullmatch(name)
        assert found is not None, name
        self.assertEqual((int(found[2]), int(found[3])), (17, 20))
        self.assertEqual(os.stat(os.path.join(self.maildir.root, name)).st_mode & 0o7777, 0o600)
        with mock.patch.object(sizes, "read_size", side_effect=AssertionError):
            self.assertEqual(self.listing(), [(20, unique_id)])
        self.assertEqual(os.listdir(self.maildir.root + "/tmp"), [])

    def test_host_names_with_signs(self) -> None:
        """Promise: a host's name cannot lead into another directory or end the base name."""
        with mock.patch("socket.gethostname", return_value="a/b:c"):
            self.deliver()
        self.assertIn(r".a\057b\072c,", self.maildir.files()[0])

    def test_taken_names(self) -> None:
        """Promise: a name that is there is never written over."""
        names = [b"1.M1.host", b"1.M2.host", b"1.M3.host", b"1.M4.host"]
        message = letter(1)
        taken = self.maildir.deliver(b"1.M3.host,S=200,W=%d" % (200 + message.count(b"\n")), b"other")
        Path(self.maildir.root, "tmp", "1.M1.host").write_bytes(b"half")
        self.patch(maildir_append, "unique_name", iter(names).__next__)
        self.deliver(message)
        self.assertEqual(Path(os.fsdecode(taken)).read_bytes(), b"other")
        self.assertEqual(len(self.maildir.files()), 2)
        self.assertEqual(os.listdir(self.maildir.root + "/tmp"), ["1.M1.host"])
        self.patch(maildir_append, "unique_name", lambda: b"1.M1.host")
        self.assertIn("every name is taken", str(self.failing(StorageUnavailable)))

    def test_without_hard_links(self) -> None:
        """Promise: file systems that have none are served, too."""
        for number in (errno.EPERM, errno.ENOTSUP):
            with mock.patch("os.link", side_effect=OSError(number, "no links")):
                self.deliver()
        self.assertEqual(len(self.maildir.files()), 2)
        self.assertEqual(os.listdir(self.maildir.root + "/tmp"), [])

    def test_killed_at_every_call(self) -> None:
        """Promise: killed at any point, the message is there whole or not at all, once, and the next one comes."""
        call = 0
        for after in (False, True):
            call = 0
            while killed_at(call, after, lambda: self.deliver(b"x" * 500)):
                for name in self.maildir.files():
                    self.assertEqual(Path(self.maildir.root, name).read_bytes(), b"x" * 500)
                self.assertLessEqual(len(self.maildir.files()), 1)
                self.empty()
                call += 1
            self.assertEqual(len(self.maildir.files()), 1)
            self.empty()
        self.assertGreater(call, 4)

    def test_failing_at_every_call(self) -> None:
        """Promise: a disk that is full, or broken, at any point leaves nothing behind; then it works again."""
        for name, number in (
            ("write", errno.ENOSPC),
            ("fsync", errno.EIO),
            ("link", errno.ENOSPC),
            ("link", errno.EDQUOT),
            ("open", errno.EMFILE),
        ):
            with mock.patch.object(os, name, side_effect=OSError(number, os.strerror(number))):
                self.failing(StorageUnavailable)
            self.assertEqual(self.everything(), ["cur", "new", "tmp"])
        synced = iter((None, OSError(errno.EIO, "broken")))
        with mock.patch("os.fsync", side_effect=synced):
            self.failing(StorageUnavailable)
        self.assertEqual(self.everything(), ["cur", "new", "tmp"])
        self.deliver()

    def test_durable_before_it_returns(self) -> None:
        """Promise: file and directory are on disk, in that order, and the file before its name is."""
        done: list[str] = []

        def noted(name: str) -> Any:
            real = getattr(os, name)

            def run(first: Any, *others: Any) -> Any:
                what = os.readlink(f"/proc/self/fd/{first}") if name == "fsync" else os.fsdecode(others[0])
                done.append(f"{name} {os.path.relpath(what, os.path.realpath(self.maildir.root)).split('/')[0]}")
                return real(first, *others)

            return run

        with mock.patch("os.fsync", noted("fsync")), mock.patch("os.link", noted("link")):
            self.deliver()
        self.assertEqual(done, ["fsync tmp", "link new", "fsync new"])

    def test_missing_maildir(self) -> None:
        """Promise: it is made where maildir.create says so; else somebody has to, and is told."""
        for missing in ("Maildir", "a/b/Maildir"):
            path = os.path.join(self.maildir.root, missing)
            told = self.failing(MaildropBroken, location=f"maildir:{path}")
            self.assertIn("maildir.create", str(told))
            self.deliver(location=f"maildir:{path}", create=True)
            self.assertEqual(len(os.listdir(path + "/new")), 1)
        os.rmdir(self.maildir.root + "/tmp")
        self.failing(MaildropBroken)
        self.deliver(create=True)
        self.assertEqual(len(self.maildir.files()), 1)

    def test_what_needs_an_administrator(self) -> None:
        """Promise: a Maildir that is a file, or full of surprises, is told as such."""
        path = os.path.join(self.maildir.root, "file")
        Path(path).touch()
        self.failing(MaildropBroken, location=f"maildir:{path}")
        self.failing(MaildropBroken, location=f"maildir:{path}/below", create=True)

    def test_memory(self) -> None:
        """Promise: 100 MB take no more memory than a small message."""

        def measure(pieces: int) -> int:
            command = [sys.executable, "-c", _MEMORY, self.maildir.root, str(pieces)]
            root = str(Path(__file__).resolve().parents[2])
            done = subprocess.run(command, capture_output=True, check=True, timeout=120, cwd=root)
            return int(done.stdout)

        self.assertLess(measure(1000), measure(1) + 10_000)
        self.assertIn(",S=100000000,", "".join(self.maildir.files()))


class OwnerTests(MaildirTestCase):
    """Deliveries by root."""

    def setUp(self) -> None:
        super().setUp()
        need_root(self, "becoming other users")

    def deliver(self, path: str, account: Account, **options: Any) -> None:
        """Deliver to a Maildir."""
        driver = MaildirDriver(MaildirOptions(**options), at_once, lambda seconds: at_once(float), lambda: 0.0)
        self.wait(driver.append_at(account, os.fsencode(path), Incoming(letter(1)), ENVELOPE))

    def owners(self, folder: str) -> set[tuple[int, int]]:
        """Whose the files below a folder are."""
        found = [os.lstat(one) for one in Path(folder).rglob("*")]
        return {(one.st_uid, one.st_gid) for one in found}

    def test_everything_is_the_accounts(self) -> None:
        """Promise: what root makes belongs to the account, the directories too, also in a folder of root's."""
        with public_folder() as folder:
            account = Account("joe", "test", uid=4001, gid=4002, quota_messages=5)
            self.deliver(f"{folder}/sub/Maildir", account, create=True)
            self.assertEqual(self.owners(folder), {(4001, 4002)})
            self.deliver(f"{folder}/sub/Maildir", account)
            self.assertEqual(self.owners(folder), {(4001, 4002)})
            self.assertEqual(len(os.listdir(f"{folder}/sub/Maildir/new")), 2)

    def test_owner_of_the_maildir_where_the_account_says_none(self) -> None:
        """Promise: without a uid the Maildir's owner is who it is delivered for."""
        with public_folder() as folder:
            self.deliver(f"{folder}/Maildir", Account("joe", "test", uid=4001, gid=4002), create=True)
            self.deliver(f"{folder}/Maildir", Account("joe", "test"))
            self.assertEqual(self.owners(folder), {(4001, 4002)})

    def test_links_lead_nowhere(self) -> None:
        """Promise: a user who puts a link in his Maildir gets no file of his where only root may write."""
        with public_folder() as folder:
            account = Account("joe", "test", uid=4001, gid=4002)
            self.deliver(f"{folder}/Maildir", account, create=True)
            os.mkdir(f"{folder}/roots", 0o755)
            os.rmdir(f"{folder}/Maildir/tmp")
            os.symlink(f"{folder}/roots", f"{folder}/Maildir/tmp")
            self.assertRaises(self.failureException, self.deliver, f"{folder}/Maildir", account)
            self.assertEqual(os.listdir(f"{folder}/roots"), [])
            self.assertEqual(os.geteuid(), 0)
            Path(folder, "rights are back").touch()
