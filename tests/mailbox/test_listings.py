"""Listings in memory, and the clock by which they are racy."""

from __future__ import annotations

import os
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.support import Maildir, MaildirTestCase
from tpops.mailbox import listings
from tpops.mailbox.listings import SnapshotCache
from tpops.mailbox.locks import LOCK_FILE, MaildirLock, try_lock
from tpops.mailbox.snapshot import Snapshot


class RealTimeTests(MaildirTestCase):
    """With the machine's own clocks, as fast as it can."""

    def settled(self) -> None:
        """No clock of the test's."""

    def test_every_change_is_seen(self) -> None:
        """Promise: no change is missed for another within the same tick, by this process or by the next one."""
        driver = self.driver()
        expected: list[bytes] = []
        for number in range(100, 160):
            for name in (f"{number}.a", f"{number}.b"):
                os.close(os.open(self.maildir.file(name), os.O_CREAT | os.O_WRONLY))
                expected.append(name.encode())
                self.assertEqual(self.unique_ids(driver), expected)
            os.unlink(self.maildir.file(name))
            expected.pop()
            self.assertEqual(self.unique_ids(self.driver()), expected)
            os.rename(self.maildir.file(f"{number}.a"), self.maildir.file(f"{number}.a:2,S", "cur"))
            maildrop = self.open(driver)
            self.assertEqual(self.content(maildrop, maildrop.messages.count), b"")
            self.wait(maildrop.close())
        self.assertEqual(maildrop.messages.unique_ids(), expected)


class ClockTests(SynchronousTestCase):
    """The clock of the Maildir's own file system."""

    def test_is_the_time_of_the_lock_file(self) -> None:
        """Promise: clocks of server and storage need not agree: the storage's is asked."""
        maildir = Maildir(self.mktemp())
        lock = try_lock(maildir.path)
        assert lock is not None
        self.addCleanup(lock.release)
        os.utime(lock.descriptor, ns=(1, 1))
        with mock.patch.object(listings.time, "time_ns", side_effect=AssertionError):
            clock = listings._file_system_clock(lock)
        self.assertEqual(clock, os.stat(maildir.path + LOCK_FILE).st_mtime_ns)
        self.assertGreater(clock, 1)

    def test_is_the_servers_without_a_lock_file(self) -> None:
        """Promise: read-only and missing Maildirs go by the server's clock."""
        with mock.patch.object(listings.time, "time_ns", return_value=7):
            self.assertEqual(listings._file_system_clock(None), 7)
            self.assertEqual(listings._file_system_clock(MaildirLock(-1, False)), 7)


class CacheTests(SynchronousTestCase):
    """Snapshots in memory."""

    STAMP = ((1, 1, 1), (2, 2, 2), (3, 3, 3))

    def snapshot(self, count: int = 10) -> Snapshot:
        """A snapshot of so many messages."""
        return Snapshot.of([1] * count, [b"%010d" % number for number in range(count)], [b"n"] * count)

    def test_longest_unused_goes_first(self) -> None:
        """Promise: memory is bounded by octets; what was used last stays."""
        snapshot = self.snapshot()
        cache = SnapshotCache(3 * snapshot.memory())
        for name in (b"a", b"b", b"c"):
            cache.put(name, self.STAMP, snapshot)
        self.assertEqual(cache.get(b"a"), (self.STAMP, snapshot))
        cache.put(b"d", self.STAMP, snapshot)
        self.assertEqual([name for name in (b"a", b"b", b"c", b"d") if cache.get(name)], [b"a", b"c", b"d"])

    def test_large_one_replaces_several(self) -> None:
        """Promise: as many go as need to; one that is larger than all the room is not kept at all."""
        small, large = self.snapshot(), self.snapshot(50)
        cache = SnapshotCache(large.memory() + small.memory())
        for name in (b"a", b"b", b"c"):
            cache.put(name, self.STAMP, small)
        cache.put(b"d", self.STAMP, large)
        self.assertEqual([name for name in (b"a", b"b", b"c", b"d") if cache.get(name)], [b"c", b"d"])
        cache.put(b"e", self.STAMP, self.snapshot(1000))
        self.assertEqual([name for name in (b"a", b"b", b"c", b"d", b"e") if cache.get(name)], [])
        cache.put(b"a", self.STAMP, large)
        self.assertIsNotNone(cache.get(b"a"))

    def test_replacing_and_dropping_give_room_back(self) -> None:
        """Promise: the count of octets stays right."""
        snapshot = self.snapshot()
        cache = SnapshotCache(2 * snapshot.memory())
        for _ in range(5):
            cache.put(b"a", self.STAMP, snapshot)
            cache.put(b"b", self.STAMP, snapshot)
            cache.drop(b"b")
            cache.drop(b"nobody")
        cache.put(b"b", self.STAMP, snapshot)
        self.assertTrue(cache.get(b"a") and cache.get(b"b"))
        self.assertIsNone(cache.get(b"c"))
