"""SASLprep of passwords."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.protocol.saslprep import prepared


class PreparedTests(SynchronousTestCase):
    """RFC 4013."""

    def test_examples(self) -> None:
        """RFC 4013 section 3."""
        for given, expected in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
        ):
            self.assertEqual(prepared(given.encode()), expected.encode())

    def test_spaces(self) -> None:
        """RFC 4013 section 2.1: every other space is a space; ASCII ones stay, also at the ends."""
        self.assertEqual(prepared(" a\u3000b\u1680c\u00a0".encode()), b" a b c ")

    def test_right_to_left(self) -> None:
        """RFC 3454 section 6."""
        self.assertEqual(prepared("\u0627\ufe8f1\u0628".encode()), "\u0627\u06281\u0628".encode())
        for mixed in ("\ufe8f1", "1\ufe8f", "\ufe8fa\ufe8f"):
            self.assertEqual(prepared(mixed.encode()), mixed.encode())

    def test_what_cannot_be_prepared_stays(self) -> None:
        """Promise: nobody is locked out by a password that SASLprep forbids, or that is not UTF-8."""
        for password in (b"\xe9", "\ufb01\u0007".encode(), "\ufb01\ue000".encode(), "\u00ad".encode(), b""):
            self.assertEqual(prepared(password), password)
