"""
The file C{tpops_index}: a maildrop's L{Snapshot} kept on disk.

Purpose: after a restart, or when many maildrops do not fit into memory, an unchanged maildrop still costs no scan, and
no message is ever read twice to learn its size.
It is a cache and nothing but: a file that is lost, torn, foreign, of another version or made with other settings is
as good as none.  It is replaced by rename, so a reader sees the old or the new one, whole.
The whole file is checked by a CRC and read, not mapped: see docs/decisions/0002.

Layout, little endian: magic, CRC-32 of all that follows, settings, stamp, count, lengths of the four sections; then
sizes (u64 each), ends of UIDL lines (u32 each), ends of places (u32 each), UIDL body, places, LIST body.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
import zlib
from array import array
from itertools import pairwise

from tpops.mailbox.sizes import OPEN_FLAGS
from tpops.mailbox.snapshot import Snapshot

INDEX_FILE = b"tpops_index"

#: What tells whether a directory changed: inode, mtime_ns, ctime_ns; zeros where it is missing.
DirectoryStamp = tuple[int, int, int]
#: Stamps of new, cur and the unique-id map.
Stamp = tuple[DirectoryStamp, DirectoryStamp, DirectoryStamp]

#: A larger file is not taken for an index: it belongs to the mail's owner, who may have put anything there.
MOST_OCTETS = 1 << 28

_MAGIC = b"tpopsIX2"
_HEAD = struct.Struct("<8sL")
_BODY = struct.Struct("<16s9qQQQQ")


def pack(snapshot: Snapshot, stamp: Stamp, settings: str) -> bytes:
    """The file's octets."""
    numbers = [one for directory in stamp for one in directory]
    body = b"".join(
        (
            _BODY.pack(
                settings.encode("ascii")[:16],
                *numbers,
                snapshot.count,
                len(snapshot.uidl_body),
                len(snapshot.places),
                len(snapshot.list_body),
            ),
            _little(array("Q", snapshot.sizes)),
            _little(snapshot.uidl_ends),
            _little(snapshot.place_ends),
            snapshot.uidl_body,
            snapshot.places,
            snapshot.list_body,
        )
    )
    return _HEAD.pack(_MAGIC, zlib.crc32(body)) + body


def unpack(octets: bytes, settings: str) -> tuple[Stamp, Snapshot] | None:
    """The stamp and the snapshot made at it, or None when the octets are not a good index."""
    if len(octets) < _HEAD.size + _BODY.size:
        return None
    magic, checksum = _HEAD.unpack_from(octets)
    if magic != _MAGIC or zlib.crc32(memoryview(octets)[_HEAD.size :]) != checksum:
        return None
    made_with, *numbers = _BODY.unpack_from(octets, _HEAD.size)
    if made_with.rstrip(b"\0") != settings.encode("ascii")[:16]:
        return None
    new, cur, mapped = (tuple(numbers[at : at + 3]) for at in (0, 3, 6))
    count, uidl_octets, places_octets, list_octets = numbers[9:]
    cuts = [_HEAD.size + _BODY.size]
    for length in (8 * count, 4 * count, 4 * count, uidl_octets, places_octets, list_octets):
        cuts.append(cuts[-1] + length)
    if cuts[-1] != len(octets):
        return None
    part = [octets[start:end] for start, end in pairwise(cuts)]
    snapshot = Snapshot(_array("Q", part[0]), part[3], _array("I", part[1]), part[4], _array("I", part[2]), part[5])
    return (new, cur, mapped), snapshot


def load(path: bytes, settings: str) -> tuple[Stamp, Snapshot] | None:
    """Read an index file; None when there is no good one."""
    try:
        octets = read_regular(path, MOST_OCTETS)
    except OSError:
        # No index, or none that can be read: the maildrop is scanned, as on the first day.
        return None
    return unpack(octets, settings) if octets is not None else None


def read_regular(path: bytes, most_octets: int) -> bytes | None:
    """
    Read a file that belongs to the mail's owner, who may have put anything in its place.

    @return: None when it is no regular file, or a larger one
    @raise OSError: when it cannot be read
    """
    with open(path, "rb", opener=lambda name, _: os.open(name, OPEN_FLAGS)) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > most_octets:
            return None
        return file.read(most_octets)


def save(path: bytes, octets: bytes, owner: tuple[int, int] | None = None) -> str | None:
    """
    Replace an index file.

    @param owner: user and group to give it to, when running as root
    @return: None, or why it could not be written: then the old one, or none, is in place
    """
    # Under the Maildir's lock nobody else writes it; what a killed process left goes.
    temporary = path + b".tmp"
    discard(temporary)
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        return str(problem)
    try:
        with open(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(descriptor, *owner)
            file.write(octets)
        os.replace(temporary, path)
    except OSError as problem:
        discard(temporary)
        return str(problem)
    return None


def discard(path: bytes) -> None:
    """Remove an index file, if it is there and can be removed."""
    try:
        os.unlink(path)
    except OSError:
        # It is not there, or stays: then it cannot be made either, and save says why.
        return


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _array(typecode: str, octets: bytes) -> array[int]:
    numbers = array(typecode)
    numbers.frombytes(octets)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
