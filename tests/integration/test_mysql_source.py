"""The source of accounts itself, in the test's process, on a real MariaDB."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import login, means
from tests.integration.mariadb import MariaDB
from tests.integration.mysql_case import CLASSIC, READER, READER_PASSWORD, DatabaseTests
from tests.integration.test_mysql_presets import V2
from tpops.config.accounts.sql import MySQL
from tpops.cred import drivers
from tpops.cred.mysql_tables import WritableAccounts
from tpops.credentials import APOPCredentials
from tpops.db.mysql import Client, DatabaseFailed
from tpops.db.mysql_servers import Access, Line, parse_server
from tpops.errors import BadCredentials, ConfigError, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccountAdmin, IAccounts, IRenewsHashes
from tpops.model import Account, Peer

_QUERY = "SELECT login AS name, passwd AS password, maildir FROM user WHERE login = %s"


class OpenedTests(DatabaseTests, TestCase):
    """Sources that are made from the configuration's keys."""

    def opened(self, start: bool = True, **keys: Any) -> Any:
        """A source, in the thread pool of its own."""
        from twisted.internet import reactor

        settings = MySQL.model_validate(self.source(**keys)).settings()
        made = drivers.make("mysql", "db", settings, means(reactor=reactor))
        if start:
            made.start()
            self.addCleanup(made.stop)
        return made


class SourceTests(OpenedTests):
    """Lookups."""

    async def failure(self, answer: Any, kind: type[Exception]) -> str:
        """What a lookup fails with."""
        return str(await self.assertFailure(answer, kind))

    async def test_answers(self) -> None:
        """The verdicts that the ordered checker tells apart, and one lookup for password and account."""
        self.run_sql(
            CLASSIC, "INSERT INTO user (login, passwd, maildir) VALUES ('joe', 'secret', '/m'), ('ann', NULL, '')"
        )
        source = self.opened(preset="tpops-classic")
        for interface in (ICredentialsChecker, IAccounts, IAccountAdmin):
            verifyObject(interface, source)
        self.assertEqual(await source.requestAvatarId(login("joe")), b"db:joe")
        self.run_sql("DELETE FROM user WHERE login = 'joe'")
        self.assertEqual(await source.account("joe"), Account("joe", "db", maildrop="maildir:/m"))
        await self.failure(source.requestAvatarId(login("joe")), UnknownUser)
        self.assertIn("NULL", await self.failure(source.requestAvatarId(login("ann", "x")), BadCredentials))
        await self.failure(Deferred.fromCoroutine(source.account("zoe")), UnknownUser)

    async def test_digests(self) -> None:
        """RFC 1939 section 7: APOP with a secret from the table; what the accounts prove is not counted but said."""
        self.run_sql(CLASSIC, "INSERT INTO user (login, passwd) VALUES ('joe', 'secret')")
        source = self.opened(preset="tpops-classic")
        digest = hashlib.md5(b"<1@x>secret").hexdigest().encode()
        self.assertEqual(await source.requestAvatarId(APOPCredentials(b"joe", b"<1@x>", digest)), b"db:joe")
        wrong = APOPCredentials(b"joe", b"<2@x>", digest)
        await self.failure(source.requestAvatarId(wrong), BadCredentials)
        for keys, proven in (
            ({"preset": "tpops-classic"}, [True]),
            ({"preset": "tpops-classic", "password_scheme": "crypt"}, [False]),
            ({"preset": "tpops-v2"}, [False]),
            ({"preset": "tpops-v2", "secrets": "plain"}, [True]),
            ({"query": _QUERY, "password_scheme": "plain"}, [True]),
            ({"query": _QUERY, "secrets": "mixed"}, [True, False]),
            ({"query": _QUERY, "secrets": "scram-sha-256"}, [False]),
        ):
            found = [("APOP" in one) for one in self.opened(start=False, **keys).mechanisms()]
            self.assertEqual(found, proven, keys)

    async def test_variables(self) -> None:
        """The address at which a client came in is that of his peer, and nothing where that is not known."""
        source = self.opened(
            query="SELECT CONCAT('{PLAIN}', $(serverhost), '|', %u, '|', %d) AS password FROM DUAL WHERE %s <> ''"
        )
        found = await source.find("joe@example.org", Peer("192.0.2.1", local_host="198.51.100.1"))
        self.assertEqual(found.password_hash, "{PLAIN}198.51.100.1|joe|example.org")
        self.assertEqual((await source.find("joe", None)).password_hash, "{PLAIN}|joe|")

    async def test_what_cannot_be_said(self) -> None:
        """More than one row, strange rows, errors of the server, no start: the source cannot say."""
        self.run_sql(CLASSIC, "INSERT INTO user (passwd, quota) VALUES ('a', 1), ('b', 2)")
        for query, said in (
            ("SELECT passwd AS password FROM user WHERE %s <> ''", "more than one row"),
            ("SELECT passwd AS password, 'x' AS enabled FROM user WHERE quota = 1 AND %s <> ''", "neither yes nor no"),
            ("SELECT passwd AS password FROM users WHERE login = %s", "users' doesn't exist"),
        ):
            source = self.opened(query=query)
            text = await self.failure(Deferred.fromCoroutine(source.find("joe", None)), LookupUnavailable)
            self.assertIn("accounts source db: ", text)
            self.assertIn(said, text)
        text = await self.failure(
            Deferred.fromCoroutine(self.opened(start=False, query=_QUERY).find("joe", None)), LookupUnavailable
        )
        self.assertIn("not started", text)

    async def test_names_without_a_domain(self) -> None:
        """Presets of tables with domains are not asked for them: there are no such tables here."""
        source = self.opened(preset="vpopmail")
        await self.failure(Deferred.fromCoroutine(source.find("joe", None)), UnknownUser)
        await self.failure(Deferred.fromCoroutine(source.find("joe@example.org", None)), LookupUnavailable)

    def test_check(self) -> None:
        """What an operator is told of each server and each query."""
        self.run_sql(CLASSIC)
        self.assertEqual(self.opened(start=False, preset="tpops-classic").check(), [])
        nowhere = "unix:/nowhere/at/all"
        for keys, said in (
            ({"preset": "vpopmail"}, "the database has not the tables of the preset"),
            ({"preset": "tpops-classic", "servers": [nowhere]}, f"{nowhere}: Can't connect"),
            ({"preset": "tpops-classic", "password": "x"}, "the user or the password is wrong"),
            ({"query": "SELECT login, 1 FROM user WHERE login = %s"}, "the column 1, which means nothing"),
            ({"query": "SELECT 'x' AS password FROM DUAL WHERE %s <> ''"}, "an account for a name that does not exist"),
            ({"preset": "tpops-v2", "password": "", "password_file": "/nowhere"}, "cannot read /nowhere"),
        ):
            (problem,) = self.opened(start=False, **keys).check()
            self.assertIn(said, problem)
            self.assertIn("accounts source db", problem)
        error = self.assertRaises(ConfigError, self.opened, query="SELECT 'a%' WHERE %s")
        self.assertIn("accounts source db: the query has a single percent sign", str(error))


