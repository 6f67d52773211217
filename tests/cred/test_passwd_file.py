"""Accounts from a passwd-file."""

from __future__ import annotations

import os

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import Threads, Time, login, means
from tpops.cred import hashes, watched
from tpops.cred.passwd_file import PasswdFile, parse_line
from tpops.cred.watched import BadLine
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account

BCRYPT = "{BLF-CRYPT}$2y$05$HWAUO7yfx4Q/.BDgNM8UuOnB4G3Q9th0ysNIMfdaYPPoNX5N0gmQK"


class LineTests(SynchronousTestCase):
    """One line, as Dovecot's passwd-file has it."""

    def test_reads_all_fields(self) -> None:
        """user:password:uid:gid:gecos:home:shell:extra, the extra fields may have colons."""
        record = parse_line("joe@x:{PLAIN}pw:1000:100:Joe:/home/joe:/bin/sh:userdb_mail=maildir:/m/joe a=b", "f")
        assert record is not None
        self.assertEqual(record.account, Account("joe@x", "f", "/home/joe", "maildir:/m/joe", 1000, 100))
        self.assertEqual((record.password_hash, record.enabled), ("{PLAIN}pw", True))
        self.assertEqual(record.avatar_id, b"f:joe@x")
        self.assertNotIn("PLAIN", repr(record))

    def test_fields_at_the_end_may_be_missing(self) -> None:
        """A name and a hash are enough; empty fields are none."""
        for line in ("joe:{PLAIN}pw", "joe:{PLAIN}pw::::::", "joe:{PLAIN}pw:"):
            record = parse_line(line, "f")
            assert record is not None
            self.assertEqual(record.account, Account("joe", "f"))

    def test_users_and_groups_may_be_named(self) -> None:
        """As Dovecot, uid and gid may be names that the machine knows."""
        record = parse_line("joe:x:root:root", "f")
        assert record is not None
        self.assertEqual((record.account.uid, record.account.gid), (0, 0))

    def test_extra_fields_set_home_and_disable(self) -> None:
        """nologin closes the account, userdb_home goes before the home field."""
        record = parse_line("joe:x::::/a::nologin userdb_home=/b", "f")
        assert record is not None
        self.assertEqual((record.enabled, record.account.home), (False, "/b"))

    def test_skips_comments_and_blank_lines(self) -> None:
        """These are no accounts and no mistakes."""
        for line in ("", "   ", "# joe:x"):
            self.assertIsNone(parse_line(line, "f"))

    def test_tells_what_is_wrong(self) -> None:
        """A bad line has a reason, and never shows the hash."""
        for line in ("joe", ":{PLAIN}sEcReT", "a\tb:sEcReT", "joe:sEcReT:nobody-here", "joe:sEcReT::no-such-group"):
            self.assertNotIn("sEcReT", str(self.assertRaises(BadLine, parse_line, line, "f")))
        self.assertRaises(BadLine, parse_line, "joe:a\0b", "f")

    def test_stays_closed_where_addresses_would_decide(self) -> None:
        """A line with allow_nets, which is not looked at here, lets nobody in."""
        self.assertRaises(BadLine, parse_line, "joe:x::::::allow_nets=127.0.0.0/8", "f")


