"""Every way to store a password that Dovecot, tpop3d and MySQL have."""

from __future__ import annotations

import itertools
import subprocess
from hashlib import md5

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.cred import test_hashes
from tests.cred.fakes import Threads, verifier
from tests.support import need
from tpops.cred import hashes, schemes
from tpops.errors import LookupUnavailable

#: What "doveadm pw" of Dovecot 2.3.19.1 made of this password.
PASSWORD = "tränka ☃".encode()
DOVECOT = (
    "{MD5}$1$F9g3/pfu$oW.xkf114RU1UH7Vwi4Qz/",
    "{MD5.B64}JDEkVmZTUS8zQW0kVGdnb05hT2VodkZnWEdETHBRWGdELw==",
    "{MD5.HEX}243124386e334963463657243842526443553774456235473946486a71522e563431",
    "{MD5-CRYPT.HEX}24312432504e464b3761742467396f482e707473652e636836564f4d32344d38412f",
    "{DES-CRYPT}/9w1M12VbEcM.",
    "{PLAIN-MD5}52c3a4aae9e16d57965428475ccf5bc6",
    "{PLAIN-MD5.B64}UsOkqunhbVeWVChHXM9bxg==",
    "{LDAP-MD5}UsOkqunhbVeWVChHXM9bxg==",
    "{LDAP-MD5.HEX}52c3a4aae9e16d57965428475ccf5bc6",
    "{SMD5}8XGFasSWeHJtOeMrDPpW3NF6AMg=",
    "{SMD5.HEX}bb7ad6f938626d92d39dbee388f4a09caabd92b0",
    "{PBKDF2}$1$gplZsafvktQH.X1E$5000$7e95b4bbc20752ae8b52021f728236b3ebe84b6a",
    "{PBKDF2.B64}JDEkNWV6WjBhQjkuZkJ4aWYuaSQ1MDAwJDA5ZTY2YTFhMTRkYTg5OTliYjU1MTY4OTlmN2Q4ZTM1NzVmZmI1NjI=",
    "{CRAM-MD5}b5c8b28f34cfbd722f911ea1a9e95e4b67b59eb803d7fa2c8cfa971886a7fd34",
    "{HMAC-MD5}b5c8b28f34cfbd722f911ea1a9e95e4b67b59eb803d7fa2c8cfa971886a7fd34",
    "{CRAM-MD5.B64}tciyjzTPvXIvkR6hqeleS2e1nrgD1/osjPqXGIan/TQ=",
    "{SCRAM-SHA-1}4096,Ah8HxLrJPHmJeTYNOH+p7w==,0B+zwFSvZfNjFcqcYJTpw8dmysw=,f4HW/mSb1XXzzYNfzz5URhehuwY=",
    "{SCRAM-SHA-1.B64}NDA5NixaeTdlakVOR3RRL3JvTGt0TVB0cklBPT0sZm9HTkE0WkNhbW5OQVUwNWc0SFZqNFJmdHFrPSxSTWNyem5w"
    "RlJjMFh0MTZpTE9zSXBpQkwyWGc9",
    "{SCRAM-SHA-256}4096,sI39bLlQ/w64zxatLvTi0g==,lvBBJpMAUltEgXSrCj8wQQwOMio3cMO703S4/VmMoGs=,"
    "XIcQWv5JiYbcx4iIjHRCN0ySgeFmSdX7PcjUfXiXKXI=",
)

#: The same password in the ways that Dovecot accepts and does not write.
ACCEPTED = (
    "{MD5}52c3a4aae9e16d57965428475ccf5bc6",
    "{MD5}UsOkqunhbVeWVChHXM9bxg==",
    "{PLAIN-MD5}UsOkqunhbVeWVChHXM9bxg==",
    "{PLAIN-MD5}52C3A4AAE9E16D57965428475CCF5BC6",
    "{LDAP-MD5}52c3a4aae9e16d57965428475ccf5bc6",
)

