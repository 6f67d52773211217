"""The index file: a cache that is true or not there."""

from __future__ import annotations

import os
import resource
import signal
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.support import descriptors, public_folder, unhurried, without_rights
from tests.mailbox.test_snapshot import ROWS, everything, snapshot_of
from tpops.mailbox import index
from tpops.mailbox.index import Stamp

STAMP: Stamp = ((1, 2, 3), (4, -5, 6), (7, 8, 1 << 62))
SETTINGS = "exact/0"
SNAPSHOT = snapshot_of([(10, b"one", b"n"), (20, b"two", b"c:2,S"), (30, b"3" * 40, b"Cthree\0:2,")])
GOOD = index.pack(SNAPSHOT, STAMP, SETTINGS)

NUMBER = st.integers(-(1 << 63), (1 << 63) - 1)
DIRECTORY = st.tuples(NUMBER, NUMBER, NUMBER)


class PackTests(SynchronousTestCase):
    """Octets and back."""

    @unhurried
    @given(ROWS, st.tuples(DIRECTORY, DIRECTORY, DIRECTORY))
    def test_round_trip(self, rows: list[tuple[int, bytes, bytes]], stamp: Stamp) -> None:
        """Promise: what is read is what was written."""
        snapshot = snapshot_of(rows)
        found = index.unpack(index.pack(snapshot, stamp, SETTINGS), SETTINGS)
        assert found is not None
        self.assertEqual((found[0], everything(found[1])), (stamp, everything(snapshot)))

    def test_other_byte_order_writes_the_same(self) -> None:
        """Promise: the layout is little endian on every machine."""
        self.patch(index.sys, "byteorder", "big" if index.sys.byteorder == "little" else "little")
        swapped = index.pack(SNAPSHOT, STAMP, SETTINGS)
        self.assertNotEqual(swapped, GOOD)
        found = index.unpack(swapped, SETTINGS)
        assert found is not None
        self.assertEqual(everything(found[1]), everything(SNAPSHOT))

    def test_every_truncation_is_noticed(self) -> None:
        """Promise: a torn index is as good as none."""
        for octets in range(len(GOOD)):
            self.assertIsNone(index.unpack(GOOD[:octets], SETTINGS), octets)
        self.assertIsNone(index.unpack(GOOD + b"\0", SETTINGS))

    def test_every_changed_bit_is_noticed(self) -> None:
        """Promise: a damaged index is as good as none."""
        for at in range(len(GOOD)):
            for bit in range(8):
                bad = bytearray(GOOD)
                bad[at] ^= 1 << bit
                self.assertIsNone(index.unpack(bytes(bad), SETTINGS), (at, bit))

    def test_other_settings_are_noticed(self) -> None:
        """Promise: sizes learnt in another way, or unique-ids by another rule, do not count."""
        for settings in ("exact/1", "file/0", "exact/", "", "maildir++/0"):
            self.assertIsNone(index.unpack(GOOD, settings))
        for settings in ("file/1", "maildir++/1"):
            self.assertIsNotNone(index.unpack(index.pack(SNAPSHOT, STAMP, settings), settings))

    def test_other_version_is_noticed(self) -> None:
        """Promise: an index of another version is as good as none."""
        self.assertIsNone(index.unpack(b"tpopsIX1" + GOOD[8:], SETTINGS))

    def test_lengths_that_do_not_fit_are_noticed(self) -> None:
        """Promise: a foreign file with a right checksum and wrong lengths is as good as none."""
        self.assertIsNone(index.unpack(resealed(GOOD + b"x"), SETTINGS))
        self.assertIsNone(index.unpack(resealed(GOOD[:-1]), SETTINGS))


def resealed(octets: bytes) -> bytes:
    """An index with a checksum that fits."""
    return octets[:8] + index.zlib.crc32(octets[12:]).to_bytes(4, "little") + octets[12:]


