"""The file maildirsize of Maildir++."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
from twisted.logger import capturedLogs

from tests.contracts.append import ENVELOPE, Incoming, letter
from tests.mailbox.support import JOE, MaildirTestCase, killed_at
from tpops.errors import QuotaExceeded, StorageUnavailable
from tpops.mailbox import maildir_size
from tpops.mailbox.maildir_size import Counted, parse
from tpops.mailbox.quota import Quota
from tpops.model import Account


class SizeCase(MaildirTestCase):
    """A Maildir with a quota, or without one."""

    limited = attrs.evolve(JOE, quota_octets=1000, quota_messages=4)

    def deliver(self, account: Account = JOE, octets: int = 200) -> None:
        """Deliver a message."""
        self.wait(self.driver().append(account, Incoming(letter(1, octets)), ENVELOPE))

    def full(self, account: Account = JOE, octets: int = 200) -> None:
        """Deliver one that does not fit."""
        self.fails(self.driver().append(account, Incoming(letter(1, octets)), ENVELOPE), QuotaExceeded)

    def expunge(self, *numbers: int, **options: Any) -> None:
        """A session that removes these messages."""
        maildrop = self.open(**options)
        self.wait(maildrop.remove(numbers))
        self.wait(maildrop.close())

    @property
    def file(self) -> Path:
        """The file's path."""
        return Path(self.maildir.root, "maildirsize")

    def says(self) -> tuple[int, int]:
        """The file's octets and messages."""
        counted = parse(self.file.read_bytes())
        assert counted is not None
        return counted.octets, counted.messages


class FormatTests(SizeCase):
    """What is in the file."""

    def test_parse(self) -> None:
        """Maildir++: a quota of octets (S) and messages (C) in any order, then changes; anything else is broken."""
        for text, expected in (
            (b"1000S,10C\n200 1\n", Counted(Quota(1000, 10), 200, 1, True)),
            (b"10C,1000S\n200 1\n300 1\n   -200   -1\n", Counted(Quota(1000, 10), 300, 1, False)),
            (b"1000S\n0 0\n", Counted(Quota(1000, 0), 0, 0, True)),
            (b"5C,7X\n", Counted(Quota(0, 5), 0, 0, False)),
            (b"0S\n1 1\n", Counted(Quota(), 1, 1, True)),
            (b"", None),
            (b"1000S\n200 1", None),
            (b"1000S\n200\n", None),
            (b"1000S\nx y\n", None),
            (b"1000S\n-1 0\n", None),
        ):
            self.assertEqual(parse(text), expected, text)

    def test_never_without_a_quota(self) -> None:
        """Promise: where nobody has a quota there is no file, and no lock either."""
        self.deliver()
        self.deliver(attrs.evolve(JOE, quota_octets=0, quota_messages=0))
        self.expunge(1)
        self.assertEqual(sorted(os.listdir(self.maildir.root)), ["cur", "new", "tmp", "tpops_index", "tpops_lock"])

    def test_kept(self) -> None:
        """Promise: the account's quota, what was there before, what is delivered, and what sessions delete."""
        self.maildir.deliver("1.a,S=50")
        self.maildir.deliver("2.b", b"x" * 30, "cur")
        self.deliver(self.limited)
        self.assertEqual(self.file.read_bytes(), b"1000S,4C\n80 2\n200 1\n")
        self.expunge(1, 2)
        self.assertEqual(self.says(), (200, 1))
        self.assertEqual(self.file.read_bytes(), b"1000S,4C\n80 2\n200 1\n-80 -2\n")
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(os.listdir(self.maildir.root + "/tmp"), [])

    def test_file_that_is_there(self) -> None:
        """Promise: where neither source nor configuration says anything, the first line does; and it is kept right."""
        self.file.write_bytes(b"500S\n0 0\n")
        self.deliver()
        self.deliver()
        self.full()
        self.assertEqual(self.says(), (400, 2))
        self.assertTrue(self.file.read_bytes().startswith(b"500S\n"))
        self.deliver(octets=100)
        # The source's word goes before; also the word that there is no quota.
        self.deliver(attrs.evolve(JOE, quota_octets=0, quota_messages=0))
        self.assertEqual(self.says(), (700, 4))
        self.full()
        self.deliver(attrs.evolve(JOE, quota_octets=900))
        self.assertTrue(self.file.read_bytes().startswith(b"900S\n700 4\n"))


