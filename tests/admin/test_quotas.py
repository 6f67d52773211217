"""Quotas of accounts: tpops user add and quota, and databases that were made before there were any."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from tests.admin.test_cli import CommandCase
from tests.cred.fakes import means
from tpops.cred.sqlite import SQLiteAccounts
from tpops.db.sqlite import SCHEMA_DIRECTORY


class QuotaTests(CommandCase):
    """tpops user add and quota."""

    def quota(self, name: str = "joe") -> tuple[int | None, int | None]:
        """Octets and messages, as a delivery sees them."""
        database = SQLiteAccounts("sqlite", means(), os.path.join(self.directory, "accounts.sqlite"))
        try:
            account = database.record(name).account
        finally:
            database.close()
        return account.quota_octets, account.quota_messages

    def test_add(self) -> None:
        """Promise: an account has the quota that it was added with, or the configured one."""
        self.init()
        self.tpops("user", "add", "joe", "--stdin", stdin="x\n")
        self.tpops("user", "add", "ann", "--stdin", "--quota", "100M", "--quota-messages", "none", stdin="x\n")
        self.assertEqual((self.quota(), self.quota("ann")), ((None, None), (100 << 20, 0)))

    def test_change(self) -> None:
        """Promise: a quota is changed, taken away, or left to the configuration."""
        self.init()
        self.tpops("user", "add", "joe", "--stdin", stdin="x\n")
        told = self.tpops("user", "quota", "JOE", "2G", "500")
        self.assertIn("joe may have octets: 2147483648, messages: 500", told)
        self.assertEqual(self.quota(), (2 << 30, 500))
        self.assertIn("octets: any, messages: as configured", self.tpops("user", "quota", "joe", "none"))
        self.assertEqual(self.quota(), (0, None))
        self.tpops("user", "quota", "joe", "default", "default")
        self.assertEqual(self.quota(), (None, None))

    def test_refused(self) -> None:
        """Promise: what is no size, and nobody's name, changes nothing."""
        self.init()
        self.tpops("user", "add", "joe", "--stdin", stdin="x\n")
        self.assertIn("'much' is no size", self.refused("user", "quota", "joe", "much"))
        self.assertIn("there is no account ann", self.refused("user", "quota", "ann", "1M"))
        self.assertIn("is no size", self.refused("user", "add", "ann", "--stdin", "--quota", "-1", stdin="x\n"))
        self.assertEqual(self.quota(), (None, None))

    def test_database_of_version_1(self) -> None:
        """Promise: a database that an older tpops made goes on, with all accounts."""
        self.init()
        path = Path(self.directory, "accounts.sqlite")
        path.unlink()
        connection = sqlite3.connect(path)
        connection.executescript((SCHEMA_DIRECTORY / "accounts-1.sql").read_text())
        connection.execute("INSERT INTO users VALUES ('joe', '{PLAIN}x', 1, NULL, NULL, NULL, NULL, 1, 1)")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
        connection.close()
        self.assertEqual(self.quota(), (None, None))
        self.tpops("user", "quota", "joe", "1M")
        self.assertEqual(self.quota(), (1 << 20, None))


class ShowTests(CommandCase):
    """tpops user show."""

    def test_show(self) -> None:
        """Promise: an account of a source that can be written, with whether it may log in."""
        self.init()
        self.tpops("user", "add", "joe", "--stdin", stdin="x\n")
        told = self.tpops("user", "show", "JOE")
        self.assertIn("source   sqlite\nlogins   allowed\nlast     never", told)
        self.tpops("user", "disable", "joe")
        self.assertIn("logins   refused", self.tpops("user", "show", "joe"))
        self.assertIn("there is no account ann", self.refused("user", "show", "ann"))
        Path(self.directory, "last-logins.sqlite").write_bytes(b"no database at all" * 100)
        self.assertIn("file is not a database", self.refused("user", "show", "joe"))
        removed = self.run_command("-c", self.config, "user", "remove", "--yes", "joe")
        self.assertEqual(removed.exit_code, 0)
        self.assertIn("its last logins stay", removed.stderr)

    def test_not_kept(self) -> None:
        """Promise: where logins are not kept, it says so."""
        self.init()
        self.tpops("user", "add", "joe", "--stdin", stdin="x\n")
        path = Path(self.config)
        path.write_text(path.read_text().replace("keep = true", "keep = false"))
        self.assertIn("not kept (set keep in [last_login])", self.tpops("user", "show", "joe"))
