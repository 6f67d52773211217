"""tpops apppasswd: what is typed, what is seen, and what is in the database then."""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import re
import stat

from tests.admin.test_cli import CommandCase
from tests.support import need_root
from tpops.admin import app_passwords
from tpops.cred import hashes
from tpops.cred.app_password_store import AppPassword, AppPasswordStore
from tpops.cred.sealing import KeyFile

_SHOWN = re.compile(r"[a-z2-9]{5}(-[a-z2-9]{5}){3}\n")


class AppPasswordCase(CommandCase):
    """A configuration with two accounts."""

    settings = 'path = "app.sqlite"\nkey_file = "app.key"\n'

    def setUp(self) -> None:
        super().setUp()
        # The tests themselves may have been started through sudo.
        for name in ("SUDO_UID", "SUDO_USER"):
            value = os.environ.pop(name, None)
            if value is not None:
                self.addCleanup(os.environ.__setitem__, name, value)
        self.init()
        text = pathlib.Path(self.config).read_text("utf-8")
        self.configure(re.sub(r"(?m)^\[app_passwords\]$", f"[app_passwords]\n{self.settings}", text))
        for name in ("joe", "ann"):
            self.tpops("user", "add", name, "--stdin", "--scheme", "PLAIN", stdin="own password")
        self.database, self.key = (os.path.join(self.directory, name) for name in ("app.sqlite", "app.key"))

    def ready(self) -> None:
        self.tpops("apppasswd", "init")

    def rows(self) -> list[AppPassword]:
        store = AppPasswordStore(self.database)
        self.addCleanup(store.close)
        return store.all()

    def add(self, name: str = "phone", user: str = "joe", *options: str) -> str:
        """Add a generated one; gives it."""
        result = self.run_command("-c", self.config, "apppasswd", "add", name, "--user", user, *options)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertTrue(_SHOWN.fullmatch(result.stdout), result.stdout)
        return result.stdout.strip()


