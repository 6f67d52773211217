"""The operator's own queries, and clients who would like to write their own, in a real MariaDB."""

from __future__ import annotations

import os
from typing import Any

from tests.integration.mysql_case import DISABLED, UNAVAILABLE, WRONG, DatabaseTests, deliver
from tests.integration.server import RunningServer

#: What tpop3d asks when its configuration does not say otherwise.
TPOP3D = (
    "SELECT concat(domain.path, '/', popbox.mbox_name), popbox.password_hash, domain.unix_user, 'maildir' "
    "FROM popbox, domain WHERE popbox.local_part = '$(local_part)' AND popbox.domain_name = '$(domain)' "
    "AND popbox.domain_name = domain.domain_name"
)


class PeopleTests(DatabaseTests):
    """A table of people."""

    def setUp(self) -> None:
        super().setUp()
        self.run_sql(
            "CREATE TABLE people (who VARCHAR(255), pw VARCHAR(255), place VARCHAR(255), host VARCHAR(255), "
            "flag VARCHAR(10))"
        )
        self.place = deliver(self.directory / "people")
        self.person("joe@example.org")

    def person(self, who: str, pw: str | None = "{PLAIN}secret", **more: Any) -> None:
        """Add a row."""
        self.insert("people", who=who, pw=pw, place=more.pop("place", self.place), **more)

    def asking(self, *queries: str, **keys: Any) -> RunningServer:
        """A server with these queries."""
        asked = {"query": queries[0]} if len(queries) == 1 else {"queries": list(queries)}
        return self.server(self.source(**asked, **keys))

    def broken(self, query: str, said: str, **keys: Any) -> None:
        """Nobody gets in, the log says why, and so does C{tpops check}."""
        server = self.asking(query, **keys)
        self.assert_out(server, "joe@example.org", "secret", UNAVAILABLE)
        self.assertIn(said, server.event("login-failed")["detail"])
        status, text = self.check(self.source(query=query, **keys))
        self.assertEqual(status, 1)
        self.assertIn(said, text)


