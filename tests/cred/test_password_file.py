"""Secrets in files."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.password_file import read_secret
from tpops.errors import ConfigError


class PasswordFileTests(SynchronousTestCase):
    """The first line of a file."""

    def write(self, octets: bytes, mode: int = 0o600) -> str:
        """A file."""
        path = Path(self.mktemp())
        path.write_bytes(octets)
        path.chmod(mode)
        return str(path)

    def test_first_line(self) -> None:
        """Without its end; spaces belong to it."""
        for octets in (b" a word ", b" a word \n", b" a word \r\nanother\n"):
            self.assertEqual(read_secret(self.write(octets, 0o640), "x"), " a word ")

    def test_what_is_refused(self) -> None:
        """With its path and the reason."""
        for path, said in (
            (self.write(b"geheim7\n", 0o644), "is open to everybody on this machine; chmod"),
            (self.write(b"geheim7\n", 0o602), "is open to everybody"),
            (self.write(b"\ngeheim7\n"), "is empty"),
            (self.write(b"\xff\n"), "is not UTF-8"),
            ("/nowhere/at all", "cannot read /nowhere/at all: No such file or directory"),
        ):
            problem = str(self.assertRaises(ConfigError, read_secret, path, "accounts source db"))
            self.assertIn(said, problem)
            self.assertTrue(problem.startswith("accounts source db: "))
            self.assertNotIn("geheim7", problem)
