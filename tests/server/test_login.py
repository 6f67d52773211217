"""Logging in, with answers that come later or never."""

from __future__ import annotations

import base64
import hashlib
import hmac

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import LOGIN, Client, Harness
from tpops.credentials import APOPCredentials, CRAMMD5Credentials
from tpops.errors import (
    AccountDisabled,
    LookupUnavailable,
    MaildropBroken,
    MaildropBusy,
    StorageUnavailable,
    TooSoon,
)
from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import CramMD5
from tpops.server.offers import ALWAYS, Offers

FAILED = b"-ERR [AUTH] authentication failed\r\n"


class PipelinedLoginTests(SynchronousTestCase):
    """RFC 2449 §6.6: PIPELINING covers USER and PASS."""

    def test_commands_behind_pass_wait_for_the_login(self) -> None:
        """They are carried out after it, in order."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        self.assertEqual(client.say(LOGIN + b"STAT\r\nUIDL 1\r\n"), b"+OK send PASS\r\n")
        harness.checker.waiting.callback(b"test:joe")
        self.assertEqual(client.heard(), b"+OK joe has 2 messages (35 octets)\r\n+OK 2 35\r\n+OK 1 a\r\n")

    def test_failures_are_counted_for_whom_the_name_means(self) -> None:
        """Promise: two names of one account are one name to the penalties, from whatever address."""
        harness = Harness()
        asked = []
        failed = harness.shared.limiter.failed
        self.patch(
            harness.shared.limiter,
            "failed",
            lambda peer, name, proof: (asked.append(name), failed(peer, name, proof))[1],
        )
        harness.shared.whose = lambda name: name.partition(b"+")[0]
        client = harness.connect()
        client.say(b"USER joe+a\r\nPASS wrong\r\n")
        self.assertEqual(asked, [b"joe"])

    def test_stat_behind_a_failed_pass_is_refused(self) -> None:
        """It must not be carried out, and not be lost."""
        harness = Harness()
        client = harness.connect()
        self.assertEqual(client.say(b"USER joe\r\nPASS wrong\r\nSTAT\r\nQUIT\r\n"), b"+OK send PASS\r\n")
        harness.clock.advance(2)
        self.assertEqual(client.heard(), FAILED + b"-ERR command not allowed now\r\n+OK bye\r\n")


class BeforeOKTests(SynchronousTestCase):
    """The +OK of a login waits for what has to be done before it."""

    def test_ok_and_what_is_behind_it_wait(self) -> None:
        """A client that sees +OK may rely on it; commands that it has sent wait with it."""
        harness = Harness()
        harness.events.ok_waits_for = Deferred()
        client = harness.connect()
        self.assertEqual(client.say(LOGIN + b"STAT\r\n"), b"+OK send PASS\r\n")
        self.assertEqual(harness.events.kinds[-1], "login")
        harness.events.ok_waits_for.callback(None)
        self.assertEqual(client.heard(), b"+OK joe has 2 messages (35 octets)\r\n+OK 2 35\r\n")

    def test_client_that_goes_meanwhile(self) -> None:
        """Its maildrop is given back once the wait is over, and nothing is said."""
        harness = Harness()
        harness.events.ok_waits_for = Deferred()
        client = harness.connect()
        client.say(LOGIN)
        client.vanish()
        self.assertEqual(harness.realm.logouts, 0)
        harness.events.ok_waits_for.callback(None)
        self.assertEqual((client.heard(), harness.realm.logouts), (b"", 1))
        self.assertEqual(harness.events.kinds, ["connect", "login", "logout", "disconnect"])


class FailureTests(SynchronousTestCase):
    """Wrong names and passwords."""

    def test_unknown_user_and_wrong_password_look_and_last_the_same(self) -> None:
        """The same reply after the same time."""
        for said in (b"USER joe\r\nPASS wrong\r\n", b"USER nobody\r\nPASS secret\r\n", b"USER \xff\r\nPASS secret\r\n"):
            harness = Harness()
            client = harness.connect()
            self.assertEqual(client.say(said), b"+OK send PASS\r\n")
            harness.clock.advance(1.99)
            self.assertEqual(client.heard(), b"")
            harness.clock.advance(0.01)
            self.assertEqual(client.heard(), FAILED)

    def test_delay_counts_from_the_command(self) -> None:
        """A slow verification does not make the answer later, so its length does not show."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN)
        harness.clock.advance(1.5)
        harness.checker.waiting.errback(UnauthorizedLogin("no"))
        self.assertEqual(client.heard(), b"")
        harness.clock.advance(0.5)
        self.assertEqual(client.heard(), FAILED)

    def test_too_many_tries_end_the_connection(self) -> None:
        """auth_tries failures, then it is closed."""
        harness = Harness(auth_tries=2)
        client = harness.connect()
        for closed in (False, True):
            client.say(b"USER joe\r\nPASS wrong\r\n")
            harness.clock.advance(2)
            self.assertTrue(client.heard().endswith(FAILED))
            self.assertEqual(client.closed, closed)
        client.vanish()
        self.assertEqual(harness.events.sessions[-1].reason, "authentication failed")
        self.assertEqual(harness.events.sessions[-1].login_failures, 2)
        self.assertEqual(harness.events.kinds.count("login-failed"), 2)

    def test_login_works_after_a_failure(self) -> None:
        """The name has to be given again."""
        harness = Harness()
        client = harness.connect()
        client.say(b"USER joe\r\nPASS wrong\r\n")
        harness.clock.advance(2)
        client.heard()
        self.assertTrue(client.say(b"PASS secret\r\n").startswith(b"-ERR send USER"))
        self.assertIn(b"+OK joe has", client.say(LOGIN))