class AddTests(AppPasswordCase):
    """A new one is made, stored, and shown once."""

    def test_shows_the_password_on_standard_output_and_nothing_else(self) -> None:
        """What is said about it is on standard error; the database has a hash that fits and not the password."""
        self.ready()
        result = self.run_command("-c", self.config, "apppasswd", "add", "phone", "-u", "Joe")
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("'phone' of joe; it is shown only now", result.stderr)
        shown = result.stdout.strip()
        (row,) = self.rows()
        self.assertEqual((row.account, row.name, row.chosen, row.secret), ("joe", "phone", False, None))
        self.assertTrue(row.password_hash.startswith("{SSHA256}"))
        self.assertTrue(hashes.password_is(shown.replace("-", "").encode(), row.password_hash))
        self.assertNotIn(shown, self.tpops("apppasswd", "list", "--json"))
        stored = pathlib.Path(self.database).read_bytes()
        self.assertFalse(shown.encode() in stored or shown.replace("-", "").encode() in stored)

    def test_asks_twice_for_one_that_the_user_chooses(self) -> None:
        """Hidden; two different ones are asked for again; stored as the password of an account is."""
        self.ready()
        typed = "a good password\na good Password\na good password\na good password\n"
        result = self.run_command("-c", self.config, "apppasswd", "add", "tv", "-u", "joe", "--ask", stdin=typed)
        self.assertEqual((result.exit_code, result.stdout), (0, "added 'tv' for joe\n"))
        self.assertIn("The same again", result.stderr)
        self.assertNotIn("a good", result.output)
        (row,) = self.rows()
        self.assertTrue(row.chosen)
        self.assertTrue(row.password_hash.startswith("{ARGON2ID}"))
        self.assertTrue(hashes.password_is(b"a good password", row.password_hash))

    def test_takes_one_from_standard_input(self) -> None:
        """The first line, for scripts."""
        self.ready()
        self.tpops("apppasswd", "add", "tv", "-u", "joe", "--stdin", stdin="a good password\r\nnot this\n")
        self.assertTrue(hashes.password_is(b"a good password", self.rows()[0].password_hash))

    def test_a_chosen_one_has_a_minimum_length(self) -> None:
        """Characters count, not octets; an empty one is too short as well."""
        self.ready()
        for typed, count in (("", 0), ("elevenchars", 11), ("ä" * 11, 11)):
            said = self.refused("apppasswd", "add", "tv", "-u", "joe", "--stdin", stdin=f"{typed}\n")
            self.assertEqual(said, f"Error: it has {count} characters, and at least 12 are needed\n")
        self.tpops("apppasswd", "add", "tv", "-u", "joe", "--stdin", stdin="ä" * 12)
        self.assertEqual(len(self.rows()), 1)

    def test_keeps_the_password_encrypted_for_apop(self) -> None:
        """Only with --apop; the key file's first key opens it."""
        self.ready()
        self.tpops("apppasswd", "key")
        shown = self.add("phone", "joe", "--apop")
        self.add("scanner")
        phone, scanner = self.rows()
        assert phone.secret is not None
        self.assertEqual(KeyFile(self.key).unseal(phone.secret, phone.about), shown.encode())
        self.assertIsNone(scanner.secret)
        self.assertNotIn(shown.encode(), pathlib.Path(self.database).read_bytes())

    def test_apop_needs_its_key(self) -> None:
        """A key file that is missing or open to everybody is told, and nothing is added."""
        self.ready()
        self.assertIn("cannot read the key file", self.refused("apppasswd", "add", "x", "-u", "joe", "--apop"))
        self.tpops("apppasswd", "key")
        os.chmod(self.key, 0o644)
        self.assertIn(f"chmod 600 {self.key}", self.refused("apppasswd", "add", "x", "-u", "joe", "--apop"))
        self.assertEqual(self.rows(), [])

    def test_mistypes_are_told(self) -> None:
        """A name twice, names that are none, an account that nobody has, no account."""
        self.ready()
        self.add()
        for arguments, why in (
            (("phone", "-u", "joe"), "joe has an application password 'phone' already"),
            (("two\nlines", "-u", "joe"), "1 to 64 printable characters"),
            (("x", "-u", "jo"), "no accounts source has an account jo"),
            (("x", "-u", "../joe"), "cannot be a login name"),
        ):
            self.assertIn(why, self.refused("apppasswd", "add", *arguments))
        result = self.run_command("-c", self.config, "apppasswd", "add", "x")
        self.assertEqual(result.exit_code, 2)
        self.assertIn("name the account with --user", result.stderr)
        self.assertEqual(len(self.rows()), 1)

    def test_an_accounts_source_that_fails_is_no_reason_to_refuse(self) -> None:
        """The name may be right."""
        self.ready()
        os.rename(os.path.join(self.directory, "accounts.sqlite"), os.path.join(self.directory, "away"))
        self.add(user="nobody")


class ListTests(AppPasswordCase):
    """What there is."""

    def test_lists_those_of_one_account_or_of_all(self) -> None:
        """A table for people, JSON for programs; times in UTC."""
        self.ready()
        self.patch(app_passwords.time, "time", lambda: 1_800_000_000.0)
        self.add("scanner")
        self.add("phone")
        self.tpops("apppasswd", "add", "tv", "-u", "ann", "--stdin", stdin="a good password")
        with AppPasswordStore(self.database).writing() as writer:
            writer.note_used({("joe", "phone"): 1_800_000_060})
        phone = {
            "account": "joe",
            "name": "phone",
            "created": "2027-01-15T08:00:00Z",
            "last_used": "2027-01-15T08:01:00Z",
            "chosen": False,
            "apop": False,
        }
        scanner = {**phone, "name": "scanner", "last_used": None}
        tv = {**scanner, "account": "ann", "name": "tv", "chosen": True}
        self.assertEqual(json.loads(self.tpops("apppasswd", "list", "--json")), [tv, phone, scanner])
        self.assertEqual(json.loads(self.tpops("apppasswd", "list", "--json", "-u", "JOE")), [phone, scanner])
        table = self.tpops("apppasswd", "list")
        lines = [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in table.splitlines() if line[0] in "│┃"]
        self.assertEqual(lines[0], ["Account", "Name", "Made", "Last used", "APOP"])
        self.assertEqual(lines[1], ["ann", "tv", "2027-01-15T08:00:00Z", "never", "no"])
        self.assertEqual(lines[2], ["joe", "phone", "2027-01-15T08:00:00Z", "2027-01-15T08:01:00Z", "no"])

    def test_an_account_without_any_has_an_empty_list(self) -> None:
        """For programs too."""
        self.ready()
        self.assertEqual(json.loads(self.tpops("apppasswd", "list", "--json", "-u", "joe")), [])


