"""
An open mailbox in MySQL of one session.

Purpose: messages are asked for piece by piece, so that no more than one piece of a message is in memory, and small ones
several at a time (L{tpops.mailbox.mysql_ahead}); removal is one transaction that counts only while the mailbox is still
the session's.
Limits: no connection is kept between two questions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from tpops.db.mysql import Client
from tpops.errors import MessageVanished, RemoveFailed, StorageError
from tpops.interfaces import IMaildrop, INotesRetrieval, IStoredMessage
from tpops.mailbox.mysql_ahead import Ahead
from tpops.mailbox.mysql_schema import First, Held, LockLost, Rest
from tpops.mailbox.snapshot import Snapshot

if TYPE_CHECKING:
    from tpops.mailbox.mysql import MySQLDriver

_log = Logger()


@implementer(IStoredMessage)
class MySQLMessage:
    """
    See L{IStoredMessage}.

    @param begin: the first octets
    @param rest: what gives the others
    """

    __slots__ = ("_offset", "_piece", "_rest", "_run")

    def __init__(self, run: Callable[..., Awaitable[Any]], begin: bytes, rest: Rest | None) -> None:
        self._run = run
        self._piece = begin
        self._offset = 0
        self._rest = rest

    def read(self, octets: int) -> bytes | Awaitable[bytes]:
        """See L{IStoredMessage.read}."""
        if self._offset < len(self._piece):
            return self._next(octets)
        self._piece = b""
        return b"" if self._rest is None else self._read_more(octets)

    def close(self) -> None:
        """See L{IStoredMessage.close}."""
        self._piece, self._offset, self._rest = b"", 0, None

    async def _read_more(self, octets: int) -> bytes:
        assert self._rest is not None
        piece: bytes = await self._run(self._rest.more)
        if not piece:
            self._rest = None
        self._piece, self._offset = piece, 0
        return self._next(octets)

    def _next(self, octets: int) -> bytes:
        chunk = self._piece[self._offset : self._offset + octets]
        self._offset += len(chunk)
        return chunk


@implementer(IMaildrop, INotesRetrieval)
class MySQLSession:
    """
    See L{IMaildrop}.

    @ivar messages: the listing
    """

    __slots__ = ("_ahead", "_driver", "_held", "_key", "messages")

    def __init__(self, driver: MySQLDriver, key: bytes, held: Held, messages: Snapshot) -> None:
        self._driver = driver
        self._key = key
        self._held: Held | None = held
        self.messages = messages
        self._ahead = Ahead(driver.ahead, messages.sizes)

    async def open(self, number: int) -> IStoredMessage:
        """See L{IMaildrop.open}."""
        found = self._ahead.take(number) or await self._read(number)
        if found is None:
            raise MessageVanished(f"message {number} is not in the database any more")
        return MySQLMessage(self._driver.run, *found)

    async def _read(self, number: int) -> First | None:
        """The message; what is read with it is kept."""
        assert self._held is not None
        places = {self.messages.place(one): one for one in self._ahead.numbers(number)}
        rows = await self._driver.run(partial(_first, self._driver, self._held, tuple(places)))
        found = {places[place]: first for place, first in rows.items()}
        wanted = found.pop(number, None)
        if self._held is not None:
            self._ahead.keep(found)
        return wanted

    async def remove(self, numbers: Collection[int]) -> None:
        """See L{IMaildrop.remove}."""
        if not numbers:
            return
        held = self._held
        assert held is not None
        places = [self.messages.place(number) for number in sorted(numbers)]

        def work(client: Client, until: float) -> None:
            self._driver.schema.remove(client, held, places)

        try:
            await self._driver.run(work, to_the_end=True)
        except (StorageError, LockLost) as problem:
            raise RemoveFailed(numbers, str(problem)) from problem

    def sent(self, number: int, octets: int) -> None:
        """See L{INotesRetrieval.sent}."""
        _log.warn(
            "message {unique_id} was announced with {announced} octets and has {octets}; correct its size in the table",
            unique_id=self.messages.unique_id(number).decode("ascii"),
            announced=self.messages.sizes[number - 1],
            octets=octets,
        )

    async def mark_seen(self, numbers: Collection[int]) -> None:
        """See L{INotesRetrieval.mark_seen}: there are no marks."""

    async def close(self) -> None:
        """See L{IMaildrop.close}."""
        held, self._held = self._held, None
        self._ahead.forget()
        if held is not None:
            await self._driver.release(self._key, held)


def _first(
    driver: MySQLDriver, held: Held, places: Sequence[bytes], client: Client, until: float
) -> Mapping[bytes, First]:
    return driver.schema.first(client, until, held, places)
