"""Taking messages out of a spool: killed at any point, nothing is lost and nothing else is removed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from itertools import count
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from tests.mailbox.spools import SpoolCase, spool_of
from tests.mailbox.support import unhurried
from tpops.mailbox import mbox_rewrite
from tpops.mailbox.mbox_rewrite import Plan, Range, cut, recover

MAIL = [b"Subject: %d\n\n%s\n" % (number, b"text " * (number * 40)) for number in range(1, 7)]


#: What changes something.
CALLS = ("pwrite", "ftruncate", "fsync", "rename", "unlink", "utime")


class Killed(BaseException):
    """The process ends here."""


class RewriteCase(SpoolCase):
    """A spool of six messages and a journal's path."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = os.fsencode(os.path.join(self.index_dir, "journal"))
        self.whole = spool_of(MAIL)
        self.write(self.whole)
        self.starts = [self.octets().index(b"From sender%d@" % number) for number in range(6)]
        self.ends = [*self.starts[1:], len(self.octets())]
        # Many small writes: many places to be killed at.
        self.patch(mbox_rewrite, "_CHUNK", 256)

    def gaps(self, *indexes: int) -> list[Range]:
        """The ranges of messages, 0-based."""
        return [(self.starts[index], self.ends[index]) for index in indexes]

    def cut(self, *indexes: int) -> None:
        """Take messages out."""
        descriptor = os.open(self.spool, os.O_RDWR)
        try:
            cut(descriptor, self.gaps(*indexes), self.journal)
        finally:
            os.close(descriptor)

    def recover(self) -> None:
        """As the next session does."""
        descriptor = os.open(self.spool, os.O_RDWR)
        try:
            recover(descriptor, self.journal)
        finally:
            os.close(descriptor)

    def killed_at(self, call: int, after: bool, *indexes: int) -> bool:
        """Cut, and die at the call of that number, before it or after it; whether there was one."""
        numbers = count()

        def dying(real):
            def run(*arguments, **named):
                if next(numbers) != call:
                    return real(*arguments, **named)
                if after:
                    with contextlib.suppress(FileNotFoundError):
                        real(*arguments, **named)
                raise Killed

            return run

        patches = [mock.patch.object(mbox_rewrite.os, name, dying(getattr(os, name))) for name in CALLS]
        for patch in patches:
            patch.start()
        try:
            self.cut(*indexes)
        except Killed:
            return True
        finally:
            for patch in patches:
                patch.stop()
        return False

    def without(self, *indexes: int) -> list[bytes]:
        """The mail without some."""
        return [one for index, one in enumerate(MAIL) if index not in indexes]


class CutTests(RewriteCase):
    """When all goes well."""

    def test_every_choice_of_messages(self) -> None:
        """All 64: exactly these go, and no journal stays."""
        for chosen in range(64):
            self.write(self.whole)
            indexes = [index for index in range(6) if chosen & 1 << index]
            self.cut(*indexes)
            self.assertEqual(self.messages(), self.without(*indexes))
            self.assertEqual(os.listdir(self.index_dir), [])

    def test_the_last_messages_need_no_journal(self) -> None:
        """Nor does everything: one system call that is done or not."""
        self.patch(mbox_rewrite, "_write_journal", mock.Mock(side_effect=AssertionError))
        self.cut(4, 5)
        self.assertEqual(self.messages(), MAIL[:4])
        self.cut(0, 1, 2, 3)
        self.assertEqual(self.octets(), b"")

    def test_the_file_stays_the_same(self) -> None:
        """Inode, mode, owner, and the times by which mail programs know new mail."""
        os.chmod(self.spool, 0o640)
        os.utime(self.spool, ns=(1_600_000_000_000_000_001, 1_600_000_001_000_000_002))
        before = os.stat(self.spool)
        self.cut(1)
        after = os.stat(self.spool)
        for name in ("st_ino", "st_mode", "st_uid", "st_gid", "st_atime_ns", "st_mtime_ns"):
            self.assertEqual(getattr(after, name), getattr(before, name), name)

    def test_a_full_disk_removes_nothing(self) -> None:
        """The journal comes first."""
        with mock.patch.object(mbox_rewrite.os, "fsync", side_effect=OSError(errno.ENOSPC, "full")):
            self.assertRaises(OSError, self.cut, 0)
        self.assertEqual(self.octets(), self.whole)
        self.assertEqual(os.listdir(self.index_dir), [])


