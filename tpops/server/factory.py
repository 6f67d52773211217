"""
Makes a L{POP3Server} for each connection.

Purpose: the seam to Twisted: L{twisted.mail.interfaces.IServerFactoryPOP3}, and the factory of twisted.mail.
Everything that a connection needs is in L{Shared}: nothing here imports the reactor.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.mail import protocols
from twisted.mail.interfaces import IServerFactoryPOP3
from zope.interface import implementer

from tpops.model import Peer
from tpops.protocol.proxy_header import Origin
from tpops.server.offers import AT_BALANCER, OFF, inside
from tpops.server.pop3 import POP3Server
from tpops.server.proxied import Proxied
from tpops.server.shared import Shared
from tpops.server.transcript import TranscribedServer


@implementer(IServerFactoryPOP3)
class POP3Factory(protocols.POP3Factory):
    """
    See the module.

    @ivar shared: what its connections share
    @ivar tls: the listener's TLS mode, see L{tpops.server.offers}
    @ivar balancers: networks of those who pass connections on with a PROXY header; None where clients come themselves
    @ivar local: address and port at which all its clients arrive; "" when there are several
    """

    local: tuple[str, int] = ("", 0)
    tls: str = OFF
    balancers: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] | None = None

    noisy = False
    #: IServerFactoryPOP3: SASL mechanisms as Twisted's server would list them; ours are in the offer.
    challengers: dict[bytes, Any] = {}

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self._prefix = secrets.token_hex(3)
        self._sessions = 0

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """A protocol for a client at this address."""
        host = getattr(addr, "host", None)
        place = (host if isinstance(host, str) else "unix", getattr(addr, "port", 0))
        if self.balancers is None:
            return self._server(*place)
        return Proxied(place[0], inside(place[0], self.balancers), self.shared.clock, partial(self._behind, place))

    def _server(self, host: str, port: int) -> POP3Server:
        return self._made(Peer(host, port, *self.local, session=self._session()), self.tls)

    def _made(self, peer: Peer, tls: str) -> POP3Server:
        transcript = self.shared.transcript
        if transcript is not None and transcript.wants(peer.host):
            return TranscribedServer(self.shared, peer, tls)
        return POP3Server(self.shared, peer, tls)

    def _behind(self, balancer: tuple[str, int], origin: Origin | None) -> POP3Server:
        """The protocol for a client of a load balancer; or for the balancer itself."""
        if origin is None:
            return self._server(*balancer)
        host, port, local_host, local_port, tls = origin
        peer = Peer(host, port, local_host, local_port, self._session())
        server = self._made(peer, AT_BALANCER if tls else self.tls)
        server.session.tls = tls
        return server

    def _session(self) -> str:
        self._sessions += 1
        return f"{self._prefix}{self._sessions:x}"

    def cap_IMPLEMENTATION(self) -> bytes:
        """IServerFactoryPOP3: what CAPA says after login."""
        return self.shared.offers.with_tls().implementation

    def cap_EXPIRE(self) -> None:
        """IServerFactoryPOP3: messages do not expire."""

    def cap_LOGIN_DELAY(self) -> int:
        """IServerFactoryPOP3: seconds between logins."""
        return self.shared.offers.with_tls().login_delay

    def perUserExpiration(self) -> bool:
        """IServerFactoryPOP3: the same for all."""
        return False

    def perUserLoginDelay(self) -> bool:
        """IServerFactoryPOP3: the same for all."""
        return False
