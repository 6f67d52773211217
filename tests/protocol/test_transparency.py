"""Octets as stored and octets as sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import chunkings, messages
from tpops.protocol.transparency import Encoder, LineEnds, Octets, Top, has_utf8_header


def normalised(message: bytes) -> bytes:
    """The message as lines of the wire, worked out octet by octet."""
    wire = bytearray()
    for at, octet in enumerate(message):
        if octet == 0x0A and (at == 0 or message[at - 1] != 0x0D):
            wire += b"\r"
        wire.append(octet)
    if message and message[-1] != 0x0A:
        wire += b"\r\n"
    return bytes(wire)


def stuffed(wire: bytes) -> bytes:
    """Lines with a dot more where one begins with a dot."""
    lines = wire.split(b"\r\n")
    # A line ends with CRLF; LF alone cannot be left in normalised text.
    return b"\r\n".join([b"." + line if line.startswith(b".") else line for line in lines])


def encoded(chunks: list[bytes]) -> tuple[bytes, int]:
    """What an encoder makes of chunks, and the octets that it counted."""
    encoder = Encoder()
    wire = b"".join([encoder.feed(chunk) for chunk in chunks]) + encoder.finish()
    return wire, encoder.octets


class EncoderTests(SynchronousTestCase):
    """Messages on their way to the wire."""

    cases = (
        (b"", b""),
        (b"\n", b"\r\n"),
        (b"a", b"a\r\n"),
        (b"a\n", b"a\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a\r", b"a\r\r\n"),
        (b"a\r\r\n", b"a\r\r\n"),
        (b"a\rb\n", b"a\rb\r\n"),
        (b".\n", b"..\r\n"),
        (b".", b"..\r\n"),
        (b"..\n.\n", b"...\r\n..\r\n"),
        (b"a\n.b\n", b"a\r\n..b\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n"),
        (b"a\r.b\n", b"a\r.b\r\n"),
        (b"a.\n", b"a.\r\n"),
        (b"\x00\xff\n", b"\x00\xff\r\n"),
        (b"\n\n.\n\n", b"\r\n\r\n..\r\n\r\n"),
        (b"." * 100 + b"\n" + b"." * 100, b"." * 101 + b"\r\n" + b"." * 101 + b"\r\n"),
        (b"x" * 200 + b"\n.y\nz.z\n.", b"x" * 200 + b"\r\n..y\r\nz.z\r\n..\r\n"),
    )

    def test_known_messages_whole(self) -> None:
        """RFC 1939 §3: line ends become CRLF, lines that begin with a dot get another."""
        for message, wire in self.cases:
            self.assertEqual(encoded([message])[0], wire, message)

    def test_known_messages_octet_by_octet(self) -> None:
        """However a message is cut, the result is the same."""
        for message, wire in self.cases:
            self.assertEqual(encoded([message[at : at + 1] for at in range(len(message))])[0], wire, message)

    @given(messages())
    def test_wire_is_normalised_and_stuffed(self, message: bytes) -> None:
        """RFC 1939 §3, against a plain implementation."""
        self.assertEqual(encoded([message])[0], stuffed(normalised(message)))

    @given(messages(), st.data())
    def test_any_chunking_gives_the_same(self, message: bytes, data: st.DataObject) -> None:
        """Stuffing and line ends hold across chunk borders."""
        self.assertEqual(encoded(data.draw(chunkings(message))), encoded([message]))

    @given(messages())
    def test_octets_leave_out_added_dots(self, message: bytes) -> None:
        """RFC 1939 §11: what is announced is the CRLF form without stuffing."""
        self.assertEqual(encoded([message])[1], len(normalised(message)))

    @given(messages())
    def test_no_line_is_the_terminator(self, message: bytes) -> None:
        """No message can end its own reply early."""
        self.assertNotIn(b".", encoded([message])[0].split(b"\r\n"))

    def test_dot_in_the_middle_of_a_line_that_was_cut(self) -> None:
        """A chunk that begins with a dot inside a line is not stuffed."""
        self.assertEqual(encoded([b"a", b"." + b"b" * 100 + b"\n"])[0], b"a." + b"b" * 100 + b"\r\n")

    def test_text_full_of_dots_is_stuffed_the_same(self) -> None:
        """Both ways to look for dots give the same."""
        for text in (
            b"x" * 40 + b"\n" + b".y" + b"z" * 90,
            b".\n" * 500,
            b".a\n" + b"x" * 5000 + b"\n.",
            b"a.\n" * 400 + b"..\n",
        ):
            self.assertEqual(encoded([text])[0], stuffed(normalised(text)))


class OctetsTests(SynchronousTestCase):
    """Sizes without sending."""

    @given(messages(), st.data())
    def test_announced_equals_sent(self, message: bytes, data: st.DataObject) -> None:
        """Announced octets equal sent octets, however the message is read."""
        octets = Octets()
        for chunk in data.draw(chunkings(message)):
            octets.feed(chunk)
        self.assertEqual(octets.total(), encoded([message])[1])

    def test_empty_chunks_count_nothing(self) -> None:
        """An empty chunk changes nothing."""
        octets = Octets()
        for chunk in (b"", b"a\r", b"", b"\n", b""):
            octets.feed(chunk)
        self.assertEqual(octets.total(), 3)


def topped(chunks: list[bytes], lines: int) -> bytes:
    """TOP's lines, not stuffed."""
    top = Top(lines)
    return b"".join([top.feed(chunk) for chunk in chunks]) + top.finish()


