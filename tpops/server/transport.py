"""
TCP and UNIX transports that send at once.

Purpose: Twisted's C{transport.write} postpones every reply to the next turn of the loop and switches EPOLLOUT on and
off around it; closing takes one more turn.  Here a reply is sent in the turn that made it, when nothing is waiting,
and a closed connection ends in that turn, too.  What the kernel does not take at once goes Twisted's way, as do
connections with TLS.  Measured: see docs/performance.md.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Any

from twisted.internet import main, tcp, unix
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IProtocol, IReactorFDSet
from twisted.python.failure import Failure

from tpops.server.accepting import AcceptsWithinMeans


class SendsAtOnce(tcp.Server):
    """What the connections of this module have in common."""

    _handling = False

    def write(self, data: bytes) -> None:
        """Send what the kernel takes, buffer the rest."""
        if self.TLS or self._tempDataLen or self.dataBuffer or not self.connected or self._writeDisconnected:
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The connection is broken; let the reactor find that out in its own way.
            sent = 0
        if sent < len(data):
            super().write(data[sent:] if sent else data)

    def doRead(self) -> Any:
        """Read and handle; when that closed the connection and nothing waits to be sent, it is over now."""
        self._handling = True
        try:
            why = super().doRead()
        finally:
            self._handling = False
        if why is None and self.disconnecting and not (self._tempDataLen or self.dataBuffer or self.TLS):
            return main.CONNECTION_DONE
        return why

    def loseConnection(self) -> None:
        """Close once all is sent; where all is sent already, doRead does it without another turn of the loop."""
        if self._handling and not (self._tempDataLen or self.dataBuffer or self.TLS or self._writeDisconnected):
            self.disconnecting = True
        else:
            super().loseConnection()

    def unsent(self) -> int:
        """Octets that were written and that the client's machine has not taken yet, in our buffer and the kernel's."""
        try:
            (queued,) = struct.unpack("i", fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4)))
        except OSError:
            queued = 0
        return len(self.dataBuffer) - self.offset + self._tempDataLen + int(queued)

    def readConnectionLost(self, reason: Failure) -> None:
        """The client's end of file; or, when we have closed, the end."""
        if self.disconnecting and not (self._tempDataLen or self.dataBuffer or self.TLS):
            self.connectionLost(reason)
        else:
            super().readConnectionLost(reason)


class TCPServer(SendsAtOnce):
    """A TCP connection."""

    def __init__(
        self,
        sock: socket.socket,
        protocol: IProtocol,
        client: tuple[Any, ...],
        server: tcp.Port,
        sessionno: int,
        reactor: IReactorFDSet,
    ) -> None:
        # As tcp.Server's, without the texts for its own logs, which cost more than all the rest.
        tcp.Connection.__init__(self, sock, protocol, reactor)
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self.hostname = client[0]
        self.logstr = "POP3"
        self.startReading()
        self.connected = 1

    def __repr__(self) -> str:
        return f"<POP3 connection {self.sessionno} from {self.hostname}>"


class UNIXServer(SendsAtOnce, unix.Server):
    """A connection over a UNIX socket."""


class TCPPort(AcceptsWithinMeans, tcp.Port):
    """Listens on a TCP port."""

    transport = TCPServer


class UNIXPort(AcceptsWithinMeans, unix.Port):
    """Listens on a UNIX socket that is open; the file stays when it is closed."""

    transport = UNIXServer

    def startListening(self) -> None:
        """Listen."""
        opened, self._preexistingSocket = self._preexistingSocket, None
        assert self.factory is not None
        assert opened is not None
        self.factory.doStart()
        # Others may listen on it, too: a shutdown would end that for all of them.
        self._shouldShutdown = False
        self.socket = opened
        self.fileno = opened.fileno
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Listen no more."""
        tcp.Port.connectionLost(self, reason)
