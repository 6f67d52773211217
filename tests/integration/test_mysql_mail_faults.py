"""The database dies, restarts or loses a connection at the worst moment: no mail is lost, and nobody guesses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from tests.contracts.append import ENVELOPE, Incoming
from tests.integration.mail_database import OwnServerTests
from tests.integration.relay import Relay
from tests.integration.server import RunningServer, wait_until
from tests.integration.wire import Wire
from tpops.db.mysql import Client, DatabaseFailed, Execute
from tpops.db.mysql_changes import Changes, OutcomeUnknown
from tpops.errors import QuotaExceeded, StorageUnavailable

_MAIL = (b"Subject: one\n\n", b"Subject: two\n\n", b"Subject: three\n\n")

TEMPORARY = b"-ERR [SYS/TEMP]"


class CommitRelay(Relay):
    """
    A network that breaks when a transaction is to be completed, once.

    @ivar at_commit: called when the client has asked for it and the server has not heard of it
    @ivar passes: whether the server hears of it
    """

    def __init__(self, target: int) -> None:
        self.at_commit: Callable[[], None] | None = None
        self.passes = True
        super().__init__(target)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()  # there is nobody
        else:
            self._ends |= {client: server, server: client}

    def _pass_on(self, one: socket.socket) -> None:
        at_commit = self.at_commit
        if at_commit is None or b"\x03COMMIT" not in self._coming(one):
            super()._pass_on(one)
            return
        self.at_commit = None
        other = self._ends[one]
        if self.passes:
            other.sendall(one.recv(65536))
            other.recv(65536)  # the answer, which nobody hears
        at_commit()
        for end in (one, other):
            del self._ends[end]
            end.close()

    def _coming(self, one: socket.socket) -> bytes:
        with contextlib.suppress(OSError):
            return one.recv(65536, socket.MSG_PEEK)
        return b""


class V2FaultTests(OwnServerTests):
    """Schema v2."""

    kind = "v2"

    def setUp(self) -> None:
        super().setUp()
        for message in _MAIL:
            self.store(message)

    def fill(self, *addresses: str, **mysql: Any) -> RunningServer:
        """A server whose accounts are in a file, so that only mail needs the database."""
        source = self.source()
        keys = {key: source[key] for key in ("user", "password", "database")}
        given = {"servers": list(addresses), "timeout_seconds": 20, **keys, **mysql}
        server = self.mail_server(start=False, mysql=given)
        server.configuration["accounts"] = [{"driver": "passwd_file", "path": "users"}]
        (server.directory / "users").write_text("joe:{PLAIN}secret::::/nowhere:\n")
        return server.start()

    def hold(self) -> Any:
        """Lock what a removal has to lock first; closing the connection lets it go."""
        connection = self.enterContext(self.mariadb.connection(self.schema))
        connection.begin()
        connection.cursor().execute(f"SELECT * FROM {self.lock_table()} FOR UPDATE")
        return connection

    def lock_table(self) -> str:
        """Where the locks of sessions are."""
        return "tpops_lease"

    def removing(self, wire: Wire) -> None:
        """Ask for the removal of the first two, and wait until the server is at it."""
        for number in (1, 2):
            wire.command(b"DELE %d" % number)
        wire.send(b"QUIT\r\n")
        wait_until(self.waiting, "a removal that waits")

    def waiting(self) -> tuple[int, ...]:
        """The connections that wait for a lock of a session."""
        sql = (
            f"SELECT id FROM information_schema.processlist WHERE user = 'reader' AND info LIKE '%{self.lock_table()}%'"
        )
        return tuple(row[0] for row in self.mariadb.run(sql))

    def test_kill_of_the_database_at_quit(self) -> None:
        """Promise: kill -9 before the removal is complete: -ERR, everything is there, and the next session works."""
        server = self.fill(self.mariadb.unix, timeout_seconds=60)
        wire = server.session("joe", "secret")
        self.hold()
        self.removing(wire)
        self.mariadb.kill()
        self.assertTrue(wire.line().startswith(TEMPORARY))
        self.assertTrue(self.answer(server, "joe", "secret").startswith(TEMPORARY))
        self.mariadb.start()
        self.assertEqual(self.stored(), list(_MAIL))
        wait_until(lambda: self.answer(server, "joe", "secret").startswith(b"+OK joe has 3"), "a session")

    def test_kill_of_tpops_at_quit(self) -> None:
        """Promise: kill -9 of tpops while it removes: nothing is removed, and the mailbox is free after a while."""
        server = self.fill(self.mariadb.unix, timeout_seconds=60, lease_seconds=5)
        wire = server.session("joe", "secret")
        connection = self.hold()
        self.removing(wire)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        connection.rollback()
        wait_until(lambda: not self.waiting(), "the end of the removal")
        self.assertEqual(self.stored(), list(_MAIL))
        server.start()
        wait_until(lambda: self.answer(server, "joe", "secret").startswith(b"+OK joe has 3"), "a session")

    def test_removal_waits_for_a_lock(self) -> None:
        """Promise: a removal that the server refuses because of somebody else's lock is tried again."""
        server = self.fill(self.mariadb.unix, timeout_seconds=4)
        wire = server.session("joe", "secret")
        connection = self.hold()
        self.removing(wire)
        before = wait_until(self.waiting, "a wait")
        wait_until(lambda: self.waiting() not in ((), before), "another try")
        connection.rollback()
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertEqual(self.stored(), [_MAIL[2]])

    def broken(self, passes: bool, at_commit: Callable[[], None] = lambda: None) -> bytes:
        """QUIT's answer when the connection is lost while it is completed."""
        relay = CommitRelay(self.mariadb.port)
        self.addCleanup(relay.close)
        server = self.fill(f"127.0.0.1:{relay.port}")
        wire = server.session("joe", "secret")
        for number in (1, 2):
            wire.command(b"DELE %d" % number)
        relay.passes, relay.at_commit = passes, at_commit
        return wire.command(b"QUIT")

    def test_answer_of_the_commit_is_lost(self) -> None:
        """Promise: the outcome is looked up: it counts, and the client hears so."""
        self.assertTrue(self.broken(True).startswith(b"+OK"))
        self.assertEqual(self.stored(), [_MAIL[2]])

    def test_commit_is_lost(self) -> None:
        """Promise: likewise where it does not count: -ERR, and everything is there."""
        self.assertTrue(self.broken(False).startswith(TEMPORARY))
        self.assertEqual(self.stored(), list(_MAIL))

    def test_database_is_killed_at_the_commit(self) -> None:
        """Promise: kill -9 then, and a restart: what the client hears is what is."""

        def restart() -> None:
            self.mariadb.kill()
            threading.Thread(target=self.mariadb.start).start()

        answer = self.broken(True, restart)
        wait_until(self.mariadb._answers, "the database again")
        left = self.stored()
        self.assertIn((answer[:3], left), ((b"+OK", [_MAIL[2]]), (b"-ER", list(_MAIL))))

    def test_kill_of_the_database_while_a_message_is_sent(self) -> None:
        """Promise: the connection is cut; no client takes a part for the whole."""
        self.store(b"Subject: big\n\n" + b"0123456789abcde\n" * 400_000)
        server = self.fill(self.mariadb.unix, timeout_seconds=4)
        wire = server.session("joe", "secret", receive_octets=4096)
        wire.send(b"RETR 4\r\n")
        self.assertTrue(wire.line().startswith(b"+OK"))
        self.mariadb.kill()
        self.assertFalse(wire.rest().endswith(b"\r\n.\r\n"))
        self.assertTrue(self.answer(server, "joe", "secret").startswith(TEMPORARY))

    def test_restart_of_the_database_in_a_session(self) -> None:
        """Promise: idle connections that died are replaced, for reading, for removing and for the next login."""
        server = self.fill(self.mariadb.unix)
        wire = server.session("joe", "secret")
        for _ in range(2):
            self.mariadb.stop()
            self.assertTrue(wire.command(b"RETR 1").startswith(TEMPORARY))
            self.mariadb.start()
            self.assertTrue(wire.multi_line(b"RETR 1")[0].startswith(b"+OK"))
        wire.command(b"DELE 1")
        self.mariadb.stop()
        self.mariadb.start()
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(self.stored(), list(_MAIL[1:]))

    def test_database_is_down(self) -> None:
        """Promise: logins and deliveries fail for now, never for good, and work when it is back."""
        server = self.fill(self.mariadb.unix, timeout_seconds=4)
        self.mariadb.stop()
        self.assert_out(server, "joe", "secret", TEMPORARY)
        driver = self.driver()
        self.fails(driver, _MAIL[0], StorageUnavailable)
        self.mariadb.start()
        self.assert_in(server, "joe", "secret", 3)
        self.store(_MAIL[0])
        self.assertEqual(len(self.stored()), 4)

    def test_database_hangs(self) -> None:
        """Promise: a login fails for now, in bounded time, and leaves no lock that would keep the next one out."""
        server = self.fill(self.mariadb.unix, timeout_seconds=4)
        self.assert_in(server, "joe", "secret", 3)
        wait_until(lambda: not self.locks(), "the end of the session")
        self.mariadb.hang()
        try:
            self.assert_out(server, "joe", "secret", TEMPORARY)
        finally:
            self.mariadb.go_on()
        self.assert_in(server, "joe", "secret", 3)

    def fails(self, driver: Any, message: bytes, error: type[Exception]) -> Any:
        """A delivery that fails."""
        arriving = driver.append_at(self.account, b"joe", Incoming(message, 1 << 20), ENVELOPE)
        return self.failureResultOf(Deferred.fromCoroutine(arriving), error).value

    def test_small_packets(self) -> None:
        """Promise: no statement and no answer needs more than 1 MiB and a little, whatever the message."""
        self.mariadb.run(f"SET GLOBAL max_allowed_packet = {(1 << 20) + 1024}")
        message = b"Subject: big\n\n" + b"'\0\\\n" * 600_000
        self.store_big(message)
        wire = self.fill(self.mariadb.unix).session("joe", "secret")
        found = wire.multi_line(b"RETR 4")[1]
        self.assertEqual(found, message.replace(b"\n", b"\r\n"))

    def store_big(self, message: bytes) -> None:
        """Store a message of more than the server takes in a statement."""
        self.store(message)


