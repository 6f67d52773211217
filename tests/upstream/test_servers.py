"""Places, logins and what refusals mean."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.upstream.fakes import Gone, Script, settings, split, upstream
from tpops.errors import (
    BadCredentials,
    ConfigError,
    MaildropBroken,
    MaildropBusy,
    StorageUnavailable,
    TooSoon,
)
from tpops.model import Caller, Peer
from tpops.upstream import tls
from tpops.upstream.login import Identity
from tpops.upstream.servers import IMPLICIT, STARTTLS, Place, Upstream

JOE = Identity(b"joe", b"secret")
STAMPED = b"+OK ready <1.2@host>\r\n"
SASL = b"+OK\r\nSASL PLAIN\r\n.\r\n"


class LoginCase(SynchronousTestCase):
    """Words for these tests."""

    def start(self, script: Script | None, identity: Identity = JOE, peer: Peer | None = None, **given: Any) -> Any:
        """Begin to log in."""
        self.clock = Clock()
        self.upstream = upstream(script, self.clock, **given)
        place = self.upstream.place("joe")
        running = Deferred.fromCoroutine(self.upstream.log_in(place, identity, peer))
        self.clock.advance(0)
        return running

    def in_session(self, script: Script, identity: Identity = JOE, **given: Any) -> Any:
        """Log in."""
        return self.successResultOf(self.start(script, identity, **given))

    def refused(self, error: type[Exception], script: Script | None, identity: Identity = JOE, **given: Any) -> str:
        """Log in in vain; the connection has ended then."""
        problem = self.failureResultOf(self.start(script, identity, **given), error).value
        self.assertIs(type(problem), error)
        if script is not None and script.pipes:
            self.assertTrue(script.pipe.ended)
        self.assertFalse(self.upstream._connections)
        self.assertFalse(self.clock.getDelayedCalls())
        return str(problem)


class WayTests(LoginCase):
    """How to log in."""

    def said(self, script: Script, identity: Identity = JOE, **given: Any) -> list[bytes]:
        """What was sent for the login."""
        self.in_session(script, identity, **given)
        return script.said[1:]

    def test_user_and_pass(self) -> None:
        """RFC 1939 §7: without TLS, timestamp and SASL, it is USER and PASS; spaces are a part of the password."""
        self.assertEqual(self.said(Script(), Identity(b"joe", b" a b ")), [b"USER joe", b"PASS  a b "])
        self.assertEqual(self.said(Script(CAPA=b"-ERR\r\n")), [b"USER joe", b"PASS secret"])
        self.assertEqual(self.said(Script(CAPA=SASL)), [b"USER joe", b"PASS secret"])

    def test_apop(self) -> None:
        """RFC 1939 §7: with a timestamp the password is not sent; the digest is over timestamp and password."""
        script = Script(STAMPED, APOP=b"+OK\r\n")
        digest = hashlib.md5(b"<1.2@host>secret").hexdigest().encode()
        self.assertEqual(self.said(script), [b"APOP joe " + digest])
        self.assertEqual(self.said(Script(STAMPED), way="user"), [b"USER joe", b"PASS secret"])
        self.assertIn("no timestamp", self.refused(MaildropBroken, Script(), way="apop"))

    def test_auth_plain(self) -> None:
        """RFC 4616, RFC 5034: in one line, or in two where that would be too long or the server asks again."""
        response = base64.b64encode(b"\0joe\0secret")
        self.assertEqual(self.said(Script(AUTH=b"+OK\r\n"), way="plain"), [b"AUTH PLAIN " + response])
        script = Script(AUTH=b"+ \r\n", **{response.decode(): b"+OK\r\n"})
        self.assertEqual(self.said(script, way="plain"), [b"AUTH PLAIN " + response, response])
        long = Identity(b"joe", b"x" * 200)
        response = base64.b64encode(b"\0joe\0" + long.password)
        script = Script(AUTH=b"+ \r\n", **{response.decode(): b"+OK\r\n"})
        self.assertEqual(self.said(script, long, way="plain"), [b"AUTH PLAIN", response])
        script = Script(AUTH=b"+ \r\n", **{response.decode(): b"+ \r\n", "*": b"-ERR\r\n"})
        self.assertIn("more than one response", self.refused(StorageUnavailable, script, long, way="plain"))

    def test_password_with_a_line_end_is_no_command(self) -> None:
        """Promise: it goes by AUTH PLAIN, or nowhere; nothing of it ever stands in a line of its own."""
        evil = Identity(b"joe", b"x\r\nDELE 1")
        response = base64.b64encode(b"\0joe\0x\r\nDELE 1")
        self.assertEqual(self.said(Script(CAPA=SASL, AUTH=b"+OK\r\n"), evil), [b"AUTH PLAIN " + response])
        for way in ("auto", "user"):
            script = Script()
            self.assertIn("by AUTH PLAIN only", self.refused(MaildropBroken, script, evil, way=way))
            self.assertEqual(script.said, [b"CAPA"])
        self.assertIn("NUL", self.refused(MaildropBroken, Script(), Identity(b"joe", b"\0"), way="plain"))
        self.assertIn("control characters", self.refused(MaildropBroken, Script(), Identity(b"joe\r\nDELE 1", b"x")))

    def test_starttls(self) -> None:
        """RFC 2595 §4: STLS comes first; what was said without TLS is forgotten, CAPA and login come over it."""
        script = Script(STAMPED, STLS=b"+OK\r\n", CAPA=SASL, AUTH=b"+OK\r\n")
        response = base64.b64encode(b"\0joe\0secret")
        self.assertEqual(self.said(script, tls=STARTTLS), [b"TLS", b"CAPA", b"AUTH PLAIN " + response])
        script = Script(STAMPED, STLS=b"+OK\r\n")
        self.assertEqual(self.said(script, tls=STARTTLS), [b"TLS", b"CAPA", b"USER joe", b"PASS secret"])
        script = Script(STAMPED, CAPA=SASL, AUTH=b"+OK\r\n")
        self.in_session(script, tls=IMPLICIT)
        self.assertEqual(script.said, [b"TLS", b"CAPA", b"AUTH PLAIN " + response])

    def test_no_starttls_no_password(self) -> None:
        """Promise: a server that does not do STLS gets no password."""
        script = Script(STLS=b"-ERR unknown\r\n")
        self.assertIn("does not do STLS", self.refused(MaildropBroken, script, tls=STARTTLS))
        self.assertEqual(script.said, [b"STLS"])


class RefusalTests(LoginCase):
    """What a no means."""

    def test_codes_are_understood(self) -> None:
        """RFC 2449 §8, RFC 3206: each response code is an error of its own; its text is for the log."""
        cases: tuple[tuple[bytes, type[Exception]], ...] = (
            (b"-ERR [IN-USE] busy\r\n", MaildropBusy),
            (b"-ERR [LOGIN-DELAY] wait\r\n", TooSoon),
            (b"-ERR [SYS/TEMP] later\r\n", StorageUnavailable),
            (b"-ERR [SYS/PERM] never\r\n", MaildropBroken),
            (b"-ERR [AUTH] wrong\r\n", BadCredentials),
            (b"-ERR wrong\r\n", BadCredentials),
        )
        for answer, error in cases:
            text = self.refused(error, Script(PASS=answer))
            self.assertIn(answer[5:-2].decode(), text)
        self.assertIn("wrong", self.refused(BadCredentials, Script(USER=b"-ERR wrong\r\n")))

    def test_server_with_codes_means_what_it_does_not_say(self) -> None:
        """RFC 3206 §6: who announces AUTH-RESP-CODE and gives no code does not mean the password."""
        capa = b"+OK\r\nAUTH-RESP-CODE\r\n.\r\n"
        self.refused(StorageUnavailable, Script(CAPA=capa, PASS=b"-ERR maildrop locked\r\n"))
        self.refused(BadCredentials, Script(CAPA=capa, PASS=b"-ERR [AUTH] no\r\n"))

    def test_refused_greeting(self) -> None:
        """Promise: a server that is full or gone is told as such, at every moment."""
        self.refused(StorageUnavailable, Script(b"-ERR too many\r\n"))
        self.refused(MaildropBusy, Script(b"-ERR [IN-USE] x\r\n"))
        self.assertIn("cannot connect: Connection was refused", self.refused(StorageUnavailable, None))
        for key in ("CAPA", "USER", "PASS"):
            self.assertIn("closed", self.refused(StorageUnavailable, Script(**{key: Gone()})))
            self.assertIn("not an answer", self.refused(StorageUnavailable, Script(**{key: b"hello\r\n"})))

    def test_silence(self) -> None:
        """Promise: a login has an end, when the server says nothing and when it says something for ever."""
        script = Script(PASS=b"")
        running = self.start(script, timeout_seconds=10)
        self.clock.advance(10)
        self.assertIn("no answer within 10", str(self.failureResultOf(running, StorageUnavailable).value))
        script = Script(CAPA=b"+OK\r\n")
        running = self.start(script, timeout_seconds=10)
        for _ in range(3):
            self.clock.advance(7)
            if not running.called:
                script.pipe.come(b"X")
        self.assertIn("more than 20 seconds", str(self.failureResultOf(running, StorageUnavailable).value))

    def test_given_up_login_leaves_nothing(self) -> None:
        """See IMaildropDriver: cancelling releases whatever was taken."""
        running = self.start(Script(PASS=b""))
        running.cancel()
        self.failureResultOf(running)
        self.assertFalse(self.upstream._connections)
        self.assertFalse(self.clock.getDelayedCalls())

    def test_connections_are_counted(self) -> None:
        """Promise: not more than the configured number at a time; one that has ended makes room."""
        session = self.in_session(Script(), connections=1)
        other = Deferred.fromCoroutine(self.upstream.log_in(self.upstream.place("joe"), JOE))
        self.assertIn("proxy.connections", str(self.failureResultOf(other, StorageUnavailable).value))
        session.close()
        again = Deferred.fromCoroutine(self.upstream.log_in(self.upstream.place("joe"), JOE))
        self.clock.advance(0)
        self.successResultOf(again)
        self.upstream.stop()
        self.assertFalse(self.upstream._connections)

    def test_a_server_that_is_ourselves(self) -> None:
        """Promise: a client that is a connection of ours is noticed at its first login."""
        session = self.in_session(Script())
        (host, port), there = session.connection.local, session.connection.remote
        stranger = Caller.of(Peer(host, port, there[0], there[1] + 1), b"secret")
        self.assertFalse(self.upstream._is_own(stranger))
        for seen in (host, f"::ffff:{host}"):
            peer = Caller.of(Peer(seen, port, *there), b"secret")
            other = Deferred.fromCoroutine(self.upstream.log_in(self.upstream.place("joe"), JOE, peer))
            self.assertIn("is this server itself", str(self.failureResultOf(other, MaildropBroken).value))


class PlaceTests(SynchronousTestCase):
    """Where servers are."""

    def place(self, text: str, name: str = "joe@example.org", **given: Any) -> str:
        """A place, as text."""
        return str(Upstream(settings(**given), split, Clock()).place(name, text))

    def test_places(self) -> None:
        """Promise: hosts, ports, IPv6; the port is that of POP3 with or without TLS."""
        self.assertEqual(self.place("pop.x"), "pop.x:110")
        self.assertEqual(self.place("pop.x", tls="implicit"), "pop.x:995")
        self.assertEqual(self.place("[::1]:7"), "[::1]:7")
        self.assertEqual(self.place("", server="pop.$(domain):7"), "pop.example.org:7")
        self.assertEqual(self.place("", server="$(local_part).x"), "joe.x:110")

    def test_no_places(self) -> None:
        """Promise: what is no server is told with the name that it was for."""
        for text in ("a b", "x:0", "x:99999", "a/b", "-x", "[x]", "x\r\ny"):
            self.assertIn("is no server", str(self.assertRaises(MaildropBroken, self.place, text)))
        self.assertIn("proxy.server", str(self.assertRaises(MaildropBroken, self.place, "", server="")))
        error = self.assertRaises(MaildropBroken, self.place, "", "joe", server="pop.$(domain)")
        self.assertIn("needs $(domain), and 'joe' has none", str(error))

    def test_parsing(self) -> None:
        """Promise: a place is a host and a port."""
        self.assertEqual(Place.parse("x", 5), Place("x", 5))
        self.assertEqual(Upstream(settings(user="$(user)*m"), split, Clock()).user("joe"), b"joe*m")

    def test_certificates_that_cannot_be_used(self) -> None:
        """Promise: the operator is told which file is wrong, and how."""
        self.assertIn("cannot read", str(self.assertRaises(ConfigError, tls.contexts, "/nowhere/ca.pem", True)))
        self.assertIn("no certificate", str(self.assertRaises(ConfigError, tls.contexts, __file__, True)))
        host = tls.contexts("", True)("pop.example")
        self.assertIs(host, host)
        unverified = tls.contexts("", False)
        self.assertIs(unverified("a"), unverified("b"))
