"""Stored passwords become better ones after a login, and nothing is lost by it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import Threads, Time, login, means
from tpops.cred import hashes, rehash, sqlite
from tpops.cred.rehash import Rehash
from tpops.cred.sqlite import SQLiteAccounts
from tpops.credentials import APOPCredentials
from tpops.errors import BadCredentials, LookupUnavailable
from tpops.interfaces import IRenewsHashes
from tpops.model import Account

WEAK = "{SSHA}" + hashes.hash_password(b"secret", "SSHA").partition("}")[2]


class RehashCase(SynchronousTestCase):
    """Accounts in SQLite."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        sqlite.create(self.path)
        self.threads = Threads()
        self.seconds = Time()
        self.source = SQLiteAccounts("db", means(self.threads, self.seconds), self.path)
        self.addCleanup(self.source.close)

    def rehash(self, scheme: str = "pbkdf2", plain: bool = False) -> None:
        """Turn it on."""
        self.source.right_password = Rehash(self.source, scheme, plain, self.threads, self.seconds).right_password

    def add(self, stored: str, name: str = "joe") -> None:
        self.source.add(Account(name, "db"), stored)

    def stored(self, name: str = "joe") -> str:
        return self.source.record(name).password_hash

    def log_in(self, name: str = "joe", password: str = "secret") -> None:
        """It works, whatever becomes of the hash."""
        answer = self.source.requestAvatarId(login(name, password))
        if isinstance(answer, Deferred):
            answer = self.successResultOf(answer)
        self.assertEqual(answer, f"db:{name}".encode())


class RenewTests(RehashCase):
    """When it happens, and when not."""

    def test_source_can(self) -> None:
        """SQLite is written."""
        verifyObject(IRenewsHashes, self.source)

    def test_a_weak_hash_becomes_a_better_one_and_still_works(self) -> None:
        """Once; the log has the account and the scheme, and no hash."""
        self.rehash()
        self.add(WEAK)
        with capturedLogs() as entries:
            self.log_in()
        made = self.stored()
        self.assertTrue(made.startswith("{PBKDF2}$1$"))
        self.log_in()
        self.assertEqual(self.stored(), made)
        (entry,) = (one for one in entries if one.get("event") == "rehash")
        self.assertEqual((entry["user"], entry["source"], entry["scheme"]), ("joe", "db", "PBKDF2"))
        self.assertNotIn(made, str(entry))

    def test_slow_hashes_too(self) -> None:
        """Such as SHA-512 crypt with few rounds, verified in a thread."""
        self.rehash("sha512-crypt")
        self.add("{SHA512-CRYPT}$6$saltstring$" + hashes.hash_password(b"x", "SHA").partition("}")[2])
        self.assertRaises(
            BadCredentials, lambda: self.failureResultOf(self.source.requestAvatarId(login("joe"))).raiseException()
        )
        self.source.set_password("joe", hashes.hash_password(b"secret", "MD5-CRYPT"))
        self.log_in()
        self.assertTrue(self.stored().startswith("{SHA512-CRYPT}$6$rounds=50000$"))

    def test_only_after_a_right_password(self) -> None:
        """A wrong one, a disabled account, and a digest change nothing."""
        self.rehash(plain=True)
        self.add(WEAK)
        self.assertRaises(BadCredentials, self.source.requestAvatarId, login("joe", "x"))
        self.assertEqual(self.stored(), WEAK)
        self.add("{PLAIN}tanstaaf", "mrose")
        digest = b"c4c9334bac560ecc979e58001b3e22fb"
        credentials = APOPCredentials(b"mrose", b"<1896.697170952@dbc.mtview.ca.us>", digest)
        self.assertEqual(self.source.requestAvatarId(credentials), b"db:mrose")
        self.assertEqual(self.stored("mrose"), "{PLAIN}tanstaaf")

    def test_what_serves_digests_and_scram_stays(self) -> None:
        """Plain secrets, CRAM-MD5 contexts, SCRAM keys; with rehash_plain they go, too."""
        kept = [hashes.hash_password(b"secret", name) for name in ("PLAIN", "CLEARTEXT", "CRAM-MD5")]
        weak_keys = hashes.hash_password(b"secret", "SCRAM-SHA-1")
        self.rehash("argon2id")
        for number, stored in enumerate((*kept, weak_keys)):
            self.add(stored, f"user{number}")
            self.log_in(f"user{number}")
            self.assertEqual(self.stored(f"user{number}"), stored)
        self.rehash("argon2id", plain=True)
        for number in range(4):
            self.log_in(f"user{number}")
            self.assertTrue(self.stored(f"user{number}").startswith("{ARGON2ID}"))

    def test_scram_keys_with_few_rounds_get_more(self) -> None:
        """They prove the same as before."""
        self.rehash("scram-sha-1")
        self.add("{SCRAM-SHA-1}4096,QSXCR+Q6sek8bf92,6dlGYMOdZcOPutkcNY8U2g7vK9Y=,D+CSWLOshSulAsxiupA+qs2/fTE=")
        self.log_in(password="pencil")
        self.assertTrue(self.stored().startswith("{SCRAM-SHA-1}100000,"))

    def test_broken_data_is_left_alone(self) -> None:
        """It is somebody else's error."""
        subject = Rehash(self.source, "argon2id", True, self.threads, self.seconds)
        for stored in ("{ROT13}x", "{SHA}x", ""):
            self.assertIs(subject.wanted(stored), False)

    def test_two_at_a_time_and_each_name_once(self) -> None:
        """The others have their turn at the next login."""
        self.rehash()
        self.threads.at_once = False
        for name in ("a", "b", "c"):
            self.add(WEAK, name)
        for name in ("a", "a", "b", "c"):
            self.log_in(name)
        self.assertEqual(len(self.threads.waiting), rehash.AT_ONCE)
        self.threads.run()
        self.assertEqual([self.stored(name)[:6] for name in ("a", "b", "c")], ["{PBKDF", "{PBKDF", "{SSHA}"])
        self.log_in("c")
        self.threads.run()
        self.assertTrue(self.stored("c").startswith("{PBKDF2}"))


