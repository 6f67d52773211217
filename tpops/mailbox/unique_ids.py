"""
Unique-ids of messages in a Maildir (RFC 1939 section 7, UIDL).

Purpose: the unique-id is the file's base name, what comes before the first ':', as qmail-pop3d, TPOPS and Courier
have it: it does not change when flags do, when other messages go, or when an index is lost.
Exceptions: a base name that is no unique-id (over 70 octets, or octets outside 0x21-0x7E) is replaced by a hash of
it; of two files with the same base name, one (the one that had it, else the older) has it as its unique-id and the
other a hash of base name, inode and time; the file C{tpops_uidl} of TPOPS 0.6.4 (lines C{filename TAB unique-id})
overrides, where it is switched on.
In the style of tpop3d it is an MD5 of the base name; of a message in a folder, of what tpop3d took for its name there:
C{new} or C{cur} as well, so only the index keeps it when the message moves from one to the other.
"""

from __future__ import annotations

import hashlib
import re

MAP_FILE = b"tpops_uidl"

#: What tells a file from others whatever its name is: inode and mtime_ns; the inode alone may be used again.
FileMark = tuple[int, int]

_VALID = re.compile(rb"[\x21-\x7e]{1,70}")
_HASH = re.compile(rb"[0-9a-f]{40}")

#: Names that hard links of one file, with one base name, are looked for.
_MOST_LINKS = 16


def base_name(name: bytes) -> bytes:
    """The part of a Maildir file name that never changes."""
    return name.partition(b":")[0]


def valid(unique_id: bytes) -> bool:
    """Whether RFC 1939 section 7 allows it."""
    return _VALID.fullmatch(unique_id) is not None


def from_base(base: bytes) -> bytes:
    """The unique-id of a base name."""
    return base if valid(base) else _hash(base)


def as_tpop3d(base: bytes, directory: bytes, folder: bytes = b"") -> bytes:
    """
    The unique-id that tpop3d gives.

    @param directory: b"new/" or b"cur/"
    @param folder: the folder's directory, from the Maildir on, such as b".Lists"; b"" for the Maildir itself
    """
    # tpop3d leaves out four octets, "new/" or "cur/"; of "./.Lists/new/" they are other ones.
    path = b"./%s/%s%s" % (folder, directory, base) if folder else directory + base
    return hashlib.md5(path[4:], usedforsecurity=False).hexdigest().encode("ascii")


def in_folder(unique_id: bytes, folder: bytes, nth: int = 0) -> bytes:
    """The unique-id, among those of the Maildir and all its folders, of a message that is in a folder."""
    return _hash(b"%s/%s" % (folder, unique_id) if not nth else b"%s/%s/%d" % (folder, unique_id, nth))


def from_twin(base: bytes, file: FileMark, nth: int = 0) -> bytes:
    """The unique-id of a file whose base name another file has, too; C{nth} tells hard links of one inode apart."""
    return _hash(b"%s/%d/%d/%d" % (base, *file, nth))


def may_be_twin(unique_id: bytes, base: bytes) -> bool:
    """Whether L{from_twin} may have made the unique-id of a file of that base name."""
    return _HASH.fullmatch(unique_id) is not None and unique_id != from_base(base)


def is_twin(unique_id: bytes, base: bytes, file: FileMark) -> bool:
    """Whether L{from_twin} made the unique-id of this file."""
    return may_be_twin(unique_id, base) and any(unique_id == from_twin(base, file, nth) for nth in range(_MOST_LINKS))


def parse_map(text: bytes) -> dict[bytes, bytes]:
    """
    Read C{tpops_uidl}: unique-ids by base name.

    Lines that are not C{filename TAB unique-id}, or whose unique-id RFC 1939 forbids, are left out.
    """
    found = {}
    for line in text.splitlines():
        name, tab, unique_id = line.partition(b"\t")
        if tab and name and valid(unique_id):
            found[base_name(name)] = unique_id
    return found


def _hash(octets: bytes) -> bytes:
    return hashlib.sha256(octets).hexdigest()[:40].encode("ascii")
