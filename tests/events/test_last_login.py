"""L{tpops.events.last_login} and L{tpops.db.last_logins}."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.events.samples import MOMENT, session
from tpops.db.last_logins import LastLogin, LastLogins, NotKept
from tpops.events import last_login
from tpops.events.deliveries import NotTold
from tpops.events.last_login import LastLoginSink
from tpops.interfaces import IEventSink
from tpops.model import Event

NOW = int(MOMENT)


class StoreTests(SynchronousTestCase):
    """The file."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        self.store = LastLogins(self.path, addresses=3, days=10)
        self.addCleanup(self.store.close)

    def note(self, user: str, address: str, at: int, count: int = 1) -> None:
        """One login."""
        self.store.note((LastLogin(user, address, at, count, "PASS"),), NOW)

    def test_newest_of_each_address(self) -> None:
        """Promise: time and number of logins by address, the newest first; time does not go back."""
        self.assertEqual(self.store.of("joe"), [])
        self.assertFalse(os.path.exists(self.path))
        self.note("joe", "192.0.2.1", NOW - 50, 2)
        self.note("joe", "", NOW - 20)
        self.note("joe", "192.0.2.1", NOW - 60)
        self.note("ann", "192.0.2.1", NOW)
        self.assertEqual(
            self.store.of("joe"),
            [LastLogin("joe", "", NOW - 20, 1, "PASS"), LastLogin("joe", "192.0.2.1", NOW - 50, 3, "PASS")],
        )
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)

    def test_bounded(self) -> None:
        """Promise: so many addresses of a user, those used last; nothing older than so many days."""
        for last in range(6):
            self.note("joe", f"192.0.2.{last}", NOW - 100 + last)
        self.assertEqual([one.address for one in self.store.of("joe")], ["192.0.2.5", "192.0.2.4", "192.0.2.3"])
        self.note("old", "192.0.2.1", NOW - 10 * 86400 - 1)
        self.assertEqual(self.store.of("old"), [])

    def test_forget(self) -> None:
        """Promise: a user's logins can be forgotten."""
        self.store.forget("joe")
        self.note("joe", "192.0.2.1", NOW)
        self.store.forget("joe")
        self.assertEqual(self.store.of("joe"), [])

    def test_file_that_goes_away_or_breaks(self) -> None:
        """Promise: another file in its place is used; what is no database is named."""
        self.note("joe", "192.0.2.1", NOW)
        for ending in ("", "-wal", "-shm"):
            Path(self.path + ending).unlink(missing_ok=True)
        self.note("ann", "192.0.2.1", NOW)
        self.assertEqual((self.store.of("joe"), len(self.store.of("ann"))), ([], 1))
        self.store.close()
        Path(self.path).write_bytes(b"no database, but long enough to be taken for one" * 50)
        error = self.assertRaises(NotKept, self.note, "joe", "192.0.2.1", NOW)
        self.assertEqual(str(error), f"{self.path}: file is not a database")
        nowhere = LastLogins("/nowhere/last.sqlite", 3, 10)
        self.assertRaises(NotKept, nowhere.note, (), NOW)

    def test_nothing_counts_when_something_fails(self) -> None:
        """Promise: logins are written as a whole."""
        wrong = LastLogin("joe", "192.0.2.1", NOW, 0, "PASS")
        with self.assertRaises(NotKept):
            self.store.note((LastLogin("ann", "192.0.2.1", NOW, 1, "PASS"), wrong), NOW)
        self.assertEqual(self.store.of("ann"), [])

    def test_several_processes(self) -> None:
        """Promise: workers share the file."""
        other = LastLogins(self.path, 3, 10)
        self.addCleanup(other.close)
        self.note("joe", "192.0.2.1", NOW)
        other.note((LastLogin("joe", "192.0.2.1", NOW, 1, "APOP"),), NOW)
        self.assertEqual(self.store.of("joe"), [LastLogin("joe", "192.0.2.1", NOW, 2, "APOP")])
        with sqlite3.connect(self.path) as connection:
            self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        connection.close()


class SinkTests(SynchronousTestCase):
    """Notes are gathered and written together."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = os.path.abspath(self.mktemp())
        self.store = LastLogins(self.path, 20, 400)
        self.broken: Exception | None = None
        self.writes = 0
        self.sink = LastLoginSink(self.store, self.clock, self.run_in_thread, lambda: MOMENT, 5.0)

    def run_in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """At once."""
        self.writes += 1
        return fail(self.broken) if self.broken else maybeDeferred(work, *arguments)

    def log_in(self, user: str = "joe", host: str = "192.0.2.7", **facts: Any) -> None:
        """A login."""
        made = session(user=user, mechanism="PASS", **facts)
        made.peer = attrs.evolve(made.peer, host=host)
        self.assertIsNone(self.sink.notify(Event("login", MOMENT, made)))

    def stop(self) -> None:
        """Stop the sink."""
        self.successResultOf(Deferred.fromCoroutine(self.sink.stop()))

    def test_written_together(self) -> None:
        """Promise: a login costs a note; all of some seconds are one write; nobody waits."""
        self.assertTrue(verifyObject(IEventSink, self.sink))
        for _ in range(3):
            self.log_in()
        self.log_in(host="::ffff:192.0.2.7")
        self.log_in(host="/run/socket")
        self.log_in("root", master=b"admin")
        self.assertEqual(self.writes, 0)
        self.clock.advance(5.0)
        self.assertEqual(self.writes, 1)
        self.assertEqual({(one.address, one.count) for one in self.store.of("joe")}, {("192.0.2.7", 4), ("", 1)})
        self.assertEqual(self.store.of("root"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.stop()

    def test_stop_writes_what_is_there(self) -> None:
        """Promise: a stop loses nothing, and leaves no timer."""
        self.log_in()
        self.stop()
        self.assertEqual(len(self.store.of("joe")), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.store.close()

    def test_file_that_cannot_be_written(self) -> None:
        """Promise: it is told once, the notes wait, and they are written as soon as that is possible."""
        self.broken = NotKept("full")
        self.log_in()
        self.clock.advance(5.0)
        self.log_in()
        self.log_in("ann")
        self.clock.advance(5.0)
        self.broken = None
        self.clock.advance(5.0)
        self.assertEqual([one.count for one in self.store.of("joe")], [2])
        self.assertEqual(len(self.store.of("ann")), 1)
        self.stop()

    def test_bounded(self) -> None:
        """Promise: so many notes at most; what is over is a failure of the sink."""
        self.patch(last_login, "MOST_NOTES", 2)
        self.broken = NotKept("full")
        for last in (1, 2):
            self.log_in(host=f"192.0.2.{last}")
        self.log_in(host="192.0.2.2")
        self.assertRaises(NotTold, self.log_in, host="192.0.2.3")
        self.clock.advance(5.0)
        self.log_in(host="192.0.2.2")
        self.assertRaises(NotTold, self.log_in, host="192.0.2.3")
        self.stop()

    def test_error_of_ours(self) -> None:
        """Promise: what is not the file's fault is logged with where it was."""
        self.broken = RuntimeError("a mistake")
        self.log_in()
        self.clock.advance(5.0)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.stop()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
