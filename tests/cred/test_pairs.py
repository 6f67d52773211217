"""tpops.cred.pairs: tpop3d's format."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.pairs import MOST_OCTETS, Unpacking, packed

_PAIRS = st.dictionaries(
    st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8).filter(lambda key: key.strip("_")),
    st.binary(min_size=1, max_size=20).filter(lambda value: b"\0" not in value),
    max_size=6,
)


class PairsTests(SynchronousTestCase):
    """Making and taking apart."""

    @given(_PAIRS, st.lists(st.integers(0, 200), max_size=5))
    def test_any_chunking(self, pairs: dict[str, bytes], cuts: list[int]) -> None:
        """Promise: a packet gives its pairs, however it is cut, and nothing before its last octet."""
        packet = packed(pairs)
        at = sorted({min(cut, len(packet) - 1) for cut in cuts} | {0})
        unpacking = Unpacking()
        *first, last = (packet[begin:end] for begin, end in zip(at, [*at[1:], len(packet)], strict=True))
        self.assertEqual([unpacking.feed(piece) for piece in first], [None] * len(first))
        self.assertEqual(unpacking.feed(last), pairs)

    def test_bytes_of_tpop3d(self) -> None:
        """Promise: key NUL value NUL, and an empty key; empty values stay away in requests and count in replies."""
        self.assertEqual(packed({"method": b"PASS", "domain": b"", "user": b"joe"}), b"method\0PASS\0user\0joe\0\0")
        self.assertEqual(Unpacking().feed(b"logmsg\0\0result\0NO\0\0"), {"logmsg": b"", "result": b"NO"})

    def test_requests_that_cannot_be(self) -> None:
        """Promise: a NUL and too many octets are refused, and the text does not have the value."""
        for value in (b"secret\0admin", b"secret" + MOST_OCTETS * b"x"):
            error = self.assertRaises(ValueError, packed, {"pass": value})
            self.assertNotIn("secret", str(error))

    def test_replies_that_are_none(self) -> None:
        """Promise: what is not of the form, too long or more than one is refused."""
        for octets in (b"result\0YES\0\0more", b"\0\0", b"a b\0c\0\0", b"\xff\0c\0\0", (MOST_OCTETS + 1) * b"x"):
            self.assertRaises(ValueError, Unpacking().feed, octets)
        for octets in (b"", b"result", b"result\0", b"result\0YES\0"):
            self.assertIsNone(Unpacking().feed(octets))
