"""The secret of an installation."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.secret_file import SECRET_OCTETS, read_or_make


class SecretFileTests(SynchronousTestCase):
    """Made once, read ever after."""

    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.path = os.path.join(self.directory, "secret")

    def test_made_once(self) -> None:
        """Promise: mode 0600, always the same, and nothing else is left behind."""
        secret = read_or_make(self.path)
        self.assertEqual(len(secret), SECRET_OCTETS)
        self.assertEqual(read_or_make(self.path), secret)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(os.listdir(self.directory), ["secret"])

    def test_several_at_the_same_time(self) -> None:
        """Promise: processes that start together get the same."""
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(read_or_make, [self.path] * 32))
        self.assertEqual(len(found), 1)
        self.assertEqual(os.listdir(self.directory), ["secret"])

    def test_files_that_are_not_ours(self) -> None:
        """Promise: neither used nor overwritten."""
        for octets, mode in ((b"short", 0o600), (b"x" * 33, 0o600), (b"x" * SECRET_OCTETS, 0o644)):
            with open(self.path, "wb") as file:
                file.write(octets)
            os.chmod(self.path, mode)
            self.assertRaises(ValueError, read_or_make, self.path)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), octets)

    def test_directory_that_is_missing(self) -> None:
        """Promise: an OSError that says so."""
        self.assertRaises(FileNotFoundError, read_or_make, "/no/such/directory/secret")
