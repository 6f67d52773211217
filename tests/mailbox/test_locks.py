"""The exclusive lock on a Maildir."""

from __future__ import annotations

import os
import signal
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.support import Maildir, descriptors, public_folder, without_rights
from tpops.mailbox import locks
from tpops.mailbox.locks import LOCK_FILE, MaildirLock, try_lock


class LockTests(SynchronousTestCase):
    """RFC 1939 section 4: one session at a time."""

    def setUp(self) -> None:
        """A Maildir."""
        self.maildir = Maildir(self.mktemp()).path
        self.before = descriptors()

    def lock(self) -> MaildirLock:
        """A lock that has to be free; released when the test ends."""
        lock = try_lock(self.maildir)
        assert lock is not None
        self.addCleanup(lock.release)
        return lock

    def test_excludes(self) -> None:
        """RFC 1939 §4: the second one does not get it, until the first one lets go; a refusal leaves nothing open."""
        lock = self.lock()
        held = descriptors()
        self.assertIsNone(try_lock(self.maildir))
        self.assertEqual(descriptors(), held)
        lock.release()
        self.assertEqual(descriptors(), self.before)
        self.lock()

    def test_release_is_idempotent(self) -> None:
        """Promise: a second release closes nothing of anybody's."""
        lock = self.lock()
        self.assertTrue(lock.held)
        lock.release()
        other = self.lock()
        lock.release()
        self.assertFalse(lock.held)
        self.assertIsNone(try_lock(self.maildir))
        self.assertTrue(other.held)

    def test_is_a_file_for_its_owner_alone(self) -> None:
        """Promise: tpops_lock in the Maildir, as TPOPS 0.8 has it; it stays."""
        self.lock().release()
        found = os.stat(self.maildir + LOCK_FILE)
        self.assertEqual((found.st_mode & 0o777, found.st_size), (0o600, 0))

    def test_killed_holder_leaves_no_lock(self) -> None:
        """Promise: the kernel releases the lock of a process that dies by kill -9."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                lock = try_lock(self.maildir)
                os.write(writing, b"locked" if lock is not None else b"failed")
                signal.pause()
            finally:
                os._exit(1)
        try:
            self.assertEqual(os.read(reading, 10), b"locked")
            self.assertIsNone(try_lock(self.maildir))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(reading)
            os.close(writing)
        self.lock()

    def test_removed_lock_file_excludes_all_the_same(self) -> None:
        """Promise: who locks a file that was removed or replaced meanwhile tries again with the new one."""
        path = self.maildir + LOCK_FILE
        real = locks._flock
        tries = []

        def removed_before(descriptor: int, how: int) -> bool:
            tries.append(descriptor)
            if len(tries) == 1:
                os.unlink(path)
            elif len(tries) == 2:
                os.rename(path, path + b".old")
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            return real(descriptor, how)

        with mock.patch.object(locks, "_flock", removed_before):
            lock = self.lock()
        self.assertEqual(len(tries), 3)
        self.assertEqual(os.fstat(lock.descriptor).st_ino, os.stat(path).st_ino)
        self.assertIsNone(try_lock(self.maildir))
        lock.release()
        self.assertEqual(descriptors(), self.before)

    def test_link_is_refused(self) -> None:
        """Promise: nobody makes the server lock, create or give away a file elsewhere."""
        target = self.maildir + b"elsewhere"
        os.symlink(target, self.maildir + LOCK_FILE)
        self.assertRaises(OSError, try_lock, self.maildir)
        self.assertFalse(os.path.exists(target))
        self.assertEqual(descriptors(), self.before)

    def test_no_maildir(self) -> None:
        """Promise: a directory that is not there is told as such."""
        self.assertRaises(FileNotFoundError, try_lock, self.maildir + b"nowhere/")

    def test_failing_lock_leaves_nothing_open(self) -> None:
        """Promise: a file system without locks is an error, not a leak."""
        with mock.patch.object(locks.fcntl, "flock", side_effect=OSError(37, "no locks available")):
            self.assertRaises(OSError, try_lock, self.maildir)
        self.assertEqual(descriptors(), self.before)

    def test_full_disk_locks_the_directory(self) -> None:
        """Promise: where tpops_lock cannot be made, users can still remove mail to make room."""
        real = os.open

        def full(path: bytes, flags: int, mode: int = 0o777) -> int:
            if flags & os.O_CREAT:
                raise OSError(28, "No space left on device")
            return real(path, flags, mode)

        with mock.patch.object(locks.os, "open", full):
            lock = self.lock()
            self.assertFalse(lock.writable)
            self.assertIsNone(try_lock(self.maildir))

    def test_root_gives_the_file_to_the_mails_owner(self) -> None:
        """Promise: a server that runs as root leaves nothing in a Maildir that its owner cannot lock."""
        owner = mock.Mock(st_uid=1234, st_gid=100)
        with (
            mock.patch.object(locks.os, "geteuid", return_value=0),
            mock.patch.object(locks.os, "stat", side_effect=lambda path, **_: owner if _ == {} else os.lstat(path)),
            mock.patch.object(locks.os, "fchown") as fchown,
        ):
            lock = self.lock()
        fchown.assert_called_once_with(lock.descriptor, 1234, 100)

    def test_other_users_own_their_lock(self) -> None:
        """Promise: without rights there is nothing to give away."""
        with mock.patch.object(locks.os, "geteuid", return_value=1000):
            with mock.patch.object(locks.os, "fchown") as fchown:
                self.lock()
        fchown.assert_not_called()


class ReadOnlyTests(SynchronousTestCase):
    """A Maildir that the server may read and not write."""

    def test_directory_is_locked_instead(self) -> None:
        """Promise: read-only Maildirs are locked, too: the directory is, and it excludes."""
        with public_folder() as folder:
            maildir = Maildir(os.path.join(folder, "Maildir")).path

            def twice() -> str:
                lock = try_lock(maildir)
                assert lock is not None
                return f"{lock.writable} {try_lock(maildir)}"

            os.chmod(os.path.join(folder, "Maildir"), 0o555)
            self.assertEqual(without_rights(twice), "False None")
            os.chmod(os.path.join(folder, "Maildir"), 0o755)
            self.assertFalse(os.path.exists(maildir + LOCK_FILE))

    def test_lock_file_of_somebody_else_locks_the_directory(self) -> None:
        """Promise: a lock file that cannot be opened does not keep the owner of a session out."""
        with public_folder() as folder:
            maildir = Maildir(os.path.join(folder, "Maildir")).path
            os.close(os.open(maildir + LOCK_FILE, os.O_CREAT | os.O_WRONLY, 0o000))

            def writable() -> str:
                lock = try_lock(maildir)
                return str(lock is not None and lock.writable)

            self.assertEqual(without_rights(writable), "False")

    def test_directory_that_may_not_be_read_is_an_error(self) -> None:
        """Promise: without the right to read there is no session."""
        with public_folder() as folder:
            maildir = Maildir(os.path.join(folder, "Maildir"))
            os.chmod(maildir.root, 0o000)
            self.assertIn("PermissionError", without_rights(lambda: str(try_lock(maildir.path))))
            os.chmod(maildir.root, 0o700)
