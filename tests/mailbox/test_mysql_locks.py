"""Locks and names of both schemas, in a real MariaDB and one process."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from tests.contracts.append import Incoming
from tests.integration.mail_database import MailDatabaseTests
from tests.mailbox.test_mysql_contract import text_of
from tpops.db.mysql import DatabaseFailed
from tpops.errors import MaildropBroken
from tpops.mailbox.mysql_schema import LockLost

#: When nobody waits any more.
NEVER = 1e9


class V2LockTests(MailDatabaseTests):
    """Schema v2."""

    kind = "v2"

    def setUp(self) -> None:
        super().setUp()
        self.connected = self.client()

    def take(self, schema: Any, name: str = "joe") -> Any:
        """A lock, None when another one has it."""
        return schema.take(self.connected, NEVER, name)

    def places(self, schema: Any, held: Any) -> list[bytes]:
        """Where the messages are."""
        places: list[bytes] = schema.listing(self.connected, NEVER, held, None)[1].all_places()
        return places

    def expire(self) -> None:
        """Every lock has run out."""
        self.run_sql("UPDATE tpops_lease SET expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")

    def test_renewed_lock_stays(self) -> None:
        """Promise: what was renewed in time is nobody else's, and still removes."""
        self.store(b"Subject: one\n\n")
        one, other = self.tables(), self.tables()
        held = self.take(one)
        places = self.places(one, held)
        self.expire()
        one.renew(self.connected, NEVER, [held])
        self.assertIsNone(self.take(other))
        one.remove(self.connected, held, places)
        self.assertEqual(self.stored(), [])
        one.release(self.connected, NEVER, held)
        self.assertIsNotNone(self.take(other))

    def test_lock_that_ran_out_and_nobody_took(self) -> None:
        """Promise: it still removes: nobody has seen what it removes."""
        self.store(b"Subject: one\n\n")
        one = self.tables()
        held = self.take(one)
        self.expire()
        one.remove(self.connected, held, self.places(one, held))
        self.assertEqual(self.stored(), [])

    def test_lock_that_was_taken_over(self) -> None:
        """Promise: it removes nothing, is not renewed, and its release does not touch the other's."""
        self.store(b"Subject: one\n\n")
        one, other, third = self.tables(), self.tables(), self.tables()
        held = self.take(one)
        places = self.places(one, held)
        self.expire()
        self.assertIsNotNone(self.take(other))
        one.renew(self.connected, NEVER, [held])
        self.assertRaises(LockLost, one.remove, self.connected, held, places)
        one.release(self.connected, NEVER, held)
        self.assertIsNone(self.take(third))
        self.assertEqual(len(self.stored()), 1)

    def test_lock_of_an_earlier_try(self) -> None:
        """Promise: what this process has locked without knowing it, when an answer was lost, it can lock again."""
        one = self.tables()
        first = self.take(one)
        self.forget(first)
        self.assertIsNotNone(self.take(one))

    def forget(self, held: Any) -> None:
        """The process does not know of it."""

    def test_owners(self) -> None:
        """Promise: names that the database takes for another's, or that cannot be any, are nobody's mail."""
        schema = self.tables()
        for name in ("joe ", "", "j\noe", "x" * 300, "jo\udce9"):
            self.assertRaises(MaildropBroken, self.take, schema, name)
            self.assertRaises(MaildropBroken, schema.add, self.connected, name, Incoming(b"x\n"), 0.0, self.account)

    def test_given_unique_ids_and_times(self) -> None:
        """Promise: mail from elsewhere keeps its unique-id and its time; the same unique-id twice is an error."""
        schema: Any = self.tables()
        for number in (1, 2):
            given = b"old.%d" % number
            message = Incoming(b"Subject: %d\n\n" % number, 1 << 20)
            self.assertEqual(schema.add(self.connected, "joe", message, 1e9 + number, self.account, given), given)
            self.assertRaises(DatabaseFailed, schema.add, self.connected, "joe", message, 1e9, self.account, given)
        rows = self.run_sql("SELECT unique_id, received_at FROM tpops_message ORDER BY sequence")
        self.assertEqual(rows, [(b"old.1", 1000000001), (b"old.2", 1000000002)])
        self.assertEqual(self.run_sql("SELECT messages, octets FROM tpops_mailbox"), [(2, 24)])


class ClassicLockTests(V2LockTests):
    """TPOPS' own tables."""

    kind = "classic"

    def expire(self) -> None:
        """See V2LockTests: for TPOPS, by the time in the row, which the process knows."""
        self.run_sql("UPDATE locks SET timestamp = timestamp")

    def row(self, pid: int | None, age: str = "0 SECOND") -> None:
        """A row of TPOPS'."""
        self.run_sql("DELETE FROM locks")
        self.insert("locks", uid=7, pid=pid, timestamp=f"=NOW() - INTERVAL {age}")

    def forget(self, held: Any) -> None:
        """See V2LockTests."""
        self.tables().release(self.client(), NEVER, held)
        self.insert("locks", uid=7, pid=os.getpid(), timestamp="=NOW()")

    def test_lock_that_was_taken_over(self) -> None:
        """Promise: as in schema v2; TPOPS writes its own row in place of ours."""
        self.store(b"Subject: one\n\n")
        one: Any = self.tables()
        held = self.take(one)
        places = self.places(one, held)
        self.row(os.getppid())
        one.renew(self.connected, NEVER, [held])
        self.assertRaises(LockLost, one.remove, self.connected, held, places)
        one.release(self.connected, NEVER, held)
        self.assertEqual(self.run_sql("SELECT pid FROM locks"), [(os.getppid(),)])
        self.assertEqual(len(self.stored()), 1)

    def test_who_is_alive(self) -> None:
        """Promise: rows of TPOPS count while they are young and, on this machine, while their process is there."""
        gone = subprocess.Popen(["true"])
        gone.wait()
        for pid, age, by_pid, live in (
            (os.getppid(), "0 SECOND", True, True),
            (os.getppid(), "59 MINUTE", True, True),
            (os.getppid(), "61 MINUTE", True, False),
            (1, "0 SECOND", True, True),
            (gone.pid, "0 SECOND", True, False),
            (gone.pid, "0 SECOND", False, True),
            (gone.pid, "61 MINUTE", False, False),
            (0, "0 SECOND", True, False),
            (None, "0 SECOND", False, False),
            (os.getpid(), "0 SECOND", True, False),
        ):
            self.row(pid, age)
            schema = self.tables(by_pid=by_pid)
            held = self.take(schema)
            self.assertEqual(held is None, live, (pid, age, by_pid))
            if held is not None:
                schema.release(self.connected, NEVER, held)

    def test_given_unique_ids_and_times(self) -> None:
        """Promise: the time is the envelope's, but no earlier than that of the last message."""
        schema: Any = self.tables()
        self.mariadb.run("SET GLOBAL time_zone = '+02:00'")
        self.addCleanup(self.mariadb.run, "SET GLOBAL time_zone = 'SYSTEM'")
        for at, moment in ((1e9, b"20010909034640"), (1e9 - 5, b"20010909034640"), (1e9 + 5, b"20010909034645")):
            unique_id = schema.add(self.connected, "joe", Incoming(b"Subject: x\r\n\r\n"), at, self.account)
            self.assertEqual(unique_id.split(b".")[1:], [b"7", moment])
        self.assertEqual(self.stored(), [text_of(b"Subject: x\r\n\r\n")] * 3)
