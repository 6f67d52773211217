"""From a row to an account."""

from __future__ import annotations

import os
import pwd
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.names import LoginNames
from tpops.cred.source import Record
from tpops.cred.sql_rows import Rows, meanings, stored_password


class ColumnTests(SynchronousTestCase):
    """What the columns of a result mean."""

    def test_names_and_their_aliases(self) -> None:
        """Large and small letters are the same."""
        self.assertEqual(
            meanings(("Login", "passwd", "MAILDIR", "active")), ("name", "password", "maildrop", "enabled")
        )

    def test_positions(self) -> None:
        """Where the configuration says what they are, their names do not count; "-" is not looked at."""
        self.assertEqual(meanings(("a", "b", "a"), ("-", "password", "-")), ("-", "password", "-"))

    def test_what_cannot_be_used(self) -> None:
        """Told by name."""
        for columns, positions, said in (
            (("name",), (), "no column password, but name"),
            (("password", "shoe_size"), (), "the column shoe_size, which means nothing"),
            (("password", "quota", "quota_octets"), (), "quota_octets twice"),
            (("password", "q\nr"), (), "the column q?r"),
            (("password", "passwd"), (), "password twice"),
            (("a", "b"), ("password",), "2 columns, and `columns` names 1"),
            ((), (), "no column password"),
        ):
            self.assertIn(said, str(self.assertRaises(ValueError, meanings, columns, positions)))


class PasswordTests(SynchronousTestCase):
    """What stands before a stored password."""

    def test_schemes(self) -> None:
        """Each mode; a scheme in the database itself counts before that of the configuration."""
        sha = "qlqvRRQLzhnLcRg9Ku+X4zBHvTs="
        for scheme, text, stored in (
            ("plain", "secret", "{PLAIN}secret"),
            ("plain", "!x", "{PLAIN}!x"),
            ("plain", "{odd}x", "{PLAIN}{odd}x"),
            ("plain", "{ssha}x", "{ssha}x"),
            ("auto", "$1$a$b", "$1$a$b"),
            ("auto", "{odd}x", "{odd}x"),
            ("crypt", "ab01FAX.bQRSU", "{CRYPT}ab01FAX.bQRSU"),
            ("sha", sha, "{SHA}" + sha),
            ("sha", "{SHA}" + sha, "{SHA}" + sha),
            ("crypt-or-sha", sha, "{SHA}" + sha),
            ("crypt-or-sha", "a" * 40, "{SHA}" + "a" * 40),
            ("crypt-or-sha", "ab01FAX.bQRSU", "{CRYPT}ab01FAX.bQRSU"),
            ("mysql", "*" + "A" * 40, "{MYSQL}*" + "A" * 40),
            ("plain", "", ""),
            ("crypt", "", ""),
        ):
            self.assertEqual(stored_password(text, scheme), stored)


class RecordTests(SynchronousTestCase):
    """The record of a row."""

    def record(self, asked: str = "joe", exact: bool = False, base: str = "", **columns: Any) -> Record | None:
        """Of a row with these columns; the password is "secret"."""
        columns = {"password": "{PLAIN}secret", **columns}
        return Rows("db", LoginNames().split, exact, base=base).record(asked, tuple(columns), tuple(columns.values()))

    def account(self, **columns: Any) -> tuple[object, ...]:
        """The parts of its account."""
        record = self.record(**columns)
        assert record is not None
        found = record.account
        return found.name, found.maildrop, found.home, found.uid, found.gid

    def test_only_a_password(self) -> None:
        """The name is the one that was asked for."""
        self.assertEqual(self.account(), ("joe", None, None, None, None))

    def test_everything(self) -> None:
        """Numbers may be text, text may be octets, NULL is nothing."""
        self.assertEqual(
            self.account(name=b"j\xc3\xb6", maildrop="/m/joe/", home="/home/joe", uid="7", gid=8),
            ("jö", "maildir:/m/joe", "/home/joe", 7, 8),
        )
        self.assertEqual(self.account(name=None, maildrop=None, home="", uid=None), ("joe", None, None, None, None))

    def test_maildrops(self) -> None:
        """A path, with the type of tpop3d or without, relative or not, or a whole location."""
        for path, kind, made in (
            ("/m", "maildir", "maildir:/m"),
            ("/m", "bsd", "mbox:/m"),
            ("/m", "MBOX", "mbox:/m"),
            ("maildir:/m", "", "maildir:/m"),
            ("~/Maildir", None, "maildir:~/Maildir"),
            ("$(home)/x", "", "maildir:$(home)/x"),
            ("example.org/joe/", "", "maildir:/base/example.org/joe"),
            ("", "bsd", None),
        ):
            self.assertEqual(self.account(maildrop=path, type=kind, base="/base/")[1], made)

    def test_unix_user(self) -> None:
        """By name or number; columns of their own count before him."""
        me = pwd.getpwuid(os.geteuid())
        for given in (me.pw_name, me.pw_uid, str(me.pw_uid)):
            self.assertEqual(self.account(unix_user=given), ("joe", None, me.pw_dir, me.pw_uid, me.pw_gid))
        self.assertEqual(self.account(unix_user=me.pw_name, uid=7, gid=8, home="/h"), ("joe", None, "/h", 7, 8))

    def test_enabled(self) -> None:
        """Numbers, bits, words; NULL is no."""
        for value, expected in ((1, True), (b"\1", True), ("Y", True), (0, False), (b"\0", False), (None, False)):
            record = self.record(enabled=value)
            assert record is not None
            self.assertEqual(record.enabled, expected, value)

    def test_locked(self) -> None:
        """NULL lets nobody in, and the log says so."""
        for value in (None, ""):
            record = self.record(password=value)
            assert record is not None
            self.assertEqual((record.password_hash, record.why_wrong), ("", "password is NULL or empty"))

    def test_somebody_else(self) -> None:
        """A preset's row must be of the one who was asked for, whatever the database takes for the same."""
        self.assertIsNone(self.record("jörg", exact=True, name="jorg"))
        self.assertIsNone(self.record("joe ", exact=True, name="joe"))
        for asked in ("joe@example.org", "joe%example.org"):
            record = self.record(asked, exact=True, name="Joe@example.org")
            assert record is not None
            self.assertEqual(record.account.name, "Joe@example.org")

    def test_what_cannot_be_used(self) -> None:
        """Told without the value of a password."""
        for columns, said in (
            ({"uid": "mail"}, "uid that is no number"),
            ({"uid": "-1"}, "uid that is no number"),
            ({"quota": "5M"}, "quota_octets that is no number"),
            ({"enabled": "perhaps"}, "neither yes nor no"),
            ({"type": "mh", "maildrop": "/m"}, "type 'mh'"),
            ({"maildrop": "a/b"}, "set `maildrop_base`"),
            ({"unix_user": "no-such-user-here"}, "whom this machine does not know"),
            ({"name": "a/b"}, "dangerous in a path"),
            ({"name": "..@example.org"}, "dangerous in a path"),
            ({"name": "a\nb"}, "dangerous in a path"),
            ({"password": b"\xff"}, "password that is not UTF-8"),
            ({"home": 1.5}, "home that is no text"),
        ):
            self.assertIn(said, str(self.assertRaises(ValueError, self.record, **columns)))
