"""What a login brings along for the maildrop, and what it does not."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.server.harness import Harness
from tpops.errors import BadCredentials, MaildropBusy
from tpops.model import Caller, Peer


class Opened:
    """Something that was opened on the way."""

    closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1


class CallerTests(SynchronousTestCase):
    """See the module."""

    def setUp(self) -> None:
        """A portal that keeps what it is asked with."""
        self.harness = Harness()
        self.passwords: list[bytes | None] = []
        self.callers: list[Any] = []
        self.opened = Opened()
        portal = self.harness.shared.portal
        login = portal.login

        def spied(credentials: Any, mind: Any, *interfaces: Any) -> Any:
            self.callers.append(mind)
            self.passwords.append(mind.password)
            mind.brought["x"] = self.opened
            return login(credentials, mind, *interfaces)

        self.patch(portal, "login", spied)

    def plain(self, *parts: bytes) -> bytes:
        """AUTH PLAIN."""
        return b"AUTH PLAIN " + base64.b64encode(b"\0".join(parts)) + b"\r\n"

    def test_own_password_goes_with_the_login_and_no_further(self) -> None:
        """Promise: the mind of a login has the password that the client sent; afterwards it has nothing."""
        for said in (b"USER joe\r\nPASS secret\r\n", self.plain(b"", b"joe", b"secret")):
            client = self.harness.connect()
            self.assertIn(b"+OK joe", client.say(said))
            self.assertEqual(self.passwords.pop(), b"secret")
            caller = self.callers.pop()
            self.assertIsNone(caller.password)
            self.assertEqual(caller.brought, {})
            self.assertEqual(caller.session, client.server.session.peer.session)
            self.assertIs(type(client.server.session.peer), Peer)
            client.say(b"QUIT\r\n")
        self.assertEqual(self.opened.closed, 2)

    def test_failed_and_refused_logins_keep_nothing_either(self) -> None:
        """Promise: whatever becomes of a login, what it had opened is closed."""
        client = self.harness.connect()
        client.say(b"USER joe\r\nPASS wrong\r\n")
        self.harness.driver.locked.add("joe")
        other = self.harness.connect()
        self.assertIn(b"IN-USE", other.say(b"USER joe\r\nPASS secret\r\n"))
        self.assertEqual(self.opened.closed, 2)
        self.assertEqual([caller.password for caller in self.callers], [None, None])

    def test_masters_password_is_not_the_accounts(self) -> None:
        """Promise: who acts for another brings no password; who names himself twice does."""
        for parts in ((b"ann", b"joe", b"secret"), (b"joe", b"joe", b"secret")):
            self.harness.connect().say(self.plain(*parts))
        self.assertEqual(self.passwords, [None, b"secret"])

    def test_forgetting(self) -> None:
        """Promise: a password that is good here only is not taken elsewhere; what it is never shows."""
        caller = Caller.of(Peer("192.0.2.1", 7, "192.0.2.2", 110, "s"), b"secret")
        self.assertNotIn("secret", f"{caller} {caller!r}")
        self.assertEqual(
            (caller.host, caller.port, caller.local_host, caller.local_port), ("192.0.2.1", 7, "192.0.2.2", 110)
        )
        caller.forget_password()
        caller.forget_password()
        self.assertIsNone(caller.password)

    def test_refusal_by_the_other_server_is_a_failed_login(self) -> None:
        """Promise: a maildrop that is refused with the client's password is a wrong password, with its delay."""

        async def refuse(account: Any) -> Any:
            raise self.error

        self.patch(self.harness.driver, "open_maildrop", refuse)
        self.error: Exception = BadCredentials("there")
        client = self.harness.connect()
        self.assertNotIn(b"-ERR", client.say(b"USER joe\r\nPASS secret\r\n"))
        self.harness.clock.advance(2)
        self.assertIn(b"-ERR [AUTH]", client.heard())
        self.assertEqual(client.server.session.login_failures, 1)
        self.error = MaildropBusy("there")
        self.assertIn(b"-ERR [IN-USE]", client.say(b"USER joe\r\nPASS secret\r\n"))

    def test_waiting_is_part_of_the_login(self) -> None:
        """Promise: as long as the maildrop is being opened, the password is there."""
        opening: Deferred[Any] = Deferred()

        async def wait(account: Any) -> Any:
            return await opening

        self.patch(self.harness.driver, "open_maildrop", wait)
        self.harness.connect().say(b"USER joe\r\nPASS secret\r\n")
        self.assertEqual(self.callers[0].password, b"secret")
        opening.errback(MaildropBusy("there"))
        self.assertIsNone(self.callers[0].password)
