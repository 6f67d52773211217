"""
Packets between the process that keeps the sockets and its workers.

Purpose: a JSON object each, on one socket (SOCK_SEQPACKET), which also tells that the other side is gone, however it
went; and L{Lines}, for what a worker writes to its standard output and error.
Limits: nothing here waits.  A packet that does not fit into the socket any more is dropped: the other side does not
read, and will soon be taken for dead.  A line is cut at L{MOST_LINE} octets, a packet must not be longer than
L{MOST_OCTETS}.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()

MOST_OCTETS = 131072
MOST_LINE = 8192

#: Sockets that a packet may bring, which is what Linux allows.
MOST_SOCKETS = 253

Packet = Mapping[str, Any]

#: Packets, or octets of lines, that are taken in one turn of the loop.
_TURN = 64


class Reading:
    """A descriptor that the reactor reads from, until its end."""

    def __init__(self, reactor: IReactorFDSet, descriptor: int) -> None:
        self._reactor = reactor
        self._descriptor = descriptor
        reactor.addReader(cast(IReadDescriptor, self))

    def fileno(self) -> int:
        """IReadDescriptor."""
        return self._descriptor

    def logPrefix(self) -> str:
        """IReadDescriptor."""
        return type(self).__name__

    def connectionLost(self, reason: Failure) -> None:
        """IReadDescriptor: the reactor ends."""

    def stop_reading(self) -> None:
        """Read no more; the descriptor stays open."""
        self._reactor.removeReader(cast(IReadDescriptor, self))


def taken(connected: socket.socket, most: int) -> bytes | None:
    """The packet that has come: None when there is none yet, b"" when the other end is gone, however it went."""
    try:
        return connected.recv(most)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _object(octets: bytes) -> Packet:
    packet = json.loads(octets)
    if not isinstance(packet, dict):
        raise ValueError("no object")
    return packet


@implementer(IReadDescriptor)
class Packets(Reading):
    """
    One end.

    @ivar brought: the sockets of the packet that is being received; whoever wants one takes it out, others are closed
    @param received: called with each packet
    @param decode: what is made of a packet's octets before, None for the object that they stand for
    @param lost: called once, when the other end is gone
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        connected: socket.socket,
        received: Callable[[Any], None],
        lost: Callable[[], None],
        decode: Callable[[bytes], Any] | None = None,
    ) -> None:
        connected.setblocking(False)
        self._decode = decode or _object
        self._socket = connected
        self._received = received
        self._lost = lost
        self._over = False
        self.brought: list[socket.socket] = []
        super().__init__(reactor, connected.fileno())

    def doRead(self) -> None:
        """IReadDescriptor: take what is there."""
        for _ in range(_TURN):
            if self._over:
                return
            try:
                octets, descriptors, _, _ = socket.recv_fds(
                    self._socket, MOST_OCTETS, MOST_SOCKETS, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                octets, descriptors = b"", []
            self.brought = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            if not octets or not self._take(octets):
                self._end()
                return

    def _take(self, octets: bytes) -> bool:
        """Hand a packet on; False when it is none, or cannot be handled: whoever sends such is not listened to."""
        try:
            self._received(self._decode(octets))
        except Exception:
            _log.failure("a packet from another process cannot be handled", event="packet-failed")
            return False
        finally:
            while self.brought:
                self.brought.pop().close()
        return True

    def send(self, packet: Packet, before: bytes = b"") -> bool:
        """
        Send a packet; whether it has left.

        @param before: octets that stand before the object
        """
        if self._over:
            return False
        try:
            self._socket.send(before + json.dumps(packet).encode())
        except OSError as problem:
            if problem.errno == errno.EMSGSIZE:
                raise ValueError("packet is too long") from problem
            return False
        return True

    def lend(self, packet: Packet, sockets: Sequence[socket.socket]) -> None:
        """Send a packet with sockets; they stay open here."""
        if not self._over:
            with contextlib.suppress(OSError):  # the other end is gone, which the next packet tells
                socket.send_fds(self._socket, [json.dumps(packet).encode()], [one.fileno() for one in sockets])

    def wait_for(self, *kinds: str, passing: str = "") -> tuple[Packet | None, list[socket.socket]]:
        """
        Without a reactor: wait for a packet of these kinds; None when another one or the end comes instead.

        @param passing: a kind that means nothing yet
        """
        while True:
            octets, descriptors = self._wait()
            lent = [socket.socket(fileno=descriptor) for descriptor in descriptors]
            for one in lent:
                one.set_inheritable(False)
            packet: Packet = json.loads(octets or "{}")
            if not (passing and passing in packet):
                return (packet if any(kind in packet for kind in kinds) else None), lent

    def _wait(self) -> tuple[bytes, list[int]]:
        self._socket.setblocking(True)
        try:
            octets, descriptors, _, _ = socket.recv_fds(self._socket, MOST_OCTETS, MOST_SOCKETS)
        except ConnectionResetError:
            return b"", []
        finally:
            self._socket.setblocking(False)
        return octets, descriptors

    def close(self) -> None:
        """Neither read nor send any more; nobody is told."""
        if not self._over:
            self._over = True
            self.stop_reading()
            self._socket.close()

    def _end(self) -> None:
        self.close()
        self._lost()


@implementer(IReadDescriptor)
class Lines(Reading):
    """
    Lines that a process writes.

    @param said: called with each
    """

    def __init__(self, reactor: IReactorFDSet, descriptor: int, said: Callable[[str], None]) -> None:
        os.set_blocking(descriptor, False)
        self._said = said
        self._rest = b""
        self._over = False
        super().__init__(reactor, descriptor)

    def doRead(self) -> None:
        """IReadDescriptor: take what is there."""
        self._take()

    def close(self) -> None:
        """Take what is left, and close."""
        if not self._over:
            self._take()
        if not self._over:
            self._end()

    def _take(self) -> None:
        for _ in range(_TURN):
            if self._over:
                return
            try:
                octets = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return
            if not octets:
                self._end()
                return
            *lines, rest = (self._rest + octets).split(b"\n")
            for line in lines:
                self._tell(line)
            self._rest = rest[:MOST_LINE]

    def _tell(self, line: bytes) -> None:
        if line.strip():
            self._said(line[:MOST_LINE].decode("utf-8", "backslashreplace"))

    def _end(self) -> None:
        self._over = True
        self.stop_reading()
        os.close(self._descriptor)
        self._tell(self._rest)
