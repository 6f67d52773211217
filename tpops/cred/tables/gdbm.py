"""
GNU dbm: what is in the ".pag" file of a "dbm:" table where ndbm is that of GNU, as on Linux.

Purpose: all entries: the directory names the buckets, a bucket names its entries.
Limits: files of machines with 64 or 32 bits, in either order of octets.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tpops.cred.tables.entries import Damaged, Pair, field, numbers

#: The first four octets: the format of old, with 4-octet and 8-octet offsets, and the same with crash tolerance.
_MAGICS = (0x13579ACE, 0x13579ACD, 0x13579ACF, 0x13579AD0, 0x13579AD1)

#: What stands for no entry where its hash should be.
_FREE = -1


@attrs.frozen(slots=True)
class _Layout:
    """
    How the file's numbers lie, all as for L{struct}.

    @ivar offset: an offset in the file
    @ivar offset_octets: its length
    @ivar bucket_octets: what is in a bucket before its entries; ends with their count
    """

    offset: str
    offset_octets: int
    bucket_octets: int

    @property
    def header(self) -> str:
        """Magic, block size, offset and octets of the directory, its bits, octets and entries of a bucket."""
        return f"2L{self.offset}4l"

    @property
    def entry(self) -> str:
        """Hash, offset of the data, octets of the key, octets of the value; the key's beginning is passed over."""
        return f"l4x{self.offset}2l"


#: Of machines with 64 bits; of those with 32 bits, with long and with short offsets.
_LAYOUTS = (_Layout("q", 8, 112), _Layout("q", 8, 84), _Layout("l", 4, 60))


def recognizes(octets: bytes) -> bool:
    """Whether these are the octets of a file of this format."""
    return any(octets[:4] == magic.to_bytes(4, order) for magic in _MAGICS for order in ("little", "big"))


def read(octets: bytes) -> Iterator[Pair]:
    """
    The entries of a table.

    @raise Damaged: when it is not whole
    """
    order = "<" if int.from_bytes(octets[:4], "little") in _MAGICS else ">"
    for layout in _LAYOUTS:
        _, _, place, length, _, bucket_octets, entries = numbers(order + layout.header, octets, 0)
        whole = length > 0 and not length % layout.offset_octets
        if whole and entries > 0 and (bucket_octets - layout.bucket_octets) // (16 + layout.offset_octets) == entries:
            break
    else:
        raise Damaged("its header is broken")
    buckets = numbers(f"{order}{length // layout.offset_octets}{layout.offset}", octets, place)
    for bucket in dict.fromkeys(buckets):
        yield from _bucket(octets, bucket, entries, layout, order)


def _bucket(octets: bytes, bucket: int, entries: int, layout: _Layout, order: str) -> Iterator[Pair]:
    (count,) = numbers(f"{order}l", octets, bucket + layout.bucket_octets - 4)
    found = 0
    for entry in range(entries):
        place = bucket + layout.bucket_octets + entry * (16 + layout.offset_octets)
        known, data, key_octets, value_octets = numbers(order + layout.entry, octets, place)
        if known != _FREE:
            found += 1
            key = field(octets, data, key_octets)
            if key[:4] != field(octets, place + 4, min(4, key_octets)):
                raise Damaged("an entry is not where it should be")
            yield key, field(octets, data + key_octets, value_octets)
    if found != count:
        raise Damaged(f"a bucket has {found} entries where there should be {count}")
