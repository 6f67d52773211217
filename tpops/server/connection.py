"""
The plumbing of a POP3 connection: lines in, octets out, back-pressure, the timer and the end.

Purpose: all complete lines of a segment are handled in one loop and their replies leave in one write.  While a command
waits, or the client does not take its replies, lines stay in the input buffer; reading pauses when that is full.
What a line means is for the subclass, L{tpops.server.pop3.POP3Server}.
Limits: see L{ServerOptions}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.mail import pop3
from zope.interface import implementer

from tpops.errors import TpopsError
from tpops.model import Peer, Session
from tpops.protocol import replies
from tpops.protocol.commands import SASL_LINE_OCTETS
from tpops.protocol.states import Conversation
from tpops.server.reasons import (
    BAD_COMMANDS,
    COMMANDS_AFTER_LOGIN,
    COMMANDS_BEFORE_LOGIN,
    ERRORS_AFTER_LOGIN,
    ERRORS_BEFORE_LOGIN,
    IDLE,
    LINE_TOO_LONG,
    SESSION_LIMIT,
    WRITE_STALLED,
)
from tpops.server.shared import Shared
from tpops.server.timers import ConnectionTimer

if TYPE_CHECKING:
    from tpops.server.apart import Pump

#: Octets of unhandled input at which reading pauses.
_MOST_INPUT = 16384

#: Octets of replies that are collected before they are written.
_WRITE_OCTETS = 65536

_CR = 0x0D


@implementer(IHalfCloseableProtocol, IPushProducer)
class Connection(pop3.POP3):
    """
    See the module.

    @ivar shared: what all connections of a factory have in common
    @ivar session: what is known of this connection
    @ivar conversation: its protocol state
    @ivar tls: the listener's TLS mode, see L{tpops.server.offers}
    @ivar busy: a command is being carried out that has to wait
    @ivar gone: the connection is lost
    @ivar paused: the client does not take what is sent; nothing more is produced
    @ivar closing: we have closed it, and what was sent is still leaving
    @ivar diverted: takes what the client sends, where another process serves him
    """

    transport: Any  # ITCPTransport, a UNIX one or TLS over either; twisted declares only ITransport
    busy = False
    gone = False
    paused = False
    closing = False
    diverted: Pump | None = None

    _waiting: Deferred[None] | None = None
    _sleeping: Deferred[None] | None = None
    _handling = False
    _read_closed = False
    _reading = True
    _errors = 0
    _commands_left = 0
    _errors_left = 0
    _input = b""
    _at = 0
    _unsent = 0
    _left: int | None = None

    def __init__(self, shared: Shared, peer: Peer, tls: str) -> None:
        self.shared = shared
        self.tls = tls
        self.session = Session(peer, shared.epoch())
        offer = shared.offers.at_first(peer.host, tls)
        self.conversation = Conversation(offer, shared.stamp() if offer.apop else None)
        self.timer = ConnectionTimer(shared.clock, shared.options, self._expired)
        self.count_anew(shared.options.commands_before_login, shared.options.errors_before_login)
        self._output: list[bytes] = []

    # Lines in.

    def dataReceived(self, data: bytes) -> None:
        """Handle every complete line, or keep what cannot be handled yet."""
        if self.diverted is not None:
            self.diverted.from_client(data)
            return
        self._input = self._input + data if self._input else data
        if self.busy or self.paused:
            self._limit_input()
        else:
            self.handle_input()

    def readConnectionLost(self) -> None:
        """The client will say nothing more, and still gets its replies."""
        self._read_closed = True
        if self.diverted is not None:
            self.diverted.client_says_no_more()
        elif not (self.busy or self.paused):
            self.close("client closed")

    def writeConnectionLost(self) -> None:
        """We never close one direction only."""

    def handle_input(self) -> None:
        """Handle lines until none is left, one has to wait, or the client does not take the replies."""
        self.timer.input()
        self._handling = True
        data = self._input
        most = self.shared.options.command_octets - 2
        start = 0
        while not (self.busy or self.paused or self.closing):
            end = data.find(b"\n", start)
            if end < 0:
                break
            line = data[start : end - 1] if end > start and data[end - 1] == _CR else data[start:end]
            self._at = start = end + 1
            if len(line) > most and self._too_long(line, most):
                self.lineLengthExceeded(line)
            elif line or self.conversation.longest_line is not None:
                self.lineReceived(line)
        self._handling = False
        self._input = b"" if self.closing or self.gone else data[start:]
        if not (self.busy or self.paused or self.closing):
            self._finish_segment()
        self._flush()
        self._limit_input()

    def input_behind(self) -> bool:
        """Whether the client has sent something behind the line that is being handled."""
        return len(self._input) > self._at

    def _finish_segment(self) -> None:
        """What is left is the beginning of a line, or nothing."""
        if self._input and self._too_long(self._input, self.shared.options.disconnect_octets):
            self.lineLengthExceeded(self._input)
        elif self._read_closed:
            self.close("client closed")

    def _too_long(self, line: bytes, most: int) -> bool:
        if self.conversation.longest_line is not None:
            most = self.conversation.longest_line
        elif line[:5].upper() == b"AUTH " and self.conversation.authorization():
            # A token may come on the command line; some clients do that whatever its length.
            most = SASL_LINE_OCTETS
        return len(line) > most

    def lineReceived(self, line: bytes) -> None:
        """Handle one line, without its line end."""
        raise NotImplementedError

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long; one far too long ends the connection."""
        self.send(replies.LINE_TOO_LONG)
        if len(line) > self.shared.options.disconnect_octets or self.conversation.longest_line is not None:
            self.close(LINE_TOO_LONG)
        else:
            self._count_error()

    def refused(self, error: TpopsError) -> None:
        """Answer an error; too many in a row end the connection."""
        self.send(replies.from_error(error))
        self._count_error()

    def _count_error(self) -> None:
        self._errors += 1
        self._errors_left -= 1
        most = self.shared.options.bad_commands
        if self.closing:
            return
        if most and self._errors >= most:
            self.send(replies.TOO_MANY_ERRORS)
            self.close(BAD_COMMANDS)
        elif self._errors_left == 0:
            self.send(replies.TOO_MANY_ERRORS)
            self.close(ERRORS_AFTER_LOGIN if self.timer.logged_in else ERRORS_BEFORE_LOGIN)

    def count_command(self) -> bool:
        """A command has come; whether it is one too many, which ends the connection."""
        # Counted down, so that nothing is looked up; without a limit it begins at 0 and never gets there again.
        self._commands_left -= 1
        if self._commands_left != 0:
            return False
        self.send(replies.TOO_MANY_COMMANDS)
        self.close(COMMANDS_AFTER_LOGIN if self.timer.logged_in else COMMANDS_BEFORE_LOGIN)
        return True

    def count_anew(self, commands: int, errors: int) -> None:
        """From now on so many commands are carried out, and the last of so many errors ends the connection."""
        self._commands_left = commands + 1 if commands else 0
        self._errors_left = errors
        self._errors = 0

    def _limit_input(self) -> None:
        """Stop reading when too much waits, go on when it does not."""
        full = len(self._input) > _MOST_INPUT and (self.busy or self.paused)
        if full == self._reading and not (self.gone or self.closing):
            self._reading = not full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    async def sleep(self, seconds: float) -> None:
        """Wait; over at once when the client goes."""
        if seconds > 0 and not self.gone:
            self._sleeping = Deferred(lambda cancelled: call.cancel())
            call = self.shared.clock.callLater(seconds, self._sleeping.callback, None)
            try:
                await self._sleeping
            finally:
                self._sleeping = None

    # Octets out.

    def send(self, octets: bytes) -> None:
        """Send, together with the other replies of the segment."""
        if octets and not self.gone:
            self._output.append(octets)
            self._unsent += len(octets)
            if self._unsent >= _WRITE_OCTETS or not self._handling:
                self._flush()

    def _flush(self) -> None:
        if self._output:
            output, self._output = self._output, []
            self._unsent = 0
            if not self.gone:
                self.transport.write(output[0] if len(output) == 1 else b"".join(output))

    def left_to_send(self) -> int:
        """Octets that were sent and have not left this process."""
        self._flush()
        transport = self.transport
        return int(len(transport.dataBuffer) - transport.offset + transport._tempDataLen)

    @property
    def encrypted(self) -> bool:
        """Whether TLS ends here."""
        return bool(getattr(self.transport, "TLS", False))

    def leave_to_others(self) -> bytes:
        """Another process serves the client from now on: read no more; gives what he has sent already."""
        rest, self._input = self._input, b""
        self.timer.stop()
        self.transport.pauseProducing()
        self._reading = True
        return rest

    def drained(self) -> Deferred[None]:
        """Fires when the client has taken what was sent, or has gone; when it has already, in the next turn."""
        self._flush()
        if self.gone:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting = waiting
        if not self.paused:
            self.shared.clock.callLater(0, self._next_turn)
        return waiting

    def _next_turn(self) -> None:
        if not self.paused:
            self._resume_waiting()

    def _resume_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def pauseProducing(self) -> None:
        """IPushProducer: the transport's buffer is full."""
        self.paused = True
        self._left = self._octets_left()
        self.timer.stalled()

    def resumeProducing(self) -> None:
        """IPushProducer: the transport's buffer is empty again."""
        self.paused = False
        self.timer.flowing()
        self._resume_waiting()
        if not (self.busy or self._handling or self.gone):
            self.handle_input()

    def stopProducing(self) -> None:
        """IPushProducer: the connection goes; connectionLost does the rest."""

    # The end.

    def close(self, reason: str) -> None:
        """Send what is waiting, then close."""
        self.session.reason = self.session.reason or reason
        self._flush()
        if not (self.closing or self.gone):
            self.closing = True
            # A client that does not take the last reply must not keep the connection.
            self.timer.stalled()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def abort(self, reason: str) -> None:
        """Close at once."""
        self.session.reason = self.session.reason or reason
        if not self.gone:
            self.closing = True
            self.transport.abortConnection()

    def interruptible(self) -> bool:
        """Whether it may be cut off now: nobody is in UPDATE, where it would be left unclear what was removed."""
        return not self.conversation.updating()

    def timeoutConnection(self) -> None:
        """Twisted's name for the idle limit."""
        self._expired(IDLE)

    def _expired(self, limit: str) -> None:
        """A timer has run out: nothing is removed and nothing is said (RFC 1939 section 3)."""
        if limit == WRITE_STALLED and self._takes_something():
            self.timer.stalled()
            self.timer.arm()
            return
        if self.closing or limit in (WRITE_STALLED, SESSION_LIMIT):
            self.abort(limit)
        else:
            self.close(limit)

    def _takes_something(self) -> bool:
        """Whether the client has taken anything since this was asked last, however little."""
        before, self._left = self._left, self._octets_left()
        return self._left is not None and self._left != before

    def _octets_left(self) -> int | None:
        """What the client has not taken yet, where the transport can tell."""
        unsent = getattr(self.transport, "unsent", None)
        return None if unsent is None else int(unsent())

    def stop_waiting(self) -> None:
        """The connection is lost: whoever waits goes on at once, and finds it gone."""
        self.gone = True
        self._input = b""
        self.timer.stop()
        if self.diverted is not None:
            self.diverted.client_gone()
        if self._sleeping is not None:
            self._sleeping.cancel()
        self._resume_waiting()
