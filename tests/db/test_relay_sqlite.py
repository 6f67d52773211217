"""The store of POP before SMTP in SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.contracts.relay_store import EXPIRE, HERE, JOE, RelayStoreContract
from tpops.db import relay, relay_sqlite
from tpops.db.relay import Contents, Login, Rule, Sender, StoreFailed
from tpops.db.relay_sqlite import SQLiteRelayStore


class SQLiteCase(SynchronousTestCase):
    """A file, and a clock."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.seconds = 1_000_000_000.5
        self.made: list[str] = []
        self.store = self.make_store()

    def make_store(self) -> SQLiteRelayStore:
        """See RelayStoreContract."""
        store = SQLiteRelayStore(self.path, EXPIRE, lambda: self.seconds, self.made.append)
        self.addCleanup(store.close)
        return store

    def now(self) -> int:
        """See RelayStoreContract."""
        return int(self.seconds)

    def execute(self, *statements: str) -> None:
        """As an operator does with the program sqlite3."""
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            for statement in statements:
                connection.execute(statement)

    def put_login(self, address: str, user: str, at: int) -> None:
        """See RelayStoreContract."""
        self.execute(f"INSERT OR REPLACE INTO logins VALUES ('{address}', '{user}', {at})")


class ContractTests(SQLiteCase, RelayStoreContract):
    """It keeps the contract of stores."""

    def setUp(self) -> None:
        super().setUp()
        self.store.purge()


class FileTests(SQLiteCase):
    """The file comes, goes and is replaced."""

    def test_is_made_when_something_is_written(self) -> None:
        """Private, and told; reading alone makes nothing."""
        with self.assertRaisesRegex(StoreFailed, "there is no database .*; it is made at the first login"):
            self.store.facts(HERE, HERE, JOE)
        self.assertFalse(os.path.exists(self.path))
        self.store.record([Login(HERE, "joe", self.now())])
        self.assertEqual((os.stat(self.path).st_mode & 0o777, self.made), (0o600, [self.path]))
        self.assertTrue(self.store.facts(HERE, HERE, JOE).here)

    def test_replaced_file_is_written_and_read(self) -> None:
        """Nothing is written into a file that has no name any more."""
        self.store.record([Login(HERE, "joe", self.now())])
        self.assertTrue(self.store.facts(HERE, HERE, JOE).here)
        for name in Path(self.path).parent.glob(os.path.basename(self.path) + "*"):
            name.unlink()
        self.store.record([Login(HERE, "ann", self.now())])
        self.assertEqual([one.user for one in self.make_store().logins()], ["ann"])
        self.assertEqual([one.user for one in self.store.logins()], ["ann"])

    def test_cannot_be_made(self) -> None:
        """The reason and the path are told."""
        self.path = os.path.join(self.path, "no", "such")
        with self.assertRaisesRegex(StoreFailed, "there is no database .*/no/such"):
            self.make_store().record([Login(HERE, "joe", 1)])

    def test_damaged_file(self) -> None:
        """Neither read nor written, nor made anew over what may be of use."""
        Path(self.path).write_bytes(b"rubbish " * 1000)
        for work in (self.store.purge, self.store.logins, self.store.check, self.store.rules):
            with self.assertRaisesRegex(StoreFailed, "cannot use .*: file is not a database"):
                work()
        self.assertTrue(Path(self.path).read_bytes().startswith(b"rubbish"))

    def test_locked_by_somebody(self) -> None:
        """Reading goes on; writing fails when its time is up, and works again afterwards."""
        self.store.record([Login(HERE, "joe", self.now())])
        self.store._connected().execute("PRAGMA busy_timeout = 20")
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with self.assertRaisesRegex(StoreFailed, "database is locked"):
                self.store.record([Login(HERE, "ann", self.now())])
            self.assertTrue(self.store.facts(HERE, HERE, JOE).here)
        self.store.record([Login(HERE, "ann", self.now())])
        self.assertEqual(len(self.store.logins()), 2)

    def test_several_threads(self) -> None:
        """Writers take turns."""
        self.store.purge()
        threads = [
            threading.Thread(target=self.store.record, args=([Login(f"192.0.2.{one}", "joe", self.now())],))
            for one in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.store.logins()), 20)


class RowTests(SQLiteCase):
    """What the tables take."""

    def test_what_cannot_be_right_is_refused(self) -> None:
        """Also from somebody who writes with the program sqlite3."""
        self.store.purge()
        for statement in (
            f"INSERT INTO usermap VALUES ('{JOE}', 'joe', 2)",
            "INSERT INTO usermap VALUES ('', 'joe', 1)",
            "INSERT INTO accessmap VALUES ('192.0.2.0/24', NULL, 2)",
            "INSERT INTO accessmap VALUES ('192.0.2.0/24', '', 1)",
            "INSERT INTO accessmap VALUES ('192.0.2.0/24', 'a@b', 3)",
            "INSERT INTO logins VALUES ('', 'joe', 1)",
            "INSERT INTO param VALUES ('expire', 0)",
        ):
            with self.assertRaises(sqlite3.IntegrityError):
                self.execute(statement)

    def test_all_or_nothing(self) -> None:
        """One row that is refused leaves the others out."""
        with self.assertRaises(StoreFailed):
            self.store.put(Contents(senders=[Sender("joe", JOE, 1)], rules=[Rule(HERE, None, 2)]))
        self.assertEqual(self.store.senders(None), [])

    def test_time_goes_on_over_what_is_in_memory(self) -> None:
        """Nothing has to be written for a login to expire."""
        self.store.record([Login(HERE, "joe", self.now())])
        self.assertTrue(self.store.facts(HERE, HERE, JOE).here)
        self.seconds += EXPIRE - 1
        self.assertTrue(self.store.facts(HERE, HERE, JOE).here)
        self.seconds += 1
        self.assertFalse(self.store.facts(HERE, HERE, JOE).here)

    def test_memory_is_bounded(self) -> None:
        """Whoever asks about ever new senders fills nothing."""
        self.store.purge()
        self.patch(relay_sqlite, "_CACHE_PAIRS", 10)
        for number in range(100):
            self.store.facts(HERE, HERE, f"{number}@example.org")
            self.assertLessEqual(len(self.store._known), 10)


class SenderTests(SynchronousTestCase):
    """Sender addresses in one form."""

    def test_domain_in_lower_case_and_nothing_else(self) -> None:
        """The last @ parts local part and domain; the null sender stays."""
        for text, wanted in (
            ("Joe@EXAMPLE.org", "Joe@example.org"),
            ('"a@B"@EXAMPLE.org', '"a@B"@example.org'),
            ("", ""),
            ("Joe", "Joe"),
        ):
            self.assertEqual(relay.sender(text), wanted)

    def test_what_may_be_registered(self) -> None:
        """No patterns, no angle brackets, nothing without a domain."""
        self.assertEqual(relay.sender_to_store("joe+x@Example.org"), "joe+x@example.org")
        for text in (
            "",
            "joe",
            "@example.org",
            "joe@",
            "<joe@example.org>",
            "%@%",
            "joe@*",
            "a@b c",
            "a\n@b",
            "x" * 330 + "@b",
        ):
            with self.assertRaises(ValueError):
                relay.sender_to_store(text)
