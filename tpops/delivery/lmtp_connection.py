"""
The plumbing of an LMTP connection: lines in, replies out, back-pressure, the timer and the end.

Purpose: pipelined commands (RFC 2920) are handled one after the other, and their replies leave together.  While one
waits, for an account, a disk or a delivery, those behind it stay in the input buffer; reading pauses when that is full.
What a line means, and what becomes of a message, is for the subclass, L{tpops.delivery.lmtp.LMTPServer}.
Limits: L{tpops.delivery.lmtp_shared.Options}; a command line has at most L{LINE_OCTETS} octets.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.coroutines import run_then
from tpops.delivery import lmtp_replies as replies
from tpops.delivery.lmtp_shared import Shared

_log = Logger()

#: Longest command line without its line end: RFC 5321's 512 octets, and room for long paths and parameters.
LINE_OCTETS = 2048

#: Octets of a line without an end at which the connection is closed.
_HOPELESS_OCTETS = 65536

#: Octets of unhandled input at which reading pauses.
_MOST_INPUT = 65536

_CR = 0x0D


@implementer(IHalfCloseableProtocol, IPushProducer)
class Connection(Protocol):
    """
    See the module.

    @ivar shared: what all connections have in common
    @ivar peer: the client's address, "unix" for a UNIX socket
    @ivar session: the connection's name in our log
    @ivar input: octets that came and are not handled
    @ivar at: how many of them are handled all the same, while handling goes on
    @ivar gone: the connection is lost
    """

    transport: Any  # ITCPTransport or a UNIX one; twisted declares only ITransport
    gone = False
    input = b""
    at = 0

    _busy = False
    _paused = False
    _closing = False
    _handling = False
    _read_closed = False
    _reading = True
    _skipped = 0
    _heard = 0.0
    _timer: Any = None

    def __init__(self, shared: Shared, peer: str, session: str) -> None:
        self.shared = shared
        self.peer = peer
        self.session = session
        self._output: list[bytes] = []

    # For the subclass.

    @property
    def receiving(self) -> bool:
        """Whether a message is on its way in, from MAIL to its last reply."""
        raise NotImplementedError

    def take_octets(self) -> bool:
        """Take octets of a message from C{input}, where one is under way; whether it is."""
        raise NotImplementedError

    def line_received(self, line: bytes) -> None:
        """Handle a line, which comes without its CRLF."""
        raise NotImplementedError

    def line_refused(self, reply: bytes) -> None:
        """Refuse a line that was none."""
        raise NotImplementedError

    def drop(self) -> None:
        """The connection is lost, and nothing is under way: throw an unfinished message away."""
        raise NotImplementedError

    # The connection.

    def connectionMade(self) -> None:
        """Say hello, or why not."""
        refusal = self._refusal()
        self.shared.connections.add(self)
        self._heard = self.shared.clock.seconds()
        self._arm()
        self.transport.registerProducer(self, True)
        if refusal:
            _log.warn(
                "greeting-refused: session {session}, {peer}: {reply}",
                event="greeting-refused",
                session=self.session,
                peer=self.peer,
                reply=refusal.decode("ascii").rstrip(),
            )
            self.close(refusal)
        else:
            self.send(replies.greeting(self.shared.options.hostname))

    def _refusal(self) -> bytes:
        options = self.shared.options
        if not _within(self.peer, options.networks):
            return replies.NOT_ALLOWED
        if self.shared.stopping:
            return replies.SHUTDOWN
        return replies.TOO_MANY_CONNECTIONS if len(self.shared.connections) >= options.most_connections else b""

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Deliveries that have begun go on; an unfinished message is thrown away."""
        self.gone = True
        self.input = b""
        self.shared.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._busy:
            self.drop()

    def readConnectionLost(self) -> None:
        """The client will say nothing more, and still gets its replies."""
        self._read_closed = True
        if not (self._busy or self._paused):
            self.close()

    def writeConnectionLost(self) -> None:
        """We never close one direction only."""

    def stop(self) -> None:
        """The server ends: say so, where a delivery is under way once that is answered."""
        if not self._busy:
            self.close(replies.SHUTDOWN)

    def abort(self) -> None:
        """End at once."""
        if not self.gone:
            self._closing = True
            self.transport.abortConnection()

    def close(self, reply: bytes = b"") -> None:
        """Send this and what is waiting, then close."""
        if not (self._closing or self.gone):
            self.send(reply)
            self._flush()
            self._closing = True
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    # Time.

    def _arm(self) -> None:
        left = self._heard + self.shared.options.timeout_seconds - self.shared.clock.seconds()
        self._timer = self.shared.clock.callLater(max(left, 0.001), self._rings)

    def _rings(self) -> None:
        self._timer = None
        now = self.shared.clock.seconds()
        if self._busy:
            # Silence is what the client should keep now.
            self._heard = now
        if now - self._heard < self.shared.options.timeout_seconds:
            self._arm()
        elif self._paused or self._closing:
            self.abort()
        else:
            # A client that does not take this either is cut off the next time.
            self.close(replies.TIMEOUT)
            self._heard = now
            self._arm()

    # Octets in.

    def dataReceived(self, data: bytes) -> None:
        """Handle what is complete, keep the rest."""
        self._heard = self.shared.clock.seconds()
        if not self._closing:
            self.input = self.input + data if self.input else data
            self._handle()

    def _handle(self) -> None:
        """Go on until something has to wait or more has to come."""
        self._handling = True
        while self.at < len(self.input) and not (self._busy or self._paused or self._closing):
            if not self.take_octets() and not self._take_line():
                break
        self._handling = False
        self.input = self.input[self.at :] if not (self._closing or self.gone) else b""
        self.at = 0
        self._flush()
        if not (self._busy or self._paused):
            if self.shared.stopping and not self.receiving:
                self.close(replies.SHUTDOWN)
            elif self._read_closed:
                self.close()
        self._limit_input()

    def _limit_input(self) -> None:
        """Stop reading when too much waits, go on when it does not."""
        full = len(self.input) > _MOST_INPUT and (self._busy or self._paused)
        if full == self._reading and not (self.gone or self._closing):
            self._reading = not full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _take_line(self) -> bool:
        """Handle a line; whether there was a whole one."""
        end = self.input.find(b"\n", self.at)
        if end < 0:
            if self._skipped or len(self.input) - self.at > LINE_OCTETS + 1:
                self._skipped += len(self.input) - self.at
                self.at = len(self.input)
                if self._skipped > _HOPELESS_OCTETS:
                    self.close(replies.LINE_TOO_LONG)
            return False
        line = self.input[self.at : end]
        self.at = end + 1
        skipped, self._skipped = self._skipped, 0
        if skipped or len(line) > LINE_OCTETS + 1:
            self.line_refused(replies.LINE_TOO_LONG)
        elif not line or line[-1] != _CR:
            self.line_refused(replies.BAD_LINE_END)
        else:
            self.line_received(line[:-1])
        return True

    # What waits.

    def start(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Do something that may have to wait; the commands behind it do so, too."""
        self._busy = True
        run_then(work, self._done)

    def _done(self, result: object) -> None:
        self._busy = False
        self._heard = self.shared.clock.seconds()
        if isinstance(result, Failure):
            _log.failure("lmtp: session {session} ends by an error", result, session=self.session)
            self.close(replies.UNAVAILABLE)
        if self.gone:
            self.drop()
        elif not self._handling:
            self._handle()

    # Octets out.

    def send(self, octets: bytes) -> None:
        """Send, together with the other replies of the segment; what is known later leaves at once."""
        if octets and not (self.gone or self._closing):
            self._output.append(octets)
            if not self._handling:
                self._flush()

    def _flush(self) -> None:
        output, self._output = self._output, []
        if output and not (self.gone or self._closing):
            self.transport.write(b"".join(output))

    def pauseProducing(self) -> None:
        """IPushProducer: the client does not take its replies."""
        self._paused = True

    def resumeProducing(self) -> None:
        """IPushProducer: he has taken them."""
        self._paused = False
        if not (self._busy or self._handling or self.gone):
            self._handle()

    def stopProducing(self) -> None:
        """IPushProducer: the connection goes; connectionLost does the rest."""


def _within(peer: str, networks: Sequence[str]) -> bool:
    """Whether a client may connect; who comes by a UNIX socket may, since its permissions say who."""
    if peer == "unix":
        return True
    address = ipaddress.ip_address(peer.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in ipaddress.ip_network(network) for network in networks)
