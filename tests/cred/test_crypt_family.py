"""libcrypt."""

from __future__ import annotations

import importlib.util

import crypt_r
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred import crypt_family


class CryptTests(SynchronousTestCase):
    """crypt(3) on octets."""

    def test_knows_yescrypt(self) -> None:
        """What today's /etc/shadow has (vector made by libxcrypt's own crypt)."""
        stored = "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$6foLM1JhGupouWKMU70wxK61Kw9ZnecbACjJwRadqM2"
        self.assertEqual(crypt_family.crypt(b"x", stored), stored)

    def test_a_method_that_this_machine_lacks_is_told(self) -> None:
        """Some systems have no bcrypt, for example."""
        self.patch(crypt_r, "METHOD_MD5", None)
        del crypt_r.METHOD_MD5
        self.assertRaises(ValueError, crypt_family.setting, "MD5-CRYPT")

    def test_a_missing_library_is_told(self) -> None:
        """A ValueError, which the verifier turns into LookupUnavailable."""
        crypt_family._libcrypt.cache_clear()
        self.patch(importlib.util, "find_spec", lambda name: None)
        self.assertRaises(ValueError, crypt_family.crypt, b"x", "$1$abcdefgh$")
