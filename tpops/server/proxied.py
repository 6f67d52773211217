"""
Connections that a load balancer passes on with a PROXY header in front.

Purpose: the header comes first, then everything is as if the client were connected here: limits, networks, penalties
and logs see the client's address, and the greeting is not sent before it is known.
Limits: L{HEADER_SECONDS} for the header; where TLS is implicit it begins behind the header.
Security: only the networks that the operator names are asked; a connection from elsewhere, or without a right header,
is closed without a word and told in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from tpops.protocol import proxy_header
from tpops.protocol.proxy_header import Origin

_log = Logger()

#: Time for the header: a balancer sends it with its first packet.
HEADER_SECONDS = 10.0


class Proxied(Protocol):
    """
    See the module.

    @param host: who has connected
    @param trusted: whether it may say who the client is
    @param clock: for the time limit
    @param make: the protocol for an origin; None is the balancer itself
    """

    transport: Any

    def __init__(self, host: str, trusted: bool, clock: Any, make: Callable[[Origin | None], Protocol]) -> None:
        self._host = host
        self._trusted = trusted
        self._clock = clock
        self._make = make
        self._input = b""
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Wait for the header, of whom it is believed."""
        if self._trusted:
            self._timer = self._clock.callLater(HEADER_SECONDS, self._refuse, f"no header within {HEADER_SECONDS:g} s")
        else:
            self._refuse("it is not in proxy_networks")

    def dataReceived(self, data: bytes) -> None:
        """Once the header is there, hand the connection on with what came behind it."""
        if self._timer is None:
            return
        self._input += data
        try:
            found = proxy_header.parse(self._input)
        except ValueError as wrong:
            self._refuse(str(wrong))
            return
        if found is None:
            return
        self._stop_timer()
        origin, octets = found
        server = self._make(origin)
        self.transport.protocol = server
        server.makeConnection(self.transport)
        # With implicit TLS that is not the server's own any more.
        if self._input[octets:]:
            self.transport.protocol.dataReceived(self._input[octets:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has gone before anything was served: a balancer looks like this whether somebody is here."""
        self._stop_timer()

    def _refuse(self, why: str) -> None:
        self._stop_timer()
        _log.warn(
            "proxy-refused: {peer} sends no PROXY header that is believed: {why}",
            event="proxy-refused",
            peer=self._host,
            why=why,
        )
        self.transport.abortConnection()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
