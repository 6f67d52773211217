""" "tpops db" on a real MariaDB: tables are made, brought up to date and looked at, also after it was cut off."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.integration.mail_database import MailDatabaseTests
from tests.integration.mariadb import ADMIN, ADMIN_PASSWORD
from tests.integration.mysql_case import READER
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program
from tpops.db import migrate

#: The accounts as the first release had them.
ACCOUNTS_2 = (
    "CREATE TABLE tpops_schema (part VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, "
    "version INT UNSIGNED NOT NULL) ENGINE = InnoDB",
    "INSERT INTO tpops_schema (part, version) VALUES ('accounts', 2)",
    "CREATE TABLE tpops_user (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255) NOT NULL, "
    "password_hash VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL "
    "COMMENT '{SCHEME}data; NULL lets nobody in', enabled TINYINT UNSIGNED NOT NULL DEFAULT 1, "
    "maildrop VARCHAR(1024) NULL COMMENT 'NULL is the location of the configuration', home VARCHAR(1024) NULL, "
    "unix_uid INT UNSIGNED NULL, unix_gid INT UNSIGNED NULL, "
    "quota_octets BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT '0 is none', "
    "created_at BIGINT NOT NULL COMMENT 'seconds since 1970', changed_at BIGINT NOT NULL COMMENT 'seconds since 1970', "
    "UNIQUE KEY name (name)) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin",
    "INSERT INTO tpops_user (name, password_hash, created_at, changed_at) VALUES ('joe', '{PLAIN}secret', 0, 0)",
)


class EmptyDatabaseTests(MailDatabaseTests):
    """An empty database, in which the server's user may do everything."""

    def make_tables(self) -> None:
        """There are none; the command makes them."""

    def setUp(self) -> None:
        super().setUp()
        self.mariadb.run(f"GRANT ALL ON {self.schema}.* TO {READER}")

    def command(self, server: RunningServer, *command: str, status: int = 0, given: str = "") -> str:
        """Run "tpops db"; gives what it says."""
        server.write_configuration()
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "db", *command],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done.stdout + done.stderr

    def made(self) -> dict[str, str]:
        """Every table as the server says it was made."""
        names = [str(name) for (name,) in self.run_sql("SHOW TABLES")]
        texts = {name: str(self.run_sql(f"SHOW CREATE TABLE {name}")[0][1]) for name in names}
        return {name: re.sub(r" AUTO_INCREMENT=\d+", "", text) for name, text in texts.items()}

    def clear(self) -> None:
        """An empty database again."""
        self.mariadb.run(f"DROP DATABASE {self.schema}", f"CREATE DATABASE {self.schema} CHARACTER SET utf8mb4")

    def json_status(self, server: RunningServer, status: int = 0) -> Any:
        """What "tpops db status --json" says."""
        said = self.command(server, "status", "--json", status=status)
        return json.loads(said[: said.rindex("}") + 1])