class LoadTests(SynchronousTestCase):
    """Reading the file, which its owner may have replaced by anything."""

    def setUp(self) -> None:
        """A place for it."""
        self.path = os.fsencode(os.path.abspath(self.mktemp()))

    def assert_none(self) -> None:
        """There is no good index, and looking left nothing open."""
        before = descriptors()
        self.assertIsNone(index.load(self.path, SETTINGS))
        self.assertEqual(descriptors(), before)

    def test_missing(self) -> None:
        """Promise: no index is no error."""
        self.assert_none()

    def test_reads_what_was_saved(self) -> None:
        """Promise: an index is good for other processes."""
        self.assertIsNone(index.save(self.path, GOOD))
        found = index.load(self.path, SETTINGS)
        assert found is not None
        self.assertEqual((found[0], everything(found[1])), (STAMP, everything(SNAPSHOT)))

    def test_directory(self) -> None:
        """Promise: a directory in its place leaks nothing."""
        os.mkdir(self.path)
        self.assert_none()

    def test_link_is_not_followed(self) -> None:
        """Promise: an index cannot be borrowed from elsewhere."""
        index.save(self.path + b"2", GOOD)
        os.symlink(self.path + b"2", self.path)
        self.assert_none()

    def test_fifo_does_not_hang(self) -> None:
        """Promise: a FIFO in its place holds nobody up, with a writer or without one."""
        os.mkfifo(self.path)
        self.assert_none()
        writer = os.open(self.path, os.O_RDWR | os.O_NONBLOCK)
        self.addCleanup(os.close, writer)
        self.assert_none()
        os.write(writer, GOOD)
        self.assert_none()

    def test_larger_than_any_index(self) -> None:
        """Promise: memory is bounded whatever the owner put there."""
        index.save(self.path, GOOD)
        self.patch(index, "MOST_OCTETS", len(GOOD))
        self.assertIsNotNone(index.load(self.path, SETTINGS))
        self.patch(index, "MOST_OCTETS", len(GOOD) - 1)
        self.assert_none()


class SaveTests(SynchronousTestCase):
    """Replacing the file."""

    def setUp(self) -> None:
        """A folder with an old index."""
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.path = os.fsencode(self.folder) + b"/tpops_index"
        index.save(self.path, b"old")

    def assert_old(self) -> None:
        """The old index is in place and nothing else is."""
        self.assertEqual(os.listdir(self.folder), ["tpops_index"])
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), b"old")

    def test_replaces_and_leaves_no_temporary(self) -> None:
        """Promise: one file, for its owner alone."""
        before = os.stat(self.path).st_ino
        self.assertIsNone(index.save(self.path, GOOD))
        self.assertEqual(os.listdir(self.folder), ["tpops_index"])
        found = os.stat(self.path)
        self.assertEqual(found.st_mode & 0o777, 0o600)
        self.assertNotEqual(found.st_ino, before)

    def test_reader_keeps_the_old_one(self) -> None:
        """Promise: a reader sees the old index or the new one, whole."""
        with open(self.path, "rb") as file:
            index.save(self.path, GOOD)
            self.assertEqual(file.read(), b"old")

    def test_failed_rename(self) -> None:
        """Promise: when it cannot be put in place, the old one stays and no temporary does."""
        with mock.patch.object(index.os, "replace", side_effect=OSError(5, "disk on fire")):
            self.assertIn("disk on fire", index.save(self.path, GOOD) or "")
        self.assert_old()

    def test_full_disk(self) -> None:
        """Promise: when it cannot be written to its end, the old one stays and no temporary does."""
        with public_folder() as folder:
            path = os.fsencode(folder) + b"/tpops_index"
            os.chmod(folder, 0o777)

            def save_twice() -> str:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
                return f"{index.save(path, b'old')} {index.save(path, bytes(1_000_000))}"

            self.assertIn("None [Errno 27] File too large", without_rights(save_twice))
            self.assertEqual(os.listdir(folder), ["tpops_index"])
            with open(path, "rb") as file:
                self.assertEqual(file.read(), b"old")

    def test_folder_that_cannot_be_written(self) -> None:
        """Promise: a failure is told, not raised."""
        with public_folder() as folder:
            os.chmod(folder, 0o555)
            path = os.fsencode(folder) + b"/tpops_index"
            self.assertIn("Permission denied", without_rights(lambda: index.save(path, GOOD) or "saved"))
            self.assertEqual(os.listdir(folder), [])

    def test_missing_folder(self) -> None:
        """Promise: the same for a folder that is not there."""
        self.assertIn("No such file", index.save(b"/nowhere/at/all", GOOD) or "")

    def test_what_a_killed_process_left_is_replaced(self) -> None:
        """Promise: an unfinished file does not stay in the way, and links and FIFOs in its place are not written to."""
        temporary = self.path + b".tmp"
        victim = os.path.join(self.folder, "victim")
        for plant in (
            lambda: os.symlink(victim, temporary),
            lambda: os.mkfifo(temporary),
            lambda: os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o400)),
        ):
            plant()
            self.assertIsNone(index.save(self.path, GOOD))
            self.assertEqual(os.listdir(self.folder), ["tpops_index"])

    def test_directory_in_the_way(self) -> None:
        """Promise: what cannot be removed is a failure that is told, not raised."""
        os.mkdir(self.path + b".tmp")
        self.assertIn("File exists", index.save(self.path, GOOD) or "")

    def test_gives_the_file_to_the_mails_owner(self) -> None:
        """Promise: a server that runs as root leaves nothing of root's in a Maildir."""
        with mock.patch.object(index.os, "fchown") as fchown:
            index.save(self.path, GOOD, (1000, 100))
        self.assertEqual(fchown.call_args[0][1:], (1000, 100))
