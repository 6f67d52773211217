"""Messages that are kept until every recipient has them."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.mailbox.support import descriptors, unhurried
from tpops.delivery import incoming
from tpops.delivery.incoming import Message
from tpops.interfaces import IIncomingMessage

_MEMORY = """
import resource, sys
from tpops.delivery.incoming import Message
message = Message.read(sys.stdin.buffer, True)
print(sum(map(len, message.chunks())), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def made(octets: bytes, pieces: int = 7, drop: bool = False) -> Message:
    """A message from pieces of that size."""
    message = Message(drop)
    for at in range(0, len(octets), pieces):
        message.feed(octets[at : at + pieces])
    message.finish()
    return message


class MessageTests(SynchronousTestCase):
    """What comes in is what comes out."""

    def test_interface(self) -> None:
        """Promise: a message, with fields in front or not, is what tpops.interfaces says."""
        message = made(b"Subject: x\n\n")
        verifyObject(IIncomingMessage, message)
        verifyObject(IIncomingMessage, message.under([(b"Delivered-To", b"joe")]))

    @unhurried
    @given(st.binary(max_size=200), st.integers(1, 40), st.booleans())
    def test_octets_stay(self, octets: bytes, pieces: int, small: bool) -> None:
        """Promise: whatever the octets and pieces, in memory or in a file, several times."""
        self.patch(incoming, "MEMORY_OCTETS", 16 if small else 1 << 20)
        message = made(b"Subject: x\n" + octets, pieces)
        for _ in range(2):
            self.assertEqual(b"".join(message.chunks()), b"Subject: x\n" + octets)
        self.assertEqual(message.octets, 11 + len(octets))
        message.close()

    def test_empty(self) -> None:
        """Promise: no octets are a message, too."""
        message = Message.read(io.BytesIO(b""))
        self.assertEqual((message.octets, list(message.chunks())), (0, []))

    def test_separator(self) -> None:
        """Promise: a "From " line goes, and its address is known; one in the text stays."""
        for line, sender in (
            (b"From ann@example.org  Tue Nov 24 07:00:00 2026\n", "ann@example.org"),
            (b"From MAILER-DAEMON Tue Nov 24 07:00:00 2026\n", ""),
            (b"From \n", ""),
            (b"", ""),
        ):
            for pieces in (1, 3, 500):
                message = made(line + b"Subject: x\n\nFrom me\n", pieces)
                self.assertEqual(b"".join(message.chunks()), b"Subject: x\n\nFrom me\n")
                self.assertEqual(message.sender, sender)

    def test_long_first_line(self) -> None:
        """Promise: a first line without an end is kept as it is."""
        for octets in (b"x" * 10_000, b"From " + b"x" * 10_000, b"From a"):
            self.assertEqual(b"".join(made(octets).chunks()), octets)

    def test_return_path_is_taken_out(self) -> None:
        """RFC 5321 §4.4: only the last delivery's Return-Path may be in a message; the text is not touched."""
        header = (
            b"Return-Path: <a@example.org>\nSubject: x\nreturn-PATH:\n <b@example.org>\n\t(c)\n"
            b"Return-Path-Not: y\n folded\nTo: z\n\nReturn-Path: text\n"
        )
        expected = b"Subject: x\nReturn-Path-Not: y\n folded\nTo: z\n\nReturn-Path: text\n"
        for end in (b"\n", b"\r\n"):
            for pieces in (1, 2, 11, 12, 13, 500):
                message = made(header.replace(b"\n", end), pieces, drop=True)
                self.assertEqual(b"".join(message.chunks()), expected.replace(b"\n", end))
                self.assertEqual(message.octets, len(expected.replace(b"\n", end)))

    def test_return_path_at_the_end(self) -> None:
        """Promise: a header that ends in the middle loses nothing else."""
        for octets in (b"Return-Pat", b"Subject: x\nRet", b"Subject: x", b"\n", b""):
            self.assertEqual(b"".join(made(octets, 3, drop=True).chunks()), octets)
        self.assertEqual(b"".join(made(b"Return-Path: <x>", 3, drop=True).chunks()), b"")

    @unhurried
    @given(st.lists(st.sampled_from([b"Return-Path: <x>\n", b" y\n", b"A: b\n", b"\n", b"R\n"])), st.integers(1, 30))
    def test_pieces_change_nothing(self, lines: list[bytes], pieces: int) -> None:
        """Promise: the same is taken out however the message is cut."""
        text = b"".join(lines)
        header, blank, body = (b"", b"\n", text[1:]) if text.startswith(b"\n") else self.parted(text)
        header = re.sub(rb"(?m)^Return-Path:.*\n(?:[ \t].*\n)*", b"", header)
        self.assertEqual(b"".join(made(text, pieces, drop=True).chunks()), header + blank + body)

    def parted(self, text: bytes) -> tuple[bytes, bytes, bytes]:
        """Header, blank line, body."""
        header, blank, body = text.partition(b"\n\n")
        return (header + b"\n", b"\n", body) if blank else (text, b"", b"")

    def test_fields_in_front(self) -> None:
        """Promise: each recipient's own fields come first, with the line ends of the message."""
        for end in (b"\n", b"\r\n"):
            message = made(b"Subject: x" + end + end)
            under = message.under([(b"Return-Path", b"<a@b>"), (b"Delivered-To", b"joe")])
            text = b"Return-Path: <a@b>" + end + b"Delivered-To: joe" + end + b"Subject: x" + end + end
            self.assertEqual((b"".join(under.chunks()), under.octets), (text, len(text)))
            self.assertIs(message.under([]), message)

    def test_nothing_is_left(self) -> None:
        """Promise: no file has a name, and none stays open."""
        directory = self.mktemp()
        os.mkdir(directory)
        before = descriptors()
        message = Message.read(io.BytesIO(b"x" * (2 << 20)), directory=directory)
        self.assertEqual(os.listdir(directory), [])
        self.assertEqual(message.octets, 2 << 20)
        message.close()
        message.close()
        self.assertEqual(descriptors(), before)

    def test_full_disk(self) -> None:
        """Promise: what cannot be kept is an error, and nothing stays open."""
        before = descriptors()
        self.assertRaises(OSError, Message.read, io.BytesIO(b"x" * (2 << 20)), False, "/nowhere")
        self.assertEqual(descriptors(), before)

    def test_memory(self) -> None:
        """Promise: 100 MB take no more memory than a small message."""

        def measure(octets: int) -> int:
            feed = subprocess.Popen(["head", "-c", str(octets), "/dev/zero"], stdout=subprocess.PIPE)
            done = subprocess.run(
                [sys.executable, "-c", _MEMORY], stdin=feed.stdout, capture_output=True, check=True, timeout=120
            )
            assert feed.stdout is not None
            feed.stdout.close()
            feed.wait()
            found, kib = done.stdout.split()
            self.assertEqual(int(found), octets)
            return int(kib)

        self.assertLess(measure(100_000_000), measure(1000) + 10_000)
