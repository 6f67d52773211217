"""
Questions and answers by UDP, and names of hosts.

Purpose: L{ask} sends a datagram to a server, again and again as long as nothing comes back, and gives the first answer
that is one.  Each question has a socket of its own, connected, so that nobody else's datagrams get in.
Limits: whoever asks cancels when it takes too long.  A server whose port is closed refuses at once, where ICMP tells.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReadDescriptor, IResolutionReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.events.deliveries import NotTold

#: Seconds until a question is asked again.
AGAIN_SECONDS = 1.0

#: Longest datagram.
_MOST_OCTETS = 65536


@implementer(IResolutionReceiver)
class _Addresses:
    """Takes what a resolver finds."""

    def __init__(self, done: Deferred[list[str]]) -> None:
        self._done = done
        self._found: list[str] = []

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        """It looks."""

    def addressResolved(self, address: IAddress) -> None:
        """One."""
        if isinstance(address, IPv4Address | IPv6Address):
            self._found.append(address.host)

    def resolutionComplete(self) -> None:
        """That was all."""
        if not self._done.called:
            self._done.callback(self._found)


async def resolve(reactor: Any, host: str) -> str:
    """
    The address of a host, as text, IPv4 where it has one; addresses are their own.

    @raise NotTold: when there is none
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    done: Deferred[list[str]] = Deferred()
    reactor.nameResolver.resolveHostName(_Addresses(done), host)
    found = await done
    if not found:
        raise NotTold(f"there is no address for {host}")
    return min(found, key=lambda address: ":" in address)


@implementer(IReadDescriptor)
class _Asking:
    """One question, with a socket of its own."""

    def __init__(self, reactor: Any, server: tuple[str, int], question: bytes, accept: Callable[[bytes], bool]) -> None:
        self._reactor = reactor
        self._question = question
        self._accept = accept
        self._timer: Any = None
        self.answer: Deferred[bytes] = Deferred(lambda cancelled: None)
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(server)
        except OSError as problem:
            self._socket.close()
            raise NotTold(f"cannot send: {problem.strerror}") from None
        reactor.addReader(self)
        self._ask()

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """For the log of errors in here."""
        return "datagrams"

    def doRead(self) -> None:
        """An answer, perhaps."""
        try:
            datagram = self._socket.recv(_MOST_OCTETS)
        except BlockingIOError:
            return
        except OSError as problem:
            self._failed(problem)
            return
        if not self.answer.called and self._accept(datagram):
            self.answer.callback(datagram)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has found the socket to be broken, or stops."""
        self.close()

    def close(self) -> None:
        """Nobody asks any more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._socket.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    def _ask(self) -> None:
        self._timer = self._reactor.callLater(AGAIN_SECONDS, self._ask)
        try:
            self._socket.send(self._question)
        except BlockingIOError:
            return
        except OSError as problem:
            self._failed(problem)

    def _failed(self, problem: OSError) -> None:
        if not self.answer.called:
            self.answer.errback(NotTold(str(problem.strerror).lower()))


async def ask(
    reactor: Any, server: tuple[str, int], question: bytes, accept: Callable[[bytes], bool] = lambda answer: True
) -> bytes:
    """
    The answer to a question.

    @param server: address and port
    @param accept: whether a datagram is the answer
    @raise NotTold: when nobody listens there
    """
    asking = _Asking(reactor, server, question, accept)
    try:
        return await asking.answer
    finally:
        asking.close()
