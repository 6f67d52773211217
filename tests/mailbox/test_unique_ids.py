"""Unique-ids of messages in a Maildir."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.mailbox.support import unhurried
from tpops.mailbox.unique_ids import base_name, from_base, from_twin, is_twin, may_be_twin, parse_map, valid

#: Inode and time.
FILE = st.tuples(st.integers(1, 1 << 60), st.integers(1, 1 << 60))


class UniqueIdTests(SynchronousTestCase):
    """RFC 1939 section 7."""

    def test_valid(self) -> None:
        """RFC 1939 §7: 1 to 70 octets in 0x21-0x7E."""
        for good in (b"!", b"~", b"a" * 70, b"1700000000.M1P2.host,S=3"):
            self.assertTrue(valid(good), good)
        for bad in (b"", b"a" * 71, b"a b", b"\x7f", b"\x80", b"a\n", b"a\r\n", b"\0"):
            self.assertFalse(valid(bad), bad)

    def test_base_name(self) -> None:
        """Promise: what comes before the first ':' is what qmail-pop3d, TPOPS and Courier take."""
        self.assertEqual(base_name(b"17.M1.host,S=3:2,S"), b"17.M1.host,S=3")
        self.assertEqual(base_name(b"17:2,:x"), b"17")
        self.assertEqual(base_name(b"17"), b"17")
        self.assertEqual(base_name(b":2,"), b"")

    @unhurried
    @given(st.binary(max_size=90))
    def test_every_base_name_has_one(self, base: bytes) -> None:
        """RFC 1939 §7: a good base name is its own unique-id, any other one has a valid, stable one."""
        unique_id = from_base(base)
        self.assertTrue(valid(unique_id))
        self.assertEqual(unique_id == base, valid(base))
        self.assertEqual(from_base(base), unique_id)
        self.assertFalse(may_be_twin(unique_id, base))

    def test_hashes_never_change(self) -> None:
        """RFC 1939 §7: unique-ids outlive versions of tpops, so these are fixed for good."""
        self.assertEqual(from_base(b"a b"), b"c8687a08aa5d6ed2044328fa6a697ab8e96dc342")
        self.assertEqual(from_twin(b"a", (7, 9)), b"6450482ddff3e8ef60c89f5a837c0d154c026eb1")

    @unhurried
    @given(st.binary(max_size=90), FILE, FILE, st.integers(0, 15))
    def test_twins_are_known_by_their_file(
        self, base: bytes, file: tuple[int, int], other: tuple[int, int], nth: int
    ) -> None:
        """Promise: the unique-id of a twin tells its file from others, whatever they are called."""
        unique_id = from_twin(base, file, nth)
        self.assertTrue(valid(unique_id))
        self.assertTrue(is_twin(unique_id, base, file))
        self.assertEqual(is_twin(unique_id, base, other), other == file)
        self.assertFalse(is_twin(unique_id, base + b"x", file))
        self.assertFalse(is_twin(from_base(base), base, file))


class MapTests(SynchronousTestCase):
    """The file tpops_uidl of TPOPS 0.6.4."""

    def test_reads_lines(self) -> None:
        """Promise: lines of file name, TAB and unique-id; flags in the name do not matter."""
        self.assertEqual(
            parse_map(b"17.a:2,S\tone\n18.b\ttwo\r\n19.c\tthree"), {b"17.a": b"one", b"18.b": b"two", b"19.c": b"three"}
        )

    def test_leaves_bad_lines_out(self) -> None:
        """RFC 1939 §7: what is no line of a map, or no unique-id, leaves the message's own."""
        text = (
            b"\n\t\nno tab\n17.a\t\n\tone\n18.b\ttwo words\n19.c\t"
            + b"x" * 71
            + b"\n20.d\t\xff\n21.e\ta\tb\n22.f\tok\n"
        )
        self.assertEqual(parse_map(text), {b"22.f": b"ok"})

    def test_last_line_counts(self) -> None:
        """Promise: of two lines for one message the later one counts, as when the file was appended to."""
        self.assertEqual(parse_map(b"17.a\told\n17.a:2,S\tnew\n"), {b"17.a": b"new"})
