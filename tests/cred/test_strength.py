"""Which stored passwords are weaker than a new one would be."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.cred import test_hashes, test_schemes
from tpops.config.schema import Passwords
from tpops.cred import hashes, schemes
from tpops.cred.strength import is_weaker

#: The wanted schemes of the configuration.
TARGETS = tuple(name for name in get_args(Passwords.model_fields["rehash"].annotation) if name)

ARGON2 = "{{ARGON2ID}}$argon2id$v=19$m={},t={},p=1$pHX9Zlukxev8pQQC9tnOEA$Pmh4mrFQRV3WDKF6y7m3Joms4Yh9xOjKKjyxSCfeOxI"
BCRYPT = "{{{}}}$2y${}$HWAUO7yfx4Q/.BDgNM8UuOnB4G3Q9th0ysNIMfdaYPPoNX5N0gmQK"
PBKDF2 = "{{PBKDF2}}$1$gplZsafvktQH.X1E${}$7e95b4bbc20752ae8b52021f728236b3ebe84b6a"
SCRAM = "{{SCRAM-SHA-1}}{},Ah8HxLrJPHmJeTYNOH+p7w==,0B+zwFSvZfNjFcqcYJTpw8dmysw=,f4HW/mSb1XXzzYNfzz5URhehuwY="


class StrengthTests(SynchronousTestCase):
    """is_weaker."""

    def assert_weaker(self, stored: str, scheme: str, weaker: bool) -> None:
        self.assertIs(is_weaker(stored, scheme), weaker, f"{stored} {scheme}")

    def test_what_is_wanted_is_known_and_made(self) -> None:
        """Every choice of the configuration; what has just been made is not weaker than itself."""
        self.assertGreater(len(TARGETS), 5)
        for name in TARGETS:
            self.assert_weaker(hashes.hash_password(b"secret", name), name, False)

    def test_every_cheap_scheme_is_weaker_than_every_wanted_one(self) -> None:
        """Digests, salted or not, MySQL's, old crypt(3) and plain passwords."""
        stored = [one for one in test_hashes.DOVECOT + test_schemes.DOVECOT + test_schemes.TPOP3D if one]
        cheap = [one for one in stored if not schemes.parse(one)[0].slow] + ["{MYSQL}6f8c114b58f2ce9e"]
        self.assertGreater(len(cheap), 30)
        for one in (*cheap, "{CRYPT}vc.gw6FPx.eSc", "vc.gw6FPx.eSc", "{CRYPT}$1$M2wT3ZIl$eprse14oGgdHmmaCn0P531"):
            for name in TARGETS:
                self.assert_weaker(one, name, True)

    def test_work_counts_within_a_scheme(self) -> None:
        """Dovecot's costs and ours."""
        for stored, scheme, weaker in (
            (ARGON2.format(65536, 3), "argon2id", False),
            (ARGON2.format(19456, 2), "argon2id", False),
            (ARGON2.format(19456, 1), "ARGON2ID", True),
            (BCRYPT.format("BLF-CRYPT", "05"), "blf-crypt", True),
            (BCRYPT.format("CRYPT", "11"), "blf-crypt", False),
            (PBKDF2.format(5000), "pbkdf2", True),
            (PBKDF2.format(100_000), "pbkdf2", False),
            (SCRAM.format(4096), "scram-sha-1", True),
            (SCRAM.format(4096), "scram-sha-256", True),
            (SCRAM.format(100_000), "scram-sha-1", False),
            ("{SHA512-CRYPT}$6$salt$x", "sha512-crypt", True),
            ("$6$rounds=50000$salt$x", "sha512-crypt", False),
            ("$6$rounds=49999$salt$x", "sha512-crypt", True),
        ):
            self.assert_weaker(stored, scheme, weaker)

    def test_a_better_scheme_is_never_weaker(self) -> None:
        """Nobody's hash becomes a worse one."""
        for stored, scheme in (
            (ARGON2.format(19456, 1), "blf-crypt"),
            ("{ARGON2I}" + ARGON2.format(19456, 1).partition("}")[2], "argon2i"),
            (BCRYPT.format("CRYPT", "05"), "sha512-crypt"),
            ("$y$j9T$salt$x", "blf-crypt"),
            ("$6$salt$x", "sha256-crypt"),
        ):
            self.assert_weaker(stored, scheme, False)
        self.assert_weaker("$y$j9T$salt$x", "argon2id", True)

    @given(st.sampled_from(schemes.names()), st.text("$*1,=aArounds2b", max_size=70), st.sampled_from(TARGETS))
    def test_any_stored_text_gives_an_answer_or_a_value_error(self, name: str, text: str, scheme: str) -> None:
        """Broken data is no crash."""
        try:
            self.assertIn(is_weaker(f"{{{name}}}{text}", scheme), (True, False))
        except ValueError:
            pass
