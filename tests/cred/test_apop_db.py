"""Accounts in a lookup table of Postfix, as a checker and a source."""

from __future__ import annotations

import fcntl
import os
import struct

import attrs
from pydantic import ValidationError
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.cred import table_samples as samples
from tests.cred.fakes import Threads, Time, login, means
from tpops.config.accounts.tables import ApopDB
from tpops.cred import watched
from tpops.cred.apop_db import ApopTable
from tpops.cred.hashes import hash_password
from tpops.errors import BadCredentials, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account

_PASSWD = "joe:x:1001:100::/home/joe:/bin/sh\nroot:x:0:0::/root:/bin/sh\n"


@implementer(IUsernameHashedPassword)
@attrs.frozen
class Digest:
    """A client that knows one secret, and does not say it."""

    username: bytes
    secret: bytes

    def checkPassword(self, password: bytes) -> bool:
        return password == self.secret


class TableCase(SynchronousTestCase):
    """A table in a file, and a source that has not read it yet."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.seconds = Time()
        self.threads = Threads()

    def make(self, kind: str = "texthash", **settings: object) -> ApopTable:
        """The source."""
        return ApopTable("apop", means(self.threads, self.seconds), f"{kind}:{self.path}", **settings)

    def write(self, octets: bytes | str, ending: str = "", mode: int = 0o600) -> None:
        """Replace the file, as postmap does for some kinds."""
        path = self.path + ending
        with open(path + "~", "wb") as file:
            file.write(octets.encode() if isinstance(octets, str) else octets)
        os.chmod(path + "~", mode)
        os.replace(path + "~", path)

    def refusal(self, source: ApopTable, name: str, password: str) -> str:
        """What the log says of a wrong password."""
        error = self.assertRaises(BadCredentials, source.requestAvatarId, login(name, password))
        self.assertNotIsInstance(error, UnknownUser)
        return str(error)


class SecretsTests(TableCase):
    """What a value means."""

    def test_provides_its_interfaces(self) -> None:
        """It is a twisted.cred checker and an accounts source."""
        verifyObject(ICredentialsChecker, self.make())
        verifyObject(IAccounts, self.make())

    def test_password_and_digest(self) -> None:
        """One secret for both, with its spaces; unknown names are told from wrong passwords."""
        self.write("joe  two words\n")
        source = self.make()
        self.assertEqual(source.requestAvatarId(login("joe", "two words")), b"apop:joe")
        self.assertEqual(source.requestAvatarId(Digest(b"joe", b"two words")), b"apop:joe")
        self.assertRaises(BadCredentials, source.requestAvatarId, Digest(b"joe", b"x"))
        self.assertEqual(self.refusal(source, "joe", "x"), "wrong password")
        self.assertRaises(UnknownUser, source.requestAvatarId, login("ann"))
        account = self.successResultOf(Deferred.fromCoroutine(source.account("joe")))
        self.assertEqual(account, Account("joe", "apop"))

    def test_the_nul_behind_key_and_value_is_none_of_them(self) -> None:
        """postmap writes it for hash and btree; GNU dbm's users did not."""
        for kind, ending, octets in (
            ("hash", ".db", samples.HASH),
            ("btree", ".db", samples.BTREE),
            ("lmdb", ".lmdb", samples.LMDB),
            ("dbm", ".pag", samples.GDBM),
        ):
            self.write(octets, ending)
            source = self.make(kind)
            self.assertEqual(source.requestAvatarId(login("user7", "secret 7")), b"apop:user7")
            self.assertEqual(source.requestAvatarId(Digest(b"user39", b"secret 39")), b"apop:user39")

    def test_schemes(self) -> None:
        """A known scheme in braces is one, {PLAIN} protects what looks like one."""
        hashed = hash_password(b"secret", "SSHA256")
        self.write(f"a {hashed}\nb {{PLAIN}}!{{x}}\nc {{plain}}secret\nd {{unclosed\n")
        source = self.make()
        for name, password in (("a", "secret"), ("b", "!{x}"), ("c", "secret"), ("d", "{unclosed")):
            self.assertEqual(source.requestAvatarId(login(name, password)), f"apop:{name}".encode())
        self.assertRaises(BadCredentials, source.requestAvatarId, Digest(b"a", b"secret"))
        proven = dict(zip("abcd", source.mechanisms(), strict=True))
        self.assertNotIn("APOP", proven["a"])
        for name in "bcd":
            self.assertLessEqual({"APOP", "CRAM-MD5", "SCRAM-SHA-256"}, proven[name])

    def test_secrets_of_any_octets(self) -> None:
        """What is not UTF-8 is a secret as well."""
        self.write(b"joe \xe9\xff\n")
        self.assertEqual(self.make().requestAvatarId(Digest(b"joe", b"\xe9\xff")), b"apop:joe")

    def test_locked_and_empty_let_nobody_in(self) -> None:
        """And the log says so."""
        self.write("a !secret\nb *\n")
        source = self.make()
        for password in ("", "!secret", "secret", "*"):
            for name in "ab":
                self.assertEqual(self.refusal(source, name, password), "password is locked")
        self.assertRaises(BadCredentials, source.requestAvatarId, Digest(b"a", b"secret"))
        self.assertRaises(BadCredentials, source.requestAvatarId, Digest(b"b", b""))

    def test_an_empty_value_lets_nobody_in(self) -> None:
        """Which a binary table may have, here of one entry."""
        page = struct.pack("<3H", 2, 1021, 1021).ljust(1021, b"\0") + b"joe"
        self.write(page, ".pag")
        source = self.make("sdbm")
        self.assertEqual(self.refusal(source, "joe", ""), "password is empty")
        self.assertRaises(BadCredentials, source.requestAvatarId, Digest(b"joe", b""))

    def test_bad_entries_are_told_without_their_secrets(self) -> None:
        """The others count; names of other programs' entries are nobody's and no mistake."""
        self.write(
            b"joe one\nann {ROT13}sEcReT\nj\xf6rg sEcReT\nali: sEcReT\n\x01 sEcReT\nYP_LAST_MODIFIED 1\n@ @\nx\n"
        )
        source = self.make()
        complaints = source.check()
        self.assertEqual(len(complaints), 5)
        self.assertNotIn("sEcReT", str(complaints))
        self.assertIn(f"{self.path}:8: there is no value after the key", complaints)
        self.assertTrue(complaints[0].startswith(f"{self.path}: entry 'ann': unknown password scheme {{ROT13}}"))
        self.assertEqual([record.account.name for record in source.records()], ["joe", "yp_last_modified"])

    def test_many_bad_entries_are_counted(self) -> None:
        """Another table than the one that was meant does not fill the log."""
        self.write("".join(f"user{number}:  somebody\n" for number in range(50)))
        complaints = self.make().check()
        self.assertEqual(len(complaints), 21)
        self.assertEqual(complaints[-1], f"{self.path}: 30 more entries that cannot be used")


