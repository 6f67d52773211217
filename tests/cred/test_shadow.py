"""Accounts of the machine, from passwd and shadow."""

from __future__ import annotations

import os
import time

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.cred.fakes import Threads, Time, login, means, verifier
from tpops.cred import shadow
from tpops.cred.names import LoginNames
from tpops.cred.ordered import OrderedChecker
from tpops.cred.schemes import NOTHING
from tpops.cred.shadow import PasswdLine, ShadowAccounts, ShadowLine, parse_passwd_line, parse_shadow_line
from tpops.cred.watched import BadLine
from tpops.errors import AccountDisabled, BadCredentials, LookupUnavailable, UnknownUser
from tpops.interfaces import IAccounts
from tpops.model import Account

#: The day on which the tests run.
TODAY = 20000

#: The password "secret" as libcrypt stores it, by method; made with Perl's crypt.
HASHES = {
    "yescrypt": "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$GmcwIgvdUC9qLWcKCi6gklUa1dM3ziD43YxYNURLKy0",
    "gost-yescrypt": "$gy$j9T$F5Jx5fExrKuPp53xLKQ..1$uE5FcoxTz78xZpMZkpTmj/0MogyeNUSLIjdCxpQjz.8",
    "scrypt": "$7$CU..../....saltsalt$NUwJnl2EzU4ACwYC9BDHKGDt.PCVFKyF6Hlr/CUA09D",
    "bcrypt": "$2b$05$HWAUO7yfx4Q/.BDgNM8UuO12sgQxlLZkxLiv0lflueXWIwdP/nps6",
    "sha512-crypt": "$6$saltstring$"
    "AIsRs/Ee56G/tC8MEHhvReZTfx8u3rXXMl6eYrjCG9ibix19DxoMBLogdTET5Ukw9Sf7eZTITsuk0Ry5qulYz.",
    "sha256-crypt": "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
    "md5-crypt": "$1$saltsalt$9xy1btjgzLYfb7hivXtC//",
    "DES": "abNANd1rDfiNc",
}
HASH = HASHES["md5-crypt"]


class LineTests(SynchronousTestCase):
    """passwd(5) and shadow(5), line by line."""

    def test_reads_a_passwd_line(self) -> None:
        """Name, password field, uid, gid and home; the comment may be in any encoding, the shell does not matter."""
        line = b"joe:x:1000:100:J\xf6rg,,,:/home/joe:/usr/sbin/nologin".decode("utf-8", "surrogateescape")
        self.assertEqual(parse_passwd_line(line), PasswdLine("joe", "x", 1000, 100, "/home/joe"))
        self.assertEqual(parse_passwd_line("joe:x:1000:100:::"), PasswdLine("joe", "x", 1000, 100, None))

    def test_reads_a_shadow_line(self) -> None:
        """Days, where empty and -1 are no limit."""
        self.assertEqual(
            parse_shadow_line("joe:hash:19000:0:90:7:14:21000:"), ShadowLine("joe", "hash", 19000, 90, 14, 21000)
        )
        for text in ("joe:hash:::::::", "joe:hash:-1:-1:-1:-1:-1:-1:"):
            self.assertEqual(parse_shadow_line(text), ShadowLine("joe", "hash"))

    def test_passes_over_what_is_no_account(self) -> None:
        """Blank lines, comments, and the lines for other databases."""
        for line in ("", "  ", "# joe:x", "+", "+joe::::::", "-ann::::::", "+::::::::"):
            self.assertIsNone(parse_passwd_line(line))
            self.assertIsNone(parse_shadow_line(line))

    def test_tells_what_is_wrong_and_never_the_hash(self) -> None:
        """A line that cannot be read whole is not used at all."""
        for parse, line in (
            (parse_passwd_line, "joe:sEcReT:1000:100::/home/joe"),
            (parse_passwd_line, "joe:sEcReT:1000:100::/home/joe:/bin/sh:more"),
            (parse_passwd_line, "joe:sEcReT::100::/home/joe:/bin/sh"),
            (parse_passwd_line, "joe:sEcReT:1000:-1::/home/joe:/bin/sh"),
            (parse_passwd_line, "joe:sEcReT:\u0661:100::/home/joe:/bin/sh"),
            (parse_passwd_line, ":sEcReT:1000:100::/home/joe:/bin/sh"),
            (parse_passwd_line, "joe\t:sEcReT:1000:100::/home/joe:/bin/sh"),
            (parse_passwd_line, "joe:sEcReT:1000:100::/home/\0joe:/bin/sh"),
            (parse_shadow_line, "joe:sEcReT"),
            (parse_shadow_line, "joe:sEcReT:19000:0:99999:7:::x:y"),
            (parse_shadow_line, "joe:sEcRe\xdf:19000:0:99999:7:::"),
            (parse_shadow_line, "joe:sEcReT:soon:0:99999:7:::"),
            (parse_shadow_line, "joe:sEcReT:19000:0:many:7:::"),
            (parse_shadow_line, "joe:sEcReT:19000:0:99999:7:1.5::"),
            (parse_shadow_line, "joe:sEcReT:19000:0:99999:7::-2:"),
        ):
            self.assertNotIn("sEcRe", str(self.assertRaises(BadLine, parse, line)))

    def test_dates_decide(self) -> None:
        """Account expiry, a password that must be changed, its maximum age, and the days of grace after that."""
        expired, must_change, old = "account has expired", "password must be changed first", "password has expired"
        for fields, refusal in (
            (":0:99999:7:::", ""),
            ("20000:0:99999:7:::", ""),
            ("20001:0:10:7:::", ""),  # changed "tomorrow", on a machine east of here
            ("19990:0::7:::", ""),
            ("19990:0:10:7:::", ""),
            ("19989:0:10:7:::", old),
            ("19989:0:10:7:0::", old),
            ("19989:0:10:7:1::", ""),
            ("19988:0:10:7:1::", old),
            ("19989:0:-1:7:1::", ""),
            (":0:10:7:1::", ""),
            ("0:0:99999:7:::", must_change),
            ("0:0::7:30::", must_change),
            ("19990:0:99999:7::20001:", ""),
            ("19990:0:99999:7::20000:", expired),
            ("19990:0:99999:7::19000:", expired),
            ("19990:0:99999:7::0:", expired),
            ("19990:0:99999:7:30:0:", expired),
            ("0:0:0:0:0:0:", expired),
        ):
            line = parse_shadow_line(f"joe:{HASH}:{fields}")
            assert line is not None
            self.assertEqual(line.refusal(TODAY), refusal, fields)

    def test_today_is_counted_from_1970(self) -> None:
        """As shadow(5) does."""
        before, today, after = time.time() // 86400, shadow.today(), time.time() // 86400
        self.assertIn(today, (before, after))


