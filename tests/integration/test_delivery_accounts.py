"""tpops-useradd, and deliveries to the accounts that it makes: in SQLite and in MySQL."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from tests.integration.mysql_case import CLASSIC, READER, DatabaseTests
from tests.integration.server import RunningServer, program, temporary
from tests.integration.test_delivery_commands import CommandCase, run
from tests.integration.test_mysql_presets import V2
from tests.support import caught_stderr
from tpops.delivery import useradd


class UserAddTests(CommandCase):
    """tpops-useradd on the embedded database."""

    def setUp(self) -> None:
        self.home = temporary(self)
        done = subprocess.run([program("tpops"), "init", str(self.home)], capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.server = RunningServer(self, self.home, users={})
        self.server.configuration["accounts"] = [{"driver": "sqlite", "path": "accounts.sqlite"}]
        self.server.configuration["names"] = {"default_domain": "example.org"}
        self.server.configuration["maildir"] = {"create": True}
        self.server.configuration["mail"] = {"location": f"maildir:{self.home}/mail/$(user)"}
        self.server.write_configuration()

    def test_add(self) -> None:
        """Promise: 0, the account logs in, and mail for the address is there."""
        for words, given in (
            (("joe", "secret", "joe@example.org"), b""),
            (("ann@example.org", "-", "ann", "elsewhere/ann"), b"secret\n"),
        ):
            done = run(self.server, "tpops-useradd", *words, given=given, cwd=self.home)
            self.assertEqual((done.returncode, done.stdout), (0, b""), done.stderr)
            self.delivered(words[2])
        self.assertEqual(len(os.listdir(self.home / "elsewhere/ann/new")), 1)
        self.server.start()
        for name in ("joe", "ann"):
            self.assertEqual(self.server.poplib(name, "secret").stat()[0], 1)

    def test_refused(self) -> None:
        """Promise: 1 for everything else, and why."""
        given = str(self.server.configuration_file)
        for words, why in (
            ((), "usage: tpops-useradd"),
            (("joe", "x"), "needs 3 or 4 words"),
            (("-z", "joe", "x", "joe"), "no option -z"),
            (("joe", "", "joe"), "password is empty"),
            (("joe", "x", "other@example.org"), "the address is the name"),
            (("../joe", "x", "../joe"), "cannot be a login name"),
            (("--source", "none", "joe", "x", "joe"), "no writable accounts source"),
            (("--scheme", "none", "joe", "x", "joe"), "none"),
            (("-c", "/nowhere", "joe", "x", "joe"), "no such configuration file"),
        ):
            with caught_stderr() as said:
                self.assertEqual(useradd.command(["-c", given, *words]), 1)
            self.assertIn(why, said())
        self.assertEqual(run(self.server, "tpops-useradd", "joe", "x", "joe").returncode, 0)
        done = run(self.server, "tpops-useradd", "joe", "x", "joe")
        self.assertEqual((done.returncode, b"already an account" in done.stderr), (1, True))


class DatabaseDeliveryTests(DatabaseTests):
    """Accounts in MySQL, mail in Maildirs."""

    def prepare(self, **source: Any) -> RunningServer:
        """A configuration on the test's database."""
        self.mariadb.run(f"GRANT ALL ON {self.schema}.* TO {READER}")
        server = RunningServer(self, users={}, maildir={"create": True})
        server.configuration["accounts"] = [self.source(name="db", **source)]
        server.configuration["mail"] = {"location": f"maildir:{self.directory}/$(user)"}
        server.write_configuration()
        return server

    def status(self, server: RunningServer, name: str, *words: str) -> tuple[int, str]:
        """Exit status and what is said."""
        done = run(server, name, *words)
        return done.returncode, done.stderr.decode()

    def count(self, name: str) -> int:
        """Messages in a Maildir."""
        return len(os.listdir(self.directory / name / "new"))

    def test_classic(self) -> None:
        """Promise: TPOPS' table: mail goes by the column "mail" and no other, the password is stored as it is."""
        self.run_sql(CLASSIC)
        server = self.prepare(preset="tpops-classic")
        words = ("joe", "secret", "Joe.Miller@example.org", f"{self.directory}/joe")
        self.assertEqual(self.status(server, "tpops-useradd", *words)[0], 0)
        self.assertEqual(self.run_sql("SELECT login, passwd, mail FROM user"), [("joe", "secret", words[2].lower())])
        self.assertEqual(self.status(server, "tpops-pipe", "joe.miller@EXAMPLE.org"), (0, ""))
        self.assertEqual(self.count("joe"), 1)
        # What the database takes for the same is not.
        self.insert("user", login="jurgen", passwd="x", mail="jurgen@example.org", maildir=f"{self.directory}/jurgen")
        status, said = self.status(server, "tpops-pipe", "joe", "other@example.org", "jürgen@example.org")
        self.assertEqual((status, said.count("5.1.1")), (67, 3))
        for again in (("joe", "x", "new@example.org"), ("new", "x", words[2])):
            status, said = self.status(server, "tpops-useradd", *again)
            self.assertEqual((status, "already an account" in said), (1, True))

    def test_v2(self) -> None:
        """Promise: schema v2: the address is the name."""
        self.mariadb.script(V2, self.schema)
        server = self.prepare(preset="tpops-v2")
        self.assertEqual(self.status(server, "tpops-useradd", "joe@example.org", "secret", "joe@example.org")[0], 0)
        self.run_sql("UPDATE tpops_user SET enabled = 0")
        self.assertEqual(self.status(server, "tpops-pipe", "JOE@example.org"), (0, ""))
        self.assertEqual(self.count("joe@example.org"), 1)
        self.assertEqual(self.status(server, "tpops-pipe", "ann@example.org")[0], 67)

    def test_lost_database(self) -> None:
        """Promise: 75 when the database or its table is not there, never 67."""
        server = self.prepare(preset="tpops-classic")
        status, said = self.status(server, "tpops-pipe", "joe@example.org")
        self.assertEqual((status, said.startswith("4.3.0 joe@example.org: accounts source db")), (75, True))
        server.configuration["accounts"][0]["servers"] = ["unix:/nowhere"]
        server.write_configuration()
        self.assertEqual(self.status(server, "tpops-pipe", "joe@example.org")[0], 75)
        self.assertEqual(self.status(server, "tpops-useradd", "joe", "x", "joe@example.org")[0], 1)
