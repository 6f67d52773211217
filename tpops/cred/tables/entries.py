"""What the readers of lookup tables have in common: what they give, and how they say that a table is broken."""

from __future__ import annotations

import struct

import attrs


class Damaged(ValueError):
    """The octets are not a whole table of the format; the text says what is wrong, and shows nothing of it."""


@attrs.frozen(slots=True)
class BadEntry:
    """
    An entry that cannot be used, in a table that is whole otherwise.

    @ivar line: its line, for tables of text
    @ivar why: what is wrong
    """

    line: int
    why: str


#: Key and value.
Pair = tuple[bytes, bytes]


def field(octets: bytes, at: int, length: int) -> bytes:
    """
    A piece of a table.

    @raise Damaged: when it is not all there
    """
    if at < 0 or length < 0 or at + length > len(octets):
        raise Damaged("it ends before its last entry")
    return octets[at : at + length]


def numbers(form: str, octets: bytes, at: int) -> tuple[int, ...]:
    """
    Numbers in a table.

    @param form: as for L{struct.unpack}
    @raise Damaged: when they are not all there
    """
    if at < 0:
        raise Damaged("it has a place before its beginning")
    try:
        return struct.unpack_from(form, octets, at)
    except struct.error:
        raise Damaged("it ends before its last entry") from None
