"""Servers that are down, hang, come back, or are not who they should be: a real MariaDB is stopped and killed."""

from __future__ import annotations

import base64
from typing import Any

from tests.integration.mariadb import MariaDB
from tests.integration.mysql_case import READER, READER_PASSWORD, UNAVAILABLE, DatabaseTests, deliver
from tests.integration.relay import Relay
from tests.integration.server import RunningServer, wait_until
from tests.integration.wire import Wire
from tests.pki import write_pem

#: Time that a login has for the database here, where it cannot answer.
SHORT = 4.0

#: The same where it does in the end.
LONG = 40.0

#: Others than joe: p0, p1 and so on.
PEOPLE = 30

_QUERY = "SELECT pw AS password, place AS maildrop FROM people WHERE who = %s"


class PeopleTests(DatabaseTests):
    """A table of people, in as many servers as a test wants."""

    def setUp(self) -> None:
        super().setUp()
        for number in range(PEOPLE):
            deliver(self.directory / f"p{number}", 0)
        self.place = deliver(self.directory / "joe")
        self.fill(self.mariadb)

    def fill(self, mariadb: MariaDB) -> None:
        """Make the table."""
        mariadb.run(
            "CREATE TABLE people (who VARCHAR(255), pw VARCHAR(255), place VARCHAR(255))",
            "INSERT INTO people VALUES "
            + ", ".join(
                f"('{name}', '{{PLAIN}}secret', '{self.directory / name}')"
                for name in ("joe", *(f"p{number}" for number in range(PEOPLE)))
            ),
            database=self.schema,
        )

    def another(self, *names: str, **options: Any) -> MariaDB:
        """A server of the test's own with the same table."""
        mariadb = MariaDB(*names, **options)
        self.addCleanup(mariadb.remove)
        mariadb.start()
        self.create(mariadb)
        self.fill(mariadb)
        return mariadb

    def asking(self, *servers: str, **keys: Any) -> RunningServer:
        """A tpops that asks these; "file" is a user that is in a file, which is asked first."""
        server = RunningServer(
            self, users={"file": "secret"}, protocol={"auth_delay_seconds": 0, "auth_delay_max_seconds": 0}
        )
        server.configuration["accounts"] += [self.source(servers=list(servers), query=_QUERY, **keys)]
        return server.start()

    def ask(self, server: RunningServer, name: str = "joe") -> Wire:
        """Log somebody in and do not wait for the answer."""
        wire = server.connect()
        wire.line()
        wire.command(b"AUTH PLAIN")
        wire.send(base64.b64encode(f"\0{name}\0secret".encode()) + b"\r\n")
        return wire

    def failure(self, server: RunningServer) -> str:
        """What the log says of the first login that failed."""
        return str(server.event("login-failed")["detail"])


