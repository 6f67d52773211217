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
from tpops.mailbox.listings import Listings
from tpops.mailbox.locks import MaildirLock
from tpops.mailbox.maildir_scan import DIRECTORIES, name_of, names
from tpops.mailbox.sizes import EXACT, OPEN_FLAGS
from tpops.mailbox.snapshot import Snapshot
from tpops.mailbox.stored_file import RunInThread, StoredFile
from tpops.mailbox.unique_ids import base_name

_log = Logger()


@implementer(IMaildrop, INotesRetrieval)
class MaildirSession:
    """
    See L{IMaildrop}.

    @ivar messages: the listing
    """

    __slots__ = ("_corrections", "_exact", "_listings", "_lock", "_maildir", "_mark_seen", "_run_in_thread", "messages")

    def __init__(
        self,
        maildir: bytes,
        messages: Snapshot,
        lock: MaildirLock | None,
        listings: Listings,
        run_in_thread: RunInThread,
        sizes: str,
        mark_seen: bool,
    ) -> None:
        self.messages = messages
        self._maildir = maildir
        self._lock = lock
        self._listings = listings
        self._run_in_thread = run_in_thread
        self._exact = sizes == EXACT
        self._mark_seen = mark_seen
        self._corrections: dict[int, int] | None = None

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        try:
            try:
                descriptor = os.open(self._path(number), OPEN_FLAGS)
            except FileNotFoundError:
                path = await self._run_in_thread(self._find, number)
                if path is None:
                    raise MessageVanished(f"{self._path(number)!r} is gone") from None
                descriptor = os.open(path, OPEN_FLAGS)
        except FileNotFoundError as gone:
            raise MessageVanished(str(gone)) from gone
        except OSError as problem:
            raise StorageUnavailable(str(problem)) from problem
        return StoredFile(descriptor, self._run_in_thread)

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        kept: dict[int, str] = await self._run_in_thread(self._each, numbers, os.unlink)
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
            kept = self._listings.cache.get(self._maildir) if corrections and self._lock else None
            if corrections and kept is not None and kept[1] is self.messages:
                corrected = self.messages.resized(corrections)
                self._listings.keep(self._maildir, kept[0], corrected)
                await self._run_in_thread(self._listings.save, self._maildir, kept[0], corrected)
        except (OSError, CancelledError) as problem:
            _log.warn("sizes of {maildir!r} not corrected: {why}", maildir=self._maildir, why=str(problem))
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                lock.release()

    def _path(self, number: int) -> bytes:
        directory, name = name_of(self.messages.place(number), self.messages.unique_id(number))
        return self._maildir + DIRECTORIES[directory] + name

    def _each(self, numbers: Collection[int], act: Callable[[bytes], None]) -> dict[int, str]:
        """
        Do something to the files of some messages; gives what failed, and why.

        A file that is gone counts as done.
        """
        failed = {}
        missing = []
        for number in numbers:
            try:
                act(self._path(number))
            except FileNotFoundError:
                missing.append(number)
            except OSError as problem:
                failed[number] = str(problem)
        for number in missing:
            try:
                path = self._find(number)
                if path is not None:
                    act(path)
            except FileNotFoundError:
                continue
            except OSError as problem:
                failed[number] = str(problem)
        return failed

    def _find(self, number: int) -> bytes | None:
        """The path that a message's file has now; None when it is nowhere."""
        base = base_name(os.path.basename(self._path(number)))
        others = self._names_of_others(number, base)
        # cur last and again: a file on its way from new to cur is in one of them.
        for directory in (b"n", b"c", b"n"):
            where = DIRECTORIES[directory]
            for name in names(self._maildir + where):
                if base_name(name) == base and (directory, name) not in others:
                    return self._maildir + where + name
        return None

    def _names_of_others(self, number: int, base: bytes) -> set[tuple[bytes, bytes]]:
        if self.messages.uidl_body.count(base) + self.messages.places.count(base) <= 1:
            return set()
        all_names = (
            (other, name_of(self.messages.place(other), self.messages.unique_id(other)))
            for other in range(1, self.messages.count + 1)
        )
        return {place for other, place in all_names if other != number and base_name(place[1]) == base}

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
