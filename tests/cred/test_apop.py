"""APOP and CRAM-MD5 through the checkers: digests over secrets that are stored as they are (RFC 1939 section 7)."""

from __future__ import annotations

import hashlib
import hmac

import attrs
from twisted.cred.credentials import IUsernameHashedPassword
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.cred.fakes import means, verifier
from tpops.cred.hashes import hash_password
from tpops.cred.names import LoginNames
from tpops.cred.ordered import Digest, OrderedChecker
from tpops.cred.passwd_file import PasswdFile
from tpops.cred.schemes import NOTHING, plain_secret, proves
from tpops.credentials import APOPCredentials, CRAMMD5Credentials
from tpops.errors import AccountDisabled, BadCredentials

#: What whoever has a plain secret can prove.
PROVES = frozenset(("APOP", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"))


@implementer(IUsernameHashedPassword)
@attrs.frozen
class Client:
    """A client that knows one secret."""

    username: bytes
    secret: bytes

    def checkPassword(self, password: bytes) -> bool:
        return password == self.secret


class ApopTests(SynchronousTestCase):
    """The portal's IUsernameHashedPassword."""

    def setUp(self) -> None:
        path = self.mktemp()
        with open(path, "w", encoding="utf-8") as file:
            file.write("joe@x:{PLAIN}secret\njim@x:{SHA}2PRZAyDhNDqRW2OUFwZQqPNdaSY=\noff@x:{PLAIN}s::::::nologin\n")
        self.source = PasswdFile("f", means(), path)
        self.checker = OrderedChecker([self.source], LoginNames("x"), verifier())

    def refusal(self, name: bytes, secret: bytes) -> type[BaseException]:
        """How a login fails, at once or later."""
        try:
            answer = self.checker.requestAvatarId(Client(name, secret))
        except Exception as error:
            return type(error)
        assert isinstance(answer, Deferred)
        return type(self.failureResultOf(answer).value)

    def test_right_digest_logs_in(self) -> None:
        """The digest is checked against the stored secret, under the canonical name."""
        self.assertEqual(self.checker.requestAvatarId(Client(b"JOE", b"secret")), b"f:joe@x")

    def test_wrong_digest_unknown_user_and_hashed_password_are_refused_alike(self) -> None:
        """Nobody learns who exists or how his password is stored."""
        for name, secret in ((b"joe", b"x"), (b"nobody", b"secret"), (b"jim", b"test")):
            self.assertIs(self.refusal(name, secret), BadCredentials)

    def test_disabled_account_is_told_after_a_right_digest_only(self) -> None:
        """As with passwords."""
        self.assertIs(self.refusal(b"off", b"s"), AccountDisabled)
        self.assertIs(self.refusal(b"off", b"x"), BadCredentials)

    def test_sources_know_whose_passwords_are_stored_as_they_are(self) -> None:
        """One answer for every account; a file that cannot be read has none."""
        self.assertEqual(self.source.mechanisms(), [PROVES, NOTHING, PROVES])
        self.assertEqual(PasswdFile("f", means(), self.mktemp()).mechanisms(), (NOTHING,))

    def test_secrets_are_found_in_plain_schemes_only(self) -> None:
        """Locked, broken and hashed entries have none."""
        self.assertEqual(plain_secret("{PLAIN}abc"), b"abc")
        self.assertEqual(plain_secret("{CLEARTEXT}abc"), b"abc")
        for stored in ("", "!", "*", "{PLAIN}", "{NO-SUCH}x", "{SHA}2PRZAyDhNDqRW2OUFwZQqPNdaSY="):
            self.assertIsNone(plain_secret(stored), stored)

    def test_locked_accounts_are_in_nobodys_way(self) -> None:
        """Whoever cannot log in at all neither keeps others from a mechanism nor brings one."""
        path = self.mktemp()
        locked = "".join(
            f"{name}:{stored}\n" for name, stored in zip("abcd", ("", "!", "*LK*", "!{PLAIN}x"), strict=True)
        )
        with open(path, "w", encoding="utf-8") as file:
            file.write(locked + "joe:{CRAM-MD5}abcd\n")
        self.assertEqual(list(PasswdFile("f", means(), path).mechanisms()), [frozenset(("CRAM-MD5",))])
        self.assertEqual(proves("!"), NOTHING)
        self.assertEqual(proves("{NO-SUCH}x"), NOTHING)

    def test_cram_md5_works_with_its_contexts(self) -> None:
        """{CRAM-MD5}, the two halves of HMAC-MD5, is enough for CRAM-MD5; not for APOP."""
        for secret in (b"tanstaaftanstaaf", b"x" * 100, b"s"):
            path = self.mktemp()
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"tim:{hash_password(secret, 'CRAM-MD5')}\nbad:{{CRAM-MD5}}abcd\n")
            source = PasswdFile("f", means(), path)
            self.assertEqual(source.mechanisms(), [frozenset(("CRAM-MD5",))] * 2)
            for length in (1, 42, 55, 56, 64, 200):
                challenge = b"<" * length
                right = hmac.new(secret, challenge, "md5").hexdigest().encode()
                self.assertEqual(source.requestAvatarId(CRAMMD5Credentials(b"tim", challenge, right)), b"f:tim")
                wrong = CRAMMD5Credentials(b"tim", challenge + b".", right)
                self.assertRaises(BadCredentials, source.requestAvatarId, wrong)
            apop = hashlib.md5(b"<1>" + secret).hexdigest().encode()
            self.assertRaises(BadCredentials, source.requestAvatarId, APOPCredentials(b"tim", b"<1>", apop))
            broken = CRAMMD5Credentials(b"bad", b"<1>", b"0" * 32)
            self.assertRaises(BadCredentials, source.requestAvatarId, broken)

    def test_digest_provides_its_interface(self) -> None:
        """What a source gets is a proper credential."""
        verifyObject(IUsernameHashedPassword, Digest(b"joe", lambda password: True))
