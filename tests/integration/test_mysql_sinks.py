"""driver = "sql" in a real MariaDB, and a web server that a running server tells."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.integration.mysql_case import DatabaseTests
from tests.integration.server import RunningServer, wait_until
from tests.web_server import WebServer

#: The user of the sink, and what he may do.
WRITER = "writer"


class SQLTests(DatabaseTests):
    """A statement for each event, with bound values."""

    def setUp(self) -> None:
        super().setUp()
        self.run_sql(
            "CREATE TABLE logins (event VARCHAR(20), user VARCHAR(190), named VARBINARY(400), ip VARCHAR(45), "
            "at DATETIME, epoch BIGINT, note VARCHAR(90))"
        )
        with self.mariadb.connection() as connection:
            cursor = connection.cursor()
            cursor.execute(f"CREATE USER IF NOT EXISTS {WRITER} IDENTIFIED BY 'pw'")
            cursor.execute(f"GRANT INSERT ON {self.schema}.* TO {WRITER}")

    def sink(self, statement: str, **keys: Any) -> dict[str, Any]:
        """One in the test's database."""
        return {
            "driver": "sql",
            "servers": [self.mariadb.unix],
            "user": WRITER,
            "password": "pw",
            "database": self.schema,
            "statement": statement,
            "before_ok": True,
            **keys,
        }

    def running(self, *sinks: dict[str, Any], **tables: Any) -> RunningServer:
        """A server for joe."""
        tables = {"protocol": {"auth_delay_seconds": 0}, "pop_before_smtp": {"ok_wait_seconds": 60}, **tables}
        return RunningServer(self, users={"joe": "secret"}, sink=list(sinks), **tables).start()

    def rows(self) -> list[tuple[Any, ...]]:
        """What was written."""
        return self.run_sql("SELECT event, user, named, ip, note FROM logins ORDER BY epoch, event")

    def test_login(self) -> None:
        """popserv's loginfo, tpop3d's onlogin: written before the +OK; what a client sends stays a value."""
        statement = (
            "INSERT INTO logins VALUES ('$(event)', $(user), $(named), "
            "\"$(clienthost)\", $(time), $(epoch), '100%% $$5')"
        )
        hook = WebServer(self, {})
        running = self.running(
            self.sink(statement, events=["login", "login-failed"]),
            {"driver": "webhook", "address": hook.address, "events": ["login", "logout", "disconnect"]},
        )
        before = int(time.time())
        wire = running.session("joe", "secret")
        self.assertEqual(self.rows(), [("login", "joe", b"joe", "127.0.0.1", "100% $5")])
        (when,) = self.run_sql("SELECT epoch, TIMESTAMPDIFF(SECOND, '1970-01-01', at) FROM logins")
        self.assertEqual(when[0], when[1])
        self.assertIn(when[0], range(before, int(time.time()) + 1))
        wire.send(b"QUIT\r\n")
        wire.rest()
        evil = b"'); DROP TABLE logins; -- \\' \xff %s"
        wire = running.connect()
        wire.line()
        wire.command(b"USER " + evil)
        wire.command(b"PASS wrong")
        wait_until(lambda: len(self.rows()) == 2, "wrong password")
        failed = next(row for row in self.rows() if row[0] == "login-failed")
        self.assertEqual(failed[1:3], ("", evil.replace(b"\xff", b"\\xff")))
        wait_until(lambda: len(hook.requests) == 3, "webhook")
        told = [json.loads(request.body) for request in hook.requests]
        self.assertEqual([one["event"] for one in told], ["login", "logout", "disconnect"])
        self.assertEqual({one["user"] for one in told}, {"joe"})

    def test_database_that_fails(self) -> None:
        """Promise: rights that are missing, and a server that is not there, fail no login."""
        running = self.running(
            self.sink("DELETE FROM logins WHERE user = $(user)", name="rights"),
            self.sink("INSERT INTO logins (user) VALUES ($(user))", name="gone", servers=["127.0.0.1:1"]),
        )
        wire = running.session("joe", "secret")
        wire.send(b"QUIT\r\n")
        self.assertTrue(wire.rest().startswith(b"+OK"))
        log = running.output()
        self.assertRegex(log, r"sink-failed: rights at login: .*DELETE command denied")
        self.assertRegex(log, r"sink-failed: gone at login: .*127.0.0.1:1")
        self.assertNotIn("Traceback", log)
