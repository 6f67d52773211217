"""libcrypt."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred import crypt_family


class CryptTests(SynchronousTestCase):
    """crypt(3) on octets."""

    def test_knows_yescrypt(self) -> None:
        """What today's /etc/shadow has (vector made by libxcrypt's own crypt)."""
        stored = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$6foLM1JhGupouWKMU70wxK61Kw9ZnecbACjJwRadqM2"
        self.assertEqual(crypt_family.crypt(b"x", stored), stored)

    def test_settings_of_all_schemes(self) -> None:
        """Promise: each is one that libcrypt takes as it is, new each time, with as many rounds as are told."""
        for scheme in ("CRYPT", "BLF-CRYPT", "DES-CRYPT", "MD5-CRYPT", "SHA256-CRYPT", "SHA512-CRYPT"):
            setting = crypt_family.setting(scheme)
            self.assertTrue(crypt_family.crypt(b"x", setting).startswith(setting), setting)
            self.assertNotEqual(crypt_family.setting(scheme), setting)
            told = crypt_family.rounds(scheme)
            if told is not None:
                self.assertIn(f"rounds={told}$" if "SHA" in scheme else f"${told.bit_length() - 1}$", setting)

    def test_a_method_that_this_machine_lacks_is_told(self) -> None:
        """Some systems have no bcrypt, for example."""
        self.addCleanup(crypt_family._known.cache_clear)
        for begin in ("$nothing$", "$2z$11$"):
            crypt_family._known.cache_clear()
            self.patch(crypt_family, "_METHODS", {"MD5-CRYPT": (begin, 8, None)})
            self.assertRaises(ValueError, crypt_family.setting, "MD5-CRYPT")

    def test_a_missing_library_is_told(self) -> None:
        """A ValueError, which the verifier turns into LookupUnavailable."""
        self.addCleanup(crypt_family._libcrypt.cache_clear)
        crypt_family._libcrypt.cache_clear()
        self.patch(crypt_family, "_LIBRARIES", ("libnothing.so.1", "libm.so.6"))
        self.assertRaises(ValueError, crypt_family.crypt, b"x", "$1$abcdefgh$")