class RefusalTests(SynchronousTestCase):
    """RFC 2449 §8 and RFC 3206: why a right password does not help."""

    def test_each_refusal_has_its_code_and_the_session_goes_on(self) -> None:
        """No delay, no counting as a failed password, and another try is possible."""
        for error, reply in (
            (MaildropBusy("x"), b"-ERR [IN-USE] "),
            (TooSoon("x"), b"-ERR [LOGIN-DELAY] "),
            (AccountDisabled("x"), b"-ERR [AUTH] account is disabled"),
            (LookupUnavailable("x"), b"-ERR [SYS/TEMP] "),
            (StorageUnavailable("x"), b"-ERR [SYS/TEMP] "),
            (MaildropBroken("x"), b"-ERR [SYS/PERM] "),
        ):
            harness = Harness()
            harness.checker.hold = True
            client = harness.connect()
            client.say(LOGIN)
            harness.checker.waiting.errback(error)
            self.assertTrue(client.heard().startswith(reply), reply)
            self.assertEqual(harness.events.sessions[-1].login_failures, 0)
            harness.checker.hold = False
            self.assertIn(b"+OK joe has", client.say(LOGIN))

    def test_second_session_is_refused_while_the_first_lasts(self) -> None:
        """RFC 1939 §4: the maildrop is locked, until logout."""
        harness = Harness()
        first = harness.logged_in()
        second = harness.connect()
        self.assertIn(b"-ERR [IN-USE]", second.say(LOGIN))
        first.vanish()
        self.assertIn(b"+OK joe has", second.say(LOGIN))

    def test_bug_in_a_checker_is_no_wrong_password(self) -> None:
        """Unknown exceptions are logged, answered by one text, and nothing is told."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN)
        harness.checker.waiting.errback(RuntimeError("password is geheim"))
        self.assertEqual(client.heard(), b"-ERR [SYS/TEMP] internal server error, it has been logged\r\n")
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)


class ApopTests(SynchronousTestCase):
    """RFC 1939 §7, APOP."""

    def test_digest_of_timestamp_and_secret(self) -> None:
        """Right digest, wrong digest."""
        harness = Harness(offer=Offer(apop=True))
        client = harness.connect(greeted=False)
        stamp = client.heard().split()[-1]
        self.assertRegex(stamp, rb"^<[!-;=?-~]+@host\.example>$")
        digest = hashlib.md5(stamp + b"secret").hexdigest().encode()
        client.say(b"APOP joe " + b"0" * 32 + b"\r\n")
        harness.clock.advance(2)
        self.assertEqual(client.heard(), FAILED)
        self.assertIn(b"+OK joe has", client.say(b"APOP joe " + digest + b"\r\n"))

    def test_timestamps_never_repeat(self) -> None:
        """RFC 1939 §7: different each time."""
        harness = Harness(offer=Offer(apop=True))
        stamps = {harness.connect(greeted=False).heard() for _ in range(50)}
        self.assertEqual(len(stamps), 50)

    def test_digest_is_not_shown(self) -> None:
        """No secret gets into a log by way of repr."""
        self.assertNotIn("abc", repr(APOPCredentials(b"joe", b"<1@h>", b"abc")))


class CramMD5Tests(SynchronousTestCase):
    """RFC 2195, through the portal."""

    def setUp(self) -> None:
        """A server whose challenges are its timestamps."""
        self.harness = Harness()
        offer = Offer(mechanisms={b"CRAM-MD5": lambda: CramMD5(self.harness.shared.stamp())})
        self.harness.shared.offers = Offers(offer, ALWAYS, ())

    def challenge(self, client: Client) -> bytes:
        """Begin; what the server sent."""
        plus, _, text = client.say(b"AUTH CRAM-MD5\r\n").partition(b" ")
        self.assertEqual((plus, text[-2:]), (b"+", b"\r\n"))
        return base64.b64decode(text[:-2], validate=True)

    def response(self, name: bytes, secret: bytes, challenge: bytes) -> bytes:
        """What a client says then."""
        digest = hmac.new(secret, challenge, "md5").hexdigest().encode()
        return base64.b64encode(name + b" " + digest) + b"\r\n"

    def test_digest_over_the_challenge(self) -> None:
        """RFC 2195 §2: right digest, and a challenge like a message-id."""
        client = self.harness.connect()
        challenge = self.challenge(client)
        self.assertRegex(challenge, rb"^<[!-;=?-~]+@host\.example>$")
        self.assertIn(b"+OK joe has", client.say(self.response(b"joe", b"secret", challenge)))

    def test_example_of_the_rfc(self) -> None:
        """RFC 2195 §2."""
        challenge = b"<1896.697170952@postoffice.reston.mci.net>"
        credentials = CRAMMD5Credentials(b"tim", challenge, b"b913a602c7eda7a495b4e6e7334d3890")
        self.assertTrue(credentials.checkPassword(b"tanstaaftanstaaf"))
        self.assertFalse(credentials.checkPassword(b"tanstaaf"))

    def test_unknown_user_and_wrong_digest_look_and_last_the_same(self) -> None:
        """The same reply after the same time, and that of a wrong password."""
        for name, secret in ((b"joe", b"wrong"), (b"nobody", b"secret"), (b"\xff", b"secret")):
            client = self.harness.connect()
            self.assertEqual(client.say(self.response(name, secret, self.challenge(client))), b"")
            self.harness.clock.advance(1.99)
            self.assertEqual(client.heard(), b"")
            self.harness.clock.advance(0.01)
            self.assertEqual(client.heard(), FAILED)

    def test_response_does_not_serve_twice(self) -> None:
        """Promise: what somebody heard on the wire opens nothing, on this connection or another."""
        client = self.harness.connect()
        heard = self.response(b"joe", b"secret", self.challenge(client))
        client.say(b"*\r\n")
        for again in (client, self.harness.connect()):
            self.challenge(again)
            again.say(heard)
            self.harness.clock.advance(2)
            self.assertEqual(again.heard(), FAILED)

    def test_challenges_never_repeat(self) -> None:
        """RFC 2195 §2: different each time, also on one connection."""
        clients = [self.harness.connect() for _ in range(10)]
        challenges = set()
        for client in clients * 2:
            challenges.add(self.challenge(client))
            client.say(b"*\r\n")
        self.assertEqual(len(challenges), 20)

    def test_digest_is_not_shown(self) -> None:
        """No secret gets into a log by way of repr."""
        self.assertNotIn("abc", repr(CRAMMD5Credentials(b"joe", b"<1@h>", b"abc")))


class VanishingTests(SynchronousTestCase):
    """A client that goes while its login is under way."""

    def test_gone_during_verification(self) -> None:
        """The mailbox that comes too late is given back, once; nothing is said to nobody."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN + b"STAT\r\n")
        client.vanish()
        self.assertEqual(harness.clock.getDelayedCalls(), [])
        harness.checker.waiting.callback(b"test:joe")
        self.assertEqual((harness.realm.logouts, harness.driver.locked), (1, set()))
        self.assertEqual(harness.events.kinds.count("disconnect"), 1)
        self.assertNotIn("login", harness.events.kinds)

    def test_gone_during_verification_that_fails(self) -> None:
        """No delay is waited for, no timer is left."""
        harness = Harness()
        harness.checker.hold = True
        client = harness.connect()
        client.say(LOGIN)
        client.vanish()
        harness.checker.waiting.errback(UnauthorizedLogin("no"))
        self.assertEqual(harness.clock.getDelayedCalls(), [])
        self.assertEqual(harness.events.kinds.count("disconnect"), 1)

    def test_gone_during_the_delay(self) -> None:
        """The timer is stopped."""
        harness = Harness()
        client = harness.connect()
        client.say(b"USER joe\r\nPASS wrong\r\n")
        client.vanish()
        self.assertEqual(harness.clock.getDelayedCalls(), [])
        self.assertEqual(harness.events.kinds.count("disconnect"), 1)

    def test_gone_while_the_maildrop_is_opened(self) -> None:
        """The lock wait, the scan: whatever comes is closed again."""

        class Slow:
            """A driver that opens when the test says so."""

            def __init__(self, driver: object) -> None:
                self.driver = driver
                self.gate: Deferred[None] = Deferred()

            async def open_maildrop(self, account: object) -> object:
                await self.gate
                return await self.driver.open_maildrop(account)

        harness = Harness()
        memory = harness.driver
        harness.realm.driver = slow = Slow(memory)
        client = harness.connect()
        client.say(LOGIN)
        client.vanish()
        slow.gate.callback(None)
        self.assertEqual((harness.realm.logouts, memory.locked, harness.clock.getDelayedCalls()), (1, set(), []))

    def test_gone_after_login(self) -> None:
        """The lock is released, logout runs once, nothing is removed."""
        harness = Harness()
        client = harness.logged_in()
        client.say(b"DELE 1\r\n")
        client.vanish()
        self.assertEqual((harness.realm.logouts, harness.driver.locked, len(harness.stored)), (1, set(), 2))
        self.assertEqual(harness.clock.getDelayedCalls(), [])
