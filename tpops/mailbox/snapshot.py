"""
The listing of a maildrop as an immutable value, compact enough to be kept and shared.

Purpose: sessions of a process share one L{Snapshot} per unchanged maildrop; the bodies of LIST and UIDL are
ready-made.  Besides sizes and unique-ids it keeps for each message a I{place}: octets in which a driver says where
the message lies (never containing '/').
Limits: about 30 octets a message besides its unique-id and its place; offsets are 32 bit, so the UIDL body of one
maildrop may have up to 4 GiB.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate

from zope.interface import implementer

from tpops.interfaces import ISnapshot

#: Between places: the one octet besides NUL that no file name has.
_BETWEEN = b"/"

#: So many unique-ids are searched for one by one; for more of them, all are taken apart once.
_FEW = 16


@implementer(ISnapshot)
class Snapshot:
    """See L{ISnapshot}.  C{places} is all places, each followed by '/'."""

    __slots__ = ("_checksum", "count", "list_body", "octets", "place_ends", "places", "sizes", "uidl_body", "uidl_ends")

    def __init__(
        self,
        sizes: array[int],
        uidl_body: bytes,
        uidl_ends: array[int],
        places: bytes,
        place_ends: array[int],
        list_body: bytes,
    ) -> None:
        self.count = len(sizes)
        self.octets = sum(sizes)
        self.sizes: Sequence[int] = sizes
        self.uidl_body = uidl_body
        self.uidl_ends = uidl_ends
        self.places = places
        self.place_ends = place_ends
        self.list_body = list_body
        self._checksum: int | None = None

    @classmethod
    def of(cls, sizes: Sequence[int], unique_ids: Sequence[bytes], places: Sequence[bytes]) -> Snapshot:
        """Make one from a row each of sizes, unique-ids and places."""
        return _EMPTY.extended(sizes, unique_ids, places)

    def extended(self, sizes: Sequence[int], unique_ids: Sequence[bytes], places: Sequence[bytes]) -> Snapshot:
        """The same with more messages behind the last one; costs the new ones and a copy of the old octets."""
        first = self.count + 1
        uidl = [b"%d %s\r\n" % one for one in enumerate(unique_ids, first)]
        ended = [place + _BETWEEN for place in places]
        return Snapshot(
            array("Q", self.sizes) + array("Q", sizes),
            self.uidl_body + b"".join(uidl),
            self.uidl_ends + _ends(uidl, len(self.uidl_body)),
            self.places + b"".join(ended),
            self.place_ends + _ends(ended, len(self.places)),
            self.list_body + b"".join([b"%d %d\r\n" % one for one in enumerate(sizes, first)]),
        )

    def resized(self, sizes: dict[int, int]) -> Snapshot:
        """The same with other octets for some message numbers."""
        changed = array("Q", self.sizes)
        for number, octets in sizes.items():
            changed[number - 1] = octets
        body = b"".join([b"%d %d\r\n" % one for one in enumerate(changed, 1)])
        return Snapshot(changed, self.uidl_body, self.uidl_ends, self.places, self.place_ends, body)

    def unique_id(self, number: int) -> bytes:
        """See L{ISnapshot.unique_id}."""
        start = self.uidl_ends[number - 2] if number > 1 else 0
        return self.uidl_body[start + len(str(number)) + 1 : self.uidl_ends[number - 1] - 2]

    def unique_ids(self) -> list[bytes]:
        """All unique-ids in order."""
        return [line[line.index(b" ") + 1 :] for line in self.uidl_body.split(b"\r\n")[:-1]]

    def uidl_checksum(self) -> int:
        """See L{ISnapshot.uidl_checksum}; made once, when somebody asks."""
        if self._checksum is None:
            self._checksum = zlib.crc32(self.uidl_body)
        return self._checksum

    def place(self, number: int) -> bytes:
        """Where a message lies."""
        start = self.place_ends[number - 2] if number > 1 else 0
        return self.places[start : self.place_ends[number - 1] - 1]

    def all_places(self) -> list[bytes]:
        """All places in order."""
        return self.places.split(_BETWEEN)[:-1]

    def has_any(self, unique_ids: Sequence[bytes]) -> bool:
        """Whether some message has one of these unique-ids."""
        if len(unique_ids) <= _FEW:
            return any(b" %s\r\n" % one in self.uidl_body for one in unique_ids)
        return not set(unique_ids).isdisjoint(self.unique_ids())

    def memory(self) -> int:
        """Octets that it keeps in memory, roughly."""
        return 600 + 16 * self.count + len(self.uidl_body) + len(self.places) + len(self.list_body)


def _ends(pieces: list[bytes], start: int) -> array[int]:
    ends = accumulate(map(len, pieces), initial=start)
    next(ends)
    return array("I", ends)


_EMPTY = Snapshot(array("Q"), b"", array("I"), b"", array("I"), b"")
