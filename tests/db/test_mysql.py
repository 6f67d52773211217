"""One connection: what it says when there is no server."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Time
from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_servers import Access, Line, Server

#: Connects to nobody, and says what was imported for that.
_FIRST_CONNECTION = """
import sys, time
from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_servers import Access, Line, Server
servers = (Server(path="/nowhere/socket"),)
client = Client(Access(servers, "joe", "", "mail"), Line(servers, time.monotonic))
before = set(sys.modules)
try:
    client.select("SELECT 1", ())
except DatabaseFailed:
    print(*sorted(name for name in set(sys.modules) - before if name.startswith("MySQLdb")))
"""


class ImportTests(SynchronousTestCase):
    """What has to be there before the server becomes another user."""

    def test_nothing_is_imported_with_the_first_connection(self) -> None:
        """Promise: a server that has become a user who may not read the installation still connects."""
        done = subprocess.run([sys.executable, "-c", _FIRST_CONNECTION], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "\n", ""))


class ClientTests(SynchronousTestCase):
    """Without a server; with one, see tests/integration/test_mysql_faults.py."""

    def setUp(self) -> None:
        self.clock = Time()
        self.servers = (Server(path="/nowhere/a"), Server(path="/nowhere/b"))
        self.line = Line(self.servers, self.clock)
        access = Access(self.servers, "joe", "hidden", "mail")
        self.client = Client(access, self.line, seconds=self.clock)

    def test_every_server_is_named_with_its_reason(self) -> None:
        """And nothing of the password."""
        problem = self.assertRaises(DatabaseFailed, self.client.select, "SELECT %s", ["x"])
        for server in self.servers:
            self.assertIn(f"{server}: Can't connect", str(problem))
        self.assertEqual(problem.number, 2002)
        self.assertNotIn("hidden", str(problem))

    def test_no_time_is_left(self) -> None:
        """Then nobody is asked any more."""
        problem = self.assertRaises(DatabaseFailed, self.client.select, "SELECT %s", ["x"], self.clock())
        self.assertEqual(str(problem), "no time was left")

    def test_close_twice(self) -> None:
        """Idempotent, also without a connection."""
        self.client.close()
        self.client.close()
        self.assertRaises(DatabaseFailed, self.client.transaction, lambda execute: None)
