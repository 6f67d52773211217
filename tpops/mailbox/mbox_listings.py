"""
The listings of spools: from memory, from the index file, or by reading what is new in the spool.

What it costs: an unchanged spool that was seen before, one C{stat}; one that mail was appended to, reading the new part
and a few octets of the old; any other change, reading all of it.
When a spool counts as appended to: it is the same file, longer, and where its last message and some before it began,
they begin still: whatever takes something away moves all that is behind.  To look for separators is not enough: others
of the same sizes may have come, as machines send them.
Limits: L{MboxListings.refresh} blocks; its caller holds the spool's locks.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from functools import partial

import attrs
from twisted.logger import Logger

from tpops.mailbox import index, mbox_append
from tpops.mailbox.index import Stamp
from tpops.mailbox.listings import SnapshotCache
from tpops.mailbox.mbox_scan import HASH, Found, Place, Read, made_unique, probed, scan
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.tally import TALLY

_log = Logger()

#: Messages that are looked at before a spool counts as appended to, besides the last.
_SAMPLES = 16

_LONGEST_NAME = 200

#: A listing and what the spool was like.
Listing = tuple[Stamp, Snapshot]


def stamp_of(facts: os.stat_result) -> Stamp:
    """What tells whether a spool changed, in the form of an index's stamp: inode, time and size."""
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size), (0, 0, 0), (0, 0, 0)


