"""
Sessions in processes of their own: what is left of them where clients come in.

Purpose: from the words of a login to the answer of whoever verifies it, then the handing over of the connection, and
the session's figures at its end.  Without TLS the process gets the connection itself and nothing of it comes here any
more; with TLS, or when the client has sent a lot behind his login, octets are pumped both ways (L{Pump}).
Limits: memory of a pump is bounded by the buffers of its two ends; each is read only as fast as the other one takes it.
Errors: a session whose process ends without a word has ended with "error"; its locks went with it.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Protocol, cast

import attrs
from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.errors import BadCredentials, LookupUnavailable
from tpops.interfaces import ITicket
from tpops.model import Peer, Session
from tpops.protocol import replies
from tpops.protocol.actions import AnyLogin, LoginProven, LoginRejected
from tpops.protocol.relayed import Step
from tpops.server.glance import Seen
from tpops.server.pace import PER_SESSION
from tpops.server.reasons import SESSION_LIMIT, WRITE_STALLED
from tpops.server.transport import TCPServer

if TYPE_CHECKING:
    from tpops.server.pop3 import POP3Server

_log = Logger()

#: Octets behind the login that are handed over in words.
MOST_REST_OCTETS = 16384

#: Seconds between two looks at whether our own replies have left.
_LOOK_SECONDS = 0.02

#: What a process says that was told to end.
_STOPPED = "server shutdown"

#: Figures that a session has while it lasts, and when it ends.
_MEANWHILE = ("retr_count", "retr_octets", "top_count", "top_octets")
_FIGURES = (*_MEANWHILE, "messages_left", "octets_left", "dele_count")


@attrs.frozen
class Opened:
    """
    A maildrop that is open in another process.

    @ivar checksum: of the list of unique-ids
    @ivar program: it is no server of ours that serves it
    @ivar greets: and it answers the login itself
    """

    user: str
    driver: str
    folder: str
    messages: int
    octets: int
    checksum: int = 0
    program: bool = False
    greets: bool = False

    def uidl_checksum(self) -> int:
        """See L{tpops.model.Listed}."""
        return self.checksum


class Figures(Protocol):
    """What a session says at its end: its reason, and the counts of L{Session} by their names there."""

    @property
    def reason(self) -> str:
        """See L{Session.reason}."""

    @property
    def update_seconds(self) -> float | None:
        """See L{Session}."""

    @property
    def slowed(self) -> int:
        """Milliseconds that it has waited for the limit of its bandwidth."""


class Doing(Protocol):
    """What a session says meanwhile: the counts of what was sent, and this."""

    @property
    def doing(self) -> str:
        """See L{Seen}."""

    @property
    def updating(self) -> bool:
        """See L{Seen}."""

    @property
    def idle(self) -> int:
        """Milliseconds since the client was heard of."""


class Control(Protocol):
    """The line to one session's process."""

    def opened(self) -> Awaitable[Opened]:
        """Its maildrop, once it is open.  @raise TpopsError: when it is not"""

    def go(self, server: POP3Server, first: bytes, rest: bytes, descriptor: int) -> None:
        """Hand the connection over."""

    def ended(self) -> Awaitable[Figures | None]:
        """Its figures, when it has ended; None when it did so without a word."""

    def stop(self) -> None:
        """It is to end, and removes nothing unless it is in UPDATE."""

    def close(self) -> None:
        """Nobody listens to it any more; it then ends as for C{stop}."""


class Apart(Protocol):
    """Who starts sessions in processes of their own."""

    def ask(self, action: AnyLogin, peer: Peer, stamp: bytes) -> Control:
        """Begin a login.  @raise LookupUnavailable: when that is not possible now"""

    def step(self, step: Step) -> Awaitable[object]:
        """What becomes of a message of a SASL exchange.  @raise LookupUnavailable: when nobody can say"""


#: Two sockets that are connected with each other.
Pair = tuple[socket.socket, socket.socket]


@attrs.define
class Begun:
    """
    A session that can be handed over.

    @ivar ticket: its user's place, None where nobody counts
    @ivar pair: what octets are carried over where the connection has TLS, until the session has it
    """

    control: Control
    opened: Opened
    ticket: ITicket | None
    pair: Pair | None = None

    def close(self) -> None:
        """It is over."""
        self.control.close()
        for one in self.taken_pair() or ():
            one.close()
        if self.ticket is not None:
            self.ticket.release()

    def taken_pair(self) -> Pair | None:
        """The pair, which is somebody else's from now on."""
        pair, self.pair = self.pair, None
        return pair


async def open_apart(server: POP3Server, action: AnyLogin, apart: Apart) -> Begun:
    """
    Have a login verified and the maildrop opened.

    Those who wait for a lock do not count as sessions of their user yet: here his name is known afterwards only.

    @raise TpopsError: as the portal would
    """
    if isinstance(action, LoginRejected):
        raise BadCredentials(action.why)
    if isinstance(action, LoginProven):
        raise LookupUnavailable("this mechanism proves nothing to another process")
    peer = server.session.peer
    control = apart.ask(action, peer, server.conversation.stamp or b"")
    try:
        opened = await control.opened()
        ticket = server.shared.limiter.admit_user(peer, opened.user)
    except BaseException:
        control.close()
        raise
    begun = Begun(control, opened, ticket)
    try:
        if server.encrypted:
            begun.pair = _pair()
        name = f"{opened.user}\n{opened.folder}" if opened.folder else opened.user
        server.shared.limiter.login_delay(peer, name)
    except BaseException:
        begun.close()
        raise
    return begun