class ShadowCase(SynchronousTestCase):
    """A pair of files."""

    def setUp(self) -> None:
        self.passwd, self.shadow = self.mktemp(), self.mktemp()
        self.seconds = Time()
        self.threads = Threads()
        self.day = TODAY
        self.subject = self.make(shadow_path=self.shadow)
        self.write(self.passwd, "joe:x:1000:100:Joe:/home/joe:/bin/sh")

    def make(self, **settings: str | int) -> ShadowAccounts:
        """A source over these files."""
        return ShadowAccounts(
            "unix",
            means(self.threads, self.seconds),
            passwd_path=self.passwd,
            today=lambda: self.day,
            **settings,
        )

    def write(self, path: str, *lines: str) -> None:
        """Replace a file, as useradd and passwd do."""
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
        os.replace(path + ".new", path)

    def password_field(self, stored: str) -> None:
        """Give joe a password field in shadow, without dates."""
        self.write(self.shadow, f"joe:{stored}:::::::")
        self.seconds.now += 2

    def log_in(self, name: str = "joe", password: str = "secret", subject: ShadowAccounts | None = None) -> bytes:
        """What a login gives, or raises."""
        answer = (subject or self.subject).requestAvatarId(login(name, password))
        return answer if isinstance(answer, bytes) else self.successResultOf(answer)

    def refusal(self, name: str = "joe", password: str = "secret") -> Exception:
        """What a login fails with."""
        try:
            answer = self.subject.requestAvatarId(login(name, password))
        except Exception as error:
            return error
        assert isinstance(answer, Deferred)
        return self.failureResultOf(answer).value