class PasswdFileTests(SynchronousTestCase):
    """The file as a checker and a source of accounts."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.seconds = Time()
        self.threads = Threads()
        self.subject = PasswdFile("file", means(self.threads, self.seconds), self.path)

    def write(self, *lines: str) -> None:
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
        os.replace(self.path + ".new", self.path)

    def test_provides_its_interfaces(self) -> None:
        """It is a twisted.cred checker and an accounts source."""
        verifyObject(ICredentialsChecker, self.subject)
        verifyObject(IAccounts, self.subject)

    def test_answers_at_once_where_the_password_can_be_verified_at_once(self) -> None:
        """No Deferred for a plain password, nor for a slow hash that is remembered."""
        self.write("joe:{PLAIN}secret", f"ann:{BCRYPT}")
        self.assertEqual(self.subject.requestAvatarId(login("joe")), b"file:joe")
        first = self.subject.requestAvatarId(login("ann", "tränka ☃"))
        assert isinstance(first, Deferred)
        self.assertEqual(self.successResultOf(first), b"file:ann")
        self.assertEqual(self.subject.requestAvatarId(login("ann", "tränka ☃")), b"file:ann")

    def test_tells_unknown_users_from_wrong_passwords(self) -> None:
        """The ordered checker must know which it was."""
        self.write("joe:{PLAIN}secret", f"ann:{BCRYPT}")
        self.assertRaises(UnknownUser, self.subject.requestAvatarId, login("bob"))
        error = self.assertRaises(BadCredentials, self.subject.requestAvatarId, login("joe", "wrong"))
        self.assertNotIsInstance(error, UnknownUser)
        later = self.subject.requestAvatarId(login("ann", "wrong"))
        assert isinstance(later, Deferred)
        self.failureResultOf(later, BadCredentials)

    def test_a_disabled_account_is_told_only_with_the_right_password(self) -> None:
        """Nobody learns from a wrong password that the account exists."""
        self.write("joe:{PLAIN}secret::::::nologin")
        self.assertRaises(AccountDisabled, self.subject.requestAvatarId, login("joe"))
        self.assertRaises(BadCredentials, self.subject.requestAvatarId, login("joe", "wrong"))
        self.failureResultOf(Deferred.fromCoroutine(self.subject.account("joe")), AccountDisabled)

    def test_gives_accounts(self) -> None:
        """IAccounts: the account, or UnknownUser."""
        self.write("joe:{PLAIN}secret:::::", "joe:{PLAIN}other:5::::")
        account = self.successResultOf(Deferred.fromCoroutine(self.subject.account("joe")))
        self.assertEqual(account, Account("joe", "file"))
        self.failureResultOf(Deferred.fromCoroutine(self.subject.account("ann")), UnknownUser)
        self.assertEqual([record.account.name for record in self.subject.records()], ["joe"])

    def test_locked_hashes_let_nobody_in(self) -> None:
        """Empty, "!" and "*" match no password."""
        self.write("a:", "b:!", "c:*", "d:!{PLAIN}secret")
        for name in "abcd":
            for password in ("", "!", "*", "secret"):
                self.assertRaises(BadCredentials, self.subject.requestAvatarId, login(name, password))

    def test_sees_a_change_after_a_second(self) -> None:
        """The file is looked at once a second at most."""
        self.write("joe:{PLAIN}old")
        self.subject.requestAvatarId(login("joe", "old"))
        self.write("joe:{PLAIN}new")
        self.seconds.now += 0.9
        self.subject.requestAvatarId(login("joe", "old"))
        self.seconds.now += 0.2
        self.assertRaises(BadCredentials, self.subject.requestAvatarId, login("joe", "old"))
        self.seconds.now += 2
        self.subject.requestAvatarId(login("joe", "new"))

    def test_reads_a_big_file_again_in_a_thread(self) -> None:
        """While a big file is read again, the old accounts hold; then the new ones do."""
        self.patch(watched, "BIG_OCTETS", 10)
        self.write("joe:{PLAIN}old")
        self.subject.requestAvatarId(login("joe", "old"))
        self.threads.at_once = False
        self.write("joe:{PLAIN}new")
        for _ in range(2):
            self.seconds.now += 2
            self.subject.requestAvatarId(login("joe", "old"))
        self.assertEqual(len(self.threads.waiting), 1)
        self.threads.run()
        self.subject.requestAvatarId(login("joe", "new"))

    def test_a_big_file_that_goes_while_it_is_read_is_no_wrong_password(self) -> None:
        """What could not be read again is logged, and the next login cannot be decided."""
        self.patch(watched, "BIG_OCTETS", 10)
        self.write("joe:{PLAIN}old")
        self.subject.requestAvatarId(login("joe", "old"))
        self.write("joe:{PLAIN}new")
        self.seconds.now += 2
        real = os.stat(self.path)
        os.remove(self.path)
        self.patch(watched.os, "stat", lambda path: real)
        with capturedLogs() as events:
            self.assertRaises(UnknownUser, self.subject.record, "joe")
        self.assertEqual([event["log_level"] for event in events], [LogLevel.error])

    def test_a_file_that_changes_while_it_is_read_is_no_wrong_password(self) -> None:
        """This one is another each time that it is read."""
        source = PasswdFile("file", means(), "/proc/sys/kernel/random/uuid")
        error = self.assertRaises(LookupUnavailable, source.requestAvatarId, login("joe"))
        self.assertIn("being written", str(error))

    def test_a_missing_or_unreadable_file_is_no_wrong_password(self) -> None:
        """LookupUnavailable with the path, until the file is there again."""
        for _ in range(2):
            error = self.assertRaises(LookupUnavailable, self.subject.requestAvatarId, login("joe"))
            self.assertIn(self.path, str(error))
        self.write("joe:{PLAIN}secret")
        self.subject.requestAvatarId(login("joe"))
        os.remove(self.path)
        self.seconds.now += 1
        self.assertRaises(LookupUnavailable, self.subject.requestAvatarId, login("joe"))
        os.mkdir(self.path)
        self.assertRaises(LookupUnavailable, self.subject.requestAvatarId, login("joe"))

    def test_bad_lines_are_logged_once_for_each_load_and_skipped(self) -> None:
        """Line number and reason, never the hash; the other accounts work."""
        with open(self.path, "wb") as file:
            file.write(b"joe:{PLAIN}secret\r\nsEcReT\nj\xf6rg:sEcReT\n")
        with capturedLogs() as events:
            for _ in range(3):
                self.subject.requestAvatarId(login("joe"))
                self.seconds.now += 2
        self.assertEqual(len(events), 2)
        self.assertNotIn("sEcReT", str(events))
        os.chmod(self.path, 0o640)
        complaints = self.subject.check()
        self.assertEqual([line.split(": ")[0] for line in complaints], [f"{self.path}:2", f"{self.path}:3"])

    def test_check_tells_of_secrets_that_everybody_may_read(self) -> None:
        """Hashes and files that are closed to others are right."""
        self.write("joe:{PLAIN}secret")
        for mode, problems in ((0o644, 1), (0o640, 0)):
            os.chmod(self.path, mode)
            self.assertEqual(len(self.subject.check()), problems)
        self.write("joe:{SHA}2PRZAyDhNDqRW2OUFwZQqPNdaSY=")
        os.chmod(self.path, 0o644)
        self.assertEqual(self.subject.check(), [])

    def test_an_unknown_scheme_is_no_wrong_password(self) -> None:
        """LookupUnavailable, for the operator."""
        self.write("joe:{ROT13}frperg")
        self.assertRaises(LookupUnavailable, self.subject.requestAvatarId, login("joe"))

    def test_a_hash_without_scheme_is_crypt(self) -> None:
        """As Dovecot's default for passwd-files."""
        self.write("joe:" + hashes.hash_password(b"secret", "MD5-CRYPT").removeprefix("{MD5-CRYPT}"))
        later = self.subject.requestAvatarId(login("joe"))
        assert isinstance(later, Deferred)
        self.assertEqual(self.successResultOf(later), b"file:joe")