class CommandTests(EmptyDatabaseTests):
    """Schema v2."""

    def test_init(self) -> None:
        """Promise: one command makes everything that accounts and mail need; a second one changes nothing."""
        server = self.mail_server(start=False)
        self.assertIn("tpops db init", self.command(server, "status", status=1))
        self.assertIn("made the tables for mail", self.command(server, "init"))
        self.assertIn("are there already", self.command(server, "init", status=1))
        self.assertIn("everything is up to date", self.command(server, "upgrade"))
        self.insert("tpops_user", name="joe", password_hash="{PLAIN}secret", created_at=0, changed_at=0)
        self.store(b"Subject: one\n\n")
        server.start()
        wire = server.session("joe", "secret")
        found = self.json_status(server)
        self.assertEqual(found["v2"], {"accounts": 4, "mail": 2})
        mail = found["v2_mail"]
        self.assertEqual([mail[key] for key in ("mailboxes", "messages", "octets")], [1, 1, 14])
        self.assertEqual([one["name"] for one in mail["locked"]], ["joe"])
        self.assertLessEqual(mail["locked"][0]["seconds"], 60)
        self.assertIn("joe", self.command(server, "status"))
        wire.command(b"QUIT")
        self.assertEqual(self.json_status(server)["v2_mail"]["locked"], [])

    def test_init_that_was_cut_off(self) -> None:
        """Promise: wherever it ended, it goes on from there and makes the same."""
        client = self.client()
        every = [one for file, _ in migrate.PARTS.values() for one in migrate.statements(file)]
        list(migrate.make(client))
        whole = self.made()
        self.assertEqual(len(whole), 8)
        for done in range(1, len(every)):
            self.clear()
            client.close()
            self.run_sql(*every[:done])
            list(migrate.make(client))
            self.assertEqual(self.made(), whole, done)
            self.assertEqual(migrate.outdated(migrate.versions(client)), [])

    def test_upgrade(self) -> None:
        """Promise: older tables become the newest ones, wherever an earlier try was cut off; nothing is lost."""
        client = self.client()
        list(migrate.make(client))
        whole = self.made()
        changes = [change.sql for step in migrate.STEPS for change in step.changes]
        for done in range(len(changes) + 1):
            self.clear()
            client.close()
            self.run_sql(*ACCOUNTS_2, *changes[:done])
            self.assertEqual(migrate.outdated(migrate.versions(client)), ["accounts", "mail"])
            list(migrate.upgrade(client))
            self.assertEqual(self.made(), whole, done)
            self.assertEqual(
                self.run_sql("SELECT name, quota_octets, quota_messages FROM tpops_user"), [("joe", 0, None)]
            )

    def test_upgrade_command(self) -> None:
        """Promise: status and log say that it is needed; afterwards logins work."""
        self.run_sql(*ACCOUNTS_2)
        server = self.mail_server()
        self.assert_out(server, "joe", "secret", b"-ERR [SYS/TEMP]")
        self.assertEqual(self.json_status(server, 1)["outdated"], ["accounts", "mail"])
        said = self.command(server, "upgrade")
        self.assertIn("the tables for accounts are of version 4 now", said)
        self.assert_in(server, "joe", "secret", 0)
        self.assertEqual(self.json_status(server)["outdated"], [])

    def test_newer_tables(self) -> None:
        """Promise: an older tpops leaves them alone."""
        client = self.client()
        list(migrate.make(client))
        self.run_sql("UPDATE tpops_schema SET version = 9 WHERE part = 'mail'")
        self.assertIn("of version 9", self.command(self.mail_server(start=False), "upgrade", status=1))

    def test_tables_of_others(self) -> None:
        """Promise: nothing is made beside them."""
        self.run_sql("CREATE TABLE mailbox (id INT)")
        server = self.mail_server(start=False)
        for options in ((), ("--classic",)):
            self.assertIn("tables of others (mailbox)", self.command(server, "init", *options, status=1))
        self.assertEqual(list(self.made()), ["mailbox"])

    def test_rights(self) -> None:
        """Promise: whose rights do not suffice is told so; somebody else may do it."""
        self.mariadb.run(f"REVOKE ALL ON {self.schema}.* FROM {READER}", f"GRANT SELECT ON {self.schema}.* TO {READER}")
        server = self.mail_server(start=False)
        self.assertIn("give --user", self.command(server, "init", status=1))
        password = self.directory / "password"
        password.write_text(ADMIN_PASSWORD + "\n")
        password.chmod(0o600)
        self.command(server, "init", "--user", ADMIN, "--password-file", str(password))
        self.assertIn("goes with --user", self.command(server, "upgrade", "--password-file", str(password), status=2))

    def test_no_database(self) -> None:
        """Promise: one clear line where nothing says which database, or where it is down."""
        self.assertIn("names it", self.command(RunningServer(self), "status", status=1))
        server = self.mail_server(start=False, servers=["127.0.0.1:1"])
        self.assertIn("Can't connect", self.command(server, "status", status=1))


class ClassicCommandTests(EmptyDatabaseTests):
    """The tables of TPOPS."""

    kind = "classic"

    def test_init(self) -> None:
        """Promise: one command makes the tables as TPOPS had them; status tells who holds what."""
        server = self.mail_server(start=False)
        self.assertIn("init --classic", self.command(server, "status", status=1))
        self.command(server, "init", "--classic")
        self.assertIn("are there already", self.command(server, "init", "--classic", status=1))
        self.insert("user", uid=7, login="joe", passwd="secret")
        self.store(b"Subject: one\n\n")
        server.start()
        wire = server.session("joe", "secret")
        mail = self.json_status(server)["classic_mail"]
        self.assertEqual([mail[key] for key in ("users", "messages", "octets")], [1, 1, 16])
        self.assertEqual([(one["name"], one["by"]) for one in mail["locked"]], [("joe", f"process {server.pid}")])
        wire.command(b"QUIT")
        self.assertIn("1 messages", self.command(server, "status"))
