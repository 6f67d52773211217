"""
The POP3 server's second entrance: a connection whose client has logged in elsewhere.

Purpose: begins in TRANSACTION with a mailbox, in a process that knows nothing of accounts and passwords.  There is no
greeting, no AUTHORIZATION and no place to come back to it from.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NoReturn

from twisted.cred.portal import IRealm
from zope.interface import implementer

from tpops.errors import LookupUnavailable
from tpops.interfaces import IEvents, ILimiter, ITicket
from tpops.mailbox.view import Mailbox
from tpops.model import Peer, Session
from tpops.protocol.capabilities import Offer
from tpops.server.login import Logout
from tpops.server.offers import OFF
from tpops.server.pop3 import POP3Server
from tpops.server.shared import Shared
from tpops.server.transcript import TranscribedServer


class Entered(POP3Server):
    """
    See the module.

    @param offer: what CAPA tells
    @param first: what the client is sent first, the answer to his login
    @param rest: what he has sent behind it
    @ivar moved: is called when the client sends something
    """

    moved: Callable[[], None] | None = None

    def __init__(
        self,
        shared: Shared,
        peer: Peer,
        opened: tuple[Mailbox, Logout],
        offer: Offer,
        first: bytes,
        rest: bytes,
    ) -> None:
        super().__init__(shared, peer, OFF)
        self._opened = opened
        self._answer = first
        self._rest = rest
        self.conversation.offer = offer

    def connectionMade(self) -> None:
        """Go on where the login has ended."""
        mailbox, logout = self._opened
        session = self.session
        session.user, session.driver = mailbox.account.name, mailbox.account.driver
        session.messages_at_login, session.octets_at_login = mailbox.stat()
        session.messages_left, session.octets_left = session.messages_at_login, session.octets_at_login
        self.shared.connections.add(self)
        self.timer.arm()
        self.transport.registerProducer(self, True)
        self.logged_in(mailbox, logout)
        self.send(self._answer)
        if self._rest:
            self.dataReceived(self._rest)

    def handle_input(self) -> None:
        """See L{Connection.handle_input}."""
        if self.moved is not None:
            self.moved()
        super().handle_input()


class TranscribedEntered(TranscribedServer, Entered):
    """One of which a transcript is kept."""


@implementer(IRealm)
class NoLogins:
    """Nobody logs in here."""

    def requestAvatar(self, avatarId: object, mind: object, *interfaces: object) -> NoReturn:
        """See L{IRealm}."""
        raise LookupUnavailable("nobody logs in here")


@implementer(ILimiter, ITicket)
class NoLimits:
    """The limits are kept where clients come in."""

    def admit(self, peer: Peer) -> NoLimits:
        """See L{ILimiter}."""
        return self

    def release(self) -> None:
        """See L{ITicket}."""

    def admit_user(self, peer: Peer, name: str) -> None:
        """See L{ILimiter}."""

    def exempt(self, peer: Peer) -> bool:
        """See L{ILimiter}: who is exempt has no limit set here."""
        return False

    def failed(self, peer: Peer, name: bytes, proof: bytes) -> float:
        """See L{ILimiter}."""
        return 0.0

    def login_delay(self, peer: Peer, name: str) -> None:
        """See L{ILimiter}."""


@implementer(IEvents)
class OnlyTheEnd:
    """
    Events are told where clients come in, from what is known at the end.

    @param ended: called once, when the connection is over
    """

    def __init__(self, ended: Callable[[Session], None]) -> None:
        self._ended = ended

    def emit(self, kind: str, session: Session, detail: str = "") -> None:
        """See L{IEvents}."""
        if kind == "disconnect":
            self._ended(session)

    def logged_in(self, session: Session) -> Awaitable[None] | None:
        """See L{IEvents}."""
        return None
