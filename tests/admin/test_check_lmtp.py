"""What "tpops check" says about LMTP."""

from __future__ import annotations

import os

from tests.admin.test_cli import CommandCase


class CheckLMTPTests(CommandCase):
    """See the module."""

    def check(self, lmtp: str, more: str = "") -> None:
        """Write a configuration that is right but for these lines."""
        os.makedirs(self.directory, exist_ok=True)
        with open(os.path.join(self.directory, "users"), "w", encoding="utf-8") as users:
            users.write("joe:{PLAIN}x::::/home/joe:\n")
        os.chmod(users.name, 0o640)
        self.configure(f'[[accounts]]\ndriver = "passwd_file"\npath = "users"\n[lmtp]\n{lmtp}\n{more}\n')

    def test_right(self) -> None:
        """A socket in a directory that is there."""
        self.check('listen = ["unix:/tmp/lmtp", "[::1]:24", "127.0.0.1:24"]', '[delivery]\nspool_dir = "."')
        self.assertNotIn("warning: lmtp", self.tpops("check"))

    def test_problems(self) -> None:
        """Directories that are not there, a path that is too long."""
        self.check(f'listen = ["unix:nowhere/lmtp", "unix:{"x" * 120}"]', '[delivery]\nspool_dir = "none"')
        message = self.refused("check")
        for words in (
            f"lmtp.listen: there is no directory {self.directory}/nowhere for the socket",
            "is longer than 107 octets",
            f"delivery.spool_dir: there is no directory {self.directory}/none",
        ):
            self.assertIn(words, message)

    def test_unknown_group(self) -> None:
        """As the start would say it."""
        self.check('listen = ["unix:lmtp"]\nsocket_group = "no-such-group"')
        self.assertIn("lmtp.socket_group: there is no group 'no-such-group'", self.refused("check"))

    def test_places(self) -> None:
        """What is no place is told with what would be one."""
        for bad, words in (
            ('"127.0.0.1"', 'must be "unix:" and a path, or an IP address and a port'),
            ('"127.0.0.1:70000"', 'must be "unix:" and a path'),
            ('"mail.example.org:24"', "must be an IP address"),
            ('"::1:24"', 'must be "unix:" and a path'),
            ('"unix:"', 'must have a path after "unix:"'),
            ('"[::1]:24", "[0:0::1]:24"', "has a place in listen twice"),
        ):
            self.check(f"listen = [{bad}]")
            self.assertIn(words, self.refused("check"))

    def test_other_machines(self) -> None:
        """A warning, for there is no password."""
        self.check('listen = ["0.0.0.0:24", "127.0.0.1:25"]')
        said = self.tpops("check")
        self.assertIn("warning: lmtp.listen: other machines get to 0.0.0.0:24", said)
        self.assertNotIn("127.0.0.1:25", said)
