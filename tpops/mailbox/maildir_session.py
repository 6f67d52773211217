"""
An open Maildir of one session: sends, removes and flags messages by the listing that was true at login.

A file that another program has renamed meanwhile (flags, C{new} to C{cur}) is found again by its base name.  Of two
files with the same base name, one that belongs to another message of the listing is never taken for it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from zope.interface import implementer

from tpops.errors import MessageVanished, RemoveFailed, StorageUnavailable
from tpops.interfaces import IMaildrop, INotesRetrieval, IStoredMessage
from tpops.mailbox.entries import DIRECTORIES, Place, name_of
from tpops.mailbox.index import Stamp
from tpops.mailbox.listings import Listings
from tpops.mailbox.locks import MaildirLock
from tpops.mailbox.maildir_scan import names
from tpops.mailbox.maildir_size import Removal
from tpops.mailbox.sizes import EXACT, OPEN_FLAGS
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.stored_file import RunInThread, StoredFile
from tpops.mailbox.twins import choose
from tpops.mailbox.unique_ids import base_name

_log = Logger()

#: How often a file is looked for that other programs rename at the same time.
_TRIES = 3


@implementer(IMaildrop, INotesRetrieval)
class MaildirSession:
    """
    See L{IMaildrop}.

    @ivar messages: the listing
    @param counted_in: the Maildir whose C{maildirsize} counts these messages; itself, that of a folder, or None
    """

    __slots__ = (
        "_corrections",
        "_counted_in",
        "_exact",
        "_listings",
        "_lock",
        "_maildir",
        "_mark_seen",
        "_moved",
        "_run_in_thread",
        "_stamp",
        "messages",
    )

    def __init__(
        self,
        maildir: bytes,
        listing: tuple[Stamp, Snapshot],
        lock: MaildirLock | None,
        listings: Listings,
        run_in_thread: RunInThread,
        sizes: str,
        mark_seen: bool,
        counted_in: bytes | None,
    ) -> None:
        self._stamp, self.messages = listing
        self._maildir = maildir
        self._lock = lock
        self._listings = listings
        self._run_in_thread = run_in_thread
        self._exact = sizes == EXACT
        self._mark_seen = mark_seen
        self._counted_in = counted_in
        self._corrections: dict[int, int] | None = None
        self._moved: dict[int, Place] | None = None

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        try:
            try:
                descriptor = os.open(self._path(number), OPEN_FLAGS)
            except FileNotFoundError:
                descriptor = os.open(self._path_of(await self._search(number)), OPEN_FLAGS)
        except FileNotFoundError as gone:
            raise MessageVanished(str(gone)) from gone
        except OSError as problem:
            raise StorageUnavailable(str(problem)) from problem
        return StoredFile(descriptor, self._run_in_thread)

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        kept: dict[int, str] = await self._run_in_thread(self._unlink, numbers)
        if kept:
            raise RemoveFailed(kept, "; ".join(sorted(set(kept.values()))))

    def sent(self, number: int, octets: int) -> None:
        """See L{INotesRetrieval.sent}."""
        if not self._exact:
            return
        _log.warn(
            "{path!r} was announced with {announced} octets and has {octets}; corrected from the next session on",
            path=self._path(number),
            announced=self.messages.sizes[number - 1],
            octets=octets,
        )
        if self._corrections is None:
            self._corrections = {}
        self._corrections[number] = octets

    async def mark_seen(self, numbers: Collection[int]) -> None:
        """See L{INotesRetrieval.mark_seen}."""
        if self._mark_seen:
            failed: dict[int, str] = await self._run_in_thread(self._each, numbers, self._flag_seen)
            for number, why in failed.items():
                _log.warn("cannot mark {path!r} as seen: {why}", path=self._path(number), why=why)

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        try:
            corrections, self._corrections = self._corrections, None
            if corrections and self._lock is not None:
                corrected = self.messages.resized(corrections)
                self._listings.cache.put(self._maildir, self._stamp, corrected)
                await self._run_in_thread(self._listings.save, self._maildir, self._stamp, corrected)
        except CancelledError as problem:
            _log.warn("sizes of {maildir!r} not corrected: {why}", maildir=self._maildir, why=str(problem))
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    def _path(self, number: int) -> bytes:
        return self._path_of(self._place(number))

    def _path_of(self, place: Place) -> bytes:
        if b"/" in place[1]:
            # An index made to lead out of the Maildir.
            raise PermissionError(errno.EPERM, "not a file name", os.fsdecode(place[1]))
        return self._maildir + DIRECTORIES[place[0]] + place[1]

    async def _search(self, number: int) -> Place:
        """
        Where a message's file is now that it is not where it was.

        Who renames one file often renames them all, so one search finds every message's.

        @raise FileNotFoundError: when it is nowhere
        """
        self._moved = await self._run_in_thread(self._find, range(1, self.messages.count + 1))
        place = self._moved.get(number)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, "message is gone", os.fsdecode(self._path(number)))
        return place

    def _place(self, number: int) -> Place:
        if self._moved is not None and number in self._moved:
            return self._moved[number]
        return name_of(self.messages.place(number), self.messages.unique_id(number))

    def _unlink(self, numbers: Collection[int]) -> dict[int, str]:
        """Remove some messages; gives what failed, and why."""
        if self._counted_in is None:
            return self._each(numbers, os.unlink)
        removal = Removal(self._counted_in)
        try:
            return self._each(numbers, removal.unlink)
        finally:
            removal.flush()

    def _each(self, numbers: Collection[int], act: Callable[[bytes], None]) -> dict[int, str]:
        """
        Do something to the files of some messages; gives what failed, and why.

        A file that is gone counts as done.
        """
        # A name that several messages share says nothing: their files are looked for at once.
        shared = self._sharing({base_name(self._place(number)[1]) for number in numbers})
        missing = [number for number in numbers if number in shared]
        places = {number: self._place(number) for number in numbers if number not in shared}
        failed = {}
        for _ in range(_TRIES):
            for number, place in places.items():
                try:
                    act(self._path_of(place))
                except FileNotFoundError:
                    missing.append(number)
                except OSError as problem:
                    failed[number] = str(problem)
            if not missing:
                break
            try:
                places = self._find(missing)
            except OSError as problem:
                failed.update(dict.fromkeys(missing, str(problem)))
                break
            missing = []
        else:
            failed.update(dict.fromkeys(places, "its file is renamed again and again"))
        return failed

    def _find(self, numbers: Collection[int]) -> dict[int, Place]:
        """Where the files of some messages are now, by their base names; without those that are nowhere."""
        bases = {number: base_name(self._place(number)[1]) for number in numbers}
        there: dict[bytes, dict[Place, None]] = {base: {} for base in bases.values()}
        # new again: a file on its way from new to cur, or back, is in one of them.
        for directory in (b"n", b"c", b"n"):
            for name in names(self._maildir + DIRECTORIES[directory]):
                base = base_name(name)
                if base in there:
                    there[base].pop((directory, name), None)
                    there[base][directory, name] = None
        shared = self._sharing(there)
        found = {}
        for number, base in bases.items():
            places = there[base]
            if number in shared:
                others = {self.messages.unique_id(one): self._place(one) for one in shared[number] if one != number}
                place = choose(self._maildir, self.messages.unique_id(number), others, places)
            else:
                place = next(reversed(places), None)
            if place is not None:
                found[number] = place
        return found

    def _sharing(self, bases: Collection[bytes]) -> dict[int, list[int]]:
        """The messages that share a base name, of these base names, with all numbers that have it."""
        places = b"/" + self.messages.places
        if b"/N" not in places and b"/C" not in places:
            # All unique-ids begin names, and are different.
            return {}
        by_base: dict[bytes, list[int]] = {}
        for number in range(1, self.messages.count + 1):
            base = base_name(self._place(number)[1])
            if base in bases:
                by_base.setdefault(base, []).append(number)
        return {number: same for same in by_base.values() if len(same) > 1 for number in same}

    def _flag_seen(self, path: bytes) -> None:
        base, colon, info = os.path.basename(path).partition(b":")
        flags = info[2:] if info.startswith(b"2,") else b""
        if colon and not info.startswith(b"2,"):
            return
        seen = bytes(sorted(set(flags) | {ord("S")}))
        target = self._maildir + DIRECTORIES[b"c"] + base + b":2," + seen
        if target == path:
            return
        if os.path.lexists(target):
            raise OSError(errno.EEXIST, "a file of that name exists", os.fsdecode(target))
        os.rename(path, target)
