"""
Constant databases: "cdb:" of Postfix, the format of D. J. Bernstein's cdb.

Purpose: all entries, in the order of the file; where a key is there twice, the first is the one that counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from tpops.cred.tables.entries import Damaged, Pair, field, numbers

_TABLES = 256
_HEADER_OCTETS = _TABLES * 8


def read(octets: bytes) -> Iterator[Pair]:
    """
    The entries of a table.

    @raise Damaged: when it is not whole
    """
    header = numbers(f"<{_TABLES * 2}L", octets, 0)
    slots = sum(header[1::2])
    end = min(header[0::2])
    if end < _HEADER_OCTETS or end + slots * 8 > len(octets):
        raise Damaged("it ends before its last entry")
    at = _HEADER_OCTETS
    found = 0
    while at < end:
        key_octets, value_octets = numbers("<2L", octets, at)
        at += 8
        if at + key_octets + value_octets > end:
            raise Damaged("an entry is longer than the table")
        yield field(octets, at, key_octets), field(octets, at + key_octets, value_octets)
        at += key_octets + value_octets
        found += 1
    # A hash table has twice as many slots as entries.
    if found * 2 != slots:
        raise Damaged(f"it has {found} entries where there should be {slots // 2}")
