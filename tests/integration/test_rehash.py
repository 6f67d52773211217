"""passwords.rehash in a running server."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.server import PASSWORD, USER, RunningServer, wait_until
from tpops.cred import hashes, sqlite


class RehashTests(SynchronousTestCase):
    """Accounts in SQLite, as "tpops user" makes them."""

    def serve(self, scheme: str, **passwords: Any) -> RunningServer:
        """A server with one account, whose password is stored in this way."""
        server = RunningServer(self, passwords={"rehash": "argon2id", **passwords})
        server.configuration["accounts"] = [{"driver": "sqlite", "path": "accounts.sqlite"}]
        self.path = str(server.directory / "accounts.sqlite")
        sqlite.create(self.path)
        row = (USER, hashes.hash_password(PASSWORD.encode(), scheme), None, str(server.directory / USER))
        with closing(self.database()) as database:
            columns = "name, password_hash, maildrop, home, created_at, changed_at"
            database.execute(f"INSERT INTO users ({columns}) VALUES (?, ?, ?, ?, 0, 0)", row)
        return server.start()

    def database(self) -> sqlite3.Connection:
        """A connection that commits each statement."""
        return sqlite3.connect(self.path, timeout=60, isolation_level=None)

    def stored(self) -> str:
        with closing(self.database()) as database:
            return str(database.execute("SELECT password_hash FROM users").fetchone()[0])

    def log_in(self, server: RunningServer, password: str = PASSWORD) -> None:
        server.session(password=password).command(b"QUIT")

    def test_the_hash_becomes_better_at_login(self) -> None:
        """Promise: the next login works with it, the log has a line, without the hash."""
        server = self.serve("SSHA")
        self.log_in(server)
        wait_until(lambda: self.stored().startswith("{ARGON2ID}"))
        self.log_in(server)
        wait_until(lambda: f"rehash: the password of {USER} in accounts source sqlite" in server.output())
        self.assertNotIn(self.stored(), server.output())
        self.assertNotIn(PASSWORD, server.output())

    def test_a_change_meanwhile_wins(self) -> None:
        """Promise: the login does not wait for the database, and the new password is not overwritten."""
        server = self.serve("SSHA")
        with closing(self.database()) as database:
            database.execute("BEGIN IMMEDIATE")
            self.log_in(server)
            changed = hashes.hash_password(b"another", "SSHA512")
            database.execute("UPDATE users SET password_hash = ?", (changed,))
            database.execute("COMMIT")
        wait_until(lambda: "was changed meanwhile, and stays" in server.output())
        self.assertEqual(self.stored(), changed)
        self.log_in(server, "another")
        wait_until(lambda: self.stored().startswith("{ARGON2ID}"))
        self.log_in(server, "another")

    def test_passwords_for_apop_stay(self) -> None:
        """Promise: plain ones are kept, and APOP goes on; rehash_plain replaces them."""
        server = self.serve("PLAIN")
        for _ in range(2):
            client = server.poplib()
            client.quit()
        self.assertEqual(self.stored(), f"{{PLAIN}}{PASSWORD}")
        server.stop()
        server.configuration["passwords"]["rehash_plain"] = True
        server.start()
        self.log_in(server)
        wait_until(lambda: self.stored().startswith("{ARGON2ID}"))
