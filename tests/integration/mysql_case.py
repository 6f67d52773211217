"""What the tests of accounts in MySQL share: a database for each test, and logins by name and password."""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration import corpus
from tests.integration.mariadb import PROGRAMS, MariaDB, shared
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program
from tests.support import need

WRONG = b"-ERR [AUTH] authentication failed"
DISABLED = b"-ERR [AUTH] account is disabled"
UNAVAILABLE = b"-ERR [SYS/TEMP]"

#: The user that tpops is for the database; the sign in his password has to survive.
READER, READER_PASSWORD = "reader", "reader's \\ word"

#: TPOPS' own table, as it made it.
CLASSIC = (
    "CREATE TABLE user (uid INT AUTO_INCREMENT PRIMARY KEY, login CHAR(16) UNIQUE, passwd CHAR(16), "
    "mail CHAR(64) UNIQUE, maildir CHAR(64), quota INT)"
)


def deliver(maildir: Path, messages: int = 1) -> Path:
    """Make a Maildir with so many messages."""
    for part in ("tmp", "new", "cur"):
        (maildir / part).mkdir(parents=True)
    for number in range(messages):
        (maildir / "new" / f"{number}.host").write_bytes(corpus.ALL["lf"])
    return maildir


class DatabaseTests(SynchronousTestCase):
    """
    A database of its own for each test, in a MariaDB that is there for the whole run.

    @ivar names: names in the server's certificate; without any it has no TLS
    @ivar mariadb: the server
    @ivar schema: the test's database, which the user "reader" may read
    @ivar directory: the test's directory, for Maildirs
    """

    timeout = 240
    skip = need(None, *PROGRAMS)
    names: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.mariadb = self.a_server()
        self.schema = f"t{secrets.token_hex(6)}"
        # Short: TPOPS' table has 64 characters for the path of a Maildir.
        self.directory = Path(tempfile.mkdtemp(prefix="tpops-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.directory)
        self.create(self.mariadb)
        self.addCleanup(self.drop)

    def a_server(self) -> MariaDB:
        """The server, which is for all tests."""
        return shared(*self.names)

    def drop(self) -> None:
        """Remove the test's database."""
        self.mariadb.run(f"DROP DATABASE {self.schema}")

    def create(self, mariadb: MariaDB) -> None:
        """Make the test's database."""
        with mariadb.connection() as connection:
            cursor = connection.cursor()
            cursor.execute(f"CREATE DATABASE {self.schema} CHARACTER SET utf8mb4")
            cursor.execute(f"CREATE USER IF NOT EXISTS {READER} IDENTIFIED BY %s", (READER_PASSWORD,))
            cursor.execute(f"GRANT SELECT ON {self.schema}.* TO {READER}")

    def run_sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements in the test's database."""
        return self.mariadb.run(*statements, database=self.schema)

    def insert(self, table: str, **columns: object) -> None:
        """Add a row; a value that begins with "=" is an expression of the server."""
        shown = [value[1:] if str(value).startswith("=") else "%s" for value in columns.values()]
        given = [value for value in columns.values() if not str(value).startswith("=")]
        with self.mariadb.connection(self.schema) as connection:
            names = ", ".join(columns)
            connection.cursor().execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(map(str, shown))})", given)

    def source(self, **keys: Any) -> dict[str, Any]:
        """A table of the configuration."""
        return {
            "driver": "mysql",
            "servers": [self.mariadb.unix],
            "user": READER,
            "password": READER_PASSWORD,
            "database": self.schema,
            **keys,
        }

    def server(self, *sources: dict[str, Any], **tables: Any) -> RunningServer:
        """A tpops on these sources."""
        protocol = {"auth_delay_seconds": 0, "auth_delay_max_seconds": 0, **tables.pop("protocol", {})}
        server = RunningServer(self, users={}, protocol=protocol, **tables)
        server.configuration["accounts"] = list(sources)
        return server.start()

    def answer(self, server: RunningServer, name: str, password: str) -> bytes:
        """What a client gets for name and password, on a connection of its own."""
        wire = server.connect()
        self.assertTrue(wire.line().startswith(b"+OK"))
        response = base64.b64encode(f"\0{name}\0{password}".encode())
        self.assertEqual(wire.command(b"AUTH PLAIN"), b"+ ")
        answer = wire.command(response)
        wire.close()
        return answer

    def assert_in(self, server: RunningServer, name: str, password: str, messages: int = 1) -> None:
        """He gets in and sees so many messages."""
        answer = self.answer(server, name, password)
        self.assertTrue(answer.startswith(b"+OK"), (name, answer))
        self.assertIn(b" %d message" % messages, answer)

    def assert_out(self, server: RunningServer, name: str, password: str, answer: bytes = WRONG) -> None:
        """He does not."""
        got = self.answer(server, name, password)
        self.assertTrue(got.startswith(answer), (name, got))

    def check(self, *sources: dict[str, Any]) -> tuple[int, str]:
        """Exit status and output of "tpops check"."""
        server = RunningServer(self, users={})
        server.configuration["accounts"] = list(sources)
        server.write_configuration()
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "check"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr
