"""What another server says is taken apart, whatever it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import chunkings, messages
from tpops.protocol.transparency import TERMINATOR, Encoder
from tpops.upstream.replies import (
    MOST_MESSAGES,
    Body,
    Capabilities,
    Lines,
    Malformed,
    ScanListing,
    Status,
    UniqueIdListing,
    count_of,
    shown,
    stamp,
)


class StatusTests(SynchronousTestCase):
    """RFC 1939 §3: status lines."""

    def test_what_a_status_line_says(self) -> None:
        """RFC 2449 §8: positive or not, response code, text."""
        cases = (
            (b"+OK", True, "", "''"),
            (b"+ok hello", True, "", "'hello'"),
            (b"-ERR", False, "", "''"),
            (b"-ERR [in-use] busy", False, "IN-USE", "'[in-use] busy'"),
            (b"-ERR [SYS/TEMP] later", False, "SYS/TEMP", "'[SYS/TEMP] later'"),
            (b"-ERR [] x", False, "", "'[] x'"),
            (b"-ERR a\x07b\xff", False, "", "'a\\\\x07b\\\\xff'"),
        )
        for line, positive, code, text in cases:
            found = Status.parse(line)
            self.assertEqual((found.positive, found.code, found.text, found.goes_on), (positive, code, text, False))
        self.assertTrue(Status.parse(b"+ abc").goes_on)

    def test_anything_else_is_no_answer(self) -> None:
        """Promise: what is no POP3 is told with its own words, cut."""
        for line in (b"", b"220 smtp.example ESMTP", b"+OKAY", b"* OK IMAP"):
            self.assertIn("not an answer of a POP3 server", str(self.assertRaises(Malformed, Status.parse, line)))
        self.assertLess(len(shown(b"x" * 5000)), 220)

    def test_codes_have_levels(self) -> None:
        """RFC 3206 §4: SYS/TEMP is a SYS, and SYSTEM is not."""
        self.assertTrue(Status.parse(b"-ERR [SYS/TEMP/DISK]").has("SYS/TEMP"))
        self.assertTrue(Status.parse(b"-ERR [SYS/TEMP]").has("SYS"))
        self.assertFalse(Status.parse(b"-ERR [SYSTEM]").has("SYS"))

    def test_timestamp_of_a_greeting(self) -> None:
        """RFC 1939 §7: what is in angle brackets and has the form of a msg-id."""
        self.assertEqual(stamp(Status.parse(b"+OK ready <1.2@host> x")), b"<1.2@host>")
        self.assertIsNone(stamp(Status.parse(b"+OK <nothing> here")))

    def test_messages_of_stat(self) -> None:
        """RFC 1939 §5: the first number; anything else is no answer to STAT."""
        self.assertEqual(count_of(Status.parse(b"+OK 2 320")), 2)
        for line in (b"+OK", b"+OK two 320", b"+OK 2", b"+OK -1 5", b"+OK 99999999999 1"):
            self.assertRaises(Malformed, count_of, Status.parse(line))


def taken(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """What a Body makes of pieces: text, whether it ended, what came behind."""
    body = Body()
    text = rest = b""
    for piece in pieces:
        if body.done:
            rest += piece
        else:
            text += body.feed(piece)
            rest = body.rest
    return text, body.done, rest


class BodyTests(SynchronousTestCase):
    """RFC 1939 §3: multi-line replies."""

    @given(st.data(), messages(), st.sampled_from((b"", b"+OK", b"+OK\r\n.\r\n")))
    def test_whatever_the_pieces_the_text_is_what_was_sent(
        self, data: st.DataObject, message: bytes, behind: bytes
    ) -> None:
        """Promise: dots come off and the end is found, for every message and every way to cut it."""
        encoder = Encoder()
        stuffed = encoder.feed(message) + encoder.finish()
        plain = b"".join(b"%s\r\n" % line.removeprefix(b".") for line in stuffed.split(b"\r\n")[:-1])
        pieces = data.draw(chunkings(stuffed + TERMINATOR + behind))
        self.assertEqual(taken(pieces), (plain, True, behind))

    def test_only_a_line_of_its_own_ends_it(self) -> None:
        """Promise: a dot between line feeds alone is a part of the message, and does not end it."""
        for text in (b"a\n.\nb\r\n", b"a\r\n.\nb\r\n", b"a\n.\r\nb\r\n", b"a\r.\rb\r\n"):
            expected = text.replace(b"\r\n.", b"\r\n")
            self.assertEqual(taken([text + b".\r\n"]), (expected, True, b""))

    def test_empty_and_unended(self) -> None:
        """Promise: a reply of no lines is empty; one that has not ended has not."""
        self.assertEqual(taken([b".\r\n"]), (b"", True, b""))
        self.assertEqual(taken([b".", b"\r", b"\n+OK"]), (b"", True, b"+OK"))
        self.assertEqual(taken([b"a\r\n."])[1], False)

    def test_dots_that_were_not_added_go_as_well(self) -> None:
        """RFC 1939 §3: a line that begins with a dot loses it, whatever follows."""
        self.assertEqual(taken([b".x\r\n..y\r\n.\r\n"])[0], b"x\r\n.y\r\n")


class ListingTests(SynchronousTestCase):
    """RFC 1939 §5 and §7: LIST and UIDL."""

    def test_lines_of_listings(self) -> None:
        """Promise: numbers from 1 on; what stands behind the size is not looked at (RFC 1939 §5)."""
        sizes, ids = ScanListing(), UniqueIdListing()
        for line in (b"1 120", b"2 200 more"):
            sizes.take(line)
        for line in (b"1 abc", b"2  de f "):
            ids.take(line)
        self.assertEqual((sizes.sizes, ids.unique_ids), ([120, 200], [b"abc", b"de f"]))

    def test_malformed_lines(self) -> None:
        """Promise: gaps, repetitions, words and empty lines are errors that quote the line."""
        for line in (b"", b"2 1", b"0 1", b"1", b"1 x", b"1 -1", b"one 1", b"1 9999999999999999", b"\xb9 1"):
            self.assertIn("LIST", str(self.assertRaises(Malformed, ScanListing().take, line)))
        for line in (b"", b"2 a", b"1", b"1 ", b"x a"):
            self.assertIn("UIDL", str(self.assertRaises(Malformed, UniqueIdListing().take, line)))

    def test_listings_are_bounded(self) -> None:
        """Promise: neither a line nor a listing goes on for ever."""
        self.assertRaises(Malformed, Lines().feed, b"x" * 2000)
        self.assertRaises(Malformed, Lines().feed, b"x" * 2000 + b"\r\n")
        sizes, ids = ScanListing(), UniqueIdListing()
        sizes.sizes = [1] * MOST_MESSAGES
        ids.unique_ids = [b"x"] * MOST_MESSAGES
        self.assertRaises(Malformed, sizes.take, b"%d 1" % (MOST_MESSAGES + 1))
        self.assertRaises(Malformed, ids.take, b"%d x" % (MOST_MESSAGES + 1))

    def test_capabilities(self) -> None:
        """RFC 2449 §5: names in any case; who does not tell may have everything."""
        found = Capabilities.parse(b"TOP\r\nsasl plain CRAM-MD5\r\nPIPELINING\r\n\r\n")
        self.assertEqual(found.sasl, {b"PLAIN", b"CRAM-MD5"})
        self.assertEqual((found.may(b"TOP"), found.may(b"UIDL"), Capabilities().may(b"UIDL")), (True, False, True))