class MachineTests(TableCase):
    """Where the accounts are those of the machine."""

    def test_home_and_rights_come_from_passwd(self) -> None:
        """Who is not there, or below the minimum, does not exist."""
        passwd = self.mktemp()
        with open(passwd, "w") as file:
            file.write(_PASSWD)
        self.write("joe one\nroot two\nann three\n")
        source = self.make(system_users=True, passwd_path=passwd, domains=("example.org",), minimum_uid=1000)
        self.assertEqual(source.requestAvatarId(login("joe", "one")), b"apop:joe")
        self.assertEqual(source.requestAvatarId(login("joe@example.org", "one")), b"apop:joe")
        account = self.successResultOf(Deferred.fromCoroutine(source.account("joe")))
        self.assertEqual(account, Account("joe", "apop", home="/home/joe", uid=1001, gid=100))
        for name in ("root", "ann", "joe@example.com"):
            self.assertRaises(UnknownUser, source.requestAvatarId, login(name, "two"))
        self.assertEqual(len(source.check()), 2)
        self.assertEqual(source.paths, (self.path, passwd))
        with open(passwd, "a") as file:
            # Whoever may read a file can lock it: this one must not be waited for.
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("ann:x:1002:100::/home/ann:/bin/sh\n")
            file.flush()
            self.seconds.now += 2
            self.assertEqual(source.requestAvatarId(login("ann", "three")), b"apop:ann")