#: The same password as tpop3d has it in its files and tables.
TPOP3D = (
    "{md5}52c3a4aae9e16d57965428475ccf5bc6",
    "{md5}UsOkqunhbVeWVChHXM9bxg==",
    "{sha1}UZEjfvuvijzXaxvZ0rIbfKh1dGU=",
    "{sha1}5191237efbaf8a3cd76b1bd9d2b21b7ca8757465",
    "{crypt_md5}$1$F9g3/pfu$oW.xkf114RU1UH7Vwi4Qz/",
    "{crypt}/9w1M12VbEcM.",
    "{plaintext}tränka ☃",
    "52c3a4aae9e16d57965428475ccf5bc6",
    "UsOkqunhbVeWVChHXM9bxg==",
)

#: Password and hash: values published for MySQL's functions; those with space, tab and small letters follow from them.
MYSQL = (
    (b"mypass", "6f8c114b58f2ce9e"),
    (b"password", "5d2e19393cc5ef67"),
    (b"pass word\t", "5d2e19393cc5ef67"),
    (b"123456", "565491d704013245"),
    (b"123456", "*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9"),
    (b"mypass", "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4"),
    (b"mypass", "*6c8989366eaf75bb670ad8ea7a7fc1176a95cef4"),
)

#: Data that is not what its scheme says.
BROKEN = (
    "{MD5}secret",
    "{MD5}52c3a4aae9e16d57965428475ccf5b",
    "{PLAIN-MD5}52c3a4aae9e16d57965428475ccf5bcx",
    "{SMD5}UsOkqunhbVeWVChHXM9bxg==",
    "{CRAM-MD5}52c3a4aae9e16d57965428475ccf5bc6",
    "{CRAM-MD5.b64}UsOkqunhbVeWVChHXM9bxg==",
    "{PBKDF2}secret",
    "{PBKDF2}$2$salt$5000$7e95b4bbc20752ae8b52021f728236b3ebe84b6a",
    "{PBKDF2}$1$salt$5000$7e95b4bbc20752ae8b52021f728236b3ebe84b",
    "{PBKDF2}$1$salt$0$7e95b4bbc20752ae8b52021f728236b3ebe84b6a",
    "{PBKDF2}$1$salt$-1$7e95b4bbc20752ae8b52021f728236b3ebe84b6a",
    "{PBKDF2}$1$salt$10000001$7e95b4bbc20752ae8b52021f728236b3ebe84b6a",
    "{PBKDF2}$1$salt$999999999999999$7e95b4bbc20752ae8b52021f728236b3ebe84b6a",
    "{SCRAM-SHA-1}4096,AAAA",
    "{SCRAM-SHA-1}4096,AAAA,AAAA,AAAA",
    "{SCRAM-SHA-1}4096,!,0B+zwFSvZfNjFcqcYJTpw8dmysw=,f4HW/mSb1XXzzYNfzz5URhehuwY=",
    "{SCRAM-SHA-1}4096,,0B+zwFSvZfNjFcqcYJTpw8dmysw=,f4HW/mSb1XXzzYNfzz5URhehuwY=",
    "{SCRAM-SHA-1}x,AAAA,0B+zwFSvZfNjFcqcYJTpw8dmysw=,f4HW/mSb1XXzzYNfzz5URhehuwY=",
    "{SCRAM-SHA-256}4096,AAAA,0B+zwFSvZfNjFcqcYJTpw8dmysw=,f4HW/mSb1XXzzYNfzz5URhehuwY=",
    "{MYSQL}6f8c114b",
    "{MYSQL}6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4",
)

#: Schemes of Dovecot that are not known here.
MISSING = {"OTP", "DIGEST-MD5", "PLAIN-MD4", "PLAIN-TRUNC"}


