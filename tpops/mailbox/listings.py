"""
The listings of Maildirs: from memory, from the index file, or from a scan, whichever is the first that is true.

What it costs: an unchanged Maildir that was seen before, two C{stat} calls (three with C{tpops_uidl}); a changed one, a
scan of the changed directories, and work for the new messages only.
When a listing may be kept: only when the directories' times are older than the clock of their file system was when
the scan began; a second change within the same tick of that clock would not show (the racy case: scan again).
Limits: L{Listings.refresh} and L{Listings.save} block and are for threads; their caller holds the Maildir's lock.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from twisted.logger import Logger

from tpops.mailbox import index, maildir_scan
from tpops.mailbox.index import DirectoryStamp, Stamp
from tpops.mailbox.locks import MaildirLock
from tpops.mailbox.maildir_scan import Settings
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.tally import TALLY
from tpops.mailbox.unique_ids import MAP_FILE

_log = Logger()

_MISSING: DirectoryStamp = (0, 0, 0)

#: For a listing whose sizes and unique-ids are worth keeping, and which is to be scanned again: no stamp is like it.
_NEVER: Stamp = (_MISSING, _MISSING, (-1, -1, -1))

#: The coarsest tick of a file system's clock, in nanoseconds; the second where times have no fraction.
_TICK_NS = 20_000_000
_COARSE_TICK_NS = 2_000_000_000

#: How often a scan is begun again because something changed meanwhile.
_TRIES = 3

#: Maildirs without an index that are complained about by name.
_MOST_COMPLAINTS = 1000


class Sized(Protocol):
    """A listing that says what it costs."""

    def memory(self) -> int:
        """Octets that it keeps in memory; always the same."""


_Stamp = TypeVar("_Stamp")
_Listing = TypeVar("_Listing", bound=Sized)


class SnapshotCache(Generic[_Stamp, _Listing]):
    """Listings by Maildir; the longest unused go first when all need more memory than C{octets}."""

    def __init__(self, octets: int) -> None:
        self._room = octets
        self._kept: OrderedDict[bytes, tuple[_Stamp, _Listing]] = OrderedDict()

    def get(self, maildir: bytes) -> tuple[_Stamp, _Listing] | None:
        """What is kept for a Maildir."""
        found = self._kept.get(maildir)
        if found is not None:
            self._kept.move_to_end(maildir)
        return found

    def put(self, maildir: bytes, stamp: _Stamp, snapshot: _Listing) -> None:
        """Keep it."""
        self.drop(maildir)
        self._kept[maildir] = (stamp, snapshot)
        self._room -= snapshot.memory()
        while self._room < 0:
            _, (_, oldest) = self._kept.popitem(last=False)
            self._room += oldest.memory()

    def drop(self, maildir: bytes) -> None:
        """Forget it."""
        found = self._kept.pop(maildir, None)
        if found is not None:
            self._room += found[1].memory()


class Listings:
    """
    See the module.

    @param settings: how Maildirs are read
    @param use_index: keep index files
    @param index_dir: where, "" for each Maildir itself
    @param cache_octets: memory for snapshots
    """

    def __init__(self, settings: Settings, use_index: bool, index_dir: str, cache_octets: int) -> None:
        self.cache: SnapshotCache[Stamp, Snapshot] = SnapshotCache(cache_octets)
        self._settings = settings
        self._signature = f"{settings.sizes}/{int(settings.uidl_map)}" + ("/m" if settings.tpop3d else "")
        self._use_index = use_index
        self._index_dir = os.fsencode(index_dir)
        self._complained: set[bytes] = set()

    def current(self, maildir: bytes) -> tuple[Stamp, Snapshot] | None:
        """
        The listing and its stamp when it is in memory and still true, else None.

        @param maildir: path ending in '/'
        @raise OSError: when the directories cannot be looked at
        """
        kept = self.cache.get(maildir)
        if kept is None or kept[0] != self.stamp(maildir):
            return None
        TALLY.found_in_memory()
        return kept

    def refresh(
        self, maildir: bytes, lock: MaildirLock | None, kept: tuple[Stamp, Snapshot] | None, folder: bytes = b""
    ) -> tuple[Stamp, Snapshot]:
        """
        The listing by index file or scan, and the stamp to keep it with.

        @param kept: what the cache has
        @param folder: see L{Settings}
        @raise OSError: when a directory cannot be read
        """
        if kept is None and self._use_index:
            kept = index.load(self._index_path(maildir), self._signature)
        stamp, old = kept if kept is not None else (None, None)
        settings = self._settings._replace(folder=folder)
        for _ in range(_TRIES):
            clock = _file_system_clock(lock)
            before = self.stamp(maildir)
            if stamp == before and old is not None:
                TALLY.found_in_index()
                return stamp, old
            snapshot = maildir_scan.scan(maildir, old, _changed(stamp, before), settings)
            settled = self.stamp(maildir) == before
            if settled:
                break
            stamp, old = None, snapshot
        TALLY.scanned()
        if not settled or _racy(before, clock):
            return _NEVER, snapshot
        if lock is not None and lock.held:
            self.save(maildir, before, snapshot)
        return before, snapshot

    def save(self, maildir: bytes, stamp: Stamp, snapshot: Snapshot) -> None:
        """Write the index file.  A failure is logged: the listing then comes from memory."""
        if not self._use_index:
            return
        try:
            found = os.stat(maildir)
        except OSError as problem:
            why: str | None = str(problem)
        else:
            owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
            why = index.save(self._index_path(maildir), index.pack(snapshot, stamp, self._signature), owner)
        if why is not None and maildir not in self._complained and len(self._complained) < _MOST_COMPLAINTS:
            self._complained.add(maildir)
            _log.warn("no index kept for {maildir!r}: {why}; it is listed from memory", maildir=maildir, why=why)

    def stamp(self, maildir: bytes) -> Stamp:
        """What changes whenever the listing does."""
        return (
            maildir_scan.stamp(maildir + b"new"),
            maildir_scan.stamp(maildir + b"cur"),
            maildir_scan.stamp(maildir + MAP_FILE) if self._settings.uidl_map else _MISSING,
        )

    def clock(self, lock: MaildirLock | None) -> int:
        """What time the Maildir's file system gives to a change made now, in nanoseconds."""
        return _file_system_clock(lock)

    def racy(self, stamps: Iterable[DirectoryStamp], clock: int) -> bool:
        """Whether a directory may change once more without showing it by its stamp."""
        return _racy(stamps, clock)

    def _index_path(self, maildir: bytes) -> bytes:
        if not self._index_dir:
            return maildir + index.INDEX_FILE
        return os.path.join(self._index_dir, hashlib.sha256(maildir).hexdigest().encode("ascii"))


def _changed(stamp: Stamp | None, now: Stamp) -> set[bytes]:
    if stamp is None or stamp[2] != now[2]:
        return {b"n", b"c"}
    return {letter for letter, was, is_ in zip((b"n", b"c"), stamp, now, strict=False) if was != is_}


def _file_system_clock(lock: MaildirLock | None) -> int:
    """What time the Maildir's file system gives to a change made now, in nanoseconds."""
    if lock is not None and lock.writable:
        os.utime(lock.descriptor)
        return os.fstat(lock.descriptor).st_mtime_ns
    return time.time_ns()


def _racy(stamp: Iterable[DirectoryStamp], clock: int) -> bool:
    for _, mtime, ctime in stamp:
        tick = _TICK_NS if mtime % 1_000_000_000 else _COARSE_TICK_NS
        if max(mtime, ctime) + tick > clock:
            return True
    return False
