"""What mail in MySQL costs: statements of a session, and memory of a delivery."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.integration.mail_database import MailDatabaseTests, OwnServerTests
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program
from tests.integration.wire import Wire
from tpops.errors import QuotaExceeded
from tpops.model import Account

MESSAGES = 20

_MIB = 1 << 20

#: Memory that storing a big message may take: a piece of it as it is, quoted and sent, and what is left behind.
MOST_GROWTH_MIB = 12


def memory_mib() -> float:
    """What this process has in memory now."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Flood:
    """A message of 100 MiB that is nowhere in memory; see IIncomingMessage."""

    def __init__(self) -> None:
        self.octets = 100 * _MIB
        self.most = 0.0

    def chunks(self) -> Iterator[bytes]:
        """See IIncomingMessage."""
        piece = b"'" * (_MIB - 1) + b"\n"
        for _ in range(self.octets // _MIB):
            self.most = max(self.most, memory_mib())
            yield piece


class V2CostTests(OwnServerTests):
    """Schema v2."""

    kind = "v2"
    poll = 4
    look_again = 1
    removal = 6

    def count(self, session: Callable[[], None]) -> list[str]:
        """The statements that tpops sends meanwhile."""
        self.mariadb.run("SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON", "TRUNCATE mysql.general_log")
        try:
            session()
        finally:
            self.mariadb.run("SET GLOBAL general_log = OFF")
        sql = (
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log "
            "WHERE user_host LIKE 'reader%' AND command_type = 'Query' ORDER BY event_time"
        )
        return [str(row[0]) for row in self.mariadb.run(sql)]

    def session(self, server: RunningServer, *commands: bytes) -> Callable[[], None]:
        """A session with these commands."""

        def run() -> None:
            wire = server.session("joe", "secret")
            for command in commands:
                self.ask(wire, command)
            self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
            wire.rest()

        return run

    def ask(self, wire: Wire, command: bytes) -> None:
        """One command."""
        if command.startswith((b"UIDL", b"LIST", b"RETR", b"TOP")):
            status, _ = wire.multi_line(command)
        else:
            status = wire.command(command)
        self.assertTrue(status.startswith(b"+OK"), status)

    def test_statements_of_sessions(self) -> None:
        """Promise: polls and removals are so many statements; one brings 1, 2, 4… messages that are read in turn."""
        for number in range(MESSAGES):
            self.store(b"Subject: %d\n\n" % number + b"text\n" * 1000)
        server = self.mail_server()
        numbers = range(1, MESSAGES + 1)
        polling = self.session(server, b"STAT", b"LIST", b"UIDL")
        fetching = self.session(server, *(b"RETR %d" % number for number in numbers))
        polling()  # which opens the connections and lists
        self.assertEqual(len(self.count(polling)), self.poll)
        self.assertEqual(len(self.count(fetching)), self.poll + 5)
        backwards = self.session(server, *(b"RETR %d" % number for number in reversed(numbers)))
        self.assertEqual(len(self.count(backwards)), self.poll + MESSAGES)
        self.store(b"Subject: new\n\n")
        self.assertEqual(len(self.count(polling)), self.poll + self.look_again)
        removing = self.count(self.session(server, *(b"DELE %d" % number for number in numbers)))
        self.assertEqual(len(removing), self.poll + self.removal, removing)
        self.assertEqual(len(self.stored()), 1)

    def test_listing_is_one_statement(self) -> None:
        """Promise: the first look at a mailbox is one statement more, whatever there is; memory and listing agree."""
        for number in range(MESSAGES):
            self.store(b"Subject: %d\n\n" % number)
        server = self.mail_server()
        self.session(server)()
        server.restart()
        self.mail_of_somebody_else(server)
        self.assertEqual(len(self.count(self.session(server, b"LIST"))), self.first_poll)

    #: Statements of the first poll of a process whose connections are open.
    first_poll = 5

    def mail_of_somebody_else(self, server: RunningServer) -> None:
        """A session that opens the connections, without a look at our mail."""
        columns = {"name": "ann", "password_hash": "{PLAIN}secret", "created_at": 0, "changed_at": 0}
        self.insert("tpops_user", **columns)
        server.session("ann", "secret").command(b"QUIT")


class ClassicCostTests(V2CostTests):
    """TPOPS' own tables."""

    kind = "classic"
    poll = 5
    removal = 4
    first_poll = 5

    def mail_of_somebody_else(self, server: RunningServer) -> None:
        """See V2CostTests."""
        self.insert("user", login="ann", passwd="secret")
        server.session("ann", "secret").command(b"QUIT")


class DeliveryTests(MailDatabaseTests):
    """Mail that comes in by the command line."""

    def deliver(self, server: RunningServer, *arguments: str, given: bytes, status: int = 0) -> None:
        """Run "tpops store"."""
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "store", *arguments],
            input=given,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, status, done.stderr)

    def test_store_and_fetch(self) -> None:
        """Promise: what a mail server hands in is there for the owner; over the quota it is refused for good."""
        server = self.mail_server()
        message = b"Subject: one\n\n" + b"text\n" * 100
        self.limit(2 * len(message))
        self.deliver(server, "joe", given=message)
        wire = server.session("joe", "secret")
        self.assertIn(b"text\r\ntext", wire.multi_line(b"RETR 1")[1])
        self.deliver(server, "joe", given=message * 2, status=73)
        self.assertEqual(len(self.stored()), 1)

    def limit(self, octets: int) -> None:
        """Give joe a quota."""
        self.run_sql(f"UPDATE tpops_user SET quota_octets = {octets}")

    def test_memory_of_a_delivery(self) -> None:
        """Promise: memory does not depend on the message, and what is stored is all of it."""
        schema: Any = self.tables()
        client = self.client()
        flood = Flood()
        refused = Account("joe", "test", quota_octets=1)
        self.assertRaises(QuotaExceeded, schema.add, client, "joe", flood, 0.0, refused)
        before, flood.most = memory_mib(), 0.0
        schema.add(client, "joe", flood, 0.0, self.account)
        self.assertLess(flood.most - before, MOST_GROWTH_MIB)
        self.assertEqual(self.run_sql("SELECT octets FROM tpops_content"), [(flood.octets,)])
        self.assertEqual(
            self.run_sql("SELECT SUM(LENGTH(data)), MAX(LENGTH(data)) FROM tpops_chunk"), [(flood.octets, _MIB // 2)]
        )


class ClassicDeliveryTests(DeliveryTests):
    """TPOPS' own tables."""

    kind = "classic"

    def limit(self, octets: int) -> None:
        """See DeliveryTests."""
        self.run_sql(f"UPDATE user SET quota = {octets}")

    def test_memory_of_a_delivery(self) -> None:
        """Promise: likewise, for what the columns take; more is refused, and nothing of it stays."""
        schema: Any = self.tables()
        client = self.client()
        flood = Flood()
        self.assertRaises(QuotaExceeded, schema.add, client, "joe", flood, 0.0, self.account)
        self.assertEqual(self.stored(), [])
        before, flood.most, flood.octets = memory_mib(), 0.0, 8 * _MIB
        schema.add(client, "joe", flood, 0.0, self.account)
        self.assertLess(flood.most - before, MOST_GROWTH_MIB)
        self.assertEqual(self.run_sql("SELECT size FROM msg"), [(8 * (_MIB + 1),)])

    def test_other_engine_and_characters(self) -> None:
        """Promise: what TPOPS' tables may be like is said by "tpops check", and no mail is half stored."""
        self.run_sql("ALTER TABLE msg MODIFY body MEDIUMTEXT CHARACTER SET utf8mb4")
        said = self.said("\xe4")
        self.assertIn("body in the table msg is in utf8mb4", said)
        self.run_sql("ALTER TABLE msg ENGINE = MyISAM")
        said = self.said("a")
        self.assertIn("ALTER TABLE msg ENGINE = InnoDB", said)

    def said(self, letter: str) -> str:
        """What a delivery that fails, and "tpops check", say; mail that is there is sent all the same."""
        self.run_sql("DELETE FROM msg")
        text = "é" * 70_000
        self.insert("msg", uid=7, timestamp="=NOW()", header="Subject: x\n", body=text, size=14 + 2 * len(text) + 2)
        server = self.mail_server()
        wire = server.session("joe", "secret")
        self.assertEqual(wire.multi_line(b"RETR 1")[1], f"Subject: x\r\n\r\n{text}\r\n".encode())
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        message = b"Subject: x\n\n" + letter.encode("latin-1")
        self.deliver(server, "joe", given=message, status=75)
        self.assertEqual(self.stored(), [])
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), "check"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        return done.stdout + done.stderr


class UserTests(MailDatabaseTests):
    """ "tpops user" where the mail is in the database."""

    kind = "classic"

    def test_add(self) -> None:
        """Promise: a user of TPOPS' table needs no Maildir; his mail is in the database."""
        server = self.mail_server()
        done = subprocess.run(
            [
                program("tpops"),
                "-c",
                str(server.configuration_file),
                "user",
                "add",
                "ann",
                "--stdin",
                "--scheme",
                "PLAIN",
            ],
            input="secret\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, "added ann; mail in the database, as ann\n"), done.stderr)
        self.assertEqual(self.run_sql("SELECT maildir FROM user WHERE login = 'ann'"), [(None,)])
        self.store(b"Subject: one\n\n", "ann")
        self.assert_in(server, "ann", "secret", 1)
