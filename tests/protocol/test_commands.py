"""The table of verbs and the rules for arguments."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.errors import BadCommand
from tpops.protocol.commands import (
    AUTHORIZATION,
    COMMANDS,
    TRANSACTION,
    message_number,
    no_argument,
    number_and_lines,
)
from tpops.protocol.states import Authorization, Transaction


class TableTests(SynchronousTestCase):
    """The one table and the states agree."""

    def test_states_handle_exactly_what_the_table_says(self) -> None:
        """Every verb of the table is handled in its states, and no other is."""
        for state, verbs in ((AUTHORIZATION, Authorization.verbs), (TRANSACTION, Transaction.verbs)):
            self.assertEqual(set(verbs), {verb for verb, command in COMMANDS.items() if state in command.states})


class NumberTests(SynchronousTestCase):
    """Message numbers are strict."""

    def test_good_numbers(self) -> None:
        """RFC 1939 §5: decimal digits; spaces around them are tolerated."""
        for text, number in ((b"1", 1), (b" 7 ", 7), (b"2147483648", 2147483648), (b"007", 7)):
            self.assertEqual(message_number("RETR", text), number)

    def test_bad_numbers_are_refused(self) -> None:
        """No sign, no zero, no letters, no overflow, no second number."""
        for text in (
            b"", b" ", b"0", b"-1", b"+1", b"1x", b"x", b"1 2", b"1.0", b"1_0", b"0x1", b"99999999999999999999",
            "\N{ARABIC-INDIC DIGIT ONE}".encode(), b"\xb2", b"1\x00", b"\t1",
        ):  # fmt: skip
            self.assertRaises(BadCommand, message_number, "RETR", text)

    @given(st.binary(max_size=12))
    def test_only_digits_pass(self, text: bytes) -> None:
        """Whatever passes is made of digits and not zero."""
        try:
            number = message_number("DELE", text)
        except BadCommand:
            return
        self.assertEqual(number, int(text))
        self.assertGreater(number, 0)

    def test_top_needs_two_numbers(self) -> None:
        """RFC 1939 §7, TOP: message number and a count that may be zero."""
        self.assertEqual(number_and_lines(b"3 0"), (3, 0))
        self.assertEqual(number_and_lines(b" 3   10 "), (3, 10))
        for text in (b"", b"1", b"0 1", b"1 -1", b"1 x", b"1 1 1", b"x 1"):
            self.assertRaises(BadCommand, number_and_lines, text)

    def test_no_argument_tolerates_spaces_only(self) -> None:
        """A trailing space is no argument."""
        no_argument("STAT", b"  ")
        self.assertRaises(BadCommand, no_argument, "STAT", b" 1")
