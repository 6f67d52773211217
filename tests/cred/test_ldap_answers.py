"""What a directory's answers mean for a login."""

from __future__ import annotations

import os
import pwd

from sansldap import BindResponse, LDAPControl, LDAPResult, LDAPResultCode, PartialAttribute, SearchResultEntry
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cred.fakes import Threads
from tpops.cred.ldap_answers import Layout, judge
from tpops.cred.ldap_connection import PASSWORD_POLICY, ServerFailed
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable
from tpops.model import Account

_POLICY_ERROR = b"\x30\x03\x81\x01"


def answer(code: LDAPResultCode, text: str = "", policy: bytes | None = None) -> BindResponse:
    """A server's answer to a bind."""
    controls = [LDAPControl("1.2.3", False, b"x")]
    if policy is not None:
        controls.append(LDAPControl(PASSWORD_POLICY, False, policy))
    return BindResponse(1, controls, LDAPResult(code, "", text), None)


class JudgeTests(SynchronousTestCase):
    """judge()."""

    def test_yes(self) -> None:
        """RFC 4511 section 4.2.2: success; warnings of the password policy do not matter."""
        for policy in (None, b"", b"\x30\x00", b"\x30\x05\xa0\x03\x80\x01\x07"):
            self.assertIsNone(judge(answer(LDAPResultCode.SUCCESS, policy=policy)))

    def test_no(self) -> None:
        """Promise: each way to say no, as the client and as the log see it."""
        ad = "80090308: LdapErr: DSID-0C09, comment: AcceptSecurityContext error, data {}, v4563"
        invalid = LDAPResultCode.INVALID_CREDENTIALS
        for given, error, why in (
            (answer(invalid), BadCredentials, "wrong password"),
            (answer(invalid, ad.format("52e")), BadCredentials, "wrong password"),
            (answer(invalid, policy=_POLICY_ERROR + b"\x00"), AccountDisabled, "has expired"),
            (answer(invalid, policy=_POLICY_ERROR + b"\x01"), BadCredentials, "is locked"),
            (answer(invalid, ad.format("775")), BadCredentials, "is locked"),
            (answer(invalid, ad.format("532")), AccountDisabled, "password has expired"),
            (answer(invalid, ad.format("533")), AccountDisabled, "disabled in the directory"),
            (answer(invalid, ad.format("701")), AccountDisabled, "account has expired"),
            (answer(invalid, ad.format("773")), AccountDisabled, "must be changed"),
            (answer(LDAPResultCode.SUCCESS, policy=_POLICY_ERROR + b"\x02"), AccountDisabled, "must be changed"),
            (answer(LDAPResultCode.UNWILLING_TO_PERFORM, "Account inactivated"), AccountDisabled, "inactivated"),
            (answer(LDAPResultCode.CONSTRAINT_VIOLATION, "Exceed retry limit"), BadCredentials, "retry limit"),
            (answer(LDAPResultCode.INAPPROPRIATE_AUTHENTICATION), BadCredentials, "does not let him in"),
            (answer(LDAPResultCode.NO_SUCH_OBJECT), BadCredentials, "does not let him in"),
            (answer(LDAPResultCode.BUSY), ServerFailed, "busy"),
            (answer(LDAPResultCode.UNAVAILABLE), ServerFailed, "unavailable"),
            (answer(LDAPResultCode.OTHER), ServerFailed, "other"),
            (answer(LDAPResultCode.REFERRAL), ServerFailed, "not followed"),
            (answer(LDAPResultCode.CONFIDENTIALITY_REQUIRED), ServerFailed, "wants TLS"),
            (answer(LDAPResultCode(4711)), ServerFailed, "unknown 0x00001267"),
            (answer(LDAPResultCode.SUCCESS, policy=b"\x30\x03\x81\x05"), ServerFailed, "cannot be read"),
            (answer(LDAPResultCode.SUCCESS, policy=b"x"), ServerFailed, "cannot be read"),
        ):
            with self.assertRaisesRegex(error, why) as raised:
                judge(given)
            self.assertIs(type(raised.exception), error, str(given))


def entry(**attributes: str | bytes | list[str]) -> SearchResultEntry:
    """An entry with these attributes."""

    def octets(value: str | bytes | list[str]) -> list[bytes]:
        if isinstance(value, list):
            return [one.encode() for one in value]
        return [value.encode() if isinstance(value, str) else value]

    return SearchResultEntry(
        1, [], "uid=joe,dc=example", [PartialAttribute(key, octets(value)) for key, value in attributes.items()]
    )


class LayoutTests(SynchronousTestCase):
    """Layout."""

    def account(self, layout: Layout, found: SearchResultEntry) -> Account:
        """What is made of an entry."""
        return self.successResultOf(Deferred.fromCoroutine(layout.account("joe", "ldap", found, Threads())))

    def test_nothing_asked_for(self) -> None:
        """Promise: without attributes an account is its name."""
        self.assertEqual(Layout().attributes(), ())
        self.assertEqual(self.account(Layout(), entry(uid="joe")), Account("joe", "ldap"))

    def test_everything(self) -> None:
        """Promise: attributes win over what holds for all; their case does not matter; users by name or number."""
        layout = Layout("maildir:/all", "Mailbox", "mailboxType", "home", "owner", "team", uid=1, gid=2)
        self.assertEqual(layout.attributes(), ("Mailbox", "home", "mailboxType", "owner", "team"))
        own = pwd.getpwuid(os.getuid())
        found = entry(mailbox="/m/joe", MAILBOXTYPE="bsd", home="/h/joe", owner=own.pw_name, team="4711")
        self.assertEqual(self.account(layout, found), Account("joe", "ldap", "/h/joe", "mbox:/m/joe", own.pw_uid, 4711))
        self.assertEqual(
            self.account(layout, entry(uid="joe")), Account("joe", "ldap", None, "maildir:/all", uid=1, gid=2)
        )

    def test_mailboxes(self) -> None:
        """Promise: as in tpop3d, a path that ends in "/" is a Maildir."""
        for path, kind, expected in (
            ("/m/joe/", "", "maildir:/m/joe/"),
            ("/m/joe", "", "mbox:/m/joe"),
            ("~/Maildir/", "", "maildir:~/Maildir/"),
            ("/m/joe", "maildir", "maildir:/m/joe"),
            ("/m/joe/", "BSD", "mbox:/m/joe/"),
            ("maildir:/m/joe", "", "maildir:/m/joe"),
        ):
            layout = Layout(mailbox_attribute="box", mailbox_type_attribute="kind")
            found = entry(box=path, **({"kind": kind} if kind else {}))
            self.assertEqual(self.account(layout, found).maildrop, expected)

    def test_what_cannot_be_used(self) -> None:
        """Promise: nobody's mail is guessed."""
        layout = Layout(home_attribute="home", mail_user_attribute="owner", mail_group_attribute="team")
        for found, why in (
            (entry(home=["/a", "/b"]), "2 values of home"),
            (entry(home=b"/\xff"), "home is not UTF-8"),
            (entry(home="/a\nb"), "home has control characters"),
            (entry(owner="no such user"), "user 'no such user' is neither"),
            (entry(team="-1"), "group '-1' is neither"),
        ):
            asked = Deferred.fromCoroutine(layout.account("joe", "ldap", found, Threads()))
            self.assertRegex(str(self.failureResultOf(asked, LookupUnavailable).value), why)