class KilledTests(RewriteCase):
    """Killed at every system call that changes something."""

    def check(self, indexes: tuple[int, ...], appended: bytes) -> int:
        """Every place to die at, with mail delivered to what is left; how many there were."""
        calls = 0
        for after in (False, True):
            calls = 0
            while True:
                self.write(self.whole)
                if not self.killed_at(calls, after, *indexes):
                    break
                calls += 1
                if appended:
                    self.append(appended)
                self.recover()
                more = [appended] if appended else []
                self.assertIn(self.messages(), (MAIL + more, self.without(*indexes) + more), (calls, after))
                self.assertFalse(os.path.exists(self.journal))
                self.recover()
                self.assertIn(self.messages(), (MAIL + more, self.without(*indexes) + more), (calls, after))
        return calls

    def test_old_or_new_spool(self) -> None:
        """Promise: whole, after the next session has looked."""
        self.assertGreater(self.check((0, 2), b""), 10)
        self.check((1, 4), b"")
        self.check((3,), b"")
        self.check((4, 5), b"")

    def test_mail_that_is_delivered_to_a_torn_spool(self) -> None:
        """Promise: it is there as well, behind the others."""
        for appended in (b"Subject: new\n\n", b"Subject: long\n\n" + b"x" * 5000 + b"\n"):
            self.check((0, 2), appended)
            self.check((1, 3, 4), appended)

    def test_killed_while_recovering(self) -> None:
        """Promise: as often as one likes."""
        for first in range(8, 20):
            for second in range(40):
                self.write(self.whole)
                if not self.killed_at(first, False, 0, 2):
                    continue
                self.append(b"Subject: new\n\n" + b"y" * 700 + b"\n")
                writes = iter(range(second))
                real = os.pwrite

                def dying(*arguments, real=real, writes=writes):
                    if next(writes, None) is None:
                        raise Killed
                    return real(*arguments)

                with mock.patch.object(mbox_rewrite.os, "pwrite", dying):
                    try:
                        self.recover()
                        died = False
                    except Killed:
                        died = True
                if died:
                    self.append(b"Subject: newer\n\n")
                    self.recover()
                new = [b"Subject: new\n\n" + b"y" * 700 + b"\n", *([b"Subject: newer\n\n"] if died else [])]
                self.assertIn(self.messages(), (MAIL + new, self.without(0, 2) + new), (first, second))
                if not died:
                    break

    def test_a_real_kill(self) -> None:
        """Promise: SIGKILL in the middle of the copying, in a process of its own."""
        pid = os.fork()
        if not pid:
            numbers = count()
            real = os.pwrite

            def dying(*arguments):
                if next(numbers) == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments)

            mbox_rewrite.os.pwrite = dying
            self.cut(0)
            os._exit(0)
        self.assertEqual(os.WTERMSIG(os.waitpid(pid, 0)[1]), signal.SIGKILL)
        self.assertNotEqual(self.messages(), MAIL[1:])
        self.append(b"Subject: new\n\n")
        self.recover()
        self.assertEqual(self.messages(), [*MAIL[1:], b"Subject: new\n\n"])

    @unhurried
    @given(st.binary(max_size=200))
    def test_anything_may_be_in_the_journals_place(self, octets: bytes) -> None:
        """What is no journal is removed; the spool is left alone."""
        with open(self.journal, "wb") as file:
            file.write(octets)
        self.recover()
        self.assertEqual(self.octets(), self.whole)
        self.assertFalse(os.path.exists(self.journal))


class ForeignTests(RewriteCase):
    """Another program has been there first."""

    def test_a_journal_of_another_spool_is_put_aside(self) -> None:
        """Nothing is written into a spool that the journal does not know."""
        self.assertTrue(self.killed_at(9, False, 0, 2))
        other = spool_of([b"Subject: other\n\n" + b"z" * 9000 + b"\n"])
        self.write(other)
        with capturedLogs() as logs:
            self.recover()
        self.assertEqual(self.octets(), other)
        self.assertEqual(os.listdir(self.index_dir), ["journal.unused"])
        self.assertIn("put aside", logs[0]["log_format"])

    def test_plans_are_read_as_written(self) -> None:
        """And nothing else is taken for one."""
        plan = Plan(1, 2, 30, 20, 5, b"a" * 20, b"b" * 20)
        octets = plan.pack()
        self.assertEqual(Plan.unpack(octets), plan)
        for at in range(len(octets)):
            self.assertIsNone(Plan.unpack(octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]), at)
        self.assertIsNone(Plan.unpack(octets[:-1]))
