"""tpops apppasswd and tpops check: whose rights are enough for what."""

from __future__ import annotations

import json
import os
import pathlib
import pwd

from tests.admin.test_app_passwords import AppPasswordCase
from tpops.admin import asker


class CheckTests(AppPasswordCase):
    """tpops check."""

    def test_is_content_with_what_the_commands_make(self) -> None:
        """Also before the first password."""
        self.ready()
        self.tpops("apppasswd", "key")
        self.assertIn("is right", self.tpops("check"))
        self.add("phone", "joe", "--apop")
        self.assertIn("is right", self.tpops("check"))

    def test_tells_what_is_missing(self) -> None:
        """The database, then the key file."""
        self.assertIn(f"problem: app_passwords: there is no database {self.database}", self.refused("check"))
        self.ready()
        self.assertIn(f"problem: app_passwords: cannot read the key file {self.key}", self.refused("check"))

    def test_tells_secrets_that_cannot_be_opened(self) -> None:
        """The first by name; and keys that are not configured."""
        self.ready()
        self.tpops("apppasswd", "key")
        for number in range(7):
            self.add(f"device {number}", "joe", "--apop")
        os.unlink(self.key)
        self.tpops("apppasswd", "key")
        said = self.refused("check")
        self.assertIn("app_passwords: 'device 4' of joe: ", said)
        self.assertNotIn("device 5", said)
        self.assertIn("app_passwords: 2 more that cannot be decrypted", said)
        text = pathlib.Path(self.config).read_text("utf-8")
        self.configure(text.replace('key_file = "app.key"\n', "", 1))
        self.assertIn("key_file is not set, and 7 application passwords are encrypted", self.refused("check"))

    def test_tells_rights_that_the_servers_user_lacks(self) -> None:
        """On the database, its directory and the key file."""
        self.ready()
        self.tpops("apppasswd", "key")
        text = pathlib.Path(self.config).read_text("utf-8")
        self.configure(text.replace("[server]", '[server]\nuser = "nobody"'))
        said = self.refused("check")
        self.assertIn(f"app_passwords.path: the server's user may not read and write {self.database}", said)
        self.assertIn(f"app_passwords.key_file: the server's user may not read {self.key}", said)
        os.chmod(self.database, 0o666)
        said = self.refused("check")
        self.assertIn(f"app_passwords.path: the server's user may not write in {self.directory}", said)

    def test_tells_damage(self) -> None:
        """A file that is no database."""
        pathlib.Path(self.database).write_bytes(b"no database" * 100)
        self.assertIn(f"app_passwords: cannot use {self.database}", self.refused("check"))


class SudoTests(AppPasswordCase):
    """Who is asked for, by what sudo says in the environment."""

    def setUp(self) -> None:
        super().setUp()
        self.ready()
        self.tpops("user", "add", "nobody", "--stdin", "--scheme", "PLAIN", stdin="x")
        self.patch(asker, "MACHINE_CONFIG", self.config)
        self.entry = pwd.getpwnam("nobody")
        self.patch(os, "geteuid", lambda: 4711)

    def sudo(self, uid: object, name: str) -> None:
        for key, value in (("SUDO_UID", str(uid)), ("SUDO_USER", name)):
            os.environ[key] = value
            self.addCleanup(os.environ.pop, key, None)

    def test_an_ordinary_user_has_his_own_only(self) -> None:
        """Without --user, or with his own name; others and all others' are refused."""
        self.add("phone", "ann")
        self.sudo(self.entry.pw_uid, "nobody")
        for arguments in ((), ("-u", "Nobody")):
            self.tpops("apppasswd", "add", f"tv {len(arguments)}", "--stdin", *arguments, stdin="a good password")
        listed = json.loads(self.tpops("apppasswd", "list", "--json"))
        self.assertEqual([(one["account"], one["name"]) for one in listed], [("nobody", "tv 0"), ("nobody", "tv 2")])
        for command in (("add", "x"), ("list",), ("revoke", "phone", "--yes"), ("revoke", "--all", "--yes")):
            said = self.refused("apppasswd", *command, "-u", "ann")
            self.assertIn("nobody has started this through sudo, so it works for nobody only", said)
        self.tpops("apppasswd", "revoke", "--all", "--yes")
        self.assertEqual([one.account for one in self.rows()], ["ann"])

    def test_an_ordinary_user_has_the_machines_configuration_only(self) -> None:
        """No other file, neither by option nor by environment nor in the present directory."""
        other = os.path.join(self.directory, "other")
        self.assertEqual(self.run_command("init", other).exit_code, 0)
        self.sudo(self.entry.pw_uid, "nobody")
        result = self.run_command("-c", os.path.join(other, "tpops.toml"), "apppasswd", "list")
        self.assertEqual(result.exit_code, 1)
        self.assertIn(f"users of sudo work with {self.config}; leave --config away", result.stderr)
        os.environ["TPOPS_CONFIG"] = os.path.join(other, "tpops.toml")
        self.addCleanup(os.environ.pop, "TPOPS_CONFIG")
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(other)
        result = self.run_command("apppasswd", "list", "--json")
        self.assertEqual((result.exit_code, result.stdout), (0, "[]\n"), result.output)

    def test_database_and_keys_are_the_administrators(self) -> None:
        """An ordinary user makes and changes neither."""
        self.sudo(self.entry.pw_uid, "nobody")
        for command in (("init",), ("key",), ("key", "--rotate"), ("key", "--drop-old")):
            self.assertIn("only an administrator may do this", self.refused("apppasswd", *command))
        self.assertFalse(os.path.exists(self.key))

    def test_what_sudo_says_must_be_true(self) -> None:
        """A name and a uid that do not belong together, half of it, or nobody's: nothing is done."""
        for uid, name in (
            ("0", "nobody"),
            (str(self.entry.pw_uid), ""),
            ("", "nobody"),
            (str(self.entry.pw_uid), "root"),
            ("x", "nobody"),
            (str(self.entry.pw_uid), "no-such-user"),
        ):
            self.sudo(uid, name)
            for command in (("list",), ("key",)):
                self.assertIn("SUDO_", self.refused("apppasswd", *command), (uid, name))

    def test_root_and_the_servers_user_are_administrators(self) -> None:
        """root who becomes the server's user; and whoever becomes himself."""
        self.sudo(0, "root")
        self.assertEqual(asker.ordinary_user(), None)
        self.sudo(self.entry.pw_uid, "nobody")
        self.assertEqual(asker.ordinary_user(), "nobody")
        self.patch(os, "geteuid", lambda: self.entry.pw_uid)
        self.assertEqual(asker.ordinary_user(), None)
