"""tpops pbs: what is typed, what is seen, and what is in the store then."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path

from tests.admin.test_cli import CommandCase
from tpops.db.relay import Login, Rule, Sender
from tpops.db.relay_sqlite import SQLiteRelayStore

JOE = "joe@example.org"


class PbsCase(CommandCase):
    """A configuration with a store, and names with a domain."""

    settings = 'store = "sqlite"\n'

    def setUp(self) -> None:
        super().setUp()
        self.configure(
            f'[server]\nstate_dir = "."\n[names]\ndefault_domain = "example.org"\n[pop_before_smtp]\n{self.settings}'
        )
        self.store = SQLiteRelayStore(os.path.join(self.directory, "pbs.sqlite"), 1800)
        self.addCleanup(self.store.close)

    def pbs(self, *arguments: str) -> str:
        """A command that works."""
        return self.tpops("pbs", *arguments)

    def wrong(self, *arguments: str) -> str:
        """A command that does not; what it says."""
        return self.refused("pbs", *arguments)

    def usage(self, *arguments: str) -> str:
        """A command line that cannot be right; what is said of it."""
        result = self.run_command("-c", self.config, "pbs", *arguments)
        self.assertEqual(result.exit_code, 2, result.output)
        return result.stderr


class LoginTests(PbsCase):
    """allow, deny, list, ask, expire, purge."""

    def test_allow_list_ask_deny(self) -> None:
        """From nothing to a client that may send, and back."""
        self.pbs("user", "add", "Joe", "joe@EXAMPLE.org")
        self.assertIn(f"{JOE} counts as logged in from 192.0.2.1 until", self.pbs("allow", "::ffff:192.0.2.1", "JOE"))
        (shown,) = json.loads(self.pbs("list", "--json"))
        self.assertEqual((shown["address"], shown["user"]), ("192.0.2.1", JOE))
        self.assertIn("192.0.2.1", self.pbs("list"))
        self.assertEqual(
            self.pbs("ask", "192.0.2.1", JOE), "yes (OK): a user of this sender has logged in from this address\n"
        )
        for question in (("192.0.2.2", JOE), ("192.0.2.1", "<>"), ("192.0.2.1", "ann@example.org")):
            result = self.run_command("-c", self.config, "pbs", "ask", *question)
            self.assertEqual((result.exit_code, result.output), (1, "no (DUNNO): nothing speaks for it\n"))
        self.assertEqual(self.pbs("deny", "192.0.2.1", "joe"), "forgot 1 logins from 192.0.2.1\n")
        self.assertIn("there is no such login from 192.0.2.1", self.wrong("deny", "192.0.2.1"))

    def test_place_of_ipv6_as_it_is_listed(self) -> None:
        """What "list" shows can be given to "deny"."""
        self.pbs("allow", "2001:db8:1:2::7", "joe")
        (shown,) = json.loads(self.pbs("list", "--json"))
        self.assertEqual(shown["address"], "2001:db8:1:2::/64")
        self.pbs("deny", shown["address"])

    def test_no_address(self) -> None:
        """Names are not looked up."""
        for command in (("allow", "host", "joe"), ("deny", "host"), ("ask", "host", JOE)):
            self.assertIn("'host' is no IP address", self.wrong(*command))

    def test_expire(self) -> None:
        """Shown, changed, as configured again."""
        self.pbs("init")
        self.assertEqual(self.pbs("expire"), "a login counts for 1800 seconds (as configured)\n")
        self.assertIn("600 seconds (the configuration says 1800)", self.pbs("expire", "600"))
        self.assertEqual(self.store.expire_seconds(), 600)
        self.assertIn("as configured", self.pbs("expire", "--default"))
        for wrong in (("0",), ("x",), ("600", "--default")):
            self.usage("expire", *wrong)

    def test_purge(self) -> None:
        """What does not count goes, and is counted."""
        now = int(time.time())
        for user, at in (("a", now - 9000), ("b", now), ("c", now + 99)):
            self.store.record([Login("192.0.2.1", user, at)])
        self.assertEqual(self.pbs("purge"), "removed 2 logins\n")

    def test_without_a_store(self) -> None:
        """The key to set is named."""
        self.configure("")
        for command in (("list",), ("user", "list"), ("import", self.config)):
            self.assertIn("store is not set in [pop_before_smtp]", self.wrong(*command))

    def test_store_that_is_not_there_or_not_good(self) -> None:
        """One line, and what to do."""
        self.assertIn("'tpops pbs init'", self.wrong("list"))
        self.assertEqual(self.pbs("init"), "the store is ready\n")
        self.pbs("list")
        Path(self.store.path).write_bytes(b"rubbish " * 1000)
        self.assertIn("file is not a database", self.wrong("list"))


class CheckTests(PbsCase):
    """tpops check."""

    settings = (
        'store = "sqlite"\npolicy = ["unix:sockets/policy"]\nsocket_group = "root"\nmap = "texthash:maps/relay"\n'
        '[[accounts]]\ndriver = "passwd_file"\npath = "users"\n[mail]\nlocation = "maildir:/x/$(user)"\n'
    )

    def setUp(self) -> None:
        super().setUp()
        Path(self.directory, "users").touch(0o600)
        for name in ("sockets", "maps"):
            os.mkdir(os.path.join(self.directory, name))

    def test_right(self) -> None:
        """Before the store is there, and with it; that nobody can relay yet is a warning."""
        self.assertIn("is right", self.tpops("check"))
        self.pbs("init")
        self.assertIn("warning: pop_before_smtp: nobody can relay", self.tpops("check"))
        self.pbs("user", "add", "joe", JOE)
        self.assertNotIn("nobody can relay", self.tpops("check"))

    def test_wrong(self) -> None:
        """Every problem at once."""
        for name in ("sockets", "maps"):
            os.rmdir(os.path.join(self.directory, name))
        Path(self.store.path).write_bytes(b"rubbish " * 1000)
        text = Path(self.config).read_text("utf-8")
        self.configure(text.replace('socket_group = "root"', 'socket_group = "no-such-group"'))
        said = self.refused("check")
        for problem in (
            "pop_before_smtp: cannot use",
            "there is no directory",
            "for the socket unix:",
            "there is no group no-such-group",
            "pop_before_smtp.map: there is no directory",
        ):
            self.assertIn(problem, said)

    def test_store_elsewhere(self) -> None:
        """Its directory has to be there."""
        text = Path(self.config).read_text("utf-8")
        self.configure(text.replace('"sqlite"\n', '"sqlite"\npath = "no/pbs.sqlite"\n', 1))
        self.assertIn("pop_before_smtp.path: there is no directory", self.refused("check"))


class MapTests(PbsCase):
    """user and access."""

    def test_senders_of_users(self) -> None:
        """Added, shown, changed, removed."""
        said = self.pbs("user", "add", "joe", JOE, "x@example.org")
        self.assertEqual(said, f"{JOE} may send as {JOE}\n{JOE} may send as x@example.org\n")
        self.assertEqual(self.pbs("user", "add", "joe", JOE, "--status", "0"), f"{JOE} may not send as {JOE}\n")
        self.pbs("user", "add", "ann", JOE)
        self.assertEqual(
            json.loads(self.pbs("user", "list", "joe", "--json")),
            [{"user": JOE, "sender": JOE, "status": 0}, {"user": JOE, "sender": "x@example.org", "status": 1}],
        )
        self.assertIn("0: may not", self.pbs("user", "list"))
        self.assertIn("has no sender y@example.org; nothing", self.wrong("user", "remove", "joe", JOE, "y@example.org"))
        self.assertEqual(len(self.store.senders(JOE)), 2)
        self.pbs("user", "remove", "joe", JOE)
        self.assertEqual(self.pbs("user", "remove", "joe", "--all"), f"forgot 1 senders of {JOE}\n")
        self.assertEqual(self.store.senders(None), [Sender("ann@example.org", JOE, 1)])
        self.usage("user", "remove", "joe")
        self.usage("user", "add", "joe", JOE, "--status", "2")

    def test_no_patterns(self) -> None:
        """What would never match is refused."""
        for sender in ("%", "*@*", "@example.org", "joe"):
            self.assertIn("is no sender address", self.wrong("user", "add", "joe", sender))
        self.assertIn("without angle brackets", self.wrong("user", "add", "joe", "<joe@example.org>"))

    def test_rules(self) -> None:
        """Added, shown, removed."""
        self.assertEqual(
            self.pbs("access", "add", "192.0.2.0/24"), "192.0.2.0/24, any sender: after a login from there\n"
        )
        self.pbs("access", "add", "192.0.2.7", "joe@EXAMPLE.org", "--status", "2")
        self.assertEqual(
            json.loads(self.pbs("access", "list", "--json")),
            [
                {"network": "192.0.2.0/24", "sender": None, "status": 1},
                {"network": "192.0.2.7", "sender": JOE, "status": 2},
            ],
        )
        self.assertIn("(any)", self.pbs("access", "list"))
        self.assertIn("no rule of 192.0.2.7 for any sender", self.wrong("access", "remove", "192.0.2.7"))
        self.assertEqual(self.pbs("access", "remove", "192.0.2.7", JOE), f"forgot the rule of 192.0.2.7 for {JOE}\n")
        self.assertEqual(self.store.rules(), [Rule("192.0.2.0/24", None, 1)])

    def test_rules_that_cannot_be_right(self) -> None:
        """A network open to everybody, and addresses that are none."""
        self.assertIn("--status 2 needs a SENDER", self.usage("access", "add", "192.0.2.0/24", "--status", "2"))
        self.assertIn("write 192.0.2.7 or 192.0.2.0/24", self.wrong("access", "add", "192.0.2.7/24"))
        self.assertIn("is no address or network", self.wrong("access", "add", "192.0.2"))


class ImportTests(PbsCase):
    """The database of PBS."""

    schema = (
        "CREATE TABLE USERMAP (POPNAME text, MAIL text, STATUS integer)",
        "CREATE TABLE ACCESSMAP (IP text, MAIL text, STATUS integer)",
        "CREATE TABLE PBS (IP text, POPNAME text, UNIXTIME integer)",
        "CREATE TABLE PBS_PARAM (PARAM text, VALUE text)",
        "CREATE VIEW V_PBS AS SELECT * FROM PBS, USERMAP WHERE PBS.POPNAME = USERMAP.POPNAME",
    )

    def database(self, *statements: str) -> str:
        """A file of PBS with these rows."""
        path = os.path.join(self.directory, "pbs.dat")
        connection = sqlite3.connect(path)
        for statement in (*self.schema, *statements):
            connection.execute(statement)
        connection.commit()
        connection.close()
        return path

    def rows(self) -> list[str]:
        """What a site may have."""
        now = int(time.time())
        return [
            "INSERT INTO USERMAP VALUES ('hoge', 'hoge@EXAMPLE.com', 1)",
            "INSERT INTO USERMAP VALUES ('hoge', 'fuga@example.com', 0)",
            "INSERT INTO ACCESSMAP VALUES ('10.1.2.3', NULL, 1)",
            "INSERT INTO ACCESSMAP VALUES ('10.1.2.4', 'hoge@example.com', '2')",
            f"INSERT INTO PBS VALUES ('127.0.0.1', 'hoge', {now - 100})",
            "INSERT INTO PBS VALUES ('127.0.0.1', 'old', 1103600395)",
            f"INSERT INTO PBS VALUES ('127.0.0.1', 'later', {now + 1000})",
            "INSERT INTO PBS_PARAM VALUES ('expire', '600')",
        ]

    def assert_taken_over(self) -> None:
        """All that counts is there."""
        hoge = "hoge@example.org"
        self.assertEqual(
            self.store.senders(None), [Sender(hoge, "fuga@example.com", 0), Sender(hoge, "hoge@example.com", 1)]
        )
        self.assertEqual(self.store.rules(), [Rule("10.1.2.3", None, 1), Rule("10.1.2.4", "hoge@example.com", 2)])
        self.assertEqual([(one.address, one.user) for one in self.store.logins()], [("127.0.0.1", hoge)])
        self.assertEqual(self.store.expire_seconds(), 600)

    def test_file(self) -> None:
        """Users as this server names them, logins that count, the time that was set."""
        path = self.database(*self.rows())
        said = self.pbs("import", "--dry-run", path)
        self.assertIn("would take over\n  2 senders", said)
        self.assertFalse(os.path.exists(self.store.path))
        said = self.pbs("import", path)
        for line in ("2 senders", "2 rules", "1 logins (PBS); 1 had expired, 1 were in the future", "expire: 600"):
            self.assertIn(line, said)
        self.assert_taken_over()

    def test_twice(self) -> None:
        """What is there is replaced, what is not in the file stays."""
        path = self.database(*self.rows())
        self.pbs("import", path)
        self.pbs("user", "add", "ann", "ann@example.com")
        self.pbs("import", path)
        self.pbs("user", "remove", "ann", "ann@example.com")
        self.assert_taken_over()

    def test_dump(self) -> None:
        """The text that "sqlite old.dat .dump" gives, with its view."""
        path = os.path.join(self.directory, "dump")
        statements = ["BEGIN TRANSACTION", *self.schema, *self.rows(), "COMMIT"]
        Path(path).write_text("".join(f"{one};\n" for one in statements), "utf-8")
        self.pbs("import", path)
        self.assert_taken_over()

    def test_dump_reaches_no_file(self) -> None:
        """Statements of a dump work in memory, whatever they are."""
        target = os.path.join(self.directory, "target")
        path = os.path.join(self.directory, "dump")
        for statement in (
            f"ATTACH '{target}' AS x",
            f"CREATE TABLE USERMAP AS SELECT writefile('{target}', 'x') AS a, 1 AS b, 2 AS c",
            f"INSERT INTO x SELECT load_extension('{target}')",
        ):
            Path(path).write_text(f"{statement};\n", "utf-8")
            self.wrong("import", path)
            self.assertFalse(os.path.exists(target))

    def test_sqlite_2(self) -> None:
        """It is said how to convert it."""
        path = os.path.join(self.directory, "old.dat")
        Path(path).write_bytes(b"** This file contains an SQLite 2.1 database **\0" + bytes(1000))
        self.assertIn("sqlite old.dat .dump | sqlite3 new.dat", self.wrong("import", path))

    def test_rows_that_cannot_be_right(self) -> None:
        """Each is named, and nothing is taken over, unless they are left out."""
        path = self.database(
            *self.rows(),
            "INSERT INTO USERMAP VALUES ('x', 'no address', 1)",
            "INSERT INTO USERMAP VALUES (NULL, 'a@b', 1)",
            "INSERT INTO USERMAP VALUES ('x', 'a@b', 7)",
            "INSERT INTO ACCESSMAP VALUES ('10.1.2.', NULL, 1)",
            "INSERT INTO ACCESSMAP VALUES ('10.1.2.9', NULL, 2)",
            "INSERT INTO PBS VALUES ('host', 'x', 5)",
        )
        said = self.wrong("import", path)
        for problem in (
            "USERMAP, row 3: 'no address' is no sender address",
            "USERMAP, row 4: a value is missing",
            "USERMAP, row 5: the status is 7, and not 0 to 1",
            "ACCESSMAP, row 3: '10.1.2.' is no address or network",
            "ACCESSMAP, row 4: status 2 needs a sender address",
            "PBS, row 4: 'host' is no IP address",
            "nothing was taken over",
        ):
            self.assertIn(problem, said)
        self.assertFalse(os.path.exists(self.store.path))
        result = self.run_command("-c", self.config, "pbs", "import", "--skip-bad", path)
        self.assertEqual(result.exit_code, 0)
        self.assertIn("left out 6 rows", result.stdout)
        self.assert_taken_over()

    def test_other_files(self) -> None:
        """What is no database of PBS is told to be none."""
        path = os.path.join(self.directory, "other")
        for content, wanted in (
            (b"\xff\xfe", "is neither an SQLite 3 file nor a dump"),
            (b"", "it has none of the tables USERMAP"),
            (b"CREATE TABLE USERMAP (a, b);\n", "USERMAP has 2 columns, and PBS has 3"),
            (b"CREATE TABLE USERMAP (a, b", "it ends within a statement"),
            (b"SQLite format 3\0" + bytes(100), "file is not a database"),
        ):
            Path(path).write_bytes(content)
            self.assertIn(wanted, self.wrong("import", path))
