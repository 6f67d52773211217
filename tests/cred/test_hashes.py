"""Stored passwords are verified, and nothing else is let in."""

from __future__ import annotations

import inspect

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.cred.fakes import Threads, Time, verifier
from tpops.cred import hashes
from tpops.cred.hashes import Verifier
from tpops.errors import LookupUnavailable

#: What "doveadm pw" of Dovecot 2.3 made of this password, scheme by scheme.
PASSWORD = "tränka ☃".encode()
DOVECOT = (
    "{PLAIN}tränka ☃",
    "{CLEARTEXT}tränka ☃",
    "{clear}tränka ☃",
    "{PLAIN.b64}dHLDpG5rYSDimIM=",
    "{PLAIN.HEX}7472c3a46e6b6120e29883",
    "{SHA}UZEjfvuvijzXaxvZ0rIbfKh1dGU=",
    "{SHA1}UZEjfvuvijzXaxvZ0rIbfKh1dGU=",
    "{SHA.HEX}5191237efbaf8a3cd76b1bd9d2b21b7ca8757465",
    "{SHA}5191237efbaf8a3cd76b1bd9d2b21b7ca8757465",
    "{SSHA}e0cPmAu/B9YHiI7cnt+ahsjf5K35Tyx3",
    "{SSHA.HEX}8d40085b282df302a411d206abba3d8867b3ea56c8c96a7b",
    "{SHA256}7r6yF64+v1GTAdQRGGI4dSCY+mqxMhZtG7ua83ekmIY=",
    "{SSHA256}HDfQi9XFciYdiEt2TGrjxfZCMUQ38syTUhS+ZU9tun/ZY3ns",
    "{SHA512}S+gIm/MWt0ti1mPH6ed2Yy9Ni94rLpiuNRQHWEyGwAANy2PIFt7L1kNOek7K00M353CTeLW2udkkl3yGXamD7A==",
    "{SHA512.B64}S+gIm/MWt0ti1mPH6ed2Yy9Ni94rLpiuNRQHWEyGwAANy2PIFt7L1kNOek7K00M353CTeLW2udkkl3yGXamD7A==",
    "{SSHA512}NOwzmZ669auDvBysU+lDMESKvkQRSKG4O1BNuyww4e8Ulypu7d4L81b2AgScM6FfiLv7DAlyJYw9dV55noAArMvxXs8=",
    "{MD5-CRYPT}$1$M2wT3ZIl$eprse14oGgdHmmaCn0P531",
    "{SHA256-CRYPT}$5$w.3psRdA/ieTOEW1$BzVcZuW4nf78ng.8/ILS/VfoTHcnSFURQc8K8oqaCQ1",
    "{SHA512-CRYPT}$6$zqxP3YpFNx6ol8Oi$ZZYOprXWDauJMYFeay5VgSd/2rCdvWJEaUQY3Fn/N.tTy2q7GQ8zRhqvK1oZzdVQAnqHMTtA492ms8"
    "hLyKcov.",
    "$6$zqxP3YpFNx6ol8Oi$ZZYOprXWDauJMYFeay5VgSd/2rCdvWJEaUQY3Fn/N.tTy2q7GQ8zRhqvK1oZzdVQAnqHMTtA492ms8hLyKcov.",
    "{BLF-CRYPT}$2y$05$HWAUO7yfx4Q/.BDgNM8UuOnB4G3Q9th0ysNIMfdaYPPoNX5N0gmQK",
    "{DES-CRYPT}vc.gw6FPx.eSc",
    "vc.gw6FPx.eSc",
    "{CRYPT.B64}JDJ5JDA1JGVYTVFNNTFRYTA3bTIwNWMyTXFra081R0dYcTdITlhIOVFKTGxIL0trTjYvVlNvVTY1ckJt",
    "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$/oqoxFu3lFRVDM4Fl413uQ$J1kYEcqbWPlv+LiGS+P/b2HnNRfedC4Nq1rmom7pclc",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$pHX9Zlukxev8pQQC9tnOEA$Pmh4mrFQRV3WDKF6y7m3Joms4Yh9xOjKKjyxSCfeOxI",
)

ARGON2 = DOVECOT[-1]
BCRYPT = "{BLF-CRYPT}$2y$05$HWAUO7yfx4Q/.BDgNM8UuOnB4G3Q9th0ysNIMfdaYPPoNX5N0gmQK"


