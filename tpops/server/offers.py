"""
What is offered to whom: with and without TLS, near and far.

Purpose: passwords must not go over the network in the clear unless the operator wants it.  CAPA and what is accepted
follow from the same L{Offer}, so nothing is announced that would be refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from tpops.protocol.capabilities import Offer
from tpops.protocol.sasl import Mechanisms

if TYPE_CHECKING:
    from OpenSSL import SSL

OFF = "off"
OPTIONAL = "optional"
REQUIRED = "required"
IMPLICIT = "implicit"

#: The mode of a connection whose TLS ends at a load balancer.
AT_BALANCER = "at balancer"

NEVER = "never"
TLS = "tls"
NETWORKS = "networks"
ALWAYS = "always"

#: SASL mechanisms that send the password itself, or a token that is as good as one.
PLAINTEXT_MECHANISMS = frozenset((b"PLAIN", b"LOGIN", b"OAUTHBEARER", b"XOAUTH2"))


class Offers:
    """
    The offers of one configuration.

    @param base: what could be offered at most
    @param plaintext: who may send a password: L{NEVER}, L{TLS} (over TLS), L{NETWORKS} (also from these), L{ALWAYS}
    @param networks: in CIDR notation
    @param over_tls: the SASL mechanisms that a TLS connection has beside those of all
    @param apop_only: nobody may without TLS, and who tries to is sent away
    """

    def __init__(
        self,
        base: Offer,
        plaintext: str,
        networks: Sequence[str],
        over_tls: Callable[[SSL.Connection], Mechanisms] | None = None,
        *,
        apop_only: bool = False,
    ) -> None:
        self._base = base
        self._plaintext = plaintext
        self._over_tls = over_tls
        self._apop_only = apop_only
        parsed = [ipaddress.ip_network(one) for one in networks]
        self._near: Callable[[str], bool] = lru_cache(maxsize=4096)(lambda host: inside(host, parsed))
        self._made: dict[tuple[str, bool], Offer] = {}

    def at_first(self, host: str, tls: str) -> Offer:
        """
        For a new connection.

        @param host: the client's address; what is no address is a UNIX socket and counts as near
        @param tls: the listener's mode
        """
        if tls in (IMPLICIT, AT_BALANCER):
            return self.with_tls()
        allowed = self._plaintext == ALWAYS or (self._plaintext == NETWORKS and self._near(host))
        allowed = allowed and not self._apop_only
        offer = self._made.get((tls, allowed))
        if offer is None:
            offer = self._without_tls(tls, allowed)
            self._made[tls, allowed] = offer
        return offer

    def with_tls(self) -> Offer:
        """Once TLS is on, as far as all connections have it."""
        return _without_passwords(self._base) if self._plaintext == NEVER else self._base

    def over(self, connection: SSL.Connection) -> Offer:
        """Once the handshake of this connection is done."""
        offer = self.with_tls()
        own = self._over_tls(connection) if self._over_tls is not None else {}
        return replace(offer, mechanisms={**offer.mechanisms, **own}) if own else offer

    def _without_tls(self, tls: str, allowed: bool) -> Offer:
        offer = self._base if allowed else _without_passwords(self._base)
        if tls == REQUIRED:
            offer = replace(offer, plaintext=False, apop=False, mechanisms={})
        return replace(offer, apop_only=self._apop_only, stls=tls in (OPTIONAL, REQUIRED))


def _without_passwords(offer: Offer) -> Offer:
    mechanisms = {name: start for name, start in offer.mechanisms.items() if name not in PLAINTEXT_MECHANISMS}
    return replace(offer, plaintext=False, mechanisms=mechanisms)


def inside(host: str, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether an address is in one of the networks; what is no address, as a UNIX socket's path, is in all."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return True
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
