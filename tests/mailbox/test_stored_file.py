"""Messages in files of their own, read without stalling anybody."""

from __future__ import annotations

import errno
import os
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.mailbox.support import Later, descriptors, unhurried
from tpops.errors import StorageUnavailable
from tpops.interfaces import IStoredMessage
from tpops.mailbox import stored_file
from tpops.mailbox.stored_file import StoredFile


class StoredFileTests(SynchronousTestCase):
    """Promise: architecture.md section 3: what is in the page cache is read at once, the rest in a thread."""

    def setUp(self) -> None:
        """A file of 300 KiB and a bit, which is more than one chunk."""
        self.path = os.path.abspath(self.mktemp())
        self.octets = bytes(range(256)) * 1200 + b"end"
        with open(self.path, "wb") as file:
            file.write(self.octets)
        self.threads = Later()

    def open(self, path: str | None = None) -> StoredFile:
        """The open file."""
        message = StoredFile(os.open(path or self.path, os.O_RDONLY | os.O_NONBLOCK), self.threads)
        self.addCleanup(message.close)
        return message

    def read(self, message: StoredFile, octets: int) -> bytes:
        """The next octets; what goes to a thread is waited for."""
        answer = message.read(octets)
        if isinstance(answer, bytes):
            return answer
        later = self.later(answer)
        self.threads.run()
        return self.successResultOf(later)

    def later(self, answer: Any) -> Deferred[bytes]:
        """An answer that is not at hand."""
        self.assertNotIsInstance(answer, bytes)
        return Deferred.fromCoroutine(answer)

    def whole(self, message: StoredFile, octets: int) -> bytes:
        """All of a message."""
        chunks = []
        while chunk := self.read(message, octets):
            self.assertLessEqual(len(chunk), octets)
            chunks.append(chunk)
        return b"".join(chunks)

    def refusing(self, *errors: int) -> Any:
        """A preadv that fails so often and then works."""
        left = list(errors)
        real = os.preadv

        def preadv(*arguments: Any) -> int:
            if left:
                raise OSError(left[0], os.strerror(left.pop(0)))
            return real(*arguments)

        return mock.patch.object(stored_file.os, "preadv", preadv)

    def test_provides_its_interface(self) -> None:
        """Promise: IStoredMessage."""
        verifyObject(IStoredMessage, self.open())

    def test_cached_octets_come_at_once(self) -> None:
        """Promise: octets that were just written need no thread."""
        self.assertEqual(self.whole(self.open(), 1 << 18), self.octets)
        self.assertEqual(self.threads.waiting, [])

    @unhurried
    @given(st.integers(997, 1 << 19), st.lists(st.booleans(), max_size=8))
    def test_any_chunks_by_any_way(self, octets: int, in_thread: list[bool]) -> None:
        """Promise: the same octets, however many at a time, at once or by a thread."""
        real = os.preadv
        turns = iter(in_thread)

        def preadv(*arguments: Any) -> int:
            if next(turns, False):
                raise BlockingIOError(errno.EAGAIN, "not cached")
            return real(*arguments)

        with mock.patch.object(stored_file.os, "preadv", preadv):
            message = self.open()
            self.assertEqual(self.whole(message, octets), self.octets)
            message.close()

    def test_what_is_not_cached_is_read_in_a_thread(self) -> None:
        """Promise: EAGAIN means the disk, EOPNOTSUPP a file system without RWF_NOWAIT: both go to a thread."""
        for error in (errno.EAGAIN, errno.EOPNOTSUPP):
            message = self.open()
            with self.refusing(error):
                answer = self.later(message.read(10))
                self.assertNoResult(answer)
                self.threads.run()
                self.assertEqual(self.successResultOf(answer), self.octets[:10])
                self.assertEqual(self.read(message, 10), self.octets[10:20])

    def test_never_waits_for_the_disk(self) -> None:
        """Promise: reads in the reactor have RWF_NOWAIT."""
        with mock.patch.object(stored_file.os, "preadv", return_value=0) as preadv:
            self.assertEqual(self.open().read(10), b"")
        self.assertEqual(preadv.call_args[0][3], os.RWF_NOWAIT)

    def test_sessions_share_a_buffer_and_not_its_octets(self) -> None:
        """Promise: what was given out does not change when another session reads."""
        one, two = self.open(), self.open()
        first = one.read(4)
        self.assertEqual(two.read(8), self.octets[:8])
        self.assertEqual(one.read(4), self.octets[4:8])
        self.assertEqual(first, self.octets[:4])

    def test_errors(self) -> None:
        """Promise: a broken disk is StorageUnavailable, in the reactor and in a thread."""
        message = self.open()
        with self.refusing(errno.EIO):
            self.assertRaises(StorageUnavailable, message.read, 10)
        with self.refusing(errno.EAGAIN):
            answer = self.later(message.read(10))
        self.threads.waiting.pop()[0].errback(OSError(errno.EIO, "broken"))
        self.failureResultOf(answer, StorageUnavailable)
        self.assertEqual(self.read(message, 4), self.octets[:4])

    def test_what_is_no_file(self) -> None:
        """Promise: a name that turned into a directory or a FIFO is an error and not a message."""
        os.mkdir(self.path + ".directory")
        os.mkfifo(self.path + ".fifo")
        for kind in (".directory", ".fifo"):
            message = self.open(self.path + kind)
            try:
                answer = self.later(message.read(10))
            except StorageUnavailable:
                continue
            self.threads.run()
            self.failureResultOf(answer, StorageUnavailable)

    def test_close_is_idempotent(self) -> None:
        """Promise: the second close does not close what somebody else opened since."""
        before = descriptors()
        message = self.open()
        message.close()
        self.assertEqual(descriptors(), before)
        other = self.open()
        message.close()
        self.assertEqual(other.read(3), self.octets[:3])
        self.assertRaises(StorageUnavailable, message.read, 1)
