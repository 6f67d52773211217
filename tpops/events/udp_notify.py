r"""
A datagram at each login, as popserv sends it.

    md5 DIGEST CHALLENGE            with a secret: MD5 of challenge and secret, one behind the other
    time SECONDS                    since 1970
    service pop
    user NAME
    ip ADDRESS
    source SERVER
    hmac-sha256 DIGEST              with a key: HMAC (RFC 2104) of all octets before this line
    .

Purpose: popserv's receivers go on.  Its digest covers nothing but the challenge, so that anybody who has seen one
datagram can make others; the line with the HMAC, which popserv does not have, covers everything.
Limits: nobody says whether a datagram came.  Clients without an IP address are left out.  Lines end with LF; what is
not printable in a name is written C{\xNN}.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from tpops.events import datagrams
from tpops.events.deliveries import NotTold
from tpops.events.text import one_field
from tpops.interfaces import IReceiver
from tpops.model import Notice


def datagram(notice: Notice, challenge: bytes, secret: bytes = b"", key: bytes = b"") -> bytes:
    """The octets of one."""
    lines = []
    if secret:
        digest = hashlib.md5(challenge + secret, usedforsecurity=False).hexdigest()
        lines.append(b"md5 %s %s" % (digest.encode("ascii"), challenge))
    user, source = (one_field(one).encode("utf-8", "backslashreplace") for one in (notice.user, notice.server))
    lines += [
        b"time %d" % int(notice.at),
        b"service pop",
        b"user " + user,
        b"ip " + notice.peer.encode("ascii"),
        b"source " + source,
    ]
    octets = b"".join(line + b"\n" for line in lines)
    if key:
        octets += b"hmac-sha256 %s\n" % hmac.digest(key, octets, "sha256").hex().encode("ascii")
    return octets + b".\n"


@implementer(IReceiver)
class UDPNotify:
    """
    See the module.

    @param secret: for the line "md5", b"" without
    @param key: for the line "hmac-sha256", b"" without
    @param ttl: how many networks a datagram to a multicast address crosses
    @param challenge: makes one
    """

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int,
        secret: bytes,
        key: bytes,
        ttl: int,
        challenge: Callable[[], bytes],
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._secret = secret
        self._key = key
        self._ttl = ttl
        self._challenge = challenge
        self._sockets: dict[int, socket.socket] = {}

    def start(self) -> None:
        """Nothing to do."""

    def line(self, notice: Notice) -> str | None:
        """Each session by itself."""
        try:
            ipaddress.ip_address(notice.peer)
        except ValueError:
            return None
        return notice.session

    async def send(self, notice: Notice) -> None:
        """See L{IReceiver.send}."""
        octets = datagram(notice, self._challenge(), self._secret, self._key)
        host = await datagrams.resolve(self._reactor, self._host)
        try:
            self._socket(socket.AF_INET6 if ":" in host else socket.AF_INET).sendto(octets, (host, self._port))
        except OSError as problem:
            raise NotTold(f"{self._host}, port {self._port}: {problem.strerror}") from None

    async def stop(self) -> None:
        """Close the sockets."""
        opened, self._sockets = self._sockets, {}
        for one in opened.values():
            one.close()

    def _socket(self, family: int) -> socket.socket:
        opened = self._sockets.get(family)
        if opened is None:
            opened = self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            if family == socket.AF_INET:
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._ttl)
            else:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, self._ttl)
        return opened