class RevokeTests(AppPasswordCase):
    """What is lost is revoked."""

    def setUp(self) -> None:
        super().setUp()
        self.ready()
        self.add("phone")
        self.add("scanner")
        self.add("phone", "ann")

    def left(self) -> list[tuple[str, str]]:
        return [(one.account, one.name) for one in self.rows()]

    def test_asks_before(self) -> None:
        """Only "y" is a yes; --yes does not ask."""
        command = ("apppasswd", "revoke", "phone", "-u", "joe")
        for answer in ("n\n", "\n", ""):
            self.assertIn("Aborted!", self.refused(*command, stdin=answer))
        self.assertEqual(len(self.left()), 3)
        self.assertIn("Revoke the application password 'phone' of joe?", self.tpops(*command, stdin="y\n"))
        self.tpops("apppasswd", "revoke", "scanner", "-u", "joe", "--yes")
        self.assertEqual(self.left(), [("ann", "phone")])

    def test_revokes_all_of_an_account(self) -> None:
        """After a break-in, in one step."""
        said = self.tpops("apppasswd", "revoke", "--all", "-u", "joe", stdin="y\n")
        self.assertIn("all 2 application passwords of joe?", said)
        self.assertIn("revoked 2 application passwords of joe; open sessions go on", said)
        self.assertEqual(self.left(), [("ann", "phone")])

    def test_mistypes_are_told(self) -> None:
        """With what there is."""
        said = self.refused("apppasswd", "revoke", "phon", "-u", "joe", "--yes")
        self.assertIn("joe has no application password 'phon'; there are: phone, scanner", said)
        said = self.refused("apppasswd", "revoke", "phone", "-u", "eve", "--yes")
        self.assertIn("eve has no application password 'phone'; there is none", said)
        for arguments in ((), ("phone", "--all")):
            result = self.run_command("-c", self.config, "apppasswd", "revoke", *arguments, "-u", "joe")
            self.assertEqual(result.exit_code, 2)
            self.assertIn("or --all", result.stderr)
        self.assertEqual(len(self.left()), 3)

    def test_what_somebody_else_has_revoked_meanwhile_is_told(self) -> None:
        """While the question was open."""

        def meanwhile(*_: object, **__: object) -> bool:
            with AppPasswordStore(self.database).writing() as writer:
                return writer.revoke("joe", "phone")

        self.patch(app_passwords.click, "confirm", meanwhile)
        self.assertIn("somebody else has just", self.refused("apppasswd", "revoke", "phone", "-u", "joe"))

    def test_they_go_with_the_account(self) -> None:
        """Whoever gets the name next has none of them."""
        said = self.tpops("user", "remove", "joe", "--yes")
        self.assertEqual(said, "removed joe; its mail is still there, its 2 application passwords are revoked\n")
        self.assertEqual(self.left(), [("ann", "phone")])
        self.tpops("user", "add", "joe", "--stdin", "--scheme", "PLAIN", stdin="x")
        self.assertEqual(self.tpops("user", "remove", "joe", "--yes"), "removed joe; its mail is still there\n")


