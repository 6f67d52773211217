"""
Keys and values as tpop3d's auth-other has them: key NUL value NUL ... and at the end an empty key.

Purpose: the format of requests and replies, for programs that judge passwords.
Limits: a packet has at most L{MOST_OCTETS} octets, as in tpop3d.  No value has a NUL.
Errors: ValueError, with a reason and never with a value.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Longest packet.
MOST_OCTETS = 4096


def packed(pairs: Mapping[str, bytes], most: int = MOST_OCTETS) -> bytes:
    """
    A packet; pairs with an empty value are left out, for programs that look for two NULs.

    @raise ValueError: when it would be too long, or a value has a NUL
    """
    if any(b"\0" in value for value in pairs.values()):
        raise ValueError("a value has a NUL")
    packet = b"".join(b"%s\0%s\0" % (key.encode("ascii"), value) for key, value in pairs.items() if value) + b"\0"
    if len(packet) > most:
        raise ValueError(f"request would have {len(packet)} octets, at most {most} are possible")
    return packet


class Unpacking:
    """One packet that comes in pieces."""

    def __init__(self) -> None:
        self._octets = b""

    def feed(self, octets: bytes) -> dict[str, bytes] | None:
        """
        The next piece.

        @return: the pairs, None while the packet is not complete
        @raise ValueError: when this is no packet, or more than one
        """
        self._octets += octets
        if len(self._octets) > MOST_OCTETS:
            raise ValueError(f"reply has more than {MOST_OCTETS} octets")
        pairs: dict[str, bytes] = {}
        fields = self._octets.split(b"\0")
        rest = fields.pop()
        for position in range(0, len(fields), 2):
            key = fields[position]
            if not key:
                if rest or position + 1 != len(fields):
                    raise ValueError("reply goes on behind its end")
                return pairs
            if position + 1 < len(fields):
                pairs[_key(key)] = fields[position + 1]
        return None


def _key(octets: bytes) -> str:
    if not octets.isascii() or not octets.replace(b"_", b"").isalnum():
        raise ValueError("a key of the reply is not made of letters, digits and underscores")
    return octets.decode("ascii")
