"""
Messages that are known again: each has a token, and octets that are told apart by their hash.

What comes before the field with the token was put there on the way (Return-Path, Received, marks of spools), and does
not count.
"""

from __future__ import annotations

import hashlib
import random
import re

TOKEN = re.compile(rb"^X-Soak-Token: (\S+)\r?$", re.MULTILINE)

#: Lines that servers get wrong.
_AWKWARD = (b".", b"..", b".text", b"From me to you", b">From me", b"", b"QUIT", b"x" * 997, b"caf\xc3\xa9 \xff", b" ")

_SIZES = ((300, 60), (3_000, 30), (40_000, 9), (400_000, 1))


def make(token: str, chance: random.Random) -> bytes:
    """A message as it is stored, with LF line ends."""
    octets = chance.choices([size for size, _ in _SIZES], [weight for _, weight in _SIZES])[0]
    octets = chance.randrange(octets // 2, octets)
    head = b"X-Soak-Token: %s\nFrom: <soak@example.org>\nSubject: %s\n\n" % (token.encode(), token.encode())
    lines = [head]
    length = len(head)
    while length < octets:
        awkward = chance.random() < 0.1
        line = (chance.choice(_AWKWARD) if awkward else chance.randbytes(24).hex().encode()) + b"\n"
        lines.append(line)
        length += len(line)
    return b"".join([*lines, b"the end of %s\n" % token.encode()])


def known(octets: bytes) -> tuple[str, str]:
    """The token of a message, stored or sent, and the hash of what counts; empty texts when there is no token."""
    found = TOKEN.search(octets)
    if found is None:
        return "", ""
    return found[1].decode(errors="replace"), digest(octets[found.start() :])


def digest(octets: bytes) -> str:
    """The hash of a message from its token on, whatever its line ends are."""
    return hashlib.sha256(octets.replace(b"\r\n", b"\n")).hexdigest()
