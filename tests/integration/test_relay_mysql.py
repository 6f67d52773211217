"""POP before SMTP in MariaDB: the contract of stores, old tables, and the server with it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from typing import Any

from tests.contracts.relay_store import EXPIRE, HERE, JOE, THERE, RelayStoreContract
from tests.integration.mysql_case import READER, READER_PASSWORD, DatabaseTests
from tests.integration.server import PATIENCE_SECONDS, RunningServer, program, wait_until
from tpops.db.mysql import Client
from tpops.db.mysql_servers import Line, access_of
from tpops.db.relay import Contents, Facts, Login, Rule, Sender, StoreFailed
from tpops.db.relay_mysql import BothRelayStore, ClassicRelayStore, MySQLRelayStore

KINDS = {"v2": MySQLRelayStore, "classic": ClassicRelayStore}

#: The table as TPOPS' sample of a hook had it.
OLD = "CREATE TABLE pbs (ip CHAR(15) PRIMARY KEY, timestamp TIMESTAMP)"


def open_store(testcase: DatabaseTests, kind: Any) -> Any:
    """A store in the test's database, as another process has it."""
    there = access_of(
        [testcase.mariadb.unix],
        "off",
        user=READER,
        password=READER_PASSWORD,
        database=testcase.schema,
        tls_ca="",
        timeout_seconds=5.0,
    )
    client = Client(there, Line(there.servers, time.monotonic), writable=True)
    testcase.addCleanup(client.close)
    return kind(lambda: client, EXPIRE, 5.0)


class StoreCase(DatabaseTests):
    """A store in a database of the test's own."""

    kind: Any = MySQLRelayStore

    def setUp(self) -> None:
        super().setUp()
        self.run_sql(f"GRANT ALL ON {self.schema}.* TO {READER}")
        self.store = self.make_store()
        self.store.make()

    def make_store(self) -> Any:
        """See RelayStoreContract."""
        return open_store(self, self.kind)

    def now(self) -> int:
        """See RelayStoreContract."""
        return int(self.run_sql("SELECT UNIX_TIMESTAMP()")[0][0])

    def put_login(self, address: str, user: str, at: int) -> None:
        """See RelayStoreContract."""
        self.run_sql(f"REPLACE INTO tpops_pbs_login VALUES ('{address}', '{user}', {at})")

    def old_rows(self) -> set[str]:
        """The addresses in the old table."""
        return {row[0] for row in self.run_sql("SELECT ip FROM pbs")}


class ContractTests(StoreCase, RelayStoreContract):
    """Tables v2 keep the contract of stores."""

    def test_made_twice(self) -> None:
        """Promise: what is there stays."""
        self.log_in()
        self.store.make()
        self.assertTrue(self.facts().here)

    def test_without_tables(self) -> None:
        """Promise: it is said how to make them."""
        self.run_sql("DROP TABLE tpops_pbs_login")
        with self.assertRaisesRegex(StoreFailed, "'tpops pbs init' makes the tables"):
            self.facts()

    def test_rule_that_opens_a_network_to_everybody(self) -> None:
        """Promise: status 2 needs a sender."""
        with self.assertRaisesRegex(StoreFailed, "status 2 needs a sender"):
            self.store.put(Contents(rules=[Rule(HERE, None, 2)]))


class ClassicTests(StoreCase):
    """The table pbs(ip, timestamp) alone."""

    kind = ClassicRelayStore

    def setUp(self) -> None:
        super().setUp()
        self.run_sql("DROP TABLE pbs", OLD)

    def test_login_is_a_row_with_the_time(self) -> None:
        """As "replace into pbs (ip)" made it; a later login makes it later."""
        self.run_sql(f"INSERT INTO pbs VALUES ('{HERE}', NOW() - INTERVAL 500 SECOND)")
        self.store.record([Login(HERE, "joe", 0), Login(HERE, "ann", 0)])
        self.assertEqual(self.run_sql("SELECT ip, timestamp > NOW() - INTERVAL 100 SECOND FROM pbs"), [(HERE, 1)])
        self.assertEqual(self.store.facts(HERE, HERE, JOE), Facts(here=True))
        self.assertEqual(self.store.facts(THERE, THERE, JOE), Facts())
        self.assertEqual([login.address for login in self.store.logins()], [HERE])

    def test_time(self) -> None:
        """Expired and future rows count for nothing, and go."""
        for last, age in ((1, EXPIRE + 5), (2, -100), (3, EXPIRE - 100)):
            self.run_sql(f"INSERT INTO pbs VALUES ('192.0.2.{last}', NOW() - INTERVAL {age} SECOND)")
        found = [self.store.facts(f"192.0.2.{last}", f"192.0.2.{last}", "").here for last in (1, 2, 3)]
        self.assertEqual(found, [False, False, True])
        self.assertEqual((self.store.purge(), self.old_rows()), (2, {"192.0.2.3"}))
        self.assertEqual((self.store.forget("192.0.2.3", None), self.old_rows()), (1, set()))

    def test_no_room_for_ipv6(self) -> None:
        """Others of the same moment are written; it is said what to do."""
        with self.assertRaisesRegex(StoreFailed, "ALTER TABLE pbs MODIFY ip VARCHAR"):
            self.store.record([Login("2001:db8:1:2:3:4:5:6", "joe", 0), Login(HERE, "joe", 0)])
        self.assertEqual(self.old_rows(), {HERE})

    def test_what_it_has_no_place_for(self) -> None:
        """Senders, rules, another time: refused with what would have them."""
        for work in (
            lambda: self.store.put(Contents()),
            lambda: self.store.set_expire(5),
            lambda: self.store.remove_sender("joe", None),
            lambda: self.store.remove_rule(HERE, None),
        ):
            with self.assertRaisesRegex(StoreFailed, 'set mysql_tables = "v2" or "both"'):
                work()
        self.assertEqual((self.store.senders(None), self.store.rules(), self.store.check()), ([], [], []))
        self.assertEqual(self.store.expire_seconds(), EXPIRE)


