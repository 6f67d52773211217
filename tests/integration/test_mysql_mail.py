"""Mail in a real MariaDB by a real server: what clients see, and how sessions keep each other out."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.integration import corpus
from tests.integration.mail_database import MailDatabaseTests
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program, wait_until
from tests.mailbox.test_mysql_contract import text_of
from tpops.protocol.transparency import Encoder

BUSY = b"-ERR [IN-USE]"

#: Shortest lease that the configuration takes.
LEASE_SECONDS = 5

#: Memory that sending a big message may cost: two pieces of it, what the client library and the sockets hold of
#: others, and what the allocator keeps.
MOST_GROWTH_MIB = 12

_MIB = 1 << 20


def on_the_wire(message: bytes) -> bytes:
    """A message as RETR sends it, without the terminator."""
    encoder = Encoder()
    return encoder.feed(message) + encoder.finish()


class V2ServerTests(MailDatabaseTests):
    """Schema v2."""

    kind = "v2"

    def as_stored(self, message: bytes) -> bytes:
        """What becomes of a message."""
        return message

    def big(self) -> bytes:
        """A message that is bigger than anything that may be in memory."""
        return b"Subject: big\n\n" + (b"." + b"0123456789abcdef" * 1023 + b"\n") * 6400

    def test_whole_session(self) -> None:
        """RFC 1939: STAT, LIST, UIDL, RETR, TOP, DELE, RSET and QUIT, for every awkward message."""
        messages = list(corpus.ALL.values())
        for message in messages:
            self.store(message)
        wire = self.mail_server().session("joe", "secret")
        sent = [on_the_wire(self.as_stored(message)) for message in messages]
        octets = [len(text.replace(b"\r\n..", b"\r\n.")) - text.startswith(b"..") for text in sent]
        self.assertEqual(wire.command(b"STAT"), b"+OK %d %d" % (len(sent), sum(octets)))
        _, listing = wire.multi_line(b"LIST")
        self.assertEqual(listing, b"".join(b"%d %d\r\n" % pair for pair in enumerate(octets, 1)))
        _, before = wire.multi_line(b"UIDL")
        for number, text in enumerate(sent, 1):
            self.assertEqual(wire.multi_line(b"RETR %d" % number)[1], text, number)
            header, blank, body = text.partition(b"\r\n\r\n")
            first = body.split(b"\r\n")[0] + b"\r\n" if body else b""
            self.assertEqual(wire.multi_line(b"TOP %d 1" % number)[1], header + blank + first, number)
        wire.command(b"DELE 2")
        wire.command(b"RSET")
        for number in (1, 3):
            self.assertTrue(wire.command(b"DELE %d" % number).startswith(b"+OK"))
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(wire.rest(), b"")
        left = [self.as_stored(message) for index, message in enumerate(messages) if index not in (0, 2)]
        self.assertEqual(self.stored(), left)
        self.assertEqual(self.locks(), 0)
        again = before.split(b"\r\n")
        self.assert_unique_ids([again[1], *again[3:-1]])

    def assert_unique_ids(self, expected: list[bytes]) -> None:
        """The next session, with Python's client, sees the same unique-ids."""
        server = self.mail_server()
        client = server.poplib("joe", "secret")
        self.assertEqual([line.split()[1] for line in client.uidl()[1]], [line.split()[1] for line in expected])
        client.quit()
        server.stop()

    def test_memory_is_bounded(self) -> None:
        """Promise: a session holds a piece of a message, however big that is; TOP asks for its beginning only."""
        message = self.big()
        self.store(message)
        server = self.mail_server()
        wire = server.session("joe", "secret")
        wire.multi_line(b"TOP 1 0")
        before = server.memory_mib()
        self.assertEqual(wire.multi_line(b"TOP 1 0")[1], b"Subject: big\r\n\r\n")
        wire.send(b"RETR 1\r\n")
        self.assertTrue(wire.line().startswith(b"+OK"))
        octets, most = 0, before
        while not wire._unread.endswith(b"\r\n.\r\n"):
            wire.more()
            if len(wire._unread) > _MIB:
                octets += len(wire._unread) - 5
                del wire._unread[:-5]
                most = max(most, server.memory_mib())
        octets += len(wire._unread) - 3
        self.assertEqual(octets, len(on_the_wire(message)))
        self.assertLess(most - before, MOST_GROWTH_MIB)

    def test_two_servers(self) -> None:
        """RFC 1939 §4: while one tpops has a maildrop open, another one refuses it; then it does not."""
        self.store(b"Subject: one\n\n")
        first, second = self.mail_server(), self.mail_server()
        wire = first.session("joe", "secret")
        for server in (first, second):
            self.assert_out(server, "joe", "secret", BUSY)
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assert_in(second, "joe", "secret", 1)

    def test_a_login_waits(self) -> None:
        """Promise: within `lock_wait_seconds` a second session waits for the first."""
        server = self.mail_server(mysql={"lock_wait_seconds": PATIENCE_SECONDS})
        wire = server.session("joe", "secret")
        second = server.connect()
        second.line()
        second.command(b"USER joe")
        second.send(b"PASS secret\r\n")
        self.assertEqual(self.locks(), 1)
        wire.command(b"QUIT")
        self.assertTrue(second.line().startswith(b"+OK"))

    def test_client_that_vanishes(self) -> None:
        """Promise: a connection that breaks off removes nothing and leaves no lock; so does the end of the server."""
        self.store(b"Subject: one\n\n")
        server = self.mail_server()
        wire = server.session("joe", "secret")
        wire.command(b"DELE 1")
        wire.reset()
        wait_until(lambda: not self.locks(), "the lock goes")
        wire = server.session("joe", "secret")
        wire.command(b"DELE 1")
        self.assertEqual(self.locks(), 1)
        server.stop()
        self.assertEqual(self.locks(), 0)
        self.assertEqual(len(self.stored()), 1)

    def takeover_keys(self) -> dict[str, int]:
        """[mysql] for a takeover that does not take long."""
        return {"lease_seconds": LEASE_SECONDS}

    def test_takeover_after_kill(self) -> None:
        """Promise: what a tpops that was killed has locked is free when its lease ends; nothing was removed."""
        self.store(b"Subject: one\n\n")
        first, second = (self.mail_server(mysql=self.takeover_keys()) for _ in range(2))
        wire = first.session("joe", "secret")
        wire.command(b"DELE 1")
        assert first.process is not None
        first.process.kill()
        first.process.wait()
        wait_until(lambda: self.answer(second, "joe", "secret").startswith(b"+OK"), "takeover")
        self.assertEqual(len(self.stored()), 1)

    def test_session_that_was_taken_over_removes_nothing(self) -> None:
        """Promise: a tpops that slept too long does not remove what another session may have seen."""
        self.store(b"Subject: one\n\n")
        first, second = (self.mail_server(mysql=self.takeover_keys()) for _ in range(2))
        wire = first.session("joe", "secret")
        wire.command(b"DELE 1")
        os.kill(first.pid, signal.SIGSTOP)
        try:
            self.expire()
            other = second.session("joe", "secret")
        finally:
            os.kill(first.pid, signal.SIGCONT)
        self.assertTrue(wire.command(b"QUIT").startswith(b"-ERR"))
        self.assertEqual(len(self.stored()), 1)
        self.assertEqual(self.locks(), 1)
        self.assertTrue(other.command(b"DELE 1").startswith(b"+OK"))
        self.assertTrue(other.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(self.stored(), [])

    def expire(self) -> None:
        """Let the database believe that the time is up."""
        self.run_sql("UPDATE tpops_lease SET expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")

    def test_lease_is_renewed(self) -> None:
        """Promise: a session that lasts longer than its lease keeps it."""
        server = self.mail_server(mysql={"lease_seconds": LEASE_SECONDS})
        wire = server.session("joe", "secret")
        before = self.run_sql("SELECT MAX(expires_at) FROM tpops_lease")[0][0]
        wait_until(lambda: self.run_sql("SELECT MAX(expires_at) FROM tpops_lease")[0][0] > before, "a renewal")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))

    def test_reload(self) -> None:
        """Promise: a session outlives HUP with its lock; the new configuration's sessions see it, and it can remove."""
        self.store(b"Subject: one\n\n")
        server = self.mail_server()
        wire = server.session("joe", "secret")
        wire.command(b"DELE 1")
        server.configuration["protocol"]["greeting"] = "the new one"
        server.write_configuration()
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: b"the new one" in server.connect().line(), "the new configuration")
        self.assert_out(server, "joe", "secret", BUSY)
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(self.stored(), [])
        wait_until(lambda: self.answer(server, "joe", "secret").startswith(b"+OK"), "the next session")

    def test_commands_about_mail(self) -> None:
        """Promise: "tpops mailbox" lists and removes mail there, and is kept out by a session."""
        for number in range(3):
            self.store(b"Subject: number %d\n\n" % number)
        server = self.mail_server()
        self.assertIn("number 1", self.tpops(server, "mailbox", "list", "joe")[1])
        wire = server.session("joe", "secret")
        status, said = self.tpops(server, "mailbox", "expunge", "joe", "--all", "--yes")
        self.assertNotEqual(status, 0)
        self.assertIn("open in another session", said)
        wire.command(b"QUIT")
        wire.rest()
        self.assertEqual(self.tpops(server, "mailbox", "expunge", "joe", "--all", "--yes")[0], 0)
        self.assertEqual((self.stored(), self.locks()), ([], 0))

    def tpops(self, server: RunningServer, *command: str) -> tuple[int, str]:
        """Run "tpops"; gives exit status and what it says."""
        done = subprocess.run(
            [program("tpops"), "-c", str(server.configuration_file), *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        self.assertNotIn("Traceback", done.stderr)
        return done.returncode, done.stdout + done.stderr

    def test_removed_from_elsewhere(self) -> None:
        """Promise: a message that is gone is an error of its own, and counts as removed."""
        self.store(b"Subject: one\n\n")
        self.store(b"Subject: two\n\n")
        wire = self.mail_server().session("joe", "secret")
        self.take_away(0)
        self.assertTrue(wire.command(b"RETR 1").startswith(b"-ERR message is no longer there"))
        wire.command(b"DELE 1")
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(len(self.stored()), 1)

    def test_tables_that_are_missing(self) -> None:
        """Promise: [SYS/PERM] and what to do in the log; "tpops check" says it before."""
        self.run_sql(f"DROP TABLE {self.a_table()}")
        server = self.mail_server()
        self.assert_out(server, "joe", "secret", b"-ERR [SYS/PERM]")
        self.assertIn("tpops db init", server.event("login-refused")["detail"])
        said = self.check_mail(server)
        self.assertIn(self.a_table(), said)
        self.assertIn("tpops db init", said)

    def a_table(self) -> str:
        """One that mail needs, and accounts do not."""
        return "tpops_message"

    def check_mail(self, server: RunningServer) -> str:
        """What "tpops check" says."""
        return self.tpops(server, "check")[1]

    def test_check(self) -> None:
        """Promise: "tpops check" has nothing to say against a database that is right."""
        self.assertIn("is right", self.check_mail(self.mail_server()))


class ClassicServerTests(V2ServerTests):
    """TPOPS' own tables."""

    kind = "classic"

    def as_stored(self, message: bytes) -> bytes:
        """See V2ServerTests: line ends are LF."""
        return text_of(message)

    def big(self) -> bytes:
        """As big as the columns allow."""
        return b"Subject: big\n\n" + (b"." + b"0123456789abcdef" * 1023 + b"\n") * 900

    def takeover_keys(self) -> dict[str, int]:
        """See V2ServerTests: the process is looked for, so the time does not matter."""
        return {"keep_seconds": 3600}

    def expire(self) -> None:
        """See V2ServerTests."""
        self.run_sql("UPDATE locks SET timestamp = NOW() - INTERVAL 2 HOUR")

    def test_lease_is_renewed(self) -> None:
        """Promise: the row in `locks` stays young while the session lasts, so that TPOPS leaves it alone."""
        server = self.mail_server(mysql={"keep_seconds": LEASE_SECONDS})
        wire = server.session("joe", "secret")
        before = self.run_sql("SELECT MAX(timestamp) FROM locks")[0][0]
        wait_until(lambda: self.run_sql("SELECT MAX(timestamp) FROM locks")[0][0] > before, "a renewal")
        self.assertEqual(self.run_sql("SELECT uid, pid FROM locks"), [(7, server.pid)])
        self.assertTrue(wire.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(self.locks(), 0)

    def a_table(self) -> str:
        """See V2ServerTests."""
        return "msg"

    # Beside a TPOPS.

    def test_tpops_has_it(self) -> None:
        """Promise: a row of a process that runs is a session of TPOPS', whoever it is."""
        self.store(b"Subject: one\n\n")
        server = self.mail_server()
        self.insert("locks", uid=7, pid=os.getpid(), timestamp="=NOW()")
        self.assert_out(server, "joe", "secret", BUSY)
        self.assertEqual(self.run_sql("SELECT uid, pid FROM locks"), [(7, os.getpid())])
        self.run_sql("DELETE FROM locks")
        self.assert_in(server, "joe", "secret", 1)

    def test_rows_that_are_left_over(self) -> None:
        """Promise: rows older than ConnectionKeepTime, and rows of processes that are gone, are taken over."""
        server = self.mail_server()
        gone = subprocess.Popen(["true"])
        gone.wait()
        for pid, timestamp in ((os.getpid(), "=NOW() - INTERVAL 61 MINUTE"), (gone.pid, "=NOW()"), (None, "=NOW()")):
            self.insert("locks", uid=7, pid=pid, timestamp=timestamp)
            wire = server.session("joe", "secret")
            ((pid, age),) = self.run_sql("SELECT pid, UNIX_TIMESTAMP() - UNIX_TIMESTAMP(timestamp) FROM locks")
            self.assertEqual(pid, server.pid)
            self.assertLess(age, 60)
            wire.command(b"QUIT")
            self.assertEqual(self.locks(), 0)

    def test_processes_of_other_machines(self) -> None:
        """Promise: with `lock_pids = false` only time counts."""
        server = self.mail_server(mysql={"lock_pids": False})
        gone = subprocess.Popen(["true"])
        gone.wait()
        self.insert("locks", uid=7, pid=gone.pid, timestamp="=NOW()")
        self.assert_out(server, "joe", "secret", BUSY)
        self.expire()
        self.assert_in(server, "joe", "secret", 0)

    def test_marks_of_tpops(self) -> None:
        """Promise: negative `msgno`, which a crash of TPOPS leaves behind, hides nothing and is never written."""
        for number in range(3):
            self.store(b"Subject: %d\n\n" % number)
        self.run_sql("UPDATE msg SET msgno = IF(id = 2, -2, id)")
        wire = self.mail_server().session("joe", "secret")
        self.assertEqual(wire.command(b"STAT").split()[1], b"3")
        wire.command(b"DELE 1")
        self.assertEqual(self.run_sql("SELECT msgno FROM msg ORDER BY id"), [(1,), (-2,), (3,)])
        wire.command(b"QUIT")
        self.assertEqual(self.run_sql("SELECT msgno FROM msg ORDER BY id"), [(-2,), (3,)])

    def test_order_and_unique_ids(self) -> None:
        """Promise: `timestamp, id` is the order, and `id.uid.timestamp` the unique-id, as clients of TPOPS know it."""
        for number, moment in (
            (5, "2004-02-29 23:59:59"),
            (6, "2001-01-01"),
            (9, "2001-01-01"),
            (3, "2005-06-07 08:09"),
        ):
            self.insert("msg", id=number, uid=7, timestamp=moment, header="Subject: x\n", body="", size=14)
        wire = self.mail_server().session("joe", "secret")
        self.assertEqual(
            wire.multi_line(b"UIDL")[1].split(b"\r\n")[:-1],
            [b"1 6.7.20010101000000", b"2 9.7.20010101000000", b"3 5.7.20040229235959", b"4 3.7.20050607080900"],
        )
        self.assertEqual(wire.multi_line(b"RETR 1"), (b"+OK 14 octets", b"Subject: x\r\n\r\n"))

    def test_user_without_a_row(self) -> None:
        """Promise: whom the table does not know has no mail there, and that is said."""
        server = self.mail_server(start=False)
        (server.directory / "users").write_text("ann:{PLAIN}secret::::/nowhere:\n")
        server.configuration["accounts"].append({"driver": "passwd_file", "path": "users"})
        server.start()
        self.assert_out(server, "ann", "secret", b"-ERR [SYS/PERM]")
        self.assertIn("has no login 'ann'", server.event("login-refused")["detail"])
