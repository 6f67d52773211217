"""
One session's view of its maildrop: numbers, marks and what was retrieved.

Purpose: L{Mailbox} is what the POP3 server talks to after login.  It is also a complete
L{twisted.mail.pop3.IMailboxPOP3}, so any Twisted POP3 server can serve it.
Marks live here and nowhere else: a session that does not reach UPDATE leaves no trace (RFC 1939 section 6).
Limits: message numbers are 1-based; the IMailboxPOP3 methods take 0-based indices, as Twisted has it.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import IO, overload

from twisted.internet.defer import Deferred
from twisted.mail.interfaces import IMailboxPOP3
from zope.interface import implementer

from tpops.coroutines import run
from tpops.errors import MessageDeleted, NoSuchMessage, RemoveFailed
from tpops.interfaces import IMaildrop, INotesRetrieval, IOpensTop, IStoredMessage, IToldOfUpdate
from tpops.model import Account
from tpops.protocol.transparency import LineEnds

#: Lines in one chunk of a listing that has to be made.
_LINES = 2000

#: A message up to this size is kept in memory by getMessage, a larger one in a temporary file.
_SPOOL_OCTETS = 1 << 20

_CHUNK = 1 << 18


@implementer(IMailboxPOP3)
class Mailbox:
    """
    A maildrop with this session's marks.

    @ivar account: whose it is
    @ivar loginDelay: IMailboxPOP3: seconds between logins, none here
    @ivar messageExpiration: IMailboxPOP3: days until messages go by themselves; they do not
    """

    __slots__ = (
        "_closed",
        "_marked",
        "_marked_octets",
        "_removed",
        "_retrieved",
        "_top",
        "account",
        "maildrop",
        "messages",
    )

    loginDelay = 0
    messageExpiration = None

    def __init__(self, maildrop: IMaildrop, account: Account) -> None:
        self.maildrop = maildrop
        self.messages = maildrop.messages
        self.account = account
        self._marked: set[int] | None = None
        self._marked_octets = 0
        self._removed: frozenset[int] = frozenset()
        self._retrieved: set[int] | None = None
        self._top = 0
        self._closed = False

    # What the session asks.

    def stat(self) -> tuple[int, int]:
        """Messages and octets without the marked ones."""
        marked = len(self._marked) if self._marked else 0
        return self.messages.count - marked, self.messages.octets - self._marked_octets

    def size(self, number: int) -> int:
        """
        Wire octets of a message.

        @raise NoSuchMessage: when there is none with that number
        @raise MessageDeleted: when it is marked
        """
        self._check(number)
        return self.messages.sizes[number - 1]

    def unique_id(self, number: int) -> bytes:
        """The unique-id of a message; raises as L{size} does."""
        self._check(number)
        return self.messages.unique_id(number)

    def list_body(self) -> bytes | Iterable[bytes]:
        """The lines of LIST, as one piece or in chunks."""
        if not self._marked:
            return self.messages.list_body
        return self._lines(lambda number: b"%d %d\r\n" % (number, self.messages.sizes[number - 1]))

    def uidl_body(self) -> bytes | Iterable[bytes]:
        """The lines of UIDL, as one piece or in chunks."""
        if not self._marked:
            return self.messages.uidl_body
        return self._lines(lambda number: b"%d %s\r\n" % (number, self.messages.unique_id(number)))

    def mark(self, number: int) -> None:
        """DELE; raises as L{size} does."""
        self._marked_octets += self.size(number)
        if self._marked is None:
            self._marked = set()
        self._marked.add(number)

    def reset(self) -> None:
        """RSET."""
        self._mark_only(self._removed)
        self._top = 0

    def last(self) -> int:
        """The highest number that was retrieved since login or RSET."""
        return self._top

    def marked(self) -> int:
        """How many messages are marked."""
        return len(self._marked) if self._marked else 0

    # What needs the store.

    def open(self, number: int) -> Awaitable[IStoredMessage]:
        """See L{IMaildrop.open}."""
        return self.maildrop.open(number)

    def open_top(self, number: int, lines: int) -> Awaitable[IStoredMessage]:
        """Open a message of which only the header and so many lines are wanted; raises as L{IMaildrop.open} does."""
        top = IOpensTop(self.maildrop, None)
        return self.maildrop.open(number) if top is None else top.open_top(number, lines)

    def sent(self, number: int, octets: int) -> None:
        """RETR sent the whole message, with so many wire octets."""
        if number > self._top:
            self._top = number
        if self._retrieved is None:
            self._retrieved = set()
        self._retrieved.add(number)
        if octets != self.messages.sizes[number - 1]:
            notes = INotesRetrieval(self.maildrop, None)
            if notes is not None:
                notes.sent(number, octets)

    async def commit(self) -> None:
        """
        UPDATE: remove what is marked and nothing else.  Afterwards only what is removed counts as marked.

        @raise RemoveFailed: when some stayed
        """
        marked = (self._marked or set()).difference(self._removed)
        self._mark_only(self._removed)
        failure = None
        try:
            if marked:
                await self.maildrop.remove(sorted(marked))
            elif (told := IToldOfUpdate(self.maildrop, None)) is not None:
                await told.update()
        except RemoveFailed as failed:
            failure = failed
            marked.difference_update(failed.kept)
        self._removed = self._removed.union(marked)
        self._mark_only(self._removed)
        await self._note_seen()
        if failure is not None:
            raise failure

    def _mark_only(self, numbers: frozenset[int]) -> None:
        self._marked = set(numbers) if numbers else None
        self._marked_octets = sum(self.messages.sizes[number - 1] for number in numbers)

    async def _note_seen(self) -> None:
        seen = (self._retrieved or set()).difference(self._removed)
        if seen:
            notes = INotesRetrieval(self.maildrop, None)
            if notes is not None:
                await notes.mark_seen(sorted(seen))

    def logout(self) -> Deferred[None]:
        """Release the maildrop.  The second call does nothing."""
        return run(self._close())

    async def _close(self) -> None:
        if not self._closed:
            self._closed = True
            await self.maildrop.close()

    def _check(self, number: int) -> None:
        if not 1 <= number <= self.messages.count:
            raise NoSuchMessage(f"no message {number}")
        if self._marked and number in self._marked:
            raise MessageDeleted(f"message {number} is marked")

    def _lines(self, line: Callable[[int], bytes]) -> Iterator[bytes]:
        marked = self._marked or set()
        count = self.messages.count
        for first in range(1, count + 1, _LINES):
            numbers = range(first, min(first + _LINES, count + 1))
            chunk = b"".join([line(number) for number in numbers if number not in marked])
            if chunk:
                yield chunk

    # IMailboxPOP3, for servers other than ours.

    @overload
    def listMessages(self) -> list[int]: ...

    @overload
    def listMessages(self, i: int) -> int: ...

    def listMessages(self, i: int | None = None) -> int | list[int]:
        """IMailboxPOP3: octets of one message or of all; 0 for a marked one."""
        if i is not None:
            return 0 if self._index(i) in (self._marked or ()) else self.messages.sizes[i]
        sizes = list(self.messages.sizes)
        for number in self._marked or ():
            sizes[number - 1] = 0
        return sizes

    def getMessage(self, index: int) -> Deferred[IO[bytes]]:
        """IMailboxPOP3: fires with a file of the message, with LF line ends as Twisted's server needs it."""
        number = self._index(index)
        return run(self._spool(number))

    def getUidl(self, index: int) -> bytes:
        """IMailboxPOP3: the unique-id."""
        return self.messages.unique_id(self._index(index))

    def deleteMessage(self, index: int) -> None:
        """IMailboxPOP3: mark; a second time changes nothing."""
        try:
            self.mark(self._index(index))
        except MessageDeleted:
            return

    def undeleteMessages(self) -> None:
        """IMailboxPOP3: forget the marks."""
        self.reset()

    def sync(self) -> Deferred[None]:
        """IMailboxPOP3: remove what is marked; fires when that is done."""
        return run(self.commit())

    def _index(self, index: int) -> int:
        if not 0 <= index < self.messages.count:
            raise ValueError(f"no message with index {index}")
        return index + 1

    async def _spool(self, number: int) -> IO[bytes]:
        stored = await self.maildrop.open(number)
        spool: IO[bytes] = io.BytesIO()
        try:
            ends = LineEnds()
            while chunk := await _read(stored):
                spool.write(ends.feed(chunk))
                if isinstance(spool, io.BytesIO) and spool.tell() > _SPOOL_OCTETS:
                    small = spool
                    spool = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
                    spool.write(small.getbuffer())
            spool.write(ends.finish())
        except BaseException:
            spool.close()
            raise
        finally:
            stored.close()
        spool.seek(0)
        return spool


async def _read(stored: IStoredMessage) -> bytes:
    chunk = stored.read(_CHUNK)
    return chunk if isinstance(chunk, bytes) else await chunk
