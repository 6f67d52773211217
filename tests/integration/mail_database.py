"""What the tests of mail in MySQL share: tables of both schemas, mail in them, and drivers over a real connection."""

from __future__ import annotations

import atexit
import functools
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred, execute

from tests.contracts.append import ENVELOPE, Incoming
from tests.integration.mariadb import MariaDB
from tests.integration.mysql_case import READER, READER_PASSWORD, DatabaseTests
from tests.integration.server import RunningServer
from tpops.db.mysql import Client
from tpops.db.mysql_changes import Changes
from tpops.db.mysql_servers import Line, access_of
from tpops.mailbox.mysql import MySQLDriver, MySQLOptions
from tpops.mailbox.mysql_classic import Classic
from tpops.mailbox.mysql_schema import Schema
from tpops.mailbox.mysql_v2 import V2
from tpops.model import Account

SCHEMAS = Path(__file__).resolve().parents[2] / "tpops" / "db" / "schema"


class AtOnce:
    """A pool whose work is done at once, on one real connection."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def start(self) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """Close the connection."""
        self.client.close()

    def run(self, work: Callable[[Client, float], Any], to_the_end: bool = False) -> Deferred[Any]:
        """See tpops.db.mysql_pool.Pool."""
        return execute(work, self.client, time.monotonic() + 20)


class MailDatabaseTests(DatabaseTests):
    """
    A database for each test with the tables of one schema, in which the user "reader" may do what a server needs.

    @cvar kind: "v2" or "classic"
    """

    kind = "v2"
    account = Account("joe", "test")

    def setUp(self) -> None:
        super().setUp()
        self.make_tables()
        self.mariadb.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {self.schema}.* TO {READER}")

    def make_tables(self) -> None:
        """All tables of the schema."""
        if self.kind == "classic":
            self.mariadb.script(SCHEMAS / "mysql-classic.sql", self.schema)
            self.insert("user", uid=7, login="joe", passwd="secret", mail="joe", quota=0)
            return
        self.mariadb.script(SCHEMAS / "mysql-v2-accounts.sql", self.schema)
        self.mariadb.script(SCHEMAS / "mysql-v2-mail.sql", self.schema)
        self.insert("tpops_user", name="joe", password_hash="{PLAIN}secret", created_at=0, changed_at=0)

    # Servers.

    def mail_server(self, start: bool = True, mysql: dict[str, Any] | None = None, **keys: Any) -> RunningServer:
        """A tpops whose accounts and mail are in the database; C{keys} are of the accounts source."""
        server = RunningServer(
            self,
            users={},
            mail={"location": "mysql:"},
            mysql={"schema": self.kind, "lock_wait_seconds": 0, **(mysql or {})},
            protocol={"auth_delay_seconds": 0, "auth_delay_max_seconds": 0},
        )
        server.configuration["accounts"] = [self.source(preset=f"tpops-{self.kind}", **keys)]
        return server.start() if start else server

    def locks(self) -> int:
        """How many mailboxes are locked."""
        sql = (
            "SELECT COUNT(*) FROM locks"
            if self.kind == "classic"
            else "SELECT COUNT(*) FROM tpops_lease WHERE owner <> ''"
        )
        count: int = self.run_sql(sql)[0][0]
        return count

    # Drivers.

    def client(self, address: str = "") -> Client:
        """A connection as a server has it."""
        access = access_of(
            [address or self.mariadb.unix],
            "off",
            user=READER,
            password=READER_PASSWORD,
            database=self.schema,
            tls_ca="",
            timeout_seconds=20.0,
        )
        client = Client(access, Line(access.servers, time.monotonic), writable=True)
        self.addCleanup(client.close)
        return client

    def tables(self, **options: Any) -> Schema:
        """The schema, as a process of its own has it."""
        changes = Changes(20.0)
        if self.kind == "classic":
            return Classic(options.pop("lease_seconds", 3600), changes, **options)
        return V2(f"host/{secrets.token_hex(8)}", options.pop("lease_seconds", 60), changes)

    def driver(self, **options: Any) -> MySQLDriver:
        """A driver of a process of its own."""
        client = self.client()
        driver = MySQLDriver(
            MySQLOptions(lock_wait_seconds=0.0), self.tables(**options), lambda: AtOnce(client), task.Clock()
        )
        driver.start()
        return driver

    # Mail.

    def store(self, message: bytes, name: str = "joe") -> None:
        """Deliver a message behind all others."""
        driver = self.driver()
        account = Account(name, "test")
        self.successResultOf(
            Deferred.fromCoroutine(driver.append_at(account, name.encode(), Incoming(message, 1 << 20), ENVELOPE))
        )

    def stored(self) -> list[bytes]:
        """All messages as they are in the tables, in order."""
        if self.kind == "classic":
            rows = self.run_sql(
                "SELECT CAST(header AS BINARY), CAST(body AS BINARY), size FROM msg ORDER BY timestamp, id"
            )
            return [_classic(*row) for row in rows]
        return [
            b"".join(
                row[0] for row in self.run_sql(f"SELECT data FROM tpops_chunk WHERE content = {one} ORDER BY part")
            )
            for (one,) in self.run_sql("SELECT content FROM tpops_message ORDER BY mailbox, sequence")
        ]

    def take_away(self, index: int) -> None:
        """Remove a message as an administrator does."""
        if self.kind == "classic":
            ids = self.run_sql("SELECT id FROM msg ORDER BY timestamp, id")
            self.run_sql(f"DELETE FROM msg WHERE id = {ids[index][0]}")
            return
        rows = self.run_sql(
            "SELECT m.mailbox, m.content, c.octets FROM tpops_message m JOIN tpops_content c ON c.id = m.content "
            "ORDER BY mailbox, sequence"
        )
        mailbox, content, octets = rows[index]
        self.run_sql(
            f"DELETE FROM tpops_content WHERE id = {content}",
            "UPDATE tpops_mailbox SET rewritten = rewritten + 1, messages = messages - 1, "
            f"octets = octets - {octets} WHERE id = {mailbox}",
        )


class OwnServerTests(MailDatabaseTests):
    """The same in a server that a test may end."""

    def a_server(self) -> MariaDB:
        """See DatabaseTests."""
        mariadb = _mortal()
        if mariadb.ended():
            mariadb.start()
        return mariadb

    def drop(self) -> None:
        """See DatabaseTests; the server may have ended."""
        if self.mariadb.ended():
            self.mariadb.start()
        super().drop()


@functools.cache
def _mortal() -> MariaDB:
    """One server for all tests that end it: they start it again."""
    mariadb = MariaDB()
    atexit.register(mariadb.remove)
    return mariadb


def _classic(header: bytes, body: bytes, size: int) -> bytes:
    """A message of TPOPS' table; there is a blank line where there is a body, or where the size says so."""
    on_the_wire = len(re.sub(rb"\r?\n", b"\r\n", header)) + (2 if header and not header.endswith(b"\n") else 0)
    return header + (b"\n" + body if body or size != on_the_wire else b"")