class TopTests(SynchronousTestCase):
    """RFC 1939 §7, TOP."""

    def test_known_messages(self) -> None:
        """Header, blank line and so many lines; no more than there are."""
        message = b"A: 1\nB: 2\n\none\ntwo\nthree"
        for lines, expected in (
            (0, b"A: 1\nB: 2\n\n"),
            (1, b"A: 1\nB: 2\n\none\n"),
            (2, b"A: 1\nB: 2\n\none\ntwo\n"),
            (3, message),
            (4, message),
            (10**9, message),
        ):
            self.assertEqual(topped([message], lines), expected, lines)

    def test_message_without_blank_line_is_all_header(self) -> None:
        """Where the header never ends, all of it is sent."""
        self.assertEqual(topped([b"A: 1\nB: 2"], 0), b"A: 1\nB: 2")

    def test_message_that_begins_with_the_body(self) -> None:
        """A blank first line is the end of an empty header."""
        self.assertEqual(topped([b"\none\ntwo\n"], 1), b"\none\n")

    def test_crlf_message(self) -> None:
        """The blank line may end with CRLF."""
        self.assertEqual(topped([b"A: 1\r\n\r\none\r\ntwo\r\n"], 1), b"A: 1\n\none\n")

    def test_nothing_is_taken_after_the_end(self) -> None:
        """Once done, further octets are ignored."""
        top = Top(0)
        self.assertEqual(top.feed(b"A: 1\n\nbody\n"), b"A: 1\n\n")
        self.assertTrue(top.done)
        self.assertEqual(top.feed(b"more\n"), b"")

    def test_carriage_return_at_the_end_is_kept(self) -> None:
        """A CR that waits for its LF is not lost."""
        self.assertEqual(topped([b"A: 1\n\nx\r"], 5), b"A: 1\n\nx\r")

    @given(messages(), st.integers(0, 6), st.data())
    def test_any_chunking_gives_the_same(self, message: bytes, lines: int, data: st.DataObject) -> None:
        """Header end and line count hold across chunk borders."""
        self.assertEqual(topped(data.draw(chunkings(message)), lines), topped([message], lines))

    @given(messages(), st.integers(0, 6))
    def test_top_is_header_blank_line_and_lines(self, message: bytes, lines: int) -> None:
        """TOP against a plain implementation."""
        text = message.replace(b"\r\n", b"\n")
        rows = [row + b"\n" for row in text.split(b"\n")]
        rows[-1] = rows[-1][:-1]
        blank = next((at for at, row in enumerate(rows) if row == b"\n"), None)
        expected = text if blank is None else b"".join(rows[: blank + 1 + lines])
        self.assertEqual(topped([message], lines), expected)


class LineEndsTests(SynchronousTestCase):
    """Any line ends to LF."""

    @given(messages(), st.data())
    def test_crlf_becomes_lf(self, message: bytes, data: st.DataObject) -> None:
        """CRLF becomes LF wherever it is cut; all else stays."""
        ends = LineEnds()
        text = b"".join([ends.feed(chunk) for chunk in data.draw(chunkings(message))]) + ends.finish()
        self.assertEqual(text, message.replace(b"\r\n", b"\n"))


class UTF8HeaderTests(SynchronousTestCase):
    """RFC 6856 §5: messages that need UTF8 mode."""

    def test_utf8_in_the_header_is_found(self) -> None:
        """RFC 6532: UTF-8 in header fields."""
        self.assertTrue(has_utf8_header("Subject: Grüße\n\nbody".encode()))
        self.assertTrue(has_utf8_header("Subject: Grüße\r\n\r\nbody".encode()))

    def test_utf8_in_the_body_does_not_count(self) -> None:
        """8-bit bodies are no matter of UTF8 mode."""
        self.assertFalse(has_utf8_header("Subject: x\n\nGrüße".encode()))

    def test_other_8_bit_octets_do_not_count(self) -> None:
        """Unlabelled ISO 8859 is not UTF-8."""
        self.assertFalse(has_utf8_header("Subject: Grüße\n\n".encode("latin-1")))

    def test_character_cut_by_the_chunk_still_counts(self) -> None:
        """The beginning of a message may end inside a character."""
        self.assertTrue(has_utf8_header("Subject: Grü".encode()[:-1]))
