"""Creating, opening and upgrading SQLite databases."""

from __future__ import annotations

import os
import pathlib
import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from tpops.db.sqlite import WrongVersion, connect, create, latest_version, version


class DatabaseTests(SynchronousTestCase):
    """A family of databases with schema files of the test's own."""

    def setUp(self) -> None:
        self.schema = pathlib.Path(self.mktemp())
        self.schema.mkdir()
        self.write("things-1.sql", "-- one; comment\nCREATE TABLE a (x);\nCREATE TABLE b (y);\n")
        self.path = self.mktemp()

    def write(self, name: str, script: str) -> None:
        (self.schema / name).write_text(script, "utf-8")

    def open(self) -> sqlite3.Connection:
        connection = connect(self.path, "things", schema=self.schema)
        self.addCleanup(connection.close)
        return connection

    def tables(self, connection: sqlite3.Connection) -> list[str]:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master ORDER BY name")]

    def test_a_new_database_has_the_latest_version(self) -> None:
        """create() runs the first schema and every upgrade."""
        self.write("things-1-to-2.sql", "CREATE TABLE c (z);")
        self.write("others-1-to-9.sql", "")
        self.assertEqual(latest_version("things", self.schema), 2)
        create(self.path, "things", self.schema)
        connection = self.open()
        self.assertEqual((version(connection), self.tables(connection)), (2, ["a", "b", "c"]))

    def test_uses_the_write_ahead_log_and_foreign_keys(self) -> None:
        """Readers do not wait for writers."""
        create(self.path, "things", self.schema)
        connection = self.open()
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone()[0], "wal")
        self.assertEqual(connection.execute("PRAGMA foreign_keys").fetchone()[0], 1)

    def test_an_older_database_is_upgraded_when_it_is_opened(self) -> None:
        """What was stored stays."""
        create(self.path, "things", self.schema)
        self.open().execute("INSERT INTO a VALUES (1)")
        self.write("things-1-to-2.sql", "ALTER TABLE a ADD COLUMN w DEFAULT 5;")
        self.assertEqual(self.open().execute("SELECT x, w FROM a").fetchall(), [(1, 5)])

    def test_an_upgrade_that_fails_changes_nothing(self) -> None:
        """Each step is one transaction."""
        create(self.path, "things", self.schema)
        self.write("things-1-to-2.sql", "CREATE TABLE c (z);\nCREATE TABLE a (x);\n")
        self.assertRaises(sqlite3.Error, self.open)
        os.remove(self.schema / "things-1-to-2.sql")
        connection = self.open()
        self.assertEqual((version(connection), self.tables(connection)), (1, ["a", "b"]))

    def test_a_newer_database_is_refused(self) -> None:
        """An older tpops must not write to it."""
        create(self.path, "things", self.schema)
        self.open().execute("PRAGMA user_version = 7")
        self.assertRaises(WrongVersion, self.open)

    def test_a_step_that_another_process_did_is_not_done_again(self) -> None:
        """Two that open at once upgrade once: the version is read again inside the transaction."""
        create(self.path, "things", self.schema)
        self.write("things-1-to-2.sql", "CREATE TABLE c (z);")
        self.open()
        connection = self.open()
        self.assertEqual(version(connection), 2)

    def test_a_missing_database_is_not_made_by_opening(self) -> None:
        """Only create() makes files; special characters in the path are only characters."""
        self.assertRaises(sqlite3.OperationalError, self.open)
        self.path += "?mode=memory#%20"
        self.assertRaises(sqlite3.OperationalError, self.open)
        self.assertFalse(os.path.exists(self.path))
        create(self.path, "things", self.schema)
        self.assertTrue(os.path.exists(self.path))
