"""Accounts in SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import Time, login, means
from tpops.cred import sqlite
from tpops.cred.sqlite import SQLiteAccounts
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccountAdmin, IAccounts
from tpops.model import Account

JOE = Account("joe", "db", "/home/joe", "maildir:/m/joe", 1000, 100)


class SQLiteAccountsTests(SynchronousTestCase):
    """The database as a checker, a source of accounts, and something to write to."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        sqlite.create(self.path)
        self.clock = Time()
        self.subject = self.open()
        self.subject.add(JOE, "{PLAIN}secret")

    def open(self) -> SQLiteAccounts:
        """What another process would have."""
        opened = SQLiteAccounts("db", means(), self.path, self.clock)
        self.addCleanup(opened.close)
        return opened

    def test_provides_its_interfaces(self) -> None:
        """It is a checker, an accounts source, and can be administered."""
        for interface in (ICredentialsChecker, IAccounts, IAccountAdmin):
            verifyObject(interface, self.subject)

    def test_the_file_is_for_its_owner_only(self) -> None:
        """Mode 0600, and never made over something that is there."""
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertRaises(FileExistsError, sqlite.create, self.path)

    def test_the_end_of_the_server_or_of_a_configuration_closes_it(self) -> None:
        """Promise: nothing stays open after a stop; who still asks is answered."""
        path = os.path.realpath(self.path)

        def opened() -> list[str]:
            found = []
            for number in os.listdir("/proc/self/fd"):
                with contextlib.suppress(FileNotFoundError):
                    found.append(os.readlink(f"/proc/self/fd/{number}"))
            return [one for one in found if one.startswith(path)]

        self.subject.record("joe")
        self.assertIn(path, opened())
        self.assertIsNone(self.subject.stop())
        self.assertEqual(opened(), [])
        self.assertEqual(self.subject.record("joe").account, JOE)

    def test_lets_in_who_knows_the_password(self) -> None:
        """At once where the scheme is cheap; wrong passwords and unknown names are told apart for the next source."""
        self.assertEqual(self.subject.requestAvatarId(login("joe")), b"db:joe")
        error = self.assertRaises(BadCredentials, self.subject.requestAvatarId, login("joe", "wrong"))
        self.assertNotIsInstance(error, UnknownUser)
        self.assertRaises(UnknownUser, self.subject.requestAvatarId, login("ann"))

    def test_gives_the_account_as_it_was_added(self) -> None:
        """Home, maildrop, uid and gid come back."""
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.subject.account("joe"))), JOE)
        self.assertEqual([record.account for record in self.subject.records()], [JOE])

    def test_a_disabled_account_is_told_only_with_the_right_password(self) -> None:
        """Nobody learns from a wrong password that the account exists."""
        self.subject.set_enabled("joe", False)
        self.assertRaises(AccountDisabled, self.subject.requestAvatarId, login("joe"))
        error = self.assertRaises(BadCredentials, self.subject.requestAvatarId, login("joe", "wrong"))
        self.assertNotIsInstance(error, AccountDisabled)
        self.assertEqual(self.subject.names(), [("joe", False)])
        self.subject.set_enabled("joe", True)
        self.assertEqual(self.subject.requestAvatarId(login("joe")), b"db:joe")

    def test_a_change_by_another_process_counts_from_the_next_login_on(self) -> None:
        """Rows in memory are dropped when somebody else wrote."""
        self.subject.requestAvatarId(login("joe"))
        self.open().set_password("joe", "{PLAIN}new")
        self.assertRaises(BadCredentials, self.subject.requestAvatarId, login("joe"))
        self.assertEqual(self.subject.requestAvatarId(login("joe", "new")), b"db:joe")
        self.open().remove("joe")
        self.assertRaises(UnknownUser, self.subject.requestAvatarId, login("joe", "new"))

    def test_rows_in_memory_are_bounded(self) -> None:
        """More users than the memory holds are still found."""
        self.patch(sqlite, "_CACHE_ROWS", 2)
        for name in "abc":
            self.subject.add(Account(name, "db"), "{PLAIN}secret")
        for name in "abcabc":
            self.assertEqual(self.subject.requestAvatarId(login(name)), b"db:" + name.encode())

    def test_a_database_put_in_its_place_is_seen(self) -> None:
        """A restored backup counts from the next login on."""
        self.subject.requestAvatarId(login("joe"))
        other = self.mktemp()
        sqlite.create(other)
        os.replace(other, self.path)
        self.assertRaises(UnknownUser, self.subject.requestAvatarId, login("joe"))

    def test_writing_to_what_is_not_there_is_told(self) -> None:
        """UnknownUser for changes, ValueError for a name that is taken."""
        self.assertRaises(UnknownUser, self.subject.set_password, "ann", "x")
        self.assertRaises(UnknownUser, self.subject.set_enabled, "ann", False)
        self.assertRaises(UnknownUser, self.subject.remove, "ann")
        self.assertRaises(ValueError, self.subject.add, JOE, "x")

    def test_notes_when_an_account_was_made_and_changed(self) -> None:
        """created_at stays, changed_at moves."""
        self.clock.now += 50
        self.subject.set_password("joe", "x")
        with sqlite3.connect(self.path) as connection:
            row = connection.execute("SELECT created_at, changed_at FROM users").fetchone()
        connection.close()
        self.assertEqual(row, (1000, 1050))

    def test_a_missing_or_broken_database_is_no_wrong_password(self) -> None:
        """LookupUnavailable with the path; it works again once the file is back."""
        self.subject.requestAvatarId(login("joe"))
        self.subject.close()
        os.rename(self.path, self.path + ".away")
        for call in (
            lambda: self.subject.requestAvatarId(login("joe")),
            lambda: self.subject.add(JOE, "x"),
            lambda: self.subject.names(),
            lambda: self.subject.check(),
        ):
            self.assertIn(self.path, str(self.assertRaises(LookupUnavailable, call)))
        self.assertFalse(os.path.exists(self.path))
        with open(self.path, "wb") as file:
            file.write(b"no database" * 100)
        self.assertRaises(LookupUnavailable, self.subject.requestAvatarId, login("joe"))
        os.rename(self.path + ".away", self.path)
        self.assertEqual(self.subject.requestAvatarId(login("joe")), b"db:joe")

    def test_a_database_of_a_newer_tpops_is_not_touched(self) -> None:
        """LookupUnavailable that says so."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        self.assertIn("newer", str(self.assertRaises(LookupUnavailable, self.open().names)))

    def test_check_finds_damage(self) -> None:
        """A sound database has no complaints, a damaged one has."""
        self.assertEqual(self.subject.check(), [])
        for number in range(300):
            self.subject.add(Account(f"user{number}", "db"), "{PLAIN}" + "x" * 100)
        self.subject.close()
        with open(self.path, "r+b") as file:
            file.seek(3 * 4096)
            file.write(b"\xff" * 4096)
        try:
            self.assertIn("damaged", self.open().check()[0])
        except LookupUnavailable as error:
            self.assertIn("malformed", str(error))