class VerifyCase(SynchronousTestCase):
    """Asks a verifier and waits for its answer."""

    def answer(self, subject: Verifier, password: bytes, stored: str) -> bool:
        said = subject.verify(password, stored)
        if isinstance(said, bool):
            return said
        return self.successResultOf(Deferred.fromCoroutine(said))


class VectorTests(VerifyCase):
    """What Dovecot stored, we verify."""

    def test_verifies_what_dovecot_stored(self) -> None:
        """Every scheme of the table takes the right password and no other."""
        subject = verifier()
        for stored in DOVECOT:
            self.assertTrue(self.answer(subject, PASSWORD, stored), stored)
            self.assertFalse(self.answer(subject, b"x" + PASSWORD[1:], stored), stored)
            self.assertFalse(self.answer(subject, b"", stored), stored)

    def test_verifies_what_it_made_itself(self) -> None:
        """A new hash of every scheme verifies, also for a password that is no UTF-8, and never twice the same salt."""
        for scheme in hashes.schemes():
            for password in (b"secret", b"\xff\xfe!"):
                stored = hashes.hash_password(password, scheme)
                self.assertTrue(self.answer(verifier(), password, stored), stored)
                self.assertFalse(self.answer(verifier(), password + b"x", stored), stored)
        self.assertTrue(hashes.hash_password(b"x").startswith("{ARGON2ID}$argon2id$"))
        self.assertNotEqual(hashes.hash_password(b"x", "SSHA"), hashes.hash_password(b"x", "ssha"))

    def test_refuses_to_hash_what_cannot_be_a_password(self) -> None:
        """Empty, overlong, NUL and unknown schemes are a ValueError with a reason."""
        for password in (b"", b"a\0b", b"x" * 4097):
            self.assertRaises(ValueError, hashes.hash_password, password)
        self.assertIn("ROT13", str(self.assertRaises(ValueError, hashes.hash_password, b"x", "ROT13")))


class RefusalTests(VerifyCase):
    """What never matches, and what is the operator's to mend."""

    def test_locked_and_empty_hashes_match_nothing(self) -> None:
        """A hash that is empty or starts with "!" or "*" never matches, with or without a scheme."""
        subject = verifier()
        for stored in ("", "!", "*", "!!", "*LK*", "!$6$a$b", "{PLAIN}", "{SHA}", "{CRYPT}!", "{ARGON2ID}*", "{CRYPT}"):
            for password in (b"", b"!", b"*", b"x", stored.encode()):
                self.assertIs(subject.verify(password, stored), False, stored)

    def test_refuses_passwords_with_nul_or_over_4096_octets(self) -> None:
        """Such a password is wrong at once, whatever is stored."""
        self.assertIs(verifier().verify(b"a\0", "{PLAIN}a\0"), False)
        self.assertIs(verifier().verify(b"a" * 4097, "{PLAIN}" + "a" * 4097), False)

    def test_an_unknown_scheme_is_an_operators_error(self) -> None:
        """An unknown scheme or ending is LookupUnavailable that names it, never a wrong password."""
        for stored, shown in (("{ROT13}x", "ROT13"), ("{PLAIN.rot13}x", "PLAIN.rot13"), ("{}x", "{}")):
            error = self.assertRaises(LookupUnavailable, verifier().verify, b"x", stored)
            self.assertIn(shown, str(error))

    def test_a_broken_hash_is_an_operators_error_without_the_hash(self) -> None:
        """Stored data that cannot be used is told with the scheme at most; the data is not shown."""
        for stored in (
            "{SHA}sEcReT",
            "{SHA}c0VjUmVU",
            "{SHA.hex}sEcReT",
            "{SSHA}UZEjfvuvijzXaxvZ0rIbfKh1dGU=",
            "{ARGON2ID}sEcReT",
            "{CRYPT}$9$sEcReT",
            "{CRYPT}sEcReT\u00e4",
            "$argon2id$sEcReT",
            "{PLAINsEcReT",
        ):
            subject = verifier()
            try:
                said = subject.verify(b"x", stored)
            except LookupUnavailable as error:
                self.assertNotIn("sEcReT", str(error))
            else:
                assert not isinstance(said, bool), stored
                failure = self.failureResultOf(Deferred.fromCoroutine(said), LookupUnavailable)
                self.assertNotIn("sEcReT", failure.getErrorMessage())

    @given(st.binary(max_size=60), st.text(max_size=60))
    def test_anything_stored_gives_an_answer_or_lookup_unavailable(self, password: bytes, data: str) -> None:
        """No stored text makes the verifier fail in another way."""
        labels = ("SHA", "SSHA256", "PLAIN.b64", "SHA.hex", "MD5", "MYSQL", "CRAM-MD5")
        for stored in (data, *(f"{{{label}}}{data}" for label in labels)):
            try:
                said = verifier(Threads(at_once=False)).verify(password, stored)
            except LookupUnavailable:
                continue
            if inspect.iscoroutine(said):
                said.close()