class ShadowAccountsTests(ShadowCase):
    """The files as a checker and a source of accounts."""

    def test_provides_its_interfaces(self) -> None:
        """It is a twisted.cred checker and an accounts source."""
        verifyObject(ICredentialsChecker, self.subject)
        verifyObject(IAccounts, self.subject)

    def test_knows_every_hash_of_libcrypt(self) -> None:
        """Right and wrong passwords, with each method; the second time a right one is answered at once."""
        for method, stored in HASHES.items():
            self.password_field(stored)
            self.assertEqual(self.log_in(), b"unix:joe", method)
            self.assertIsInstance(self.subject.requestAvatarId(login("joe")), bytes, method)
            self.assertIs(type(self.refusal(password="Secret")), BadCredentials, method)

    def test_gives_home_and_ids(self) -> None:
        """Whatever the mailbox needs of the account."""
        self.password_field(HASH)
        account = self.successResultOf(Deferred.fromCoroutine(self.subject.account("joe")))
        self.assertEqual(account, Account("joe", "unix", home="/home/joe", uid=1000, gid=100))
        self.assertEqual([record.account for record in self.subject.records()], [account])

    def test_a_field_that_is_no_hash_lets_nobody_in(self) -> None:
        """Locked, empty and meaningless fields are a wrong password for the client, and the log has the reason."""
        for stored, reason in (
            ("", "password is empty"),
            ("!", "password is locked"),
            ("!!", "password is locked"),
            ("*", "password is locked"),
            ("*LK*", "password is locked"),
            ("!" + HASH, "password is locked"),
            ("!*", "password is locked"),
            ("x", "no password is set"),
            ("NP", "no password is set"),
            ("secret", "no password is set"),
            ("{PLAIN}secret", "no password is set"),
        ):
            self.password_field(stored)
            for password in ("secret", "", stored):
                error = self.refusal(password=password)
                self.assertIs(type(error), BadCredentials, stored)
                self.assertEqual(str(error), reason)

    def test_the_reason_gets_through_the_ordered_checker(self) -> None:
        """What the server logs of the login is what the source said."""
        self.password_field("!" + HASH)
        checker = OrderedChecker([self.subject], LoginNames(), verifier(self.threads))
        error = self.assertRaises(BadCredentials, checker.requestAvatarId, login("joe"))
        self.assertEqual(str(error), "password is locked")

    def test_an_unknown_method_is_no_wrong_password(self) -> None:
        """LookupUnavailable, for the operator, without the hash."""
        self.password_field("$nosuch$salt$hash")
        error = self.refusal()
        self.assertIsInstance(error, LookupUnavailable)
        self.assertNotIn("salt", str(error))

    def test_a_refusal_is_told_only_with_the_right_password(self) -> None:
        """Nobody learns from a wrong password that the account exists or what is the matter with it."""
        for fields, reason in (
            ("19000:0:99999:7::0:", "account has expired"),
            ("0:0:99999:7:::", "password must be changed first"),
            ("19000:0:90:7:::", "password has expired"),
        ):
            self.write(self.shadow, f"joe:{HASH}:{fields}")
            self.seconds.now += 2
            error = self.refusal()
            self.assertIs(type(error), AccountDisabled)
            self.assertEqual(str(error), f"{reason} (accounts source unix)")
            self.assertIs(type(self.refusal(password="wrong")), BadCredentials)
            self.failureResultOf(Deferred.fromCoroutine(self.subject.account("joe")), AccountDisabled)

    def test_an_account_expires_while_the_files_stay_as_they_are(self) -> None:
        """The date is looked at with each login, also where the password is remembered."""
        self.write(self.shadow, f"joe:{HASH}:19990:0:10:7:::")
        self.log_in()
        self.day += 1
        self.assertIs(type(self.refusal()), AccountDisabled)

    def test_low_uids_do_not_exist(self) -> None:
        """Below the minimum a name is unknown, whatever its hash, and a second line for it does not help."""
        self.write(
            self.passwd,
            "root:x:0:0:root:/root:/bin/bash",
            "sys:x:999:999::/:/bin/sh",
            "joe:x:1000:100::/home/joe:/bin/sh",
            "root:x:1001:100::/home/root:/bin/sh",
        )
        self.write(self.shadow, *(f"{name}:{HASH}:::::::" for name in ("root", "sys", "joe")))
        for name in ("root", "sys", "nobody"):
            self.assertIsInstance(self.refusal(name), UnknownUser)
        self.log_in()
        self.assertEqual([record.account.name for record in self.subject.records()], ["joe"])
        self.assertEqual(self.log_in("sys", subject=self.make(shadow_path=self.shadow, minimum_uid=999)), b"unix:sys")

    def test_the_first_line_of_a_name_counts(self) -> None:
        """In both files, as for the machine."""
        self.write(self.passwd, "joe:x:1000:100::/first:/bin/sh", "joe:x:1000:100::/second:/bin/sh")
        self.write(self.shadow, "joe:!:::::::", f"joe:{HASH}:::::::")
        self.assertEqual(str(self.refusal()), "password is locked")
        self.assertEqual([record.account.home for record in self.subject.records()], ["/first"])

    def test_a_line_that_is_missing_in_shadow_closes_the_account(self) -> None:
        """So does one that cannot be read; a line of shadow without one in passwd is nobody."""
        for lines in ((), (f"joe:{HASH}:soon::::::",), (f"ann:{HASH}:::::::",)):
            self.write(self.shadow, *lines)
            self.seconds.now += 2
            self.assertEqual(str(self.refusal()), "password is in no shadow file")
            self.assertIsInstance(self.refusal("ann"), UnknownUser)

    def test_a_hash_in_passwd_counts(self) -> None:
        """As in PAM; the dates of the shadow line hold all the same, and an empty field is no way in."""
        for field, line, expected in (
            (HASH, None, None),
            (HASH, "joe:!:::::::", None),
            (HASH, f"joe:{HASH}:::::0::", None),
            (HASH, f"joe:{HASH}::::::0:", AccountDisabled),
            ("", f"joe:{HASH}:::::::", BadCredentials),
            ("*", f"joe:{HASH}:::::::", BadCredentials),
            ("!" + HASH, f"joe:{HASH}:::::::", BadCredentials),
        ):
            self.write(self.passwd, f"joe:{field}:1000:100::/home/joe:/bin/sh")
            self.write(self.shadow, *([line] if line else []))
            self.seconds.now += 2
            if expected is None:
                self.log_in()
            else:
                self.assertIs(type(self.refusal()), expected, (field, line))

    def test_a_machine_without_shadow(self) -> None:
        """With shadow_path "" the hashes are in passwd itself; "x" there lets nobody in."""
        self.write(self.passwd, f"joe:{HASH}:1000:100::/j:/bin/sh", "ann:x:1001:100::/a:/bin/sh")
        subject = self.make(shadow_path="")
        self.assertEqual(self.log_in(subject=subject), b"unix:joe")
        self.assertRaises(BadCredentials, self.log_in, "ann", "x", subject)
        self.assertEqual(subject.paths, (self.passwd,))

    def test_reads_both_again_when_one_changes(self) -> None:
        """A second later at most."""
        self.password_field(HASH)
        self.log_in()
        self.write(self.shadow, "joe:!:::::::")
        self.seconds.now += 0.9
        self.log_in()
        self.seconds.now += 0.2
        self.assertEqual(str(self.refusal()), "password is locked")
        self.write(self.shadow, f"joe:{HASH}:::::::")
        self.seconds.now += 2
        self.log_in()
        self.write(self.passwd, "ann:x:1000:100::/home/ann:/bin/sh")
        self.seconds.now += 2
        self.assertIsInstance(self.refusal(), UnknownUser)

    def test_files_that_are_away_are_no_wrong_password(self) -> None:
        """LookupUnavailable with the path, until both are there."""
        self.assertIn(self.shadow, str(self.refusal()))
        self.assertIsInstance(self.refusal(), LookupUnavailable)
        self.password_field(HASH)
        self.log_in()
        os.remove(self.passwd)
        self.seconds.now += 2
        error = self.refusal()
        self.assertIsInstance(error, LookupUnavailable)
        self.assertIn(self.passwd, str(error))
        self.assertRaises(LookupUnavailable, self.subject.check)

    def test_a_shadow_file_that_may_not_be_read_says_what_to_do(self) -> None:
        """The group, or another driver; the operator is told at the login and by "tpops check"."""
        self.password_field(HASH)
        real = os.stat

        def refuse(path: str) -> os.stat_result:
            if path == self.shadow:
                raise PermissionError(13, "Permission denied", path)
            return real(path)

        self.patch(os, "stat", refuse)
        error = self.refusal()
        self.assertIsInstance(error, LookupUnavailable)
        self.assertIn(f"cannot read {self.shadow}: Permission denied; put the server's user into the group", str(error))
        self.assertIn("usermod -aG shadow", str(error))

    def test_bad_lines_are_logged_and_told(self) -> None:
        """File, line and reason, never the hash; the other accounts work."""
        self.write(self.passwd, "joe:x:1000:100::/home/joe:/bin/sh", "bad:sEcReT")
        self.write(self.shadow, "bad:sEcReT:soon::::::", f"joe:{HASH}:::::::")
        with capturedLogs() as events:
            self.log_in()
            self.log_in()
        self.assertEqual(len(events), 2)
        self.assertNotIn("sEcReT", str(events))
        complaints = self.subject.check()
        self.assertEqual([one.split(": ")[0] for one in complaints], [f"{self.shadow}:1", f"{self.passwd}:2"])

    def test_names_with_a_domain_of_the_machine(self) -> None:
        """Are looked up without it; with any other domain they are nobody's."""
        self.password_field(HASH)
        source = self.make(shadow_path=self.shadow, domains=("example.org",))
        self.assertEqual(source.record("joe@example.org").account.name, "joe")
        self.assertEqual(source.record("joe").account.name, "joe")
        for name in ("joe@example.com", "joe@", "@example.org", "joe@x@example.org"):
            self.assertRaises(UnknownUser, source.record, name)
        self.assertRaises(UnknownUser, self.subject.record, "joe@example.org")

    def test_has_no_secrets_for_apop(self) -> None:
        """Also where a file looks as if; and nothing is opened to find out."""
        self.assertEqual(self.make(shadow_path="/nowhere").mechanisms(), (NOTHING,))
        self.write(self.passwd, "joe:{PLAIN}secret:1000:100::/home/joe:/bin/sh")
        self.password_field(HASH)
        self.assertEqual(self.subject.mechanisms(), (NOTHING,))
        self.assertNotIn("PLAIN", repr(list(self.subject.records())))