class OneServerTests(PeopleTests):
    """What becomes of logins when the one server does not answer."""

    def setUp(self) -> None:
        super().setUp()
        self.own = self.another()

    def test_down_and_up(self) -> None:
        """Promise: a database that is down is [SYS/TEMP], never a wrong password; others log in; it comes back."""
        self.own.stop()
        for address in (self.own.tcp, self.own.unix):
            server = self.asking(address)
            self.assert_out(server, "joe", "secret", UNAVAILABLE)
            self.assert_out(server, "joe", "wrong", UNAVAILABLE)
            self.assert_out(server, "nobody", "secret", UNAVAILABLE)
            self.assertIn(address, self.failure(server))
            self.assert_in(server, "file", "secret", 0)
            self.own.start()
            self.assert_in(server, "joe", "secret")
            wait_until(lambda: f"database-back: {address} answers" in server.output(), "a line in the log")  # noqa: B023
            self.assertEqual(server.output().count("database-failed"), 1)
            server.stop()
            self.own.stop()

    def test_restart_fails_no_login(self) -> None:
        """Promise: connections that died while nobody used them are replaced without a login that fails."""
        for address in (self.own.tcp, self.own.unix):
            server = self.asking(address)
            self.assert_in(server, "joe", "secret")
            self.own.stop()
            self.own.start()
            self.assert_in(server, "joe", "secret")
            self.own.kill()
            self.own.start()
            self.assert_in(server, "joe", "secret")
            for number in self.own.connections(self.schema):
                self.own.run(f"KILL {number}")
            self.assert_in(server, "joe", "secret")
            self.assertEqual(server.events("login-failed"), [])
            server.stop()

    def test_hanging_costs_a_bounded_time(self) -> None:
        """Promise: a server that hangs is [SYS/TEMP] after a while, on old connections and on new ones."""
        for address in (self.own.tcp, self.own.unix):
            server = self.asking(address, timeout_seconds=SHORT)
            self.assert_in(server, "joe", "secret")
            self.own.hang()
            wires = [self.ask(server) for _ in range(12)]
            for wire in wires:
                answer = wire.line()
                self.assertTrue(answer.startswith(UNAVAILABLE), answer)
            self.own.go_on()
            # Threads that were given up may still be on their way.
            wait_until(lambda server=server: self.answer(server, "joe", "secret").startswith(b"+OK"), "logins again")
            server.stop()

    def test_nobody_else_waits(self) -> None:
        """Promise: while the database hangs, users of other sources log in, sessions go on, and who waits gets in."""
        server = self.asking(self.own.tcp, timeout_seconds=LONG)
        session = server.connect()
        session.line()
        session.command(b"USER joe")
        self.assertTrue(session.command(b"PASS secret").startswith(b"+OK"))
        self.assertTrue(session.command(b"RSET").startswith(b"+OK"))
        self.own.hang()
        waiting = [self.ask(server, f"p{number}") for number in range(12)]
        for _ in range(3):
            self.assert_in(server, "file", "secret", 0)
            self.assertTrue(session.command(b"STAT").startswith(b"+OK 1 "))
        self.assertEqual(session.multi_line(b"RETR 1")[0][:3], b"+OK")
        self.assertTrue(session.command(b"QUIT").startswith(b"+OK"))
        self.assertEqual(server.events("login-failed"), [])
        self.own.go_on()
        for wire in waiting:
            self.assertTrue(wire.line().startswith(b"+OK"))

    def test_killed_while_a_login_waits(self) -> None:
        """Promise: kill -9 in the middle of a login is [SYS/TEMP] for it, and nothing else."""
        server = self.asking(self.own.tcp, timeout_seconds=LONG)
        self.assert_in(server, "joe", "secret")
        self.own.hang()
        wire = self.ask(server)
        self.assert_in(server, "file", "secret", 0)
        self.own.kill()
        self.assertTrue(wire.line().startswith(UNAVAILABLE))
        self.own.start()
        self.assert_in(server, "joe", "secret")

    def test_stops_while_the_database_hangs(self) -> None:
        """Promise: ending the server does not wait for the database."""
        server = self.asking(self.own.tcp, timeout_seconds=LONG)
        self.assert_in(server, "joe", "secret")
        self.own.hang()
        wire = self.ask(server)
        server.stop()
        self.assertEqual(wire.rest(), b"")

    def test_few_connections_for_many_logins(self) -> None:
        """Promise: logins wait in line for a connection, and there are no more than configured."""
        server = self.asking(self.own.tcp, connections=2, timeout_seconds=LONG)
        for wire in [self.ask(server, f"p{number}") for number in range(PEOPLE)]:
            self.assertTrue(wire.line().startswith(b"+OK"))
        self.assertLessEqual(len(self.own.connections(self.schema)), 2)
        self.assertEqual(server.events("login-failed"), [])


class TwoServersTests(PeopleTests):
    """The first that answers is asked."""

    def setUp(self) -> None:
        super().setUp()
        self.first = self.another()

    def test_the_second_takes_over(self) -> None:
        """Promise: with the first down, killed or hanging, logins go on without a failure."""
        self.mariadb.run("SET GLOBAL read_only = 1")
        self.addCleanup(self.mariadb.run, "SET GLOBAL read_only = 0")
        server = self.asking(self.first.tcp, self.mariadb.tcp)
        self.assert_in(server, "joe", "secret")
        self.assertEqual(len(self.first.connections(self.schema)), 1)
        self.first.kill()
        self.assert_in(server, "joe", "secret")
        self.assertEqual(len(self.mariadb.connections(self.schema)), 1)
        self.assertEqual(server.events("login-failed"), [])
        wait_until(lambda: f"database-failed: {self.first.tcp}: " in server.output(), "a line in the log")

    def test_the_first_hangs(self) -> None:
        """Promise: there is time for the second after the first was waited for, also for a query that was sent."""
        server = self.asking(self.first.tcp, self.mariadb.tcp, timeout_seconds=10)
        self.assert_in(server, "joe", "secret")
        self.first.hang()
        for _ in range(3):
            self.assert_in(server, "joe", "secret")
        self.assertEqual(server.events("login-failed"), [])

    def test_check_tells_which_one_is_down(self) -> None:
        """Promise: "tpops check" asks every server."""
        keys = {"servers": [self.first.tcp, self.mariadb.unix], "query": _QUERY}
        status, text = self.check(self.source(**keys))
        self.assertEqual((status, text.count("problem")), (0, 0), text)
        self.first.stop()
        status, text = self.check(self.source(**keys))
        self.assertEqual((status, text.count("problem")), (1, 1), text)
        self.assertIn(self.first.tcp, text)


