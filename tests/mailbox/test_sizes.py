"""How many octets a stored message has on the wire, and how that is learnt."""

from __future__ import annotations

import os
from unittest import mock

from hypothesis import given
from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.maildrop import on_the_wire
from tests.mailbox.support import descriptors, unhurried
from tests.strategies import messages
from tpops.mailbox import sizes
from tpops.mailbox.sizes import EXACT, FILE, NAME

BODY = b"Subject: x\n\n" + b"y\n" * 20
STORED = len(BODY)
WIRE = STORED + BODY.count(b"\n")


class SizeTests(SynchronousTestCase):
    """The three ways."""

    def setUp(self) -> None:
        """A directory."""
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.directory = os.open(self.folder, os.O_RDONLY)
        self.addCleanup(os.close, self.directory)

    def size(self, name: bytes, how: str, body: bytes = BODY) -> int:
        """The size of a message with that file name."""
        path = os.path.join(os.fsencode(self.folder), name)
        with open(path, "wb") as file:
            file.write(body)
        try:
            return sizes.size(name, how, self.directory)
        finally:
            os.unlink(path)

    def test_exact_believes_the_name_about_wire_octets(self) -> None:
        """Promise: Maildir++ has ',W=' for the size with CRLF line ends, wherever it is in the base name."""
        for name in (b"1.x,W=77", b"1.x,S=5,W=77:2,S", b"1.x,W=77,S=5:2,", b"1.x,W=77,W=78"):
            self.assertEqual(self.size(name, EXACT), 77)

    def test_exact_reads_otherwise(self) -> None:
        """RFC 1939 §11: without ',W=' the file is read; ',S=' and the file's size are not what LIST means."""
        for name in (b"1.x", b"1.x,S=5", b"1.x,W=", b"1.x,W=7x", b"1.x,W=-7", b"1.xW=77", b"1.x:2,W=77", b"1.x,w=77"):
            self.assertEqual(self.size(name, EXACT), WIRE)

    def test_absurd_sizes_are_not_believed(self) -> None:
        """Promise: a number that no message has does not get into listings."""
        self.assertEqual(self.size(b"1.x,W=1234567890123456", EXACT), WIRE)
        self.assertEqual(self.size(b"1.x,W=5\n", EXACT), WIRE)

    def test_maildir_name_setting(self) -> None:
        """Promise: sizes = "maildir++" believes ',S=' as TPOPS did, and reads the file without it."""
        self.assertEqual(self.size(b"1.x,S=5,W=77:2,S", NAME), 5)
        self.assertEqual(self.size(b"1.x,W=77:2,S", NAME), WIRE)

    def test_file_setting(self) -> None:
        """Promise: sizes = "file" believes ',S=', and takes the file's size without it."""
        self.assertEqual(self.size(b"1.x,S=5,W=77:2,S", FILE), 5)
        self.assertEqual(self.size(b"1.x,W=77:2,S", FILE), STORED)

    @unhurried
    @given(messages())
    def test_reading_counts_the_wire_form(self, message: bytes) -> None:
        """RFC 1939 §11: for any mix of line ends."""
        self.assertEqual(self.size(b"1.x", EXACT, message), len(on_the_wire(message)))

    def test_reading_in_chunks(self) -> None:
        """Promise: line ends across chunks are counted once."""
        message = b"ab\r\nc\n\r\r\n.\r"
        for octets in range(1, len(message) + 1):
            with mock.patch.object(sizes, "_CHUNK", octets):
                self.assertEqual(self.size(b"1.x", EXACT, message), len(on_the_wire(message)))

    def test_links_and_missing_files(self) -> None:
        """Promise: what is no message of this Maildir is not measured, and nothing stays open."""
        os.symlink("/etc/passwd", os.path.join(self.folder, "link"))
        before = descriptors()
        for how in (EXACT, NAME):
            self.assertRaises(OSError, sizes.size, b"link", how, self.directory)
        self.assertLess(sizes.size(b"link", FILE, self.directory), 20)
        for how in (EXACT, NAME, FILE):
            self.assertRaises(FileNotFoundError, sizes.size, b"missing", how, self.directory)
        self.assertEqual(descriptors(), before)

    def test_fifo_does_not_hang(self) -> None:
        """Promise: a name that turned into a FIFO since it was listed holds nobody up."""
        os.mkfifo(os.path.join(self.folder, "fifo"))
        self.assertEqual(sizes.size(b"fifo", EXACT, self.directory), 0)
