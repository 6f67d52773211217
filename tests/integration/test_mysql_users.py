""" "tpops user" on tables in a real MariaDB."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.integration.mysql_case import CLASSIC, READER, DatabaseTests, deliver
from tests.integration.server import PATIENCE_SECONDS, RunningServer, Table, program, wait_until
from tests.integration.test_mysql_presets import V2


class UserTests(DatabaseTests):
    """Accounts that the command line makes log in."""

    def setUp(self) -> None:
        super().setUp()
        self.mariadb.run(f"GRANT ALL ON {self.schema}.* TO {READER}")

    def running(self, passwords: Table | None = None, **keys: Any) -> RunningServer:
        """A server on these tables; the commands use its configuration."""
        mail = {"location": f"maildir:{self.directory}/$(user)"}
        return self.server(self.source(name="db", **keys), mail=mail, passwords=passwords or {})

    def user(self, server: RunningServer, *command: str, given: str = "", status: int = 0) -> str:
        """Run "tpops user"; gives what it says."""
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "user", *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout + done.stderr

    def test_v2(self) -> None:
        """Add, list, change, disable, enable and remove; what is changed counts from the next login on."""
        self.mariadb.script(V2, self.schema)
        server = self.running(preset="tpops-v2")
        where = deliver(self.directory / "elsewhere", 2)
        self.user(server, "add", "joe", "--stdin", "--maildrop", f"maildir:{where}", given="secret\n")
        self.user(server, "add", "jürgen", "--stdin", given="secret\n")
        self.assert_in(server, "joe", "secret", 2)
        self.assert_in(server, "jürgen", "secret", 0)
        self.assertIn("there is already an account", self.user(server, "add", "joe", "--stdin", given="x\n", status=1))
        self.user(server, "passwd", "joe", "--stdin", given="other\n")
        self.assert_out(server, "joe", "secret")
        self.assert_in(server, "joe", "other", 2)
        for _ in range(2):
            self.user(server, "disable", "joe")
        self.assert_out(server, "joe", "other", b"-ERR [AUTH] account is disabled")
        self.assertIn('"enabled": false', self.user(server, "list", "--json"))
        self.user(server, "enable", "joe")
        self.assert_in(server, "joe", "other", 2)
        self.user(server, "remove", "--yes", "joe")
        self.assert_out(server, "joe", "other")
        self.assertIn("no account joe", self.user(server, "passwd", "joe", "--stdin", given="x\n", status=1))

    def test_classic(self) -> None:
        """TPOPS can go on reading its table: passwords stand there as it wants them, and nothing is cut off."""
        self.run_sql(CLASSIC)
        server = self.running(preset="tpops-classic")
        where = deliver(self.directory / "elsewhere", 2)
        plain = ("--stdin", "--scheme", "PLAIN")
        self.user(server, "add", "joe", *plain, "--maildrop", f"maildir:{where}", given="secret\n")
        self.user(server, "add", "ann", *plain, given="secret\n")
        self.assertEqual(
            self.run_sql("SELECT login, passwd, maildir FROM user ORDER BY login"),
            [("ann", "secret", None), ("joe", "secret", str(where))],
        )
        self.assert_in(server, "joe", "secret", 2)
        self.assertIn("choose another scheme", self.user(server, "passwd", "joe", "--stdin", given="x\n", status=1))
        self.assert_in(server, "joe", "secret", 2)
        self.user(server, "passwd", "joe", *plain, given="{SSHA}x\n")
        self.assert_in(server, "joe", "{SSHA}x", 2)
        self.assertIn("cannot keep anybody out", self.user(server, "disable", "joe", status=1))
        self.user(server, "remove", "--yes", "joe")
        self.assertEqual(self.run_sql("SELECT login FROM user"), [("ann",)])

    def test_classic_with_hashes(self) -> None:
        """With `password_scheme = "crypt"` and a longer column, crypt(3) stands there without a label, others with."""
        self.run_sql(CLASSIC.replace("passwd CHAR(16)", "passwd CHAR(128)"))
        server = self.running(preset="tpops-classic", password_scheme="crypt")
        for name, scheme, begin in (
            ("md5", "MD5-CRYPT", "$1$"),
            ("sha", "SHA512-CRYPT", "$6$"),
            ("salted", "SSHA", "{SSHA}"),
            ("argon", "ARGON2ID", "{ARGON2ID}$argon2id$"),
        ):
            self.user(server, "add", name, "--stdin", "--scheme", scheme, given="secret\n")
            ((stored,),) = self.run_sql(f"SELECT passwd FROM user WHERE login = '{name}'")
            self.assertTrue(stored.startswith(begin), stored)
            self.assert_in(server, name, "secret", 0)
            self.assert_out(server, name, "wrong")

    def test_better_hashes_at_login(self) -> None:
        """passwords.rehash: the table of schema v2 gets a better hash, and the next login works with it."""
        self.mariadb.script(V2, self.schema)
        server = self.running({"rehash": "argon2id"}, preset="tpops-v2")
        self.user(server, "add", "joe", "--stdin", "--scheme", "SSHA", given="secret\n")
        self.assert_in(server, "joe", "secret", 0)
        wait_until(lambda: self.run_sql("SELECT password_hash LIKE '{ARGON2ID}%' FROM tpops_user") == [(1,)])
        self.assert_in(server, "joe", "secret", 0)
        self.assert_out(server, "joe", "wrong")
        self.assertNotIn("passwords.rehash", server.output())

    def test_without_the_right_to_write(self) -> None:
        """The server's user may read only: the command says so, and nothing is changed."""
        self.mariadb.script(V2, self.schema)
        self.mariadb.run(f"REVOKE ALL ON {self.schema}.* FROM {READER}", f"GRANT SELECT ON {self.schema}.* TO {READER}")
        server = self.running(preset="tpops-v2")
        self.assertIn("command denied", self.user(server, "add", "joe", "--stdin", given="x\n", status=1))
        self.assertEqual(self.run_sql("SELECT name FROM tpops_user"), [])

    def test_tables_of_others_are_not_written(self) -> None:
        """Only tpops' own kinds have "tpops user"."""
        said = self.user(self.running(preset="vpopmail"), "remove", "--yes", "joe", status=1)
        self.assertIn("no accounts source of the configuration can be written", said)
