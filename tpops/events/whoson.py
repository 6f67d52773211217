r"""
WHOSON: who is logged in from which address, for mail servers that ask whosond.

Purpose: C{LOGIN address user} at a login, C{LOGOUT address} when the last session from that address ends.  One request
is a line and an empty line, over TCP, UDP or a UNIX socket; the first octet of the answer says whether it counts.  Of
several servers the first that takes it is enough.
Limits: clients without an IP address are left out, and so are master users who log in as others.  Which session is the
last one, each process of the server knows of its own sessions only.  What is not printable in a name is written
C{\xNN}.
Errors: NotTold, with what each server said.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tpops.events import datagrams
from tpops.events.deliveries import NotTold
from tpops.events.text import one_field, one_line
from tpops.interfaces import IReceiver
from tpops.model import Notice

#: Longest answer that is looked at.
_MOST_OCTETS = 1024

#: Time for a server that comes late in the list, though hardly any is left.
_LEAST_SECONDS = 0.1


@attrs.frozen
class Server:
    """
    Where whosond is.

    @ivar transport: udp, tcp or unix
    @ivar host: name or address; for unix the path
    """

    transport: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        where = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.host}" if self.transport == "unix" else f"{self.transport}:{where}:{self.port}"


class _Request(Protocol):
    """One request over a connection."""

    transport: Any

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._octets = b""
        self.answer: Deferred[bytes] = Deferred(lambda cancelled: None)

    def connectionMade(self) -> None:
        """Ask."""
        self.transport.write(self._request)

    def dataReceived(self, data: bytes) -> None:
        """Take the answer, up to the end of its first line."""
        self._octets += data[:_MOST_OCTETS]
        if not self.answer.called and (b"\n" in self._octets or len(self._octets) >= _MOST_OCTETS):
            self.answer.callback(self._octets)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """No more comes."""
        if not self.answer.called:
            self.answer.errback(NotTold("the connection was closed without an answer"))


@implementer(IReceiver)
class Whoson:
    """
    See the module.

    @param timeout_seconds: for all servers together
    @param logouts: whether logouts are told, too
    """

    def __init__(self, reactor: Any, servers: Sequence[Server], timeout_seconds: float, logouts: bool) -> None:
        self._reactor = reactor
        self._servers = tuple(servers)
        self._timeout_seconds = timeout_seconds
        self._logouts = logouts
        self._here: Counter[str] = Counter()

    def start(self) -> None:
        """Nothing to do."""

    def line(self, notice: Notice) -> str | None:
        """Requests for one address keep their order; a logout counts when it is the last."""
        if notice.master:
            # Whoever looks at somebody else's mail is not him, and relays nothing in his name.
            return None
        try:
            ipaddress.ip_address(notice.peer)
        except ValueError:
            return None
        if not self._logouts:
            return notice.peer
        if notice.kind == "login":
            self._here[notice.peer] += 1
            return notice.peer
        self._here[notice.peer] -= 1
        if self._here[notice.peer] > 0:
            return None
        del self._here[notice.peer]
        return notice.peer

    async def send(self, notice: Notice) -> None:
        """See L{IReceiver.send}."""
        words = ["LOGIN", notice.peer, one_field(notice.user)] if notice.kind == "login" else ["LOGOUT", notice.peer]
        request = (" ".join(words) + "\r\n\r\n").encode("utf-8", "backslashreplace")
        until = self._reactor.seconds() + self._timeout_seconds
        problems = []
        for number, server in enumerate(self._servers):
            left = (until - self._reactor.seconds()) / (len(self._servers) - number)
            try:
                _judge(await self._ask(server, request, max(left, _LEAST_SECONDS)))
                return
            except NotTold as problem:
                problems.append(f"{server}: {problem}")
        raise NotTold("; ".join(problems))

    async def stop(self) -> None:
        """Nothing is kept open."""

    async def _ask(self, server: Server, request: bytes, seconds: float) -> bytes:
        """@raise NotTold: when there is no answer within so many seconds"""

        def too_late(result: object, limit: float) -> bytes:
            raise NotTold(f"no answer within {limit:.3g} seconds")

        asked = Deferred.fromCoroutine(self._asked(server, request))
        return await asked.addTimeout(seconds, self._reactor, too_late)

    async def _asked(self, server: Server, request: bytes) -> bytes:
        if server.transport == "udp":
            where = (await datagrams.resolve(self._reactor, server.host), server.port)
            return await datagrams.ask(self._reactor, where, request)
        endpoint: Any
        if server.transport == "unix":
            endpoint = UNIXClientEndpoint(self._reactor, server.host)
        else:
            endpoint = HostnameEndpoint(self._reactor, server.host, server.port, timeout=self._timeout_seconds)
        factory = Factory.forProtocol(lambda: _Request(request))
        factory.noisy = False
        try:
            connection: Any = await endpoint.connect(factory)
        except (ConnectError, ConnectionDone, OSError) as problem:
            raise NotTold(f"cannot connect: {problem}") from None
        try:
            answer: bytes = await connection.answer
            return answer
        finally:
            connection.transport.loseConnection()


def _judge(answer: bytes) -> None:
    """@raise NotTold: when it is no"""
    if not answer.startswith(b"+"):
        first = answer.decode("utf-8", "backslashreplace").strip().partition("\n")[0].strip()
        raise NotTold(f"it says {one_line(first)!r}")
