"""tpops init: the first command that somebody runs."""

from __future__ import annotations

import os
import pathlib
import pwd

from tests.admin.test_cli import CommandCase
from tests.support import need_root
from tpops.config.load import load


class InitTests(CommandCase):
    """tpops init."""

    def test_makes_a_configuration_that_is_right(self) -> None:
        """Commented, valid, on 127.0.0.1:1110, with an account database and the next steps."""
        result = self.run_command("init", self.directory)
        self.assertEqual(result.exit_code, 0)
        for step in ("user add", "check", "twistd -n tpops --config"):
            self.assertIn(step, result.stdout)
        config = load(self.config).config
        self.assertEqual([one.where for one in config.listen], ["127.0.0.1:1110"])
        self.assertEqual(config.mail.location, f"maildir:{self.directory}/mail/$(user)/Maildir")
        self.assertTrue(config.maildir.create)
        self.assertEqual(config.accounts[0].path, os.path.join(self.directory, "accounts.sqlite"))
        self.assertIn("is right", self.tpops("check"))

    def test_takes_a_port_and_the_present_directory(self) -> None:
        """tpops init --port 2110 --address 0.0.0.0, without DIR."""
        os.mkdir(self.directory)
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.directory)
        self.assertEqual(self.run_command("init", "--port", "2110", "--address", "0.0.0.0").exit_code, 0)
        self.assertEqual([one.where for one in load(self.config).config.listen], ["0.0.0.0:2110"])

    def test_an_address_is_an_address(self) -> None:
        """Names are refused, and nothing is made."""
        result = self.run_command("init", self.directory, "--address", "localhost")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("'localhost' does not appear to be an IPv4 or IPv6 address", result.stderr)
        self.assertFalse(os.path.exists(self.directory))

    def test_tells_root_what_is_left_to_do(self) -> None:
        """Started as root, somebody else should serve."""
        self.patch(os, "geteuid", lambda: 0)
        self.assertIn("You are root", self.run_command("init", self.directory).stdout)

    def test_what_is_written_lies_elsewhere(self) -> None:
        """tpops init --state-dir DIR: accounts and mail are there, the configuration is not."""
        state = os.path.abspath(self.mktemp())
        self.assertEqual(self.run_command("init", self.directory, "--state-dir", state).exit_code, 0)
        self.assertEqual(os.listdir(self.directory), ["tpops.toml"])
        config = load(self.config).config
        self.assertEqual(config.server.state_dir, state)
        self.assertEqual(config.accounts[0].path, os.path.join(state, "accounts.sqlite"))
        self.assertIn(f"mail in {state}/mail/joe/Maildir", self.tpops("user", "add", "joe", "--stdin", stdin="secret"))

    def test_root_gives_it_to_the_server_s_user(self) -> None:
        """tpops init --user NAME: what is written is his, the configuration is root's and his group may read it."""
        need_root(self, "what is tested")
        nobody = pwd.getpwnam("nobody")
        state = os.path.join(self.directory, "state")
        told = self.run_command("init", self.directory, "--state-dir", state, "--user", "nobody").stdout
        self.assertNotIn("You are root", told)
        self.assertEqual(load(self.config).config.server.user, "nobody")
        self.assertIn("is right", self.tpops("check"))
        expected = {
            "": (0, nobody.pw_gid, 0o750),
            "tpops.toml": (0, nobody.pw_gid, 0o640),
            "state": (nobody.pw_uid, nobody.pw_gid, 0o750),
            "state/accounts.sqlite": (nobody.pw_uid, nobody.pw_gid, 0o600),
            "state/mail": (nobody.pw_uid, nobody.pw_gid, 0o700),
        }
        found = {}
        for path in expected:
            facts = os.stat(os.path.join(self.directory, path))
            found[path] = (facts.st_uid, facts.st_gid, facts.st_mode & 0o777)
        self.assertEqual(found, expected)

    def test_a_user_who_does_not_exist_is_told(self) -> None:
        """Nothing is made then, nor for a user whom only root could give it to."""
        self.assertIn("there is no user 'gone' on this machine", self.refused("init", self.directory, "--user", "gone"))
        self.patch(os, "geteuid", lambda: 12345)
        self.assertIn("only root can make files", self.refused("init", self.directory, "--user", "nobody"))
        self.assertFalse(os.path.exists(self.directory))

    def test_never_overwrites(self) -> None:
        """What is there stays, and the other file is not made."""
        for name in ("tpops.toml", "accounts.sqlite"):
            os.makedirs(self.directory, exist_ok=True)
            there = os.path.join(self.directory, name)
            pathlib.Path(there).write_text("mine", "utf-8")
            self.assertIn(f"{there} is there already; nothing was changed", self.refused("init", self.directory))
            self.assertEqual(os.listdir(self.directory), [name])
            os.remove(there)

    def test_a_directory_that_cannot_be_made_is_told(self) -> None:
        """One line with path and reason."""
        pathlib.Path(self.directory).write_text("a file", "utf-8")
        message = self.refused("init", self.directory + "/below")
        self.assertEqual(message.count("\n"), 1)
        self.assertIn("Not a directory", message)
