"""Passwords of TPOPS' tables, mode by mode, log in."""

from __future__ import annotations

from tests.cred.test_schemes import SchemeCase
from tpops.cred import schemes
from tpops.cred.legacy_schemes import TPOPS_MODES, from_tpops

#: "secret" in crypt(3), and its SHA-1.
CRYPTED = ("abNANd1rDfiNc", "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1")
SHA = ("e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4", "5en6G6MezRroT3XKqkdPOmY/BfQ=")


class TpopsTests(SchemeCase):
    """mysql-crypt-passwd."""

    def assert_secret(self, mode: str, text: str, password: bytes = b"secret") -> None:
        stored = from_tpops(mode, text)
        self.assertIs(self.answer(password, stored), True, stored)
        self.assertIs(self.answer(b"x" + password, stored), False, stored)

    def test_no(self) -> None:
        """The text is the password, whatever it looks like, and serves APOP."""
        for text in ("secret", "{SHA}x", "{", "!x", "*", "abNANd1rDfiNc", "tränka ☃"):
            self.assert_secret("no", text, text.encode())
            self.assertEqual(schemes.plain_secret(from_tpops("no", text)), text.encode())

    def test_crypt(self) -> None:
        """Traditional and newer hashes, with and without a label."""
        for mode in ("crypt", "yes"):
            for text in CRYPTED:
                self.assert_secret(mode, text)
                self.assert_secret(mode, "{CRYPT}" + text)

    def test_sha(self) -> None:
        """Hexadecimal and base64, with and without a label."""
        for mode in ("sha", "yes"):
            for text in (*SHA, SHA[0].upper()):
                self.assert_secret(mode, text)
                self.assert_secret(mode, "{SHA}" + text)
                self.assert_secret(mode, "{sha}" + text)

    def test_empty_and_locked(self) -> None:
        """They let nobody in."""
        for mode in TPOPS_MODES:
            self.assertIs(self.answer(b"", from_tpops(mode, "")), False)
            for text in ("!", "*", "*LK*") if mode != "no" else ():
                self.assertIs(self.answer(text.encode(), from_tpops(mode, text)), False)

    def test_unknown_mode(self) -> None:
        """The known ones are named."""
        self.assertIn("no, crypt, sha, yes", str(self.assertRaises(ValueError, from_tpops, "md5", "x")))