class NetworkTests(PeopleTests):
    """A network that swallows everything without a word."""

    def setUp(self) -> None:
        super().setUp()
        self.relay = Relay(self.mariadb.port)
        self.addCleanup(self.relay.close)
        self.address = f"127.0.0.1:{self.relay.port}"

    def test_the_other_side_vanishes(self) -> None:
        """Promise: [SYS/TEMP] after a while for old connections and for new ones; afterwards logins go on."""
        server = self.asking(self.address, timeout_seconds=SHORT)
        self.assert_in(server, "joe", "secret")
        self.relay.swallows = True
        for _ in range(2):
            self.assert_out(server, "joe", "secret", UNAVAILABLE)
        self.assert_in(server, "file", "secret", 0)
        self.relay.swallows = False
        wait_until(lambda: self.answer(server, "joe", "secret").startswith(b"+OK"), "logins again")

    def test_the_next_server_is_asked_in_time(self) -> None:
        """Promise: who waits for an answer on a dead connection still has time for the next server."""
        server = self.asking(self.address, self.mariadb.unix, timeout_seconds=10)
        self.assert_in(server, "joe", "secret")
        self.relay.swallows = True
        for _ in range(2):
            self.assert_in(server, "joe", "secret")
        self.assertEqual(server.events("login-failed"), [])


class TLSTests(PeopleTests):
    """TLS to the server."""

    names = ("127.0.0.1",)

    def setUp(self) -> None:
        super().setUp()
        self.authority = str(self.mariadb.certificate)
        self.mariadb.run(f"ALTER USER {READER} REQUIRE SSL")
        self.addCleanup(self.mariadb.run, f"ALTER USER {READER} REQUIRE NONE")

    def refused(self, said: str, address: str = "", **keys: Any) -> None:
        """Nobody gets in, for this reason."""
        server = self.asking(address or self.mariadb.tcp, timeout_seconds=LONG, **keys)
        self.assert_out(server, "joe", "secret", UNAVAILABLE)
        self.assertIn(said, self.failure(server))
        server.stop()

    def test_verified(self) -> None:
        """Promise: with `tls_ca` the server has to show a certificate for its name from there."""
        self.assert_in(self.asking(self.mariadb.tcp, tls_ca=self.authority), "joe", "secret")
        self.refused("Access denied")
        wrong = self.directory / "wrong.pem"
        write_pem(wrong, "127.0.0.1")
        self.refused("certificate", tls_ca=str(wrong))
        elsewhere = self.another("db.example.org")
        self.refused("TLS", elsewhere.tcp, tls_ca=str(elsewhere.certificate))

    def test_encrypted_only(self) -> None:
        """Promise: "encrypt" takes any certificate, but TLS it must be."""
        self.assert_in(self.asking(self.mariadb.tcp, tls="encrypt"), "joe", "secret")
        self.refused("offers no TLS", self.another().tcp, tls="encrypt")

    def test_certificate_of_our_own(self) -> None:
        """Promise: a server that wants a certificate gets the one that is configured."""
        mine = self.directory / "mine.pem"
        certificate = self.directory / "mine-only.pem"
        certificate.write_bytes(write_pem(mine, "tpops"))
        strict = self.another("127.0.0.1", options=(f"--ssl-ca={certificate}",))
        strict.run(f"ALTER USER {READER} REQUIRE X509")
        keys = {"tls_ca": str(strict.certificate)}
        self.assert_in(self.asking(strict.tcp, **keys, tls_certificate=str(mine)), "joe", "secret")
        self.refused("Access denied", strict.tcp, **keys)


class PasswordTests(PeopleTests):
    """The password for the database."""

    def test_password_file(self) -> None:
        """Promise: the first line of a file that is not for everybody; a file that is stops the start."""
        path = self.directory / "password"
        path.write_text(READER_PASSWORD + "\nnot this\n")
        path.chmod(0o640)
        server = self.asking(self.mariadb.unix, password="", password_file=str(path))
        self.assert_in(server, "joe", "secret")
        server.stop()
        path.chmod(0o644)
        said = server.refuses_to_start()
        self.assertIn(f"{path} is open to everybody", said)
        self.assertNotIn("word", said.replace("password", ""))

    def test_wrong_password(self) -> None:
        """Promise: the reason is in the log, the password never; "tpops check" says what to do."""
        server = self.asking(self.mariadb.unix, password="not the word")
        self.assert_out(server, "joe", "secret", UNAVAILABLE)
        self.assertIn("Access denied", self.failure(server))
        status, text = self.check(self.source(query=_QUERY, password="not the word"))
        self.assertEqual(status, 1)
        self.assertIn("the user or the password is wrong", text)
        self.assertNotIn("not the word", text + server.output() + self.failure(server))

    def test_check_without_tables(self) -> None:
        """Promise: a preset whose tables are not there is told as such."""
        status, text = self.check(self.source(preset="vpopmail"))
        self.assertEqual(status, 1)
        self.assertIn("vpopmail' doesn't exist", text)
        self.assertIn("has not the tables of the preset", text)