class QueryTests(PeopleTests):
    """What queries can say and give."""

    def test_variables_of_tpops(self) -> None:
        """%s, %u and %d, within quotes as TPOPS needed them, and without; a password without a scheme is plain."""
        self.person("%d", "clear")
        for condition in (
            'who = "%s"',
            "who = %s",
            "who = CONCAT('%u', '@', '%d')",
            "who LIKE CONCAT(%u, '@example.%%') AND %d = 'example.org'",
        ):
            server = self.asking(f"SELECT who AS name, pw AS password, place AS maildrop FROM people WHERE {condition}")
            self.assert_in(server, "joe@example.org", "secret")
            self.assert_out(server, "joe@example.org", "wrong")
            self.assert_out(server, "ann@example.org", "secret")
            server.stop()

    def test_query_and_columns_of_tpop3d(self) -> None:
        """Its own query as it stands, with the columns by their positions; unix_user gives uid and gid."""
        self.run_sql(
            "CREATE TABLE domain (domain_name VARCHAR(255), unix_user VARCHAR(255), path VARCHAR(255))",
            "CREATE TABLE popbox (domain_name VARCHAR(255), local_part VARCHAR(255), password_hash VARCHAR(255), "
            "mbox_name VARCHAR(255))",
        )
        self.insert("domain", domain_name="example.org", unix_user=os.geteuid(), path=self.directory)
        self.insert(
            "popbox", domain_name="example.org", local_part="joe", password_hash="{plaintext}x", mbox_name="joe"
        )
        deliver(self.directory / "joe", 2)
        server = self.asking(TPOP3D, columns=["maildrop", "password", "unix_user", "type"])
        self.assert_in(server, "joe@example.org", "x", 2)
        self.assert_out(server, "joe@example.org", "y")

    def test_the_address_that_was_called(self) -> None:
        """tpop3d's $(serverhost): the same name is somebody else at another address."""
        self.person("ann", host="127.0.0.1", place=deliver(self.directory / "here", 2))
        self.person("ann", host="127.0.0.2", place=deliver(self.directory / "there", 5))
        server = self.asking(
            "SELECT pw AS password, place AS maildrop FROM people WHERE who = '$(user)' AND host = '$(serverhost)'"
        )
        self.assert_in(server, "ann", "secret", 2)

    def test_queries_in_order(self) -> None:
        """The first that gives a row counts, also when its password is another one."""
        self.run_sql("CREATE TABLE others LIKE people")
        self.insert("others", who="joe@example.org", pw="{PLAIN}other", place=self.place)
        self.insert("others", who="zoe@example.org", pw="{PLAIN}other", place=self.place)
        select = "SELECT pw AS password, place AS maildrop FROM {} WHERE who = %s"
        server = self.asking(select.format("people"), select.format("others"))
        self.assert_in(server, "joe@example.org", "secret")
        self.assert_out(server, "joe@example.org", "other")
        self.assert_in(server, "zoe@example.org", "other")

    def test_one_query_for_a_login(self) -> None:
        """Promise: password and Maildir come from the same row; the server is asked once."""
        self.mariadb.run("SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = ON")
        self.addCleanup(self.mariadb.run, "SET GLOBAL general_log = OFF")
        server = self.asking("SELECT pw AS password, place AS maildrop FROM people WHERE who = %s")
        for _ in range(3):
            self.assert_in(server, "joe@example.org", "secret")
        ((asked,),) = self.mariadb.run(
            "SELECT COUNT(*) FROM mysql.general_log WHERE command_type = 'Query' AND argument LIKE '%FROM people%' "
            "AND argument NOT LIKE '%general_log%'"
        )
        self.assertEqual(asked, 3)

    def test_enabled(self) -> None:
        """Words for yes and no; NULL is no; something else is an error and no login."""
        words = {"1": b"+OK", "y": b"+OK", "True": b"+OK", "0": DISABLED, "N": DISABLED, None: DISABLED, "": DISABLED}
        words["maybe"] = UNAVAILABLE
        for number, word in enumerate(words):
            self.person(f"p{number}", flag=word)
        server = self.asking("SELECT pw AS password, place AS maildrop, flag AS active FROM people WHERE who = %s")
        for number, answer in enumerate(words.values()):
            self.assert_out(server, f"p{number}", "secret", answer)
            self.assert_out(server, f"p{number}", "wrong", answer if answer == UNAVAILABLE else WRONG)

    def test_more_than_one_row(self) -> None:
        """Promise: who is there twice does not get in, and the log says why; the million rows are not fetched."""
        self.person("joe@example.org", "{PLAIN}other")
        server = self.asking("SELECT pw AS password FROM people WHERE who = %s")
        for password in ("secret", "other", "wrong"):
            self.assert_out(server, "joe@example.org", password, UNAVAILABLE)
        self.assertIn("more than one row", server.event("login-failed")["detail"])

    def test_columns_that_cannot_be_used(self) -> None:
        """Promise: a column that is missing, or means nothing, is told by name, and nobody gets in meanwhile."""
        self.broken("SELECT who AS name, pw AS secret FROM people WHERE who = %s", "the column secret")
        self.broken("SELECT who AS name FROM people WHERE who = %s", "no column password")
        self.broken("SELECT pw AS password, pw AS passwd FROM people WHERE who = %s", "password twice")
        self.broken(
            "SELECT pw, place FROM people WHERE who = %s", "2 columns", columns=["password", "maildrop", "unix_user"]
        )

    def test_errors_of_the_server(self) -> None:
        """What it does not like is in the log with its reason, without what the client sent."""
        self.broken("SELECT pw AS password FROM persons WHERE who = %s", "persons")
        self.broken("SELECT secret AS password FROM people WHERE who = %s", "Unknown column")
        self.broken("SELECT pw AS password FROM people WHERE who == = %s", "error in your SQL syntax")
        server = self.asking("SELECT pw AS password FROM people WHERE who == %s ==")
        self.assert_out(server, "somebody's name", "secret", UNAVAILABLE)
        self.assertNotIn("somebody", server.event("login-failed")["detail"])

    def test_a_query_that_cannot_be_used(self) -> None:
        """Promise: the server does not start with it, and is told what to write; so is "tpops check"."""
        asked = self.source(name="people", query="SELECT pw AS password FROM people WHERE who = '%u@example.org'")
        server = RunningServer(self, users={})
        server.configuration["accounts"] = [asked]
        said = "accounts source people: the query has a variable within the string '%u@example.org'; write CONCAT"
        self.assertIn(said, server.refuses_to_start())
        status, text = self.check(asked)
        self.assertEqual(status, 1)
        self.assertIn(said, text)

    def test_a_query_cannot_change_anything(self) -> None:
        """Promise: the connection is read-only, whatever a function does that the query calls."""
        with self.mariadb.connection(self.schema) as connection:
            connection.cursor().execute(
                "CREATE FUNCTION changed() RETURNS INT MODIFIES SQL DATA BEGIN DELETE FROM people; RETURN 1; END"
            )
            connection.cursor().execute(f"GRANT ALL ON {self.schema}.* TO reader")
        server = self.asking("SELECT pw AS password FROM people WHERE who = %s AND changed() = 1")
        self.assert_out(server, "joe@example.org", "secret", UNAVAILABLE)
        self.assertEqual(self.run_sql("SELECT COUNT(*) FROM people"), [(1,)])


