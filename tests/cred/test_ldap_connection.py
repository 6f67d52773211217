"""One connection to a directory server, octet by octet."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sansldap import (
    BindRequest,
    ExtendedOperations,
    ExtendedRequest,
    FilterPresent,
    LDAPMessage,
    LDAPResultCode,
    LDAPServer,
    SearchScope,
)
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tpops.cred.ldap_connection import ConnectionGone, LDAPConnection, Question, ServerFailed, TooLate

_QUESTION = Question("dc=example", SearchScope.SUBTREE, FilterPresent("uid"))


class Link:
    """
    A connection and what is at its other end.

    @ivar gone: how often the connection has told its end
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.transport = StringTransport()
        self.gone = 0
        self.connection = LDAPConnection(self.clock, self._ended)
        self.connection.makeConnection(self.transport)
        self.server = LDAPServer()

    def _ended(self, connection: LDAPConnection) -> None:
        self.gone += 1

    def asked(self) -> list[LDAPMessage]:
        """What the other end has received since it was asked last."""
        octets = self.transport.value()
        self.transport.clear()
        return self.server.receive(octets)

    def answer(self) -> None:
        """Deliver what the other end has answered."""
        self.connection.dataReceived(self.server.data_to_send())

    def lose(self) -> None:
        """The connection ends."""
        self.connection.connectionLost(Failure(ConnectionDone()))

    def bind(self, password: bytes = b"secret", seconds: float = 10.0) -> Deferred[object]:
        """Ask for somebody's password."""
        return Deferred.fromCoroutine(self.connection.bind("uid=joe", password, self.clock.seconds() + seconds))

    def search(self, seconds: float = 10.0) -> Deferred[object]:
        """Search."""
        return Deferred.fromCoroutine(self.connection.search(_QUESTION, 2, self.clock.seconds() + seconds))


