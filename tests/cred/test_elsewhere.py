"""What sources know of their accounts at other servers, and what logins there must not use."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Answers, means, verifier
from tests.cred.test_app_passwords import GENERATED, AppPasswordCase
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker
from tpops.cred.passwd_file import PasswdFile, parse_line
from tpops.cred.source import has_secret
from tpops.cred.sql_rows import Rows
from tpops.credentials import NamePassword
from tpops.model import Account, Caller, Elsewhere, Peer


class ElsewhereTests(SynchronousTestCase):
    """IKnowsElsewhere."""

    def test_extra_fields_of_a_passwd_file(self) -> None:
        """Promise: proxy_user and proxy_password; empty ones are none, and they never show."""
        for extra, expected in (
            ("proxy_user=ann proxy_password=a:b=c", Elsewhere("ann", b"a:b=c")),
            ("proxy_user=ann proxy_password=", Elsewhere("ann", None)),
            ("proxy_password=x", Elsewhere(None, b"x")),
            ("proxy_user=", None),
            ("", None),
        ):
            record = parse_line(f"joe:{{SSHA}}pw::::::{extra}", "f")
            assert record is not None
            self.assertEqual(record.elsewhere, expected)
            self.assertNotIn("a:b=c", repr(record))
            self.assertEqual(has_secret(record), expected is not None and expected.password is not None)

    def test_columns_of_a_query(self) -> None:
        """Promise: likewise, and NULL is none; "proxy:" is a place for mail."""
        rows = Rows("db", LoginNames().split, exact=True)
        columns = ("password", "maildrop", "proxy_user", "proxy_password")
        for row, expected in (
            (("x", "proxy:pop.example", "ann", "word"), Elsewhere("ann", b"word")),
            (("x", "proxy:pop.example", None, None), None),
        ):
            record = rows.record("joe", columns, row)
            assert record is not None
            self.assertEqual((record.elsewhere, record.account.maildrop), (expected, "proxy:pop.example"))

    def test_the_source_of_the_account_is_asked(self) -> None:
        """Promise: what another source knows of the name is not taken; who knows nothing says so."""
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write("joe:{SSHA}pw::::::proxy_password=word\n")
        known = PasswdFile("known", means(), path)
        checker = OrderedChecker([Answers("other", None), known], LoginNames(), verifier())
        for driver, expected in (("known", Elsewhere(None, b"word")), ("other", None), ("gone", None)):
            asked = Deferred.fromCoroutine(checker.elsewhere(Account("joe", driver)))
            self.assertEqual(self.successResultOf(asked), expected)


class ApplicationPasswordTests(AppPasswordCase):
    """Passwords that are good here only."""

    def test_application_password_is_not_taken_elsewhere(self) -> None:
        """Promise: it is forgotten once it has let the client in; the account's own is kept for the maildrop."""
        self.add()
        checker = self.checker()
        for password, kept in ((GENERATED, None), ("secret", b"secret")):
            caller = Caller.of(Peer("192.0.2.1", 7), password.encode())
            self.lets_in(checker, NamePassword(b"joe", password.encode(), caller))
            self.assertEqual(caller.password, kept)
