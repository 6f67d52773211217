"""One connection: what it says when there is no server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Time
from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_servers import Access, Line, Server


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