class FileTests(TableCase):
    """The file behind it: replaced, written, damaged, open to everybody."""

    def test_a_change_counts_after_a_second(self) -> None:
        """Replaced or written in place."""
        self.write("joe one\n")
        source = self.make()
        source.requestAvatarId(login("joe", "one"))
        self.write("joe two\n")
        self.seconds.now += 1.1
        source.requestAvatarId(login("joe", "two"))
        with open(self.path, "wb") as file:
            file.write(b"joe three\n")
        self.seconds.now += 1.1
        source.requestAvatarId(login("joe", "three"))

    def test_a_missing_or_damaged_table_is_no_wrong_password(self) -> None:
        """LookupUnavailable with the path, until it is whole again; nobody can prove anything meanwhile."""
        source = self.make("hash")
        self.assertIn(f"{self.path}.db", str(self.assertRaises(LookupUnavailable, source.check)))
        self.write(samples.HASH, ".db")
        source.requestAvatarId(login("user7", "secret 7"))
        for octets in (samples.HASH[:1500], b""):
            self.write(octets, ".db")
            self.seconds.now += 1.1
            for _ in range(2):
                error = self.assertRaises(LookupUnavailable, source.requestAvatarId, login("user7", "secret 7"))
                self.assertIn("damaged", str(error))
            self.assertEqual(list(source.mechanisms()), [frozenset()])
        self.write(samples.HASH, ".db")
        self.seconds.now += 1.1
        source.requestAvatarId(login("user7", "secret 7"))

    def test_while_it_is_written_the_old_table_holds(self) -> None:
        """postmap locks it; without an old one nothing can be said."""
        self.write("joe one\n")
        source = self.make()
        source.requestAvatarId(login("joe", "one"))
        with open(self.path, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(b"joe two\n")
            file.flush()
            self.seconds.now += 1.1
            source.requestAvatarId(login("joe", "one"))
            error = self.assertRaises(LookupUnavailable, self.make().requestAvatarId, login("joe", "one"))
            self.assertIn("locked", str(error))
        self.seconds.now += 1.1
        source.requestAvatarId(login("joe", "two"))

    def test_a_big_table_that_is_written_is_looked_at_again(self) -> None:
        """Also where it is read in a thread."""
        self.patch(watched, "BIG_OCTETS", 4)
        self.write("joe one\n")
        source = self.make()
        source.requestAvatarId(login("joe", "one"))
        self.write("joe two\n")
        with open(self.path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.seconds.now += 1.1
            source.requestAvatarId(login("joe", "one"))
        self.assertEqual(self.threads.runs, 1)
        self.seconds.now += 1.1
        source.requestAvatarId(login("joe", "two"))

    def test_secrets_that_everybody_may_read_are_refused(self) -> None:
        """With what to do; and chmod is enough."""
        self.write("joe one\n", mode=0o644)
        source = self.make()
        for call in (source.check, lambda: source.requestAvatarId(login("joe", "one"))):
            self.assertIn(f"chmod 0640 {self.path}", str(self.assertRaises(LookupUnavailable, call)))
        os.chmod(self.path, 0o640)
        self.seconds.now += 1.1
        source.requestAvatarId(login("joe", "one"))
        self.assertEqual(source.check(), [])

    def test_hashes_may_be_read_by_everybody(self) -> None:
        """As in other files."""
        self.write(f"joe {hash_password(b'one', 'SSHA256')}\n", mode=0o644)
        self.assertEqual(self.make().requestAvatarId(login("joe", "one")), b"apop:joe")

    def test_check_looks_at_the_text_beside_the_table(self) -> None:
        """It has the same secrets, and postmap gives the table its mode."""
        self.write(samples.HASH, ".db")
        self.write("joe one\n", mode=0o644)
        self.assertEqual(len(self.make("hash").check()), 1)
        os.chmod(self.path, 0o640)
        self.assertEqual(self.make("hash").check(), [])


class ConfigurationTests(SynchronousTestCase):
    """The keys."""

    def test_table(self) -> None:
        """Kind, colon, path."""
        for table in ("hash", "hash:", "/etc/apop", "mysql:/etc/apop", ""):
            self.assertRaises(ValidationError, ApopDB, driver="apop_db", table=table)
        model = ApopDB.model_validate({"driver": "apop_db", "table": "hash:x"}, context={"directory": "/etc"})
        self.assertEqual(model.table, "hash:/etc/x")

    def test_keys_of_the_machines_accounts_need_them(self) -> None:
        """A key that does nothing is a mistake."""
        for key, value in (("passwd_path", "/etc/other"), ("domains", ["example.org"]), ("minimum_uid", 500)):
            settings = {"driver": "apop_db", "table": "hash:/x", key: value}
            self.assertRaises(ValidationError, ApopDB.model_validate, settings)
            ApopDB.model_validate({**settings, "system_users": True})