class CountingTests(SizeCase):
    """When it is counted anew."""

    def count(self) -> mock.Mock:
        """Watch how often all messages are looked at."""
        counting = mock.Mock(side_effect=maildir_size._count_anew)
        self.patch(maildir_size, "_count_anew", counting)
        return counting

    def test_not_for_each_message(self) -> None:
        """Promise: a delivery into a big Maildir does not look at all of it."""
        counting = self.count()
        for _ in range(4):
            self.deliver(self.limited)
        self.assertEqual(counting.call_count, 1)
        self.full(self.limited)
        self.assertEqual(counting.call_count, 2)

    def test_long_or_broken(self) -> None:
        """Maildir++: a file of more than 5,120 octets is counted anew, and so is a broken one."""
        for text in (b"1000S,4C\n" + b"1 1\n-1 -1\n" * 600, b"1000S,4C\nrubbish\n", b"", b"999S\n0 0\n"):
            self.file.write_bytes(text)
            self.deliver(self.limited)
            self.assertEqual(self.says(), (200, 1), text)
            self.assertLess(self.file.stat().st_size, 100)
            self.expunge(1)

    def test_before_somebody_is_refused(self) -> None:
        """Promise: a file that says "full" is believed only when nothing has changed since it was counted."""
        self.file.write_bytes(b"1000S,4C\n990 1\n")
        os.utime(self.file, (0, 0))
        self.deliver(self.limited)
        self.assertEqual(self.says(), (200, 1))
        for _ in range(3):
            self.deliver(self.limited)
        self.full(self.limited)
        self.maildir.delete(self.maildir.files()[0].removeprefix("new/"))
        self.deliver(self.limited)
        counting = self.count()
        self.full(self.limited)
        tick = os.stat(self.file).st_ctime_ns
        while time.time_ns() - tick < 20_000_000:
            os.utime(self.maildir.root + "/tmp")
        self.full(self.limited)
        self.assertLessEqual(counting.call_count, 2)
        before = counting.call_count
        with mock.patch("time.time_ns", return_value=time.time_ns() + 901 * 10**9):
            self.full(self.limited)
        self.assertEqual(counting.call_count, before + 1)

    def test_what_counts(self) -> None:
        """Maildir++: folders count, .Trash and messages marked as trashed do not; names say sizes before files do."""
        self.maildir.deliver("1.a,S=10:2,S", b"", "cur")
        self.maildir.deliver("2.b,S=20:2,ST", b"", "cur")
        for folder in (".Sent", ".Trash"):
            for part in ("tmp", "new", "cur"):
                os.makedirs(f"{self.maildir.root}/{folder}/{part}")
            Path(self.maildir.root, folder, "cur", "3.c,S=40").touch()
        Path(self.maildir.root, ".Sent", "new", "4.d").write_bytes(b"x" * 80)
        self.deliver(self.limited)
        self.assertEqual(self.file.read_bytes(), b"1000S,4C\n130 3\n200 1\n")
        self.expunge(1, 2)
        self.assertEqual(self.says(), (320, 3))

    def test_changes_while_counting(self) -> None:
        """Maildir++: a count during which somebody else delivered is not kept."""
        real = maildir_size._names

        def names(directory: bytes) -> list[bytes]:
            found = real(directory)
            if directory.endswith(b"/cur/"):
                self.maildir.deliver("9.x,S=1", b"x")
            return found

        with mock.patch.object(maildir_size, "_names", names):
            self.deliver(self.limited)
        self.assertFalse(self.file.exists())
        self.deliver(self.limited)
        self.assertEqual(self.says(), (401, 3))


class TroubleTests(SizeCase):
    """Locks, deaths, full disks."""

    def test_lock(self) -> None:
        """Promise: while somebody counts, others wait, but not for ever; a session deletes all the same."""
        self.deliver(self.limited)
        self.patch(maildir_size, "_LOCK_SECONDS", 0.05)
        with open(self.maildir.root + "/tpops_quota_lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            told = self.fails(self.driver().append(self.limited, Incoming(letter(2)), ENVELOPE), StorageUnavailable)
            self.assertIn("tpops_quota_lock is held", str(told))
            self.assertEqual(len(self.maildir.files()), 1)
            with capturedLogs() as logs:
                self.expunge(1)
            self.assertEqual(len(logs), 1)
        self.assertEqual((self.maildir.files(), self.says()), ([], (0, 0)))

    def test_batches(self) -> None:
        """Promise: a session that deletes much lets deliveries in between."""
        for number in range(5):
            self.maildir.deliver(f"{number}.x,S=10", b"x")
        self.file.write_bytes(b"1000S\n50 5\n")
        self.patch(maildir_size, "BATCH", 2)
        self.expunge(1, 2, 3, 4, 5)
        self.assertEqual(self.file.read_bytes(), b"1000S\n50 5\n-20 -2\n-20 -2\n-10 -1\n")

    def test_killed(self) -> None:
        """Promise: whoever is killed while he delivers or deletes leaves no lock, and no room that is not there."""
        job: Any
        for job in (lambda: self.deliver(self.limited), lambda: self.expunge(1)):
            call, after = 0, False
            while True:
                for name in self.maildir.files():
                    os.unlink(os.path.join(self.maildir.root, name))
                self.maildir.deliver("1.a,S=200", b"x" * 200)
                self.file.write_bytes(b"1000S,4C\n200 1\n")
                if not killed_at(call, after, job):
                    break
                there = len(self.maildir.files())
                if self.file.exists() and parse(self.file.read_bytes()) is not None:
                    self.assertGreaterEqual(self.says(), (200 * there, there))
                for _ in range(4 - there):
                    self.deliver(self.limited)
                self.full(self.limited)
                call, after = call + after, not after
            self.assertGreater(call, 3)

    def test_full_disk(self) -> None:
        """Promise: where the file cannot be written it goes, so that nobody believes it, and the mail is there."""
        self.file.write_bytes(b"1000S\n0 0\n")
        real = os.write

        def write(descriptor: int, octets: bytes) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}").endswith("maildirsize"):
                raise OSError(28, "No space left on device")
            return real(descriptor, octets)

        with mock.patch("os.write", write), capturedLogs() as logs:
            self.deliver()
        self.assertIn("so it goes", logs[0]["log_format"])
        self.assertEqual((self.file.exists(), len(self.maildir.files())), (False, 1))

    def test_failed_delivery_gives_room_back(self) -> None:
        """Promise: what could not be delivered takes no room."""
        self.file.write_bytes(b"1000S\n0 0\n")
        with mock.patch("os.link", side_effect=OSError(28, "No space left on device")):
            self.fails(self.driver().append(JOE, Incoming(letter(1)), ENVELOPE), StorageUnavailable)
        self.assertEqual(self.says(), (0, 0))