class TroubleTests(RehashCase):
    """Others write, or nobody can."""

    def test_a_password_that_was_changed_meanwhile_stays(self) -> None:
        """Compare and set, in the database."""
        self.rehash()
        self.threads.at_once = False
        self.add(WEAK)
        self.log_in()
        self.source.set_password("joe", "{PLAIN}new")
        self.threads.run()
        self.assertEqual(self.stored(), "{PLAIN}new")
        self.assertIs(self.source.renew_hash("joe", WEAK, "{PLAIN}x"), False)
        self.assertIs(self.source.renew_hash("joe", "{PLAIN}new", "{PLAIN}x"), True)
        self.assertIs(self.source.renew_hash("nobody", "{PLAIN}x", "{PLAIN}y"), False)

    def test_a_failure_is_logged_and_the_login_is_none_the_worse(self) -> None:
        """And nothing is tried again for a while."""
        self.rehash()
        self.add(WEAK)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("CREATE TRIGGER t BEFORE UPDATE ON users BEGIN SELECT RAISE(FAIL, 'no room'); END")
        with capturedLogs() as entries:
            self.log_in()
            self.log_in()
        failed = [one for one in entries if one.get("event") == "rehash-failed"]
        self.assertEqual([(one["log_level"], one["user"]) for one in failed], [(LogLevel.error, "joe")])
        self.assertIn("no room", failed[0]["reason"])
        self.assertEqual(self.stored(), WEAK)
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute("DROP TRIGGER t")
        self.seconds.now += rehash.PAUSE_SECONDS
        self.log_in()
        self.assertTrue(self.stored().startswith("{PBKDF2}"))

    def test_a_database_that_has_gone(self) -> None:
        """LookupUnavailable with the path, from any thread; nothing is made in its place."""
        self.path += ".away"
        source = SQLiteAccounts("db", means(), self.path)
        error = self.assertRaises(LookupUnavailable, source.renew_hash, "joe", WEAK, "x")
        self.assertIn(self.path, str(error))


class ThreadTests(TestCase):
    """With real threads, as in the server."""

    async def test_is_written_by_another_thread(self) -> None:
        """The row that the reactor's connection remembers is seen to be out of date."""
        path = self.mktemp()
        sqlite.create(path)
        source = SQLiteAccounts("db", means(), path)
        self.addCleanup(source.close)
        source.add(Account("joe", "db"), WEAK)
        seconds = reactor.seconds  # type: ignore[attr-defined]
        source.right_password = Rehash(source, "pbkdf2", False, deferToThread, seconds).right_password
        self.assertEqual(source.requestAvatarId(login("joe")), b"db:joe")
        for _ in range(6000):
            if source.record("joe").password_hash != WEAK:
                break
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        self.assertTrue(source.record("joe").password_hash.startswith("{PBKDF2}"))