class KeyTests(AppPasswordCase):
    """Keys are made and replaced."""

    def test_makes_a_key_file_once(self) -> None:
        """Private; never over another."""
        self.assertIn(f"made {self.key}; keep a copy", self.tpops("apppasswd", "key"))
        self.assertEqual(stat.S_IMODE(os.stat(self.key).st_mode), 0o600)
        self.assertIn(f"{self.key}: File exists", self.refused("apppasswd", "key"))

    def test_replaces_a_key_in_two_steps(self) -> None:
        """Everything is encrypted anew; the old key goes only when nothing needs it."""
        self.ready()
        self.tpops("apppasswd", "key")
        shown = [self.add("phone", "joe", "--apop"), self.add("tv", "ann", "--apop")]
        self.add("scanner")
        old = KeyFile(self.key)
        old.check()
        self.assertIn("2 application passwords are encrypted with it", self.tpops("apppasswd", "key", "--rotate"))
        keys = KeyFile(self.key)
        sealed = [one for one in self.rows() if one.secret is not None]
        self.assertEqual([keys.unseal(one.secret, one.about).decode() for one in sealed], shown[::-1])
        self.assertTrue(all(keys.is_current(one.secret) for one in sealed))
        self.assertIn("1 old keys are gone", self.tpops("apppasswd", "key", "--drop-old"))
        self.assertEqual([keys.unseal(one.secret, one.about).decode() for one in sealed], shown[::-1])

    def test_a_key_that_is_needed_is_not_dropped(self) -> None:
        """An application password that an old key encrypts keeps it."""
        self.ready()
        self.tpops("apppasswd", "key")
        self.add("phone", "joe", "--apop")
        KeyFile(self.key).rotate()
        before = pathlib.Path(self.key).read_bytes()
        self.assertIn("use --rotate first", self.refused("apppasswd", "key", "--drop-old"))
        self.assertEqual(pathlib.Path(self.key).read_bytes(), before)
        result = self.run_command("-c", self.config, "apppasswd", "key", "--rotate", "--drop-old")
        self.assertEqual(result.exit_code, 2)

    def test_a_rotation_that_fails_changes_no_secret(self) -> None:
        """One that no key opens is told; the others stay as they are."""
        self.ready()
        self.tpops("apppasswd", "key")
        self.add("phone", "joe", "--apop")
        self.add("tv", "ann", "--apop")
        with AppPasswordStore(self.database).writing() as writer:
            (phone,) = writer.rows("joe")
            writer.set_secret(phone, b"\1" + b"x" * 60)
        before = [one.secret for one in self.rows()]
        self.assertIn("has not the key", self.refused("apppasswd", "key", "--rotate"))
        self.assertEqual([one.secret for one in self.rows()], before)


class WithoutTests(AppPasswordCase):
    """What is not configured is told."""

    settings = 'path = "app.sqlite"\n'

    def test_without_a_key_file(self) -> None:
        """APOP and keys need key_file."""
        self.ready()
        self.assertIn("key_file", self.refused("apppasswd", "add", "x", "-u", "joe", "--apop"))
        self.assertIn("key_file is not set", self.refused("apppasswd", "key"))

    def test_without_a_database(self) -> None:
        """It is told how to make it; commands that are not about it work."""
        for arguments in (("add", "x", "-u", "joe"), ("list",), ("revoke", "x", "-u", "joe", "--yes")):
            self.assertIn("'tpops apppasswd init' makes it", self.refused("apppasswd", *arguments))
        self.assertFalse(os.path.exists(self.database))
        self.tpops("user", "remove", "joe", "--yes")

    def test_the_database_is_made_once(self) -> None:
        """Private; never over another."""
        self.assertEqual(self.tpops("apppasswd", "init"), f"made {self.database}\n")
        self.assertEqual(stat.S_IMODE(os.stat(self.database).st_mode), 0o600)
        self.assertIn("File exists", self.refused("apppasswd", "init"))

    def test_root_gives_the_files_to_the_servers_user(self) -> None:
        """So that the server can use them."""
        need_root(self, "giving files away")
        text = pathlib.Path(self.config).read_text("utf-8")
        self.configure(text.replace("[server]", '[server]\nuser = "nobody"'))
        self.ready()
        nobody = pwd.getpwnam("nobody")
        facts = os.stat(self.database)
        self.assertEqual((facts.st_uid, facts.st_gid), (nobody.pw_uid, nobody.pw_gid))
        self.add()
        for name in os.listdir(self.directory):
            if name.startswith("app.sqlite"):
                self.assertEqual(os.stat(os.path.join(self.directory, name)).st_uid, nobody.pw_uid, name)


class OffTests(AppPasswordCase):
    """There are none here."""

    settings = ""

    def test_every_command_says_so(self) -> None:
        """And the server and the other commands work."""
        for arguments in (("init",), ("key",), ("list",), ("add", "x", "-u", "joe"), ("revoke", "x", "-u", "joe")):
            self.assertIn("path is not set in [app_passwords]", self.refused("apppasswd", *arguments))
        self.tpops("user", "remove", "joe", "--yes")
        self.tpops("check")

    def test_keys_of_the_section_need_the_database(self) -> None:
        """What would be ignored is refused."""
        for line in ("instead = true", 'key_file = "x"'):
            self.configure(f"[app_passwords]\n{line}\n")
            said = self.refused("check")
            self.assertIn(f"app_passwords.{line.split()[0]} needs app_passwords.path", said)
