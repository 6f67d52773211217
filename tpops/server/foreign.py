"""
Maildrops that are not ours: any avatar that is a plain L{IMailboxPOP3}.

Purpose: a realm written for Twisted's own POP3 server works with this one.  Its methods may answer at once or with a
Deferred.  Marks stay in our session; the mailbox hears of deletions only at UPDATE, followed by C{sync}.
Limits: sizes are what the mailbox says.  Twisted's convention that a size of 0 means "deleted" is not applied at login.
"""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Collection, Sequence
from typing import IO, Any

from twisted.internet.defer import maybeDeferred
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from tpops.errors import MessageVanished, RemoveFailed, StorageUnavailable
from tpops.interfaces import IMaildrop, ISnapshot, IStoredMessage


@implementer(ISnapshot)
class ForeignSnapshot:
    """See L{ISnapshot}."""

    def __init__(self, sizes: Sequence[int], unique_ids: Sequence[bytes]) -> None:
        self.count = len(sizes)
        self.octets = sum(sizes)
        self.sizes = sizes
        self._unique_ids = unique_ids
        self.list_body = b"".join([b"%d %d\r\n" % one for one in enumerate(sizes, 1)])
        self.uidl_body = b"".join([b"%d %s\r\n" % one for one in enumerate(unique_ids, 1)])

    def unique_id(self, number: int) -> bytes:
        """See L{ISnapshot.unique_id}."""
        return self._unique_ids[number - 1]

    def uidl_checksum(self) -> int:
        """See L{ISnapshot.uidl_checksum}."""
        return zlib.crc32(self.uidl_body)


@implementer(IStoredMessage)
class ForeignMessage:
    """See L{IStoredMessage}."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, octets: int) -> bytes | Awaitable[bytes]:
        """See L{IStoredMessage.read}."""
        try:
            return self._file.read(octets)
        except OSError as problem:
            raise StorageUnavailable(str(problem)) from problem

    def close(self) -> None:
        """See L{IStoredMessage.close}."""
        self._file.close()


@implementer(IMaildrop)
class ForeignMaildrop:
    """See L{IMaildrop}; L{open_foreign} makes one."""

    def __init__(self, mailbox: Any, messages: ForeignSnapshot) -> None:
        self._mailbox = mailbox
        self.messages = messages

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        try:
            return ForeignMessage(await maybeDeferred(self._mailbox.getMessage, number - 1))
        except (ValueError, IndexError, FileNotFoundError) as gone:
            raise MessageVanished(str(gone)) from gone
        except OSError as problem:
            raise StorageUnavailable(str(problem)) from problem

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        try:
            for number in numbers:
                await maybeDeferred(self._mailbox.deleteMessage, number - 1)
            await maybeDeferred(self._mailbox.sync)
        except (ValueError, IndexError, OSError) as problem:
            raise RemoveFailed(numbers, str(problem)) from problem

    async def close(self) -> None:
        """See L{IMaildrop.close}; the portal's logout does the rest."""


async def open_foreign(mailbox: Any) -> ForeignMaildrop:
    """
    The maildrop of an L{IMailboxPOP3}.

    @raise StorageUnavailable: when it cannot list its messages
    """
    if not IMailboxPOP3.providedBy(mailbox):
        raise TypeError(f"{mailbox!r} does not provide IMailboxPOP3")
    try:
        sizes = list(await maybeDeferred(mailbox.listMessages))
        unique_ids = [await maybeDeferred(mailbox.getUidl, index) for index in range(len(sizes))]
    except OSError as problem:
        raise StorageUnavailable(str(problem)) from problem
    return ForeignMaildrop(mailbox, ForeignSnapshot(sizes, unique_ids))