class WritableTests(OpenedTests):
    """IAccountAdmin and IRenewsHashes."""

    def setUp(self) -> None:
        super().setUp()
        self.mariadb.run(f"GRANT ALL ON {self.schema}.* TO {READER}")

    def test_schema_v2(self) -> None:
        """Everything that an account has comes back; who is not there is told."""
        self.mariadb.script(V2, self.schema)
        source = self.opened(start=False, preset="tpops-v2")
        for interface in (IAccountAdmin, IRenewsHashes):
            verifyObject(interface, source)
        source.add(Account("joe", "db", "/home/joe", "maildir:/m", 7, 8), "{PLAIN}secret")
        self.assertRaises(ValueError, source.add, Account("joe", "db"), "{PLAIN}secret")
        self.assertEqual(
            self.run_sql("SELECT name, password_hash, enabled, maildrop, home, unix_uid, unix_gid FROM tpops_user"),
            [("joe", "{PLAIN}secret", 1, "maildir:/m", "/home/joe", 7, 8)],
        )
        source.set_enabled("joe", False)
        source.set_enabled("joe", False)
        self.assertEqual(source.names(), [("joe", False)])
        self.assertFalse(source.renew_hash("joe", "{PLAIN}other", "{PLAIN}new"))
        self.assertTrue(source.renew_hash("joe", "{PLAIN}secret", "{PLAIN}new"))
        source.set_password("joe", "{PLAIN}newer")
        self.assertEqual(self.run_sql("SELECT password_hash FROM tpops_user"), [("{PLAIN}newer",)])
        source.remove("joe")
        for change in (
            lambda: source.remove("joe"),
            lambda: source.set_password("joe", "{PLAIN}x"),
            lambda: source.set_enabled("joe", True),
        ):
            self.assertRaises(UnknownUser, change)
        self.assertEqual(source.names(), [])

    def test_tpops_table(self) -> None:
        """What it has no column for is refused."""
        self.run_sql(CLASSIC)
        source = self.opened(start=False, preset="tpops-classic")
        self.assertFalse(IRenewsHashes.providedBy(source))
        self.assertRaises(LookupUnavailable, source.add, Account("joe", "db", home="/home/joe"), "{PLAIN}secret")
        source.add(Account("joe", "db", maildrop="maildir:/m"), "{PLAIN}secret")
        self.assertRaises(LookupUnavailable, source.set_enabled, "joe", False)
        error = self.assertRaises(LookupUnavailable, source.set_password, "joe", "{SSHA}" + "a" * 40)
        self.assertIn("choose another scheme", str(error))
        self.assertEqual(self.run_sql("SELECT login, passwd, maildir FROM user"), [("joe", "secret", "/m")])
        self.assertEqual(source.names(), [("joe", True)])

    def test_errors(self) -> None:
        """Without the tables nothing works, and it is no traceback."""
        source = self.opened(start=False, preset="tpops-v2")
        for change in (
            source.names,
            lambda: source.add(Account("joe", "db"), "{PLAIN}x"),
            lambda: source.renew_hash("joe", "a", "b"),
        ):
            self.assertIn("tpops_user' doesn't exist", str(self.assertRaises(LookupUnavailable, change)))
        self.assertNotIsInstance(self.opened(start=False, preset="vpopmail"), WritableAccounts)


