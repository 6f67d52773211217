"""
Sends syslog messages: datagrams to a socket of this machine or by UDP, or a stream by TCP.

Purpose: whoever has a message gives it and goes on; what the receiver does not take now waits in a queue of
L{MOST_WAITING} messages, the oldest of which go when it is full.  A receiver that is missing, restarted or slow is
tried again, after pauses that grow up to L{LONGEST_PAUSE_SECONDS}; when it is back, the queue leaves in order.
Limits: by UDP, what is lost on the way is lost; by TCP, what was on its way when the connection broke is lost, since
syslog has no receipts (RFC 6587 section 3.1).
Errors: nothing is raised; what is dropped is counted, and told through twisted.logger at most once a minute.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import ClientFactory, connectionDone
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.events.syslog_wire import counted

_log = Logger()

#: Messages that wait for a receiver.
MOST_WAITING = 10_000

#: Pauses before the next try: the first, the first when nobody is there, and the longest.
_BUSY_SECONDS = 0.05
_FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 15.0

QUIET_SECONDS = 60.0

#: The receiver is there and has no room.
_BUSY = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))


class Sender(Protocol):
    """Something that sends messages."""

    dropped: int

    @property
    def waiting(self) -> int:
        """Messages in the queue."""

    def send(self, message: bytes) -> None:
        """Send a message, now or later.  Never raises."""

    def close(self) -> None:
        """Send no more; what waits and cannot leave at once is dropped."""


class _Queue:
    """
    What waits, and what is said about it.

    @ivar dropped: messages that never left
    """

    def __init__(self, reactor: Any, where: str) -> None:
        self.dropped = 0
        self._where = where
        self._reactor = reactor
        self._queue: deque[bytes] = deque()
        self._told_at: float | None = None
        self._away = False

    @property
    def waiting(self) -> int:
        """See L{Sender}."""
        return len(self._queue)

    def _keep(self, message: bytes, why: str) -> None:
        """Let a message wait."""
        self._queue.append(message)
        if len(self._queue) > MOST_WAITING:
            self._queue.popleft()
            self._drop(1, why)

    def _drop(self, count: int, why: str) -> None:
        self.dropped += count
        self._tell(
            "syslog-dropped: {where}: {why}, {dropped} messages lost since the start",
            event="syslog-dropped",
            where=self._where,
            why=why,
            dropped=self.dropped,
        )

    def _absent(self, why: str) -> None:
        """The receiver is not there."""
        if not self._away:
            self._away = True
            _log.warn(
                "syslog-away: {where}: {why}; trying again, {waiting} messages wait",
                event="syslog-away",
                where=self._where,
                why=why,
                waiting=len(self._queue),
            )

    def _present(self) -> None:
        if self._away:
            self._away = False
            _log.info("syslog-back: {where} takes messages again", event="syslog-back", where=self._where)

    def _tell(self, text: str, **fields: object) -> None:
        now = self._reactor.seconds()
        if self._told_at is None or not 0 <= now - self._told_at < QUIET_SECONDS:
            self._told_at = now
            _log.error(text, **fields)

    def _abandon(self) -> None:
        """Nothing more leaves."""
        if self._queue:
            self._drop(len(self._queue), "stopped while it could not be reached")
            self._queue.clear()


class Datagrams(_Queue):
    """
    See the module.

    @param address: the path of a socket, or IP address and port
    """

    def __init__(self, reactor: Any, address: str | tuple[str, int]) -> None:
        super().__init__(reactor, address if isinstance(address, str) else f"udp:{address[0]}:{address[1]}")
        self._address = address
        self._socket: socket.socket | None = None
        self._pause = 0.0
        self._again: Any = None
        self._closed = False

    def send(self, message: bytes) -> None:
        """See L{Sender}."""
        if self._closed:
            self._drop(1, "stopped")
            return
        problem = self._try(message) if self._again is None else OSError(errno.EAGAIN, "others wait")
        if problem is not None:
            self._keep(message, os.strerror(problem.errno or 0))
            self._wait(problem)

    def close(self) -> None:
        """See L{Sender}."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
            while self._queue and self._try(self._queue[0]) is None:
                self._queue.popleft()
        self._abandon()
        self._hang_up()

    def _try(self, message: bytes) -> OSError | None:
        """Send it, on a new socket where the receiver was restarted; what went wrong."""
        problem = self._send(message)
        if problem is not None and problem.errno not in _BUSY:
            # A receiver that was restarted is found at the second try; UDP tells of the message before.
            self._hang_up()
            problem = self._send(message)
        return problem

    def _send(self, message: bytes) -> OSError | None:
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.send(message)
        except OSError as problem:
            return problem
        self._present()
        self._pause = 0.0
        return None

    def _connect(self) -> socket.socket:
        address = self._address
        unix = isinstance(address, str)
        family = socket.AF_UNIX if unix else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        try:
            opened.connect(address)
        except OSError:
            opened.close()
            raise
        return opened

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _wait(self, problem: OSError) -> None:
        if self._again is not None:
            return
        if problem.errno in _BUSY:
            self._pause = _BUSY_SECONDS
        else:
            self._hang_up()
            self._absent(problem.strerror or str(problem))
            self._pause = min(LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * self._pause))
        self._again = self._reactor.callLater(self._pause, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        while self._queue:
            problem = self._try(self._queue[0])
            if problem is not None:
                self._wait(problem)
                return
            self._queue.popleft()


@implementer(IPushProducer)
class _Connection(TwistedProtocol):
    """A connection to the receiver, which says nothing."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def connectionMade(self) -> None:
        """The receiver is there."""
        transport: Any = self.transport
        transport.setTcpKeepAlive(True)
        transport.registerProducer(self, True)
        self._stream.connected(transport)

    def dataReceived(self, data: bytes) -> None:
        """Nothing is expected."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The receiver is gone."""
        self._stream.lost(reason.getErrorMessage())

    def pauseProducing(self) -> None:
        """IPushProducer: it does not read."""
        self._stream.pause()

    def resumeProducing(self) -> None:
        """IPushProducer: it reads again."""
        self._stream.resume()

    def stopProducing(self) -> None:
        """IPushProducer: connectionLost does the rest."""


class Stream(_Queue, ClientFactory[_Connection]):
    """See the module."""

    noisy = False

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        super().__init__(reactor, f"tcp:{host}:{port}")
        self._to = (host, port)
        self._transport: Any = None
        self._paused = False
        self._pause = 0.0
        self._again: Any = None
        self._closed = False
        self._connector: Any = None
        self._connect()

    def buildProtocol(self, addr: IAddress | None) -> _Connection:
        """IProtocolFactory."""
        return _Connection(self)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """IProtocolFactory: nobody is there."""
        self.lost(reason.getErrorMessage())

    def send(self, message: bytes) -> None:
        """See L{Sender}."""
        if self._closed:
            self._drop(1, "stopped")
        elif self._transport is None or self._paused:
            self._keep(message, "it does not read" if self._paused else "it cannot be reached")
        else:
            self._transport.write(counted(message))

    def close(self) -> None:
        """See L{Sender}."""
        self._closed = True
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._transport is not None:
            self._transport.unregisterProducer()
            while self._queue:
                self._transport.write(counted(self._queue.popleft()))
            self._transport.loseConnection()
        elif self._connector is not None:
            self._connector.stopConnecting()
        self._abandon()

    # What the connection tells.

    def connected(self, transport: Any) -> None:
        """It is there."""
        self._transport = transport
        self._connector = None
        self._paused = False
        self._pause = 0.0
        self._present()
        self.resume()

    def lost(self, why: str) -> None:
        """It is not there."""
        self._transport = self._connector = None
        if not self._closed:
            self._absent(why)
            self._pause = min(LONGEST_PAUSE_SECONDS, max(_FIRST_PAUSE_SECONDS, 2 * self._pause))
            self._again = self._reactor.callLater(self._pause, self._connect)

    def pause(self) -> None:
        """It does not read."""
        self._paused = True

    def resume(self) -> None:
        """It reads."""
        self._paused = False
        while self._queue and not self._paused:
            self._transport.write(counted(self._queue.popleft()))

    def _connect(self) -> None:
        self._again = None
        self._connector = self._reactor.connectTCP(*self._to, self, timeout=LONGEST_PAUSE_SECONDS)


def open_sender(reactor: Any, kind: str, address: str, port: int) -> Sender:
    """A sender for a receiver of this kind: "unix", "udp" or "tcp"."""
    if kind == "tcp":
        return Stream(reactor, address, port)
    return Datagrams(reactor, address if kind == "unix" else (address, port))
