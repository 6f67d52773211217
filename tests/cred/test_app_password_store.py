"""The database of application passwords."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred import app_password_store
from tpops.cred.app_password_store import MOST, MOST_CHOSEN, AppPassword, AppPasswordStore, create
from tpops.errors import LookupUnavailable

PHONE = AppPassword("joe", "phone", "{PLAIN}x", False, None, 1000)

#: Begins to write, says so, and does not come to its end.
_STUCK = """
import sys, time
from tpops.cred.app_password_store import AppPasswordStore
with AppPasswordStore(sys.argv[1]).writing() as writer:
    writer.revoke_all("joe")
    print("writing", flush=True)
    time.sleep(600)
"""


class StoreTests(SynchronousTestCase):
    """What is written by one is seen by the other."""

    def setUp(self) -> None:
        self.path = os.path.abspath(self.mktemp())
        create(self.path)
        self.subject = self.open()
        self.add(PHONE)

    def open(self) -> AppPasswordStore:
        """What another process would have."""
        store = AppPasswordStore(self.path)
        self.addCleanup(store.close)
        return store

    def add(self, *new: AppPassword) -> None:
        with self.open().writing() as writer:
            for one in new:
                writer.add(one)

    def test_the_file_is_for_its_owner_only(self) -> None:
        """Mode 0600, and never made over something that is there."""
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertRaises(FileExistsError, create, self.path)

    def test_gives_back_what_was_added(self) -> None:
        """By account, and all."""
        scanner = AppPassword("joe", "scanner", "{PLAIN}y", True, b"sealed", 1001, 1002)
        other = attrs.evolve(PHONE, account="ann")
        self.add(scanner, other)
        self.assertEqual(self.subject.held("joe"), (PHONE, scanner))
        self.assertEqual(self.subject.held("nobody"), ())
        self.assertEqual(self.subject.all(), [other, PHONE, scanner])

    def test_what_others_write_counts_at_once(self) -> None:
        """Rows in memory, and names that had none, are read again when somebody wrote."""
        self.assertEqual([len(self.subject.held(name)) for name in ("joe", "ann")], [1, 0])
        self.add(attrs.evolve(PHONE, account="ann"))
        self.assertEqual(len(self.subject.held("ann")), 1)
        with self.open().writing() as writer:
            self.assertEqual([writer.revoke("joe", "phone"), writer.revoke("joe", "phone")], [True, False])
        self.assertEqual(self.subject.held("joe"), ())

    def test_rows_are_read_once(self) -> None:
        """As long as nobody writes, from memory; more accounts than it holds are still found."""
        self.patch(app_password_store, "_CACHE_ACCOUNTS", 2)
        self.assertIs(self.subject.held("joe"), self.subject.held("joe"))
        for name in "abcabc":
            self.assertEqual(self.subject.held(name), ())
        self.assertEqual(self.subject.held("joe"), (PHONE,))

    def test_names_are_unique_in_an_account(self) -> None:
        """The second one is refused, and tells which."""
        self.assertIn(
            "joe has an application password 'phone' already", str(self.assertRaises(ValueError, self.add, PHONE))
        )

    def test_their_number_is_bounded(self) -> None:
        """Together, and of those that cost much to verify."""
        self.add(*(attrs.evolve(PHONE, name=f"chosen {number}", chosen=True) for number in range(MOST_CHOSEN)))
        refused = self.assertRaises(ValueError, self.add, attrs.evolve(PHONE, name="one more", chosen=True))
        self.assertIn(f"{MOST_CHOSEN} chosen application passwords", str(refused))
        self.add(*(attrs.evolve(PHONE, name=f"{number}") for number in range(MOST - MOST_CHOSEN - 1)))
        refused = self.assertRaises(ValueError, self.add, attrs.evolve(PHONE, name="one more"))
        self.assertIn(f"{MOST} are the most", str(refused))
        self.add(attrs.evolve(PHONE, account="ann"))

    def test_an_error_in_a_transaction_undoes_all_of_it(self) -> None:
        """Nothing is half done."""
        self.assertRaises(ValueError, self.add, attrs.evolve(PHONE, name="first"), PHONE)
        self.assertEqual(self.subject.held("joe"), (PHONE,))

    def test_notes_the_last_use(self) -> None:
        """It never goes back; of one that has gone nothing comes back."""
        for at in (2000, 1999):
            with self.open().writing() as writer:
                writer.note_used({("joe", "phone"): at, ("joe", "gone"): at})
        self.assertEqual(self.subject.held("joe"), (attrs.evolve(PHONE, last_used_at=2000),))

    def test_revokes_all_of_an_account(self) -> None:
        """And of no other."""
        self.add(attrs.evolve(PHONE, name="scanner"), attrs.evolve(PHONE, account="ann"))
        with self.open().writing() as writer:
            self.assertEqual([writer.revoke_all("joe"), writer.revoke_all("joe")], [2, 0])
        self.assertEqual([one.account for one in self.subject.all()], ["ann"])

    def test_a_missing_or_broken_database_is_told(self) -> None:
        """LookupUnavailable with the path; nothing is made, and it works again once the file is back."""
        self.subject.held("joe")
        os.rename(self.path, self.path + ".away")
        for call in (lambda: self.subject.held("joe"), self.subject.all, self.subject.check, self.add):
            problem = str(self.assertRaises(LookupUnavailable, call))
            self.assertIn(f"there is no database {self.path}; 'tpops apppasswd init' makes it", problem)
        self.assertFalse(os.path.exists(self.path))
        with open(self.path, "wb") as file:
            file.write(b"no database" * 100)
        for call in (lambda: self.subject.held("joe"), self.add):
            self.assertIn(f"cannot use {self.path}", str(self.assertRaises(LookupUnavailable, call)))
        os.rename(self.path + ".away", self.path)
        self.assertEqual(self.subject.held("joe"), (PHONE,))

    def test_check_finds_damage(self) -> None:
        """A sound database has no complaints, a damaged one has."""
        self.assertEqual(self.subject.check(), [])
        self.add(*(attrs.evolve(PHONE, account=f"user{number}", password_hash="x" * 100) for number in range(300)))
        self.subject.close()
        with open(self.path, "r+b") as file:
            file.seek(3 * 4096)
            file.write(b"\xff" * 4096)
        try:
            self.assertIn("damaged", self.open().check()[0])
        except LookupUnavailable as error:
            self.assertIn("malformed", str(error))

    def test_a_database_of_a_newer_tpops_is_not_touched(self) -> None:
        """LookupUnavailable that says so."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        self.assertIn("newer", str(self.assertRaises(LookupUnavailable, self.open().all)))

    def test_a_writer_that_is_killed_leaves_nothing_locked_and_nothing_done(self) -> None:
        """kill -9 in the middle of a transaction; meanwhile others read what was there before."""
        process = subprocess.Popen(
            [sys.executable, "-c", _STUCK, self.path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        with process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"writing\n")
            self.assertEqual(self.subject.held("joe"), (PHONE,))
            process.send_signal(signal.SIGKILL)
        self.assertEqual(process.returncode, -signal.SIGKILL)
        self.add(attrs.evolve(PHONE, name="scanner"))
        self.assertEqual([one.name for one in self.subject.held("joe")], ["phone", "scanner"])

    def test_secrets_and_hashes_are_not_shown(self) -> None:
        """Not by repr."""
        shown = repr(attrs.evolve(PHONE, password_hash="{X}hidden", secret=b"hidden"))
        self.assertNotIn("hidden", shown)