class BothTests(StoreCase, RelayStoreContract):
    """Tables v2 with the old one beside them."""

    kind = BothRelayStore

    def test_old_table_is_kept_up(self) -> None:
        """What counts in one is in the other."""
        self.log_in("joe")
        self.log_in("ann")
        self.assertEqual(self.old_rows(), {HERE})
        self.store.forget(HERE, "joe")
        self.assertEqual(self.old_rows(), {HERE})
        self.store.forget(HERE, "ann")
        self.assertEqual(self.old_rows(), set())
        self.log_in("joe")
        self.run_sql("UPDATE pbs SET timestamp = NOW() - INTERVAL 700 SECOND")
        self.store.purge()
        self.assertEqual(self.old_rows(), {HERE})
        self.store.set_expire(600)
        self.store.purge()
        self.assertEqual(self.old_rows(), set())


class ServerTests(DatabaseTests):
    """A running tpops with its store in MariaDB."""

    def relay_server(self, **settings: Any) -> RunningServer:
        """Logins go to the test's database."""
        self.run_sql(f"GRANT ALL ON {self.schema}.* TO {READER}")
        server = RunningServer(
            self,
            pop_before_smtp={"store": "mysql", "policy": [f"unix:{self.directory}/policy"], **settings},
            pop_before_smtp_mysql={
                "servers": [self.mariadb.unix],
                "user": READER,
                "password": READER_PASSWORD,
                "database": self.schema,
            },
        )
        server.write_configuration()
        server.configuration_file.chmod(0o600)
        self.store = open_store(self, KINDS[settings.get("mysql_tables", "v2")])
        self.store.make()
        return server.start()

    def pbs(self, server: RunningServer, *arguments: str) -> str:
        """Run "tpops pbs"."""
        words = [program("tpops"), "-c", str(server.configuration_file), "pbs", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def log_in(self, server: RunningServer) -> None:
        """A session of joe, and its end."""
        wire = server.session("joe")
        wire.command(b"QUIT")
        wire.close()

    def asked(self, server: RunningServer, sender: str, address: str = "127.0.0.1") -> str:
        """What the policy service says."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.connect(str(self.directory / "policy"))
            connection.sendall(f"request=smtpd_access_policy\nclient_address={address}\nsender={sender}\n\n".encode())
            text = b""
            while not text.endswith(b"\n\n"):
                text += connection.recv(100)
            return text.decode().strip()

    def test_login_opens_the_way(self) -> None:
        """The right sender from the right address, at the moment of +OK, for every host that asks."""
        server = self.relay_server()
        self.store.put(Contents(senders=[Sender("joe", JOE, 1)]))
        self.assertEqual(self.asked(server, JOE), "action=DUNNO")
        self.log_in(server)
        self.assertEqual(self.asked(server, JOE), "action=OK")
        self.assertEqual(self.asked(server, "ann@example.org"), "action=DUNNO")
        self.assertEqual(self.asked(server, JOE, "127.0.0.2"), "action=DUNNO")
        self.assertIn("127.0.0.1", self.pbs(server, "list"))

    def test_database_that_fails(self) -> None:
        """Logins go on, nobody may relay, and it is back without a restart."""
        server = self.relay_server(ok_wait_seconds=0.5)
        self.store.put(Contents(senders=[Sender("joe", JOE, 1)]))
        self.log_in(server)
        self.run_sql("RENAME TABLE tpops_pbs_login TO away")
        self.assertEqual(self.asked(server, JOE), "action=DUNNO")
        self.log_in(server)
        wait_until(lambda: "sink-failed: PopBeforeSMTP at login" in server.output(), "the failure is logged")
        self.assertIn("relaying-failed", server.output())
        self.run_sql("RENAME TABLE away TO tpops_pbs_login")
        self.assertEqual(self.asked(server, JOE), "action=OK")

    def test_old_table(self) -> None:
        """SMTP servers that read pbs(ip, timestamp) go on."""
        server = self.relay_server(mysql_tables="classic", match="address", ipv6_prefix=128)
        self.log_in(server)
        self.assertEqual(self.run_sql("SELECT ip FROM pbs"), [("127.0.0.1",)])
        self.assertEqual(self.asked(server, "whoever@example.net"), "action=OK")
        self.assertEqual(self.store_senders(server), "")

    def store_senders(self, server: RunningServer) -> str:
        """What is said when a sender is to be registered, up to its advice."""
        words = [program("tpops"), "-c", str(server.configuration_file), "pbs", "user", "add", "joe", JOE]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("the table pbs has no place for senders", done.stderr)
        return done.stdout