class ClientTests(DatabaseTests):
    """One connection."""

    names = ("127.0.0.1",)

    def client(self, server: str = "", mariadb: MariaDB | None = None, writable: bool = False, **more: Any) -> Client:
        """A connection that is not open yet."""
        servers = (parse_server(server or (mariadb or self.mariadb).tcp),)
        access = Access(servers, READER, READER_PASSWORD, self.schema, **more)
        client = Client(access, Line(servers, lambda: 0.0), writable)
        self.addCleanup(client.close)
        return client

    def one(self, client: Client, sql: str = "SELECT %s", value: str = "x") -> object:
        """The one value that a query gives."""
        ((found,),) = client.select(sql, [value]).rows
        return found

    def test_values_come_back_as_they_were(self) -> None:
        """Quotes, backslashes, all of Unicode; two rows at most."""
        client = self.client()
        for value in ("'", "\\", '"', "%s", "\U0001f600", "\\'", "a\0b", "\n"):
            self.assertEqual(self.one(client, value=value), value)
        answer = client.select("SELECT %s AS a UNION SELECT 2 UNION SELECT 3", ["1"])
        self.assertEqual((answer.columns, len(answer.rows)), (("a",), 2))

    def test_a_dead_connection_is_replaced(self) -> None:
        """Killed by the server, once and again."""
        client = self.client()
        for _ in range(2):
            number = self.one(client, "SELECT CONNECTION_ID() + 0 * %s", "0")
            self.mariadb.run(f"KILL {int(float(str(number)))}")
            self.assertEqual(self.one(client), "x")

    def test_time_is_up(self) -> None:
        """A query that takes too long fails, and so does a server that hangs."""
        client = self.client(timeout_seconds=4.0)
        error = self.assertRaises(DatabaseFailed, client.select, "SELECT SLEEP(30), %s", ["x"])
        self.assertIn("Lost connection", str(error))
        self.assertEqual(self.one(client), "x")
        own = MariaDB()
        self.addCleanup(own.remove)
        own.start()
        self.create(own)
        client = self.client(mariadb=own, timeout_seconds=4.0)
        self.assertEqual(self.one(client), "x")
        own.hang()
        self.assertRaises(DatabaseFailed, client.select, "SELECT %s", ["x"])

    def test_tls(self) -> None:
        """Verified, only encrypted, wanted and not there."""
        cipher = "SELECT variable_value FROM information_schema.session_status WHERE variable_name = %s"
        verified = self.client(tls="verify", tls_ca=str(self.mariadb.certificate))
        for client in (verified, self.client(tls="encrypt")):
            self.assertIn("TLS_", str(self.one(client, cipher, "Ssl_cipher")))
        self.assertEqual(self.one(self.client(), cipher, "Ssl_cipher"), "")
        without = MariaDB()
        self.addCleanup(without.remove)
        without.start()
        self.create(without)
        error = self.assertRaises(DatabaseFailed, self.one, self.client(mariadb=without, tls="encrypt"))
        self.assertIn("offers no TLS", str(error))

    def test_nothing_can_be_changed_for_lookups(self) -> None:
        """Neither by a statement nor by a second one behind it; a transaction that fails leaves nothing."""
        self.mariadb.run(f"GRANT ALL ON {self.schema}.* TO {READER}")
        self.run_sql("CREATE TABLE t (a INT PRIMARY KEY)")
        client = self.client()
        for sql in ("INSERT INTO t VALUES (%s)", "SELECT %s; INSERT INTO t VALUES (1)"):
            self.assertRaises(DatabaseFailed, client.select, sql, ["1"])
        writer = self.client(writable=True)

        def twice(execute: Any) -> None:
            execute("INSERT INTO t VALUES (%s)", [1])
            execute("INSERT INTO t VALUES (%s)", [1])

        self.assertEqual(self.assertRaises(DatabaseFailed, writer.transaction, twice).number, 1062)

        def interrupted(execute: Any) -> None:
            execute("INSERT INTO t VALUES (%s)", [1])
            raise KeyError

        self.assertRaises(KeyError, writer.transaction, interrupted)
        self.assertEqual(self.run_sql("SELECT * FROM t"), [])
        writer.transaction(lambda execute: execute("INSERT INTO t VALUES (%s)", [1]))
        self.assertEqual(self.run_sql("SELECT * FROM t"), [(1,)])
