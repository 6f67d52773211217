"""
A directory server for what a real one does not say when it is asked to: it speaks LDAP and answers as the test says.

Its codec is the server's half of the library that the driver uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sansldap import (
    BindRequest,
    ExtendedOperations,
    LDAPMessage,
    LDAPResultCode,
    LDAPServer,
    PartialAttribute,
    ProtocolError,
    SearchRequest,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.cred.fakes import means
from tpops.cred.ldap import LDAPAccounts

JOE = "uid=joe,dc=example"

#: What a test answers a request with: calls methods of the session, closes the transport, or does nothing.
Answer = Callable[["Peer", LDAPMessage], object]


class Peer(Protocol):
    """
    One connection.

    @ivar session: makes answers; what they are is sent when the answer is done
    """

    def __init__(self, directory: FakeDirectory) -> None:
        self.directory = directory
        self.session = LDAPServer()

    def connectionMade(self) -> None:
        self.directory.peers.append(self)
        self.directory.connections += 1

    def dataReceived(self, data: bytes) -> None:
        try:
            messages = self.session.receive(data)
        except ProtocolError:
            self.transport.loseConnection()
            return
        for message in messages:
            self.directory.asked.append((self, message))
            self.directory.answer(self, message)
        self.flush()

    def flush(self) -> None:
        """Send what was answered."""
        self.transport.write(self.session.data_to_send())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.directory.peers.remove(self)
        if not self.directory.peers and self.directory.empty is not None:
            self.directory.empty.callback(None)


class FakeDirectory:
    """
    See the module.

    @ivar answer: what becomes of a request; a test changes it
    @ivar asked: every request and its connection
    @ivar peers: the open connections
    @ivar connections: how many there have been
    """

    def __init__(self, testcase: TestCase) -> None:
        self.answer: Answer = usual
        self.asked: list[tuple[Peer, LDAPMessage]] = []
        self.peers: list[Peer] = []
        self.connections = 0
        self.empty: Deferred[None] | None = None
        self._port = reactor.listenTCP(0, Factory.forProtocol(lambda: Peer(self)), interface="127.0.0.1")
        testcase.addCleanup(self._end)

    @property
    def url(self) -> str:
        """Its address."""
        return f"ldap://127.0.0.1:{self._port.getHost().port}"

    def questions(self, kind: type[Any]) -> list[Any]:
        """The requests of a kind, without those of the driver itself."""
        return [one for _, one in self.asked if isinstance(one, kind) and getattr(one, "name", "") != "cn=reader"]

    async def _end(self) -> None:
        await maybeDeferred(self._port.stopListening)
        if self.peers:
            self.empty = Deferred()
            for peer in self.peers:
                peer.transport.abortConnection()
            await self.empty


def usual(peer: Peer, message: LDAPMessage) -> None:
    """Every name is joe's, and every password right."""
    session = peer.session
    if isinstance(message, BindRequest):
        session.bind_response(message.message_id)
    elif isinstance(message, SearchRequest):
        session.search_result_entry(message.message_id, JOE, [PartialAttribute("home", [b"/home/joe"])])
        session.search_result_done(message.message_id)


def binds(code: LDAPResultCode, text: str = "") -> Answer:
    """As usual, and users' binds get this answer."""

    def answer(peer: Peer, message: LDAPMessage) -> None:
        if isinstance(message, BindRequest) and message.name != "cn=reader":
            peer.session.bind_response(message.message_id, result_code=code, diagnostics_message=text)
        else:
            usual(peer, message)

    return answer


def searches(code: LDAPResultCode) -> Answer:
    """As usual, and searches get this answer and no entry."""

    def answer(peer: Peer, message: LDAPMessage) -> None:
        if isinstance(message, SearchRequest):
            peer.session.search_result_done(message.message_id, code)
        else:
            usual(peer, message)

    return answer


def disconnect(peer: Peer, message: LDAPMessage) -> None:
    """A server that ends, RFC 4511 section 4.4.1."""
    peer.session.extended_response(
        message.message_id,
        ExtendedOperations.LDAP_NOTICE_OF_DISCONNECTION.value,
        result_code=LDAPResultCode.UNAVAILABLE,
        diagnostics_message="going down",
    )
    peer.flush()
    peer.transport.loseConnection()


def accounts(testcase: TestCase, *directories: FakeDirectory, clock: Any = reactor, **keys: object) -> LDAPAccounts:
    """A source on these directories, which ends with the test."""
    settings: dict[str, object] = {
        "urls": tuple(one.url for one in directories),
        "tls": "off",
        "tls_ca": "",
        "tls_verify": True,
        "bind_dn": "cn=reader",
        "bind_password": "secret of reader",
        "bind_password_file": "",
        "base_dn": "dc=example",
        "filter": "(uid=$(user))",
        "scope": "subtree",
        "enabled_filter": "",
        "mailbox": "",
        "mailbox_attribute": "",
        "mailbox_type_attribute": "",
        "home_attribute": "home",
        "mail_user": "",
        "mail_user_attribute": "",
        "mail_group": "",
        "mail_group_attribute": "",
        "timeout_seconds": 60.0,
        "connections": 4,
        **keys,
    }
    source = LDAPAccounts("ldap", means(seconds=clock.seconds, reactor=clock), **settings)
    source.start()
    testcase.addCleanup(source.stop)
    return source
