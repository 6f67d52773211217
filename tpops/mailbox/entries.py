"""
Messages of a Maildir, as a scan works with them and as a L{Snapshot} keeps them.

A place (see L{Snapshot}) is 'n' or 'c' for the directory, then what the name has behind the unique-id; where the
unique-id is not the name's beginning, 'N' or 'C' and the whole name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tpops.mailbox.snapshot import Snapshot

#: The two directories by the letter that a place begins with.
DIRECTORIES = {b"n": b"new/", b"c": b"cur/"}

#: A directory's letter and a file name.
Place = tuple[bytes, bytes]

_NUMBER = re.compile(rb"[0-9]+")
_NO_NUMBER = 1 << 80


class Entry(NamedTuple):
    """
    One message; entries sort in the order of the maildrop.

    @ivar known: it was in the last listing, with this unique-id
    """

    number: int
    name: bytes
    directory: bytes
    octets: int
    unique_id: bytes
    known: bool = True

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.directory, self.name


def number_of(name: bytes) -> int:
    """The number that a name begins with; one without a number comes last."""
    digits = _NUMBER.match(name)
    return int(digits[0][:24]) if digits else _NO_NUMBER


def place_of(directory: bytes, name: bytes, unique_id: bytes) -> bytes:
    """How a snapshot says where a message lies; directory is b"n" or b"c"."""
    if name.startswith(unique_id):
        return directory + name[len(unique_id) :]
    return directory.upper() + name


def name_of(place: bytes, unique_id: bytes) -> Place:
    """Directory (b"n" or b"c") and file name of a message."""
    mark = place[:1]
    if mark in (b"n", b"c"):
        return mark, unique_id + place[1:]
    return mark.lower(), place[1:]


def entries_of(snapshot: Snapshot) -> list[Entry]:
    """A snapshot's messages as entries."""
    found = []
    for octets, unique_id, place in zip(snapshot.sizes, snapshot.unique_ids(), snapshot.all_places(), strict=True):
        directory, name = name_of(place, unique_id)
        found.append(Entry(number_of(name), name, directory, octets, unique_id))
    return found