class SchemeCase(SynchronousTestCase):
    """Asks as a login would."""

    def answer(self, password: bytes, stored: str) -> bool:
        said = verifier().verify(password, stored)
        if isinstance(said, bool):
            return said
        return self.successResultOf(Deferred.fromCoroutine(said))

    def refusal(self, stored: str) -> LookupUnavailable:
        """What is said of a stored password that cannot be used."""
        try:
            said = verifier().verify(b"x", stored)
        except LookupUnavailable as error:
            return error
        assert not isinstance(said, bool), stored
        refused: LookupUnavailable = self.failureResultOf(Deferred.fromCoroutine(said), LookupUnavailable).value
        return refused

    def assert_password(self, password: bytes, stored: str) -> None:
        """This password is right, and others are wrong."""
        self.assertIs(self.answer(password, stored), True, stored)
        for wrong in (b"X" + password[1:], password[:4], b""):
            self.assertIs(self.answer(wrong, stored), False, stored)
        self.assertIs(hashes.password_is(password, stored), True, stored)
        self.assertIs(hashes.password_is(b"X", stored), False, stored)


class VectorTests(SchemeCase):
    """What others stored is verified."""

    def test_every_scheme_that_operators_migrate_from_is_known(self) -> None:
        """By the names that stand in their files, in any case, with every ending; each has a vector here."""
        wanted = (
            *("PLAIN", "CRYPT", "SHA", "SSHA", "SHA256", "SSHA256", "SHA512", "SSHA512", "MD5", "SMD5", "PBKDF2"),
            *("BLF-CRYPT", "ARGON2I", "ARGON2ID", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5"),
            *("md5", "sha1", "crypt", "crypt_md5", "plaintext", "mysql"),
        )
        vectors = [*test_hashes.DOVECOT, *DOVECOT, *TPOP3D, *(f"{{mysql}}{data}" for _, data in MYSQL)]
        labels = {one[1:].partition("}")[0].partition(".")[0] for one in vectors if one.startswith("{")}
        self.assertEqual(set(wanted) - labels, set())
        for name in wanted:
            for ending in (".b64", ".hex", ".HEX", ".base64"):
                stored = hashes.hash_password(b"secret", name + ending.replace("base64", "b64"))
                self.assertIs(self.answer(b"secret", stored.replace(".B64}", ending + "}")), True, stored)

    def test_verifies_what_dovecot_stored(self) -> None:
        """Each scheme, with and without an ending, takes the right password and no other."""
        for stored in DOVECOT + ACCEPTED:
            self.assert_password(PASSWORD, stored)

    def test_verifies_what_tpop3d_stored(self) -> None:
        """Its names in lower case, hexadecimal and base64, and MD5 without braces."""
        for stored in TPOP3D:
            self.assert_password(PASSWORD, stored)

    def test_verifies_what_mysql_stored(self) -> None:
        """Both kinds; the old one does not see spaces and tabs."""
        for password, data in MYSQL:
            self.assert_password(password, f"{{mysql}}{data}")

    def test_a_long_password_is_hashed_before_cram_md5(self) -> None:
        """RFC 2104 section 2: keys over 64 octets are replaced by their digest."""
        stored = "{CRAM-MD5}01a74a0b2494fb58799e6e41ceeec91d452d875163c886fce1b24cf24cb4e10c"
        self.assert_password(b"long" * 30, stored)

    def test_plain_secrets_of_tpop3d_serve_apop(self) -> None:
        """{plaintext} gives its secret; the hashes do not."""
        self.assertEqual([schemes.plain_secret(stored) for stored in TPOP3D], [None] * 6 + [PASSWORD] + [None] * 2)

    def test_md5_is_told_by_its_data_behind_an_ending_too(self) -> None:
        """A digest whose first octet happens to be "$" is a digest all the same."""
        password = next(text for text in map(b"%d".__mod__, range(10_000, 20_000)) if md5(text).digest()[:1] == b"$")
        self.assert_password(password, f"{{MD5.hex}}{md5(password).hexdigest()}")


class RefusalTests(SchemeCase):
    """What matches nothing, and what is broken."""

    def test_the_star_of_mysql_is_no_lock_and_any_other_star_is(self) -> None:
        """Only "*" and 40 hexadecimal digits are a hash."""
        made = hashes.hash_password(b"mypass", "MYSQL")
        self.assertEqual(made, "{MYSQL}*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4")
        for locked in ("{MYSQL}*", "{MYSQL}*6f8c114b58f2ce9e", "{MYSQL}!6f8c114b58f2ce9e", "{MYSQL}*" + made[7:]):
            self.assertIs(verifier().verify(b"mypass", locked), False, locked)
        self.assertIs(verifier().verify(b"mypass", made[7:]), False)

    def test_locked_data_matches_nothing(self) -> None:
        """Empty data and "!" are wrong at once, whatever the scheme."""
        for scheme in ("MD5", "PLAIN-MD5", "SMD5", "CRAM-MD5", "PBKDF2", "SCRAM-SHA-1", "MYSQL", "crypt_md5"):
            for stored in (f"{{{scheme}}}", f"{{{scheme}}}!52c3a4aae9e16d57965428475ccf5bc6"):
                self.assertIs(verifier().verify(b"x", stored), False, stored)
                self.assertIs(hashes.password_is(b"x", stored), False, stored)

    def test_broken_data_is_an_operators_error_without_the_data(self) -> None:
        """LookupUnavailable at a login and ValueError on the command line; neither shows what is stored."""
        for stored in BROKEN:
            data = stored.partition("}")[2]
            error = self.assertRaises(ValueError, hashes.password_is, b"x", stored)
            self.assertNotIn(data, str(error))
            self.assertNotIn(data, str(self.refusal(stored)))

    @given(st.sampled_from(schemes.names()), st.binary(max_size=9), st.text("$*1,=aA+", max_size=70))
    def test_any_data_gives_an_answer_or_a_value_error(self, name: str, password: bytes, text: str) -> None:
        """No stored text makes a check fail in another way."""
        for check in (schemes.by_name(name).check, lambda p, _: hashes.password_is(p, f"{{{name}}}{text}")):
            try:
                self.assertIn(check(password.replace(b"\0", b""), text.encode()), (True, False))
            except ValueError:
                pass

    def test_stretched_schemes_run_in_a_thread(self) -> None:
        """PBKDF2 and SCRAM do not hold up the reactor."""
        threads = Threads(at_once=False)
        for stored in (text for text in DOVECOT if text.startswith(("{PBKDF2", "{SCRAM"))):
            said = verifier(threads).verify(PASSWORD, stored)
            assert not isinstance(said, bool)
            answer = Deferred.fromCoroutine(said)
            self.assertNoResult(answer)
            threads.run()
            self.assertIs(self.successResultOf(answer), True)


class DoveadmTests(SchemeCase):
    """Dovecot's own program and tpops understand each other."""

    skip = need(None, "doveadm")

    def doveadm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(("doveadm", "pw", *arguments), capture_output=True, text=True, timeout=60)

    def theirs(self) -> list[str]:
        return self.doveadm("-l").stdout.split()

    def test_every_scheme_of_doveadm_is_verified_or_named_as_missing(self) -> None:
        """What it makes, with and without an ending, takes the password; what is missing is told by its name."""
        listed = self.theirs()
        self.assertGreater(len(listed), 20)
        for scheme in listed:
            if scheme in MISSING:
                self.assertIn(scheme, str(self.refusal(f"{{{scheme}}}data")))
                continue
            for ending in ("", ".b64", ".hex"):
                made = self.doveadm("-s", scheme + ending, "-p", "secret")
                self.assertEqual(made.returncode, 0, made.stderr)
                self.assert_password(b"secret", made.stdout.strip())

    def test_doveadm_verifies_what_is_made_here(self) -> None:
        """Each scheme that both know."""
        both = set(hashes.schemes()) & set(self.theirs())
        self.assertGreater(len(both), 15)
        for scheme, ending in itertools.product(both, ("", ".b64", ".hex")):
            stored = hashes.hash_password(b"secret", scheme + ending)
            self.assertEqual(self.doveadm("-t", stored, "-p", "secret").returncode, 0, stored)
            self.assertNotEqual(self.doveadm("-t", stored, "-p", "Secret").returncode, 0, stored)
