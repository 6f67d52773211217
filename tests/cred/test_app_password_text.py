"""What application passwords and their names look like."""

from __future__ import annotations

import math
import re

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred import app_password_text
from tpops.cred.app_password_text import compact, generate


class TextTests(SynchronousTestCase):
    """Passwords are hard to guess and easy to type."""

    def test_generated_ones_have_100_bits_and_no_signs_that_look_alike(self) -> None:
        """Four groups of five from 32 signs; no two are the same."""
        made = {generate() for _ in range(200)}
        self.assertEqual(len(made), 200)
        for one in made:
            self.assertTrue(re.fullmatch(r"[a-km-np-z2-9]{5}(-[a-km-np-z2-9]{5}){3}", one), one)
        used = set("".join(made)) - {"-"}
        self.assertEqual(20 * math.log2(len(used)), 100)

    def test_how_it_is_typed_does_not_matter(self) -> None:
        """Dashes may be left out or be spaces, and letters capital."""
        for typed in (b"abcde-fghij-kmnpq-rstuv", b"abcdefghijkmnpqrstuv", b" Abcde fghij KMNPQ-rstuv "):
            self.assertEqual(compact(typed), b"abcdefghijkmnpqrstuv")

    def test_what_cannot_have_been_generated_is_none(self) -> None:
        """Too short, too long, signs that are not used, octets that are none of ASCII."""
        for typed in (
            b"",
            b"abcde-fghij-kmnpq-rstu",
            b"abcde-fghij-kmnpq-rstuvw",
            b"abcde-fghij-kmnpq-rstu1",
            b"abcde-fghij-kmnpq-rstu\n",
            b"abcde_fghij_kmnpq_rstuv",
            b"abcde-fghij-kmnpq-rst\xc3\xa4",
        ):
            self.assertIsNone(compact(typed), typed)

    def test_names_are_what_a_user_would_write(self) -> None:
        """Printable and not too long; so that every list shows them on one line."""
        for name in ("phone", "Büro, 2. Stock", "x" * 64):
            self.assertEqual(app_password_text.name(name), name)
        for name in ("", " ", "phone ", " phone", "two\nlines", "nul\0", "x" * 65, "\udcff"):
            self.assertIn("1 to 64 printable", str(self.assertRaises(ValueError, app_password_text.name, name)))
