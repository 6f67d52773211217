"""L{tpops.events.text}."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.events.text import one_field, one_line


class OneFieldTests(SynchronousTestCase):
    """A name is one word of a log line, whatever is in it."""

    CASES: tuple[tuple[str | bytes, str], ...] = (
        ("joe@example.org", "joe@example.org"),
        (b"joe+x=y_z-1.2", "joe+x=y_z-1.2"),
        (b"", ""),
        (b"joe doe", "joe\\x20doe"),
        (b"a\r\nb", "a\\x0d\\x0ab"),
        (b"\x00\t\x1b[31m\x7f", "\\x00\\x09\\x1b[31m\\x7f"),
        (b"back\\x20slash", "back\\x5cx20slash"),
        (b"(joe)", "\\x28joe\\x29"),
        ("jörg", "jörg"),
        ("山田".encode(), "山田"),
        (b"caf\xe9", "caf\\xe9"),
        ("a\u2028b\u0085c", "a\\xe2\\x80\\xa8b\\xc2\\x85c"),
        ("\u202egro", "\\xe2\\x80\\xaegro"),
        ("\ud800", "\\xed\\xa0\\x80"),
        (b"x" * 201, "x" * 200),
        ("x" * 201, "x" * 200),
        ("x" * 199 + "é", "x" * 199 + "\\xc3"),
    )

    def test_table(self) -> None:
        """Promise: what a reader could take for something else is escaped, the rest stays."""
        for given_name, logged in self.CASES:
            self.assertEqual(one_field(given_name), logged, repr(given_name))

    @given(st.one_of(st.binary(max_size=250), st.text(max_size=250)))
    def test_any_name_is_one_short_printable_word(self, name: str | bytes) -> None:
        """Promise: no name has a space, a line end or a control character, or is longer than 800 octets."""
        logged = one_field(name)
        self.assertTrue(logged.isprintable())
        self.assertLessEqual(len(logged.split()), 1)
        self.assertLessEqual(len(logged.encode()), 800)

    @given(st.binary(max_size=8), st.binary(max_size=8))
    def test_different_names_are_logged_differently(self, one: bytes, other: bytes) -> None:
        """Promise: the escaped form is unambiguous."""
        self.assertEqual(one == other, one_field(one) == one_field(other))


class OneLineTests(SynchronousTestCase):
    """A reason for the log."""

    def test_table(self) -> None:
        """Promise: spaces stay, what could begin another line does not, and it has an end."""
        for given_text, logged in (
            ("joe has 5 octets", "joe has 5 octets"),
            ("jörg is open", "jörg is open"),
            ("a\nb\x1b[1m\u2028", "a\\x0ab\\x1b[1m\\xe2\\x80\\xa8"),
            ("x" * 600, "x" * 500),
        ):
            self.assertEqual(one_line(given_text), logged)