async def serve_apart(server: POP3Server, begun: Begun) -> None:
    """Let the process serve the client, and wait for its end."""
    control, opened, session = begun.control, begun.opened, server.session
    session.user, session.folder, session.driver = opened.user, opened.folder, opened.driver
    session.messages_at_login = session.messages_left = opened.messages
    session.octets_at_login = session.octets_left = opened.octets
    session.listing = opened
    server.apart = control
    server.shared.strangers.leave(server)
    try:
        unfinished = None if server.gone else server.shared.events.logged_in(session)
        if unfinished is not None:
            await unfinished
        await _all_sent(server)
        if server.gone:
            control.close()
        else:
            await _handed_over(server, begun)
    finally:
        server.apart = None
        begun.close()


async def _all_sent(server: POP3Server) -> None:
    """What we have sent must leave before the other process sends."""
    while not server.gone and server.left_to_send():
        await server.sleep(_LOOK_SECONDS)


def _pair() -> Pair:
    """
    What octets are carried over.

    @raise LookupUnavailable: when there is none for now
    """
    try:
        return socket.socketpair()
    except OSError as problem:
        raise LookupUnavailable(f"no sockets for the session: {problem.strerror}") from None


async def _handed_over(server: POP3Server, begun: Begun) -> None:
    control, opened = begun.control, begun.opened
    answer = replies.program_serves(opened.user) if opened.program else _answer(opened)
    first = b"" if opened.greets else answer
    rest = server.leave_to_others()
    pump = None
    if server.encrypted or len(rest) > MOST_REST_OCTETS or (rest and opened.program):
        try:
            pair = begun.taken_pair() or _pair()
        except LookupUnavailable as problem:
            _log.error("session {session}: {why}", session=server.session.peer.session, why=str(problem))
            server.abort("error")
            return
        pump, its = Pump.between(server, pair)
        try:
            control.go(server, first, b"", its.fileno())
        finally:
            its.close()
        pump.begin(rest)
    else:
        control.go(server, first, rest, server.transport.fileno())
    figures = await control.ended()
    _take(server.session, figures)
    if server.session.dele_count:
        server.shared.events.emit("remove", server.session, str(server.session.dele_count))
    if figures is not None and figures.slowed and server.shared.bandwidth is not None:
        server.pace = server.shared.bandwidth.pace()
        server.pace.waited[PER_SESSION] = figures.slowed / 1000
    reason = figures.reason if figures is not None else "error"
    if reason == _STOPPED:
        reason = server.stopped_for or reason
    if figures is None:
        _log.error("session {session}: its process has ended without a word", session=server.session.peer.session)
    server.apart = None
    if reason in (WRITE_STALLED, SESSION_LIMIT):
        server.abort(reason)
    else:
        if pump is not None:
            await pump.all_through(server.shared.options.write_timeout_seconds)
        server.close(reason)


def _answer(opened: Opened) -> bytes:
    return replies.logged_in(opened.user, opened.messages, opened.octets)


def _take(session: Session, figures: Figures | None) -> None:
    if figures is not None:
        for name in _FIGURES:
            setattr(session, name, getattr(figures, name))
        session.update_seconds = figures.update_seconds


def take_note(server: POP3Server, now: Doing) -> None:
    """The process says how far it is."""
    if server.apart is not None:
        server.seen = Seen(now.doing, now.updating)
        server.timer.last_input = server.shared.clock.seconds() - now.idle / 1000
        for name in _MEANWHILE:
            setattr(server.session, name, getattr(now, name))


def take_transcript(server: POP3Server, line: str) -> None:
    """The process says what is for the transcript."""
    transcript = server.shared.transcript
    if transcript is not None and server.transcribed:
        transcript.tell(server.session.peer.session, line)


class Pump(protocol.Protocol):
    """
    Carries octets between a client and the process that serves him, both ways.

    @param server: the client's connection
    """

    transport: Any

    def __init__(self, server: POP3Server) -> None:
        self._server = server
        self._through: Deferred[None] = Deferred()
        self._gone = False

    @classmethod
    def between(cls, server: POP3Server, pair: Pair) -> tuple[Pump, socket.socket]:
        """A pump, and the end of it for the other process."""
        ours, its = pair
        pump = cls(server)
        ours.setblocking(False)
        pump.makeConnection(TCPServer(ours, pump, ("pump", 0), cast(Any, None), 0, cast(Any, server.shared.clock)))
        return pump, its

    def begin(self, rest: bytes) -> None:
        """Carry from now on, first what the client has sent already."""
        client = self._server.transport
        client.unregisterProducer()
        client.registerProducer(self.transport, True)
        self.transport.registerProducer(client, True)
        self._server.diverted = self
        if rest:
            self.transport.write(rest)
        client.resumeProducing()

    def from_client(self, octets: bytes) -> None:
        """What the client sends."""
        if not self._gone:
            self.transport.write(octets)

    def client_says_no_more(self) -> None:
        """The client has closed his half."""
        if not self._gone:
            self.transport.unregisterProducer()
            self.transport.loseWriteConnection()

    def client_gone(self) -> None:
        """The client has gone altogether."""
        if not self._gone:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """What the process sends."""
        if not self._server.gone:
            self._server.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The process has closed its end."""
        self._gone = True
        if not self._server.gone:
            self._server.transport.unregisterProducer()
        through, self._through = self._through, Deferred()
        through.callback(None)

    async def all_through(self, seconds: float) -> None:
        """Wait until all that the process has sent is on its way; not for ever."""
        if self._gone:
            return
        call = self._server.shared.clock.callLater(seconds, self._give_up)
        await self._through
        if call.active():
            call.cancel()

    def _give_up(self) -> None:
        self.transport.abortConnection()
