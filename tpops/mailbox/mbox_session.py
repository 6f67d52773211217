"""
An open spool of one session: sends and removes messages by the listing that was true at login.

The spool is not locked meanwhile: mail is delivered, and mail programs may rewrite it.  Before a message is sent, and
while it is sent, a look at the file's time tells whether something happened; then the message is looked for again by
its unique-id, and one that moves while it is being sent ends the transfer rather than sending another's octets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from twisted.logger import Logger
from zope.interface import implementer

from tpops.errors import MaildropBusy, MessageVanished, RemoveFailed, StorageError, StorageUnavailable
from tpops.interfaces import IMaildrop, INotesRetrieval, IStoredMessage
from tpops.mailbox import mbox_rewrite
from tpops.mailbox.mbox_listings import Listing, pread, stamp_of
from tpops.mailbox.mbox_marks import read_mark
from tpops.mailbox.mbox_scan import Place
from tpops.mailbox.sizes import OPEN_FLAGS
from tpops.mailbox.spool_locks import SpoolLock
from tpops.mailbox.stored_file import StoredFile
from tpops.mailbox.unquoted import Unquoting

if TYPE_CHECKING:
    from tpops.mailbox.mbox import MboxDriver

_log = Logger()


@implementer(IStoredMessage)
class MboxMessage:
    """
    A message in a spool; see L{IStoredMessage}.

    @param descriptor: of the spool, which is closed with the message
    @param separator: the line before the message, which has been read from C{file}
    @param unquote: see L{tpops.mailbox.unquoted}
    """

    __slots__ = ("_descriptor", "_file", "_left", "_place", "_ready", "_separator", "_stamp", "_unquoting")

    def __init__(self, descriptor: int, place: Place, separator: bytes, file: StoredFile, unquote: bool) -> None:
        self._descriptor = descriptor
        self._file = file
        self._place = place
        self._left = place.end - place.body
        self._separator = separator
        self._stamp = stamp_of(os.fstat(descriptor))
        self._unquoting = Unquoting() if unquote else None
        self._ready = b""

    def read(self, octets: int) -> bytes | Awaitable[bytes]:
        """See L{IStoredMessage.read}."""
        if self._unquoting is not None:
            return self._read_unquoted(octets)
        if not self._left:
            return b""
        chunk = self._file.read(min(octets, self._left))
        return self._read(chunk) if isinstance(chunk, bytes) else self._read_later(chunk)

    def close(self) -> None:
        """See L{IStoredMessage.close}."""
        self._file.close()
        self._left = 0

    def _read(self, chunk: bytes) -> bytes:
        self._left -= len(chunk)
        stamp = stamp_of(os.fstat(self._descriptor))
        if stamp != self._stamp:
            self._stamp = stamp
            self._check_place()
        if not chunk:
            raise StorageUnavailable("the spool was cut off while a message was sent")
        return chunk

    async def _read_later(self, chunk: Awaitable[bytes]) -> bytes:
        return self._read(await chunk)

    async def _read_unquoted(self, octets: int) -> bytes:
        assert self._unquoting is not None
        while len(self._ready) < octets and self._left:
            chunk = self._file.read(min(octets, self._left))
            self._ready += self._unquoting.feed(self._read(chunk if isinstance(chunk, bytes) else await chunk))
        if not self._left:
            self._ready += self._unquoting.finish()
        text, self._ready = self._ready[:octets], self._ready[octets:]
        return text

    def _check_place(self) -> None:
        """Something has happened to the spool: is the message where it was?"""
        place = self._place
        separator = os.pread(self._descriptor, len(self._separator), place.start)
        behind = os.pread(self._descriptor, 5, place.next)
        if separator != self._separator or behind not in (b"", b"From "):
            raise StorageUnavailable("another program has rewritten the spool while a message was sent")


@implementer(IMaildrop, INotesRetrieval)
class MboxSession:
    """
    See L{IMaildrop}.

    @ivar messages: the listing
    """

    __slots__ = ("_driver", "_listing", "_now", "_release", "_spool", "messages")

    def __init__(self, driver: MboxDriver, spool: bytes, listing: Listing, release: Callable[[], None]) -> None:
        self._driver = driver
        self._spool = spool
        self._listing = listing
        #: The spool as it was seen last, and where its messages were.
        self._now: tuple[Listing, dict[bytes, int]] | None = None
        self._release: Callable[[], None] | None = release
        self.messages = listing[1]

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        try:
            for _ in range(3):
                descriptor = os.open(self._spool, OPEN_FLAGS)
                try:
                    place = self._place(number, stamp_of(os.fstat(descriptor)))
                    if place is not None:
                        file = StoredFile(descriptor, self._driver.run_in_thread, place.start)
                        read = file.read(place.body - place.start)
                        separator = read if isinstance(read, bytes) else await read
                        return MboxMessage(descriptor, place, separator, file, self._driver.options.unquote)
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
                await self._look_again()
        except FileNotFoundError as gone:
            raise MessageVanished(str(gone)) from gone
        except (OSError, ValueError) as problem:
            raise StorageUnavailable(f"{os.fsdecode(self._spool)}: {problem}") from problem
        raise StorageUnavailable(f"{os.fsdecode(self._spool)} is rewritten again and again")

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        if not numbers:
            return
        try:
            lock = await self._driver.lock_spool(self._spool)
            try:
                await self._driver.run_in_thread(self._remove, lock, numbers)
            finally:
                lock.release()
        except FileNotFoundError:
            return  # nothing of it is left
        except (OSError, ValueError, StorageError, MaildropBusy) as problem:
            raise RemoveFailed(numbers, f"{os.fsdecode(self._spool)}: {problem}") from problem

    def sent(self, number: int, octets: int) -> None:
        """See L{INotesRetrieval.sent}."""
        _log.warn(
            "message {number} of {spool!r} was announced with {announced} octets and has {octets}; read anew next time",
            number=number,
            spool=self._spool,
            announced=self.messages.sizes[number - 1],
            octets=octets,
        )
        self._driver.listings.forget(self._spool)

    async def mark_seen(self, numbers: Collection[int]) -> None:
        """See L{INotesRetrieval.mark_seen}."""
        if not self._driver.options.mark_seen:
            return
        try:
            lock = await self._driver.lock_spool(self._spool)
            try:
                await self._driver.run_in_thread(self._mark, lock, numbers)
            finally:
                lock.release()
        except (OSError, ValueError, StorageError, MaildropBusy) as problem:
            _log.warn("messages of {spool!r} not marked as read: {why}", spool=self._spool, why=str(problem))

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def _place(self, number: int, stamp: object) -> Place | None:
        """Where a message is in a spool of this stamp; None when that is not known."""
        if stamp == self._listing[0]:
            return Place.unpack(self.messages.place(number))
        if self._now is None or self._now[0][0] != stamp:
            return None
        (_, snapshot), numbers = self._now
        found = numbers.get(self.messages.unique_id(number))
        if found is None:
            raise MessageVanished(f"message {number} is not in {os.fsdecode(self._spool)} any more")
        return Place.unpack(snapshot.place(found))

    async def _look_again(self) -> None:
        """The spool has changed: list it anew."""
        lock = await self._driver.lock_spool(self._spool)
        try:
            listing = await self._driver.run_in_thread(self._driver.read, self._spool, lock)
        finally:
            lock.release()
        self._now = listing, _numbers(listing)

    def _remove(self, lock: SpoolLock, numbers: Collection[int]) -> None:
        """Take messages out of the locked spool; for a thread."""
        if not lock.writable:
            raise PermissionError(errno.EACCES, "the spool may not be written")
        listing, wanted = self._find(lock, numbers)
        places = [Place.unpack(listing[1].place(number)) for number in wanted]
        gaps = [(place.start, place.next) for place in places]
        listings = self._driver.listings
        mbox_rewrite.cut(lock.descriptor, gaps, listings.journal(self._spool))
        listings.keep(self._spool, listings.without(listing, wanted, stamp_of(os.fstat(lock.descriptor))))

    def _mark(self, lock: SpoolLock, numbers: Collection[int]) -> None:
        """Mark messages of the locked spool as read; for a thread."""
        listings = self._driver.listings
        if not lock.writable:
            raise PermissionError(errno.EACCES, "the spool may not be written")
        if listings.has_journal(self._spool):
            raise StorageUnavailable("its rewriting is to be brought to an end first")
        listing, wanted = self._find(lock, numbers)
        read = partial(pread, lock.descriptor)
        marks = {number: read_mark(read, Place.unpack(listing[1].place(number))) for number in wanted}
        done = {number: mark for number, mark in marks.items() if mark is not None}
        if done:
            edits = [mark.edit for mark in done.values()]
            mbox_rewrite.replace(lock.descriptor, edits, listings.journal(self._spool))
            growth = {number: (mark.stored, mark.wire) for number, mark in done.items()}
            listings.keep(self._spool, listings.grown(listing, growth, stamp_of(os.fstat(lock.descriptor)), read))

    def _find(self, lock: SpoolLock, numbers: Collection[int]) -> tuple[Listing, list[int]]:
        """The listing of the locked spool, and these messages in it, in order, without those that have gone."""
        self._driver.listings.recover(self._spool, lock.descriptor)
        listing = self._listing
        wanted = sorted(numbers)
        if stamp_of(os.fstat(lock.descriptor)) != listing[0]:
            listing = self._driver.listings.refresh(self._spool, lock.descriptor)
            there = _numbers(listing)
            ids = [self.messages.unique_id(number) for number in wanted]
            wanted = sorted(there[one] for one in ids if one in there)
        return listing, wanted


def _numbers(listing: Listing) -> dict[bytes, int]:
    return {unique_id: number for number, unique_id in enumerate(listing[1].unique_ids(), 1)}
