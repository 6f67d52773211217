"""
Addresses of clients, and networks, in the one form in which they are stored and compared.

Purpose: the POP3 server, Postfix and an operator write the same address in different ways: IPv4 in IPv6
("::ffff:192.0.2.1"), capital letters, zeros, a zone ("fe80::1%eth0").  Here each has one text.
Limits: no names are resolved.  A network of one address is written as the address alone.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@functools.lru_cache(maxsize=4096)
def _parse(text: str) -> _Address | None:
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped
    return parsed


def canonical(text: str) -> str | None:
    """An address in its one form, None where it is none (the path of a UNIX socket, "unknown")."""
    parsed = _parse(text)
    return None if parsed is None else str(parsed)


@functools.lru_cache(maxsize=4096)
def site(text: str, ipv6_prefix: int) -> str | None:
    """
    Where a client is, as logins are stored: its IPv4 address, or so many leading bits of its IPv6 address.

    @return: None where it has no address
    """
    parsed = _parse(text)
    if parsed is None:
        return None
    if isinstance(parsed, ipaddress.IPv4Address) or ipv6_prefix == parsed.max_prefixlen:
        return str(parsed)
    return str(ipaddress.ip_network((parsed, ipv6_prefix), strict=False))


def network(text: str) -> str:
    """
    An address or a network (CIDR) in its one form.

    @raise ValueError: when it is none, with what would be right
    """
    address, slash, bits = text.strip().partition("/")
    try:
        parsed = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f'{text!r} is no address or network such as "192.0.2.1", "192.0.2.0/24" or "2001:db8::/32"'
        ) from None
    if slash and not bits.isdigit():
        raise ValueError(f"{text!r} must be written {parsed}")
    if ipaddress.ip_address(address) != parsed.network_address:
        raise ValueError(f"{text!r} is an address in the network {parsed}; write {address} or {parsed}")
    if isinstance(parsed, ipaddress.IPv6Network) and parsed.network_address.ipv4_mapped is not None:
        if parsed.prefixlen < 96:
            raise ValueError(f"{text!r} must be written as an IPv4 network")
        return network(f"{parsed.network_address.ipv4_mapped}/{parsed.prefixlen - 96}")
    return str(parsed.network_address) if parsed.prefixlen == parsed.max_prefixlen else str(parsed)


@functools.lru_cache(maxsize=1024)
def networks_around(text: str) -> Sequence[str]:
    """Every network that a canonical address is in, the smallest, which is the address itself, first."""
    parsed = ipaddress.ip_address(text)
    longer = range(parsed.max_prefixlen - 1, -1, -1)
    return (text, *(str(ipaddress.ip_network((parsed, bits), strict=False)) for bits in longer))