class ConnectionTests(SynchronousTestCase):
    """L{LDAPConnection}."""

    def test_password_octets(self) -> None:
        """RFC 4511 section 4.2: a simple password is octets; they arrive as they are."""
        link = Link()
        self.assertNoResult(link.bind(b"\xff\x80 octets"))
        self.assertIn(b"\xff\x80 octets", link.transport.value())

    def test_nothing_is_left_out_of_a_bind(self) -> None:
        """RFC 4513 section 5.1: neither anonymous nor unauthenticated binds."""
        link = Link()
        self.failureResultOf(link.bind(b""), ValueError)
        nobody = Deferred.fromCoroutine(link.connection.bind("", b"secret", 10.0))
        self.failureResultOf(nobody, ValueError)
        self.assertEqual(link.transport.value(), b"")

    def test_answers_in_any_order(self) -> None:
        """RFC 4511 section 3.1: searches are answered in any order."""
        link = Link()
        slow, fast = link.search(), link.search()
        first, second = link.asked()
        link.server.search_result_done(second.message_id)
        link.answer()
        self.assertEqual(self.successResultOf(fast).entries, ())
        self.assertNoResult(slow)
        link.server.search_result_entry(first.message_id, "uid=joe", [])
        link.server.search_result_done(first.message_id)
        octets = link.server.data_to_send()
        for position in range(len(octets)):
            link.connection.dataReceived(octets[position : position + 1])
        self.assertEqual([one.object_name for one in self.successResultOf(slow).entries], ["uid=joe"])

    def test_too_late(self) -> None:
        """Promise: when the time is up, the connection is of no use any more, and all that wait on it know."""
        link = Link()
        short, long = link.search(1.0), link.search(5.0)
        link.clock.advance(1.0)
        self.failureResultOf(short, TooLate)
        self.assertTrue(link.transport.disconnected)
        link.lose()
        self.assertIn("no answer in time", str(self.failureResultOf(long, ConnectionGone).value))
        self.failureResultOf(link.search(), ConnectionGone)
        self.assertEqual((link.gone, link.connection.alive), (1, False))
        self.assertEqual(link.clock.getDelayedCalls(), [])

    @settings(deadline=None)
    @given(st.binary(min_size=1) | st.binary().map(lambda end: b"\x30\x0c\x02\x01\x01\x61\x07" + end))
    @example(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x31\x04\x00\x04\x00")
    @example(b"\x30\x84\xff\xff\xff\xff")
    def test_garbage_is_no_yes(self, octets: bytes) -> None:
        """Promise: whatever comes instead of an answer, nobody is let in by it."""
        link = Link()
        asked = link.bind()
        link.connection.dataReceived(octets)
        link.lose()
        results: list[object] = []
        asked.addBoth(results.append)
        (result,) = results
        if isinstance(result, Failure):
            result.trap(ServerFailed)
        else:
            self.assertNotEqual(result.result.result_code.value, LDAPResultCode.SUCCESS)

    def test_flood(self) -> None:
        """Promise: a server that never stops is not listened to for ever; one that answers much is."""
        link = Link()
        for _ in range(100):
            found = link.search()
            number = link.asked()[0].message_id
            link.server.search_result_entry(number, "uid=" + "x" * 100_000, [])
            link.server.search_result_done(number)
            link.answer()
            self.successResultOf(found)
        flooded = link.search()
        link.connection.dataReceived(b"\x30\x84\x7f\xff\xff\xff")
        for _ in range(50):
            if link.connection.alive:
                link.connection.dataReceived(b"x" * 100_000)
        self.assertTrue(link.transport.disconnected)
        link.lose()
        self.assertIn("more than anybody has asked for", str(self.failureResultOf(flooded, ConnectionGone).value))

    def test_answer_to_something_else(self) -> None:
        """Promise: an answer of another kind is no answer."""
        link = Link()
        asked = link.search()
        link.server.bind_response(link.asked()[0].message_id)
        link.answer()
        self.failureResultOf(asked, ServerFailed)
        self.assertTrue(link.transport.disconnected)
        link = Link()
        asked = link.bind()
        link.connection.dataReceived(b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00")
        self.failureResultOf(asked, ServerFailed)
        self.assertTrue(link.transport.disconnected)

    def test_close(self) -> None:
        """RFC 4511 section 4.3: an unbind is sent; who does not hang up then is hung up on."""
        link = Link()
        link.connection.close()
        self.assertTrue(link.transport.value().startswith(b"\x30"))
        self.assertTrue(link.transport.disconnecting)
        link.connection.close()
        link.clock.advance(10.0)
        self.assertTrue(link.transport.disconnected)
        other = Link()
        other.connection.close()
        other.lose()
        self.assertEqual(other.clock.getDelayedCalls(), [])


class StartTLSTests(SynchronousTestCase):
    """RFC 4511 section 4.14."""

    def start(self, link: Link) -> Deferred[None]:
        """Ask for TLS."""
        context = CertificateOptions(verify=False)
        return Deferred.fromCoroutine(link.connection.start_tls(context, link.clock.seconds() + 10.0))

    def test_refused(self) -> None:
        """Promise: without TLS there is no connection, and no password on it."""
        link = Link()
        started = self.start(link)
        (request,) = link.asked()
        self.assertIsInstance(request, ExtendedRequest)
        link.server.extended_response(request.message_id, result_code=LDAPResultCode.UNWILLING_TO_PERFORM)
        link.answer()
        self.assertIn("StartTLS was refused", str(self.failureResultOf(started, ServerFailed).value))
        self.assertTrue(link.transport.disconnected)
        self.failureResultOf(link.bind(), ConnectionGone)

    def test_what_came_before_is_forgotten(self) -> None:
        """RFC 4511 section 4.14.3: an answer that somebody has put before the handshake answers nothing."""
        link = Link()
        started = self.start(link)
        (request,) = link.asked()
        link.server.extended_response(request.message_id, ExtendedOperations.LDAP_START_TLS.value)
        # The beginning of an answer to the next request, whose number can be guessed.
        injected = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01"
        link.connection.dataReceived(link.server.data_to_send() + injected)
        self.assertNoResult(started)
        self.assertEqual(link.connection._session._incoming_buffer, b"")
        self.assertEqual(link.transport.value()[:1], b"\x16")
        link.clock.advance(10.0)
        self.assertIn("TLS was not on in time", str(self.failureResultOf(started, ServerFailed).value))
        self.assertTrue(link.transport.disconnected)

    def test_two_answers(self) -> None:
        """Promise: a second answer in the same packet, which nobody has asked for, ends the connection."""
        link = Link()
        started = self.start(link)
        (request,) = link.asked()
        link.server.extended_response(request.message_id, ExtendedOperations.LDAP_START_TLS.value)
        link.connection.dataReceived(link.server.data_to_send() * 2)
        link.lose()
        self.failureResultOf(started, ServerFailed)
        self.failureResultOf(link.bind(), ConnectionGone)


class BindTests(SynchronousTestCase):
    """What a bind asks for."""

    def test_policy_control(self) -> None:
        """draft-behera-ldap-password-policy section 6.1: the answer may say why, so that is asked for."""
        link = Link()
        self.assertNoResult(link.bind())
        (request,) = link.asked()
        self.assertIsInstance(request, BindRequest)
        self.assertEqual(
            [(one.control_type, one.critical) for one in request.controls], [("1.3.6.1.4.1.42.2.27.8.5.1", False)]
        )
