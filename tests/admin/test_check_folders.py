""" "tpops check" and folders in login names."""

from __future__ import annotations

import os
import pathlib

from tests.admin.test_cli import CommandCase

ACCOUNTS = '[[accounts]]\ndriver = "passwd_file"\npath = "users"\n'


class CheckFoldersTests(CommandCase):
    """A passwd-file with accounts that have the sign in their names."""

    def check(self, folders: str, *names: str) -> str:
        """What the command prints; it must find no problem."""
        os.makedirs(self.directory, exist_ok=True)
        users = pathlib.Path(self.directory, "users")
        users.touch(0o600)
        users.write_text("".join(f"{name}:{{PLAIN}}x::::/home/{name}:\n" for name in names))
        self.configure(ACCOUNTS + folders)
        return self.tpops("check")

    def test_tells_who_cannot_log_in(self) -> None:
        """Promise: with [folders], accounts whose own name would be taken apart are told, some by name."""
        names = ["joe", "ann@example.org", *(f"joe+{number}" for number in range(7))]
        told = self.check('[folders]\nseparator = "+"\n', *names)
        self.assertIn("warning: folders: 7 accounts of the source passwd_file cannot log in", told)
        self.assertIn("joe+0, joe+1, joe+2, joe+3, joe+4, ...", told)
        self.assertNotIn("ann@", told)

    def test_says_nothing_where_nothing_is_wrong(self) -> None:
        """Promise: neither without [folders], nor with another sign."""
        self.assertNotIn("warning: folders", self.check("", "joe+lists"))
        self.assertNotIn("warning: folders", self.check('[folders]\nseparator = "="\n', "joe+lists"))
