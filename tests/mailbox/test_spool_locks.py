"""The three locks on a spool: who is kept out, and what becomes of locks that were left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from unittest import mock

from tests.mailbox.spools import SpoolCase
from tpops.mailbox import spool_locks
from tpops.mailbox.spool_locks import ALWAYS, DEAD_SECONDS, NEVER, STALE_SECONDS, TRY, SpoolLock, try_lock

#: A program that takes one lock, says so and waits for a line.
_HOLDER = """
import fcntl, sys
file = open(sys.argv[2], "r+b")
getattr(fcntl, sys.argv[1])(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""

#: A program that tries one lock and says whether it got it.
_TRIES = """
import fcntl, sys
try:
    getattr(fcntl, sys.argv[1])(open(sys.argv[2], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("taken")
else:
    print("free")
"""


class LockCase(SpoolCase):
    """A spool and its dotlock."""

    def setUp(self) -> None:
        super().setUp()
        self.write(b"")
        self.dotlock = self.path + b".lock"

    def take(self, dotlock: str = TRY) -> SpoolLock:
        """The lock, which is free."""
        lock = try_lock(self.path, dotlock)
        assert lock is not None
        self.addCleanup(lock.release)
        return lock

    def leave(self, content: bytes, age: float) -> None:
        """A dotlock of somebody else."""
        with open(self.dotlock, "wb") as file:
            file.write(content)
        then = time.time() - age
        os.utime(self.dotlock, (then, then))

    def files(self) -> list[str]:
        """What is in the spool's directory."""
        return sorted(name for name in os.listdir(self.directory) if name != "index")


class ExclusionTests(LockCase):
    """Each of the three keeps us out, and ours keeps out whoever uses one of them."""

    def test_each_lock_of_another_process(self) -> None:
        """fcntl as POSIX has it, and flock."""
        for kind in ("lockf", "flock"):
            command = [sys.executable, "-c", _HOLDER, kind, self.spool]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
                assert holder.stdout is not None
                self.assertEqual(holder.stdout.readline(), b"held\n")
                self.assertIsNone(try_lock(self.path), kind)
                self.assertEqual(self.files(), ["joe"])
                holder.communicate(b"\n")
            self.take().release()

    def test_ours_keep_others_out(self) -> None:
        """Until released; and nothing stays."""
        lock = self.take()
        self.assertEqual(self.files(), ["joe", "joe.lock"])
        for kind in ("lockf", "flock"):
            command = [sys.executable, "-c", _TRIES, kind, self.spool]
            self.assertEqual(subprocess.run(command, capture_output=True, check=True).stdout, b"taken\n")
        self.assertIsNone(try_lock(self.path))
        lock.release()
        lock.release()
        self.assertEqual(self.files(), ["joe"])
        for kind in ("lockf", "flock"):
            command = [sys.executable, "-c", _TRIES, kind, self.spool]
            self.assertEqual(subprocess.run(command, capture_output=True, check=True).stdout, b"free\n")

    def test_closing_the_spool_elsewhere_does_not_unlock_it(self) -> None:
        """With the classic lock of POSIX it would: any close in the process ends it."""
        lock = self.take()
        with open(self.spool, "rb"):
            pass
        command = [sys.executable, "-c", _TRIES, "lockf", self.spool]
        self.assertEqual(subprocess.run(command, capture_output=True, check=True).stdout, b"taken\n")
        lock.release()

    def test_a_spool_that_was_replaced_is_locked_anew(self) -> None:
        """The lock is on the file that has the name."""
        real = fcntl.flock
        calls = []

        def replacing(descriptor: int, how: int) -> None:
            real(descriptor, how)
            if not calls:
                os.rename(self.spool, self.spool + ".old")
                self.write(b"new")
            calls.append(descriptor)

        with mock.patch.object(spool_locks.fcntl, "flock", replacing):
            lock = self.take()
        self.assertEqual(os.pread(lock.descriptor, 9, 0), b"new")
        self.assertEqual(len(calls), 2)

    def test_no_spool(self) -> None:
        """Told as such; a link is not followed."""
        os.unlink(self.spool)
        self.assertRaises(FileNotFoundError, try_lock, self.path)
        os.symlink("/etc/passwd", self.spool)
        self.assertRaises(OSError, try_lock, self.path)
        self.assertEqual(self.files(), ["joe"])


class DotlockTests(LockCase):
    """SPOOL.lock."""

    def test_somebody_elses(self) -> None:
        """Is respected while its process runs, or while it is young."""
        for content, age in (
            (b"%d\n" % os.getpid(), 86400),
            (b"999999999\n", DEAD_SECONDS - 10),
            (b"0", STALE_SECONDS - 10),
            (b"", STALE_SECONDS - 10),
            (b"host:17\n", STALE_SECONDS - 10),
        ):
            self.leave(content, age)
            self.assertIsNone(try_lock(self.path), content)
            self.assertEqual(self.files(), ["joe", "joe.lock"])
            os.unlink(self.dotlock)

    def test_one_that_was_left_behind(self) -> None:
        """Is taken away, and ours is made."""
        for content, age in (
            (b"999999999\n", DEAD_SECONDS + 10),
            (b"0", STALE_SECONDS + 10),
            (b"", STALE_SECONDS + 10),
        ):
            self.leave(content, age)
            lock = self.take()
            with open(self.dotlock, "rb") as file:
                self.assertTrue(file.read().startswith(b"%d\n" % os.getpid()))
            lock.release()
            self.assertEqual(self.files(), ["joe"])

    def test_one_of_a_killed_server(self) -> None:
        """Is taken away at once: its number counts on this machine."""
        program = f"from tpops.mailbox.spool_locks import *; import os; lock = try_lock({self.path!r}); os._exit(9)"
        subprocess.run([sys.executable, "-c", program], check=False)
        self.assertEqual(self.files(), ["joe", "joe.lock"])
        self.take().release()
        self.assertEqual(self.files(), ["joe"])

    def test_a_new_one_in_the_place_of_a_stale_one_is_not_taken_away(self) -> None:
        """Another program was faster: its lock is put back."""
        self.leave(b"999999999\n", 86400)
        real = spool_locks._take_away

        def late(path: bytes, stale: tuple[bytes, int]) -> bool:
            os.unlink(path)
            self.leave(b"%d\n" % os.getpid(), 0)
            return real(path, stale)

        with mock.patch.object(spool_locks, "_take_away", late):
            self.assertIsNone(try_lock(self.path))
        self.assertEqual(self.files(), ["joe", "joe.lock"])

    def test_only_our_own_is_removed(self) -> None:
        """Somebody took ours for stale: his stays."""
        lock = self.take()
        os.unlink(self.dotlock)
        self.leave(b"1\n", 0)
        lock.release()
        self.assertEqual(self.files(), ["joe", "joe.lock"])

    def no_descriptors(self) -> AbstractContextManager[object]:
        """Nothing can be opened."""
        return mock.patch("builtins.open", side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE)))

    def test_release_without_a_free_descriptor(self) -> None:
        """Promise: no lock is left when descriptors run out; our process lives, so nobody would take it for stale."""
        lock = self.take()
        with self.no_descriptors():
            lock.release()
        self.assertEqual(self.files(), ["joe"])

    def test_somebody_elses_without_a_free_descriptor(self) -> None:
        """Promise: and nobody else's is removed then."""
        lock = self.take()
        os.unlink(self.dotlock)
        self.leave(b"1\n", 0)
        with self.no_descriptors():
            lock.release()
        self.assertEqual(self.files(), ["joe", "joe.lock"])

    def test_a_stale_one_that_cannot_be_looked_at_again(self) -> None:
        """Promise: what was moved aside comes back when descriptors run out in between."""
        self.leave(b"999999999\n", 86400)
        real, looks = spool_locks._look, []

        def once(path: bytes) -> tuple[bytes, int]:
            looks.append(path)
            if len(looks) > 1:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(path)

        with mock.patch.object(spool_locks, "_look", once), self.assertRaises(OSError):
            try_lock(self.path)
        self.assertEqual(self.files(), ["joe", "joe.lock"])
        self.assertEqual(len(looks), 2)

    def test_a_lost_answer_over_nfs(self) -> None:
        """The link was made and the server's answer lost: the count tells."""
        real = os.link

        def lost(source: bytes, target: bytes) -> None:
            real(source, target)
            raise FileExistsError(errno.EEXIST, "it is there")

        with mock.patch.object(spool_locks.os, "link", lost):
            lock = self.take()
        self.assertEqual(self.files(), ["joe", "joe.lock"])
        lock.release()
        self.assertEqual(self.files(), ["joe"])

    def test_where_it_cannot_be_made(self) -> None:
        """No right, no room: without it, unless it is required; any other trouble is told."""
        real = os.open
        for number in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO):

            def failing(path: bytes, flags: int, *more: int, number: int = number) -> int:
                if flags & os.O_CREAT:
                    raise OSError(number, os.strerror(number))
                return real(path, flags, *more)

            with mock.patch.object(spool_locks.os, "open", failing):
                self.assertRaises(OSError, try_lock, self.path, ALWAYS)
                self.take(NEVER).release()
                if number == errno.EIO:
                    self.assertRaises(OSError, try_lock, self.path, TRY)
                else:
                    self.take(TRY).release()
            self.assertEqual(self.files(), ["joe"])
        self.take(ALWAYS).release()

    def test_a_spool_that_may_only_be_read(self) -> None:
        """Shared locks, no dotlock; others may read, too."""
        real = os.open

        def read_only(path: bytes, flags: int, *more: int) -> int:
            if flags & os.O_RDWR:
                raise OSError(errno.EACCES, "read only")
            return real(path, flags, *more)

        with mock.patch.object(spool_locks.os, "open", read_only):
            one, two = self.take(), self.take()
        self.assertEqual((one.writable, two.writable, self.files()), (False, False, ["joe"]))
