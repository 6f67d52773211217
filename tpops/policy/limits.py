"""
The limits: how many connections, and how fast somebody may come back.

Purpose: limits on all connections together, those of each address (IPv6: each prefix), of each user and of each
user at each address, a pause between two logins of the same user and penalties for failed logins.  0 is no limit.
Limits: counts live in a memory that others may share, L{tpops.policy.memory} or L{tpops.policy.shared}.
Clients in exempt networks count towards the total alone and may log in as often as they like; peers
without an IP address (UNIX sockets) count towards the total and those of their user alone.  An IPv4 address
mapped into IPv6 (::ffff:192.0.2.1) is that IPv4 address.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from zope.interface import implementer

from tpops.errors import TooSoon
from tpops.interfaces import ILimiter, ITicket
from tpops.model import Peer
from tpops.policy.memory import AnyMemory
from tpops.policy.penalties import Penalties

#: Addresses whose prefix and exemption are remembered, so that each connection is looked at once.
_MOST_ADDRESSES = 8192

#: How the IPv6 form of an IPv4 address begins (RFC 4291 section 2.5.5.2).
_MAPPED = bytes(10) + b"\xff\xff"

#: A network: bits of its addresses, host bits, and the network's bits as a number.
_Network = tuple[int, int, int]


@implementer(ILimiter)
class Limits:
    """
    See the module.

    @ivar memory: who is connected, and who was here
    """

    def __init__(
        self,
        connections: int,
        connections_per_address: int,
        ipv6_prefix: int,
        exempt: Sequence[str],
        login_delay_seconds: float,
        penalties: Penalties,
        memory: AnyMemory,
        seconds: Callable[[], float],
        connections_per_user: int = 0,
        connections_per_user_and_address: int = 0,
    ) -> None:
        """
        @param ipv6_prefix: bits of an IPv6 address that make one client, 1 to 128
        @param penalties: how long failed logins last
        @param exempt: addresses and networks ("192.0.2.1", "2001:db8::/32")
        @param memory: counts, for these limits and others at the same time
        @param seconds: a clock for the time between logins
        @raise ValueError: when an exempt network or the prefix is none
        """
        if not 1 <= ipv6_prefix <= 128:
            raise ValueError(f"ipv6_prefix is {ipv6_prefix}, must be 1 to 128")
        self.memory = memory
        self._connections = connections
        self._connections_per_address = connections_per_address
        self._per_user = (connections_per_user, connections_per_user_and_address)
        self._login_delay_seconds = login_delay_seconds
        self._penalties = penalties
        self._seconds = seconds
        self._text_is_key = not exempt
        self._look = lru_cache(_MOST_ADDRESSES)(partial(_look, ipv6_prefix, tuple(map(_network, exempt))))

    def admit(self, peer: Peer) -> ITicket:
        key = None
        most = self._connections_per_address
        if most > 0:
            host = peer.host
            # A TCP peer without a colon is IPv4, and its text is its key: nothing to parse.
            plain = self._text_is_key and peer.port and ":" not in host
            key = host if plain else self._look(host)[0]
        return self.memory.enter(key, self._connections, most)

    def exempt(self, peer: Peer) -> bool:
        return not self._text_is_key and self._look(peer.host)[1]

    def admit_user(self, peer: Peer, name: str) -> ITicket | None:
        most, most_of_client = self._per_user
        if not (most or most_of_client):
            return None
        client, exempt = self._look(peer.host)
        if exempt:
            return None
        return self.memory.enter_user(name, client if most_of_client else None, most, most_of_client)

    def failed(self, peer: Peer, name: bytes, proof: bytes) -> float:
        """Existing names and others are treated alike: nobody learns from it who exists."""
        client: str | None = peer.host
        if ":" in peer.host or not self._text_is_key:
            client, exempt = self._look(peer.host)
            if exempt:
                return self._penalties.first_seconds
        return self._penalties.failed(client or peer.host, name, proof)

    def client(self, host: str) -> str:
        """What failures of this host are counted under."""
        return self._look(host)[0] or host

    def login_delay(self, peer: Peer, name: str) -> None:
        """A login that is let through starts the next pause; a refused one does not prolong it."""
        delay = self._login_delay_seconds
        if delay <= 0 or self.exempt(peer):
            return
        since = self.memory.login(name, self._seconds(), delay)
        if since is not None:
            raise TooSoon(f"last login {since:.1f} seconds ago, {delay - since:.1f} seconds left")


def _network(text: str) -> _Network:
    """An exempt network, ready to be compared; @raise ValueError: when it is none"""
    network = ipaddress.ip_network(text, strict=False)
    bits, host_bits = network.max_prefixlen, network.max_prefixlen - network.prefixlen
    value = int(network.network_address)
    if bits == 128 and host_bits <= 32 and value >> 32 == 0xFFFF:
        bits, value = 32, value & 0xFFFFFFFF
    return bits, host_bits, value >> host_bits


def _look(ipv6_prefix: int, exempt: tuple[_Network, ...], host: str) -> tuple[str | None, bool]:
    """What connections from this host are counted under, None for not by address; and whether it is exempt."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        packed = socket.inet_pton(family, host.partition("%")[0])
    except (OSError, ValueError):
        return None, False
    if packed[:12] == _MAPPED and len(packed) == 16:
        packed = packed[12:]
    bits, value = len(packed) * 8, int.from_bytes(packed)
    if any(bits == network[0] and value >> network[1] == network[2] for network in exempt):
        return None, True
    if bits == 32:
        return socket.inet_ntop(socket.AF_INET, packed), False
    host_bits = 128 - ipv6_prefix
    prefix = (value >> host_bits << host_bits).to_bytes(16)
    return f"{socket.inet_ntop(socket.AF_INET6, prefix)}/{ipv6_prefix}", False
