"""Extended regular expressions that nobody can make slow."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tpops.patterns import Match, Pattern

#: Pieces that mean the same to Python, none of which can be empty and repeated.
_ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\+", "(ab|a)", "(b+a|c)", "[a-c]"])
_PIECES = st.tuples(_ATOMS, st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}"]))
_EXPRESSIONS = st.lists(_PIECES.map("".join), min_size=1, max_size=5).map("".join)
_ANCHORED = st.tuples(st.sampled_from(["", "^"]), _EXPRESSIONS, st.sampled_from(["", "$", "|b"])).map("".join)


class PatternTests(SynchronousTestCase):
    """What is found, and what is no expression."""

    def test_folder_of_popserv(self) -> None:
        """popserv: C{folder +([^%@/]*)} finds the folder, with the plus sign escaped or not."""
        for text in (r"\+([^%@/]*)", "+([^%@/]*)", "[+]([^%@/]*)"):
            pattern = Pattern(text)
            self.assertEqual(pattern.groups, 1)
            self.assertEqual(pattern.search("joe+lists@example.org"), Match(3, 9, "lists"))
            self.assertEqual(pattern.search("joe+"), Match(3, 4, ""))
            self.assertIsNone(pattern.search("joe@example.org"))

    def test_capital_letters_or_not(self) -> None:
        """POSIX, REG_ICASE: signs, ranges and what is excluded, in both directions."""
        for text, fits, misses in (
            ("^joe$", ["joe", "JOE"], ["jo"]),
            ("^JOE$", ["joe", "JOE"], ["jo"]),
            ("^[a-c]+$", ["abC", "ABC"], ["abd"]),
            ("^[^a]$", ["b", "B"], ["a", "A"]),
            ("^[[:upper:]]$", ["a", "A"], ["1"]),
            ("^Ä$", ["ä", "Ä"], ["a"]),
        ):
            pattern = Pattern(text, ignore_case=True)
            for one in (*fits, *misses):
                self.assertEqual(pattern.search(one) is not None, one in fits, f"{text} {one}")
        self.assertIsNone(Pattern("joe").search("JOE"))

    @settings(deadline=None)
    @given(_ANCHORED, st.text("abc+", max_size=12))
    def test_finds_what_python_finds(self, expression: str, text: str) -> None:
        """Promise: place and first group are those of a regular expression, whatever it is made of."""
        found = Pattern(expression).search(text)
        expected = re.search(expression, text)
        if expected is None:
            self.assertIsNone(found)
        else:
            group = expected[1] if expected.re.groups else None
            self.assertEqual(found, Match(*expected.span(), group))

    def test_classes_and_brackets(self) -> None:
        """XBD 9.3.5: classes, ranges, "]" first, "-" last, and a backslash that is itself."""
        for expression, fits, others in (
            ("^[[:digit:]x]+$", "12x", "12y"),
            ("^[]-]+$", "]-", "a"),
            ("^[^]]+$", "abc", "]"),
            (r"^[\n]+$", "\\n", "a"),
            ("^[[:alpha:]_]+$", "ä_b", "a1"),
            ("^[[:upper:]][[:lower:]]$", "Ab", "ab"),
            ("^[[:space:][:punct:]]+$", " .!", "a"),
            ("^[[:xdigit:]]{2}$", "fF", "fg"),
            ("^[[:alnum:]][[:blank:]][[:graph:]][[:print:]]$", "a\t. ", "a. "),
            ("^[[:cntrl:]]$", "\x07", "a"),
            ("^[a-]$", "-", "b"),
        ):
            self.assertIsNotNone(Pattern(expression).search(fits), expression)
            self.assertIsNone(Pattern(expression).search(others), expression)

    def test_tells_what_is_wrong(self) -> None:
        """Promise: each mistake has its name, for the operator."""
        for expression, what in (
            ("a(b", r'"\(" without'),
            ("a)b", r'"\)" without'),
            ("[ab", r'"\[" without'),
            ("a**{", '"{" without'),
            ("{2}", '"{" with nothing'),
            ("a{2,1}", "must grow"),
            ("a{256}", "must grow"),
            ("a{,2}", '"{" without'),
            ("[b-a]", "wrong way round"),
            ("[[:letter:]]", "known are"),
            ("[[.a.]]", "known are"),
            (r"\d+", "backslash"),
            ("a\\", "backslash"),
            (r"(a)\1", "backslash"),
            ("(((a{99}){99}){99})", "too long"),
            ("((a?){200}){200}", "too long"),
            ("(" * 30 + ")" * 30, "in each other"),
        ):
            self.assertRaisesRegex(ValueError, what, Pattern, expression)

    def test_no_text_makes_it_slow(self) -> None:
        """Promise: each character is looked at once by each step, also where Python would never come to an end."""
        for expression in ("(a+)+$", "((a|aa)+)+b", "(.*)*(.*)*x", "((a*)*)*b"):
            self.assertIsNone(Pattern(expression).search("a" * 2000 + "!"), expression)
