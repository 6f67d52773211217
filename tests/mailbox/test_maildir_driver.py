"""Opening Maildirs: the lock, waiting for it, giving up, and other processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from tests.mailbox.support import JOE, Later, Maildir, MaildirTestCase, descriptors, public_folder, rows, without_rights
from tpops.errors import MaildropBusy, StorageUnavailable
from tpops.interfaces import IMaildropDriver
from tpops.mailbox import listings, maildir_session
from tpops.mailbox.locks import try_lock
from tpops.mailbox.view import Mailbox
from tpops.model import Account


class PathTests(MaildirTestCase):
    """Which Maildir is whose."""

    def test_is_a_driver(self) -> None:
        """Promise: with a location it is what tpops.interfaces says."""
        verifyObject(IMaildropDriver, self.driver())

    def test_accounts_do_not_share_listings(self) -> None:
        """Promise: each account sees his own mail, whatever was looked at before."""
        root = os.path.abspath(self.mktemp())
        driver = self.driver(location=f"maildir:{root}/$(user)")
        for name in ("ann", "bob"):
            Maildir(f"{root}/{name}").deliver(f"1.{name}")
        for _ in range(2):
            for name in ("ann", "bob"):
                maildrop = self.wait(driver.open_maildrop(Account(name, "test")))
                self.wait(maildrop.close())
                self.assertEqual([unique_id for _, unique_id in rows(maildrop)], [f"1.{name}".encode()])


class WaitingTests(MaildirTestCase):
    """RFC 2449 section 8.1.2: a second session waits a while, then it is [IN-USE]."""

    def setUp(self) -> None:
        """Somebody else has the lock."""
        super().setUp()
        self.maildir.deliver("1.a")
        lock = try_lock(self.maildir.path)
        assert lock is not None
        self.lock = lock
        self.addCleanup(lock.release)
        self.before = descriptors()

    def opening(self, **options: Any) -> Deferred[Any]:
        """A login."""
        return Deferred.fromCoroutine(self.driver(**options).open_maildrop(JOE))

    def test_gets_the_lock_when_it_is_free(self) -> None:
        """Promise: the login goes on when the other session ends, listing what is there then."""
        opening = self.opening()
        self.clock.advance(3)
        self.assertNoResult(opening)
        self.maildir.deliver("2.b")
        self.lock.release()
        self.assertNoResult(opening)
        self.clock.advance(0.2)
        maildrop = self.successResultOf(opening)
        self.assertEqual(maildrop.messages.count, 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.wait(maildrop.close())

    def test_gives_up(self) -> None:
        """Promise: MaildropBusy after lock_wait_seconds, not earlier; nothing stays open."""
        opening = self.opening(lock_wait_seconds=2.0)
        self.clock.pump([0.1] * 19)
        self.assertNoResult(opening)
        self.clock.pump([0.1] * 2)
        failed = self.failureResultOf(opening, MaildropBusy).value
        self.assertEqual(failed.code, "IN-USE")
        self.assertEqual(descriptors(), self.before)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_waiting(self) -> None:
        """Promise: lock_wait_seconds = 0 says so at once."""
        self.failureResultOf(self.opening(lock_wait_seconds=0.0), MaildropBusy)

    def test_tries_once_more_at_the_end(self) -> None:
        """Promise: the last try is when the time is over, however short it was."""
        opening = self.opening(lock_wait_seconds=0.05)
        self.lock.release()
        self.clock.advance(0.05)
        self.wait(self.successResultOf(opening).close())

    def test_client_that_goes_while_waiting(self) -> None:
        """Promise: cancelling leaves no timer, no descriptor, no lock."""
        opening = self.opening()
        self.clock.advance(0.35)
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(descriptors(), self.before)
        self.lock.release()
        self.assertFalse(self.locked())


class ThreadTests(MaildirTestCase):
    """The listing is made in a thread."""

    def setUp(self) -> None:
        """Functions wait until the test runs them."""
        super().setUp()
        self.maildir.deliver("1.a")
        self.threads = Later()
        self.before = descriptors()

    def test_locks_first(self) -> None:
        """IMaildropDriver: the exclusive lock is taken before anything is listed."""
        driver = self.driver(self.threads)
        opening = Deferred.fromCoroutine(driver.open_maildrop(JOE))
        self.assertNoResult(opening)
        self.assertTrue(self.locked())
        self.fails(self.driver(lock_wait_seconds=0.0).open_maildrop(JOE), MaildropBusy)
        self.threads.run()
        self.wait(self.successResultOf(opening).close())
        self.assertFalse(self.locked())
        opening = Deferred.fromCoroutine(driver.open_maildrop(JOE))
        self.assertEqual(self.threads.waiting, [])
        self.wait(self.successResultOf(opening).close())

    def test_client_that_goes_while_the_thread_works(self) -> None:
        """Promise: the lock is free at once; what the thread does afterwards hurts nobody and leaves nothing."""
        driver = self.driver(self.threads)
        for _ in range(3):
            opening = Deferred.fromCoroutine(driver.open_maildrop(JOE))
            opening.cancel()
            self.failureResultOf(opening, CancelledError)
            self.assertEqual(descriptors(), self.before)
        other = self.open()
        with mock.patch.object(listings.Listings, "save", side_effect=AssertionError):
            self.threads.run()
        self.assertTrue(self.locked())
        self.assertEqual(other.messages.count, 1)
        self.wait(other.close())
        self.assertEqual(descriptors(), self.before)

    def test_descriptor_of_a_released_lock_is_not_touched(self) -> None:
        """Promise: a thread that outlives its login does not change times of files that others opened since."""
        self.patch(listings, "_file_system_clock", self.real_clock)
        opening = Deferred.fromCoroutine(self.driver(self.threads).open_maildrop(JOE))
        opening.cancel()
        self.failureResultOf(opening, CancelledError)
        with mock.patch.object(listings.os, "utime", wraps=os.utime) as utime:
            self.threads.run()
        self.assertEqual([call.args[0] for call in utime.call_args_list if call.args[0] >= 0], [])

    real_clock = staticmethod(listings._file_system_clock)

    def test_failing_thread_releases_the_lock(self) -> None:
        """Promise: whatever goes wrong, the lock is free."""
        opening = Deferred.fromCoroutine(self.driver(self.threads).open_maildrop(JOE))
        done, _, _ = self.threads.waiting.pop()
        done.errback(OSError(5, "Input/output error"))
        self.failureResultOf(opening, StorageUnavailable)
        opening = Deferred.fromCoroutine(self.driver(self.threads).open_maildrop(JOE))
        done, _, _ = self.threads.waiting.pop()
        done.errback(RuntimeError("bug"))
        self.failureResultOf(opening, RuntimeError)
        self.assertEqual(descriptors(), self.before)
        self.assertFalse(self.locked())


class ProcessTests(MaildirTestCase):
    """Several processes over one Maildir."""

    def setUp(self) -> None:
        """Five messages."""
        super().setUp()
        for number in range(5):
            self.maildir.deliver(f"{number}.a", b"x" * number)

    def child(self, act: Callable[[Callable[[], None]], None]) -> int:
        """
        Start a process and wait until it calls what it is given, in which it stays until it is killed.

        @return: its id
        """
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:

            def ready() -> None:
                os.write(writing, b"!")
                signal.pause()

            try:
                act(ready)
            finally:
                os._exit(1)
        os.close(writing)
        with open(reading, "rb") as file:
            self.assertEqual(file.read(1), b"!")
        return child

    def kill(self, child: int) -> None:
        """End it without a word."""
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def test_other_process_has_the_maildrop(self) -> None:
        """RFC 1939 §4: [IN-USE] across processes; when the other one is killed, its session leaves no trace."""
        before = self.maildir.tree()

        def session(ready: Callable[[], None]) -> None:
            Mailbox(self.open(), JOE).mark(1)
            ready()

        child = self.child(session)
        try:
            self.fails(self.driver(lock_wait_seconds=0.0).open_maildrop(JOE), MaildropBusy)
        finally:
            self.kill(child)
        self.assertEqual(self.unique_ids(), [b"%d.a" % number for number in range(5)])
        self.assertEqual(self.maildir.tree(), before)

    def test_killed_in_update(self) -> None:
        """RFC 1939 §6: kill -9 in the middle of UPDATE: what is gone was marked, what is left is listed as before."""
        real = os.unlink

        def session(ready: Callable[[], None]) -> None:
            done = []

            def unlink(path: bytes) -> None:
                if len(done) == 2:
                    ready()
                done.append(path)
                real(path)

            with mock.patch.object(maildir_session.os, "unlink", unlink):
                self.wait(self.open().remove([1, 2, 3]))

        driver = self.driver()
        before = self.listing(driver)
        self.kill(self.child(session))
        self.maildir.touch()
        self.assertEqual(self.listing(driver), before[2:])
        self.assertEqual(self.listing(), before[2:])

    def test_processes_agree(self) -> None:
        """Promise: what one process removed, delivered mail and new flags show alike in all of them."""
        one, two = self.driver(), self.driver()
        self.assertEqual(self.listing(one), self.listing(two))
        maildrop = self.open(one)
        self.wait(maildrop.remove([1, 3]))
        self.wait(maildrop.close())
        self.maildir.touch()
        self.maildir.deliver("9.z")
        self.maildir.move("3.a", "3.a:2,S")
        for _ in range(2):
            self.assertEqual(self.listing(two), self.listing(one))
            self.assertEqual(self.listing(one), self.listing(self.driver(index=False)))

    def test_read_only_maildir_is_locked_across_processes(self) -> None:
        """RFC 1939 §4: also where tpops_lock cannot be made; and what cannot be removed is told."""
        with public_folder() as folder:
            maildir = Maildir(os.path.join(folder, "Maildir"))
            maildir.deliver("1.a")
            for path in ("new", "cur", "."):
                os.chmod(os.path.join(maildir.root, path), 0o555)

            def session() -> str:
                driver = self.driver(maildir=maildir, lock_wait_seconds=0.0, mark_seen=True)
                maildrop = self.open(driver)
                other = self.fails(driver.open_maildrop(JOE), MaildropBusy)
                content = self.content(maildrop, 1)
                self.wait(maildrop.mark_seen([1]))
                failed = self.fails(maildrop.remove([1]))
                self.wait(maildrop.close())
                return f"{other.code} {content!r} {type(failed).__name__} {list(failed.kept)}"

            self.assertEqual(without_rights(session), r"IN-USE b'Subject: x\n\nbody\n' RemoveFailed [1]")
            self.assertEqual(maildir.files(), ["new/1.a"])
