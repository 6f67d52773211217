"""Connections with questions and answers, and the policy service over one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.postfix.fakes import FakeStore
from tpops.db.relay import Facts
from tpops.postfix import policy
from tpops.postfix.answering import AnsweringFactory
from tpops.postfix.policy_server import PolicyQuestions
from tpops.postfix.relaying import Relaying

JOE = "joe@example.org"


def request(address: str = "192.0.2.1", sender: str = JOE) -> bytes:
    """A request as Postfix sends it."""
    return f"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address={address}\nsender={sender}\n\n".encode()


class PolicyServiceTests(SynchronousTestCase):
    """Requests in, actions out."""

    def setUp(self) -> None:
        self.store = FakeStore()
        self.store.open("192.0.2.1", JOE)
        self.threads: list[Deferred[Facts]] = []
        self.factory = self.make_factory()

    def make_factory(self, in_thread: bool = False, on_error: str = "DUNNO") -> AnsweringFactory[Any]:
        """The service."""
        store: Any = self.store

        def later(work: Any, *arguments: str) -> Deferred[Facts]:
            self.threads.append(Deferred())
            return self.threads[-1].addCallback(lambda _: work(*arguments))

        relaying = Relaying(store, False, 64, Clock().seconds, later if in_thread else None)
        return AnsweringFactory(lambda: PolicyQuestions(relaying, "OK POP before SMTP", on_error))

    def connect(self) -> tuple[Any, StringTransport]:
        """A connection."""
        protocol, transport = self.factory.buildProtocol(None), StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def actions(self, transport: StringTransport) -> list[str]:
        """What has been answered since the last time."""
        text = transport.value().decode()
        transport.clear()
        self.assertTrue(not text or text.endswith("\n\n"))
        return [one.removeprefix("action=") for one in text.split("\n\n")[:-1]]

    def test_action_for_an_exact_hit_and_dunno_for_the_rest(self) -> None:
        """Many requests on one connection, in one piece or octet by octet, answered in order."""
        protocol, transport = self.connect()
        octets = request() + request("192.0.2.2") + request(sender="ann@example.org") + request()
        wanted = ["OK POP before SMTP", "DUNNO", "DUNNO", "OK POP before SMTP"]
        protocol.dataReceived(octets)
        self.assertEqual(self.actions(transport), wanted)
        for octet in octets:
            protocol.dataReceived(bytes((octet,)))
        self.assertEqual(self.actions(transport), wanted)

    def test_malformed_and_oversized_are_dunno(self) -> None:
        """The connection goes on."""
        protocol, transport = self.connect()
        protocol.dataReceived(b"rubbish\n\n" + b"sender=" + b"x" * 100_000 + b"\n\n" + request())
        self.assertEqual(self.actions(transport), ["DUNNO", "DUNNO", "OK POP before SMTP"])

    @given(
        st.lists(st.binary(max_size=40) | st.sampled_from([request(), b"\n\n", b"sender=", b"=", b"\n"]), max_size=12)
    )
    def test_any_octets(self, pieces: list[bytes]) -> None:
        """There is a reply for each empty line, and OK for whole requests of who may relay alone."""
        protocol, transport = self.connect()
        for piece in pieces:
            protocol.dataReceived(piece)
        octets = b"".join(pieces)
        actions = self.actions(transport)
        self.assertEqual(len(actions), octets.count(b"\n\n"))
        self.assertLessEqual(actions.count("OK POP before SMTP"), octets.count(request()))

    def test_what_never_ends_ends_the_connection(self) -> None:
        """Somebody who is no Postfix."""
        protocol, transport = self.connect()
        for _ in range(policy.HOPELESS_OCTETS // 65536 + 2):
            protocol.dataReceived(b"x" * 65536)
        self.assertEqual((self.actions(transport), transport.disconnecting), ([], True))

    def test_broken_store(self) -> None:
        """What is configured for that, and never the action."""
        self.store.broken = "gone"
        for on_error in ("DUNNO", "DEFER_IF_REJECT try again"):
            self.factory = self.make_factory(on_error=on_error)
            protocol, transport = self.connect()
            protocol.dataReceived(request())
            self.assertEqual(self.actions(transport), [on_error])

    def test_answers_that_come_later_keep_their_order(self) -> None:
        """One question at a time; nothing is read meanwhile."""
        self.factory = self.make_factory(in_thread=True)
        protocol, transport = self.connect()
        protocol.dataReceived(request() + b"rubbish\n\n" + request("192.0.2.2"))
        self.assertEqual((self.actions(transport), transport.producerState, len(self.threads)), ([], "paused", 1))
        self.threads[0].callback(None)
        self.assertEqual(self.actions(transport), ["OK POP before SMTP", "DUNNO"])
        self.assertEqual((transport.producerState, len(self.threads)), ("paused", 2))
        self.threads[1].callback(None)
        self.assertEqual((self.actions(transport), transport.producerState), (["DUNNO"], "producing"))

    def test_peer_that_does_not_read(self) -> None:
        """Nothing more is read from it until it does."""
        protocol, transport = self.connect()
        self.assertIs(transport.producer, protocol)
        protocol.pauseProducing()
        self.assertEqual(transport.producerState, "paused")
        protocol.resumeProducing()
        self.assertEqual(transport.producerState, "producing")

    def test_peer_that_goes_while_it_is_answered(self) -> None:
        """Nobody is written to."""
        self.factory = self.make_factory(in_thread=True)
        protocol, transport = self.connect()
        protocol.dataReceived(request() * 2)
        protocol.connected = 0
        protocol.connectionLost()
        self.threads[0].callback(None)
        self.assertEqual((self.actions(transport), len(self.threads)), ([], 1))

    def test_close(self) -> None:
        """Open connections are closed, those that are being answered get their answer first."""
        self.factory = self.make_factory(in_thread=True)
        (idle, idle_transport), (busy, busy_transport) = self.connect(), self.connect()
        busy.dataReceived(request())
        self.factory.close()
        self.assertEqual((idle_transport.disconnecting, busy_transport.disconnecting), (True, False))
        self.threads[0].callback(None)
        self.assertEqual((self.actions(busy_transport), busy_transport.disconnecting), (["OK POP before SMTP"], True))
        self.assertIsNotNone(idle)
