"""
One connection to another POP3 server: commands out, answers in.

Purpose: commands may be sent without waiting for the answers of those before (pipelining is the caller's decision);
answers go to whoever waits, in order.  Text of multi-line replies is handed on as it comes, and stops coming when its
reader is slow.
Timers: an answer, or more of one, must come within a time; a connection that nobody asks anything gets a NOOP now and
then, so that the server does not close it.
Security: no command that is sent has a line end in it.  Octets that came before TLS was on are not taken for an answer.
Errors: L{StorageUnavailable}, when the connection cannot be used any more; the text says where and why.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet import protocol
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.errors import StorageUnavailable
from tpops.upstream.reasons import reason_text
from tpops.upstream.replies import MOST_STATUS, Body, Malformed, Status

#: Seconds that a connection may take to end in good order.
_CLOSE_SECONDS = 1.0


class Reader(Protocol):
    """Takes the text of a multi-line reply."""

    def feed(self, text: bytes) -> None:
        """The next piece.  @raise Malformed: when the connection cannot be used any more"""

    def end(self) -> None:
        """That was all."""

    def failed(self, problem: StorageUnavailable) -> None:
        """There will be no more, and it was not all."""


@attrs.define(slots=True)
class _Expected:
    """An answer that is due."""

    status: Deferred[Status]
    reader: Reader | None
    patience: float


@implementer(IHandshakeListener)
class Connection(protocol.Protocol):
    """
    See the module.

    @ivar alive: it can be used
    @ivar greeting: fires with the first line, fails with StorageUnavailable
    @ivar local: our end: address and port
    @ivar remote: the server's end
    @ivar secured: TLS is on
    @param where: names the server in errors
    @param clock: IReactorTime
    @param timeout_seconds: time until an answer, or the next part of one
    @param keepalive_seconds: time without a command until a NOOP, 0 for never
    @param gone: called once when the connection has ended
    """

    def __init__(
        self,
        where: str,
        clock: Any,
        timeout_seconds: float,
        keepalive_seconds: float,
        gone: Callable[[Connection], None],
    ) -> None:
        self.where = where
        self.alive = False
        self.secured = False
        self.local = self.remote = ("", 0)
        self._clock = clock
        self._timeout = timeout_seconds
        self._keepalive = keepalive_seconds
        self._gone = gone
        self._expected: deque[_Expected] = deque()
        self._input = b""
        self._body: Body | None = None
        self._paused = False
        self._active_at = 0.0
        self._call: IDelayedCall | None = None
        self._rings_at = 0.0
        self._why = ""
        self._handshake: Deferred[None] | None = None
        self.greeting: Deferred[Status] = Deferred()

    # What Twisted calls.

    def connectionMade(self) -> None:
        """See L{protocol.Protocol.connectionMade}."""
        self.alive = True
        self.local, self.remote = _end(self._wire.getHost()), _end(self._wire.getPeer())
        for name in ("setTcpKeepAlive", "setTcpNoDelay"):
            switch = getattr(self._wire, name, None)
            if switch is not None:
                switch(True)
        self._await(self.greeting, None, self._timeout)

    def dataReceived(self, data: bytes) -> None:
        """See L{protocol.Protocol.dataReceived}."""
        self._active_at = self._clock.seconds()
        self._input = self._input + data if self._input else data
        try:
            while self._input and self.alive and self._handshake is None and self._consume():
                pass
        except Malformed as problem:
            self.abort(str(problem))
        if self.alive:
            self._arm()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{protocol.Protocol.connectionLost}."""
        self.alive = False
        if self._call is not None and self._call.active():
            self._call.cancel()
        problem = StorageUnavailable(f"{self.where}: {self._why or reason_text(reason)}")
        expected, self._expected = self._expected, deque()
        for one in expected:
            if not one.status.called:
                one.status.errback(problem)
            elif one.reader is not None:
                one.reader.failed(problem)
        handshake, self._handshake = self._handshake, None
        if handshake is not None and not handshake.called:
            handshake.errback(problem)
        self._gone(self)

    def handshakeCompleted(self) -> None:
        """See L{IHandshakeListener}: the certificate is verified."""
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            self.secured = True
            handshake.callback(None)

    # Commands.

    def send(self, command: bytes, reader: Reader | None = None, patience: float = 1.0) -> Deferred[Status]:
        """
        Send a command.

        @param reader: gets the text, when the answer is a positive one with several lines
        @param patience: how many times the usual time it may take
        @return: fires with the status line; fails with StorageUnavailable
        @raise ValueError: when there is a line end in the command
        """
        if b"\r" in command or b"\n" in command or b"\0" in command:
            raise ValueError("a command must be one line")
        if not self.alive:
            return fail(self.problem())
        answer: Deferred[Status] = Deferred()
        self._await(answer, reader, self._timeout * patience)
        self._wire.write(command + b"\r\n")
        return answer

    def problem(self) -> StorageUnavailable:
        """Why it cannot be used any more."""
        return StorageUnavailable(f"{self.where}: {self._why or 'the connection is closed'}")

    def secure(self, context: Any) -> Deferred[None]:
        """
        Turn TLS on; fires when the server has proved who it is, fails with StorageUnavailable.

        @param context: as for C{ITLSTransport.startTLS}
        """
        if self._input:
            self.abort("octets in plain text behind the answer to STLS")
        if not self.alive:
            return fail(self.problem())
        handshake: Deferred[None] = Deferred()
        self._handshake = handshake
        self._active_at = self._clock.seconds()
        self._arm()
        self._wire.startTLS(context)
        return handshake

    def pause(self) -> None:
        """Take no more octets for now."""
        if not self._paused and self.alive:
            self._paused = True
            self._wire.pauseProducing()

    def resume(self) -> None:
        """Go on."""
        if self._paused:
            self._paused = False
            self._active_at = self._clock.seconds()
            if self.alive:
                self._wire.resumeProducing()
                self._arm()

    def close(self) -> None:
        """End it in good order, when nothing is expected any more; else at once."""
        if self.alive:
            if self._expected or self._paused:
                self.abort("we have closed the connection")
                return
            self.alive = False
            self._stop_watching()
            self._wire.loseConnection()
            # With TLS on, an end in good order needs a server that answers.
            self._call = self._clock.callLater(_CLOSE_SECONDS, self._wire.abortConnection)

    def abort(self, why: str) -> None:
        """End it at once."""
        if self.alive:
            self.alive = False
            self._why = why
            self._stop_watching()
            self._wire.abortConnection()

    # Inner.

    @property
    def _wire(self) -> Any:
        """The transport, which can do more than Twisted's interface for all of them says."""
        return self.transport

    def _await(self, answer: Deferred[Status], reader: Reader | None, patience: float) -> None:
        if not self._expected:
            self._active_at = self._clock.seconds()
        self._expected.append(_Expected(answer, reader, patience))
        self._arm()

    def _consume(self) -> bool:
        """Take one thing out of the input; whether there may be another."""
        if self._body is not None:
            self._take_text(self._body)
            return True
        end = self._input.find(b"\n")
        if end > MOST_STATUS or (end < 0 and len(self._input) > MOST_STATUS):
            raise Malformed("a status line without an end")
        if end < 0:
            return False
        line = self._input[:end].removesuffix(b"\r")
        self._input = self._input[end + 1 :]
        if not self._expected:
            raise Malformed("the server spoke without being asked")
        status = Status.parse(line)
        if status.positive and self._expected[0].reader is not None:
            self._body = Body()
            expected = self._expected[0]
        else:
            expected = self._expected.popleft()
        expected.status.callback(status)
        return True

    def _take_text(self, body: Body) -> None:
        reader = self._expected[0].reader
        assert reader is not None
        text = body.feed(self._input)
        self._input = body.rest
        if text:
            reader.feed(text)
        if body.done:
            self._body = None
            self._expected.popleft()
            reader.end()

    # Time.

    def _due(self) -> float | None:
        if self._handshake is not None:
            return self._active_at + self._timeout
        if self._expected:
            return None if self._paused else self._active_at + self._expected[0].patience
        return self._active_at + self._keepalive if self._keepalive else None

    def _arm(self) -> None:
        """See that we look at the clock in time; nearly always we do anyway."""
        due = self._due()
        if due is None or (self._call is not None and self._call.active() and self._rings_at <= due):
            return
        self._stop_watching()
        self._rings_at = due
        self._call = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._ring)

    def _ring(self) -> None:
        self._call = None
        due = self._due()
        if due is not None and due <= self._clock.seconds():
            if self._handshake is not None:
                self.abort(f"TLS was not on within {self._timeout:g} seconds")
                return
            if self._expected:
                self.abort(f"no answer within {self._expected[0].patience:g} seconds")
                return
            # Whatever the answer is: when the server does not want us any more, it closes the connection.
            self.send(b"NOOP").addErrback(lambda _: None)
        self._arm()

    def _stop_watching(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None


def _end(address: object) -> tuple[str, int]:
    return getattr(address, "host", ""), getattr(address, "port", 0)