class InjectionTests(PeopleTests):
    """Names that would be SQL if they were pasted into the query."""

    #: Each of them gives a row, or another statement, if quotes or backslashes count for anything.
    NAMES = (
        "' OR '1'='1",
        "' OR 1=1 -- ",
        "' OR 1=1 #",
        '" OR "1"="1',
        "\\' OR 1=1 -- ",
        '\\" OR 1=1 -- ',
        "joe@example.org' -- ",
        "joe@example.org\\",
        "'; DELETE FROM people; -- ",
        "' UNION SELECT '{plain}x', 'x' -- ",
        "*' or 1=1 -- ",
        "%s",
        "%",
        "_",
        "joe@example.%",
        "$(user)",
        "%(user)s",
        "{0}",
        "\u02bc or 1=1",
        "\uff07 or 1=1 -- ",
        "0",
        "true",
        "null",
    )

    def assert_nobody(self, server: RunningServer) -> None:
        """None of the names is anybody's."""
        for name in self.NAMES:
            self.assert_out(server, name, "secret")
            self.assert_out(server, f"{name}@example.org", "secret")
        self.assertEqual(self.run_sql("SELECT COUNT(*) FROM people"), [(1,)])

    def test_nobody_gets_in_by_a_name(self) -> None:
        """With quotes in the query and without."""
        for condition in ("who = %s", "who = '%s'", 'who = "%s"', "who = CONCAT('%u', '@', '%d')"):
            server = self.asking(f"SELECT pw AS password, place AS maildrop FROM people WHERE {condition}")
            self.assert_nobody(server)
            self.assert_in(server, "joe@example.org", "secret")
            server.stop()

    def test_whatever_the_mode_of_the_server(self) -> None:
        """Also where a backslash escapes nothing and double quotes are names by default."""
        ((before,),) = self.mariadb.run("SELECT @@GLOBAL.sql_mode")
        self.mariadb.run("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
        self.addCleanup(self.mariadb.run, f"SET GLOBAL sql_mode = '{before}'")
        server = self.asking(
            "SELECT pw AS password, place AS maildrop FROM people WHERE who = \"%s\" AND '\\'' = \"'\""
        )
        self.assert_nobody(server)
        self.assert_in(server, "joe@example.org", "secret")

    def test_names_with_signs_of_their_own(self) -> None:
        """Such a name is a name: its owner gets in."""
        names = ('o\'brien "x"', "back\\slash", "100%", "a -- b", "\U0001f600", "$(user)", "null")
        for name in names:
            self.person(name)
        server = self.asking("SELECT pw AS password, place AS maildrop FROM people WHERE BINARY who = %s")
        for name in names:
            self.assert_in(server, name, "secret")
            self.assert_out(server, name, "wrong")

    def test_octets_that_are_no_name(self) -> None:
        """NUL, control characters and what is not UTF-8 never get to the database."""
        server = self.asking("SELECT pw AS password FROM people WHERE who = %s")
        for octets in (b"joe@example.org\0", b"joe\r", b"\xbf' or 1=1 -- ", b"\xbf\x5c' or 1=1 -- "):
            wire = server.connect()
            wire.line()
            wire.command(b"USER " + octets)
            self.assertTrue(wire.command(b"PASS secret").startswith(b"-ERR"), octets)
        self.assertEqual(server.events("login"), [])