class ClassicFaultTests(V2FaultTests):
    """TPOPS' own tables."""

    kind = "classic"

    def lock_table(self) -> str:
        """See V2FaultTests."""
        return "locks"

    def store_big(self, message: bytes) -> None:
        """See V2FaultTests: what one column holds may not be more; it is refused, and nothing of it stays."""
        self.fails(self.driver(), message, QuotaExceeded)
        self.assertEqual(self.stored(), list(_MAIL))
        self.mariadb.run(f"SET GLOBAL max_allowed_packet = {16 << 20}")
        self.store(message)
        self.mariadb.run(f"SET GLOBAL max_allowed_packet = {(1 << 20) + 1024}")


class ChangesTests(OwnServerTests):
    """Transactions that meet others."""

    def setUp(self) -> None:
        super().setUp()
        self.run_sql(
            "CREATE TABLE pairs (id INT PRIMARY KEY, n INT NOT NULL)",
            "INSERT INTO pairs VALUES (1, 0), (2, 0), (3, 0), (4, 0)",
        )
        self.changes = Changes(20.0)

    def test_deadlock_is_retried(self) -> None:
        """Promise: who is chosen to give way does it all again, and it counts once."""
        tries = 0
        with self.mariadb.connection(self.schema) as other:
            other.begin()
            # The heavier of two goes on.
            other.cursor().execute("UPDATE pairs SET n = n + 10 WHERE id > 1")

            def crossing() -> None:
                other.cursor().execute("UPDATE pairs SET n = n + 10 WHERE id = 1")
                other.commit()

            thread = threading.Thread(target=crossing)

            def work(execute: Execute) -> None:
                nonlocal tries
                tries += 1
                execute("UPDATE pairs SET n = n + 1 WHERE id = 1")
                if tries == 1:
                    thread.start()
                    waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
                    wait_until(lambda: self.mariadb.run(waiting)[0][0], "the other one waits")
                execute("UPDATE pairs SET n = n + 1 WHERE id = 2")

            self.changes.make(self.client(), work, lambda execute: False)
            thread.join()
        self.assertEqual(tries, 2)
        self.assertEqual(self.run_sql("SELECT n FROM pairs ORDER BY id"), [(11,), (11,), (10,), (10,)])

    def test_other_errors_are_not(self) -> None:
        """Promise: what would fail again is told at once, and counts for nothing."""
        tries = 0

        def work(execute: Execute) -> None:
            nonlocal tries
            tries += 1
            execute("UPDATE pairs SET n = 5")
            execute("INSERT INTO pairs VALUES (1, 1)")

        error = self.assertRaises(DatabaseFailed, self.changes.make, self.client(), work, lambda execute: False)
        self.assertEqual((error.number, tries), (1062, 1))
        self.assertEqual(self.run_sql("SELECT MAX(n) FROM pairs"), [(0,)])

    def lose(self, landed: Callable[[Execute], bool], passes: bool, at_commit: Callable[[], None]) -> Any:
        """Make a change whose COMMIT is lost."""
        relay = CommitRelay(self.mariadb.port)
        self.addCleanup(relay.close)
        relay.passes, relay.at_commit = passes, at_commit
        client = self.client(f"127.0.0.1:{relay.port}")
        return Changes(1.0).make(client, lambda execute: execute("UPDATE pairs SET n = 7").affected, landed)

    def test_outcome_that_nobody_can_tell(self) -> None:
        """Promise: where the database does not come back in time, that is said."""

        def landed(execute: Execute) -> bool:
            return bool(execute("SELECT 1 FROM pairs WHERE n = 7 FOR UPDATE").rows)

        error = self.assertRaises(OutcomeUnknown, self.lose, landed, True, self.mariadb.kill)
        self.assertIn("whether it counts is unknown", str(error))

    def test_answer_of_a_delivery_is_lost(self) -> None:
        """Promise: a message whose COMMIT got no answer is there once, and its unique-id is known."""
        relay = CommitRelay(self.mariadb.port)
        self.addCleanup(relay.close)
        client = self.client(f"127.0.0.1:{relay.port}")
        schema: Any = self.tables()
        schema.add(client, "joe", Incoming(_MAIL[0]), 0.0, self.account)
        for passes, stored in ((True, 2), (False, 2)):
            relay.passes, relay.at_commit = passes, lambda: None
            if passes:
                unique_id = schema.add(client, "joe", Incoming(_MAIL[1]), 0.0, self.account)
                self.assertIn((unique_id,), self.run_sql("SELECT unique_id FROM tpops_message"))
            else:
                self.assertRaises(DatabaseFailed, schema.add, client, "joe", Incoming(_MAIL[1]), 0.0, self.account)
            self.assertEqual(len(self.stored()), stored)


class ClassicDeliveryTests(OwnServerTests):
    """The same in TPOPS' own tables."""

    kind = "classic"

    def test_answer_of_a_delivery_is_lost(self) -> None:
        """Promise: it is known by what is in it, since TPOPS' tables have no room for more."""
        relay = CommitRelay(self.mariadb.port)
        self.addCleanup(relay.close)
        client: Client = self.client(f"127.0.0.1:{relay.port}")
        schema: Any = self.tables()
        relay.at_commit = lambda: None
        unique_id = schema.add(client, "joe", Incoming(_MAIL[1]), 0.0, self.account)
        self.assertEqual(unique_id.split(b".")[:2], [b"1", b"7"])
        self.assertEqual(self.stored(), [_MAIL[1]])
        relay.passes, relay.at_commit = False, lambda: None
        self.assertRaises(DatabaseFailed, schema.add, client, "joe", Incoming(_MAIL[1]), 0.0, self.account)
        self.assertEqual(self.stored(), [_MAIL[1]])
