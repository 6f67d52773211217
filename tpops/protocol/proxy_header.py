"""
The PROXY protocol's header, versions 1 and 2: what a load balancer says about the client before the client speaks.

Purpose: octets to an L{Origin}.  Specification: HAProxy's proxy-protocol.txt (2020/03/05).
Limits: TCP over IPv4 and IPv6, and UNIX streams.  Version 1 has at most 107 octets, of version 2 at most
L{MOST_OCTETS} are accepted.  Of the extensions (TLV) only PP2_TYPE_SSL is read; a checksum (PP2_TYPE_CRC32C) is not
compared, TCP has its own.
Security: whoever may send a header may claim to be anybody; the caller asks only those whom the operator trusts.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from typing import NamedTuple

#: How version 2 begins.
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

_BEGINS_1 = b"PROXY "

#: Longest line of version 1, with its CRLF.
_LINE_OCTETS = 107

#: Longest header of version 2.
MOST_OCTETS = 4096

_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21

#: By the octet of family and protocol: octets of the two addresses, and of everything about them.
_TCP4, _TCP6, _UNIX, _UNSPECIFIED = 0x11, 0x21, 0x31, 0x00
_ADDRESS_OCTETS = {_TCP4: (4, 12), _TCP6: (16, 36), _UNIX: (108, 216)}

_TLV_SSL, _SSL_VERSION, _SSL_CIPHER = 0x20, 0x21, 0x23
_CLIENT_SSL = 0x01
_SSL_FIXED_OCTETS = 5


class Origin(NamedTuple):
    """
    Where a connection really comes from.

    @ivar host: the client's address, or "unix"
    @ivar port: its port, 0 for UNIX
    @ivar local_host: the address at which it arrived at the balancer
    @ivar local_port: the port
    @ivar tls: version and cipher of the TLS that ends at the balancer, "" for none
    """

    host: str
    port: int
    local_host: str
    local_port: int
    tls: str = ""


def parse(data: bytes) -> tuple[Origin | None, int] | None:
    """
    Read a header at the beginning of what has come.

    @return: the origin, None where the header says that the connection is the balancer's own, and how many octets the
        header has; None when more octets are needed to tell
    @raise ValueError: when this is no header, with what is wrong
    """
    if data[:1] == SIGNATURE[:1]:
        _may_begin(data, SIGNATURE)
        return _version_2(data) if len(data) >= _FIXED.size else None
    _may_begin(data, _BEGINS_1)
    end = data.find(b"\r\n", 0, _LINE_OCTETS)
    if end < 0:
        if len(data) >= _LINE_OCTETS:
            raise ValueError(f"the line of version 1 is longer than {_LINE_OCTETS} octets")
        return None
    return _version_1(data[:end]), end + 2


def _may_begin(data: bytes, begins: bytes) -> None:
    """@raise ValueError: when this cannot become a header"""
    if data[: len(begins)] != begins[: len(data)]:
        raise ValueError("there is no PROXY header")


def _version_1(line: bytes) -> Origin | None:
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":
        return None
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ValueError("the line of version 1 is not 'PROXY TCP4|TCP6 source destination port port'")
    family = ipaddress.IPv4Address if words[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, destination = (str(family(word.decode("ascii"))) for word in words[2:4])
    except ValueError:
        raise ValueError("the line of version 1 has a wrong address") from None
    return Origin(source, _port(words[4]), destination, _port(words[5]))


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise ValueError("the line of version 1 has a wrong port")
    return int(word)


def _version_2(data: bytes) -> tuple[Origin | None, int] | None:
    _, command, family, octets = _FIXED.unpack_from(data)
    end = _FIXED.size + octets
    if command not in (_LOCAL, _PROXY):
        raise ValueError(f"version and command are 0x{command:02x}, must be 0x20 or 0x21")
    if end > MOST_OCTETS:
        raise ValueError(f"the header has {end} octets, at most {MOST_OCTETS} are accepted")
    if len(data) < end:
        return None
    if command == _LOCAL or family == _UNSPECIFIED:
        return None, end
    return _addresses(family, data[_FIXED.size : end]), end


def _addresses(family: int, body: bytes) -> Origin:
    if family not in _ADDRESS_OCTETS:
        raise ValueError(f"family and protocol are 0x{family:02x}, which no POP3 client has")
    one, all_octets = _ADDRESS_OCTETS[family]
    if len(body) < all_octets:
        raise ValueError("the header is too short for its addresses")
    tls = _tls(dict(_extensions(body[all_octets:])).get(_TLV_SSL, b""))
    if family == _UNIX:
        return Origin("unix", 0, "unix", 0, tls)
    source, destination = (str(ipaddress.ip_address(part)) for part in (body[:one], body[one : 2 * one]))
    ports = struct.unpack_from("!HH", body, 2 * one)
    return Origin(source, ports[0], destination, ports[1], tls)


def _extensions(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each TLV."""
    while octets:
        if len(octets) < 3:
            raise ValueError("an extension of the header is cut off")
        kind, length = struct.unpack_from("!BH", octets)
        if len(octets) < 3 + length:
            raise ValueError("an extension of the header is cut off")
        yield kind, octets[3 : 3 + length]
        octets = octets[3 + length :]


def _tls(value: bytes) -> str:
    """What PP2_TYPE_SSL says: version and cipher."""
    if len(value) < _SSL_FIXED_OCTETS or not value[0] & _CLIENT_SSL:
        return ""
    said = dict(_extensions(value[_SSL_FIXED_OCTETS:]))
    words = [said[kind].decode("ascii", "replace") for kind in (_SSL_VERSION, _SSL_CIPHER) if kind in said]
    return " ".join("".join(sign for sign in word[:64] if sign.isprintable()) for word in words) or "TLS"