class CacheTests(VerifyCase):
    """Slow hashes are computed once in a while."""

    def test_cheap_schemes_never_leave_the_turn(self) -> None:
        """Plain and digest schemes answer with a bool and use no thread."""
        threads = Threads()
        self.assertIs(verifier(threads).verify(b"x", "{PLAIN}x"), True)
        self.assertIs(verifier(threads).verify(PASSWORD, "{SHA}UZEjfvuvijzXaxvZ0rIbfKh1dGU="), True)
        self.assertEqual(threads.runs, 0)

    def test_a_right_password_is_remembered(self) -> None:
        """The second time the answer comes at once; wrong passwords are computed each time."""
        threads = Threads()
        subject = verifier(threads)
        self.assertTrue(self.answer(subject, PASSWORD, BCRYPT))
        self.assertIs(subject.verify(PASSWORD, BCRYPT), True)
        self.assertEqual(threads.runs, 1)
        for _ in range(2):
            self.assertFalse(self.answer(subject, b"wrong", BCRYPT))
        self.assertEqual(threads.runs, 3)

    def test_a_changed_hash_never_hits(self) -> None:
        """The old password is refused as soon as the stored hash is another."""
        subject = verifier()
        self.answer(subject, PASSWORD, BCRYPT)
        self.assertFalse(self.answer(subject, PASSWORD, hashes.hash_password(b"new", "MD5-CRYPT")))

    def test_forgets_after_a_while_and_when_told(self) -> None:
        """An answer holds for cache_ttl_seconds, and not after forget()."""
        threads, seconds = Threads(), Time()
        subject = verifier(threads, seconds, cache_ttl_seconds=60.0)
        self.answer(subject, PASSWORD, BCRYPT)
        seconds.now += 60
        self.answer(subject, PASSWORD, BCRYPT)
        self.assertEqual(threads.runs, 2)
        subject.forget()
        self.answer(subject, PASSWORD, BCRYPT)
        self.assertEqual(threads.runs, 3)

    def test_is_bounded_and_drops_what_was_used_least_lately(self) -> None:
        """With room for two, the one not used goes; with room for none, nothing stays."""
        threads = Threads()
        subject = verifier(threads, cache_entries=2)
        stored = [hashes.hash_password(b"x", "MD5-CRYPT") for _ in range(3)]
        for each in (stored[0], stored[1], stored[0], stored[2]):
            self.answer(subject, b"x", each)
        self.assertEqual(threads.runs, 3)
        self.assertIs(subject.verify(b"x", stored[0]), True)
        self.answer(subject, b"x", stored[1])
        self.assertEqual(threads.runs, 4)
        none = verifier(threads, cache_entries=0)
        for _ in range(2):
            self.answer(none, b"x", stored[0])
        self.assertEqual(threads.runs, 6)

    def test_dummy_works_as_hard_and_says_no(self) -> None:
        """An unknown user costs one thread run each time and is never right."""
        threads = Threads()
        subject = verifier(threads)
        for _ in range(2):
            self.assertFalse(self.successResultOf(Deferred.fromCoroutine(subject.dummy(PASSWORD))))
        self.assertEqual(threads.runs, 2)


class ThreadTests(TestCase):
    """With real threads."""

    async def test_runs_in_twisteds_thread_pool(self) -> None:
        """The reactor stays free while libcrypt and argon2 work."""
        subject = Verifier(deferToThread, reactor.seconds)  # type: ignore[attr-defined]
        for stored in (BCRYPT, ARGON2):
            said = subject.verify(PASSWORD, stored)
            assert not isinstance(said, bool)
            self.assertTrue(await said)
