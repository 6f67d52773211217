"""Whose mail it is in MySQL, where the database is, and what may be missing."""

from __future__ import annotations

import subprocess
import sys

from tests.integration.mail_database import MailDatabaseTests
from tests.integration.server import PATIENCE_SECONDS, RunningServer


class OwnersTests(MailDatabaseTests):
    """Whose mail it is, and where the database is."""

    def test_other_accounts(self) -> None:
        """Promise: users of another accounts source have mail there by their names; the mailbox is made for them."""
        server = self.mail_server(start=False, mysql={"servers": [self.mariadb.unix], **self.login_keys()})
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "users"}]
        (server.directory / "users").write_text("ann:{PLAIN}secret::::/nowhere:\njim:{PLAIN}secret::::/nowhere:\n")
        server.start()
        self.store(b"Subject: one\n\n", "ann")
        self.assert_in(server, "ann", "secret", 1)
        self.assert_in(server, "jim", "secret", 0)
        self.assertEqual(self.run_sql("SELECT name FROM tpops_mailbox ORDER BY id"), [("ann",), ("jim",)])

    def login_keys(self) -> dict[str, str]:
        """How to get in, for [mysql]."""
        source = self.source()
        return {key: source[key] for key in ("user", "password", "database")}

    def test_owner_in_the_location(self) -> None:
        """Promise: "mysql:NAME" is NAME's mail, in the configuration and in the accounts' own locations."""
        self.insert(
            "tpops_user", name="ann", password_hash="{PLAIN}secret", maildrop="mysql:joe", created_at=0, changed_at=0
        )
        self.store(b"Subject: one\n\n")
        server = self.mail_server(start=False)
        server.configuration["mail"]["location"] = "maildir:/nowhere/$(user)"
        server.start()
        self.assert_in(server, "ann", "secret", 1)

    def test_no_database(self) -> None:
        """Promise: a location "mysql:" without a database is a clear error at the start."""
        server = RunningServer(self, mail={"location": "mysql:"})
        self.assertIn("neither [mysql] `servers`", server.refuses_to_start())

    def test_library_that_is_missing(self) -> None:
        """Promise: without mysqlclient the error says what to install, at the start and from the commands."""
        server = self.mail_server(start=False, mysql={"servers": [self.mariadb.unix], **self.login_keys()})
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "users"}]
        server.write_configuration()
        without = "import sys; sys.modules['MySQLdb'] = None; from tpops.admin.cli import main; main()"
        for command in (("check",), ("db", "status"), ("store", "joe")):
            done = subprocess.run(
                [sys.executable, "-c", without, "-c", str(server.configuration_file), *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            self.assertNotEqual(done.returncode, 0)
            self.assertIn("pip install 'tpops[mysql]'", done.stderr, command)
            self.assertNotIn("Traceback", done.stderr)

    def test_only_reading(self) -> None:
        """Promise: a database's user with too few rights is told by "tpops check" or at the login, never [AUTH]."""
        self.mariadb.run(f"REVOKE INSERT, UPDATE, DELETE ON {self.schema}.* FROM reader")
        server = self.mail_server()
        self.assert_out(server, "joe", "secret", b"-ERR [SYS/PERM]")
        self.assertIn("what to GRANT", server.event("login-refused")["detail"])