class MboxListings:
    """
    See the module.

    @param style: of the unique-ids, see L{tpops.mailbox.mbox_scan}
    @param unquote: the spools are "mboxrd"
    @param directory: where index files, journals and session locks are
    @param use_index: keep index files
    @param cache_octets: memory for snapshots
    """

    def __init__(self, style: str, unquote: bool, directory: str, use_index: bool, cache_octets: int) -> None:
        self.cache: SnapshotCache[Stamp, Snapshot] = SnapshotCache(cache_octets)
        self._style = style
        self._unquote = unquote
        self._signature = f"mbox2/{style}/{int(unquote)}"
        self._directory = os.fsencode(directory)
        self._use_index = use_index
        self._complained = False

    def path(self, spool: bytes, ending: bytes) -> bytes:
        """The path of a file of ours about a spool."""
        name = urllib.parse.quote_from_bytes(spool, safe="").encode("ascii")
        if len(name) > _LONGEST_NAME:
            name = hashlib.sha256(spool).hexdigest().encode("ascii")
        return os.path.join(self._directory, name + ending)

    def journal(self, spool: bytes) -> bytes:
        """The path of the journal of a spool's rewriting."""
        return self.path(spool, b".journal")

    def has_journal(self, spool: bytes) -> bool:
        """Whether somebody was killed while he rewrote the spool or appended to it, or is doing that."""
        return any(map(os.path.exists, (self.journal(spool), self.path(spool, b".append"))))

    def recover(self, spool: bytes, descriptor: int) -> None:
        """Make a spool whole that is locked and open for writing.  @raise OSError: when that fails"""
        mbox_append.recover(descriptor, self.path(spool, b".append"), self.journal(spool))

    def current(self, spool: bytes, facts: os.stat_result) -> Listing | None:
        """The listing when it is in memory and still true, else None."""
        kept = self.cache.get(spool)
        if kept is None or kept[0] != stamp_of(facts):
            return None
        TALLY.found_in_memory()
        return kept

    def refresh(self, spool: bytes, descriptor: int) -> Listing:
        """
        The listing of an open, locked spool.

        @raise OSError: when it cannot be read
        @raise NoSpool: when it is not in the mbox format
        """
        facts = os.fstat(descriptor)
        stamp = stamp_of(facts)
        kept = self.cache.get(spool)
        if kept is None and self._use_index:
            kept = index.load(self.path(spool, b".index"), self._signature)
        if kept is None or kept[0] != stamp:
            old = kept[1] if kept is not None and self._appended(kept, facts, descriptor) else None
            kept = stamp, self._read(descriptor, facts.st_size, old)
            self.save(spool, kept)
            TALLY.scanned()
        else:
            TALLY.found_in_index()
        self.cache.put(spool, *kept)
        return kept

    def keep(self, spool: bytes, listing: Listing) -> None:
        """This is the listing now."""
        self.cache.put(spool, *listing)
        self.save(spool, listing)

    def save(self, spool: bytes, listing: Listing) -> None:
        """Write the index file.  A failure is logged once: listings then come from memory."""
        if not self._use_index:
            return
        why = index.save(self.path(spool, b".index"), index.pack(listing[1], listing[0], self._signature))
        if why is not None and not self._complained:
            self._complained = True
            _log.warn("no index kept for {spool!r}: {why}; it is listed from memory", spool=spool, why=why)

    def forget(self, spool: bytes) -> None:
        """The listing has turned out to be wrong: the next one is read anew."""
        self.cache.drop(spool)
        if self._use_index:
            index.discard(self.path(spool, b".index"))

    def without(self, listing: Listing, gone: Sequence[int], stamp: Stamp) -> Listing:
        """The listing after these messages, in order, were taken out of the spool."""
        _, old = listing
        unique_ids, places, sizes = old.unique_ids(), old.all_places(), old.sizes
        removed = frozenset(gone)
        moved = 0
        rows: list[tuple[int, bytes, bytes]] = []
        for number in range(1, old.count + 1):
            place = Place.unpack(places[number - 1])
            if number in removed:
                moved += place.next - place.start
            else:
                rows.append((sizes[number - 1], unique_ids[number - 1], place.moved(-moved).pack()))
        return stamp, Snapshot.of([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows])

    def grown(self, listing: Listing, growth: Mapping[int, tuple[int, int]], stamp: Stamp, read: Read) -> Listing:
        """
        The listing after some messages got longer, or other marks.

        @param growth: by message number, stored octets and wire octets
        @param read: of the spool as it is now
        """
        _, old = listing
        places, sizes = old.all_places(), list(old.sizes)
        moved = 0
        for at, packed in enumerate(places):
            place = Place.unpack(packed).moved(moved)
            if at + 1 in growth:
                stored, wire = growth[at + 1]
                place = attrs.evolve(place, end=place.end + stored, next=place.next + stored)
                place = attrs.evolve(place, probe=probed(read, place))
                moved += stored
                sizes[at] += wire
            places[at] = place.pack()
        return stamp, Snapshot.of(sizes, old.unique_ids(), places)

    def _appended(self, kept: Listing, facts: os.stat_result, descriptor: int) -> bool:
        """Whether the spool is what it was with something behind it."""
        (inode, _, size), snapshot = kept[0][0], kept[1]
        if inode != facts.st_ino or facts.st_size <= size or not snapshot.count:
            return False
        step = max(1, snapshot.count // _SAMPLES)
        for number in {*range(1, snapshot.count + 1, step), snapshot.count}:
            place = Place.unpack(snapshot.place(number))
            if probed(partial(pread, descriptor), place) != place.probe:
                return False
        return True

    def _read(self, descriptor: int, size: int, old: Snapshot | None) -> Snapshot:
        """The spool's messages; those of C{old}, but the last, are not read again."""
        read = partial(pread, descriptor)
        if old is None:
            found = list(scan(read, 0, size, self._style, self._unquote))
            return _extended(Snapshot.of([], [], []), found)
        last = Place.unpack(old.place(old.count))
        again, *new = scan(read, last.start, size, self._style, self._unquote)
        if (again.size, again.place.pack()) == (old.sizes[old.count - 1], old.place(old.count)):
            return _extended(old, new)
        sizes, unique_ids, places = list(old.sizes), old.unique_ids(), old.all_places()
        sizes[-1], places[-1] = again.size, again.place.pack()
        if again.place.end != last.end and self._style == HASH:
            # More belongs to it than was there: it was being written, or it was not the last line's end.
            unique_ids[-1] = made_unique(again.unique_id, unique_ids[:-1])
        return _extended(Snapshot.of(sizes, unique_ids, places), new)


def pread(descriptor: int, offset: int, octets: int) -> bytes:
    """See L{tpops.mailbox.mbox_scan.Read}."""
    return os.pread(descriptor, octets, offset)


def _extended(old: Snapshot, found: Sequence[Found]) -> Snapshot:
    """With more messages, whose unique-ids are made unique."""
    if not found:
        return old
    taken = set(old.unique_ids())
    unique_ids = []
    for one in found:
        unique_id = made_unique(one.unique_id, taken)
        taken.add(unique_id)
        unique_ids.append(unique_id)
    return old.extended([one.size for one in found], unique_ids, [one.place.pack() for one in found])
